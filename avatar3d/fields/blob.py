"""What density fields begin with: a soft ball in the middle, so that there is something to see and to shape."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

Blob = Literal["gaussian", "cone", "none"]
GAUSSIAN_HEIGHT, GAUSSIAN_WIDTH = 5.0, 0.2
"""DreamFusion's, in a box [-1, 1]^3."""
CONE_HEIGHT, CONE_RADIUS = 10.0, 0.5
"""Magic3D's."""


def gaussian_blob(
    points: Float[Tensor, "*B 3"], height: float = GAUSSIAN_HEIGHT, width: float = GAUSSIAN_WIDTH
) -> Float[Tensor, "*B"]:
    """height * exp(-|x|^2 / (2 width^2)) to be added to density logits (Poole et al. 2022, DreamFusion, A.2)."""
    return height * torch.exp(-points.square().sum(-1) / (2 * width**2))


def cone_blob(
    points: Float[Tensor, "*B 3"], height: float = CONE_HEIGHT, radius: float = CONE_RADIUS
) -> Float[Tensor, "*B"]:
    """height * (1 - |x| / radius): negative beyond the radius, so that little is there (Lin et al. 2022,
    Magic3D)."""
    return height * (1 - points.norm(dim=-1) / radius)


def blob_logits(points: Float[Tensor, "*B 3"], blob: Blob) -> Float[Tensor, "*B"]:
    """What a field adds to its density logits at box coordinates."""
    if blob == "gaussian":
        return gaussian_blob(points)
    return cone_blob(points) if blob == "cone" else torch.zeros_like(points[..., 0])
