"""Ready Player Me's mesh names, by which applications find the head, the eyes and the clothes of an avatar."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from avatar3d.body.visemes import with_composed, with_every_shape
from avatar3d.structures import Avatar, MorphTargets, Part

MESH_NAMES = {
    "hair": "Wolf3D_Hair",
    "beard": "Wolf3D_Beard",
    "glasses": "Wolf3D_Glasses",
    "hat": "Wolf3D_Headwear",
    "top": "Wolf3D_Outfit_Top",
    "bottom": "Wolf3D_Outfit_Bottom",
    "shoes": "Wolf3D_Outfit_Footwear",
}
"""By kind of part, for the largest part of its kind; the others add their own names to it."""
SKIN_NAMES = {"head_skin": "Wolf3D_Head", "body": "Wolf3D_Body"}
EVERY_SHAPE = ("Wolf3D_Head", "Wolf3D_Teeth")
"""Meshes that have all 72 face shapes, also those that do not move them: applications read names off these."""


def with_ready_player_me_names(avatar: Avatar) -> Avatar:
    """The avatar with two eyes, one set of teeth, parts and face shapes named as in Ready Player Me's files."""
    avatar = with_composed(avatar)
    parts: list[Part] = []
    teeth = [part for part in avatar.parts if part.kind == "teeth"]
    for part in avatar.parts:
        if part.name == "eyes":
            parts += _two_eyes(part)
        elif part.kind == "teeth":
            if part is teeth[0]:
                parts += _one_set(teeth)
        else:
            parts.append(replace(part, name=_mesh_name(part, avatar.parts)))
    return with_every_shape(replace(avatar, parts=tuple(parts)), EVERY_SHAPE)


def _mesh_name(part: Part, parts: tuple[Part, ...]) -> str:
    if part.name in SKIN_NAMES:
        return SKIN_NAMES[part.name]
    if part.kind not in MESH_NAMES:
        return part.name
    largest = max((p for p in parts if p.kind == part.kind), key=lambda p: len(p.mesh.faces))
    name = MESH_NAMES[part.kind]
    return name if part is largest else f"{name}_{part.name}"


def _two_eyes(eyes: Part) -> list[Part]:
    left = eyes.mesh.vertices[eyes.mesh.faces].mean(dim=1)[:, 0] > 0
    return [replace(_of_faces(eyes, side), name=name) for side, name in ((left, "EyeLeft"), (~left, "EyeRight"))]


def _of_faces(part: Part, chosen: Tensor) -> Part:
    """The part with some of its faces, and the vertices and shapes that these have."""
    used, faces = torch.unique(part.mesh.faces[chosen], return_inverse=True)
    return _of_vertices(part, lambda array: array[used], faces)


def _of_vertices(part: Part, pick: Callable[[Tensor], Tensor], faces: Tensor) -> Part:
    mesh = part.mesh
    morphs = part.morphs
    if morphs is not None:
        deltas = torch.stack([pick(delta) for delta in morphs.deltas])
        morphs = MorphTargets(morphs.names, deltas)
    return replace(
        part,
        mesh=replace(
            mesh, vertices=pick(mesh.vertices), normals=pick(mesh.normals), uv=pick(mesh.uv), faces=faces
        ),
        skin=replace(part.skin, joints=pick(part.skin.joints), weights=pick(part.skin.weights)),
        morphs=morphs,
    )


def _one_set(teeth: list[Part]) -> list[Part]:
    """Upper and lower teeth as one part; rows of other materials stay apart."""
    first = teeth[0]
    if any(part.mesh.material.name != first.mesh.material.name for part in teeth):
        return [replace(first, name="Wolf3D_Teeth"), *teeth[1:]]
    names = tuple(dict.fromkeys(n for part in teeth if part.morphs is not None for n in part.morphs.names))
    deltas = torch.cat([_deltas(part, names) for part in teeth], dim=1)
    starts = [0, *torch.tensor([len(part.mesh.vertices) for part in teeth]).cumsum(0).tolist()]
    mesh = replace(
        first.mesh,
        vertices=torch.cat([part.mesh.vertices for part in teeth]),
        normals=torch.cat([part.mesh.normals for part in teeth]),
        uv=torch.cat([part.mesh.uv for part in teeth]),
        faces=torch.cat([part.mesh.faces + start for part, start in zip(teeth, starts, strict=False)]),
    )
    skin = replace(
        first.skin,
        joints=torch.cat([part.skin.joints for part in teeth]),
        weights=torch.cat([part.skin.weights for part in teeth]),
    )
    return [replace(first, name="Wolf3D_Teeth", mesh=mesh, skin=skin, morphs=MorphTargets(names, deltas))]


def _deltas(part: Part, names: tuple[str, ...]) -> Tensor:
    still = torch.zeros_like(part.mesh.vertices)
    own = {} if part.morphs is None else dict(zip(part.morphs.names, part.morphs.deltas, strict=True))
    return torch.stack([own.get(name, still) for name in names]) if names else still[None][:0]
