"""Avatar -> GLB (binary glTF 2.0, no extensions): meshes, skin, face shapes, PBR materials, animations.

Layout: the skeleton hangs under one node `Armature`; every part is a skinned mesh at the scene's root with an
identity transform, as the specification asks.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from avatar3d import __version__
from avatar3d.body.twist import clip_with_twists
from avatar3d.export.animation import animation_entry
from avatar3d.export.binary import ARRAY_BUFFER, ELEMENT_ARRAY_BUFFER, BinaryChunk
from avatar3d.export.materials import MaterialTable
from avatar3d.export.profiles import find_profile
from avatar3d.export.rig import Rig, make_rig
from avatar3d.export.rpm import EVERY_SHAPE, with_ready_player_me_names
from avatar3d.export.tangents import vertex_tangents
from avatar3d.runs import write_bytes
from avatar3d.structures import Avatar, Clip, Mesh, MorphTargets, Part, Skin

COVERAGE = 0.4
"""Each level of detail is used until the avatar covers this share of what it did when the level began."""
SMALLEST_OFFSET = 1e-5
"""Metres. A vertex that a morph target moves less than this along each axis stays where it is."""


def write_glb(
    avatar: Avatar,
    path: Path,
    extras: dict,
    profile: str = "vrm",
    clips: Sequence[Clip] = (),
    lods: Sequence[Avatar] = (),
) -> None:
    """Write `avatar` to `path`, whole or not at all; arguments and errors are those of `glb_document`."""
    write_bytes(path, encode_glb(avatar, extras, profile, clips, lods))


def encode_glb(
    avatar: Avatar,
    extras: dict,
    profile: str = "vrm",
    clips: Sequence[Clip] = (),
    lods: Sequence[Avatar] = (),
) -> bytes:
    """The bytes of the GLB file; equal avatars give equal bytes. Arguments and errors as of `glb_document`."""
    document, chunk = glb_document(avatar, extras, profile, clips, lods)
    return chunk.to_glb(document)


def glb_document(
    avatar: Avatar,
    extras: dict,
    profile: str = "vrm",
    clips: Sequence[Clip] = (),
    lods: Sequence[Avatar] = (),
) -> tuple[dict, BinaryChunk]:
    """The glTF JSON object, without its buffers, and the binary chunk that it points into.

    Formats that extend glTF add to both before they are written. Normal-mapped meshes have tangents.
    `extras` (JSON values) goes into the file's `asset.extras` and onto the scene, where importers keep it.
    `profile` names the bones (`export.profiles.PROFILES`); the bind pose stays that of `avatar`. `clips` become
    animations. `lods` are lower levels of detail of the same avatar, best first.

    Raises ValueError when two parts have the same name, which importers would rename or merge, or a level has
    other joints; `ProfileError` for an unknown profile, `ClipError` for a clip that does not fit.
    """
    bones = find_profile(profile)
    levels = [with_ready_player_me_names(a) if bones.name == "rpm" else a for a in (avatar, *lods)]
    if any(level.skeleton.names != avatar.skeleton.names for level in levels):
        raise ValueError("a level of detail has other joints than the avatar; reduce the same avatar")
    rig = make_rig(avatar.skeleton, bones)
    for level in levels:
        _check_names([*rig.names, "Armature", *(part.name for part in level.parts)])
    chunk = BinaryChunk()
    materials = MaterialTable(chunk)
    materials.encode(part.mesh.material for level in levels for part in level.parts)
    nodes = _joint_nodes(rig)
    roots = [bone for bone, parent in enumerate(rig.parents) if parent < 0]
    if not bones.scene_is_armature:
        nodes.append({"name": "Armature", "children": roots})
        roots = [len(nodes) - 1]
    meshes: list[dict] = []
    shapes: dict[int, list[str]] = {}
    of_part: dict[str, list[int]] = {part.name: [] for level in levels for part in level.parts}
    for number, level in enumerate(levels):
        here = {part.name: part for part in level.parts}
        for label, ids in of_part.items():
            name = f"{label}_LOD{number}" if number else label
            ids.append(len(nodes))
            nodes.append({"name": name})
            if label in here:
                nodes[-1] |= {"mesh": len(meshes), "skin": 0}
                still = bones.name == "rpm" and label in EVERY_SHAPE
                meshes.append(_mesh_entry(here[label], name, rig, avatar.expression, still, chunk, materials))
                shapes[ids[-1]] = meshes[-1]["extras"].get("targetNames", [])
    for first, *lower in of_part.values():
        if lower:
            _add_levels(nodes[first], lower)
    document = {
        "asset": {"version": "2.0", "generator": f"avatar3d {__version__}", "extras": extras},
        "scene": 0,
        "scenes": [
            {
                "name": "Armature" if bones.scene_is_armature else "Avatar",
                "nodes": [*roots, *(ids[0] for ids in of_part.values())],
                "extras": extras,
            }
        ],
        "nodes": nodes,
        "meshes": meshes,
        "materials": materials.materials,
        "skins": [_skin_entry(rig, chunk)],
    }
    if lods:
        document["extensionsUsed"] = ["MSFT_lod"]
    if clips:
        document["animations"] = [
            animation_entry(
                clip_with_twists(clip, avatar.skeleton), rig, avatar.skeleton, shapes, avatar.expression, chunk
            )
            for clip in clips
        ]
    if materials.images:
        document |= {
            "textures": materials.textures,
            "images": materials.images,
            "samplers": materials.samplers,
        }
    return document, chunk


def _add_levels(node: dict, lower: list[int]) -> None:
    """Refer to the nodes that stand in for `node` in lower levels of detail (MSFT_lod).

    They are in no scene, so importers that do not know the extension show the first level. A level that lacks a
    part has an empty node for it.
    """
    node["extensions"] = {"MSFT_lod": {"ids": lower}}
    node["extras"] = {"MSFT_screencoverage": [*(COVERAGE**n for n in range(1, len(lower) + 1)), 0.0]}


def _check_names(names: list[str]) -> None:
    if len(set(names)) < len(names):
        twice = sorted({n for n in names if names.count(n) > 1})
        raise ValueError(
            f"importers rename nodes of equal names: parts and joints need names of their own, got {twice}"
        )


def _joint_nodes(rig: Rig) -> list[dict]:
    rotations, translations = rig.rest()
    nodes = []
    for bone, name in enumerate(rig.names):
        node: dict = {"name": name, "translation": translations[bone].tolist()}
        w, x, y, z = rotations[bone].tolist()
        if w < 1.0:
            node["rotation"] = [x, y, z, w]
        children = [child for child, parent in enumerate(rig.parents) if parent == bone]
        if children:
            node["children"] = children
        nodes.append(node)
    return nodes


def _skin_entry(rig: Rig, chunk: BinaryChunk) -> dict:
    columns_first = rig.inverse_bind_matrices().mT.contiguous()
    return {
        "name": "Skin",
        "inverseBindMatrices": chunk.add_array(columns_first.numpy().astype(np.float32)),
        "skeleton": rig.parents.index(-1),
        "joints": list(range(len(rig.names))),
    }


def _mesh_entry(
    part: Part,
    name: str,
    rig: Rig,
    expression: dict[str, float],
    keep_still: bool,
    chunk: BinaryChunk,
    materials: MaterialTable,
) -> dict:
    mesh = part.mesh
    primitive: dict = {
        "attributes": {
            name: chunk.add_array(array, ARRAY_BUFFER, bounds=name == "POSITION")
            for name, array in _attributes(part, rig).items()
        },
        "indices": chunk.add_array(_indices(mesh), ELEMENT_ARRAY_BUFFER),
        "material": materials.add(mesh.material),
    }
    entry: dict = {"name": name, "primitives": [primitive], "extras": {"kind": part.kind}}
    names, targets = _morph_targets(part.morphs, keep_still, chunk)
    if names:
        primitive["targets"] = targets
        entry["weights"] = [float(expression.get(name, 0.0)) for name in names]
        entry["extras"]["targetNames"] = names
    return entry


def _attributes(part: Part, rig: Rig) -> dict[str, np.ndarray]:
    """Vertex attributes by glTF name; texture coordinates and tangents only where a texture needs them."""
    mesh, material = part.mesh, part.mesh.material
    attributes = {"POSITION": _float32(mesh.vertices), "NORMAL": _unit_normals(mesh)}
    if material.normal_texture is not None:
        attributes["TANGENT"] = vertex_tangents(
            attributes["POSITION"], mesh.faces.detach().cpu().numpy(), attributes["NORMAL"], _float32(mesh.uv)
        )
    textures = (material.base_color_texture, material.normal_texture, material.orm_texture)
    if any(texture is not None for texture in textures):
        attributes["TEXCOORD_0"] = _float32(mesh.uv)
    attributes["JOINTS_0"], attributes["WEIGHTS_0"] = _clean_skin(part.skin, rig)
    return attributes


def _float32(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy().astype(np.float32)


def _indices(mesh: Mesh) -> np.ndarray:
    dtype = np.uint16 if len(mesh.vertices) < 65536 else np.uint32
    return mesh.faces.detach().cpu().numpy().astype(dtype).reshape(-1)


def _unit_normals(mesh: Mesh) -> np.ndarray:
    """Normals of unit length; a vertex without a direction (of degenerate triangles only) points up."""
    normals = mesh.normals.detach().cpu().double().numpy()
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    up = np.array([0.0, 1.0, 0.0])
    return np.where(length > 1e-6, normals / np.maximum(length, 1e-6), up).astype(np.float32)


def _clean_skin(skin: Skin, rig: Rig) -> tuple[np.ndarray, np.ndarray]:
    """Joints (V, 4) and float32 weights (V, 4) as glTF wants them (section 3.7.3.3).

    No joint twice with a weight, largest first, unused slots joint 0 with weight 0, sums 1 to rounding.
    """
    joints = np.array(rig.bone_of_joint)[skin.joints.detach().cpu().numpy()]
    weights = skin.weights.detach().cpu().double().numpy().clip(min=0.0)
    for slot in range(1, 4):
        for earlier in range(slot):
            same = joints[:, slot] == joints[:, earlier]
            weights[same, earlier] += weights[same, slot]
            weights[same, slot] = 0.0
    weights /= weights.sum(axis=1, keepdims=True)
    weights = weights.astype(np.float32).astype(np.float64)
    order = np.argsort(-weights, axis=1, kind="stable")
    weights = np.take_along_axis(weights, order, axis=1)
    joints = np.where(weights > 0, np.take_along_axis(joints, order, axis=1), 0)
    dtype = np.uint8 if len(rig.names) <= 256 else np.uint16
    return joints.astype(dtype), weights.astype(np.float32)


def _morph_targets(
    morphs: MorphTargets | None, keep_still: bool, chunk: BinaryChunk
) -> tuple[list[str], list[dict]]:
    """Names and targets of what moves at all (or of all), as sparse accessors where these are smaller."""
    names: list[str] = []
    targets: list[dict] = []
    if morphs is None:
        return names, targets
    deltas = _float32(morphs.deltas)
    moves = (morphs.deltas.detach().cpu().abs() >= SMALLEST_OFFSET).any(dim=2).numpy()
    for name, delta, rows in zip(morphs.names, deltas, moves, strict=True):
        moved = np.flatnonzero(rows)
        if len(moved) == 0 and not keep_still:
            continue
        offsets = np.where(rows[:, None], delta, np.float32(0))
        index_bytes = 2 if len(offsets) <= 65536 else 4
        if len(moved) * (12 + index_bytes) < len(offsets) * 12:
            accessor = chunk.add_sparse(offsets, moved)
        else:
            accessor = chunk.add_array(offsets, ARRAY_BUFFER, bounds=True)
        names.append(name)
        targets.append({"POSITION": accessor})
    return names, targets
