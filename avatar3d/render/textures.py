"""Many textures in one table of texels with mip levels, sampled for all materials at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Atlas:
    """Texels of all mip levels of all textures, row by row, and where each level starts."""

    texels: Float[Tensor, "N C"]
    levels: Int[Tensor, "T L 3"]
    """(offset, width, height) per texture and level; levels beyond the last repeat it."""


def build_atlas(textures: Sequence[Float[Tensor, "_ _ C"]], max_levels: int = 6) -> Atlas:
    """Pack (H, W, C) textures. Each level halves the one before it (box filter)."""
    chunks: list[Tensor] = []
    table: list[list[tuple[int, int, int]]] = []
    offset = 0
    for texture in textures:
        rows: list[tuple[int, int, int]] = []
        level = texture
        while True:
            height, width, channels = level.shape
            rows.append((offset, width, height))
            chunks.append(level.reshape(-1, channels))
            offset += height * width
            if len(rows) == max_levels or min(height, width) == 1:
                break
            smaller = F.adaptive_avg_pool2d(level.permute(2, 0, 1)[None], (height // 2, width // 2))
            level = smaller[0].permute(1, 2, 0)
        table.append(rows + [rows[-1]] * (max_levels - len(rows)))
    return Atlas(torch.cat(chunks), torch.tensor(table, dtype=torch.int64, device=chunks[0].device))


def mip_rows(
    atlas: Atlas, texture: Int[Tensor, " M"], face_mesh: Int[Tensor, " F"], uv_per_sample: Float[Tensor, " F"]
) -> Int[Tensor, "F 3"]:
    """(offset, width, height) of the level whose texels are about as large as an image sample, per face.

    `uv_per_sample` is the uv area of a face over its area in image samples. The level is rounded down, that is
    towards sharpness, because super-sampling takes the rest of the aliasing.
    """
    size = atlas.levels[texture, 0, 1] * atlas.levels[texture, 0, 2]
    texels_per_sample = uv_per_sample * size[face_mesh]
    level = (0.5 * torch.log2(texels_per_sample.clamp_min(1e-12))).floor().long()
    level = level.clamp(0, atlas.levels.shape[1] - 1)
    return atlas.levels[texture[face_mesh], level]


def sample_atlas(
    texels: Float[Tensor, "N C"], rows: Int[Tensor, "S 3"], uv: Float[Tensor, "S 2"]
) -> Float[Tensor, "S C"]:
    """Bilinear look-up with glTF's repeat wrapping; differentiable in the texels and in uv."""
    offset, width, height = rows.unbind(-1)
    x = uv[:, 0] * width - 0.5
    y = uv[:, 1] * height - 0.5
    x0, y0 = x.detach().floor(), y.detach().floor()
    fx, fy = x - x0, y - y0
    left, top = x0.long() % width, y0.long() % height
    right, bottom = (left + 1) % width, (top + 1) % height
    upper, lower = offset + top * width, offset + bottom * width
    index = torch.stack([upper + left, upper + right, lower + left, lower + right], dim=-1)
    weights = torch.stack([(1 - fx) * (1 - fy), fx * (1 - fy), (1 - fx) * fy, fx * fy], dim=-1)
    return weighted_rows(texels, index, weights)


def weighted_rows(
    table: Float[Tensor, "N C"], index: Int[Tensor, "S K"], weights: Float[Tensor, "S K"]
) -> Float[Tensor, "S C"]:
    """sum_k weights[s, k] * table[index[s, k]]: a fused gather, differentiable in table and weights."""
    if len(index) == 0:
        return table.new_zeros(0, table.shape[1]) + 0 * weights.sum()
    return F.embedding_bag(index, table, per_sample_weights=weights.to(table), mode="sum")
