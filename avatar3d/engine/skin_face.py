"""Where what lies on the head's skin: lips, lids, redness, beard, scalp, creases.

Everything is drawn on one reference head, in millimetres from the middle between the eyes: x to the avatar's left,
y up, z forward. The mesh's topology is fixed, so the drawing fits every face.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from avatar3d.engine.texels import value_noise

LIP_TOP = np.array(
    [(0, -60.6), (2.5, -60.2), (5, -59.7), (8, -59.9), (11, -60.7), (14, -61.8), (17, -63.3), (19.5, -65.0),
     (22, -67.2), (23.8, -69.8)]
)  # fmt: skip
LIP_BOTTOM = np.array(
    [(0, -80.6), (6.3, -80.4), (13, -79.2), (17.5, -77.2), (20.5, -74.8), (22.5, -72.0), (23.8, -69.8)]
)
MOUTH_LINE = np.array([(0, -69.3), (5, -68.8), (10, -68.7), (16, -69.3), (22, -70.2)])
LID_UPPER = np.array(
    [
        (16, -3.5),
        (20.1, -0.7),
        (23, 0.8),
        (26.4, 1.8),
        (30.2, 2.45),
        (33.8, 2.4),
        (37.2, 1.8),
        (39.9, 0.9),
        (42.8, -1.2),
    ]
)
LID_LOWER = np.array(
    [(16, -4.1), (18.1, -4.7), (23.4, -5.5), (26.8, -5.8), (30.5, -5.9), (34.2, -5.6), (37.4, -4.8), (39.5, -4.1),
     (42.8, -1.4)]
)  # fmt: skip
LID_CREASE = np.array([(17, 0.5), (20, 4.0), (24, 6.4), (29, 7.6), (34, 7.6), (39, 6.6), (44, 3.8), (47, 1.5)])

DEEP_LINES: tuple[tuple[float, float, tuple[tuple[float, float], ...]], ...] = (
    # width mm, depth mm, points; mirrored to the other side
    (1.1, 0.35, ((0, 33), (14, 35), (28, 34.5), (40, 31))),
    (1.2, 0.42, ((0, 42), (15, 44), (30, 43), (42, 38))),
    (1.2, 0.38, ((0, 51), (13, 53), (28, 51.5), (38, 47))),
    (1.0, 0.25, ((0, 60), (12, 61), (26, 59))),
    (0.9, 0.40, ((6.0, 9), (6.4, 17), (8.0, 26))),
    (0.8, 0.25, ((0, 3.0), (8, 4.0))),
    (0.8, 0.32, ((46, 1), (52, 7), (59, 12))),
    (0.8, 0.36, ((46.5, -1.5), (54, -1), (62, 1))),
    (0.8, 0.34, ((46, -4), (53, -8), (60, -13))),
    (0.7, 0.25, ((44, -7), (50, -14), (56, -21))),
    (0.9, 0.22, ((17, -9), (24, -12.3), (31, -13), (38, -11), (43, -7.5))),
    (1.6, 0.35, ((16, -9), (20, -15), (27, -20), (35, -21.5), (43, -18))),
    (1.7, 0.62, ((20.5, -36), (24, -44), (28.5, -55), (31.5, -65), (32, -73))),
    (1.3, 0.45, ((26.5, -72), (29.5, -81), (29, -92))),
    (1.2, 0.30, ((0, -88.5), (10, -88), (18, -85.5))),
    (1.6, 0.45, ((0, -128), (20, -126), (40, -120), (60, -110))),
    (1.6, 0.40, ((0, -141), (20, -139), (42, -132), (60, -124))),
)


def ramp(x: np.ndarray, low: float | np.ndarray, high: float | np.ndarray) -> np.ndarray:
    """0 at `low`, 1 at `high` (which may be the smaller), smooth between."""
    t = np.clip((x - low) / (high - low), 0.0, 1.0)
    return (t * t * (3 - 2 * t)).astype(np.float32)


def blob(p: np.ndarray, center: tuple[float, float, float], radius: tuple[float, float, float]) -> np.ndarray:
    """(N,) Gaussian hill around a point and its mirror image."""
    return _blob(p, *(float(c) for c in center), *(1.0 / r for r in radius))


@njit(cache=True)
def _blob(p, cx, cy, cz, sx, sy, sz):
    out = np.zeros(len(p), dtype=np.float32)
    for i in range(len(p)):
        d = ((abs(p[i, 0]) - cx) * sx) ** 2 + ((p[i, 1] - cy) * sy) ** 2 + ((p[i, 2] - cz) * sz) ** 2
        if d < 12.0:
            out[i] = np.exp(-d)
    return out


def between(x: np.ndarray, y: np.ndarray, lower: np.ndarray, upper: np.ndarray, soft: float) -> np.ndarray:
    """(N,) 1 between two curves y(x), 0 outside, with an edge of `soft` mm."""
    low = np.interp(x, lower[:, 0], lower[:, 1]).astype(np.float32)
    high = np.interp(x, upper[:, 0], upper[:, 1]).astype(np.float32)
    inside = np.minimum(y - low, high - y)
    inside = np.minimum(inside, np.minimum(x - lower[0, 0] + 1e3 * (lower[0, 0] == 0), lower[-1, 0] - x))
    return ramp(inside, -soft, soft)


@njit(cache=True)
def stroke_distance(x, y, line, reach):
    """(N, 2) distance from points to a polyline (`reach` if farther) and position along it in [0, 1]."""
    out = np.empty((len(x), 2), dtype=np.float32)
    low_x, high_x, low_y, high_y = line[0, 0], line[0, 0], line[0, 1], line[0, 1]
    for k in range(1, len(line)):
        low_x, high_x = min(low_x, line[k, 0]), max(high_x, line[k, 0])
        low_y, high_y = min(low_y, line[k, 1]), max(high_y, line[k, 1])
    low_x, high_x, low_y, high_y = low_x - reach, high_x + reach, low_y - reach, high_y + reach
    for i in range(len(x)):
        out[i, 0], out[i, 1] = reach, 0.0
        if x[i] < low_x or x[i] > high_x or y[i] < low_y or y[i] > high_y:
            continue
        best = reach * reach
        for k in range(len(line) - 1):
            ax, ay = line[k, 0], line[k, 1]
            bx, by = line[k + 1, 0] - ax, line[k + 1, 1] - ay
            t = ((x[i] - ax) * bx + (y[i] - ay) * by) / (bx * bx + by * by)
            t = min(max(t, 0.0), 1.0)
            d = (x[i] - ax - t * bx) ** 2 + (y[i] - ay - t * by) ** 2
            if d < best:
                best = d
                out[i, 0] = np.sqrt(d)
                out[i, 1] = (k + t) / (len(line) - 1)
    return out


def deep_creases(p: np.ndarray) -> np.ndarray:
    """(N,) height in mm (negative in a crease) of all expression lines at full strength."""
    wobble_x = 1.1 * value_noise(p, 11.0, 71) + 0.35 * value_noise(p, 3.0, 72)
    wobble_y = 1.6 * value_noise(p, 14.0, 73) + 0.45 * value_noise(p, 3.5, 74)
    x, y = np.abs(p[:, 0]) + wobble_x, p[:, 1] + wobble_y
    fade = 0.80 + 0.48 * value_noise(p, 9.0, 75)
    front = ramp(p[:, 2], -55.0, -30.0)
    height = np.zeros(len(p), dtype=np.float32)
    for width, depth, points in DEEP_LINES:
        line = np.array(points, dtype=np.float64)
        near = stroke_distance(x, y, line, 4.0 * width)
        along = near[:, 1]
        tip = ramp(along, -0.05, 0.22) if line[0, 0] > 0 else 1.0
        tip = tip * ramp(along, 1.05, 0.75)
        d = near[:, 0] / width
        trough = np.exp(-1.6 * d * d) - 0.30 * np.exp(-0.55 * d * d)
        inside = near[:, 0] < 3.99 * width
        height -= np.where(inside, depth * tip * fade * front * trough, 0).astype(np.float32)
    return height


def fine_creases(p: np.ndarray) -> np.ndarray:
    """(N,) height in mm of the fine lines that come with age: around eyes and mouth, over cheeks."""
    lids = blob(p, (32, -8, 18), (17, 12, 30)) + 0.7 * blob(p, (52, -6, 0), (14, 18, 30))
    mouth = ramp(np.abs(p[:, 0]), 30, 18) * (
        blob(p, (0, -53, 25), (40, 7, 40)) + 0.7 * blob(p, (0, -84, 25), (40, 6, 40))
    )
    vertical = value_noise(p * np.array([1.0, 0.08, 0.08], np.float32), 1.15, 81)
    flat = value_noise(p * np.array([0.16, 1.0, 0.3], np.float32), 1.5, 82)
    cross = value_noise(p * np.array([0.7, 0.9, 0.4], np.float32), 2.4, 83)
    cheeks = 0.6 * blob(p, (45, -45, 0), (26, 30, 45)) + 0.3
    neck = ramp(p[:, 1], -100, -125)
    height = 0.10 * np.minimum(mouth, 1) * np.minimum(vertical, 0.2) + 0.09 * lids * np.minimum(flat, 0.2)
    height += 0.05 * np.minimum(cross, 0.2) * cheeks + 0.05 * neck * np.minimum(flat, 0.2)
    return height.astype(np.float32)


def pores(p: np.ndarray) -> np.ndarray:
    """(N,) height in mm of pores and skin texture, everywhere."""
    coarse = blob(p, (0, -36, 25), (22, 18, 40)) + 0.8 * blob(p, (22, -30, 10), (16, 16, 30))
    grain = value_noise(p, 0.75, 91) + 0.7 * value_noise(p, 1.5, 92)
    pits = np.minimum(value_noise(p, 0.95, 93) + 0.25, 0.0)
    return (0.030 * grain + (0.04 + 0.11 * np.minimum(coarse, 1)) * pits).astype(np.float32)


def lip_lines(p: np.ndarray, lips: np.ndarray) -> np.ndarray:
    """(N,) height in mm of the fine vertical folds of lips."""
    folds = value_noise(p * np.array([1.0, 0.10, 0.10], np.float32), 0.9, 95) + 0.6 * value_noise(
        p * np.array([1, 0.2, 0.2], np.float32), 1.9, 96
    )
    return (0.10 * folds * lips).astype(np.float32)


def face_masks(p: np.ndarray) -> dict[str, np.ndarray]:
    """Region name -> (N,) strength in [0, 1] at points (N, 3)."""
    x, y, z = np.abs(p[:, 0]), p[:, 1], p[:, 2]
    front = ramp(z, -25.0, 0.0)
    wobble = (0.35 * value_noise(p, 2.5, 61)).astype(np.float32)
    lips = between(x, y + wobble, LIP_BOTTOM, LIP_TOP, 0.8) * ramp(z, -8.0, 0.0)
    line_y = np.interp(x, MOUTH_LINE[:, 0], MOUTH_LINE[:, 1]).astype(np.float32)
    mouth_line = np.exp(-(((y - line_y) / 1.0) ** 2)) * ramp(x, 25.5, 22.0) * front
    upper_y = np.interp(x, LID_UPPER[:, 0], LID_UPPER[:, 1]).astype(np.float32)
    lower_y = np.interp(x, LID_LOWER[:, 0], LID_LOWER[:, 1]).astype(np.float32)
    crease_y = np.interp(x, LID_CREASE[:, 0], LID_CREASE[:, 1]).astype(np.float32)
    eye_front = ramp(z, -4.0, 2.0)
    span = ramp(x, 13.5, 17.0) * ramp(x, 50.0, 43.5)
    lid = span * ramp(y, upper_y + 0.2, upper_y - 0.6) * 0
    lid = span * ramp(y - upper_y, -0.8, 0.6) * ramp(y - crease_y, 2.5, -0.5) * eye_front
    shadow = (
        ramp(x, 13, 19)
        * ramp(x, 53, 44)
        * ramp(y - upper_y, -0.8, 0.6)
        * ramp(y - crease_y, 7.5, -0.5)
        * eye_front
    )
    liner_y = upper_y + np.float32(0.16) * np.maximum(x - 41.5, 0)
    liner = ramp(np.abs(y - liner_y - 0.35), 1.1, 0.3) * ramp(x, 16.5, 21) * ramp(x, 47.5, 43.5) * eye_front
    rim = (
        span
        * np.maximum(ramp(np.abs(y - lower_y), 1.3, 0.1), 0.7 * ramp(np.abs(y - upper_y), 1.0, 0.1))
        * eye_front
    )
    inner = blob(p, (16.5, -4.0, 12), (2.6, 2.2, 14))
    socket = (
        blob(p, (22, -5, 14), (11, 10, 30))
        + 0.8 * blob(p, (31, -14, 14), (13, 6.5, 30))
        + 0.4 * blob(p, (33, 5, 14), (14, 5, 30))
    )
    nose = 0.9 * blob(p, (0, -40, 28), (13, 11, 30)) + 0.8 * blob(p, (15, -42, 15), (7, 8, 25))
    cheeks = blob(p, (38, -36, 5), (17, 15, 40))
    chin = blob(p, (0, -95, 20), (15, 9, 40))
    beard = beard_region(p)
    return {
        "lips": lips,
        "mouth_line": mouth_line.astype(np.float32),
        "red": np.minimum(nose + 0.7 * cheeks + 0.4 * chin, 1.2).astype(np.float32),
        "blush": blob(p, (42, -33, 0), (17, 13, 40)),
        "socket": np.minimum(socket, 1.0).astype(np.float32),
        "lid": lid,
        "shadow": shadow,
        "liner": liner,
        "rim": np.minimum(rim + inner, 1.0).astype(np.float32),
        "beard": beard,
        "goatee": beard * ramp(x, 34.0, 22.0) * ramp(y, -112.0, -104.0),
        "scalp": scalp_region(p),
        "oil": np.minimum(
            blob(p, (0, 40, 20), (28, 18, 40)) + blob(p, (0, -22, 25), (10, 26, 40)) + 0.6 * chin + 0.35 * cheeks,
            1,
        ).astype(np.float32),
        "freckles": np.minimum(
            blob(p, (0, -22, 25), (14, 16, 40)) + blob(p, (34, -26, 8), (20, 17, 40)) + 0.25 * front, 1
        ).astype(np.float32),
    }


def beard_region(p: np.ndarray) -> np.ndarray:
    """(N,) where beards grow: upper lip, cheeks below a line from ear to mouth, chin and the upper neck."""
    x, y, z = np.abs(p[:, 0]), p[:, 1], p[:, 2]
    ragged = y + 2.5 * value_noise(p, 6.0, 51) + 1.5 * value_noise(p, 2.0, 52)
    top = np.interp(x, [0, 18, 27, 36, 46, 55, 62, 67, 71], [-49, -49, -58, -66, -64, -52, -34, -14, 4])
    jaw = np.interp(z, [-75, -55, -30, 0], [-62, -92, -118, -128])
    cheeks = ramp(ragged - top, 9.0, -8.0) * ramp(z + 0.6 * (ragged - y), -68.0, -54.0)
    cheeks = cheeks * ramp(ragged - jaw, -8.0, 8.0)
    low = ramp(ragged, -140.0, -122.0)
    bare = ramp(x, 16.0, 12.0) * ramp(np.abs(y + 85.0), 5.0, 3.0) * 0.45
    return (cheeks * low * (1 - bare)).astype(np.float32)


def scalp_region(p: np.ndarray) -> np.ndarray:
    """(N,) where scalp hair grows."""
    x, y, z = np.abs(p[:, 0]), p[:, 1], p[:, 2]
    ragged = 2.5 * value_noise(p, 7.0, 53)
    front = ramp(y + ragged - np.interp(x, [0, 30, 45, 60], [66, 68, 60, 40]), -5.0, 5.0)
    side = ramp(z + ragged, -38.0, -48.0) * ramp(y + ragged, -14.0, -4.0)
    back = ramp(z + ragged, -88.0, -98.0) * ramp(y + ragged, -72.0, -58.0)
    return np.maximum(np.maximum(front, side), back).astype(np.float32)
