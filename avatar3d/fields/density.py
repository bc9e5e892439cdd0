"""Density of a surface that is given by its distance (Yariv et al. 2021, VolSDF, equations 2 and 3).

    sigma(d) = CDF(-d / beta) / beta,   CDF of the Laplace distribution with mean 0 and scale 1

Light that goes straight into the surface is half gone about 0.4 beta behind it.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def laplace_density(distance: Float[Tensor, "*B"], beta: float | Tensor) -> Float[Tensor, "*B"]:
    """Density per metre at a signed distance (negative inside); `beta` in metres, the softness of the surface."""
    tail = 0.5 * torch.exp(-distance.abs() / beta)
    return torch.where(distance > 0, tail, 1 - tail) / beta


def optical_depth(
    first: Float[Tensor, "*B"], last: Float[Tensor, "*B"], length: Float[Tensor, "*B"], beta: float | Tensor
) -> Float[Tensor, "*B"]:
    """Integral of the density along segments on which the distance runs linearly from `first` to `last`.

    It is exact for planes, so that few samples suffice: its error falls with the curvature of the distance and
    not with the slope of the density. The share of light that gets through is exp(-depth).
    """
    step = first - last
    flat = step.abs() < 0.01 * beta
    slope = (_antiderivative(-last, beta) - _antiderivative(-first, beta)) / torch.where(flat, beta, step)
    middle = beta * laplace_density(0.5 * (first + last), beta)
    return torch.where(flat, middle, slope) * length / beta


def _antiderivative(depth: Float[Tensor, "*B"], beta: float | Tensor) -> Float[Tensor, "*B"]:
    """Of CDF(depth / beta)."""
    size = depth.abs()
    return 0.5 * (depth + size + beta * torch.exp(-size / beta))
