"""A coarse copy of a field's distance, so that rays skip empty space and sample only near surfaces.

Distances sit at the vertices of a grid through the field's box and are exact near surfaces; farther away they
count cells, and are too short rather than too long. Between vertices a distance whose slope is at most `SLOPE` is
off by no more than `slack`. So nothing that is left out can be seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from avatar3d.render.rays import Field, FieldError, evaluate

SLOPE = 1.25
"""How much faster than true distances those of a field may change: learned ones are not exact."""
TRUST = 0.025
"""Metres up to which distances are taken at their word: learned ones are only asked to be right near surfaces."""
HOPS = 12
"""Most cells that a leap takes."""


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

    It is filled at half the resolution first, and only cells near surfaces at the full one.
    Raises `FieldError` when the field is nowhere inside of a surface or holds numbers that are not finite.
    """
    bounds, size = field.bounds, cells // 2
    values = evaluate(field, _vertices(bounds, size)).distance.view(3 * [size + 1])
    _check_finite(values)
    coarse = DistanceGrid(values, bounds)
    sure = min(coarse.slack + reach, TRUST)
    near = (-_pool(-values.abs(), 0) < sure).to(values)
    hops, reached = torch.zeros_like(near), near
    for _ in range(HOPS):
        hops += 1 - reached
        reached = torch.nn.functional.max_pool3d(reached[None, None], 3, 1, 1)[0, 0]
    cell = float((bounds[1] - bounds[0]).min()) / size
    far = max(sure - coarse.slack, 0) + 0.5 * coarse.slack + cell * (hops - 1).clamp_min(0)
    finer = torch.nn.functional.interpolate(
        values[None, None], size=3 * [2 * size + 1], mode="trilinear", align_corners=True
    )[0, 0]
    finer = torch.sign(finer) * -_pool(-_doubled(far), 1)
    index = _pool(_doubled(near), 1).flatten().nonzero()[:, 0]
    exact = evaluate(field, _vertices(bounds, 2 * size, index)).distance
    _check_finite(exact)
    finer.view(-1)[index] = exact
    if float(torch.minimum(finer.min(), values.min())) >= 0:
        raise FieldError(
            f"the field is empty: no point of it is inside a surface (the nearest is {float(values.min()):.3g} m "
            "away). Train or sample it longer, or check that planes, decoder and bounds belong together"
        )
    return DistanceGrid(finer, bounds)


def _pool(values: Float[Tensor, "Z Y X"], padding: int) -> Float[Tensor, "_ _ _"]:
    """Largest of each 2 x 2 x 2 neighbours."""
    return torch.nn.functional.max_pool3d(values[None, None], 2, 1, padding)[0, 0]


def _doubled(values: Float[Tensor, "Z Y X"]) -> Float[Tensor, "_ _ _"]:
    """Each value eight times, as cells of half the size."""
    return values.repeat_interleave(2, 0).repeat_interleave(2, 1).repeat_interleave(2, 2)


def _check_finite(distances: Tensor) -> None:
    if not bool(torch.isfinite(distances).all()):
        raise FieldError(
            "the field holds numbers that are not finite: its planes or weights are broken, load others"
        )


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


def surface_vertices(grid: DistanceGrid) -> Float[Tensor, "N 3"]:
    """Vertices of the grid inside of surfaces: what a camera has to frame."""
    index = (grid.values.flatten() < 0).nonzero()[:, 0]
    return _vertices(grid.bounds, grid.values.shape[0] - 1, index)
