"""A coarse copy of a field's distance, so that rays skip empty space and sample only near surfaces.

Distances sit at the vertices of a grid through the field's box and are exact near surfaces; farther away they
are too short rather than too long. Between vertices a distance whose slope is at most `SLOPE` is off by no more
than `slack`. So nothing that is left out can be seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from avatar3d.render.rays import Field, FieldError, evaluate

SLOPE = 1.25
"""How much faster than true distances those of a field may change: learned ones are not exact."""
LEVELS = 3
"""Of the grid, each with twice the cells of the one before."""


@dataclass(frozen=True)
class DistanceGrid:
    """Distances at the (Z, Y, X) vertices of a grid that spans `bounds`."""

    values: Float[Tensor, "Z Y X"]
    bounds: Float[Tensor, "2 3"]

    @property
    def slack(self) -> float:
        """Metres that a distance may be off between vertices: the slope times half a cell's diagonal."""
        cells = self.values.new_tensor(self.values.shape).flip(0) - 1
        return 0.5 * SLOPE * float(((self.bounds[1] - self.bounds[0]).to(cells) / cells).norm())

    def __call__(self, points: Float[Tensor, "*B 3"]) -> Float[Tensor, "*B"]:
        """Trilinear distances."""
        low, high = self.bounds.to(points)
        grid = ((points - low) * (2 / (high - low)) - 1).view(1, -1, 1, 1, 3)
        found = torch.nn.functional.grid_sample(
            self.values[None, None].to(points), grid, padding_mode="border", align_corners=True
        )
        return found.view(points.shape[:-1])


@torch.no_grad()
def distance_grid(field: Field, cells: int = 96, reach: float = 0.012) -> DistanceGrid:
    """The grid of a field, exact within `reach` metres of surfaces.

    Raises `FieldError` when the field is nowhere inside of a surface or holds numbers that are not finite.
    """
    bounds = field.bounds
    size = max(2, cells >> (LEVELS - 1))
    grid = DistanceGrid(evaluate(field, _vertices(bounds, size)).distance.view(3 * [size + 1]), bounds)
    for _ in range(LEVELS - 1):
        size *= 2
        finer = torch.nn.functional.interpolate(
            grid.values[None, None], size=3 * [size + 1], mode="trilinear", align_corners=True
        ).flatten()
        near = (finer.abs() < reach + 2 * grid.slack).nonzero()[:, 0]
        finer = torch.sign(finer) * (finer.abs() - grid.slack).clamp_min(0)
        finer[near] = evaluate(field, _vertices(bounds, size, near)).distance
        grid = DistanceGrid(finer.view(3 * [size + 1]), bounds)
    _check(grid.values)
    return grid


def _vertices(
    bounds: Float[Tensor, "2 3"], size: int, index: Int[Tensor, " N"] | None = None
) -> Float[Tensor, "N 3"]:
    """Places of vertices by their flat index, x the fastest; of all without one."""
    low, high = bounds
    count = size + 1
    if index is None:
        index = torch.arange(count**3, device=bounds.device)
    at = torch.stack([index % count, index // count % count, index // count**2], dim=-1)
    return low + at.to(low) * ((high - low) / size)


def _check(values: Tensor) -> None:
    if not bool(torch.isfinite(values).all()):
        raise FieldError(
            "the field holds numbers that are not finite: its planes or weights are broken, load others"
        )
    if float(values.min()) >= 0:
        raise FieldError(
            f"the field is empty: no point of it is inside a surface (the nearest is {float(values.min()):.3g} m "
            "away). Train or sample it longer, or check that planes, decoder and bounds belong together"
        )


def surface_vertices(grid: DistanceGrid) -> Float[Tensor, "N 3"]:
    """Vertices of the grid inside of surfaces: what a camera has to frame."""
    index = (grid.values.flatten() < 0).nonzero()[:, 0]
    return _vertices(grid.bounds, grid.values.shape[0] - 1, index)
