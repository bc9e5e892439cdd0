"""Garments that users bring: a mesh without a skeleton, already put on our body in its rest pose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from scipy.spatial import cKDTree

from avatar3d.body.shape import shape_body
from avatar3d.engine.attach import Figure, keep_faces
from avatar3d.engine.shoes import sole_height
from avatar3d.mesh.rays import RayGrid, first_hit, ray_grid
from avatar3d.mesh.weight_transfer import WeightTransferError, transfer
from avatar3d.spec import SpecError
from avatar3d.structures import PART_KINDS, Avatar, Mesh, Part, Skin

Array = np.ndarray

MARGIN = 0.03
"""Skin stays when skin that can be seen is nearer, metres."""
REACH = 0.25
"""Cloth farther away than this does not cover, metres."""
TILTS = ((0.0, 0.0), *((0.9, turn) for turn in np.arange(6) * np.pi / 3))
"""Skin is covered when cloth lies in all these directions: radians from the normal, and about it."""


def wear(avatar: Avatar, meshes: Sequence[Mesh], name: str = "garment", kind: str = "top") -> Avatar:
    """The avatar with the meshes over what it wears, moved by its skeleton; skin that they cover is left out.

    Weights come from the body (Abdrashitov et al. 2023, see `mesh.weight_transfer`). Raises `SpecError` for an
    avatar of another program, `WeightTransferError` for meshes that are not on the body or have broken vertices.
    """
    if avatar.spec is None:
        raise SpecError("this avatar was not made by avatar3d: garments can be put on our own bodies only")
    if kind not in PART_KINDS:
        raise ValueError(f"kind is {kind!r}; choose one of: {', '.join(PART_KINDS)}")
    if not meshes or any(not torch.isfinite(m.vertices).all() for m in meshes):
        raise WeightTransferError("the garment has no vertices or some that are not numbers: export it again")
    figure = Figure(shape_body(avatar.spec))
    body = figure.vertices.numpy().astype(np.float64) + np.array([0.0, sole_height(avatar.spec), 0.0])
    normals, faces = figure.normals.numpy().astype(np.float64), figure.skin_faces.numpy()
    joints, weights = figure.skin
    dense = torch.zeros(len(body), len(avatar.skeleton.names), dtype=torch.float64)
    dense.scatter_add_(1, joints, weights.double())
    vertices = np.concatenate([m.vertices.numpy() for m in meshes]).astype(np.float64)
    offsets = np.cumsum([0] + [len(m.vertices) for m in meshes])
    triangles = np.concatenate([m.faces.numpy() + o for m, o in zip(meshes, offsets[:-1], strict=True)])
    outside = np.concatenate([m.normals.numpy() for m in meshes]).astype(np.float64)
    found = transfer(body, faces, normals, dense.numpy(), vertices, triangles, outside).weights
    order = np.argsort(-found, axis=1, kind="stable")[:, :4]
    shares = np.take_along_axis(found, order, axis=1).astype(np.float32)
    skin = Skin(torch.from_numpy(np.where(shares > 0, order, 0)), torch.from_numpy(shares))
    worn = tuple(
        Part(f"{name}_{i}" if len(meshes) > 1 else name, kind, m, Skin(skin.joints[a:b], skin.weights[a:b]))
        for i, (m, a, b) in enumerate(zip(meshes, offsets[:-1], offsets[1:], strict=True))
    )
    covered = covered_vertices(body, normals, figure.skin_vertices, ray_grid(vertices[triangles]))
    parts = tuple(_uncovered(p, body[covered]) if p.kind == "body" else p for p in avatar.parts)
    return replace(avatar, parts=(*(p for p in parts if len(p.mesh.faces)), *worn))


def covered_vertices(body: Array, normals: Array, skin: Array, cloth: RayGrid) -> Array:
    """Indices of the `skin` vertices (N,) of a body that cloth covers from all sides, well inside its edges."""
    n = normals[skin]
    helper = np.where(np.abs(n[:, 1:2]) > 0.9, [1.0, 0.0, 0.0], [0.0, 1.0, 0.0])
    side = np.cross(n, helper)
    side /= np.maximum(np.linalg.norm(side, axis=1, keepdims=True), 1e-12)
    other = np.cross(n, side)
    under = np.ones(len(skin), bool)
    for tilt, turn in TILTS:
        way = np.cos(tilt) * n + np.sin(tilt) * (np.cos(turn) * side + np.sin(turn) * other)
        under &= np.isfinite(first_hit(cloth, body[skin] + 1e-4 * n, way, REACH)[0])
    if under.all() or not under.any():
        return skin[under]
    distance = cKDTree(body[skin[~under]]).query(body[skin[under]])[0]
    return skin[under][distance > MARGIN]


def _uncovered(part: Part, covered: Array) -> Part:
    """A skin part without the faces whose corners are all among the points `covered` (N, 3)."""
    if not len(covered):
        return part
    hidden = torch.from_numpy(cKDTree(covered).query(part.mesh.vertices.numpy())[0] < 1e-5)
    return keep_faces(part, ~hidden[part.mesh.faces].all(dim=1))
