"""Numba kernels that walk rays through a grid of filled cells; coordinates are in cells."""

from __future__ import annotations

from typing import no_type_check

import numba
import numpy as np


@numba.njit(cache=True, nogil=True, error_model="numpy")
@no_type_check
def _cell(origins, directions, n, t, size):
    i = min(max(int(origins[n, 0] + t * directions[n, 0]), 0), size - 1)
    j = min(max(int(origins[n, 1] + t * directions[n, 1]), 0), size - 1)
    k = min(max(int(origins[n, 2] + t * directions[n, 2]), 0), size - 1)
    return i, j, k


@numba.njit(cache=True, nogil=True, error_model="numpy")
@no_type_check
def spans(origins, directions, filled, enter, leave, steps, out):
    """out[0], out[1] = beginning of the first and end of the last of `steps` pieces with a filled cell."""
    size = filled.shape[0]
    for n in range(len(enter)):
        width = (leave[n] - enter[n]) / np.float32(steps)
        first, last = 0, steps
        if width > 0:
            while first < steps:
                i, j, k = _cell(origins, directions, n, enter[n] + (first + np.float32(0.5)) * width, size)
                if filled[i, j, k]:
                    break
                first += 1
            while last > first:
                i, j, k = _cell(origins, directions, n, enter[n] + (last - np.float32(0.5)) * width, size)
                if filled[i, j, k]:
                    break
                last -= 1
        else:
            last = 0
        out[0, n] = enter[n] + first * width
        out[1, n] = enter[n] + last * width if last > first else out[0, n]


@numba.njit(cache=True, nogil=True, error_model="numpy")
@no_type_check
def mark_nodes(origins, directions, filled, least, t, widths, opaque, wanted):
    """wanted[n, k]: the node's cell is filled, and what surely is before it lets light through."""
    size = filled.shape[0]
    for n in range(t.shape[0]):
        depth = np.float32(0)
        for m in range(t.shape[1]):
            wanted[n, m] = False
            if widths[n, m] > 0 and depth < opaque:
                i, j, k = _cell(origins, directions, n, t[n, m], size)
                wanted[n, m] = filled[i, j, k]
                depth += least[i, j, k] * widths[n, m]
