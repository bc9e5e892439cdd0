"""A field's surface as triangles: marching cubes over a grid that is evaluated only near the surface.

The one door to scikit-image. Lewiner et al. 2003 give the cubes, without ambiguous cases, so that the surface is
closed and every edge has two faces.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from avatar3d.errors import InputError
from avatar3d.structures import FieldSample

Field = Callable[[Float[Tensor, "N 3"]], FieldSample]
"""World points in metres to what is there."""

STRIDE = 8
"""Cells of the finest grid along each side of one of the coarsest."""
CHUNK = 1 << 16
"""Points that are evaluated at once."""
MARGIN = 1.5
"""A cell is refined when the surface may be nearer than this many of its diagonals: distances are learned."""
CLEAR = 1e-3
"""The surface stays so far from nodes, in cells, that no triangle loses its area; where it leaves the box it is
closed so far inside of it."""


class FieldError(InputError, ValueError):
    """A field without a surface, or with numbers that are not finite."""


def evaluate(
    field: Field, points: Float[Tensor, "N 3"], chunk: int = CHUNK
) -> tuple[Float[Tensor, " N"], Float[Tensor, "N 3"], Int[Tensor, " N"]]:
    """Distances, colors and labels (1 + part kind) at points, without gradients, `chunk` of them at a time."""
    distances, colors, labels = [], [], []
    with torch.no_grad():
        for piece in points.split(chunk):
            sample = field(piece)
            distances.append(sample.distance)
            colors.append(sample.rgb)
            labels.append(sample.logits.argmax(dim=1) + 1)
    if not distances:
        return points.new_zeros(0), points.new_zeros(0, 3), torch.zeros(0, dtype=torch.int64, device=points.device)
    return torch.cat(distances), torch.cat(colors), torch.cat(labels)


def extract(
    field: Field, bounds: Float[Tensor, "2 3"], cell: float, stride: int = STRIDE
) -> tuple[Float[Tensor, "V 3"], Int[Tensor, "F 3"]]:
    """Vertices and outward faces of the zero level in a box, closed at the box's sides; cubes of `cell` metres.

    A grid of every `stride`-th node (1, 2, 4 or 8; 1 evaluates all) is refined where the surface may be, down
    to single cells, and then along the surface wherever that leads. A piece is missed only when it is smaller
    than the coarse cells and the field's distances say that it is far away.

    Raises `FieldError` when the box is empty or full, or the field is not finite.
    """
    if stride not in (1, 2, 4, STRIDE):
        raise ValueError(f"stride must be 1, 2, 4 or {STRIDE}, got {stride}")
    low, high = bounds.detach().cpu().double()
    cells = ((high - low) / (cell * STRIDE) - 1e-6).ceil().long().clamp_min(1) * STRIDE
    step = ((high - low) / cells).to(bounds)
    grid = _Grid(field, bounds[0], step)
    values = grid.refined([int(n) for n in cells], stride)
    values[np.abs(values) < CLEAR * cell] = CLEAR * cell
    inside = values < 0
    if not inside.any():
        raise FieldError(
            f"nothing of the field lies inside its surface (nearest distance {values.min() * 1000:.1f} mm): it is "
            "empty. Use planes of the decoder that they were trained with, or sample again with another seed"
        )
    if inside.all():
        raise FieldError(
            "the field is inside everywhere in its box: its planes and its decoder do not belong together"
        )
    return _cubes(values, bounds[0], step, cell)


class _Grid:
    """Distances at the nodes of nested grids over a box."""

    def __init__(self, field: Field, low: Tensor, step: Tensor) -> None:
        self.field, self.low, self.step = field, low, step

    def at(self, nodes: np.ndarray) -> np.ndarray:
        """(N,) float32 distances at whole-numbered nodes (N, 3) of the finest grid."""
        index = torch.from_numpy(nodes).to(self.low)
        distance, _, _ = evaluate(self.field, self.low + index * self.step)
        values = distance.float().cpu().numpy()
        if not np.isfinite(values).all():
            raise FieldError("the field gives numbers that are not finite: its planes or its decoder are damaged")
        return values

    def refined(self, cells: list[int], stride: int) -> np.ndarray:
        """Distances (X, Y, Z) at all nodes; those far from the surface are those of a near node."""
        shape = [n // stride + 1 for n in cells]
        nodes = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1).reshape(-1, 3)
        values = self.at(nodes * stride).reshape(shape)
        known = np.ones(shape, bool)
        while stride > 1:
            reach = MARGIN * stride * float(self.step.norm())
            values, known = _halved(values, known)
            stride //= 2
            wanted = _corners(_doubled(_near(values[::2, ::2, ::2], reach))) & ~known
            self._fill(values, known, wanted, stride)
        while (wanted := _corners(_near(values, 0.0)) & ~known).any():
            self._fill(values, known, wanted, 1)
        return values

    def _fill(self, values: np.ndarray, known: np.ndarray, wanted: np.ndarray, stride: int) -> None:
        values[wanted] = self.at(np.argwhere(wanted) * stride)
        known |= wanted


def _near(values: np.ndarray, reach: float) -> np.ndarray:
    """Cells (X-1, Y-1, Z-1) that have corners on both sides, or one nearer than `reach`."""
    shape = [n - 1 for n in values.shape]
    low, high, least = (np.full(shape, sign * np.inf, np.float32) for sign in (1, -1, 1))
    for corner in (values[window] for window in _shifts(values.shape)):
        np.minimum(low, corner, out=low)
        np.maximum(high, corner, out=high)
        np.minimum(least, np.abs(corner), out=least)
    return ((low < 0) & (high >= 0)) | (least < reach)


def _shifts(shape: tuple[int, ...]) -> list[tuple[slice, ...]]:
    """The eight windows of nodes that are the same corner of every cell."""
    corners = itertools.product((0, 1), repeat=3)
    return [tuple(slice(d, n - 1 + d) for d, n in zip(corner, shape, strict=True)) for corner in corners]


def _doubled(cells: np.ndarray) -> np.ndarray:
    """Each cell as 2 x 2 x 2."""
    return cells.repeat(2, axis=0).repeat(2, axis=1).repeat(2, axis=2)


def _corners(cells: np.ndarray) -> np.ndarray:
    """Nodes (X+1, Y+1, Z+1) that are a corner of a marked cell."""
    nodes = np.zeros([n + 1 for n in cells.shape], bool)
    for window in _shifts(nodes.shape):
        nodes[window] |= cells
    return nodes


def _halved(values: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The grid of half the step: old nodes stay, new ones copy a neighbour and are not known."""
    shape = [2 * n - 1 for n in values.shape]
    finer = _doubled(values)[: shape[0], : shape[1], : shape[2]].copy()
    old = np.zeros(shape, bool)
    old[::2, ::2, ::2] = known
    return finer, old


def _cubes(
    values: np.ndarray, low: Tensor, step: Tensor, cell: float
) -> tuple[Float[Tensor, "V 3"], Int[Tensor, "F 3"]]:
    from skimage.measure import marching_cubes

    for axis in range(3):
        for side in (0, -1):
            rim = np.moveaxis(values, axis, 0)[side]
            np.maximum(rim, CLEAR * cell, out=rim)
    vertices, faces, _, _ = marching_cubes(values, 0.0, gradient_direction="descent")
    points = torch.from_numpy(np.ascontiguousarray(vertices)).to(low) * step + low
    return points, torch.from_numpy(np.ascontiguousarray(faces).astype(np.int64)).to(low.device)
