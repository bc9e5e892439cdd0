"""What is behind everything: a color for each direction from a small network (DreamFusion, section 3.1)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from avatar3d.fields.hash_grid import linear
from avatar3d.fields.mlp import integrated_encoding

BANDS, WIDTH = 3, 32


class Background(nn.Module):
    """Unit directions (N, 3) -> sRGB colors (N, 3); grey at first."""

    def __init__(self, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.enter, self.leave = linear(6 * BANDS, WIDTH, generator), linear(WIDTH, 3, generator)
        with torch.no_grad():
            self.leave.weight.mul_(0.1)

    def forward(self, directions: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
        encoded = integrated_encoding(directions, 0.0, BANDS)
        return self.leave(nn.functional.silu(self.enter(encoded))).sigmoid()
