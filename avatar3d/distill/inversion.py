"""From a clean picture to the noise that a prior makes it from: DDIM (Song, Meng and Ermon 2021) backwards."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.distill.prior import Levels, clean_from

FIRST = 0.01
"""Time at which inversions start. Models are not asked about pictures without noise."""

NoiseOf = Callable[[Float[Tensor, "B C h w"], Float[Tensor, " B"]], Float[Tensor, "B C h w"]]
Level = tuple[Float[Tensor, " B"], Float[Tensor, " B"]]


def draw(like: Float[Tensor, "B C h w"], generator: torch.Generator) -> Float[Tensor, "B C h w"]:
    """Normal noise; the same in all number formats."""
    noise = torch.randn(like.shape, generator=generator, device=generator.device, dtype=torch.float32)
    return noise.to(like)


def invert(
    clean: Float[Tensor, "B C h w"],
    stop: Float[Tensor, " B"],
    stride: float,
    noise_of: NoiseOf,
    levels: Levels,
    generator: torch.Generator,
    eta: float = 0.0,
) -> Float[Tensor, "B C h w"]:
    """The noisy picture at times `stop` on the way that `noise_of` leads from a clean one, in steps of `stride`.

    Starts from alpha * clean at time `FIRST`: an error of the order of sigma^2.
    """
    now = stop.clamp_max(FIRST)
    alpha, _ = levels(now)
    x = alpha.to(clean).view(-1, 1, 1, 1) * clean
    for k in range(1, math.ceil(float(stop.max()) / stride - 1e-6) + 1):
        then = torch.maximum(now, stop.clamp_max(k * stride))
        x = step(x, noise_of(x, now), levels(now), levels(then), generator, eta)
        now = then
    return x


def step(
    x: Float[Tensor, "B C h w"],
    noise: Float[Tensor, "B C h w"],
    now: Level,
    then: Level,
    generator: torch.Generator | None = None,
    eta: float = 0.0,
) -> Float[Tensor, "B C h w"]:
    """One step to more noise, along the noise that is seen.

    `eta` says how much of what diffusion itself adds on the way is fresh noise: 0 is the deterministic inversion,
    1 the forward process.
    """
    (a, s), (b, r) = ([level.to(x).view(-1, 1, 1, 1) for level in pair] for pair in (now, then))
    fresh = eta * (r * r - (b / a * s).square()).clamp_min(0).sqrt()
    moved = b * clean_from(noise, x, *now) + (r * r - fresh * fresh).clamp_min(0).sqrt() * noise
    return moved if eta == 0 or generator is None else moved + fresh * draw(x, generator)


def noise_between(
    clean: Float[Tensor, "B C h w"],
    noisy: Float[Tensor, "B C h w"],
    alpha: Float[Tensor, " B"],
    sigma: Float[Tensor, " B"],
) -> Float[Tensor, "B C h w"]:
    """The noise that makes this noisy picture of that clean one."""
    a, s = (level.to(clean).view(-1, 1, 1, 1) for level in (alpha, sigma))
    return (noisy - a * clean) / s.clamp_min(1e-6)
