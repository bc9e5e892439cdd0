"""The ways to make a bust that `evaluate_cascade.py` compares, as plain functions.

c is what can be said of a person: the statements that hold, as zeros and ones. z is the spec. Planes come from the
latent L that each method finds:

    encoded                    L of the avatar itself: the ceiling of everything below
    ridge, ridge + Gaussian    c -> L by ridge regression: the baseline; and with its residuals as a Gaussian
    cascade, mean              z of p(z | c), then the base's regression alone
    cascade                    z of p(z | c), then L of p(L | z) by diffusion: the product
    cascade, guidance 2
    spec, mean; spec           the same with the avatar's own z
    prompt                     as `cascade`, from the few statements of the caption alone
    encoded, bilinear x 2      planes of 128 cells from the encoded ones, by interpolation
    encoded, upsampled x 2     and by the upsampler
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from avatar3d.cascade.autoencoder import AutoEncoder
from avatar3d.cascade.base import Base
from avatar3d.cascade.blocks import bilinear
from avatar3d.cascade.charts import chart_tensor
from avatar3d.cascade.regression import fit
from avatar3d.cascade.sampling import Cascade, fine_planes, sample_latents
from avatar3d.cascade.upsampler import FINE_SIZE, Upsampler
from avatar3d.cascade.weights import load_autoencoder, load_base, load_upsampler
from avatar3d.conditioning.prompt import sample_from
from avatar3d.engine.statements import statements
from avatar3d.evaluation.busts import Method, Subject
from avatar3d.fields.decoder import TriPlaneField
from avatar3d.render.rays import Field
from avatar3d.spec import AvatarSpec, spec_to_vector
from avatar3d.structures import TriPlane

Sampler = Callable[[Sequence[str], Sequence[int]], Sequence[Field]]
"""Statements and seeds -> a field for each seed."""


def load_parts(folder: Path) -> tuple[AutoEncoder, Base | None, Upsampler | None]:
    """The trained parts in a folder; those that are missing leave their rows out of the tables.

    Raises `WeightsError` when there is no auto-encoder.
    """
    base, upsampler = folder / "base.safetensors", folder / "upsampler.safetensors"
    return (
        load_autoencoder(folder / "autoencoder.safetensors"),
        load_base(base) if base.exists() else None,
        load_upsampler(upsampler) if upsampler.exists() else None,
    )


def build_methods(
    autoencoder: AutoEncoder, base: Base | None, upsampler: Upsampler | None, training: Sequence[Subject]
) -> dict[str, Method]:
    """Name -> method. The baselines are fitted to the training avatars' latents."""

    def fields(planes: Tensor, subjects: Sequence[Subject]) -> list[Field]:
        return [
            TriPlaneField(TriPlane(own, subject.bounds, "autoencoder"), autoencoder.field)
            for own, subject in zip(planes, subjects, strict=True)
        ]

    def decoded(latents: Callable[[Sequence[Subject]], Tensor]) -> Method:
        return lambda subjects: fields(autoencoder.planes(latents(subjects)), subjects)

    methods = {"encoded": decoded(lambda subjects: encoded(autoencoder, subjects))}
    methods |= {name: decoded(latents) for name, latents in regressions(autoencoder, training).items()}
    if base is not None:
        methods |= {name: decoded(latents) for name, latents in sampled(base).items()}
    if upsampler is not None:

        def finer(invent: bool) -> Method:
            def method(subjects: Sequence[Subject]) -> list[Field]:
                planes = autoencoder.planes(encoded(autoencoder, subjects))
                if invent:
                    whole = Cascade(autoencoder, base, upsampler)  # type: ignore[arg-type]  # the base is not used
                    return fields(fine_planes(whole, planes, seeds_of(subjects)), subjects)
                return fields(bilinear(planes, FINE_SIZE), subjects)

            return method

        methods |= {"encoded, bilinear x 2": finer(False), "encoded, upsampled x 2": finer(True)}
    return methods


Latents = Callable[[Sequence[Subject]], Tensor]
"""Avatars -> (B, 3, L, R, R)."""


def regressions(autoencoder: AutoEncoder, training: Sequence[Subject]) -> dict[str, Latents]:
    """Ridge regression from statements to latents, and with a normal distribution of what it leaves open."""
    latents = encoded(autoencoder, training)
    ridge, left_out = fit(said_of(training), latents.flatten(1), degree=1)
    residuals = latents - left_out.view_as(latents)

    def mean(subjects: Sequence[Subject]) -> Tensor:
        return ridge(said_of(subjects)).view(-1, *latents.shape[1:])

    def gaussian(subjects: Sequence[Subject]) -> Tensor:
        # random mixtures of the residuals have exactly their covariance
        mixtures = torch.stack([seeded(seed, (len(residuals),)) for seed in seeds_of(subjects)])
        return mean(subjects) + torch.einsum("bn,n...->b...", mixtures / len(residuals) ** 0.5, residuals)

    return {"ridge": mean, "ridge + Gaussian": gaussian}


def sampled(base: Base) -> dict[str, Latents]:
    """What the base makes of specs: the avatars' own, or others of whom the same can be said."""

    def diffused(specs: Callable[[Subject], AvatarSpec], guidance: float = 1.0) -> Latents:
        def latents(subjects: Sequence[Subject]) -> Tensor:
            noise = torch.stack([seeded(seed, base.deviation.shape) for seed in seeds_of(subjects)])
            return base.sample(vectors_of([specs(s) for s in subjects]), noise, guidance=guidance)

        return latents

    def alike(subject: Subject) -> AvatarSpec:
        names = [name for name, true in zip(statements(), subject.row["true"].tolist(), strict=True) if true]
        return sample_from(names, subject.spec.seed)[0]

    return {
        "cascade, mean": lambda subjects: base.mean(vectors_of([alike(s) for s in subjects])),
        "cascade": diffused(alike),
        "cascade, guidance 2": diffused(alike, 2.0),
        "spec, mean": lambda subjects: base.mean(vectors_of([s.spec for s in subjects])),
        "spec": diffused(lambda s: s.spec),
        "prompt": diffused(lambda s: sample_from(s.said, s.spec.seed)[0]),
    }


def build_sampler(autoencoder: AutoEncoder, base: Base, like: Subject) -> Sampler:
    """Statements through text model and base, in the box of some avatar."""

    def sampler(said: Sequence[str], seeds: Sequence[int]) -> list[Field]:
        specs = [sample_from(said, seed)[0] for seed in seeds]
        whole = Cascade(autoencoder, base, None)  # type: ignore[arg-type]  # planes of 64 cells are enough
        planes = autoencoder.planes(sample_latents(whole, specs, list(seeds)))
        return [whole.field(TriPlane(own, like.bounds, "autoencoder")) for own in planes]

    return sampler


@torch.no_grad()
def encoded(autoencoder: AutoEncoder, subjects: Sequence[Subject]) -> Tensor:
    """(B, 3, L, R, R) latents of the avatars' charts."""
    charts = [torch.stack([s.row["charts"] for s in subjects[i : i + 16]]) for i in range(0, len(subjects), 16)]
    return torch.cat([autoencoder.encoder(chart_tensor(c.numpy()))[0] for c in charts])


def said_of(subjects: Sequence[Subject]) -> Tensor:
    """(B, S) which statements hold."""
    return torch.stack([s.row["true"] for s in subjects]).float()


def vectors_of(specs: Sequence[AvatarSpec]) -> Tensor:
    """(B, D) spec vectors."""
    return torch.stack([torch.from_numpy(spec_to_vector(spec)) for spec in specs])


def seeds_of(subjects: Sequence[Subject]) -> list[int]:
    """Draws depend on the avatar alone."""
    return [s.spec.seed for s in subjects]


def seeded(seed: int, shape: Sequence[int]) -> Tensor:
    """Normal numbers."""
    return torch.randn(tuple(shape), generator=torch.Generator().manual_seed(seed))
