"""Surfaces of signed distances on a grid that deforms: marching tetrahedra (DMTet, Shen et al. 2021, section 3.1).

Every cube of a regular grid is cut into six tetrahedra around its main diagonal (Kuhn 1960), all alike, so that
neighbors agree on the faces between them and surfaces are closed.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

KEPT = 0.45
"""A node moves at most this share of a cell along each axis: tetrahedra never turn inside out along an axis."""


@dataclass(frozen=True)
class Lattice:
    """Nodes of a grid of `cells` along each axis of a box."""

    bounds: Float[Tensor, "2 3"]
    cells: int

    @property
    def cell(self) -> Float[Tensor, " 3"]:
        """Sides of a cell."""
        return (self.bounds[1] - self.bounds[0]) / self.cells

    def nodes(self) -> Float[Tensor, "N 3"]:
        """Positions, z fastest."""
        steps = torch.arange(self.cells + 1, device=self.bounds.device)
        return torch.cartesian_prod(steps, steps, steps) * self.cell + self.bounds[0]


def marched(
    lattice: Lattice, distance: Float[Tensor, " N"], moved: Float[Tensor, "N 3"]
) -> tuple[Float[Tensor, "V 3"], Int[Tensor, "F 3"]]:
    """Vertices and outward faces of the zero level; nodes on the box's sides count as outside.

    A vertex lies on a lattice edge (a, b) with one end inside, at (v_a s_b - v_b s_a) / (s_b - s_a), and is
    differentiable in distances and positions of the two nodes.
    """
    inside = _inside(distance.detach(), lattice.cells)
    tetrahedra = _crossed(inside, lattice.cells)
    case = (inside[tetrahedra].long() * tetrahedra.new_tensor([1, 2, 4, 8])).sum(1)
    table = _cases().to(case.device)[case].view(-1, 3, 2)
    owner = torch.arange(len(case), device=case.device).repeat_interleave(2)
    real = table[:, 0, 0] >= 0
    ends = tetrahedra[owner[real]].gather(1, table[real].reshape(-1, 6)).view(-1, 2)
    low, high = ends.amin(1), ends.amax(1)
    key, faces = torch.unique(low * len(distance) + high, return_inverse=True)
    a, b = key // len(distance), key % len(distance)
    clear = 1e-4 * lattice.cell.min()
    # a node at the level itself, or one on the rim that would be inside, stands a little outside
    s = torch.where(inside, distance.clamp_max(-clear), distance.clamp_min(clear))
    s_a, s_b = s[a][:, None], s[b][:, None]
    return (moved[a] * s_b - moved[b] * s_a) / (s_b - s_a), faces.view(-1, 3)


def sign_entropy(distance: Float[Tensor, " N"], cells: int) -> Float[Tensor, ""]:
    """Cross-entropy of neighbors' signs where they differ (Munkberg et al. 2022, nvdiffrec), mean over all edges:
    it takes away pieces of surface that no picture needs. Distances in units of a cell."""
    grid = distance.view(cells + 1, cells + 1, cells + 1)
    total, edges = grid.new_zeros(()), 0
    for step in itertools.product((0, 1), repeat=3):
        if not any(step):
            continue
        n = cells + 1
        first = grid[tuple(slice(0, n - d) for d in step)]
        second = grid[tuple(slice(d, n) for d in step)]
        crossed = (first.detach() < 0) != (second.detach() < 0)
        s, t = first[crossed], second[crossed]
        total = total + F.binary_cross_entropy_with_logits(s, (t > 0).to(s), reduction="sum")
        total = total + F.binary_cross_entropy_with_logits(t, (s > 0).to(t), reduction="sum")
        edges += crossed.numel()
    return total / edges


def _inside(distance: Tensor, cells: int) -> Tensor:
    grid = (distance < 0).view(cells + 1, cells + 1, cells + 1).clone()
    for axis in range(3):
        grid.select(axis, 0).fill_(False)
        grid.select(axis, cells).fill_(False)
    return grid.view(-1)


def _crossed(inside: Tensor, cells: int) -> Int[Tensor, "T 4"]:
    """The tetrahedra of all cubes that have corners on both sides."""
    grid = inside.view(cells + 1, cells + 1, cells + 1)
    windows = [grid[tuple(slice(d, d + cells) for d in step)] for step in itertools.product((0, 1), repeat=3)]
    count = torch.stack(windows).long().sum(0)
    cubes = ((count > 0) & (count < 8)).nonzero()
    n = cells + 1
    strides = cubes.new_tensor([n * n, n, 1])
    corners = (_tetrahedra().to(cubes.device) * strides).sum(-1)
    return ((cubes * strides).sum(1)[:, None, None] + corners).view(-1, 4)


@cache
def _tetrahedra() -> Int[Tensor, "6 4 3"]:
    """Corners of a cube's tetrahedra, from (0, 0, 0) to (1, 1, 1) by every order of the axes; right-handed."""
    found = []
    for order in itertools.permutations(range(3)):
        corners = [[0, 0, 0]]
        for axis in order:
            corners.append([c + (n == axis) for n, c in enumerate(corners[-1])])
        sides = torch.tensor(corners[1:], dtype=torch.float64)
        found.append(corners if torch.linalg.det(sides) > 0 else [corners[0], corners[2], corners[1], corners[3]])
    return torch.tensor(found)


@cache
def _cases() -> Int[Tensor, "16 2 3 2"]:
    """For each set of corners inside (bit n: corner n) up to two outward triangles, each vertex as an edge of a
    right-handed tetrahedron; -1 where there is none."""
    corners = torch.tensor([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=torch.float64)
    table = torch.full((16, 2, 3, 2), -1)
    for case in range(1, 15):
        within = [n for n in range(4) if case >> n & 1]
        beyond = [n for n in range(4) if n not in within]
        if len(within) == 2:
            (a, b), (c, d) = within, beyond
            loop = [(a, c), (a, d), (b, d), (b, c)]
        else:
            loop = [(a, b) for a in within for b in beyond]
        points = torch.stack([(corners[a] + corners[b]) / 2 for a, b in loop])
        normal = torch.linalg.cross(points[1] - points[0], points[2] - points[0])
        if normal @ (corners[beyond].mean(0) - corners[within].mean(0)) < 0:
            loop = loop[::-1]
        for n in range(len(loop) - 2):
            table[case, n] = torch.tensor([loop[0], loop[n + 1], loop[n + 2]])
    return table
