"""A radiance field of hashed grids of many resolutions (Mueller et al. 2022, Instant-NGP), in plain torch."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from avatar3d.fields.blob import Blob, blob_logits
from avatar3d.fields.radiance import RadianceSample
from avatar3d.fields.slopes import analytic_slope
from avatar3d.fields.triplane import to_box
from avatar3d.fields.voxels import BOX

PRIMES = (1, 2654435761, 805459861)
"""Of the hash, one per axis (Instant-NGP, equation 4)."""


@dataclass(frozen=True)
class HashConfig:
    """Sizes and beginning of a `HashField`."""

    levels: int = 12
    channels: int = 2
    """Features of each level."""
    rows: int = 1 << 16
    """Of the table of each level; a power of two."""
    coarsest: int = 8
    """Cells along an axis of the first level."""
    finest: int = 512
    """And of the last one; those between grow by a constant factor (equations 2 and 3)."""
    width: int = 32
    """Of the hidden layer."""
    first: float = 0.5
    """Share of the levels that are on at the beginning, see `anneal`."""
    blob: Blob = "gaussian"


class HashField(nn.Module):
    """Features of all levels -> a small network -> density and color."""

    bounds: Float[Tensor, "2 3"]
    open: Float[Tensor, " L"]
    """Weights of the levels."""

    def __init__(
        self,
        config: HashConfig | None = None,
        bounds: Float[Tensor, "2 3"] | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.config = c = config or HashConfig()
        self.register_buffer("bounds", torch.tensor(BOX) if bounds is None else bounds.clone())
        growth = (c.finest / c.coarsest) ** (1 / max(1, c.levels - 1))
        self.cells = [int(c.coarsest * growth**level + 1e-6) for level in range(c.levels)]
        self.register_buffer("open", torch.zeros(c.levels))
        table = torch.rand(c.levels * c.rows, c.channels, generator=generator)
        self.table = nn.Parameter((2 * table - 1) * 1e-4)
        self.enter = linear(c.levels * c.channels, c.width, generator)
        self.leave = linear(c.width, 4, generator)
        self.anneal(0.0)

    def anneal(self, progress: float) -> None:
        """Turn on levels, coarse ones first, until all are on half-way through the training.

        `progress` is the share of the training that is done. Levels are faded in one after the other; those that
        are on stay on, also when another training begins.
        """
        c = self.config
        share = min(1.0, c.first + 2 * progress * (1 - c.first))
        levels = torch.arange(c.levels, device=self.open.device)
        self.open.copy_(torch.maximum(self.open, (share * c.levels - levels).clamp(0, 1)))

    def forward(self, points: Float[Tensor, "N 3"]) -> RadianceSample:
        at = to_box(points, self.bounds)
        out = self.leave(nn.functional.silu(self.enter(self.features(0.5 * (at + 1)))))
        density = nn.functional.softplus(out[:, 0] + blob_logits(at, self.config.blob))
        return RadianceSample(density, out[:, 1:].sigmoid())

    def slope(self, points: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
        """Gradient of the density."""
        return analytic_slope(self, points)

    def features(self, unit: Float[Tensor, "N 3"]) -> Float[Tensor, "N F"]:
        """Features at places in [0, 1]^3 of all levels; 0 of those that are off."""
        found = [self._level(level, unit) if on else None for level, on in enumerate(self.open.tolist())]
        blank = torch.zeros_like(unit[:, :1]).expand(-1, self.config.channels)
        return torch.cat([blank if f is None else f * self.open[n] for n, f in enumerate(found)], dim=1)

    def _level(self, level: int, unit: Float[Tensor, "N 3"]) -> Float[Tensor, "N C"]:
        cells = self.cells[level]
        at = unit.clamp(0, 1) * cells
        low = at.detach().floor().clamp(0, cells - 1)
        share, low = at - low, low.long()
        rows = []
        weights = []
        for corner in itertools.product((0, 1), repeat=3):
            rows.append(self._row(low + low.new_tensor(corner), cells))
            sides = [share[:, axis] if c else 1 - share[:, axis] for axis, c in enumerate(corner)]
            weights.append(sides[0] * sides[1] * sides[2])
        index = torch.cat(rows) + level * self.config.rows
        found = self.table.index_select(0, index) * torch.cat(weights)[:, None]
        return found.view(8, len(unit), -1).sum(0)

    def _row(self, vertex: Int[Tensor, "N 3"], cells: int) -> Int[Tensor, " N"]:
        """Row of a vertex in its level's table: one each while there is room, hashed beyond."""
        x, y, z = vertex.unbind(-1)
        if (cells + 1) ** 3 <= self.config.rows:
            return (z * (cells + 1) + y) * (cells + 1) + x
        return ((x * PRIMES[0]) ^ (y * PRIMES[1]) ^ (z * PRIMES[2])) % self.config.rows


def linear(inputs: int, outputs: int, generator: torch.Generator | None) -> nn.Linear:
    """A layer with weights from `generator` (He et al. 2015) and no bias at first."""
    layer = nn.Linear(inputs, outputs)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(outputs, inputs, generator=generator) * (2 / inputs) ** 0.5)
        layer.bias.zero_()
    return layer
