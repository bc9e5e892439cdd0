"""The base of the cascade: diffusion over the auto-encoder's latents, around what a regression says of a person.

The network sees the latents' three planes side by side as Rodin's roll-out does (Wang et al. 2023), mixed by
3D-aware convolutions. What it denoises is the residual of the regression, divided by its standard deviation, so
an untrained network already is a Gaussian around a good mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from avatar3d.cascade.blocks import PlaneBlock, PlaneConv, PlaneNorm, doubled, halved
from avatar3d.cascade.regression import Regression
from avatar3d.diffusion.guidance import guide
from avatar3d.diffusion.levels import alpha_sigma, steps
from avatar3d.diffusion.samplers import dpm_solver_2m

Sampler = Callable[[Callable[[Tensor, Tensor], Tensor], Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class BaseConfig:
    """Sizes of a `BaseDenoiser`."""

    latent: int = 8
    condition: int = 0
    """Length of a condition vector (a spec's); a further entry tells whether one is given."""
    widths: tuple[int, int] = (96, 160)
    """Channels at 16 and 8 cells."""
    embedding: int = 256


class BaseDenoiser(nn.Module):
    """(x_t, t, mean, condition) -> v-prediction (Salimans and Ho 2022) of normalized residuals, (B, 3, L, 16, 16).

    `mean` are the regression's normalized latents, which the residual belongs to; `condition` is from `given`,
    or None for the unconditional model.
    """

    def __init__(self, config: BaseConfig) -> None:
        super().__init__()
        self.config = config
        fine, coarse = config.widths
        e = config.embedding
        self.time = nn.Linear(32, e)
        self.condition = nn.Linear(config.condition + 1, e)
        self.embed = nn.Sequential(nn.SiLU(), nn.Linear(e, e), nn.SiLU())
        self.enter = PlaneConv(2 * config.latent, fine)
        self.down = PlaneBlock(fine, fine, mixing=True, condition=e)
        self.middle = nn.ModuleList(
            [
                PlaneBlock(fine, coarse, mixing=True, condition=e),
                PlaneBlock(coarse, coarse, mixing=True, condition=e),
            ]
        )
        self.up = PlaneBlock(coarse + fine, fine, mixing=True, condition=e)
        self.norm, self.leave = PlaneNorm(fine), PlaneConv(fine, config.latent)
        nn.init.zeros_(self.leave.conv.weight)
        nn.init.zeros_(self.leave.conv.bias)  # type: ignore[arg-type]

    def forward(
        self,
        x: Float[Tensor, "B 3 L R R"],
        t: Float[Tensor, " B"],
        mean: Float[Tensor, "B 3 L R R"],
        condition: Float[Tensor, "B E"] | None,
    ) -> Float[Tensor, "B 3 L R R"]:
        angles = t[:, None] * torch.exp2(torch.arange(16, device=x.device) * 0.5) * math.pi
        if condition is None:
            condition = x.new_zeros(len(x), self.config.condition + 1)
        e = self.embed(self.time(torch.cat([angles.sin(), angles.cos()], 1)) + self.condition(condition))
        h = self.down(self.enter(torch.cat([x, mean], dim=2)), e)
        low = halved(h)
        for block in self.middle:
            low = block(low, e)
        h = self.up(torch.cat([doubled(low), h], dim=2), e)
        return self.leave(nn.functional.silu(self.norm(h)))


def given(vectors: Float[Tensor, "B D"], kept: Float[Tensor, "B 1"] | None = None) -> Float[Tensor, "B E"]:
    """Spec vectors as conditions: those with `kept` 0 are left out, which the last entry tells."""
    kept = torch.ones_like(vectors[:, :1]) if kept is None else kept
    return torch.cat([vectors * kept, kept], dim=1)


def expected(v: Tensor, x: Tensor, t: Tensor) -> Tensor:
    """x_0 from a v-prediction: alpha x - sigma v (Salimans and Ho 2022, appendix D)."""
    alpha, sigma = (level.view(-1, *[1] * (x.ndim - 1)) for level in alpha_sigma(t))
    return alpha * x - sigma * v


def velocity(x_0: Tensor, noise: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """(x_t, v): alpha x_0 + sigma noise, and alpha noise - sigma x_0."""
    alpha, sigma = (level.view(-1, *[1] * (x_0.ndim - 1)) for level in alpha_sigma(t))
    return alpha * x_0 + sigma * noise, alpha * noise - sigma * x_0


@dataclass(frozen=True)
class Base:
    """A trained base: regression, scales and network."""

    regression: Regression
    """Spec vectors -> flat latents."""
    deviation: Float[Tensor, "3 L R R"]
    """Of the residuals around the regression."""
    spread: Float[Tensor, "3 L R R"]
    """Of the latents themselves; with `center` it normalizes the mean for the network."""
    center: Float[Tensor, "3 L R R"]
    denoiser: BaseDenoiser

    def mean(self, vectors: Float[Tensor, "B D"]) -> Float[Tensor, "B 3 L R R"]:
        """What the regression says of people with these spec vectors."""
        return self.regression(vectors).view(-1, *self.deviation.shape)

    def sample(
        self,
        vectors: Float[Tensor, "B D"],
        noise: Float[Tensor, "B 3 L R R"],
        count: int = 20,
        guidance: float = 1.0,
        sampler: Sampler = dpm_solver_2m,
    ) -> Float[Tensor, "B 3 L R R"]:
        """Latents of people with these spec vectors; the noise decides among all that they leave open."""
        mean = self.mean(vectors)
        normalized = (mean - self.center) / self.spread

        def denoise(x: Tensor, t: Tensor) -> Tensor:
            times = t.to(x).expand(len(x))
            v = self.denoiser(x, times, normalized, given(vectors))
            if guidance != 1.0:
                v = guide(v, self.denoiser(x, times, normalized, None), guidance)
            return expected(v, x, times)

        with torch.no_grad():
            return mean + self.deviation * sampler(denoise, noise, steps(count))
