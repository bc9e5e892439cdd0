"""Many textures in one table of texels with mip levels, sampled for all materials at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

STRETCH = 3.0
"""How many times longer than wide a sample's footprint in a texture may be before it is blurred across."""
MOST_ALPHA_SCALE = 4.0
"""Where nearly nothing of a texture is opaque, its small levels are not blown up more than this."""


@dataclass(frozen=True)
class Atlas:
    """Texels of all mip levels of all textures, row by row, and where each level starts."""

    texels: Float[Tensor, "N C"]
    levels: Int[Tensor, "T L 3"]
    """(offset, width, height) per texture and level; levels beyond the last repeat it."""


def build_atlas(
    textures: Sequence[Float[Tensor, "_ _ C"]], cutoffs: Sequence[float] | None = None, max_levels: int = 6
) -> Atlas:
    """Pack (H, W, C) textures. Each level halves the one before it.

    `cutoffs` above 0 say at which alpha (the last channel) a texture is tested: averages of thin hairs fall below
    it, so that each level's alpha is scaled until as large a share passes as in the texture itself.
    """
    chunks: list[Tensor] = []
    table: list[list[tuple[int, int, int]]] = []
    offset = 0
    for texture, cutoff in zip(textures, cutoffs or [0.0] * len(textures), strict=True):
        rows: list[tuple[int, int, int]] = []
        level = texture
        while True:
            height, width, channels = level.shape
            rows.append((offset, width, height))
            shown = _keep_coverage(level, texture, cutoff) if rows[1:] and cutoff > 0 else level
            chunks.append(shown.reshape(-1, channels))
            offset += height * width
            if len(rows) == max_levels or min(height, width) == 1:
                break
            level = _halved(level)
        table.append(rows + [rows[-1]] * (max_levels - len(rows)))
    return Atlas(torch.cat(chunks), torch.tensor(table, dtype=torch.int64, device=chunks[0].device))


def _halved(level: Float[Tensor, "H W C"]) -> Float[Tensor, "Hh Wh C"]:
    """Box-filtered to half the size; colors count with their alpha, so that clear texels do not tint the rest."""
    height, width, channels = level.shape
    planes = level.permute(2, 0, 1)[None]
    size = (height // 2, width // 2)
    smaller = F.adaptive_avg_pool2d(planes, size)
    if channels == 4 and bool((level[..., 3] < 1).any()):
        alpha = planes[:, 3:].clamp_min(1e-4)
        colors = F.adaptive_avg_pool2d(planes[:, :3] * alpha, size) / F.adaptive_avg_pool2d(alpha, size)
        smaller = torch.cat([colors, smaller[:, 3:]], dim=1)
    return smaller[0].permute(1, 2, 0)


def _keep_coverage(
    level: Float[Tensor, "_ _ C"], texture: Float[Tensor, "_ _ C"], cutoff: float
) -> Float[Tensor, "_ _ C"]:
    """The level with alpha scaled so that as large a share reaches the cutoff as in the texture (Castano 2010)."""
    alpha = level[..., -1].detach()
    # look-ups between texels see averages of them
    between = F.avg_pool2d(alpha[None, None], 2, 1)[0, 0] if min(alpha.shape) > 1 else alpha
    alpha = torch.cat([alpha.flatten(), between.flatten()])
    passing = int((texture[..., -1] >= cutoff).double().mean() * alpha.numel() + 0.5)
    if passing == 0:
        return level
    threshold = alpha.sort(descending=True).values[passing - 1]
    scale = (cutoff / threshold.clamp_min(1e-6)).clamp(0.5, MOST_ALPHA_SCALE)
    return torch.cat([level[..., :-1], (level[..., -1:] * scale).clamp_max(1)], dim=-1)


def mip_rows(
    atlas: Atlas, texture: Int[Tensor, " M"], face_mesh: Int[Tensor, " F"], uv_steps: Float[Tensor, "3 F"]
) -> Int[Tensor, "F 3"]:
    """(offset, width, height) of the level to sample, per face.

    `uv_steps` holds |du|^2, |dv|^2 and du x dv, where du and dv are the gradients of u and v per image sample.
    A sample covers a parallelogram of texels. Its short side decides (a face seen at a glancing angle would blur
    along both), unless the long one is more than `STRETCH` times as long. The level is rounded down, that is
    towards sharpness, because super-sampling takes the rest of the aliasing.
    """
    size = atlas.levels[texture, 0, 1:].double()[face_mesh]
    width, height = size[:, 0], size[:, 1]
    both = uv_steps[0] * width**2 + uv_steps[1] * height**2
    product = (uv_steps[2] * width * height) ** 2
    longest = 0.5 * (both + (both * both - 4 * product).clamp_min(0).sqrt())
    shortest = product / longest.clamp_min(1e-30)
    footprint = torch.maximum(shortest, longest / STRETCH**2).clamp_min(1e-12)
    level = (0.5 * torch.log2(footprint)).floor().long()
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
