"""Colors in texture space that start as an avatar's own and stay in [0, 1].

A color channel is sin^2(angle): any angle is a color, and 0 angle more is the color it was. What is learned is the
turn of the angle, as a pyramid of grids over the texture: few steps change the coarse one smoothly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from avatar3d.render.color import linear_to_srgb, srgb_to_linear
from avatar3d.render.textures import sample_atlas
from avatar3d.structures import Material, Mesh, Part

LEAST = 1 / 255
"""Colors start this far from black and white, where turning the angle changes nothing at first."""
PLAIN = 64
"""Texels along each side of the texture that a part of one color gets."""
BLURRED = 16
"""Texels along each side at which likeness to the start is measured."""

SIZES = (1, 16, 64, 256)
"""Grids of the pyramid: the first colors a texture evenly."""


class Paint(nn.Module):
    """Turns of the colors of the parts whose kind is chosen; equal textures of equal color are painted as one."""

    layer: Tensor
    """(parts,) which texture each part has; -1 for those that keep their colors."""

    def __init__(self, parts: Sequence[Part], kinds: Sequence[str], sizes: Sequence[int] = SIZES) -> None:
        super().__init__()
        layers: dict[tuple[int, tuple[float, ...]], int] = {}
        numbers = []
        for n, part in enumerate(parts):
            material = part.mesh.material
            texture = material.base_color_texture
            key = (-1 - n if texture is None else id(texture), material.base_color)
            numbers.append(layers.setdefault(key, len(layers)) if part.kind in kinds else -1)
        like = parts[0].mesh.vertices
        self.register_buffer("layer", torch.tensor(numbers, device=like.device))
        self.turns = nn.ParameterList(like.new_zeros(len(layers), size, size, 3) for size in sizes)

    def turn(self, layer: Int[Tensor, " S"], uv: Float[Tensor, "S 2"]) -> Float[Tensor, "S 3"]:
        """The sum of all levels, between texels bilinear, repeated beyond the texture."""
        total = uv.new_zeros(len(uv), 3)
        for level in self.turns:
            size = level.shape[1]
            rows = torch.stack([layer * size * size, *[torch.full_like(layer, size)] * 2], dim=-1)
            total = total + sample_atlas(level.view(-1, 3), rows, uv)
        return total

    def penalties(self) -> dict[str, Float[Tensor, ""]]:
        """How far the blurred textures are from the start, and how uneven the finer levels are."""
        blurred, variation = self.turns[0].new_zeros(()), self.turns[0].new_zeros(())
        for n, level in enumerate(self.turns):
            planes = level.permute(0, 3, 1, 2)
            blurred = blurred + torch.nn.functional.adaptive_avg_pool2d(planes, BLURRED)
            if n:
                variation = variation + planes.diff(dim=2).abs().mean() + planes.diff(dim=3).abs().mean()
        return {"identity": (blurred**2).mean(), "texture_variation": variation}

    @torch.no_grad()
    def painted(self, number: int, mesh: Mesh) -> Material:
        """The material of part `number`, its color now all in its texture; alpha is what it was."""
        material, layer = mesh.material, self.layer[number]
        if layer < 0:
            return material
        texture = material.base_color_texture
        if texture is None:
            texture = mesh.vertices.new_ones(PLAIN, PLAIN, 3)
        if texture.shape[2] < 3:
            texture = torch.cat([texture[..., :1].expand(*texture.shape[:2], 3), texture[..., 1:]], dim=2)
        height, width, _ = texture.shape
        tint = srgb_to_linear(texture.new_tensor(material.base_color[:3]))
        start = linear_to_srgb(srgb_to_linear(texture[..., :3]) * tint).view(-1, 3)
        v, u = torch.meshgrid(
            (torch.arange(height, device=texture.device) + 0.5) / height,
            (torch.arange(width, device=texture.device) + 0.5) / width,
            indexing="ij",
        )
        uv = torch.stack([u, v], dim=-1).view(-1, 2).to(texture)
        rgb = turned(start, self.turn(layer.expand(len(uv)), uv)).view(height, width, 3)
        color = (1.0, 1.0, 1.0, material.base_color[3])
        return replace(material, base_color=color, base_color_texture=torch.cat([rgb, texture[..., 3:]], dim=2))


def turned(start: Float[Tensor, "S 3"], turn: Float[Tensor, "S 3"]) -> Float[Tensor, "S 3"]:
    """sin^2(angle of the start + turn)."""
    angle = start.detach().clamp(LEAST, 1 - LEAST).sqrt().asin()
    return torch.sin(angle + turn) ** 2
