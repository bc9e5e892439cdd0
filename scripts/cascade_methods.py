"""The ways to make a bust that `evaluate_cascade.py` compares, as plain functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from avatar3d.cascade.autoencoder import AutoEncoder
from avatar3d.cascade.base import Base
from avatar3d.cascade.blocks import bilinear
from avatar3d.cascade.charts import chart_tensor
from avatar3d.cascade.regression import fit
from avatar3d.cascade.upsampler import FINE_SIZE, Upsampler
from avatar3d.cascade.weights import load_autoencoder, load_base, load_upsampler
from avatar3d.conditioning.prompt import sample_from
from avatar3d.evaluation.busts import Method, Subject
from avatar3d.fields.decoder import TriPlaneField
from avatar3d.render.rays import Field
from avatar3d.spec import spec_to_vector
from avatar3d.structures import TriPlane

Sampler = Callable[[Sequence[str], Sequence[int]], Sequence[Field]]
"""Statements and seeds -> a field for each seed."""


@dataclass(frozen=True)
class Cascade:
    """The trained parts; those that are missing leave their rows out of the tables."""

    autoencoder: AutoEncoder
    base: Base | None
    upsampler: Upsampler | None

    def fields(self, planes: Tensor, subjects: Sequence[Subject]) -> list[Field]:
        """(B, 3, C, R, R) planes as fields in the boxes of some avatars."""
        return [
            TriPlaneField(TriPlane(own, subject.bounds, "autoencoder"), self.autoencoder.field)
            for own, subject in zip(planes, subjects, strict=True)
        ]

    def decoded(self, latents: Tensor, subjects: Sequence[Subject]) -> list[Field]:
        """Latents as fields."""
        return self.fields(self.autoencoder.planes(latents), subjects)


def load_cascade(folder: Path) -> Cascade:
    """The parts in a folder; raises `WeightsError` when there is no auto-encoder."""
    base, upsampler = folder / "base.safetensors", folder / "upsampler.safetensors"
    return Cascade(
        load_autoencoder(folder / "autoencoder.safetensors"),
        load_base(base) if base.exists() else None,
        load_upsampler(upsampler) if upsampler.exists() else None,
    )


def build_methods(cascade: Cascade, training: Sequence[Subject]) -> dict[str, Method]:
    """Name -> method. Baselines are fitted to the training avatars' latents."""
    latents = encoded(cascade, training)
    ridge, left_out = fit(vectors_of(training), latents.flatten(1), degree=1)
    residuals = latents - left_out.view_as(latents)

    def mean(subjects: Sequence[Subject]) -> Tensor:
        return ridge(vectors_of(subjects)).view(-1, *latents.shape[1:])

    def gaussian(subjects: Sequence[Subject]) -> Tensor:
        # random mixtures of the residuals have exactly their covariance
        weights = noise_of(subjects, (len(residuals),)) / len(residuals) ** 0.5
        return mean(subjects) + torch.einsum("bn,n...->b...", weights, residuals)

    methods: dict[str, Method] = {
        "encoded": lambda subjects: cascade.decoded(encoded(cascade, subjects), subjects),
        "ridge": lambda subjects: cascade.decoded(mean(subjects), subjects),
        "ridge + Gaussian": lambda subjects: cascade.decoded(gaussian(subjects), subjects),
    }
    base, upsampler = cascade.base, cascade.upsampler
    if base is not None:
        shape = base.deviation.shape

        def sampled(guidance: float) -> Method:
            def method(subjects: Sequence[Subject]) -> Sequence[Field]:
                noise = noise_of(subjects, shape)
                return cascade.decoded(base.sample(vectors_of(subjects), noise, guidance=guidance), subjects)

            return method

        def prompted(subjects: Sequence[Subject]) -> Sequence[Field]:
            specs = [sample_from(s.said, s.spec.seed)[0] for s in subjects]
            vectors = torch.stack([torch.from_numpy(spec_to_vector(spec)) for spec in specs])
            return cascade.decoded(base.sample(vectors, noise_of(subjects, shape)), subjects)

        methods |= {
            "kernel ridge": lambda subjects: cascade.decoded(base.mean(vectors_of(subjects)), subjects),
            "diffusion": sampled(1.0),
            "diffusion, guidance 2": sampled(2.0),
            "from the prompt alone": prompted,
        }
    if upsampler is not None:

        def finer(invent: bool) -> Method:
            def method(subjects: Sequence[Subject]) -> Sequence[Field]:
                planes = cascade.autoencoder.planes(encoded(cascade, subjects))
                noise = noise_of(subjects, (3, planes.shape[2], FINE_SIZE, FINE_SIZE))
                fine = upsampler.upsample(planes, noise) if invent else bilinear(planes, FINE_SIZE)
                return cascade.fields(fine, subjects)

            return method

        methods |= {"encoded, bilinear x 2": finer(False), "encoded, upsampled x 2": finer(True)}
    return methods


def build_sampler(cascade: Cascade, like: Subject) -> Sampler | None:
    """Prompts through the whole cascade, in the box of some avatar; None without a base."""
    base = cascade.base
    if base is None:
        return None

    def sampler(said: Sequence[str], seeds: Sequence[int]) -> Sequence[Field]:
        specs = [sample_from(said, seed)[0] for seed in seeds]
        vectors = torch.stack([torch.from_numpy(spec_to_vector(spec)) for spec in specs])
        noise = torch.stack([seeded(seed, base.deviation.shape) for seed in seeds])
        return cascade.decoded(base.sample(vectors, noise), [like] * len(specs))

    return sampler


@torch.no_grad()
def encoded(cascade: Cascade, subjects: Sequence[Subject]) -> Tensor:
    """(B, 3, L, R, R) latents of the avatars' charts."""
    charts = [torch.stack([s.row["charts"] for s in subjects[i : i + 16]]) for i in range(0, len(subjects), 16)]
    return torch.cat([cascade.autoencoder.encoder(chart_tensor(c.numpy()))[0] for c in charts])


def vectors_of(subjects: Sequence[Subject]) -> Tensor:
    """(B, D) spec vectors."""
    return torch.stack([s.row["vectors"] for s in subjects])


def noise_of(subjects: Sequence[Subject], shape: Sequence[int]) -> Tensor:
    """Noise that depends on the avatar alone."""
    return torch.stack([seeded(s.spec.seed, shape) for s in subjects])


def seeded(seed: int, shape: Sequence[int]) -> Tensor:
    """Normal numbers."""
    return torch.randn(tuple(shape), generator=torch.Generator().manual_seed(seed))
