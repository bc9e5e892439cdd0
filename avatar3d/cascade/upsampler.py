"""From planes of 64 cells to 128: what the detail is (`DetailNet`), and how it is invented (`Upsampler`).

`DetailNet` reads the charts of a surface at full resolution and adds what the base planes lost: its planes are
the truth that the upsampler learns. The upsampler sees the base planes alone and predicts the detail from noise
(x_0-prediction, Ramesh et al. 2022; condition augmentation, Ho et al. 2022, Cascaded Diffusion Models, section 4).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from avatar3d.cascade.blocks import PlaneConv, bilinear
from avatar3d.cascade.charts import CHART_CHANNELS
from avatar3d.diffusion.levels import steps
from avatar3d.diffusion.samplers import ddim

FINE_SIZE = 128


@dataclass(frozen=True)
class DetailConfig:
    """Sizes of a `DetailNet` and an `Upsampler`."""

    channels: int = 16
    """Of the planes."""
    width: int = 32


class DetailNet(nn.Module):
    """Base planes (B, 3, C, 64, 64) and charts (B, 3, S, 128, 128) -> planes (B, 3, C, 128, 128)."""

    def __init__(self, config: DetailConfig) -> None:
        super().__init__()
        self.enter = PlaneConv(config.channels + CHART_CHANNELS, config.width, mixing=True)
        self.middle = PlaneConv(config.width, config.width, mixing=True)
        self.leave = PlaneConv(config.width, config.channels)
        _start_at_zero(self.leave)

    def forward(
        self, base: Float[Tensor, "B 3 C R R"], charts: Float[Tensor, "B 3 S H H"]
    ) -> Float[Tensor, "B 3 C H H"]:
        coarse = bilinear(base, charts.shape[-1])
        h = nn.functional.silu(self.enter(torch.cat([coarse, charts], dim=2)))
        h = nn.functional.silu(self.middle(h))
        return coarse + self.leave(h)


class Upsampler(nn.Module):
    """(x_t, t, base) -> the detail: what to add to the bilinear base planes, (B, 3, C, 128, 128).

    x_t is a noisy detail in units of `deviation`; the base may be augmented: `level` (B,) tells how much noise,
    in standard deviations of the planes, was added to it.
    """

    def __init__(self, config: DetailConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.times = nn.Linear(3, width)
        self.enter = PlaneConv(2 * config.channels, width, mixing=True)
        self.middle = PlaneConv(width, width, mixing=True)
        self.leave = PlaneConv(width, config.channels)
        self.deviation: Tensor
        self.spread: Tensor
        self.register_buffer("deviation", torch.ones(3, config.channels, 1, 1))
        self.register_buffer("spread", torch.ones(3, config.channels, 1, 1))
        _start_at_zero(self.leave)

    def forward(
        self,
        x: Float[Tensor, "B 3 C H H"],
        t: Float[Tensor, " B"],
        base: Float[Tensor, "B 3 C R R"],
        level: Float[Tensor, " B"],
    ) -> Float[Tensor, "B 3 C H H"]:
        coarse = bilinear(base / self.spread, x.shape[-1])
        e = self.times(torch.stack([t, t * t, level], dim=1))[:, None, :, None, None]
        h = nn.functional.silu(self.enter(torch.cat([x, coarse], dim=2)) + e)
        h = nn.functional.silu(self.middle(h))
        return self.leave(h)

    def upsample(
        self, base: Float[Tensor, "B 3 C R R"], noise: Float[Tensor, "B 3 C H H"], count: int = 4
    ) -> Float[Tensor, "B 3 C H H"]:
        """Base planes with invented detail."""
        level = base.new_zeros(len(base))

        def denoise(x: Tensor, t: Tensor) -> Tensor:
            return self(x, t.to(x).expand(len(x)), base, level)

        with torch.no_grad():
            detail = ddim(denoise, noise, steps(count))
        return bilinear(base, noise.shape[-1]) + self.deviation * detail


def _start_at_zero(conv: PlaneConv) -> None:
    nn.init.zeros_(conv.conv.weight)
    nn.init.zeros_(conv.conv.bias)  # type: ignore[arg-type]
