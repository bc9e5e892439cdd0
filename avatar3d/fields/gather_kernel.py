"""Numba kernels for looking up tri-planes on CPUs; they release the GIL and do one range each.

Planes are (3, R, R, C), so that the channels of a cell lie together. `triplane.look_up` is the reference.
"""

from __future__ import annotations

import math
from typing import no_type_check

import numba
import numpy as np


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=True)
@no_type_check
def _warped(value, axis, maps, size):
    """Warped place along an axis in units of cells, and its slope: `triplane.warp`, clamped to centers."""
    center, gain, low, scale = maps[axis, 0], maps[axis, 1], maps[axis, 2], maps[axis, 3]
    x = gain * (value - center)
    root = math.sqrt(x * x + np.float32(1))
    bent = math.log(abs(x) + root)
    if x < 0:
        bent = -bent
    half = np.float32(0.5) * size
    at = (bent - low) * scale * half - np.float32(0.5)
    slope = gain / root * scale * half
    if at < 0:
        return np.float32(0), np.float32(0)
    if at > size - 1:
        return np.float32(size - 1), np.float32(0)
    return at, slope


@numba.njit(cache=True, nogil=True, error_model="numpy")
@no_type_check
def _cell(at, size):
    """First of the two cells around a place; a valid one for places that are no number, too."""
    return max(min(int(at), size - 2), 0)


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=True)
@no_type_check
def gather(begin, end, planes, points, maps, axes, out):
    """out[n, plane * C + c] = bilinear value of points [begin, end)."""
    _, size, _, channels = planes.shape
    at = np.empty(3, np.float32)
    for n in range(begin, end):
        for axis in range(3):
            at[axis], _ = _warped(points[n, axis], axis, maps, size)
        for p in range(3):
            x, y = at[axes[p, 0]], at[axes[p, 1]]
            j, i = _cell(x, size), _cell(y, size)
            b, a = x - np.float32(j), y - np.float32(i)
            w00, w01, w10, w11 = (1 - a) * (1 - b), (1 - a) * b, a * (1 - b), a * b
            for c in range(channels):
                out[n, p * channels + c] = (
                    w00 * planes[p, i, j, c] + w01 * planes[p, i, j + 1, c]
                    + w10 * planes[p, i + 1, j, c] + w11 * planes[p, i + 1, j + 1, c]
                )  # fmt: skip


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=True)
@no_type_check
def scatter(p, points, maps, axes, slopes, out):
    """Add the gradient of one plane's cells to out (R, R, C)."""
    size, _, channels = out.shape
    for n in range(points.shape[0]):
        x, _ = _warped(points[n, axes[p, 0]], axes[p, 0], maps, size)
        y, _ = _warped(points[n, axes[p, 1]], axes[p, 1], maps, size)
        j, i = _cell(x, size), _cell(y, size)
        b, a = x - np.float32(j), y - np.float32(i)
        w00, w01, w10, w11 = (1 - a) * (1 - b), (1 - a) * b, a * (1 - b), a * b
        for c in range(channels):
            slope = slopes[n, p * channels + c]
            out[i, j, c] += w00 * slope
            out[i, j + 1, c] += w01 * slope
            out[i + 1, j, c] += w10 * slope
            out[i + 1, j + 1, c] += w11 * slope


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=True)
@no_type_check
def slope_of_points(begin, end, planes, points, maps, axes, slopes, out):
    """Write the gradient of points [begin, end)."""
    _, size, _, channels = planes.shape
    for n in range(begin, end):
        for axis in range(3):
            out[n, axis] = 0
        for p in range(3):
            column, row = axes[p, 0], axes[p, 1]
            x, along_x = _warped(points[n, column], column, maps, size)
            y, along_y = _warped(points[n, row], row, maps, size)
            j, i = _cell(x, size), _cell(y, size)
            b, a = x - np.float32(j), y - np.float32(i)
            over, down = np.float32(0), np.float32(0)
            for c in range(channels):
                slope = slopes[n, p * channels + c]
                v00, v01 = planes[p, i, j, c], planes[p, i, j + 1, c]
                v10, v11 = planes[p, i + 1, j, c], planes[p, i + 1, j + 1, c]
                over += slope * ((1 - a) * (v01 - v00) + a * (v11 - v10))
                down += slope * ((1 - b) * (v10 - v00) + b * (v11 - v01))
            out[n, column] += over * along_x
            out[n, row] += down * along_y
