"""Meshes from GLB, glTF, OBJ, PLY and STL files (through trimesh)."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from avatar3d.errors import InputError
from avatar3d.mesh.normals import vertex_normals, weld_by_position
from avatar3d.render.color import linear_to_srgb
from avatar3d.render.scene import LabelledMesh
from avatar3d.structures import Material, Mesh

SUFFIXES = (".glb", ".gltf", ".obj", ".ply", ".stl")
TOO_LARGE = 1e6
TOO_SMALL = 1e-6
"""Metres."""


class MeshFileError(InputError, ValueError):
    """A file that holds nothing to draw, with the reason and the remedy."""


def mesh_from_file(path: Path | str) -> list[LabelledMesh]:
    """All triangles of a file in scene coordinates, one mesh per geometry instance, labelled 1, 2, ...

    Raises `MeshFileError` when the file is missing, of another kind, broken or empty.
    """
    import trimesh

    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise MeshFileError(f"{path.name}: can read {', '.join(SUFFIXES)}, not {path.suffix or 'a bare name'!r}")
    if not path.is_file():
        raise MeshFileError(f"{path}: no such file")
    if path.stat().st_size == 0:
        raise MeshFileError(f"{path}: the file is empty; export it again")
    try:
        scene = trimesh.load_scene(path, process=False)
        instances = [scene.graph[name] for name in sorted(scene.graph.nodes_geometry)]
        pieces = [(scene.geometry[geometry], transform) for transform, geometry in instances]
        meshes = [_convert(piece, transform) for piece, transform in pieces if isinstance(piece, trimesh.Trimesh)]
    except Exception as error:  # readers raise anything on broken input
        raise MeshFileError(
            f"{path}: can not be read ({type(error).__name__}: {error}); is it a whole {path.suffix} file?"
        ) from error
    meshes = [mesh for mesh in meshes if len(mesh.faces)]
    if not meshes:
        raise MeshFileError(f"{path}: holds no triangles (point clouds and lines can not be rendered)")
    used = torch.cat([mesh.vertices[mesh.faces].reshape(-1, 3) for mesh in meshes])
    if float((used.amax(0) - used.amin(0)).max()) < TOO_SMALL:
        raise MeshFileError(f"{path}: all its triangles lie in one point; scale it up")
    return [LabelledMesh(mesh, index + 1) for index, mesh in enumerate(meshes)]


def _convert(piece, transform: np.ndarray) -> Mesh:
    """A trimesh in scene coordinates. Mirroring transforms keep the faces' outside outside."""
    T = torch.from_numpy(np.array(transform, dtype=np.float64))
    vertices = torch.from_numpy(np.array(piece.vertices, dtype=np.float64)) @ T[:3, :3].T + T[:3, 3]
    if len(vertices) and not vertices.abs().max() <= TOO_LARGE:
        raise ValueError(f"vertices are not finite or beyond {TOO_LARGE:g} m")
    vertices = vertices.float()
    faces = torch.from_numpy(np.array(piece.faces, dtype=np.int64)).reshape(-1, 3)
    stored = piece.vertex_normals if "vertex_normals" in piece._cache else None
    mirrored = bool(torch.linalg.det(T[:3, :3]) < 0)
    if mirrored:
        faces = faces.flip(1)
    if stored is not None and len(stored) == len(vertices) and not mirrored:
        normals = torch.from_numpy(np.array(stored, dtype=np.float64)) @ torch.linalg.pinv(T[:3, :3])
        normals = torch.nn.functional.normalize(normals.float(), dim=-1)
    else:
        normals = vertex_normals(vertices, faces, weld_by_position(vertices) if len(vertices) else None)
    uv = getattr(piece.visual, "uv", None)
    uv = torch.zeros(len(vertices), 2) if uv is None else torch.from_numpy(np.array(uv, dtype=np.float32))
    uv = torch.nan_to_num(uv[:, :2])
    # trimesh flips glTF's v when it reads
    uv = torch.stack([uv[:, 0], 1 - uv[:, 1]], dim=-1)
    return Mesh(vertices, faces, normals, uv, _material(piece))


def _material(piece) -> Material:
    import trimesh

    material = getattr(piece.visual, "material", None)
    if isinstance(material, trimesh.visual.material.PBRMaterial):
        factor = material.baseColorFactor
        factor = np.full(4, 255) if factor is None else np.asarray(factor)
        orm = _image(material.metallicRoughnessTexture, "RGB")
        occlusion = _image(material.occlusionTexture, "RGB")
        if orm is not None:
            red = torch.ones_like(orm[..., :1])
            if occlusion is not None and occlusion.shape == orm.shape:
                red = occlusion[..., :1]
            orm = torch.cat([red, orm[..., 1:]], dim=-1)
        return Material(
            name=str(material.name or "material"),
            base_color=_encoded(_rgba(factor)),
            base_color_texture=_image(material.baseColorTexture, "RGBA"),
            normal_texture=_image(material.normalTexture, "RGB"),
            orm_texture=orm,
            roughness=_number(material.roughnessFactor, 1.0),
            metallic=_number(material.metallicFactor, 1.0),
            alpha_mode=material.alphaMode or "OPAQUE",
            alpha_cutoff=_number(material.alphaCutoff, 0.5),
            double_sided=bool(material.doubleSided),
        )
    if isinstance(material, trimesh.visual.material.SimpleMaterial):
        texture = _image(material.image, "RGBA")
        color = (1.0, 1.0, 1.0, 1.0) if texture is not None else _rgba(np.asarray(material.diffuse))
        return Material(str(material.name or "material"), color, texture, double_sided=True)
    color = (0.8, 0.8, 0.8, 1.0)
    if piece.visual.defined:
        color = _rgba(np.asarray(piece.visual.main_color))
    return Material("vertex_color", color, double_sided=True)


def _rgba(color: np.ndarray) -> tuple[float, float, float, float]:
    scale = 255.0 if color.dtype.kind in "ui" else 1.0
    r, g, b, a = (float(c) / scale for c in [*color, 255 if scale > 1 else 1.0][:4])
    return (r, g, b, a)


def _encoded(linear: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    """glTF's base color factor is linear, ours is sRGB; alpha is linear in both."""
    r, g, b = linear_to_srgb(torch.tensor(linear[:3])).tolist()
    return (r, g, b, linear[3])


def _number(value: float | None, default: float) -> float:
    return default if value is None or not math.isfinite(value) else float(value)


def _image(picture: Image.Image | None, mode: str) -> Tensor | None:
    if picture is None:
        return None
    return torch.from_numpy(np.array(picture.convert(mode), dtype=np.float32) / 255)
