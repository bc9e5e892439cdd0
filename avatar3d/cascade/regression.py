"""Kernel ridge regression from specs or statements to latents: the mean that diffusion varies, and a baseline."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

PENALTIES = tuple(10.0**k for k in (-3, -2.5, -2, -1.5, -1, -0.5, 0, 0.5, 1))
"""Tried by `fit`."""


@dataclass(frozen=True)
class Regression:
    """Latents as a smooth function of D numbers, from N examples (Saunders et al. 1998).

    With degree 2 the kernel (1 + x.y / scale)^2 also knows all products of two numbers, such as a color where a
    hair style has hair; degree 1 is ridge regression.
    """

    examples: Float[Tensor, "N D"]
    weights: Float[Tensor, "N K"]
    basis: Float[Tensor, "K M"]
    """Principal components of the latents, orthonormal."""
    mean: Float[Tensor, " M"]
    center: Float[Tensor, " D"]
    relevance: Float[Tensor, " D"]
    """What each number is multiplied by first."""
    scale: float
    degree: int

    def __call__(self, x: Float[Tensor, "B D"]) -> Float[Tensor, "B M"]:
        kernel = _kernel((x - self.center) * self.relevance, self.examples, self.scale, self.degree)
        return self.mean + kernel @ self.weights @ self.basis


def _kernel(x: Tensor, y: Tensor, scale: float, degree: int) -> Float[Tensor, "B N"]:
    product = x @ y.T / scale
    return product if degree == 1 else (1.0 + product) ** degree - 1.0


def fit(
    x: Float[Tensor, "N D"],
    y: Float[Tensor, "N M"],
    degree: int = 2,
    components: int = 160,
    relevance: Float[Tensor, " D"] | None = None,
    penalties: tuple[float, ...] = PENALTIES,
) -> tuple[Regression, Float[Tensor, "N M"]]:
    """The regression with the penalty of the least leave-one-out error, and its leave-one-out predictions.

    Those have a closed form (Allen 1974, PRESS): what the regression says about an example that it did not see.
    `relevance` (from `relevance_of`) makes numbers count that matter; by default all count as they are.
    """
    center, mean = x.mean(0), y.mean(0)
    relevance = torch.ones_like(center) if relevance is None else relevance
    examples = (x - center) * relevance
    scale = float(examples.square().sum(1).mean())
    values, vectors = torch.linalg.eigh(_kernel(examples, examples, scale, degree).double())
    basis = torch.linalg.svd(y - mean, full_matrices=False).Vh[:components]
    target = (y - mean) @ basis.T
    rotated = vectors.T @ target.double()
    best: tuple[float, Tensor, Tensor] | None = None
    for penalty in penalties:
        inverse = 1.0 / (values.clamp_min(0.0) + penalty)
        weights = vectors @ (inverse[:, None] * rotated)
        diagonal = (vectors.square() * inverse).sum(1)
        left_out = weights / diagonal[:, None]
        error = float(left_out.square().mean())
        if best is None or error < best[0]:
            best = (error, weights, left_out)
    assert best is not None
    _, weights, left_out = best
    regression = Regression(examples, weights.to(x), basis, mean, center, relevance, scale, degree)
    return regression, mean + (target - left_out.to(y)) @ basis


def relevance_of(x: Float[Tensor, "N D"], y: Float[Tensor, "N M"]) -> Float[Tensor, " D"]:
    """How much each number matters to ridge regression, for unit spread: shoes say nothing of a face.

    The length of its weights times its standard deviation, which then divides it (automatic relevance
    determination, MacKay 1994, in one step).
    """
    linear, _ = fit(x, y, degree=1)
    matters = (linear.examples.T @ linear.weights).norm(dim=1) * x.std(0)
    return matters / matters.mean() / (x.std(0) + 1e-3)
