"""A radiance field of tri-planes: what the cascade makes, open to score distillation and to pictures."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from avatar3d.fields.blob import Blob, blob_logits
from avatar3d.fields.decoder import Decoder, DecoderConfig
from avatar3d.fields.density import laplace_density
from avatar3d.fields.gather import gather_rows
from avatar3d.fields.radiance import RadianceSample
from avatar3d.fields.slopes import finite_slope
from avatar3d.fields.triplane import look_up, to_box
from avatar3d.fields.voxels import BOX
from avatar3d.structures import TriPlane

EMPTY = 0.3
"""Distance in box units that is added where there is no blob."""
BLOB_GAIN = 0.1
"""Box units of distance that a unit of the blob takes off."""
SLOPE_STEP = 0.01
"""Of normals, in box units: as large as the cells, whose kinks these do not see."""


@dataclass(frozen=True)
class PlaneConfig:
    """Sizes and beginning of a `PlaneField`."""

    resolution: int = 64
    """Cells along each side of a plane."""
    decoder: DecoderConfig = DecoderConfig()
    softness: float = 0.02
    """Scale of the density over the distance, in box units."""
    blob: Blob = "gaussian"


class PlaneField(nn.Module):
    """Planes (3, C, R, R) and a decoder; density of its distance (Yariv et al. 2021), of softness `beta`."""

    bounds: Float[Tensor, "2 3"]

    def __init__(
        self,
        config: PlaneConfig | None = None,
        bounds: Float[Tensor, "2 3"] | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.config = c = config or PlaneConfig()
        self.register_buffer("bounds", torch.tensor(BOX) if bounds is None else bounds.clone())
        channels, size = c.decoder.channels, c.resolution
        self.planes = nn.Parameter(0.1 * torch.randn(3, channels, size, size, generator=generator))
        self.decoder = _seeded(Decoder(c.decoder), generator)
        self.log_softness = nn.Parameter(torch.tensor(c.softness).log())

    @classmethod
    def of_triplane(cls, triplane: TriPlane, decoder: Decoder, softness: float = 0.005) -> PlaneField:
        """The tri-plane of a cascade with its decoder, to go on from; both are copied."""
        size, channels = triplane.planes.shape[-1], triplane.planes.shape[1]
        config = PlaneConfig(size, decoder.config, softness, "none")
        assert channels == decoder.config.channels, "planes and decoder belong together"
        field = cls(config, triplane.bounds)
        field.planes = nn.Parameter(triplane.planes.detach().clone())
        field.decoder = copy.deepcopy(decoder)
        return field.to(triplane.planes)

    @property
    def unit(self) -> float:
        """Length of one unit of distance: half the box's height."""
        return 0.5 * float(self.bounds[1, 1] - self.bounds[0, 1])

    def forward(self, points: Float[Tensor, "N 3"]) -> RadianceSample:
        distance, colors = self._decoded(to_box(points, self.bounds))
        density = laplace_density(distance, self.log_softness.exp()) / self.unit
        return RadianceSample(density, colors.sigmoid())

    def _decoded(self, at: Float[Tensor, "N 3"]) -> tuple[Float[Tensor, " N"], Float[Tensor, "N 3"]]:
        """Distance in box units, and color logits."""
        if self.planes.device.type == "cpu" and self.planes.dtype == at.dtype == torch.float32:
            distance, colors, _ = self.decoder.rows(gather_rows(self.planes, at))
        else:
            far, painted, _ = self.decoder(look_up(self.planes[None], at[None]))
            distance, colors = far[0], painted[0].T
        if self.config.blob != "none":
            distance = distance + EMPTY - BLOB_GAIN * blob_logits(at, self.config.blob)
        return distance, colors

    def slope(self, points: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
        """Direction in which the density grows, against the distance; by differences, since look-ups can be
        differentiated only once. Not its length."""

        def depth(at: Float[Tensor, "M 3"]) -> Float[Tensor, " M"]:
            return -self._decoded(to_box(at, self.bounds))[0]

        return finite_slope(depth, points, SLOPE_STEP * self.unit)

    def anneal(self, progress: float) -> None:
        """Planes show all that they have from the beginning."""


def _seeded(decoder: Decoder, generator: torch.Generator | None) -> Decoder:
    """Its weights drawn from a generator instead of the global state."""
    with torch.no_grad():
        for layer in (decoder.enter, decoder.middle, decoder.leave):
            fan = layer.weight.shape[1]
            layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator) * fan**-0.5)
            layer.bias.zero_()  # type: ignore[union-attr]
        decoder.leave.weight.mul_(0.1)
    return decoder
