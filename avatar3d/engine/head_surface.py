"""The head as height fields: how far forward, sideways or up its skin reaches at a place."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numba import njit

from avatar3d.body.template import load_template
from avatar3d.engine.attach import Figure
from avatar3d.engine.skin_canvas import head_layout, reference, sample, to_millimetres

NOWHERE = -1.0
"""What a height field holds where there is no skin, metres."""


@dataclass(frozen=True)
class HeadFaces:
    """Welded triangles of the head by region, chosen once on the reference."""

    front: np.ndarray
    """Faces that look forward, without the mouth's inside and the ears."""
    side: np.ndarray
    """The left half without its ear."""
    ear: np.ndarray
    """The left ear."""
    ear_root: int
    """Welded vertex where the left ear's upper rim leaves the head."""
    lobe: int
    """Welded vertex at the middle of the left ear lobe's outer side."""


@cache
def head_faces() -> HeadFaces:
    body = reference()
    vertex, uv, faces = (x.numpy() for x in load_template().surface("body"))
    _, head, _ = head_layout()
    p = to_millimetres(body.vertices.numpy())
    mask = np.zeros(len(p))
    np.maximum.at(mask, vertex, sample("ears", uv)[:, 0])
    welded = vertex[faces]
    on_ear = (mask[welded] > 0.1).any(1)
    near_ear = on_ear.copy()
    for _ in range(1):
        near_ear = np.isin(welded, np.unique(welded[near_ear])).any(1)
    corner = p[welded]
    normal = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    middle = corner.mean(1)
    skin = head.numpy() | (middle[:, 1] > -140)
    outside = skin & (middle[:, 2] > -130)
    front = outside & (normal[:, 2] > 0) & (middle[:, 2] > -50) & ~near_ear & (middle[:, 1] > -110)
    left = middle[:, 0] > 20
    side = outside & left & (normal[:, 0] > 0) & ~on_ear & (middle[:, 1] > -100)
    ear = outside & left & near_ear & (middle[:, 0] > 60)
    near = np.linalg.norm(p - np.array([75.8, 3.0, -77.0]), axis=1)
    candidates = np.unique(vertex)
    root = int(candidates[near[candidates].argmin()])
    away = np.linalg.norm((p - np.array([76.0, -44.0, -68.5])) * [0.5, 1, 1], axis=1)
    lobes = np.unique(welded[on_ear & left & (normal[:, 0] > 0)])
    lobe = int(lobes[away[lobes].argmin()])
    return HeadFaces(welded[front], welded[side], welded[ear], root, lobe)


@njit(cache=True)
def reach(points, triangles, first, second, height):
    """(N,) largest coordinate `height` of triangles (F, 3, 3) over points (N, 2) of the plane (first, second)."""
    out = np.full(len(points), NOWHERE)
    for f in range(len(triangles)):
        ax, ay = triangles[f, 0, first], triangles[f, 0, second]
        bx, by = triangles[f, 1, first], triangles[f, 1, second]
        cx, cy = triangles[f, 2, first], triangles[f, 2, second]
        det = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
        if abs(det) < 1e-14:
            continue
        for i in range(len(points)):
            x, y = points[i, 0], points[i, 1]
            u = ((x - ax) * (cy - ay) - (cx - ax) * (y - ay)) / det
            if u < -1e-6 or u > 1 + 1e-6:
                continue
            v = ((bx - ax) * (y - ay) - (x - ax) * (by - ay)) / det
            if v < -1e-6 or u + v > 1 + 1e-6:
                continue
            value = (
                triangles[f, 0, height] * (1 - u - v) + triangles[f, 1, height] * u + triangles[f, 2, height] * v
            )
            out[i] = max(out[i], value)
    return out


@dataclass(frozen=True)
class HeadSurface:
    """One person's head; lengths in metres, heights `NOWHERE` off the skin."""

    front_triangles: np.ndarray
    side_triangles: np.ndarray
    ear_triangles: np.ndarray

    def forward(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """z of the face at (x, y)."""
        return reach(np.stack([np.abs(x), y], 1), self.front_triangles, 0, 1, 2)

    def sideways(self, z: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Half width |x| of the head without ears at (z, y)."""
        return reach(np.stack([z, y], 1), self.side_triangles, 2, 1, 0)

    def ear_side(self, z: np.ndarray, y: np.ndarray) -> np.ndarray:
        """|x| of the ear's outer side at (z, y)."""
        return reach(np.stack([z, y], 1), self.ear_triangles, 2, 1, 0)

    def ear_top(self, x: np.ndarray, z: np.ndarray) -> np.ndarray:
        """y of the ear's upper rim at (|x|, z)."""
        return reach(np.stack([np.abs(x), z], 1), self.ear_triangles, 0, 2, 1)


def head_surface(figure: Figure) -> HeadSurface:
    """Height fields of a figure's head."""
    faces = head_faces()
    points = figure.vertices.numpy().astype(np.float64)
    return HeadSurface(points[faces.front], points[faces.side], points[faces.ear])
