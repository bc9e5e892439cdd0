"""Smooth vertex normals."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor


def weld_by_position(vertices: Float[Tensor, "V 3"], tolerance: float = 1e-6) -> Int[Tensor, V]:
    """For each vertex the index of the group of vertices at its position (rounded to `tolerance`, metres).

    Groups are numbered from 0 without gaps; vertices that a texture seam splits share one.
    """
    grid = np.round(vertices.detach().cpu().numpy().astype(np.float64) / tolerance).astype(np.int64) + 0
    keys = np.ascontiguousarray(grid).view([("", np.int64)] * 3).ravel()
    _, groups = np.unique(keys, return_inverse=True)
    return torch.from_numpy(groups.reshape(-1).astype(np.int64)).to(vertices.device)


def vertex_normals(
    vertices: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"], weld: Int[Tensor, V] | None = None
) -> Float[Tensor, "V 3"]:
    """Unit normals, the area-weighted mean of the faces around each vertex; differentiable.

    `weld` (from `weld_by_position`) makes them smooth across texture seams. A vertex without a face of
    positive area gets +Y.
    """
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    face_normals = torch.linalg.cross(b - a, c - a)
    corners = faces.T.reshape(-1)
    index = corners if weld is None else weld[corners]
    groups = len(vertices) if weld is None else int(weld.max()) + 1 if len(weld) else 0
    total = vertices.new_zeros(groups, 3).index_add(0, index, face_normals.repeat(3, 1))
    length = total.norm(dim=-1, keepdim=True)
    up = total.new_tensor([0.0, 1.0, 0.0])
    unit = torch.where(length > 1e-20, total / length.clamp_min(1e-20), up)
    return unit if weld is None else unit[weld]


def with_area(points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """The faces (F, 3) with an area: where a row of a grid shrinks to a point, half of its triangles have none."""
    a, b, c = (points[faces[:, k]] for k in range(3))
    return faces[np.linalg.norm(np.cross(b - a, c - a), axis=1) > 1e-11]
