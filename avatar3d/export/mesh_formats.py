"""OBJ, PLY and STL: the shape of an avatar without its skeleton, as posed.

Units are metres and Y is up in all three, as everywhere in this package; none of the formats can say so. Slicers
take an STL file's numbers for millimetres: `scale=1000` writes it that way.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.body.pose import Pose, pose_avatar
from avatar3d.export.texture_files import TextureFiles, free_name
from avatar3d.render.color import linear_to_srgb, srgb_to_linear
from avatar3d.render.textures import build_atlas, sample_atlas
from avatar3d.runs import write_bytes
from avatar3d.structures import Avatar, Material, Mesh


def write_obj(
    avatar: Avatar, path: Path, record: dict, pose: Pose | None = None, scale: float = 1.0
) -> list[Path]:
    """Write `avatar.obj`, `avatar.mtl` and the textures `avatar_<name>.png` or `.jpg` beside; returns all paths.

    The avatar wears its own expression and `pose` (default: as bound); each part is an object of its own.
    Materials have the usual fields and those of the PBR extension of MTL. Nothing is left behind when a file can
    not be written (OSError).
    """
    library = path.with_suffix(".mtl")
    textures = TextureFiles(f"{path.stem}_")
    materials: dict[str, str] = {}
    lines = [*_comments("#", record), f"mtllib {library.name}"]
    start = 1
    for part, mesh in pose_avatar(avatar, pose or {}):
        body = _mtl_entry(mesh.material, textures)
        if body not in materials:
            materials[body] = free_name(mesh.material.name, set(materials.values()))
        lines += [f"o {part.name}", f"g {part.name}", f"usemtl {materials[body]}", _obj_vertices(mesh, scale)]
        lines.append(_obj_faces(mesh, start))
        start += len(mesh.vertices)
    entries = [f"newmtl {name}\n{body}" for body, name in materials.items()]
    files = {path.with_name(name): data for name, data in textures.files.items()}
    files[library] = "\n".join([*_comments("#", record), *entries, ""]).encode()
    files[path] = "\n".join([*lines, ""]).encode()
    _write_all(files)
    return list(files)


def write_ply(avatar: Avatar, path: Path, record: dict, pose: Pose | None = None, scale: float = 1.0) -> None:
    """Write one binary mesh with normals and sRGB vertex colors taken from the textures."""
    meshes = [mesh for _, mesh in pose_avatar(avatar, pose or {})]
    vertices, faces, normals = _joined(meshes, scale)
    colors = torch.cat([vertex_colors(mesh) for mesh in meshes]).clamp(0, 1).mul(255).round().byte().cpu().numpy()
    columns = ["x", "y", "z", "nx", "ny", "nz"]
    rows = np.empty(len(vertices), [(c, "<f4") for c in columns] + [(c, "u1") for c in ("r", "g", "b", "a")])
    for column, values in zip(columns, np.hstack([vertices, normals]).T, strict=True):
        rows[column] = values
    for column, values in zip("rgba", colors.T, strict=True):
        rows[column] = values
    corners = np.empty(len(faces), [("count", "u1"), ("index", "<i4", 3)])
    corners["count"], corners["index"] = 3, faces
    header = [
        "ply",
        "format binary_little_endian 1.0",
        *_comments("comment", record),
        f"element vertex {len(vertices)}",
        *(f"property float {c}" for c in columns),
        *(f"property uchar {c}" for c in ("red", "green", "blue", "alpha")),
        f"element face {len(faces)}",
        "property list uchar int vertex_indices",
        "end_header\n",
    ]
    write_bytes(path, "\n".join(header).encode() + rows.tobytes() + corners.tobytes())


def write_stl(avatar: Avatar, path: Path, record: dict, pose: Pose | None = None, scale: float = 1.0) -> None:
    """Write one binary mesh of bare triangles. Its 80 bytes of header name the generator and the licence."""
    vertices, faces, _ = _joined([mesh for _, mesh in pose_avatar(avatar, pose or {})], scale)
    corners = vertices[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-30)
    rows = np.zeros(len(faces), [("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
    rows["normal"], rows["corners"] = normals, corners
    title = f"{record['generator']}, licence {record.get('licence')}".encode("ascii", "replace")[:80]
    write_bytes(path, title.ljust(80, b" ") + np.uint32(len(faces)).tobytes() + rows.tobytes())


def vertex_colors(mesh: Mesh) -> Float[Tensor, "V 4"]:
    """sRGB and alpha of the base color at each vertex.

    The texture is first blurred to the distance between vertices, so that stripes finer than the mesh give their
    mean instead of noise.
    """
    material = mesh.material
    factor = torch.tensor(material.base_color).to(mesh.vertices)
    texture = material.base_color_texture
    if texture is None:
        return factor.expand(len(mesh.vertices), 4)
    if texture.shape[2] < 4:
        texture = torch.cat([texture.expand(-1, -1, 3), torch.ones_like(texture[..., :1])], dim=2)
    atlas = build_atlas([texture], max_levels=16)
    size = torch.tensor([texture.shape[1], texture.shape[0]]).to(mesh.uv)
    edges = (mesh.uv[mesh.faces] - mesh.uv[mesh.faces.roll(1, dims=1)]) * size
    spacing = float(edges.norm(dim=-1).median()) if len(edges) else 1.0
    level = min(max(int(math.log2(max(spacing, 1.0))), 0), atlas.levels.shape[1] - 1)
    rows = atlas.levels[0, level].expand(len(mesh.uv), 3)
    return _tinted(sample_atlas(atlas.texels, rows, mesh.uv), factor)


def _tinted(color: Float[Tensor, "*B C"], factor: Float[Tensor, 4]) -> Float[Tensor, "*B C"]:
    """sRGB `color` times the sRGB `factor`, multiplied as light; alphas as they are."""
    if bool((factor == 1).all()):
        return color
    rgb = linear_to_srgb(srgb_to_linear(color[..., :3]) * srgb_to_linear(factor[:3]))
    return torch.cat([rgb, color[..., 3:] * factor[3]], dim=-1)


def _joined(meshes: list[Mesh], scale: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices (V, 3), faces (F, 3) and normals (V, 3) of all meshes as one."""
    offsets = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes)])
    vertices = torch.cat([mesh.vertices for mesh in meshes]).detach().cpu().double().numpy() * scale
    faces = [mesh.faces.detach().cpu().numpy() + offset for mesh, offset in zip(meshes, offsets, strict=False)]
    return vertices, np.concatenate(faces), torch.cat([mesh.normals for mesh in meshes]).detach().cpu().numpy()


def _comments(mark: str, record: dict) -> list[str]:
    """The record on one line of JSON, in ASCII so that every reader survives it."""
    return [
        f"{mark} {record['generator']}, licence {record.get('licence')}",
        f"{mark} record {json.dumps(record)}",
    ]


def _obj_vertices(mesh: Mesh, scale: float) -> str:
    uv = mesh.uv.detach().cpu().double().numpy()
    return "\n".join(
        [
            _rows("v %.6f %.6f %.6f", mesh.vertices.detach().cpu().double().numpy() * scale),
            _rows("vt %.6f %.6f", np.column_stack([uv[:, 0], 1 - uv[:, 1]])),
            _rows("vn %.4f %.4f %.4f", mesh.normals.detach().cpu().double().numpy()),
        ]
    )


def _obj_faces(mesh: Mesh, start: int) -> str:
    corners = np.repeat(mesh.faces.detach().cpu().numpy() + start, 3, axis=1)
    return _rows("f %d/%d/%d %d/%d/%d %d/%d/%d", corners)


def _rows(form: str, values: np.ndarray) -> str:
    """One line per row, all formatted in one go: ten times as fast as `numpy.savetxt`."""
    return "\n".join([form] * len(values)) % tuple(values.ravel().tolist())


def _mtl_entry(material: Material, textures: TextureFiles) -> str:
    """The lines of a material below its name. A color that multiplies a texture is painted into it."""
    factor = torch.tensor(material.base_color)
    color, alpha = material.base_color[:3], material.base_color[3]
    opaque = material.alpha_mode == "OPAQUE"
    lines = []
    if material.base_color_texture is not None:
        texture = _tinted(material.base_color_texture, factor.to(material.base_color_texture))
        file = textures.add(texture, f"{material.name}_color", opaque)
        color = (1.0, 1.0, 1.0)
        lines.append(f"map_Kd {file}")
        if not opaque and texture.shape[2] == 4:
            lines.append(f"map_d {file}")
            alpha = 1.0
    if material.normal_texture is not None:
        lines.append(f"norm {textures.add(material.normal_texture, f'{material.name}_normal', True)}")
    if material.orm_texture is not None:
        roughness = material.orm_texture[..., 1:2] * material.roughness
        lines.append(f"map_Pr {textures.add(roughness, f'{material.name}_roughness', True)}")
    head = [
        "Kd " + " ".join(f"{c:.6f}" for c in color),
        f"d {1.0 if opaque else alpha:.6f}",
        "illum 2",
        f"Pr {material.roughness:.6f}",
        f"Pm {material.metallic:.6f}",
    ]
    return "\n".join([*head, *lines])


def _write_all(files: Mapping[Path, bytes]) -> None:
    """Write all files; when one fails, those that were not there before are removed again."""
    new = [path for path in files if not path.exists()]
    try:
        for path, data in files.items():
            write_bytes(path, data)
    except BaseException:
        for path in new:
            path.unlink(missing_ok=True)
        raise
