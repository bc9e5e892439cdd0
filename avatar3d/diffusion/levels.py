"""Noise levels of the variance-preserving diffusion: x_t = alpha(t) x_0 + sigma(t) noise, t from 0 to 1."""

from __future__ import annotations

import math

import torch
from torch import Tensor

T_MIN, T_MAX = 0.002, 0.998
"""Sampling starts at T_MAX and its last step goes to t = 0."""


def alpha_sigma(t: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine levels without offset (Nichol and Dhariwal 2021, equation 17): alpha^2 + sigma^2 = 1."""
    return torch.cos(0.5 * math.pi * t), torch.sin(0.5 * math.pi * t)


def steps(count: int) -> Tensor:
    """(count + 1,) float64 times from T_MAX down to 0, evenly spaced but for the last, which leaves T_MIN."""
    if count < 1:
        raise ValueError(f"sampling needs at least 1 step, got {count}")
    times = torch.linspace(T_MAX, T_MIN, count, dtype=torch.float64)
    return torch.cat([times, torch.zeros(1, dtype=torch.float64)])
