"""Surfaces drawn on the planes of a tri-plane: what the auto-encoder reads.

Each plane gets two pictures, one from the high side of the axis that it lacks and one from the low side: what is
there, how far out, its color and normal. They are aligned with the planes, cell by cell, warp included.
"""

from __future__ import annotations

from typing import no_type_check

import numba
import numpy as np
import torch
from jaxtyping import Float, UInt8

from avatar3d.cascade.surface import Surface
from avatar3d.fields.triplane import PLANE_AXES, to_box, warp

CHART = 128
"""Cells along each side of a plane."""
SIDE_CHANNELS = 8
"""Presence, height along the lacking axis, color 3, normal 3."""
CHART_CHANNELS = 2 * SIDE_CHANNELS
THICK = 0.03
"""Points so much lower than a cell's highest still count, in box units."""


def draw_charts(surface: Surface) -> UInt8[np.ndarray, "3 S H W"]:
    """The pictures of a surface, 0 to 255: channels of the high side, then of the low side."""
    bounds = torch.from_numpy(surface.bounds)
    box = to_box(torch.from_numpy(surface.positions), bounds)
    cells = ((warp(box).numpy() + 1.0) * (0.5 * CHART)).astype(np.int32).clip(0, CHART - 1)
    values = np.concatenate([surface.colors, 0.5 + 0.5 * surface.normals], axis=1).astype(np.float32)
    out = np.zeros((3, CHART_CHANNELS, CHART, CHART), np.float32)
    for plane, (column, row) in enumerate(PLANE_AXES):
        height = np.ascontiguousarray(box[:, 3 - column - row].numpy())
        for side, sign in enumerate((1.0, -1.0)):
            part = out[plane, side * SIDE_CHANNELS : (side + 1) * SIDE_CHANNELS]
            _splat(cells[:, row], cells[:, column], sign * height, values, THICK, part)
    return np.round(255.0 * out.clip(0, 1)).astype(np.uint8)


@numba.njit(cache=True, nogil=True)
@no_type_check
def _splat(rows, columns, heights, values, thick, out):
    """Averages of what lies highest in each cell; channel 1 is the height, from [-1, 1] to [0, 1]."""
    size = out.shape[1]
    top = np.full((size, size), -np.inf, np.float32)
    for i in range(heights.shape[0]):
        r, c = rows[i], columns[i]
        top[r, c] = max(top[r, c], heights[i])
    for i in range(heights.shape[0]):
        r, c = rows[i], columns[i]
        if heights[i] >= top[r, c] - thick:
            out[0, r, c] += 1.0
            out[1, r, c] += 0.5 + 0.5 * heights[i]
            for k in range(values.shape[1]):
                out[2 + k, r, c] += values[i, k]
    for r in range(size):
        for c in range(size):
            if out[0, r, c] > 0:
                for k in range(1, out.shape[0]):
                    out[k, r, c] /= out[0, r, c]
                out[0, r, c] = 1.0


def chart_tensor(charts: UInt8[np.ndarray, "*B 3 S H W"]) -> Float[torch.Tensor, "*B 3 S H W"]:
    """Charts as numbers around 0 for the network; absent cells are 0 in every channel."""
    x = torch.as_tensor(charts).float() / 255.0
    sides = x.unflatten(-3, (2, SIDE_CHANNELS))
    present = sides[..., :1, :, :]
    rest = (2.0 * sides[..., 1:, :, :] - 1.0) * present
    return torch.cat([present, rest], dim=-3).flatten(-4, -3)
