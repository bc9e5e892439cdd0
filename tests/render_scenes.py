"""Small meshes for the renderer's tests."""

import math

import torch

from avatar3d.render.scene import LabelledMesh
from avatar3d.structures import Material, Mesh


def sphere(material: Material, center=(0.0, 0.0, 0.0), radius: float = 1.0, label: int = 1, rings: int = 48):
    """A sphere as a grid in latitude and longitude."""
    columns = 2 * rings
    v, u = torch.meshgrid(torch.linspace(0, 1, rings + 1), torch.linspace(0, 1, columns + 1), indexing="ij")
    theta, phi = v * math.pi, u * 2 * math.pi
    unit = torch.stack([theta.sin() * phi.sin(), theta.cos(), theta.sin() * phi.cos()], dim=-1).reshape(-1, 3)
    corner = (torch.arange(rings)[:, None] * (columns + 1) + torch.arange(columns)).reshape(-1)
    below = corner + columns + 1
    faces = torch.cat(
        [torch.stack([corner, below, corner + 1], 1), torch.stack([corner + 1, below, below + 1], 1)]
    )
    uv = torch.stack([u, v], dim=-1).reshape(-1, 2)
    return LabelledMesh(Mesh(unit * radius + torch.tensor(center), faces, unit, uv, material), label)


def quad(material: Material, z: float = 0.0, half: float = 1.0, label: int = 1, x: float = 0.0):
    """A square that faces +Z; uv (0, 0) is its upper left corner seen from there."""
    corners = torch.tensor([[-half, half, 0], [-half, -half, 0], [half, -half, 0], [half, half, 0.0]])
    uv = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 1.0], [1.0, 0.0]])
    normals = torch.tensor([[0.0, 0.0, 1.0]]).expand(4, 3)
    faces = torch.tensor([[0, 1, 2], [0, 2, 3]])
    return LabelledMesh(Mesh(corners + torch.tensor([x, 0.0, z]), faces, normals, uv, material), label)


def triangle_soup(count: int, seed: int, material: Material, label: int = 1, size: float = 0.6):
    """Random triangles in the unit cube."""
    generator = torch.Generator().manual_seed(seed)
    centers = torch.rand(count, 1, 3, generator=generator) * 2 - 1
    vertices = (centers + size * torch.randn(count, 3, 3, generator=generator)).reshape(-1, 3)
    uv = torch.rand(3 * count, 2, generator=generator) * 3 - 1
    normals = torch.nn.functional.normalize(torch.randn(3 * count, 3, generator=generator), dim=-1)
    return LabelledMesh(Mesh(vertices, torch.arange(3 * count).view(-1, 3), normals, uv, material), label)
