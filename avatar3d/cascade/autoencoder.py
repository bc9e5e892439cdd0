"""Charts of a surface -> compact latent -> tri-plane: the auto-encoder that makes planes learnable.

Planes that are fitted one by one are noise to a diffusion model; out of one shared network they are smooth, and
few numbers hold them (the latent, 3 x 8 x 16 x 16). Trained end to end on labelled points.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from avatar3d.cascade.blocks import PlaneBlock, PlaneConv, PlaneNorm, bilinear, doubled, halved
from avatar3d.cascade.charts import CHART_CHANNELS
from avatar3d.fields.decoder import Decoder, DecoderConfig

LATENT_SIZE = 16
PLANE_SIZE = 64


@dataclass(frozen=True)
class AutoEncoderConfig:
    """Sizes of an `AutoEncoder`."""

    latent: int = 8
    """Channels of the latent."""
    widths: tuple[int, int, int] = (32, 64, 96)
    """Channels of both networks at 64, 32 and 16 cells."""
    field: DecoderConfig = DecoderConfig()


class Encoder(nn.Module):
    """(B, 3, S, 128, 128) charts -> mean and log variance (B, 3, L, 16, 16) of the latent."""

    def __init__(self, config: AutoEncoderConfig) -> None:
        super().__init__()
        fine, middle, coarse = config.widths
        self.enter = nn.Conv2d(3 * CHART_CHANNELS, 3 * fine, 4, stride=2, padding=1, groups=3)
        self.shrink = nn.Conv2d(3 * fine, 3 * middle, 4, stride=2, padding=1, groups=3)
        self.middle = PlaneBlock(middle, middle)
        self.coarse = nn.ModuleList(
            [PlaneBlock(middle, coarse, mixing=True), PlaneBlock(coarse, coarse, mixing=True)]
        )
        self.norm, self.leave = PlaneNorm(coarse), PlaneConv(coarse, 2 * config.latent, 1)
        self.direct = _linear(CHART_CHANNELS, config.latent)

    def forward(
        self, charts: Float[Tensor, "B 3 S H H"]
    ) -> tuple[Float[Tensor, "B 3 L 16 16"], Float[Tensor, "B 3 L 16 16"]]:
        h = self.shrink(nn.functional.silu(self.enter(charts.flatten(1, 2)))).unflatten(1, (3, -1))
        h = halved(self.middle(h))
        for block in self.coarse:
            h = block(h)
        mean, log_variance = self.leave(nn.functional.silu(self.norm(h))).chunk(2, dim=2)
        blurred = nn.functional.avg_pool2d(charts.flatten(1, 2), charts.shape[-1] // LATENT_SIZE)
        return mean + self.direct(blurred.unflatten(1, (3, -1))), log_variance.clamp(-12.0, 4.0)


class PlaneDecoder(nn.Module):
    """(B, 3, L, 16, 16) latents -> (B, 3, C, 64, 64) planes, around a learned mean plane.

    Beside the network, whose normalizations forget levels, the latents enter the planes linearly: so colors of
    large areas are right early.
    """

    def __init__(self, config: AutoEncoderConfig) -> None:
        super().__init__()
        fine, middle, coarse = config.widths
        self.enter = PlaneConv(config.latent, coarse)
        self.place = nn.Parameter(torch.zeros(3, coarse, LATENT_SIZE, LATENT_SIZE))
        self.coarse = nn.ModuleList(
            [PlaneBlock(coarse, coarse, mixing=True), PlaneBlock(coarse, coarse, mixing=True)]
        )
        self.to_middle = PlaneBlock(coarse, middle, mixing=True)
        self.to_fine = PlaneBlock(middle, fine)
        self.norm, self.leave = PlaneNorm(fine), PlaneConv(fine, config.field.channels)
        self.direct = _linear(config.latent, config.field.channels)
        self.base = nn.Parameter(torch.zeros(3, config.field.channels, PLANE_SIZE, PLANE_SIZE))

    def forward(self, latents: Float[Tensor, "B 3 L 16 16"]) -> Float[Tensor, "B 3 C 64 64"]:
        h = self.enter(latents) + self.place
        for block in self.coarse:
            h = block(h)
        h = self.to_middle(doubled(h))
        h = self.to_fine(doubled(h))
        blurred = bilinear(self.direct(latents), PLANE_SIZE)
        return self.base + blurred + self.leave(nn.functional.silu(self.norm(h)))


def _linear(inputs: int, outputs: int) -> PlaneConv:
    """One matrix for each plane, zero at the beginning."""
    layer = PlaneConv(inputs, outputs, 1)
    nn.init.zeros_(layer.conv.weight)
    nn.init.zeros_(layer.conv.bias)  # type: ignore[arg-type]
    return layer


class AutoEncoder(nn.Module):
    """Encoder, plane decoder and the field's decoder, trained together."""

    def __init__(self, config: AutoEncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder, self.planes, self.field = Encoder(config), PlaneDecoder(config), Decoder(config.field)
