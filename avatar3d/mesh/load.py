"""Meshes from GLB, glTF and OBJ files: the one door to trimesh.

Reads what a picture needs: world positions, normals, texture coordinates and base materials. Skins, face shapes
and animations are left out, so a rigged character comes in its rest pose.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import trimesh
from PIL import Image
from trimesh.visual.material import PBRMaterial, SimpleMaterial

from avatar3d.structures import Material, Mesh

SUFFIXES = (".glb", ".gltf", ".obj")


class MeshFileError(ValueError):
    """A file that holds no mesh to read, with the fault and the remedy in its message."""


def load_meshes(path: Path) -> list[Mesh]:
    """All triangle meshes of a file, placed in its world frame.

    Raises `MeshFileError` for a missing, broken or empty file and for other formats.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise MeshFileError(f"{path} is not a mesh file; this reads {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise MeshFileError(f"{path} does not exist or is not a file; check the path")
    try:
        scene = trimesh.load_scene(path, process=False)
        placed = [(scene.geometry[name], T) for T, name in map(scene.graph.get, scene.graph.nodes_geometry)]
        meshes = [_mesh(source, T) for source, T in placed if isinstance(source, trimesh.Trimesh)]
    except Exception as error:  # a parser raises anything on broken bytes
        raise MeshFileError(f"{path} can not be read ({type(error).__name__}: {error}); is it whole?") from error
    meshes = [mesh for mesh in meshes if len(mesh.faces)]
    if not meshes:
        raise MeshFileError(f"{path} holds no triangles; export it again with its meshes")
    if not all(bool(torch.isfinite(mesh.vertices).all()) for mesh in meshes):
        raise MeshFileError(f"{path} has vertices that are not finite numbers; export it again")
    return meshes


def _mesh(geometry: trimesh.Trimesh, T_world_mesh: np.ndarray) -> Mesh:
    linear = torch.tensor(T_world_mesh[:3, :3], dtype=torch.float64)
    vertices = torch.tensor(np.asarray(geometry.vertices)) @ linear.T + torch.tensor(T_world_mesh[:3, 3])
    normals = torch.tensor(np.asarray(geometry.vertex_normals)) @ torch.linalg.pinv(linear)
    uv = getattr(geometry.visual, "uv", None)
    if uv is None:
        uv_tensor = torch.zeros(len(vertices), 2)
    else:
        uv_tensor = torch.tensor(np.asarray(uv)[:, :2], dtype=torch.float32)
        uv_tensor[:, 1] = 1.0 - uv_tensor[:, 1]  # trimesh's v grows upwards
    faces = torch.tensor(np.asarray(geometry.faces), dtype=torch.int64)
    if torch.linalg.det(linear) < 0:
        faces = faces.flip(1)
    normals = torch.nn.functional.normalize(normals, dim=1)
    return Mesh(vertices.float(), faces, normals.float(), uv_tensor, _material(geometry))


def _material(geometry: trimesh.Trimesh) -> Material:
    source = getattr(geometry.visual, "material", None)
    if isinstance(source, PBRMaterial):
        return _pbr_material(source)
    if isinstance(source, SimpleMaterial):
        color = np.asarray(source.diffuse, dtype=float) / 255 if source.image is None else np.ones(4)
        return Material(source.name or "material", _four(color), _pixels(source.image, "RGBA"), double_sided=True)
    return Material("material", base_color=(0.7, 0.7, 0.7, 1.0), double_sided=True)


def _pbr_material(source: PBRMaterial) -> Material:
    factor = np.ones(4) if source.baseColorFactor is None else np.asarray(source.baseColorFactor) / 255
    rgb = np.where(factor[:3] <= 0.0031308, 12.92 * factor[:3], 1.055 * factor[:3] ** (1 / 2.4) - 0.055)
    return Material(
        name=source.name or "material",
        base_color=_four(np.append(rgb, factor[3:])),
        base_color_texture=_pixels(source.baseColorTexture, "RGBA"),
        normal_texture=_pixels(source.normalTexture, "RGB"),
        orm_texture=_orm(source),
        roughness=1.0 if source.roughnessFactor is None else float(source.roughnessFactor),
        metallic=1.0 if source.metallicFactor is None else float(source.metallicFactor),
        alpha_mode=source.alphaMode or "OPAQUE",
        alpha_cutoff=0.5 if source.alphaCutoff is None else float(source.alphaCutoff),
        double_sided=bool(source.doubleSided),
    )


def _orm(source: PBRMaterial) -> torch.Tensor | None:
    """Roughness and metallic of one texture; its red channel counts only if it is the occlusion texture too."""
    texture = _pixels(source.metallicRoughnessTexture, "RGB")
    if texture is None or source.occlusionTexture is source.metallicRoughnessTexture:
        return texture
    if source.occlusionTexture is None:
        return torch.cat([torch.ones_like(texture[..., :1]), texture[..., 1:]], dim=2)
    return texture


def _pixels(image: Image.Image | None, mode: str) -> torch.Tensor | None:
    if image is None:
        return None
    return torch.from_numpy(np.array(image.convert(mode), dtype=np.float32) / 255)


def _four(color: np.ndarray) -> tuple[float, float, float, float]:
    red, green, blue, alpha = (float(c) for c in color)
    return red, green, blue, alpha
