"""Binding geometry to the body: skin weights and face shapes for parts that the template does not have."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.spatial import cKDTree
from torch import Tensor

from avatar3d.body.face import face_actions
from avatar3d.body.shape import ShapedBody, skin_of
from avatar3d.mesh.normals import vertex_normals
from avatar3d.structures import Material, Mesh, MorphTargets, Part, Skin

STILL = 1e-5
"""A face shape that moves no vertex of a part by more than this (metres) is left out."""


@dataclass(frozen=True)
class Figure:
    """A shaped body with what its attachments need, computed once per avatar."""

    body: ShapedBody

    @property
    def vertices(self) -> Float[Tensor, "V 3"]:
        """Welded template vertices at rest."""
        return self.body.vertices

    @cached_property
    def actions(self) -> Float[Tensor, "A V 3"]:
        """Face actions over the welded vertices."""
        return face_actions(self.body)

    @cached_property
    def skin(self) -> tuple[Tensor, Tensor]:
        """Joints (V, 4) and weights (V, 4) over the welded vertices."""
        return skin_of(self.body.template)

    @cached_property
    def skin_faces(self) -> Int[Tensor, "F 3"]:
        """Triangles of the body surface over welded vertices."""
        corner, _, faces = self.body.template.surface("body")
        return corner[faces]

    @cached_property
    def normals(self) -> Float[Tensor, "V 3"]:
        """Unit normals of the body surface at the welded vertices (zero off the surface)."""
        return vertex_normals(self.vertices, self.skin_faces)

    @cached_property
    def skin_vertices(self) -> np.ndarray:
        """Welded vertices of the body surface."""
        return self.body.template.surface_vertices("body").numpy()

    @cached_property
    def tree(self) -> cKDTree:
        """Nearest-vertex search over `skin_vertices`."""
        return cKDTree(self.vertices[self.skin_vertices].numpy())

    def joint(self, name: str) -> int:
        """Index of a joint in the skeleton."""
        return self.body.skeleton.names.index(name)


@dataclass(frozen=True)
class Anchor:
    """Points expressed by body vertices: row i follows `weights[i] @ vertices[indices[i]]`."""

    indices: Int[Tensor, "N K"]
    weights: Float[Tensor, "N K"]


def anchor_nearest(figure: Figure, points: Float[Tensor, "N 3"], count: int = 4) -> Anchor:
    """Inverse-square-distance weights over each point's nearest body vertices."""
    distance, nearest = figure.tree.query(points.numpy(), k=count)
    weights = 1.0 / np.maximum(distance, 1e-5) ** 2
    weights /= weights.sum(axis=1, keepdims=True)
    return Anchor(torch.from_numpy(figure.skin_vertices[nearest]), torch.from_numpy(weights).float())


def anchored_skin(figure: Figure, anchor: Anchor) -> Skin:
    """Weighted mean of the anchors' skin weights, cut to four joints."""
    joints, weights = figure.skin
    count = len(anchor.indices)
    total = torch.zeros(count, len(figure.body.skeleton.names))
    flat_joints = joints[anchor.indices].reshape(count, -1)
    flat_weights = (weights[anchor.indices] * anchor.weights[..., None]).reshape(count, -1)
    total.scatter_add_(1, flat_joints, flat_weights)
    top, names = total.topk(4, dim=1)
    top = top / top.sum(dim=1, keepdim=True)
    return Skin(torch.where(top > 0, names, 0), top)


def rigid_skin(figure: Figure, count: int, joint: str = "head") -> Skin:
    """All `count` vertices follow one joint."""
    joints = torch.zeros(count, 4, dtype=torch.long)
    joints[:, 0] = figure.joint(joint)
    weights = torch.zeros(count, 4)
    weights[:, 0] = 1.0
    return Skin(joints, weights)


def anchored_morphs(figure: Figure, anchor: Anchor) -> MorphTargets | None:
    """Face shapes of the anchors, interpolated; None when no shape moves the part."""
    deltas = torch.zeros(len(figure.actions), len(anchor.indices), 3)
    for k in range(anchor.indices.shape[1]):
        deltas += figure.actions[:, anchor.indices[:, k]] * anchor.weights[None, :, k, None]
    return moving_morphs(figure, deltas)


def moving_morphs(figure: Figure, deltas: Float[Tensor, "A V 3"]) -> MorphTargets | None:
    """Name the shapes that move something and drop the others."""
    moves = deltas.norm(dim=-1).amax(dim=1) > STILL
    if not moves.any():
        return None
    names = tuple(n for n, m in zip(figure.body.template.action_names, moves.tolist(), strict=True) if m)
    return MorphTargets(names, deltas[moves])


def surface_part(figure: Figure, surface: str, name: str, kind: str, material: Material) -> Part:
    """A template surface (body, eye_left, tongue, lashes, teeth_upper ...) as a part."""
    corner, uv, faces = figure.body.template.surface(surface)
    normals = vertex_normals(figure.vertices, corner[faces])
    joints, weights = figure.skin
    mesh = Mesh(figure.vertices[corner], faces, normals[corner], uv, material)
    morphs = moving_morphs(figure, figure.actions[:, corner])
    return Part(name, kind, mesh, Skin(joints[corner], weights[corner]), morphs)


def keep_faces(part: Part, keep: Tensor) -> Part:
    """The part with only the faces where `keep` (F,) is true, unused vertices dropped."""
    faces = part.mesh.faces[keep]
    used, inverse = torch.unique(faces, return_inverse=True)
    m = part.mesh
    mesh = Mesh(m.vertices[used], inverse.reshape(-1, 3), m.normals[used], m.uv[used], m.material)
    morphs = part.morphs and MorphTargets(part.morphs.names, part.morphs.deltas[:, used])
    return Part(part.name, part.kind, mesh, Skin(part.skin.joints[used], part.skin.weights[used]), morphs)


def merge_parts(parts: list[Part], name: str) -> Part:
    """One part out of several of the same kind and material; shapes that one of them lacks are zero there."""
    names = tuple(dict.fromkeys(n for p in parts if p.morphs for n in p.morphs.names))
    offsets = np.cumsum([0] + [len(p.mesh.vertices) for p in parts])
    deltas = torch.zeros(len(names), int(offsets[-1]), 3)
    for p, start, end in zip(parts, offsets[:-1], offsets[1:], strict=True):
        if p.morphs:
            deltas[[names.index(n) for n in p.morphs.names], start:end] = p.morphs.deltas
    mesh = Mesh(
        torch.cat([p.mesh.vertices for p in parts]),
        torch.cat([p.mesh.faces + int(o) for p, o in zip(parts, offsets[:-1], strict=True)]),
        torch.cat([p.mesh.normals for p in parts]),
        torch.cat([p.mesh.uv for p in parts]),
        parts[0].mesh.material,
    )
    skin = Skin(torch.cat([p.skin.joints for p in parts]), torch.cat([p.skin.weights for p in parts]))
    return Part(name, parts[0].kind, mesh, skin, MorphTargets(names, deltas) if names else None)
