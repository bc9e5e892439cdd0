"""A floor for films: a faint grid that shows where one goes, and soft shadows under the feet."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.render.scene import LabelledMesh
from avatar3d.structures import Material, Mesh

TILE = 0.5
"""Metres between the lines of the grid."""
LINE = 0.006
"""Half the width of a line, metres."""
GRID_ALPHA = 0.16
SHADOW_ALPHA = 0.42
TEXELS = 1024
FLOOR_LABEL = 0
"""Of the floor's pixels: background."""


def grid(radius: float) -> LabelledMesh:
    """A disc of lines around the origin that fades out towards its rim, a hair below Y = 0."""
    at = (torch.arange(TEXELS) + 0.5) / TEXELS * 2 * radius - radius
    away = ((at + 0.5 * TILE) % TILE - 0.5 * TILE).abs()
    soft = 2 * radius / TEXELS
    line = ((LINE + soft - away) / soft).clamp(0, 1)
    lines = torch.maximum(line[:, None], line[None])
    distance = (at[:, None] ** 2 + at[None] ** 2).sqrt() / radius
    fading = (1 - distance).clamp(0, 1)
    return _plate(radius, -0.002, GRID_ALPHA * lines * fading, "grid")


def shadow(radius: float = 0.3) -> LabelledMesh:
    """A soft dark spot around the origin, just above the grid; move it with `at`."""
    n = 64
    at = (torch.arange(n) + 0.5) / n * 2 - 1
    distance = (at[:, None] ** 2 + at[None] ** 2).sqrt()
    return _plate(radius, -0.001, SHADOW_ALPHA * (1 - distance).clamp(0, 1) ** 2, "shadow")


def at(plate: LabelledMesh, x: float, z: float, size: float = 1.0) -> LabelledMesh:
    """The plate elsewhere on the floor, scaled."""
    mesh = plate.mesh
    scale, offset = torch.tensor([size, 1.0, size]), torch.tensor([x, 0.0, z])
    moved = Mesh(mesh.vertices * scale + offset, mesh.faces, mesh.normals, mesh.uv, mesh.material)
    return LabelledMesh(moved, plate.label)


def _plate(radius: float, height: float, alpha: Float[Tensor, "H W"], name: str) -> LabelledMesh:
    corners = torch.tensor([[-1.0, 0, -1], [1, 0, -1], [1, 0, 1], [-1, 0, 1]])
    vertices = corners * radius + torch.tensor([0.0, height, 0.0])
    uv = 0.5 * corners[:, [0, 2]] + 0.5
    black = torch.zeros(*alpha.shape, 3)
    material = Material(
        name,
        base_color_texture=torch.cat([black, alpha[..., None]], dim=-1),
        roughness=1.0,
        alpha_mode="BLEND",
        double_sided=True,
    )
    normals = torch.tensor([0.0, 1.0, 0.0]).expand(4, 3).clone()
    return LabelledMesh(Mesh(vertices, torch.tensor([[0, 2, 1], [0, 3, 2]]), normals, uv, material), FLOOR_LABEL)
