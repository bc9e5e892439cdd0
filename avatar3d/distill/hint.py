"""The mean picture of what is said, by ridge regression: a hint that the prior that ships denoises with.

A network without attention to words is slow to learn where what is said shows in a picture. A linear map from
statements times a few functions of the view to principal components of pictures learns it in closed form:

    hint = mean + basis (W (1, s) x b(view))

What the network does not take from the hint is added to its clean picture: a gain, fitted by least squares for
each noise level (`fit_gains`), times what the hint says beyond the mean of all people and views.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from avatar3d.weights import load_tensors, save_tensors

HINT_TYPE = "avatar3d.hint"
VIEWS = 10
"""Functions of the view."""


@dataclass(frozen=True)
class Hint:
    """Weights of the regression."""

    weights: Float[Tensor, "F P"]
    basis: Float[Tensor, "P D"]
    mean: Float[Tensor, " D"]
    channels: int = 4
    """Colors times coverage, and coverage."""
    gains: Float[Tensor, " G"] | None = None
    """Of `beyond`, at times evenly spread from 0 to 1."""

    def __call__(self, facts: Float[Tensor, "B S"], angles: Float[Tensor, "B 2"]) -> Float[Tensor, "B C H W"]:
        """Mean pictures of what is said (B, S), seen from azimuth and elevation in radians."""
        flat = self.mean + (features(facts, angles) @ self.weights) @ self.basis
        side = round((len(self.mean) / self.channels) ** 0.5)
        return flat.view(-1, self.channels, side, side)

    def beyond(
        self, facts: Float[Tensor, "B S"], angles: Float[Tensor, "B 2"], size: int
    ) -> Float[Tensor, "B 3 Z Z"]:
        """What is said of view and person beyond the mean of all: colors from -1 to 1 over mid-grey, of a size."""
        nobody = self(torch.zeros_like(facts[:1]), torch.full_like(angles[:1], torch.nan))
        gap = self(facts, angles) - nobody
        return interpolate(2 * gap[:, :3] - gap[:, 3:], size=(size, size), mode="bilinear")

    def gain(self, t: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
        """Between the times of `gains` linear."""
        assert self.gains is not None
        at = t.clamp(0, 1) * (len(self.gains) - 1)
        low = at.floor().long().clamp_max(len(self.gains) - 2)
        return torch.lerp(self.gains[low], self.gains[low + 1], (at - low).to(self.gains))

    def to(self, like: Tensor) -> Hint:
        """On the device and in the dtype of a tensor."""
        gains = None if self.gains is None else self.gains.to(like)
        return Hint(self.weights.to(like), self.basis.to(like), self.mean.to(like), self.channels, gains)


def view_functions(angles: Float[Tensor, "B 2"]) -> Float[Tensor, "B V"]:
    """Fourier series of the azimuth up to its third multiple, and the elevation with the first.

    Angles that are not numbers stand for an unknown view: the mean over all azimuths, level.
    """
    unknown = angles.isnan().any(-1, keepdim=True)
    azimuth, elevation = angles.nan_to_num().unbind(-1)
    waves = [f(k * azimuth) for k in (1, 2, 3) for f in (torch.sin, torch.cos)]
    rest = torch.stack([*waves, elevation, elevation * waves[0], elevation * waves[1]], -1)
    return torch.cat([torch.ones_like(rest[:, :1]), torch.where(unknown, 0.0, rest)], -1)


def features(facts: Float[Tensor, "B S"], angles: Float[Tensor, "B 2"]) -> Float[Tensor, "B F"]:
    """(1, statements) times the functions of the view, flat."""
    said = torch.cat([torch.ones_like(facts[:, :1]), facts], 1)
    return (said[:, :, None] * view_functions(angles).to(facts)[:, None]).flatten(1)


def fit(
    facts: Float[Tensor, "N S"],
    angles: Float[Tensor, "N 2"],
    pictures: Float[Tensor, "N C H W"],
    components: int = 256,
    ridge: float = 30.0,
    portion: int = 4096,
) -> Hint:
    """Least squares with a penalty of `ridge` on all weights but those of the plain view functions."""
    flat = pictures.flatten(1)
    mean = flat.mean(0)
    sketch = torch.randn(flat.shape[1], components + 32, generator=torch.Generator().manual_seed(0))
    orthogonal = torch.linalg.qr((flat - mean) @ sketch)[0]
    basis = torch.linalg.svd(orthogonal.T @ (flat - mean), full_matrices=False)[2][:components]
    size = (1 + facts.shape[1]) * VIEWS
    gram, cross = torch.zeros(size, size), torch.zeros(size, len(basis))
    for rows in torch.arange(len(flat)).split(portion):
        phi = features(facts[rows], angles[rows])
        gram += phi.T @ phi
        cross += phi.T @ ((flat[rows] - mean) @ basis.T)
    penalty = torch.full((size,), ridge)
    penalty[:VIEWS] = 1e-3 * ridge
    gram.diagonal().add_(penalty)
    weights = torch.cholesky_solve(cross, torch.linalg.cholesky(gram))
    return Hint(weights, basis, mean, pictures.shape[1])


def fit_gains(missing: Float[Tensor, "T B 3 Z Z"], beyond: Float[Tensor, "B 3 Z Z"]) -> Float[Tensor, " T"]:
    """For each of T times the factor of `beyond` that comes nearest to what B clean pictures have beyond those
    that the network makes of their noisy ones; none is below 0."""
    return ((missing * beyond).sum((1, 2, 3, 4)) / beyond.square().sum().clamp_min(1e-9)).clamp_min(0)


def save_hint(hint: Hint, path: Path) -> None:
    """As float16."""
    names = ("weights", "basis", "mean", *(() if hint.gains is None else ("gains",)))
    tensors = {name: getattr(hint, name).half() for name in names}
    save_tensors(path, tensors, {"type": HINT_TYPE, "version": "1"})


def load_hint(path: Path) -> Hint:
    """Raises `WeightsError` when the file is missing or broken."""
    tensors, _ = load_tensors(path, HINT_TYPE)
    gains = tensors["gains"].float() if "gains" in tensors else None
    return Hint(tensors["weights"].float(), tensors["basis"].float(), tensors["mean"].float(), gains=gains)
