"""What keeps radiance fields sensible where pictures do not say enough: one function, one equation."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def orientation(facing: Float[Tensor, "*B"]) -> Float[Tensor, ""]:
    """Mean over rays of sum_i stop_gradient(w_i) max(0, n_i . v)^2: visible normals must not face away.

    Verbin et al. 2022 (Ref-NeRF), with the stopped gradient of DreamFusion, appendix A.2. The sums come from
    `radiance.Views.facing`.
    """
    return facing.mean()


def opacity(alpha: Float[Tensor, "*B"]) -> Float[Tensor, ""]:
    """Mean of sqrt(alpha^2 + 0.01): rays should stop little light (DreamFusion, appendix A.2)."""
    return (alpha.square() + 0.01).sqrt().mean()


def binary_entropy(alpha: Float[Tensor, "*B"]) -> Float[Tensor, ""]:
    """Mean of -a log2 a - (1 - a) log2 (1 - a): rays should stop all light or none."""
    a = alpha.clamp(1e-5, 1 - 1e-5)
    return -(a * a.log2() + (1 - a) * (1 - a).log2()).mean()


def distortion(weights: Float[Tensor, "*B K"], edges: Float[Tensor, "*B E"]) -> Float[Tensor, ""]:
    """Mean of sum_ij w_i w_j |m_i - m_j| + 1/3 sum_i w_i^2 (e_i+1 - e_i): light should stop in one place.

    Barron et al. 2022 (mip-NeRF 360), equation 15; m are the middles of the bins between edges e. In one pass,
    since the bins are in order.
    """
    middle = 0.5 * (edges[..., 1:] + edges[..., :-1])
    moment = weights * middle
    before, moment_before = weights.cumsum(-1) - weights, moment.cumsum(-1) - moment
    between = 2 * (moment * before - weights * moment_before).sum(-1)
    within = (weights.square() * edges.diff(dim=-1)).sum(-1) / 3
    return (between + within).mean()


def total_variation(values: Float[Tensor, "*B"], axes: tuple[int, ...]) -> Float[Tensor, ""]:
    """Sum over axes of the mean square of the step between neighbours (Rudin et al. 1992, squared).

    Of a voxel grid (Z, Y, X, C) the axes are (0, 1, 2), of planes (3, C, R, R) they are (2, 3).
    """
    return torch.stack([values.diff(dim=axis).square().mean() for axis in axes]).sum()


def smoothness(picture: Float[Tensor, "B C H W"], alpha: Float[Tensor, "B H W"]) -> Float[Tensor, ""]:
    """Mean absolute step between neighbouring pixels, weighted by the smaller alpha of the two.

    Of depth (C = 1) or normals; outlines do not count, since beyond them alpha is 0.
    """
    total = picture.new_zeros(())
    for axis in (-1, -2):
        size = alpha.shape[axis]
        here, there = alpha.narrow(axis, 0, size - 1), alpha.narrow(axis, 1, size - 1)
        weight = torch.minimum(here, there).detach()[:, None]
        total = total + (weight * picture.diff(dim=axis).abs()).mean()
    return total
