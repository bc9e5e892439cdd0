"""Texture coordinates for a mesh that has none: charts cut and packed by xatlas, whose one door this is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from avatar3d.errors import InputError

SPAN = 100.0
"""Size that a mesh is scaled to first: xatlas takes triangles of less than about 1e-7 square units for flat."""


class UnwrapError(InputError, ValueError):
    """A mesh that can not be unwrapped."""


@dataclass(frozen=True)
class Unwrapped:
    """A mesh whose vertices are split along the borders of its charts."""

    source: Int[Tensor, " W"]
    """Index of the input's vertex that each vertex came from."""
    faces: Int[Tensor, "F 3"]
    uv: Float[Tensor, "W 2"]
    """In [0, 1]; no two charts overlap."""


def unwrap(
    vertices: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"], size: int = 1024, padding: int = 8
) -> Unwrapped:
    """Charts for a texture of `size` x `size` texels with `padding` texels between them.

    Raises `UnwrapError` for a mesh without faces or with positions that are not finite.
    """
    import xatlas

    if len(faces) == 0:
        raise UnwrapError("a mesh without faces has nothing to unwrap")
    points = vertices.detach().cpu().numpy().astype(np.float32)
    if not np.isfinite(points).all():
        raise UnwrapError("positions must be finite numbers; repair the mesh first")
    points = points * np.float32(SPAN / max(float(np.ptp(points, axis=0).max()), 1e-12))
    atlas = xatlas.Atlas()
    atlas.add_mesh(points, np.ascontiguousarray(faces.cpu().numpy(), np.uint32))
    chart, pack = xatlas.ChartOptions(), xatlas.PackOptions()
    chart.max_iterations = 0
    pack.padding, pack.resolution, pack.bilinear, pack.blockAlign = padding, size, True, True
    atlas.generate(chart, pack)
    source, index, uv = atlas[0]
    device = vertices.device
    return Unwrapped(
        torch.from_numpy(source.astype(np.int64)).to(device),
        torch.from_numpy(index.astype(np.int64)).to(device),
        torch.from_numpy(np.ascontiguousarray(uv)).to(vertices),
    )
