"""Where a radiance field is not empty: a coarse grid that lets rays look only where there is something.

Two ways with one meaning: numba kernels for CPU tensors, torch for any device.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from avatar3d.fields.radiance import RadianceField
from avatar3d.render.occupancy_kernel import mark_nodes, spans
from avatar3d.render.rays import Rays, box_span

THRESHOLD = 0.01
"""Density below which a cell is empty: of the light on a way of length 1 it stops 1 %."""
OPAQUE = 9.0
"""Optical depth at which nothing is seen any more: 1/8000 of the light goes on."""
BLOCK = 1 << 17
"""Points that are evaluated at once."""


@dataclass(frozen=True)
class Occupancy:
    """R x R x R cells of a box, x first."""

    filled: Bool[Tensor, "R R R"]
    """Something may be there."""
    least: Float[Tensor, "R R R"]
    """Density that is there at least."""
    bounds: Float[Tensor, "2 3"]


@torch.no_grad()
def occupancy(
    field: RadianceField,
    resolution: int = 32,
    generator: torch.Generator | None = None,
    share: float = 0.0,
    threshold: float = THRESHOLD,
) -> Occupancy:
    """Look at a field in 2 x 2 x 2 places of each cell; neighbours of cells that are not empty are filled too.

    With a generator the places are random in each eighth of a cell. A random `share` of the empty cells is
    filled as well, so that a field in training can grow there. Things thinner than half a cell can be missed.
    """
    fine = 2 * resolution
    bounds = field.bounds
    axis = torch.arange(fine, device=bounds.device).to(bounds)
    nodes = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1).view(-1, 3)
    shift: float | Tensor = 0.5
    if generator is not None:
        shift = torch.rand(nodes.shape, generator=generator, device=generator.device).to(nodes)
    points = bounds[0] + (nodes + shift) / fine * (bounds[1] - bounds[0])
    density = torch.cat([field(piece).density for piece in points.split(BLOCK)]).view(1, 1, fine, fine, fine)
    pool = torch.nn.functional.max_pool3d
    most = pool(pool(density, 2), 3, stride=1, padding=1)[0, 0]
    least = -pool(pool(-density, 2), 3, stride=1, padding=1)[0, 0]
    filled = most > threshold
    if generator is not None and share > 0:
        filled |= torch.rand(filled.shape, generator=generator, device=generator.device).to(most) < share
    return Occupancy(filled, least.contiguous(), bounds)


@torch.no_grad()
def filled_span(
    rays: Rays, bounds: Float[Tensor, "2 3"], grid: Occupancy | None
) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"]]:
    """t between which each ray can meet something; equal ones when it meets nothing."""
    enter, leave = box_span(rays, bounds)
    leave = torch.maximum(enter, leave)
    if grid is None:
        return enter, leave
    steps = 3 * len(grid.filled)
    if _on_cpu(rays, grid):
        out = torch.empty(2, len(rays))
        spans(*_arrays(rays, grid), enter.numpy(), leave.numpy(), steps, out.numpy())
        return out[0], out[1]
    share = (torch.arange(steps, device=enter.device) + 0.5) / steps
    t = enter[:, None] + share * (leave - enter)[:, None]
    seen = grid.filled[_cells(rays, t, grid).unbind(-1)]
    number = torch.arange(steps, device=t.device)
    first = torch.where(seen, number, steps).amin(1)
    last = torch.where(seen, number, -1).amax(1) + 1
    width = (leave - enter) / steps
    near = enter + first * width
    return near, torch.where(last > 0, enter + last * width, near)


@torch.no_grad()
def wanted_nodes(
    rays: Rays, t: Float[Tensor, "N K"], widths: Float[Tensor, "N K"], grid: Occupancy
) -> Bool[Tensor, "N K"]:
    """Nodes in filled cells that are not surely hidden by what is before them."""
    if _on_cpu(rays, grid):
        wanted = torch.empty(t.shape, dtype=torch.bool)
        mark_nodes(
            *_arrays(rays, grid), grid.least.numpy(), t.contiguous().numpy(), widths.contiguous().numpy(),
            OPAQUE, wanted.numpy(),
        )  # fmt: skip
        return wanted
    cells = _cells(rays, t, grid).unbind(-1)
    depth = (grid.least[cells] * widths).cumsum(1) - grid.least[cells] * widths
    return grid.filled[cells] & (depth < OPAQUE) & (widths > 0)


def _cells(rays: Rays, t: Float[Tensor, "N K"], grid: Occupancy) -> Tensor:
    points = rays.origins[:, None] + t[..., None] * rays.directions[:, None]
    low, high = grid.bounds.to(points)
    size = len(grid.filled)
    return ((points - low) * (size / (high - low))).long().clamp(0, size - 1)


def _on_cpu(rays: Rays, grid: Occupancy) -> bool:
    one = rays.origins.dtype == grid.least.dtype == torch.float32
    return one and rays.origins.device.type == grid.filled.device.type == "cpu"


def _arrays(rays: Rays, grid: Occupancy) -> tuple:
    """Origins and directions in cells per unit of t, and the filled cells."""
    low, high = grid.bounds
    scale = len(grid.filled) / (high - low)
    origins = ((rays.origins - low) * scale).contiguous().numpy()
    return origins, (rays.directions * scale).contiguous().numpy(), grid.filled.numpy()
