"""The mean picture of what is said, by ridge regression: what the prior that ships begins from.

A network without attention to words is slow to learn where what is said shows in a picture. A linear map from
statements times a few functions of the view to principal components of pictures learns it in closed form:

    hint = mean + basis (W (1, s) x b(view))

Put over the background it is a picture already; the network denoises what a picture has beyond it, and sees it in
more channels. At the highest noise levels, where nothing can be seen, the hint is the answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate, pixel_unshuffle

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

    def __call__(self, facts: Float[Tensor, "B S"], angles: Float[Tensor, "B 2"]) -> Float[Tensor, "B C H W"]:
        """Mean pictures of what is said (B, S), seen from azimuth and elevation in radians."""
        flat = self.mean + (features(facts, angles) @ self.weights) @ self.basis
        side = round((len(self.mean) / self.channels) ** 0.5)
        return flat.view(-1, self.channels, side, side)

    def over(
        self, facts: Float[Tensor, "B S"], angles: Float[Tensor, "B 2"], behind: Float[Tensor, "B 3"] | None = None
    ) -> Float[Tensor, "B 4 H W"]:
        """The same over backgrounds (sRGB in [0, 1]; None: mid-grey): colors from -1 to 1, then coverage."""
        color, cover = self(facts, angles).split([3, 1], 1)
        cover = cover.clamp(0, 1)
        behind = facts.new_full((len(facts), 3), 0.5) if behind is None else behind.to(facts)
        color = color.clamp_min(0).minimum(cover) + (1 - cover) * behind[:, :, None, None]
        return torch.cat([2 * color - 1, cover], 1)

    def to(self, like: Tensor) -> Hint:
        """On the device and in the dtype of a tensor."""
        return Hint(self.weights.to(like), self.basis.to(like), self.mean.to(like), self.channels)


def centers(over: Float[Tensor, "B 4 H W"], size: int, fold: int) -> Float[Tensor, "B C h w"]:
    """The colors of `Hint.over` at a size, folded as the network's pictures are."""
    return pixel_unshuffle(interpolate(over[:, :3], size=(size, size), mode="bilinear"), fold)


def view_functions(angles: Float[Tensor, "B 2"]) -> Float[Tensor, "B V"]:
    """Fourier series of the azimuth up to its third multiple, and the elevation with the first."""
    azimuth, elevation = angles.unbind(-1)
    waves = [f(k * azimuth) for k in (1, 2, 3) for f in (torch.sin, torch.cos)]
    rest = torch.stack([*waves, elevation, elevation * waves[0], elevation * waves[1]], -1)
    return torch.cat([torch.ones_like(rest[:, :1]), rest], -1)


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


def save_hint(hint: Hint, path: Path) -> None:
    """As float16."""
    tensors = {name: getattr(hint, name).half() for name in ("weights", "basis", "mean")}
    save_tensors(path, tensors, {"type": HINT_TYPE, "version": "1"})


def load_hint(path: Path) -> Hint:
    """Raises `WeightsError` when the file is missing or broken."""
    tensors, _ = load_tensors(path, HINT_TYPE)
    return Hint(tensors["weights"].float(), tensors["basis"].float(), tensors["mean"].float())
