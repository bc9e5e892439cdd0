"""First hits of rays on triangles, through a uniform grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import no_type_check

import numba
import numpy as np

Array = np.ndarray

CELL = 1.5
"""Edge of a grid cell in units of the triangles' mean extent."""


@dataclass(frozen=True)
class RayGrid:
    """T triangles (T, 3, 3) sorted into cubic cells; CSR lists (`start`, `index`) of the triangles in each."""

    triangles: Array
    low: Array
    cell: float
    shape: tuple[int, int, int]
    start: Array
    index: Array


def ray_grid(triangles: Array) -> RayGrid:
    """Prepare triangles (T, 3, 3), float64, at least one, all finite."""
    low, high = triangles.min(axis=1), triangles.max(axis=1)
    cell = max(CELL * float((high - low).max(axis=1).mean()), float(np.ptp(triangles)) / 250, 1e-6)
    origin = low.min(axis=0) - 1e-6
    first, last = (((p - origin) / cell).astype(np.int64) for p in (low, high))
    shape = tuple(int(n) for n in last.max(axis=0) + 1)
    start, index = _sorted_into_cells(first, last, np.array(shape))
    return RayGrid(triangles, origin, cell, shape, start, index)  # type: ignore[arg-type]


def first_hit(grid: RayGrid, origins: Array, directions: Array, reach: float) -> tuple[Array, Array]:
    """Distance (N,) to the nearest triangle along unit rays (N, 3), inf beyond `reach` metres; its index or -1.

    A ray that starts on a triangle hits it at 0; both sides count (Moeller and Trumbore 1997; the walk through the
    cells is that of Amanatides and Woo 1987).
    """
    return _march(
        grid.triangles, grid.low, grid.cell, np.array(grid.shape), grid.start, grid.index,
        np.ascontiguousarray(origins, np.float64), np.ascontiguousarray(directions, np.float64), reach,
    )  # fmt: skip


@numba.njit(cache=True)
@no_type_check
def _sorted_into_cells(first: Array, last: Array, shape: Array) -> tuple[Array, Array]:
    start = np.zeros(shape[0] * shape[1] * shape[2] + 1, np.int64)
    for sweep in range(2):
        if sweep == 1:
            for c in range(len(start) - 1):
                start[c + 1] += start[c]
            index = np.empty(start[-1], np.int32)
            place = start[:-1].copy()
        for t in range(len(first)):
            for x in range(first[t, 0], last[t, 0] + 1):
                for y in range(first[t, 1], last[t, 1] + 1):
                    for z in range(first[t, 2], last[t, 2] + 1):
                        c = (x * shape[1] + y) * shape[2] + z
                        if sweep == 0:
                            start[c + 1] += 1
                        else:
                            index[place[c]] = t
                            place[c] += 1
    return start, index


@numba.njit(cache=True)
@no_type_check
def _march(
    triangles: Array, low: Array, cell: float, shape: Array, start: Array, index: Array, origins: Array,
    directions: Array, reach: float,
) -> tuple[Array, Array]:  # fmt: skip
    distance = np.full(len(origins), np.inf)
    found = np.full(len(origins), -1, np.int32)
    for i in range(len(origins)):
        o, d = origins[i], directions[i]
        enter, leave = 0.0, reach
        for k in range(3):
            if abs(d[k]) < 1e-12:
                if o[k] < low[k] or o[k] > low[k] + cell * shape[k]:
                    leave = -1.0
                continue
            a, b = (low[k] - o[k]) / d[k], (low[k] + cell * shape[k] - o[k]) / d[k]
            enter, leave = max(enter, min(a, b)), min(leave, max(a, b))
        if enter > leave:
            continue
        c, step, following, pace = np.empty(3, np.int64), np.empty(3, np.int64), np.empty(3), np.empty(3)
        for k in range(3):
            c[k] = min(max(int((o[k] + enter * d[k] - low[k]) / cell), 0), shape[k] - 1)
            step[k] = 1 if d[k] > 0 else -1
            pace[k] = cell / abs(d[k]) if abs(d[k]) > 1e-12 else np.inf
            border = low[k] + (c[k] + (1 if d[k] > 0 else 0)) * cell
            following[k] = (border - o[k]) / d[k] if abs(d[k]) > 1e-12 else np.inf
        best = np.inf
        while True:
            here = (c[0] * shape[1] + c[1]) * shape[2] + c[2]
            for e in range(start[here], start[here + 1]):
                t = _meet(triangles[index[e]], o, d)
                if t < best and t <= reach:
                    best, found[i] = t, index[e]
            k = 0
            if following[1] < following[k]:
                k = 1
            if following[2] < following[k]:
                k = 2
            if best <= following[k] or following[k] > leave:
                break
            c[k] += step[k]
            if c[k] < 0 or c[k] >= shape[k]:
                break
            following[k] += pace[k]
        distance[i] = best
    return distance, found


@numba.njit(cache=True)
@no_type_check
def _meet(triangle: Array, o: Array, d: Array) -> float:
    ax, ay, az = triangle[0]
    ux, uy, uz = triangle[1, 0] - ax, triangle[1, 1] - ay, triangle[1, 2] - az
    vx, vy, vz = triangle[2, 0] - ax, triangle[2, 1] - ay, triangle[2, 2] - az
    px, py, pz = d[1] * vz - d[2] * vy, d[2] * vx - d[0] * vz, d[0] * vy - d[1] * vx
    det = ux * px + uy * py + uz * pz
    if abs(det) < 1e-14:
        return np.inf
    sx, sy, sz = o[0] - ax, o[1] - ay, o[2] - az
    a = (sx * px + sy * py + sz * pz) / det
    qx, qy, qz = sy * uz - sz * uy, sz * ux - sx * uz, sx * uy - sy * ux
    b = (d[0] * qx + d[1] * qy + d[2] * qz) / det
    if a < -1e-9 or b < -1e-9 or a + b > 1 + 1e-9:
        return np.inf
    t = (vx * qx + vy * qy + vz * qz) / det
    return t if t >= 0 else np.inf
