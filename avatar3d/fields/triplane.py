"""Tri-planes: three planes of features through a box, looked up at points (Chan et al. 2022, EG3D, section 3).

Box coordinates run from -1 to 1 along each axis. Before the look-up they are warped, so that cells are small at
the face and wide at the box's sides; both maps are smooth, so gradients reach positions.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

PLANE_AXES = ((0, 1), (0, 2), (1, 2))
"""Columns and rows of each plane: XY, XZ, YZ. Every pair of axes once."""

WARP_CENTER = (0.0, -0.15, 0.45)
"""Box coordinates where cells are smallest: the face between eyes and mouth."""
WARP_GAIN = (6.0, 4.0, 4.0)
"""How much smaller cells are there: the cell size grows as sqrt(1 + (gain * distance)^2)."""


def to_box(points: Float[Tensor, "*B 3"], bounds: Float[Tensor, "2 3"]) -> Float[Tensor, "*B 3"]:
    """World points to box coordinates in [-1, 1]."""
    low, high = bounds.to(points)
    return (points - low) * (2.0 / (high - low)) - 1.0


def from_box(points: Float[Tensor, "*B 3"], bounds: Float[Tensor, "2 3"]) -> Float[Tensor, "*B 3"]:
    """Box coordinates to world points: the inverse of `to_box`."""
    low, high = bounds.to(points)
    return (points + 1.0) * (0.5 * (high - low)) + low


def warp(points: Float[Tensor, "*B 3"]) -> Float[Tensor, "*B 3"]:
    """asinh(gain * (x - center)), scaled so that [-1, 1] maps onto [-1, 1]."""
    center, gain = points.new_tensor(WARP_CENTER), points.new_tensor(WARP_GAIN)
    low, high = (points.new_tensor(ends) for ends in warp_ends())
    return (torch.asinh(gain * (points - center)) - low) * (2.0 / (high - low)) - 1.0


def unwarp(points: Float[Tensor, "*B 3"]) -> Float[Tensor, "*B 3"]:
    """The inverse of `warp`."""
    center, gain = points.new_tensor(WARP_CENTER), points.new_tensor(WARP_GAIN)
    low, high = (points.new_tensor(ends) for ends in warp_ends())
    return torch.sinh((points + 1.0) * (0.5 * (high - low)) + low) / gain + center


def warp_ends() -> tuple[list[float], list[float]]:
    """asinh of the box's low and high sides, per axis."""
    pairs = list(zip(WARP_CENTER, WARP_GAIN, strict=True))
    return [math.asinh(g * (-1.0 - c)) for c, g in pairs], [math.asinh(g * (1.0 - c)) for c, g in pairs]


def look_up(planes: Float[Tensor, "B 3 C R R"], points: Float[Tensor, "B N 3"]) -> Float[Tensor, "B 3 C N"]:
    """Bilinear features of each plane at box coordinates; outside of the box those of its nearest side."""
    batch, _, channels, size, _ = planes.shape
    at = warp(points)
    grid = torch.stack([at[..., list(axes)] for axes in PLANE_AXES], dim=1).flatten(0, 1)
    flat = planes.reshape(batch * 3, channels, size, size)
    found = torch.nn.functional.grid_sample(
        flat, grid[:, :, None].to(flat), mode="bilinear", padding_mode="border", align_corners=False
    )
    return found.view(batch, 3, channels, points.shape[1])
