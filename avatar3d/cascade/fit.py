"""Planes of one avatar improved by optimization, beginning with encoded ones."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.cascade.busts import Busts
from avatar3d.cascade.points_loss import draw_points, points_loss, total_variation
from avatar3d.diffusion.draws import step_generator
from avatar3d.fields.decoder import Decoder

VARIATION, DRIFT = 3e-3, 1e-3
"""Weights of the total variation and of the squared distance from the start; both keep floaters away."""


def fit_planes(
    start: Float[Tensor, "3 C R R"],
    field: Decoder,
    busts: Busts,
    row: int,
    steps: int = 150,
    points: int = 16384,
    rate: float = 1e-2,
    on_step: Callable[[int, int], None] = lambda done, steps: None,
) -> Float[Tensor, "3 C R R"]:
    """Planes that explain the labelled points of avatar `row` better than `start`; the decoder stays as it is."""
    planes = start.detach().clone().requires_grad_(True)
    optimizer = torch.optim.Adam([planes], lr=rate, betas=(0.9, 0.99))
    wanted = [p.requires_grad for p in field.parameters()]
    field.requires_grad_(False)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * (1.0 - step / steps)
        rows = np.array([row])
        batch = draw_points(busts, rows, points, step_generator(row, 5, step), str(planes.device))
        losses = points_loss(planes[None], field, batch)
        drift = (planes - start).square().mean()
        loss = torch.stack(list(losses.values())).sum() + VARIATION * total_variation(planes[None]) + DRIFT * drift
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        on_step(step + 1, steps)
    for parameter, want in zip(field.parameters(), wanted, strict=True):
        parameter.requires_grad_(want)
    return planes.detach()
