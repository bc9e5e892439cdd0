"""Parts cut to some of their faces, and parts joined."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from avatar3d.structures import Material, Mesh, MorphTargets, Part, Skin


def triangle_count(parts: list[Part] | tuple[Part, ...]) -> int:
    """Triangles of all parts."""
    return sum(len(part.mesh.faces) for part in parts)


def part_of_faces(part: Part, faces: Int[Tensor, "F 3"]) -> Part:
    """The part with other faces over its vertices; vertices without a face are dropped."""
    used, inverse = torch.unique(faces, return_inverse=True)
    m = part.mesh
    mesh = Mesh(m.vertices[used], inverse.reshape(-1, 3), m.normals[used], m.uv[used], m.material)
    morphs = part.morphs and MorphTargets(part.morphs.names, part.morphs.deltas[:, used])
    return replace(part, mesh=mesh, skin=Skin(part.skin.joints[used], part.skin.weights[used]), morphs=morphs)


def joined(parts: list[Part], name: str, material: Material, uv: Tensor | None = None) -> Part:
    """One part of the first one's kind; shapes that some of them lack are zero there."""
    offsets = np.cumsum([0] + [len(p.mesh.vertices) for p in parts])
    names = tuple(dict.fromkeys(n for p in parts if p.morphs for n in p.morphs.names))
    like = parts[0].mesh.vertices
    deltas = like.new_zeros(len(names), int(offsets[-1]), 3)
    for part, start, end in zip(parts, offsets[:-1], offsets[1:], strict=True):
        if part.morphs:
            deltas[[names.index(n) for n in part.morphs.names], start:end] = part.morphs.deltas
    mesh = Mesh(
        torch.cat([p.mesh.vertices for p in parts]),
        torch.cat([p.mesh.faces + int(o) for p, o in zip(parts, offsets[:-1], strict=True)]),
        torch.cat([p.mesh.normals for p in parts]),
        torch.cat([p.mesh.uv for p in parts]) if uv is None else uv,
        material,
    )
    skin = Skin(torch.cat([p.skin.joints for p in parts]), torch.cat([p.skin.weights for p in parts]))
    return Part(name, parts[0].kind, mesh, skin, MorphTargets(names, deltas) if names else None)
