"""Textures no larger than a platform takes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.export.resample import encode_colors, resampled
from avatar3d.structures import Avatar, Material

WHOLE = np.array([[0.0, 0.0], [1.0, 1.0]])


def with_smaller_textures(avatar: Avatar, side: int) -> Avatar:
    """The avatar with textures halved until none has more than `side` texels a side; shared ones stay shared."""
    done: dict[tuple, Tensor] = {}

    def smaller(texture: Tensor | None, colors: bool, cutoff: float | None = None) -> Tensor | None:
        if texture is None or max(texture.shape[:2]) <= side:
            return texture
        key = (id(texture), colors, cutoff)
        if key not in done:
            done[key] = shrunk(texture, side, colors, cutoff)
        return done[key]

    def shrunk_material(m: Material) -> Material:
        cutoff = m.alpha_cutoff if m.alpha_mode == "MASK" else None
        return replace(
            m,
            base_color_texture=smaller(m.base_color_texture, True, cutoff),
            normal_texture=smaller(m.normal_texture, False),
            orm_texture=smaller(m.orm_texture, False),
        )

    parts = tuple(
        replace(p, mesh=replace(p.mesh, material=shrunk_material(p.mesh.material))) for p in avatar.parts
    )
    return replace(avatar, parts=parts)


def shrunk(
    texture: Float[Tensor, "H W C"], side: int, colors: bool, cutoff: float | None = None
) -> Float[Tensor, "h w C"]:
    """The texture with each axis halved until it has at most `side` texels.

    `colors` averages in linear light. With a `cutoff` (of a mask) alpha is scaled so that as many texels pass it
    as before (Castaño 2010).
    """
    height, width, channels = texture.shape
    size = tuple(max(1, n >> max(0, int(np.ceil(np.log2(n / side))))) for n in (width, height))
    source = texture.detach().cpu().numpy()
    small = resampled(source, WHOLE, (size[0], size[1]), colors=colors)
    if colors:
        encode_colors(small)
    if cutoff is not None and channels == 4:
        small[..., 3] = with_coverage(small[..., 3], float((source[..., 3] >= cutoff).mean()), cutoff)
    return torch.from_numpy(small).to(texture)


def with_coverage(alpha: Float[np.ndarray, "H W"], share: float, cutoff: float) -> Float[np.ndarray, "H W"]:
    """Alpha scaled so that this share of texels passes the cutoff."""
    if share <= 0 or share >= 1:
        return alpha
    passing = float(np.quantile(alpha, 1 - share))
    return np.clip(alpha * (cutoff / max(passing, 1e-3)), 0, 1)
