"""Field -> a static mesh with a texture, ready to be written: extract, clean, decimate, unwrap, bake."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from avatar3d.mesh.bake import bake, seam_error
from avatar3d.mesh.clean import compact, filled_holes, is_closed, largest_pieces
from avatar3d.mesh.decimate import decimate
from avatar3d.mesh.extract import Field, extract
from avatar3d.mesh.normals import vertex_normals
from avatar3d.mesh.unwrap import unwrap
from avatar3d.structures import Material, Mesh


@dataclass(frozen=True)
class Meshing:
    """How fine a mesh and its texture are."""

    cell: float = 0.002
    """Edge of a marching cube, metres."""
    triangles: int = 20000
    """At most."""
    texture: int = 1024
    """Texels along each side."""
    padding: int = 8
    """Texels between charts."""
    least_piece: float = 0.02
    """Pieces with less than this share of the largest one's area are dropped."""


@dataclass(frozen=True)
class TexturedMesh:
    """The mesh, and how good it is."""

    mesh: Mesh
    closed: bool
    """Every edge has two faces."""
    seam_error: float
    """Mean step of color across texture seams, sRGB in [0, 1]."""


def textured_mesh(field: Field, bounds: Float[Tensor, "2 3"], meshing: Meshing | None = None) -> TexturedMesh:
    """The surface of a field in a box as one mesh with a base color texture.

    Raises `extract.FieldError` when the field has no surface there.
    """
    m = meshing or Meshing()
    return textured_surface(
        field, *filled_holes(*largest_pieces(*extract(field, bounds, m.cell), m.least_piece)), m
    )


def textured_surface(
    field: Field, vertices: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"], m: Meshing
) -> TexturedMesh:
    """A mesh of a field's surface: decimated, unwrapped, and with the field's colors as its texture."""
    if len(faces) > m.triangles:
        weld = torch.arange(len(vertices), device=vertices.device)
        vertices, faces = compact(vertices, decimate(vertices, faces, m.triangles, weld).faces)
    normals = vertex_normals(vertices, faces)
    charts = unwrap(vertices, faces, m.texture, m.padding)
    plain = Mesh(
        vertices[charts.source], charts.faces, normals[charts.source], charts.uv, Material("field", roughness=0.7)
    )
    texture = bake(field, plain, m.texture).rgb
    material = Material("field", base_color_texture=texture, roughness=0.7)
    mesh = Mesh(plain.vertices, plain.faces, plain.normals, plain.uv, material)
    return TexturedMesh(mesh, is_closed(faces), seam_error(mesh, texture))
