"""Texture space: which surface point each texel shows, values at those points, padding of islands."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from scipy.ndimage import distance_transform_edt

GUTTER = 12
"""Texels around each island that repeat its rim, so that filtering never sees what lies beyond."""


@dataclass(frozen=True)
class Texels:
    """The N texels that show a surface, and the gutter around them, in row order."""

    size: int
    index: np.ndarray
    """(N,) flat index of each texel."""
    faces: np.ndarray
    """(N, 3) corners of the triangle that a texel lies in."""
    weights: np.ndarray
    """(N, 3) barycentric weights, float32."""
    gutter: np.ndarray
    """(G,) flat index of each gutter texel."""
    source: np.ndarray
    """(G,) row (in 0..N-1) of the texel that a gutter texel repeats."""

    def interpolate(self, corner_values: np.ndarray) -> np.ndarray:
        """(N, C) float32 values at the texels of per-corner values (R, C)."""
        return _interpolate(self.faces, self.weights, np.ascontiguousarray(corner_values, dtype=np.float32))

    def image(self, values: np.ndarray) -> np.ndarray:
        """(size, size, C) float32 picture of per-texel values (N, C); beyond the gutter lies their mean."""
        picture = np.empty((self.size * self.size, values.shape[1]), dtype=np.float32)
        picture[:] = values[:: max(1, len(values) // 4096)].mean(axis=0)
        picture[self.index] = values
        picture[self.gutter] = values[self.source]
        return picture.reshape(self.size, self.size, -1)

    def slopes(self, height: np.ndarray, points: np.ndarray) -> np.ndarray:
        """(N, 2) slope of a per-texel height (N,) along u and along v, both in metres.

        Central differences in the image; the step's length is that between the surface points (N, 3).
        """
        grid = np.full(self.size * self.size, -1, dtype=np.int32)
        grid[self.index] = np.arange(len(self.index), dtype=np.int32)
        return _slopes(grid.reshape(self.size, self.size), self.index, height.astype(np.float32), points)


def texels_of(uv: np.ndarray, faces: np.ndarray, size: int) -> Texels:
    """Scan-convert triangles (F, 3) over corners with texture coordinates (R, 2) into a square image."""
    face, bary = _scan(uv.astype(np.float64), faces.astype(np.int64), size)
    covered = face >= 0
    index = np.flatnonzero(covered)
    rows = np.cumsum(covered) - 1
    distance, nearest = distance_transform_edt(~covered.reshape(size, size), return_indices=True)
    gutter = np.flatnonzero((distance.ravel() > 0) & (distance.ravel() <= GUTTER))
    near = nearest.reshape(2, -1)[:, gutter]
    source = rows[near[0] * size + near[1]]
    return Texels(size, index, faces[face[index]].astype(np.int32), bary[index], gutter, source)


@njit(cache=True)
def _scan(uv, faces, size):
    face = np.full(size * size, -1, dtype=np.int32)
    bary = np.zeros((size * size, 3), dtype=np.float32)
    slack = -0.02
    for f in range(len(faces)):
        a, b, c = faces[f]
        ax, ay = uv[a, 0] * size - 0.5, uv[a, 1] * size - 0.5
        bx, by = uv[b, 0] * size - 0.5, uv[b, 1] * size - 0.5
        cx, cy = uv[c, 0] * size - 0.5, uv[c, 1] * size - 0.5
        det = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
        if abs(det) < 1e-12:
            continue
        x0, x1 = max(int(np.ceil(min(ax, bx, cx) - 0.1)), 0), min(int(max(ax, bx, cx) + 0.1), size - 1)
        y0, y1 = max(int(np.ceil(min(ay, by, cy) - 0.1)), 0), min(int(max(ay, by, cy) + 0.1), size - 1)
        for y in range(y0, y1 + 1):
            for x in range(x0, x1 + 1):
                w1 = ((x - ax) * (cy - ay) - (cx - ax) * (y - ay)) / det
                w2 = ((bx - ax) * (y - ay) - (x - ax) * (by - ay)) / det
                w0 = 1.0 - w1 - w2
                if w0 >= slack and w1 >= slack and w2 >= slack:
                    i = y * size + x
                    face[i] = f
                    bary[i, 0], bary[i, 1], bary[i, 2] = w0, w1, w2
    return face, bary


@njit(cache=True)
def _interpolate(faces, weights, values):
    out = np.empty((len(faces), values.shape[1]), dtype=np.float32)
    for i in range(len(faces)):
        for c in range(values.shape[1]):
            out[i, c] = (
                weights[i, 0] * values[faces[i, 0], c]
                + weights[i, 1] * values[faces[i, 1], c]
                + weights[i, 2] * values[faces[i, 2], c]
            )
    return out


@njit(cache=True)
def _slopes(grid, index, height, points):
    size = len(grid)
    out = np.zeros((len(index), 2), dtype=np.float32)
    for i in range(len(index)):
        y, x = index[i] // size, index[i] % size
        for axis in range(2):
            lo, hi = i, i
            if axis == 0:
                if x > 0 and grid[y, x - 1] >= 0:
                    lo = grid[y, x - 1]
                if x < size - 1 and grid[y, x + 1] >= 0:
                    hi = grid[y, x + 1]
            else:
                if y > 0 and grid[y - 1, x] >= 0:
                    lo = grid[y - 1, x]
                if y < size - 1 and grid[y + 1, x] >= 0:
                    hi = grid[y + 1, x]
            step = 0.0
            for k in range(3):
                step += (points[hi, k] - points[lo, k]) ** 2
            if step > 1e-12:
                out[i, axis] = (height[hi] - height[lo]) / np.sqrt(step)
    return out
