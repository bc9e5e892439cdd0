"""A radiance field of numbers at the vertices of a grid (Sun et al. 2022, DirectVoxGO; Wang et al. 2023, SJC).

Numbers are interpolated first and made into density and color afterwards, which keeps surfaces sharp between
vertices (DirectVoxGO, section 4). It is the fastest of the fields on a CPU.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from avatar3d.fields.blob import Blob, blob_logits
from avatar3d.fields.radiance import RadianceSample
from avatar3d.fields.triplane import to_box
from avatar3d.fields.voxel_kernel import gather, scatter, slope_of_points

BOX = ((-1.0, -1.0, -1.0), (1.0, 1.0, 1.0))
DENSITY_GAIN = 10.0
"""Density logits over their number in the grid, so that one learning rate suits density and color."""
ALONE = 8192
"""Points that are not worth a second thread."""


@dataclass(frozen=True)
class VoxelConfig:
    """Sizes and beginning of a `VoxelField`."""

    resolution: int = 64
    """Vertices along each axis."""
    blob: Blob = "cone"
    density: float = -4.0
    """Density logit that is added everywhere at the beginning."""


class VoxelField(nn.Module):
    """`grid` (Z, Y, X, 4): density logit / `DENSITY_GAIN`, then color logits; vertices on the box's sides."""

    bounds: Float[Tensor, "2 3"]

    def __init__(self, config: VoxelConfig | None = None, bounds: Float[Tensor, "2 3"] | None = None) -> None:
        super().__init__()
        self.config = config = config or VoxelConfig()
        self.register_buffer("bounds", torch.tensor(BOX) if bounds is None else bounds.clone())
        axis = torch.linspace(-1, 1, config.resolution)
        z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
        grid = torch.zeros(*x.shape, 4)
        start = 0.0 if config.blob == "cone" else config.density
        grid[..., 0] = (blob_logits(torch.stack([x, y, z], -1), config.blob) + start) / DENSITY_GAIN
        self.grid = nn.Parameter(grid)

    def forward(self, points: Float[Tensor, "N 3"]) -> RadianceSample:
        found = look_up(self.grid, to_box(points, self.bounds))
        density = nn.functional.softplus(DENSITY_GAIN * found[:, 0].contiguous())
        return RadianceSample(density, found.sigmoid()[:, 1:])

    def slope(self, points: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
        """Direction in which the density grows: central differences of the grid, interpolated; not its length."""
        low, high = self.bounds
        steps = (high - low).flip(0) / (self.grid.new_tensor(self.grid.shape[:3]) - 1)
        logits = self.grid[..., 0]
        slopes = torch.gradient(logits, spacing=[float(step) for step in steps])
        return look_up(torch.stack(slopes[::-1], -1), to_box(points, self.bounds).detach())

    def upsampled(self, resolution: int) -> VoxelField:
        """The same field on a grid of another resolution; exact at vertices that both have."""
        finer = VoxelField(replace(self.config, resolution=resolution), self.bounds)
        finer.to(self.grid)
        with torch.no_grad():
            grid = self.grid.permute(3, 0, 1, 2)[None]
            size = (resolution,) * 3
            sampled = nn.functional.interpolate(grid, size, mode="trilinear", align_corners=True)
            finer.grid.copy_(sampled[0].permute(1, 2, 3, 0))
        return finer

    def anneal(self, progress: float) -> None:
        """A grid shows all that it has from the beginning: coarse to fine is `upsampled`."""


def look_up(grid: Float[Tensor, "Z Y X C"], points: Float[Tensor, "N 3"]) -> Float[Tensor, "N C"]:
    """Trilinear values at box coordinates; outside of the box those of its nearest side. Differentiable once."""
    if grid.device.type == "cpu" and grid.dtype == points.dtype == torch.float32:
        return _LookUp.apply(grid, points)
    return look_up_torch(grid, points)


def look_up_torch(grid: Float[Tensor, "Z Y X C"], points: Float[Tensor, "N 3"]) -> Float[Tensor, "N C"]:
    """`look_up` for any device and dtype."""
    found = nn.functional.grid_sample(
        grid.permute(3, 0, 1, 2)[None], points[None, :, None, None], padding_mode="border", align_corners=True
    )
    return found[0, :, :, 0, 0].T


class _LookUp(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, grid: Tensor, points: Tensor) -> Tensor:
        held, places = grid.detach().contiguous().numpy(), points.detach().contiguous().numpy()
        out = np.empty((len(places), held.shape[3]), np.float32)
        _share(lambda begin, end: gather(begin, end, held, places, out), len(places))
        context.held, context.places = held, places
        return torch.from_numpy(out)

    @staticmethod
    def backward(context: Any, slopes: Tensor) -> tuple[Tensor | None, Tensor | None]:  # type: ignore[override]
        held, places, slope = context.held, context.places, slopes.contiguous().numpy()
        of_grid = of_points = None
        if context.needs_input_grad[0]:
            parts: dict[int, np.ndarray] = {}

            def add(begin: int, end: int) -> None:
                parts[begin] = np.zeros_like(held)
                scatter(begin, end, places, slope, parts[begin])

            _share(add, len(places))
            of_grid = torch.from_numpy(sum(parts[begin] for begin in sorted(parts)))
        if context.needs_input_grad[1]:
            out = np.empty_like(places)
            _share(lambda begin, end: slope_of_points(begin, end, held, places, slope, out), len(places))
            of_points = torch.from_numpy(out)
        return of_grid, of_points


def _share(fill: Callable[[int, int], None], count: int) -> None:
    """Call `fill(begin, end)` for ranges that cover [0, count), on as many threads as torch uses."""
    workers = min(torch.get_num_threads(), os.cpu_count() or 1)
    if workers == 1 or count < ALONE:
        fill(0, count)
        return
    edges = [count * n // workers for n in range(workers + 1)]
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(fill, edges[:-1], edges[1:]))
