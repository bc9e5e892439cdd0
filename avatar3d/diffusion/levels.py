"""Noise levels of the variance-preserving diffusion: x_t = alpha(t) x_0 + sigma(t) noise, t from 0 to 1."""

from __future__ import annotations

import math

import torch
from torch import Tensor

T_MIN, T_MAX = 0.002, 0.998
"""Times that a denoiser is trained on."""

T_FIRST, T_LAST = 0.99, 0.02
"""Sampling starts at T_FIRST; its last step leaves T_LAST for t = 0."""


def alpha_sigma(t: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine levels without offset (Nichol and Dhariwal 2021, equation 17): alpha^2 + sigma^2 = 1."""
    return torch.cos(0.5 * math.pi * t), torch.sin(0.5 * math.pi * t)


def steps(count: int) -> Tensor:
    """(count + 1,) float64 times from T_FIRST to T_LAST, then 0: half-way between even in t and in log SNR.

    Multistep samplers need the second (their error falls fourfold), the middle times, where choices are made,
    the first. Raises ValueError below 2 steps.
    """
    if count < 2:
        raise ValueError(f"sampling needs at least 2 steps, got {count}")
    share = torch.linspace(0.0, 1.0, count, dtype=torch.float64)
    first, last = (math.log(1.0 / math.tan(0.5 * math.pi * t)) for t in (T_FIRST, T_LAST))
    even_snr = 2.0 / math.pi * torch.atan(torch.exp(-(first + (last - first) * share)))
    even_t = T_FIRST + (T_LAST - T_FIRST) * share
    return torch.cat([0.5 * (even_t + even_snr), torch.zeros(1, dtype=torch.float64)])
