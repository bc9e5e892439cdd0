"""Meshes without a skeleton -> GLB: one node for each, with its material."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from torch import Tensor

from avatar3d import __version__
from avatar3d.export.binary import ARRAY_BUFFER, ELEMENT_ARRAY_BUFFER, BinaryChunk
from avatar3d.export.materials import MaterialTable
from avatar3d.runs import write_bytes
from avatar3d.structures import Mesh


def write_static_glb(meshes: Mapping[str, Mesh], path: Path, extras: dict) -> None:
    """Write named meshes to `path`, whole or not at all; `extras` (JSON values) as in `encode_glb`."""
    write_bytes(path, encode_static_glb(meshes, extras))


def encode_static_glb(meshes: Mapping[str, Mesh], extras: dict) -> bytes:
    """The bytes of the GLB file; equal meshes give equal bytes. Raises ValueError for a mesh without faces."""
    empty = [name for name, mesh in meshes.items() if len(mesh.faces) == 0]
    if empty or not meshes:
        raise ValueError(f"a GLB file needs triangles; {empty[0] if empty else 'the list of meshes'} has none")
    chunk = BinaryChunk()
    materials = MaterialTable(chunk)
    materials.encode(mesh.material for mesh in meshes.values())
    entries = [_entry(name, mesh, chunk, materials) for name, mesh in meshes.items()]
    document = {
        "asset": {"version": "2.0", "generator": f"avatar3d {__version__}", "extras": extras},
        "scene": 0,
        "scenes": [{"name": "Scene", "nodes": list(range(len(entries))), "extras": extras}],
        "nodes": [{"name": entry["name"], "mesh": index} for index, entry in enumerate(entries)],
        "meshes": entries,
        "materials": materials.materials,
    }
    if materials.images:
        document |= {
            "textures": materials.textures,
            "images": materials.images,
            "samplers": materials.samplers,
        }
    return chunk.to_glb(document)


def _entry(name: str, mesh: Mesh, chunk: BinaryChunk, materials: MaterialTable) -> dict:
    dtype = np.uint16 if len(mesh.vertices) < 65536 else np.uint32
    attributes = {
        "POSITION": chunk.add_array(_float32(mesh.vertices), ARRAY_BUFFER, bounds=True),
        "NORMAL": chunk.add_array(_float32(mesh.normals), ARRAY_BUFFER),
        "TEXCOORD_0": chunk.add_array(_float32(mesh.uv), ARRAY_BUFFER),
    }
    indices = mesh.faces.detach().cpu().numpy().astype(dtype).reshape(-1)
    primitive = {
        "attributes": attributes,
        "indices": chunk.add_array(indices, ELEMENT_ARRAY_BUFFER),
        "material": materials.add(mesh.material),
    }
    return {"name": name, "primitives": [primitive]}


def _float32(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy().astype(np.float32)
