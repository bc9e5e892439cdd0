"""Which times a step distills at, and how much they count.

A schedule is (share of the run that is done, batch, generator) -> times. A weighting is (alpha, sigma) -> weights
of a loss's direction, which is in units of noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.errors import InputError

Schedule = Callable[[float, int, torch.Generator], Float[Tensor, " B"]]
Weighting = Callable[[Float[Tensor, " B"], Float[Tensor, " B"]], Float[Tensor, " B"]]


class ScheduleError(InputError):
    """A schedule that makes no sense; the message says why."""


@dataclass(frozen=True)
class Ramp:
    """A number that is `first` until `start`, `last` from `stop` on, and on a line in between."""

    start: float
    first: float
    last: float
    stop: float

    def __post_init__(self) -> None:
        if not self.start < self.stop:
            raise ScheduleError(f"a ramp starts before it stops, got {self.start} and {self.stop}")

    def __call__(self, at: float) -> float:
        share = min(max((at - self.start) / (self.stop - self.start), 0.0), 1.0)
        return (1 - share) * self.first + share * self.last


def value(number: float | Ramp, at: float) -> float:
    """A number that may change in the run, at a place of the run in the ramp's own units."""
    return number(at) if isinstance(number, Ramp) else number


@dataclass(frozen=True)
class Uniform:
    """Any time between two limits (DreamFusion, section 3.2); ramps over the share done move the limits, as
    MVDream (arXiv 2308.16512) and ProlificDreamer (arXiv 2305.16213) do."""

    low: float | Ramp = 0.02
    high: float | Ramp = 0.98

    def __post_init__(self) -> None:
        corners = {0.0, 1.0}
        for limit in (self.low, self.high):
            corners |= {limit.start, limit.stop} if isinstance(limit, Ramp) else set()
        for share in corners:
            _check(value(self.low, share), value(self.high, share))

    def __call__(self, share_done: float, count: int, generator: torch.Generator) -> Float[Tensor, " B"]:
        low, high = value(self.low, share_done), value(self.high, share_done)
        draws = torch.rand(count, generator=generator, device=generator.device, dtype=torch.float32)
        return low + (high - low) * draws


@dataclass(frozen=True)
class Linear:
    """One time for all, which falls evenly (SDI, Lukoianov et al. 2024, arXiv 2405.15891, appendix A, from 1 to
    0.2; these limits are threestudio's)."""

    high: float = 0.98
    low: float = 0.25

    def __post_init__(self) -> None:
        _check(self.low, self.high)

    def __call__(self, share_done: float, count: int, generator: torch.Generator) -> Float[Tensor, " B"]:
        return _constant(self.high + (self.low - self.high) * _share(share_done), count, generator)


@dataclass(frozen=True)
class SquareRoot:
    """One time for all, which falls with the root of the share done (HiFA, Zhu et al. 2023, arXiv 2305.18766)."""

    high: float = 0.98
    low: float = 0.02

    def __post_init__(self) -> None:
        _check(self.low, self.high)

    def __call__(self, share_done: float, count: int, generator: torch.Generator) -> Float[Tensor, " B"]:
        return _constant(self.high + (self.low - self.high) * math.sqrt(_share(share_done)), count, generator)


def uniform(alpha: Float[Tensor, " B"], sigma: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
    """1: the noise itself counts. SJC's and ours."""
    return torch.ones_like(sigma)


def noise_power(alpha: Float[Tensor, " B"], sigma: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
    """sigma^2 (DreamFusion, section 3.2; DreamGaussian, arXiv 2309.16653)."""
    return sigma.square()


def both_powers(alpha: Float[Tensor, " B"], sigma: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
    """alpha sigma^2: little at both ends (one of Fantasia3D's, arXiv 2303.13873)."""
    return alpha * sigma.square()


def noise_to_signal(alpha: Float[Tensor, " B"], sigma: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
    """sigma / alpha: noise in units of clean pictures (LucidDreamer, arXiv 2311.11284; SDI, equation 4)."""
    return sigma / alpha.clamp_min(1e-3)


def signal_to_noise(alpha: Float[Tensor, " B"], sigma: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
    """alpha / sigma: turns noise into the score of SJC (Wang et al. 2023, arXiv 2212.00774)."""
    return alpha / sigma.clamp_min(1e-3)


def _constant(time: float, count: int, generator: torch.Generator) -> Float[Tensor, " B"]:
    return torch.full((count,), time, device=generator.device, dtype=torch.float32)


def _share(done: float) -> float:
    return min(max(done, 0.0), 1.0)


def _check(low: float, high: float) -> None:
    if not 0 <= low <= high <= 1:
        raise ScheduleError(f"times run from 0 to 1, the lower limit first; got {low} and {high}")
