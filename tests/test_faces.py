"""Flat triangles and unused vertices go; what is left looks and moves the same."""

from __future__ import annotations

from dataclasses import replace

import torch
from synthetic import synthetic_avatar

from avatar3d.body.pose import pose_avatar, rotate
from avatar3d.mesh.faces import without_flat_triangles


def triangles(avatar, pose, expression):
    return [mesh.vertices[mesh.faces] for _, mesh in pose_avatar(avatar, pose, expression)]


def test_only_flat_triangles_go():
    avatar = synthetic_avatar(2)
    parts = []
    for part in avatar.parts:
        mesh = part.mesh
        count = len(mesh.vertices)
        doubled = torch.cat([mesh.vertices, mesh.vertices[:1]])  # a second vertex in the place of the first
        flat = torch.tensor([[0, count, 5], [7, 7, 8]])
        faces = torch.cat([flat[:1], mesh.faces, flat[1:]])
        grow = torch.cat([torch.arange(count), torch.zeros(1, dtype=torch.long)])
        mesh = replace(mesh, vertices=doubled, faces=faces, normals=mesh.normals[grow], uv=mesh.uv[grow])
        skin = replace(part.skin, joints=part.skin.joints[grow], weights=part.skin.weights[grow])
        morphs = part.morphs and replace(part.morphs, deltas=part.morphs.deltas[:, grow])
        parts.append(replace(part, mesh=mesh, skin=skin, morphs=morphs))
    cleaned = replace(avatar, parts=tuple(map(without_flat_triangles, parts)))
    assert [len(part.mesh.vertices) for part in cleaned.parts] == [
        len(part.mesh.vertices) for part in avatar.parts
    ]
    pose, face = {"head": rotate("x", 30.0)}, {"jawOpen": 1.0}
    for a, b in zip(triangles(avatar, pose, face), triangles(cleaned, pose, face), strict=True):
        torch.testing.assert_close(a, b)
