"""Lips that meet.

The opening between the lips is measured as it is seen from the front: at a set of upright planes, how far the
lowest point of the upper lip lies above the highest point of the lower lip.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from avatar3d.body.template import Template, symmetric_actions

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
"""Largest overlap that a closed mouth may have."""
ROUNDS = 6
"""Passes of measuring and closing; a vertex lies between columns, so one pass leaves a little."""
FADE = 0.006
"""Deviation of the Gaussian that carries a correction into the lips, metres on the template."""


@dataclass(frozen=True)
class _Lips:
    upper_edges: np.ndarray
    """(E, 2) vertices of the edges of the upper lip."""
    lower_edges: np.ndarray
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
    right, left = vertices[lips.corners, 0].astype(np.float64)
    x = (left + right) / 2 + COLUMNS * (left - right) / 2
    lowest = _envelope(vertices, lips.upper_edges, x, -1.0)
    highest = _envelope(vertices, lips.lower_edges, x, 1.0)
    return lowest - highest


def meet(template: Template, vertices: np.ndarray) -> None:
    """Close the slits that some heads have between their lips at rest, in place."""
    lips = _lips(template)
    for _ in range(ROUNDS):
        gap = openings(template, vertices) + OVERLAP
        vertices[lips.vertices, 1] += lips.share * _at(lips, np.maximum(gap, 0.0))


def close(template: Template, vertices: np.ndarray, deltas: np.ndarray, moving: np.ndarray) -> None:
    """Correct `mouthClose` so that with a full `jawOpen` the lips touch, in place.

    `deltas` is (A, M, 3) over the vertices `moving` (M,).
    """
    lips = _lips(template)
    names = template.action_names
    at = np.searchsorted(moving, lips.vertices)
    closed = vertices.astype(np.float64)
    closed[moving] += deltas[names.index("jawOpen")] + deltas[names.index("mouthClose")]
    for _ in range(ROUNDS):
        gap = openings(template, closed)
        wanted = np.clip(gap, -DEEPEST, -OVERLAP)
        change = lips.share * _at(lips, gap - wanted)
        closed[lips.vertices, 1] += change
        deltas[names.index("mouthClose"), at, 1] += change


def _at(lips: _Lips, amount: np.ndarray) -> np.ndarray:
    """Values of `COLUMNS`, a little smoothed and zero beyond them, at the lip vertices."""
    fade = np.concatenate([[0.0], amount, [0.0]])
    ends = np.concatenate([[-1.02], COLUMNS, [1.02]])
    return np.interp(lips.place, ends, fade)


def _envelope(vertices: np.ndarray, edges: np.ndarray, x: np.ndarray, sign: float) -> np.ndarray:
    """Highest (`sign` 1) or lowest (-1) point of a set of edges in each plane of constant x."""
    a, b = vertices[edges[:, 0], :2].astype(np.float64), vertices[edges[:, 1], :2].astype(np.float64)
    run = b[:, 0] - a[:, 0]
    t = (x[:, None] - a[:, 0]) / np.where(np.abs(run) < 1e-9, 1e-9, run)
    height = sign * (a[:, 1] + t * (b[:, 1] - a[:, 1]))
    return sign * np.where((t >= 0) & (t <= 1), height, -np.inf).max(axis=1)


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
        vertices,
        points[vertices, 0] / CORNER,
        np.where(upper[vertices], -0.5, 0.5) * falloff,
        np.array([right, left]),
    )
