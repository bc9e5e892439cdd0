"""Where glasses sit on a face: lens plane, bridge, hinges, temples and nose pads, on the avatar's left side."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.interpolate import CubicSpline

from avatar3d.engine.attach import Figure
from avatar3d.engine.head_surface import HeadSurface, head_faces, head_surface

PUPIL_DISTANCE = 0.0616
"""Metres between the pupils of the face on which styles are drawn."""
TILT = np.tan(np.radians(6.0))
"""The lens plane leans forward at the top."""
WRAP = 0.165
"""Radius of the lens plane's bend around the face, metres."""


CAT_EYE = CubicSpline(
    np.radians([0, 14, 25, 31, 37, 50, 75, 105, 130, 155, 180, 205, 232, 262, 290, 320, 344, 360]),
    [23.4, 25.5, 29.5, 31.6, 27.2, 21.0, 16.3, 15.6, 17.6, 22.0, 24.2, 23.0, 20.2, 18.2, 18.2, 20.2, 22.4, 23.4],
    bc_type="periodic",
)
"""Millimetres from the lens centre by angle of a lens 50 wide and 36 high with a raised outer corner."""


@dataclass(frozen=True)
class Style:
    """A frame's outline in millimetres."""

    width: float
    height: float
    square: float
    """Superellipse exponent of the outline: 2 is round, 6 nearly a rectangle."""
    rim: float
    """Width of the rim seen from the front."""
    depth: float
    lift: float
    """Above 0 for the outline of `CAT_EYE`."""


@dataclass(frozen=True)
class Fit:
    """Placement on one face, metres."""

    unit: float
    """Metres per drawn millimetre."""
    center: np.ndarray
    """(2,) x and y of the left lens."""
    plane: float
    """z of the lens plane at x = 0 and the lens centre's height."""
    teardrop: bool
    bridge: np.ndarray
    bridge_height: float
    bridge_depth: float
    bar: np.ndarray
    """Second bar of aviators, above the bridge."""
    end_piece: np.ndarray
    temple: np.ndarray
    pad: tuple[np.ndarray, np.ndarray]
    """Centre and unit normal towards the nose's outside."""
    pad_arm: np.ndarray

    def on_lens(self, xy: np.ndarray) -> np.ndarray:
        """(N, 3) points of the lens plane over (N, 2)."""
        return on_plane(xy, self.center, self.plane)

    def rim(self, style: Style, count: int) -> tuple[np.ndarray, np.ndarray]:
        """(count, 3) centre line of the left rim, counter-clockwise from its outer end, and outward directions."""
        angle = 2 * np.pi * np.arange(count) / count
        path = self.on_lens(self.center + outline(style, angle, self.teardrop) * self.unit)
        return path, path - self.on_lens(self.center[None])


def on_plane(xy: np.ndarray, center: np.ndarray, plane: float) -> np.ndarray:
    z = plane + TILT * (xy[:, 1] - center[1]) - xy[:, 0] ** 2 / (2 * WRAP)
    return np.concatenate([xy, z[:, None]], axis=1)


def outline(style: Style, angle: np.ndarray, teardrop: bool) -> np.ndarray:
    """(N, 2) millimetres from the lens centre; angle 0 points to the temple."""
    c, s = np.cos(angle), np.sin(angle)
    power = 2.0 / style.square
    x = 0.5 * style.width * np.sign(c) * np.abs(c) ** power
    y = 0.5 * style.height * np.sign(s) * np.abs(s) ** power
    if teardrop:
        # flat brow, and a bowl that hangs outwards and narrows downwards
        low = np.clip(-s, 0, 1)
        y = np.where(s > 0, 0.78 * y * (1 - 0.10 * (1 - c)), 1.06 * y)
        x = x * (1 - 0.20 * low**1.5) + 3.0 * low
    if style.lift:
        reach = CAT_EYE(angle % (2 * np.pi))
        x, y = reach * c * style.width / 50.0, reach * s * style.height / 36.0
    return np.stack([x, y], 1)


def fit_glasses(figure: Figure, style: Style, teardrop: bool) -> Fit:
    """Fit a style to a figure's face."""
    surface = head_surface(figure)
    eye = figure.body.bone("leftEye").numpy().astype(np.float64)
    unit = 2 * eye[0] / PUPIL_DISTANCE * 1e-3
    unit = float(np.clip(unit, 0.80e-3, 1.08e-3))
    inner = 0.5 * (style.width + style.rim) * unit
    center = np.array([max(eye[0] + 0.7 * unit, inner + 6.5 * unit), eye[1] - 2.2 * unit])
    eyeball = figure.vertices[figure.body.template.surface_vertices("eye_left")][:, 2].max().item()
    plane = _lens_plane(surface, style, teardrop, center, unit, eyeball)
    thick = (1.6 if style.rim < 2 else 3.2) * unit
    tall = (1.6 if style.rim < 2 else 4.6) * unit
    bridge = _bridge(surface, style, teardrop, center, plane, unit, thick, tall)
    draft = Fit(
        unit, center, plane, teardrop, bridge, tall, thick, bridge, bridge, bridge, (bridge[0], bridge[0]), bridge
    )
    end_piece, temple = _temple(figure, surface, draft, style)
    pad = _pad(surface, draft)
    inner_rim = on_plane(
        np.array([[center[0] - 0.5 * style.width * unit * 0.97, pad[0][1] + 1.5 * unit]]), center, plane
    )[0]
    back = (pad[0] + inner_rim) / 2 - np.array([0, 0, 2.0 * unit])
    t = np.linspace(0, 1, 6)[:, None]
    arm = (1 - t) ** 2 * inner_rim + 2 * t * (1 - t) * back + t**2 * (pad[0] + 0.6 * unit * pad[1])
    return replace(draft, end_piece=end_piece, temple=temple, pad=pad, pad_arm=arm, bar=_bar(draft, style))


def _lens_plane(
    surface: HeadSurface, style: Style, teardrop: bool, center: np.ndarray, unit: float, eyeball: float
) -> float:
    """The plane closest to the face at which rims clear brows and cheeks, and lenses clear lids and lashes."""
    angle = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    rim = outline(style, angle, teardrop)
    grow = 1 + style.rim / style.width
    needed = [eyeball + 8.0 * unit + center[0] ** 2 / (2 * WRAP)]
    for share, gap in ((grow, 0.5 * style.depth + 0.7), (1.0, 0.5 * style.depth + 0.7), (0.6, 3.0)):
        xy = center + rim * share * unit
        skin = surface.forward(xy[:, 0], xy[:, 1])
        flat = on_plane(xy, center, 0.0)[:, 2]
        needed.append(float((skin - flat)[skin > 0].max()) + gap * unit)
    return max(needed)


def _bridge(
    surface: HeadSurface, style: Style, teardrop: bool, center: np.ndarray, plane: float, unit: float,
    thick: float, tall: float,
) -> np.ndarray:  # fmt: skip
    """(N, 3) from the left rim over the nose to the right one; its middle rests on the nose."""
    levels = center[1] + np.linspace(0.0, 0.34, 24) * style.height * unit
    nose = surface.forward(np.zeros(24), levels) + 0.5 * thick
    wanted = on_plane(np.stack([np.zeros(24), levels], 1), center, plane)[:, 2]
    level = levels[np.abs(nose - wanted + 0.5 * unit).argmin()]
    angle = np.linspace(np.pi * 0.5, np.pi * 1.5, 181)
    rim = center + outline(style, angle, teardrop) * unit
    start = rim[np.abs(rim[:, 1] - level + 1.0 * unit).argmin()] * np.array([1.0, 1.0])
    t = np.linspace(-1, 1, 17)
    x = start[0] * t
    y = level + (start[1] - level) * t**2
    flat = on_plane(np.stack([x, y], 1), center, plane)[:, 2]
    middle = float(surface.forward(np.zeros(1), np.array([level]))[0]) + 0.5 * thick + 0.2 * unit
    z = flat + (middle - flat[8]) * np.cos(np.pi / 2 * t) ** 2
    # clear of the nose along the whole height of the bar
    for offset in (-0.4, 0.0, 0.4):
        skin = surface.forward(x, y + offset * tall)
        lift = np.where(skin > 0, skin + 0.45 * thick, -1)
        z = np.maximum(z, lift)
    z = z.copy()
    z[1:-1] = np.maximum(z[1:-1], (z[:-2] + z[2:]) / 2 * 0.5 + z[1:-1] * 0.5)
    order = slice(None, None, -1)
    return np.stack([x, y, z], 1)[order]


def _bar(fit: Fit, style: Style) -> np.ndarray:
    """A bar that joins the rims above the bridge."""
    angle = np.radians(118.0)
    rim = fit.center + outline(style, np.array([angle]), fit.teardrop)[0] * fit.unit
    t = np.linspace(1, -1, 13)
    xy = np.stack([rim[0] * t, rim[1] + 0.6 * fit.unit * (1 - t**2)], 1)
    path = on_plane(xy, fit.center, fit.plane)
    middle = fit.bridge[len(fit.bridge) // 2, 2]
    path[:, 2] = np.maximum(path[:, 2], path[:, 2] + (middle - path[6, 2]) * (1 - t**2))
    return path


def _temple(figure: Figure, surface: HeadSurface, fit: Fit, style: Style) -> tuple[np.ndarray, np.ndarray]:
    """The end piece (N, 3) and the arm (M, 3) from the hinge over the ear to its tip behind the ear."""
    unit = fit.unit
    thick = (0.75 if style.rim < 2 else 1.2) * unit
    tall = (0.75 if style.rim < 2 else 1.6) * unit
    angle = 0.42 if not style.lift else 0.50
    rim = fit.center + outline(style, np.array([angle]), fit.teardrop)[0] * unit
    start = on_plane(rim[None], fit.center, fit.plane)[0]
    root = figure.vertices[head_faces().ear_root].numpy().astype(np.float64)
    # over the ear, in the groove between its rim and the head
    level = root[1]
    for _ in range(3):
        groove = max(float(surface.sideways(np.array([root[2]]), np.array([level]))[0]), root[0] - 4 * unit)
        x_ear = groove + thick + 0.4 * unit
        tops = surface.ear_top(np.array([x_ear - thick, x_ear, x_ear + thick]), np.full(3, root[2]))
        level = float(max(tops.max(), root[1] - 3 * unit)) + tall + 0.2 * unit
    over = np.array([x_ear, level, root[2]])
    # the hinge stands beside the head, behind the rim's outer end
    hinge_z = start[2] - 7.0 * unit
    beside = _clear_of_side(surface, np.array([hinge_z]), np.array([start[1]]), thick, unit)[0]
    hinge = np.array([max(start[0] + 3.2 * unit, beside + 1.0 * unit), start[1], hinge_z])
    z = np.linspace(hinge[2], over[2], 20)
    share = (hinge[2] - z) / (hinge[2] - over[2])
    y = hinge[1] + (over[1] - hinge[1]) * share
    x = _taut(z, np.maximum(_clear_of_side(surface, z, y, thick, unit), -1), hinge[0], over[0])
    arm = np.stack([x, y, z], 1)
    # over the ear as far back as it grows from the head, then down behind it along the head
    back = over[2] - np.arange(0.0, 26.0, 1.0) * unit
    covered = surface.ear_top(np.full(26, over[0] + thick), back) > over[1] - 12 * unit
    last = back[np.flatnonzero(covered)[-1]] if covered.any() else over[2]
    behind = last - (1.0 * unit + tall)
    drop = np.array([[-1.5, 0.0], [-5, -3.0], [-11, -6.5], [-18.5, -9.5], [-26, -12.0], [-33, -13.5]]) * unit
    tip = np.stack([np.full(6, over[0]), over[1] + drop[:, 0], behind + drop[:, 1]], 1)
    side = _clear_of_side(surface, tip[:, 2], tip[:, 1], thick, unit)
    tip[:, 0] = np.where(side > 0, side, over[0])
    path = np.concatenate([arm, tip])
    for _ in range(2):
        path = _smooth(path)
        path[:22] = _over_ear(surface, path[:22], thick, tall, unit)
        beside = _clear_of_side(surface, path[:, 2], path[:, 1], thick, unit)
        path[:, 0] = np.maximum(path[:, 0], beside)
        highest = 15 + int(path[15:28, 1].argmax())
        for stretch in (slice(0, highest + 1), slice(highest, None)):
            z, y = path[stretch, 2], path[stretch, 1]
            path[stretch, 1] = _taut(z, y, y[0], y[-1])
    corner = np.array([hinge[0], start[1], start[2] - 1.5 * unit])
    t = np.linspace(0, 1, 7)[:, None]
    end_piece = (1 - t) ** 2 * start + 2 * t * (1 - t) * corner + t**2 * (hinge + np.array([0, 0, 0.5 * unit]))
    return end_piece, np.concatenate([path[:14:3], _rounded(path[14:])])


def _over_ear(surface: HeadSurface, path: np.ndarray, thick: float, tall: float, unit: float) -> np.ndarray:
    """The path lifted off the ear where it would cut into its upper rim."""
    out = path.copy()
    for dx in (-thick, 0.0, thick):
        for dz in (-1.0 * unit, 0.0, 1.0 * unit):
            top = surface.ear_top(path[:, 0] + dx, path[:, 2] + dz)
            sunk = (top > 0) & (path[:, 1] - top < tall) & (path[:, 1] - top > -12 * unit)
            out[:, 1] = np.where(sunk, np.maximum(out[:, 1], top + tall + 0.1 * unit), out[:, 1])
    return out


def _clear_of_side(surface: HeadSurface, z: np.ndarray, y: np.ndarray, thick: float, unit: float) -> np.ndarray:
    """|x| at which an arm of half thickness `thick` clears the head."""
    widths = np.max([surface.sideways(z, y + dy * unit) for dy in (-2.0, 0.0, 2.0)], axis=0)
    return np.where(widths > 0, widths + thick + 0.4 * unit, -1.0)


def _taut(z: np.ndarray, least: np.ndarray, first: float, last: float) -> np.ndarray:
    """The shortest arm from `first` to `last` outside `least`: the upper hull of the points over z."""
    x = least.copy()
    x[0], x[-1] = max(first, least[0]), max(last, least[-1])
    hull = [0]
    for i in range(1, len(z)):
        while len(hull) > 1:
            a, b = hull[-2], hull[-1]
            if (x[b] - x[a]) * (z[i] - z[a]) * -1 > (x[i] - x[a]) * (z[b] - z[a]) * -1:
                break
            hull.pop()
        hull.append(i)
    return np.interp(-z, -z[hull], x[hull])


def _smooth(path: np.ndarray) -> np.ndarray:
    """Round the corners outwards only in x, freely in y and z."""
    out = path.copy()
    for _ in range(2):
        middle = (out[:-2] + 2 * out[1:-1] + out[2:]) / 4
        out[1:-1, 1:] = middle[:, 1:]
        out[1:-1, 0] = np.maximum(out[1:-1, 0], middle[:, 0])
    return out


def _rounded(path: np.ndarray) -> np.ndarray:
    """Corners cut once (Chaikin 1974), ends kept."""
    a, b = path[:-1], path[1:]
    cut = np.stack([0.75 * a + 0.25 * b, 0.25 * a + 0.75 * b], 1).reshape(-1, 3)
    return np.concatenate([path[:1], cut[1:-1], path[-1:]])


def _pad(surface: HeadSurface, fit: Fit) -> tuple[np.ndarray, np.ndarray]:
    """Where the left nose pad touches the side of the nose, and the skin's normal there."""
    unit = fit.unit
    top = fit.bridge[:, 1].max()
    y = top - 7.5 * unit
    xs = np.linspace(2.0, 14.0, 49) * unit
    skin = surface.forward(xs, np.full(49, y))
    depth = fit.plane + TILT * (y - fit.center[1]) - 3.5 * unit
    inside = np.flatnonzero((skin > 0) & (skin <= depth))
    k = int(inside[0]) if len(inside) else 30
    k = min(max(k, 2), 46)
    h = 1.2 * unit
    around = surface.forward(np.array([xs[k] + h, xs[k] - h, xs[k], xs[k]]), np.array([y, y, y + h, y - h]))
    slope = np.array([(around[0] - around[1]) / (2 * h), (around[2] - around[3]) / (2 * h)])
    normal = np.array([-slope[0], -slope[1], 1.0])
    normal /= np.linalg.norm(normal)
    point = np.array([xs[k], y, skin[k]])
    return point + normal * 0.9 * unit, normal
