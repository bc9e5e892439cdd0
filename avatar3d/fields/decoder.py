"""Features of a tri-plane -> surface, color, part: the small network that all tri-planes of one model share."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from avatar3d.fields.gather import gather_rows
from avatar3d.fields.triplane import look_up, to_box
from avatar3d.structures import PART_KINDS, FieldSample, TriPlane

RGB_GAIN = 2.0
"""Weight of the direct colors in the color logits."""


@dataclass(frozen=True)
class DecoderConfig:
    """Sizes of a `Decoder`."""

    channels: int = 16
    """Of each plane; the first three are also added up as color logits."""
    width: int = 64


class Decoder(nn.Module):
    """(B, 3, C, N) features -> distance in box units, color logits and part logits, channels first.

    Channels 0 to 2 of the planes go straight into the colors, besides through the network: without that a
    frozen decoder paints colors that it saw rarely as their neighbours.
    """

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.enter = nn.Conv1d(3 * config.channels, width, 1)
        self.middle = nn.Conv1d(width, width, 1)
        self.leave = nn.Conv1d(width, 4 + len(PART_KINDS), 1)
        nn.init.zeros_(self.leave.bias)  # type: ignore[arg-type]

    def forward(
        self, features: Float[Tensor, "B 3 C N"]
    ) -> tuple[Float[Tensor, "B N"], Float[Tensor, "B 3 N"], Float[Tensor, "B K N"]]:
        hidden = nn.functional.silu(self.enter(features.flatten(1, 2)))
        hidden = nn.functional.silu(self.middle(hidden))
        out = self.leave(hidden)
        direct = features[:, :, :3].sum(1)
        return out[:, 0], out[:, 1:4] + RGB_GAIN * direct, out[:, 4:]

    def rows(self, features: Float[Tensor, "N F"]) -> tuple[Float[Tensor, " N"], Float[Tensor, "N 3"], Tensor]:
        """The same for (N, 3 C) features, points first: distance, color logits and part logits (N, K)."""
        linear, silu = nn.functional.linear, nn.functional.silu
        hidden = silu(linear(features, self.enter.weight[..., 0], self.enter.bias))
        hidden = silu(linear(hidden, self.middle.weight[..., 0], self.middle.bias))
        out = linear(hidden, self.leave.weight[..., 0], self.leave.bias)
        direct = features.unflatten(1, (3, -1))[..., :3].sum(1)
        return out[:, 0], out[:, 1:4] + RGB_GAIN * direct, out[:, 4:]


class TriPlaneField:
    """A tri-plane with its decoder, as a field over world points: call it with (N, 3) metres."""

    def __init__(self, triplane: TriPlane, decoder: Decoder) -> None:
        self.triplane, self.decoder = triplane, decoder

    @property
    def bounds(self) -> Float[Tensor, "2 3"]:
        """Low and high corner of the box, metres."""
        return self.triplane.bounds

    @property
    def unit(self) -> float:
        """Metres of one unit of distance: half the box's height."""
        return 0.5 * float(self.bounds[1, 1] - self.bounds[0, 1])

    def __call__(self, points: Float[Tensor, "N 3"]) -> FieldSample:
        planes, places = self.triplane.planes, to_box(points, self.bounds)
        if planes.device.type == "cpu" and planes.dtype == places.dtype == torch.float32:
            distance, colors, logits = self.decoder.rows(gather_rows(planes, places))
            return FieldSample(distance * self.unit, colors.sigmoid(), logits)
        distance, colors, logits = self.decoder(look_up(planes[None], places[None]))
        return FieldSample(distance[0] * self.unit, colors[0].T.sigmoid(), logits[0].T)
