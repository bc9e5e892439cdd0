"""Deterministic samplers as plain functions of one signature: (denoise, x, times) -> x_0.

`denoise(x, t)` returns the expected x_0 given x (B, D) at time t (a scalar tensor). `x` is normal noise and
`times` comes from `levels.steps`. All three integrate the probability flow ODE of the variance-preserving
diffusion; they differ in order and in evaluations per step.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from avatar3d.diffusion.levels import alpha_sigma

Denoise = Callable[[Tensor, Tensor], Tensor]


def ddim(denoise: Denoise, x: Tensor, times: Tensor) -> Tensor:
    """First order, one evaluation a step (Song, Meng and Ermon 2021, equation 12 with eta = 0)."""
    for now, then in pairwise(times):
        x = _move(x, denoise(x, now), now, then)
    return x


def heun(denoise: Denoise, x: Tensor, times: Tensor) -> Tensor:
    """Second order, two evaluations a step but for the last (Karras et al. 2022, algorithm 1).

    The average of the two estimates of x_0 is taken in the exponential form of `ddim`.
    """
    for now, then in pairwise(times):
        first = denoise(x, now)
        moved = _move(x, first, now, then)
        if float(then) > 0:
            moved = _move(x, 0.5 * (first + denoise(moved, then)), now, then)
        x = moved
    return x


def dpm_solver_2m(denoise: Denoise, x: Tensor, times: Tensor) -> Tensor:
    """Second order multistep, one evaluation a step (Lu et al. 2022, DPM-Solver++, algorithm 2)."""
    before: Tensor | None = None
    length_before = torch.zeros(())
    for now, then in pairwise(times):
        estimate = denoise(x, now)
        if float(then) == 0.0:
            return _move(x, estimate, now, then)
        length = _half_log_snr(then) - _half_log_snr(now)
        blended = estimate
        if before is not None:
            ratio = (length_before / length).to(x)
            blended = (1.0 + 0.5 / ratio) * estimate - 0.5 / ratio * before
        x = _move(x, blended, now, then)
        before, length_before = estimate, length
    return x


def _move(x: Tensor, estimate: Tensor, now: Tensor, then: Tensor) -> Tensor:
    """Keep the noise that x holds if x_0 is the estimate, at the next level."""
    alpha, sigma = (level.to(x) for level in alpha_sigma(now))
    if float(then) == 0.0:
        return estimate
    alpha_then, sigma_then = (level.to(x) for level in alpha_sigma(then))
    return alpha_then * estimate + sigma_then / sigma * (x - alpha * estimate)


def _half_log_snr(t: Tensor) -> Tensor:
    alpha, sigma = alpha_sigma(t)
    return torch.log(alpha / sigma)
