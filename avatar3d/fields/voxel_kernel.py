"""Numba kernels for looking up voxel grids on CPUs; they release the GIL and do one range each.

Grids are (Z, Y, X, C), so that the channels of a vertex lie together; points are box coordinates in [-1, 1], x
first. `voxels.look_up_torch` is the reference.
"""

from __future__ import annotations

from typing import no_type_check

import numba
import numpy as np


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=True)
@no_type_check
def _cell(value, size):
    """First vertex of the cell along an axis, and the share of the way to the next one, clamped to the grid."""
    at = (value + np.float32(1)) * (np.float32(0.5) * np.float32(size - 1))
    at = min(max(at, np.float32(0)), np.float32(size - 1))
    low = max(min(int(at), size - 2), 0)
    return low, at - np.float32(low)


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=True)
@no_type_check
def gather(begin, end, grid, points, out):
    """out[n] = trilinear values at points [begin, end)."""
    depth, height, width, channels = grid.shape
    one = np.float32(1)
    for n in range(begin, end):
        i, a = _cell(points[n, 0], width)
        j, b = _cell(points[n, 1], height)
        k, c = _cell(points[n, 2], depth)
        w00, w01, w10, w11 = (one - c) * (one - b), (one - c) * b, c * (one - b), c * b
        for m in range(channels):
            near = w00 * grid[k, j, i, m] + w01 * grid[k, j + 1, i, m]
            near += w10 * grid[k + 1, j, i, m] + w11 * grid[k + 1, j + 1, i, m]
            far = w00 * grid[k, j, i + 1, m] + w01 * grid[k, j + 1, i + 1, m]
            far += w10 * grid[k + 1, j, i + 1, m] + w11 * grid[k + 1, j + 1, i + 1, m]
            out[n, m] = near + a * (far - near)


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=True)
@no_type_check
def scatter(begin, end, points, slopes, out):
    """Add the gradient of the grid's vertices to out (Z, Y, X, C)."""
    depth, height, width, channels = out.shape
    one = np.float32(1)
    for n in range(begin, end):
        i, a = _cell(points[n, 0], width)
        j, b = _cell(points[n, 1], height)
        k, c = _cell(points[n, 2], depth)
        w00, w01, w10, w11 = (one - c) * (one - b), (one - c) * b, c * (one - b), c * b
        for m in range(channels):
            far = a * slopes[n, m]
            near = slopes[n, m] - far
            out[k, j, i, m] += w00 * near
            out[k, j, i + 1, m] += w00 * far
            out[k, j + 1, i, m] += w01 * near
            out[k, j + 1, i + 1, m] += w01 * far
            out[k + 1, j, i, m] += w10 * near
            out[k + 1, j, i + 1, m] += w10 * far
            out[k + 1, j + 1, i, m] += w11 * near
            out[k + 1, j + 1, i + 1, m] += w11 * far


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=True)
@no_type_check
def slope_of_points(begin, end, grid, points, slopes, out):
    """Write the gradient of points [begin, end)."""
    depth, height, width, channels = grid.shape
    one, half = np.float32(1), np.float32(0.5)
    for n in range(begin, end):
        i, a = _cell(points[n, 0], width)
        j, b = _cell(points[n, 1], height)
        k, c = _cell(points[n, 2], depth)
        x, y, z = np.float32(0), np.float32(0), np.float32(0)
        for m in range(channels):
            s = slopes[n, m]
            v000, v001 = grid[k, j, i, m], grid[k, j, i + 1, m]
            v010, v011 = grid[k, j + 1, i, m], grid[k, j + 1, i + 1, m]
            v100, v101 = grid[k + 1, j, i, m], grid[k + 1, j, i + 1, m]
            v110, v111 = grid[k + 1, j + 1, i, m], grid[k + 1, j + 1, i + 1, m]
            x += s * (
                (one - c) * ((one - b) * (v001 - v000) + b * (v011 - v010))
                + c * ((one - b) * (v101 - v100) + b * (v111 - v110))
            )
            y += s * (
                (one - c) * ((one - a) * (v010 - v000) + a * (v011 - v001))
                + c * ((one - a) * (v110 - v100) + a * (v111 - v101))
            )
            z += s * (
                (one - b) * ((one - a) * (v100 - v000) + a * (v101 - v001))
                + b * ((one - a) * (v110 - v010) + a * (v111 - v011))
            )
        out[n, 0], out[n, 1], out[n, 2] = x * half * (width - 1), y * half * (height - 1), z * half * (depth - 1)
