"""A radiance field in one network: what DreamFusion optimizes (Poole et al. 2022, appendix A.2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from avatar3d.fields.blob import Blob, blob_logits
from avatar3d.fields.hash_grid import linear
from avatar3d.fields.radiance import RadianceSample
from avatar3d.fields.slopes import analytic_slope
from avatar3d.fields.triplane import to_box
from avatar3d.fields.voxels import BOX

LARGEST = 15.0
"""Density logits end here: exp(15) stops all light within any step."""


@dataclass(frozen=True)
class MlpConfig:
    """Sizes and beginning of an `MlpField`."""

    width: int = 128
    blocks: int = 5
    bands: int = 8
    """Octaves of the encoding."""
    blurred: float = 5e-2
    """Variance of the places that are looked at together, at the beginning."""
    sharp: float = 2e-3
    """And from a third of the training on."""
    blob: Blob = "gaussian"


class MlpField(nn.Module):
    """Integrated positional encoding -> residual blocks -> exponential density and color."""

    bounds: Float[Tensor, "2 3"]
    covariance: Tensor

    def __init__(
        self,
        config: MlpConfig | None = None,
        bounds: Float[Tensor, "2 3"] | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.config = c = config or MlpConfig()
        self.register_buffer("bounds", torch.tensor(BOX) if bounds is None else bounds.clone())
        self.register_buffer("covariance", torch.tensor(c.blurred))
        self.enter = linear(6 * c.bands, c.width, generator)
        self.blocks = nn.ModuleList(Block(c.width, generator) for _ in range(c.blocks))
        self.leave = linear(c.width, 4, generator)
        with torch.no_grad():
            self.leave.weight.mul_(0.1)

    def anneal(self, progress: float) -> None:
        """Sharpen what is seen, until a third of the training is done (A.2: its scale falls evenly from 5e-2 to
        2e-3 in 5k of 15k steps; here these are variances). What is sharp stays sharp, also in another training.
        """
        c, share = self.config, min(1.0, 3 * progress)
        self.covariance.clamp_max_(c.blurred + share * (c.sharp - c.blurred))

    def forward(self, points: Float[Tensor, "N 3"]) -> RadianceSample:
        at = to_box(points, self.bounds)
        hidden = self.enter(integrated_encoding(at, self.covariance, self.config.bands))
        for block in self.blocks:
            hidden = block(hidden)
        out = self.leave(nn.functional.silu(hidden))
        density = (out[:, 0] + blob_logits(at, self.config.blob)).clamp_max(LARGEST).exp()
        return RadianceSample(density, out[:, 1:].sigmoid())

    def slope(self, points: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
        """Gradient of the density."""
        return analytic_slope(self, points)


class Block(nn.Module):
    """x + linear(swish(linear(swish(normalized x))))."""

    def __init__(self, width: int, generator: torch.Generator | None) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.first, self.second = linear(width, width, generator), linear(width, width, generator)

    def forward(self, hidden: Float[Tensor, "N W"]) -> Float[Tensor, "N W"]:
        silu = nn.functional.silu
        return hidden + self.second(silu(self.first(silu(self.norm(hidden)))))


def integrated_encoding(
    points: Float[Tensor, "N 3"], variance: float | Float[Tensor, ""], bands: int
) -> Float[Tensor, "N F"]:
    """Mean sines and cosines of normally distributed places (Barron et al. 2021, mip-NeRF, equation 14).

    sin(2^l x) exp(-4^l variance / 2) and the same of cos, l = 0 ... bands - 1, with one variance for all axes.
    """
    octaves = 2.0 ** torch.arange(bands, device=points.device).to(points)
    angles = (points[:, None] * octaves[:, None]).flatten(1)
    fade = torch.exp(-0.5 * variance * octaves.square()).repeat_interleave(3)
    return torch.cat([angles.sin() * fade, angles.cos() * fade], dim=1)
