"""Triangles that enclose no area."""

from __future__ import annotations

from dataclasses import replace

import torch

from avatar3d.structures import MorphTargets, Part, Skin


def without_flat_triangles(part: Part) -> Part:
    """The part without triangles that have two corners in one place, and without vertices of no triangle.

    Such triangles, at the poles of a tube for example, are invisible, but importers turn them into points and
    lines (assimp) or warn of them (Unreal).
    """
    mesh, skin, morphs = part.mesh, part.skin, part.morphs
    a, b, c = mesh.vertices[mesh.faces].unbind(dim=1)
    solid = (a != b).any(dim=1) & (b != c).any(dim=1) & (c != a).any(dim=1)
    used, faces = torch.unique(mesh.faces[solid], return_inverse=True)
    mesh = replace(
        mesh,
        vertices=mesh.vertices[used],
        faces=faces.reshape(-1, 3).to(mesh.faces.dtype),
        normals=mesh.normals[used],
        uv=mesh.uv[used],
    )
    skin = Skin(skin.joints[used], skin.weights[used])
    morphs = MorphTargets(morphs.names, morphs.deltas[:, used]) if morphs is not None else None
    return replace(part, mesh=mesh, skin=skin, morphs=morphs)
