"""Numba kernels that walk rays through a grid of distances; they release the GIL and do rays [begin, end).

`walk.walk_torch` and `walk.skip_torch` are their twins; the tests hold them together.
"""

from __future__ import annotations

import math
from typing import no_type_check

import numba
import numpy as np


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=True)
@no_type_check
def _distance(values, x, y, z):
    """Trilinear value at a place in units of cells, clamped into the grid."""
    depth, height, width = values.shape
    x = min(max(x, np.float32(0)), np.float32(width - 1))
    y = min(max(y, np.float32(0)), np.float32(height - 1))
    z = min(max(z, np.float32(0)), np.float32(depth - 1))
    i, j, k = max(min(int(z), depth - 2), 0), max(min(int(y), height - 2), 0), max(min(int(x), width - 2), 0)
    c, b, a = x - k, y - j, z - i
    near = values[i, j, k] + c * (values[i, j, k + 1] - values[i, j, k])
    up = values[i, j + 1, k] + c * (values[i, j + 1, k + 1] - values[i, j + 1, k])
    far = values[i + 1, j, k] + c * (values[i + 1, j, k + 1] - values[i + 1, j, k])
    both = values[i + 1, j + 1, k] + c * (values[i + 1, j + 1, k + 1] - values[i + 1, j + 1, k])
    near += b * (up - near)
    far += b * (both - far)
    return near + a * (far - near)


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=True)
@no_type_check
def _tail(depth, beta):
    """`density._antiderivative`."""
    size = abs(depth)
    return 0.5 * (depth + size + beta * math.exp(-size / beta))


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=True)
@no_type_check
def walk_rays(
    begin, end, values, origins, directions, enter, leave, reach, least, beta, near_step, far_step, opaque, pace,
    out_t, out_linked, out_count,
):  # fmt: skip
    """Write the nodes of rays that are in units of cells, with t in metres: `walk.walk`."""
    most = out_t.shape[1]
    for n in range(begin, end):
        ox, oy, oz = origins[n, 0], origins[n, 1], origins[n, 2]
        dx, dy, dz = directions[n, 0], directions[n, 1], directions[n, 2]
        t, last, count, depth = enter[n], leave[n], 0, np.float32(0)
        linked, before, step = False, np.float32(0), np.float32(0)
        while (t < last or linked) and count < most:
            if t >= last:
                # the last link ends where the ray leaves
                step -= t - last
                t = last
            d = _distance(values, ox + t * dx, oy + t * dy, oz + t * dz)
            if d >= reach:
                t += max(d - reach, least)
                linked = False
                continue
            if linked:
                out_linked[n, count - 1] = True
                if abs(before - d) > 0.01 * beta:
                    depth += step * (_tail(-d, beta) - _tail(-before, beta)) / ((before - d) * beta)
                elif d < 0:
                    depth += step * (1 - 0.5 * math.exp(d / beta)) / beta
                else:
                    depth += step * 0.5 * math.exp(-d / beta) / beta
            out_t[n, count] = t
            out_linked[n, count] = False
            count += 1
            if depth > opaque or t >= last:
                break
            step = pace[n] * max(near_step, far_step * abs(d))
            t += step
            linked, before = True, d
        out_count[n] = count


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=True)
@no_type_check
def skip_rays(begin, end, values, origins, directions, start, leave, reach, least, out_t):
    """Write the first t from `start` where the distance is below `reach`, at least `leave` if none is."""
    for n in range(begin, end):
        t, last = start[n], leave[n]
        while t < last:
            d = _distance(
                values,
                origins[n, 0] + t * directions[n, 0],
                origins[n, 1] + t * directions[n, 1],
                origins[n, 2] + t * directions[n, 2],
            )
            if d < reach:
                break
            t += max(d - reach, least)
        out_t[n] = t


@numba.njit(cache=True, nogil=True)
@no_type_check
def pack_rays(begin, end, first, t, linked, out_t, out_linked, out_ray):
    """Move the nodes of each ray to where `first` says."""
    for n in range(begin, end):
        start = first[n]
        for k in range(first[n + 1] - start):
            out_t[start + k] = t[n, k]
            out_linked[start + k] = linked[n, k]
            out_ray[start + k] = n
