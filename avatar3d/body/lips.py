"""Lips that meet and do not pass through each other.

The *opening* between the lips is what is seen from the front: at a set of upright planes, how far the lowest point
of the upper lip lies above the highest point of the lower lip. Their *overlap* is a matter of flesh: how far the
lower lip reaches into the upper one at the same place, which a lip that rolls in behind the other does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import no_type_check

import numba
import numpy as np

from avatar3d.body.template import Template, opposite, symmetric_actions

LINE = 0.6608
"""Height of the line between the lips on the template, metres."""
CORNER = 0.0255
"""Distance of the mouth's corners from the midline on the template."""
COLUMNS = np.linspace(-0.86, 0.86, 25)
"""Planes across the mouth, as shares of the half width."""
JAW_SHARE = 0.015
"""A full `jawOpen` moves lower lips farther than this and upper lips less, metres."""
OVERLAP = 0.00015
"""Metres by which closed lips overlap, so that no light passes."""
DEEPEST = 0.001
"""Largest overlap that a closed mouth may have, as seen from the front."""
CONTACT = 0.0003
"""Metres that lips may press into each other; lips that do at rest may do so in every action."""
SLICE = 0.0004
"""Depth of the slices in which overlaps are measured, metres."""
SEALED = (
    "cheekPuff", "jawForward", "jawLeft", "jawRight", "mouthClose", "mouthDimple", "mouthFrown", "mouthLeft",
    "mouthPress", "mouthPucker", "mouthRight", "mouthRoll", "mouthShrugLower", "mouthSmile", "mouthStretch",
    "noseSneer", "cheekSquint",
)  # fmt: skip
"""Beginnings of the names of actions that leave the lips closed."""
SMALLEST = 2e-5
"""Metres that are not worth another round."""
ROUND = np.array([1.0, 6.0, 15.0, 20.0, 15.0, 6.0, 1.0]) / 64
"""Weights of neighbouring columns in a correction."""
ROUNDS = 6
"""Passes of measuring and closing; a vertex lies between columns, so one pass leaves a little."""
FADE = 0.006
"""Deviation of the Gaussian that carries a correction into the lips, metres on the template."""


@dataclass(frozen=True)
class _Lips:
    upper_edges: np.ndarray
    """(E, 2) vertices of the edges of the upper lip."""
    lower_edges: np.ndarray
    upper_faces: np.ndarray
    """(F, 3)"""
    lower_faces: np.ndarray
    vertices: np.ndarray
    """(L,) all vertices that a correction moves."""
    place: np.ndarray
    """(L,) their position across the mouth, as a share of the half width."""
    share: np.ndarray
    """(L,) signed: -0.5 takes half of the closing down (upper lip), 0.5 takes half of it up (lower lip)."""
    corners: np.ndarray
    """(2,) right and left corner vertices."""


def corner_vertices(template: Template) -> tuple[int, int]:
    """The vertices of the right and of the left corner of the mouth."""
    right, left = _lips(template).corners
    return int(right), int(left)


def openings(template: Template, vertices: np.ndarray) -> np.ndarray:
    """Gap between the lips at each of `COLUMNS`, metres; negative where they overlap."""
    lips = _lips(template)
    points, columns = _planes(lips, vertices)
    lowest = _envelope(points, lips.upper_edges, columns, -1.0)
    highest = _envelope(points, lips.lower_edges, columns, 1.0)
    return lowest - highest


def overlaps(template: Template, vertices: np.ndarray) -> np.ndarray:
    """How far the lower lip reaches into the upper one at each of `COLUMNS`, metres; 0 where it does not."""
    lips = _lips(template)
    points, columns = _planes(lips, vertices)
    return _slice_overlaps(points, lips.upper_faces, lips.lower_faces, columns, SLICE)


def _planes(lips: _Lips, vertices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The vertices in double precision and x of the planes of `COLUMNS`."""
    points = np.ascontiguousarray(vertices, dtype=np.float64)
    right, left = points[lips.corners, 0]
    return points, (left + right) / 2 + COLUMNS * (left - right) / 2


def meet(template: Template, vertices: np.ndarray) -> None:
    """Close the slits that some heads have between their lips at rest, in place."""
    lips = _lips(template)
    for _ in range(ROUNDS):
        gap = openings(template, vertices) + OVERLAP
        vertices[lips.vertices, 1] += lips.share * _at(lips, _spread(np.maximum(gap, 0.0)))


def settle(template: Template, vertices: np.ndarray, deltas: np.ndarray, moving: np.ndarray) -> None:
    """Correct all actions so that lips touch where they should and nowhere pass through each other, in place.

    `deltas` is (A, M, 3) over the vertices `moving` (M,). `mouthClose` is judged with a full `jawOpen`. Left and
    right actions, and both that roll the lips in, are judged alone and then together; what is to correct then is
    shared between them.
    """
    lips = _lips(template)
    names = template.action_names
    at = np.searchsorted(moving, lips.vertices)
    allowed = np.maximum(overlaps(template, vertices), CONTACT)
    own_side = np.clip(0.5 + lips.place, 0.0, 1.0)

    def correction(name: str, offsets: np.ndarray) -> np.ndarray | None:
        """(L,) what to add to the height of the lip vertices of a face; None for nothing."""
        if np.abs(offsets[at]).max() < 1e-5:
            return None
        posed = vertices.astype(np.float64)
        posed[moving] += offsets
        before = posed[lips.vertices, 1].copy()
        for _ in range(ROUNDS):
            part = _wider(np.maximum(overlaps(template, posed) - allowed, 0.0))
            if name.startswith(SEALED):
                part = part - _wider(np.maximum(openings(template, posed) + OVERLAP, 0.0))
            if np.abs(part).max() < SMALLEST:
                break
            posed[lips.vertices, 1] -= lips.share * _at(lips, part)
        for _ in range(ROUNDS if name.startswith(SEALED) else 0):
            # a sealed mouth matters more than how deep lips press into each other
            gap = np.maximum(openings(template, posed) + OVERLAP, 0.0)
            if gap.max() < SMALLEST:
                break
            posed[lips.vertices, 1] += lips.share * _at(lips, _spread(gap))
        return posed[lips.vertices, 1] - before

    def settle_alone() -> None:
        jaw = deltas[names.index("jawOpen")]
        for action, name in enumerate(names):
            change = correction(name, deltas[action] + (jaw if name == "mouthClose" else 0.0))
            if change is not None:
                deltas[action, at, 1] += change

    settle_alone()
    pairs = [(n, opposite(n), own_side) for n in names if n.endswith("Left") and n not in ("jawLeft", "mouthLeft")]
    for name, other, share in (*pairs, ("mouthRollLower", "mouthRollUpper", np.full_like(own_side, 0.5))):
        one, two = names.index(name), names.index(other)
        change = correction(name, deltas[one] + deltas[two])
        if change is not None:
            deltas[one, at, 1] += share * change
            deltas[two, at, 1] += (1 - share) * change
    settle_alone()


def _spread(amount: np.ndarray) -> np.ndarray:
    """The largest value of each of `COLUMNS` and its neighbours."""
    padded = np.pad(amount, 1, mode="edge")
    return np.maximum(np.maximum(padded[:-2], padded[1:-1]), padded[2:])


def _wider(amount: np.ndarray) -> np.ndarray:
    """Values of `COLUMNS` spread to their neighbours and rounded off, so that no column stands out."""
    return np.convolve(np.pad(_spread(amount), 3, mode="edge"), ROUND, mode="valid")


def _at(lips: _Lips, amount: np.ndarray) -> np.ndarray:
    """Values of `COLUMNS`, a little smoothed and zero beyond them, at the lip vertices."""
    fade = np.concatenate([[0.0], amount, [0.0]])
    ends = np.concatenate([[-1.02], COLUMNS, [1.02]])
    return np.interp(lips.place, ends, fade)


@numba.njit(cache=True, nogil=True)
@no_type_check
def _envelope(points, edges, columns, sign):
    """Highest (`sign` 1) or lowest (-1) point of a set of edges in each plane x = columns, ascending."""
    best = np.full(len(columns), -np.inf)
    for e in range(len(edges)):
        a, b = edges[e, 0], edges[e, 1]
        if points[a, 0] > points[b, 0]:
            a, b = b, a
        run = max(points[b, 0] - points[a, 0], 1e-9)
        for c in range(np.searchsorted(columns, points[a, 0]), len(columns)):
            t = (columns[c] - points[a, 0]) / run
            if t > 1.0:
                break
            best[c] = max(best[c], sign * (points[a, 1] + t * (points[b, 1] - points[a, 1])))
    return sign * best


@cache
def _lips(template: Template) -> _Lips:
    points = template.vertices.numpy().astype(np.float64)
    corner, _, triangles = template.surface("body")
    faces = corner[triangles].numpy()
    jaw = symmetric_actions(template)[template.action_names.index("jawOpen")].norm(dim=-1).numpy()
    near = (np.abs(points[:, 0]) < 1.05 * CORNER) & (np.abs(points[:, 1] - LINE) < 0.02) & (points[:, 2] > 0.135)
    body = np.zeros(len(points), dtype=bool)
    body[faces] = True
    near &= body
    lower = near & (jaw > JAW_SHARE) & (points[:, 1] < LINE + 0.002)
    upper = near & (jaw <= JAW_SHARE) & (points[:, 1] > LINE - 0.002)
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    edges = np.unique(np.sort(edges, axis=1), axis=0)
    vertices = np.flatnonzero(upper | lower)
    falloff = np.exp(-0.5 * ((points[vertices, 1] - LINE) / FADE) ** 2)
    falloff[np.abs(points[vertices, 1] - LINE) > 0.017] = 0.0
    left = int(np.where(near & (np.abs(points[:, 1] - LINE) < 0.002), points[:, 0], -1.0).argmax())
    right = int(np.linalg.norm(points - points[left] * [-1, 1, 1], axis=1).argmin())
    return _Lips(
        edges[upper[edges].all(axis=1)],
        edges[lower[edges].all(axis=1)],
        faces[upper[faces].all(axis=1)],
        faces[lower[faces].all(axis=1)],
        vertices,
        points[vertices, 0] / CORNER,
        np.where(upper[vertices], -0.5, 0.5) * falloff,
        np.array([right, left]),
    )


@numba.njit(cache=True, nogil=True)
@no_type_check
def _slice_overlaps(points, upper, lower, columns, thickness):
    """`overlaps` at the planes x = columns, ascending, in slices of z."""
    count = len(columns)
    front, back = -np.inf, np.inf
    for f in range(len(lower)):
        for k in range(3):
            front = max(front, points[lower[f, k], 2])
            back = min(back, points[lower[f, k], 2])
    slices = int((front - back) / thickness) + 2
    lowest, highest = np.full((count, slices), np.inf), np.full((count, slices), -np.inf)
    for side in range(2):
        faces = upper if side == 0 else lower
        for f in range(len(faces)):
            i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
            left = min(points[i, 0], points[j, 0], points[k, 0])
            right = max(points[i, 0], points[j, 0], points[k, 0])
            for c in range(np.searchsorted(columns, left), np.searchsorted(columns, right)):
                y0, z0, y1, z1, cuts = 0.0, 0.0, 0.0, 0.0, 0
                for e in range(3):
                    a, b = faces[f, e], faces[f, (e + 1) % 3]
                    xa, xb = points[a, 0], points[b, 0]
                    if (xa <= columns[c]) == (xb <= columns[c]):
                        continue
                    t = (columns[c] - xa) / (xb - xa)
                    y = points[a, 1] + t * (points[b, 1] - points[a, 1])
                    z = points[a, 2] + t * (points[b, 2] - points[a, 2])
                    if cuts == 0:
                        y0, z0 = y, z
                    else:
                        y1, z1 = y, z
                    cuts += 1
                if cuts < 2:
                    continue
                if z0 > z1:
                    y0, z0, y1, z1 = y1, z1, y0, z0
                first = max(int(np.ceil((z0 - back) / thickness)), 0)
                last = min(int(np.floor((z1 - back) / thickness)), slices - 1)
                for s in range(first, last + 1):
                    t = (back + s * thickness - z0) / max(z1 - z0, 1e-12)
                    y = y0 + t * (y1 - y0)
                    if side == 0:
                        lowest[c, s] = min(lowest[c, s], y)
                    else:
                        highest[c, s] = max(highest[c, s], y)
    worst = np.zeros(count)
    for c in range(count):
        for s in range(slices):
            if highest[c, s] > lowest[c, s]:
                worst[c] = max(worst[c], highest[c, s] - lowest[c, s])
    return worst
