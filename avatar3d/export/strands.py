"""Hair at lower levels of detail: ribbons with fewer points, then fewer and wider ribbons.

The second step is stochastic simplification (Cook and others 2007): of many small alike things a random share is
kept and made larger, so that the area they cover stays.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from avatar3d.export.parts import part_of_faces
from avatar3d.structures import Part

KINDS = ("hair", "beard", "lashes")
FEWEST = 24
"""A part with fewer connected pieces is not made of ribbons."""
WIDEST = 2.6
"""Most that a kept ribbon gets wider."""
LEAST_ROWS = 0.45
"""Strips keep this share of their rows, half of it at the lowest levels, and only then get fewer."""
SPARSE = 0.2
"""Share of the triangles below which levels count as the lowest."""


@dataclass(frozen=True)
class Ribbons:
    """R strips of triangles as grids of vertices; all grids of one entry have the same shape."""

    grids: list[np.ndarray]
    """Vertex indices (R, rows, across), from root to tip."""
    others: np.ndarray
    """Faces that belong to no strip."""

    @property
    def triangles(self) -> int:
        """Of the strips."""
        return sum(2 * len(g) * (g.shape[1] - 1) * (g.shape[2] - 1) for g in self.grids)


def find_ribbons(part: Part) -> Ribbons | None:
    """The strips that a part of hair is made of; None when most of it is something else."""
    if part.kind not in KINDS or part.mesh.material.alpha_mode == "OPAQUE":
        return None
    faces = part.mesh.faces.cpu().numpy()
    count = len(part.mesh.vertices)
    links = np.ones(2 * len(faces))
    ends = np.concatenate([faces[:, :2], faces[:, 1:]])
    pieces, piece = connected_components(
        coo_array((links, (ends[:, 0], ends[:, 1])), (count, count)), directed=False
    )
    if pieces < FEWEST:
        return None
    of_face = piece[faces[:, 0]]
    order = np.argsort(of_face, kind="stable")
    starts = np.flatnonzero(np.diff(of_face[order], prepend=-1))
    shaped: dict[tuple[int, int], list[np.ndarray]] = {}
    other = []
    for rows in np.split(order, starts[1:]):
        grid = _as_grid(faces[rows])
        if grid is None:
            other.append(rows)
        else:
            shaped.setdefault(grid.shape, []).append(grid)
    loose = np.sort(np.concatenate(other)) if other else np.zeros(0, int)
    if len(loose) > 0.5 * len(faces):
        return None
    return Ribbons([np.stack(grids) for _, grids in sorted(shaped.items())], loose)


def _as_grid(faces: np.ndarray) -> np.ndarray | None:
    """(rows, across) vertices of a strip whose vertices are numbered row by row, 2 or 3 in a row."""
    first, last = faces.min(), faces.max()
    vertices = last - first + 1
    for across in (2, 3):
        rows = vertices // across
        if rows * across == vertices and len(faces) == 2 * (rows - 1) * (across - 1):
            grid = first + np.arange(vertices).reshape(rows, across)
            a, b, c, d = grid[:-1, :-1], grid[:-1, 1:], grid[1:, :-1], grid[1:, 1:]
            if np.array_equal(faces, strip_faces(a, b, c, d)):
                return grid
    return None


def strip_faces(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> np.ndarray:
    """Two triangles of each cell, whose corners are the equally shaped arrays a b (upper) and c d (lower row)."""
    return np.stack([np.stack([a, b, c], -1), np.stack([b, d, c], -1)], axis=-2).reshape(-1, 3)


def thinned(part: Part, ribbons: Ribbons, triangles: int) -> Part:
    """The part with about so many triangles: flat strips first, then fewer rows, then fewer and wider strips."""
    vertices = part.mesh.vertices.double().cpu().numpy()
    grids = [g[:, :, [0, -1]] for g in ribbons.grids]
    total = sum(g.shape[0] * 2 * (g.shape[1] - 1) for g in grids)
    keep = min(1.0, triangles / max(total, 1))
    along = min(1.0, max(keep, LEAST_ROWS if keep > SPARSE else LEAST_ROWS / 2))
    kept, faces = [], []
    for grid in grids:
        rows = max(2, round((grid.shape[1] - 1) * along) + 1)
        kept.append(_fewer_rows(grid, vertices, min(rows, grid.shape[1])))
    total = sum(g.shape[0] * 2 * (g.shape[1] - 1) for g in kept)
    share = min(1.0, triangles / max(total, 1))
    moved = part.mesh.vertices.clone()
    for grid in kept:
        chosen = _spread(len(grid), share)
        grid = grid[chosen]
        if not len(grid):
            continue
        wider = min(len(chosen) / max(chosen.sum(), 1), WIDEST)
        left, right = part.mesh.vertices[grid[..., 0]], part.mesh.vertices[grid[..., -1]]
        middle, half = (left + right) / 2, (right - left) / 2
        moved[grid[..., 0]], moved[grid[..., -1]] = middle - wider * half, middle + wider * half
        faces.append(strip_faces(grid[:, :-1, :-1], grid[:, :-1, 1:], grid[:, 1:, :-1], grid[:, 1:, 1:]))
    m = replace(part.mesh, vertices=moved)
    return part_of_faces(replace(part, mesh=m), torch.from_numpy(np.concatenate(faces)))


def _spread(count: int, share: float) -> np.ndarray:
    """(count,) bool: the share of things that is kept, spread evenly over their numbering and over any stretch of
    it by a golden-ratio sequence; a smaller share keeps a subset of what a larger one keeps."""
    golden = (np.arange(count) * 0.6180339887498949) % 1.0
    most = np.argsort(golden, kind="stable")[: round(share * count)]
    chosen = np.zeros(count, bool)
    chosen[most] = True
    return chosen


def _fewer_rows(grid: np.ndarray, vertices: np.ndarray, rows: int) -> np.ndarray:
    """Each strip with `rows` of its rows: those whose loss bends its middle line most (Visvalingam 1993)."""
    if rows >= grid.shape[1]:
        return grid
    middle = vertices[grid].mean(axis=2)
    kept = np.tile(np.arange(grid.shape[1]), (len(grid), 1))
    lines = np.arange(len(grid))
    while kept.shape[1] > rows:
        p = np.take_along_axis(middle, kept[..., None], axis=1)
        u, v = p[:, 1:-1] - p[:, :-2], p[:, 2:] - p[:, :-2]
        loss = np.linalg.norm(np.cross(u, v), axis=-1)
        out = loss.argmin(axis=1) + 1
        mask = np.ones(kept.shape, bool)
        mask[lines, out] = False
        kept = kept[mask].reshape(len(grid), -1)
    return np.take_along_axis(grid, kept[..., None], axis=1)
