"""The cascade as one thing: spec -> latent -> planes of 64 cells -> planes of 128 -> field."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.cascade.autoencoder import LATENT_SIZE, AutoEncoder
from avatar3d.cascade.base import Base
from avatar3d.cascade.charts import chart_tensor
from avatar3d.cascade.upsampler import FINE_SIZE, Upsampler
from avatar3d.cascade.weights import load_autoencoder, load_base, load_upsampler
from avatar3d.fields.decoder import TriPlaneField
from avatar3d.spec import AvatarSpec, spec_to_vector
from avatar3d.structures import TriPlane

DECODER = "autoencoder.safetensors"
"""The decoder's name in tri-planes that the shipped weights made."""
BASE_STEPS, UPSAMPLER_STEPS = 20, 4
"""Sampling steps; see the curves that `scripts/evaluate_cascade.py` prints."""


@dataclass(frozen=True)
class Cascade:
    """Trained parts."""

    autoencoder: AutoEncoder
    base: Base
    upsampler: Upsampler

    def field(self, triplane: TriPlane) -> TriPlaneField:
        """A tri-plane as a field over world points."""
        return TriPlaneField(triplane, self.autoencoder.field)


@cache
def default_cascade() -> Cascade:
    """The shipped weights. Raises `WeightsError` when one is missing or broken."""
    return Cascade(load_autoencoder(), load_base(), load_upsampler())


def sample_latents(
    cascade: Cascade, specs: list[AvatarSpec], seeds: list[int], count: int = BASE_STEPS, guidance: float = 1.0
) -> Float[Tensor, "B 3 L 16 16"]:
    """Latents of people; the seed decides what the spec leaves open. Equal seeds and specs give equal latents."""
    vectors = torch.stack([torch.from_numpy(spec_to_vector(spec)) for spec in specs])
    channels = cascade.base.denoiser.config.latent
    shape = (3, channels, LATENT_SIZE, LATENT_SIZE)
    noise = torch.stack([torch.randn(shape, generator=_generator(seed, 0)) for seed in seeds])
    return cascade.base.sample(vectors, noise, count, guidance)


def base_planes(cascade: Cascade, latents: Float[Tensor, "B 3 L 16 16"]) -> Float[Tensor, "B 3 C 64 64"]:
    """Planes of 64 cells."""
    with torch.no_grad():
        return cascade.autoencoder.planes(latents)


def fine_planes(
    cascade: Cascade, base: Float[Tensor, "B 3 C 64 64"], seeds: list[int], count: int = UPSAMPLER_STEPS
) -> Float[Tensor, "B 3 C 128 128"]:
    """Planes of 128 cells, one avatar at a time."""
    shape = (1, *base.shape[1:3], FINE_SIZE, FINE_SIZE)
    return torch.cat(
        [
            cascade.upsampler.upsample(planes[None], torch.randn(shape, generator=_generator(seed, 1)), count)
            for planes, seed in zip(base, seeds, strict=True)
        ]
    )


def sample_triplane(
    cascade: Cascade, spec: AvatarSpec, seed: int, bounds: Float[Tensor, "2 3"], upsample: bool = True
) -> TriPlane:
    """The tri-plane of a person through the whole cascade, in the box `bounds` (see `fields.box.bust_bounds`)."""
    planes = base_planes(cascade, sample_latents(cascade, [spec], [seed]))
    if upsample:
        planes = fine_planes(cascade, planes, [seed])
    return TriPlane(planes[0], bounds, DECODER)


def encode_charts(cascade: Cascade, charts) -> Float[Tensor, "B 3 L 16 16"]:
    """Latents of surfaces, from their charts (B, 3, S, H, W), uint8: see `cascade.charts.draw_charts`."""
    with torch.no_grad():
        return cascade.autoencoder.encoder(chart_tensor(charts))[0]


def _generator(seed: int, stream: int) -> torch.Generator:
    return torch.Generator().manual_seed(2 * seed + stream)
