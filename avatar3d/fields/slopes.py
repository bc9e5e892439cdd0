"""Gradients of the density along space, from which normals come; differentiable themselves."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.fields.radiance import RadianceField


def analytic_slope(field: RadianceField, points: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
    """By automatic differentiation; with gradients on, what it is made of gets gradients through it."""
    keep = torch.is_grad_enabled()
    with torch.enable_grad():
        at = points.detach().requires_grad_(True)
        density = field(at).density
        if not density.requires_grad:
            return torch.zeros_like(points)
        return torch.autograd.grad(density.sum(), at, create_graph=keep)[0]


def finite_slope(
    values: Callable[[Float[Tensor, "M 3"]], Float[Tensor, " M"]], points: Float[Tensor, "N 3"], step: float
) -> Float[Tensor, "N 3"]:
    """By differences over the corners of a tetrahedron of half size `step`: exact for linear functions."""
    corners = points.new_tensor([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    around = (points.detach()[:, None] + step * corners).view(-1, 3)
    return values(around).view(-1, 4) @ corners / (4 * step)
