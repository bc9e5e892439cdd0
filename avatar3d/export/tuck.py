"""Surfaces that lie close on each other: when both get coarse, what lies below must not come through."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float

from avatar3d.mesh.nearest import surface_of
from avatar3d.structures import Avatar, Part

LAYERS = ("body", "hair", "brows", "bottom", "shoes", "top", "hat")
"""Kinds from the skin outwards; of one kind, earlier parts lie below later ones."""
COVERED = {"hair": 0.004, "brows": 0.004, "bottom": 0.02, "shoes": 0.02, "top": 0.02, "hat": 0.03}
"""What lies no farther below a layer than this (metres) counts as covered by it."""
ROOM = {"hair": 0.0006, "brows": 0.0003, "bottom": 0.002, "shoes": 0.002, "top": 0.002, "hat": 0.002}
"""Least distance of a covered vertex from the layer above it, metres."""
DEEPEST = 0.03
"""Most that a vertex is moved, metres."""
STRAIGHT_BELOW = 0.8
"""Cosine between the way to the layer's nearest point and its normal: less is past the layer's edge."""


def tucked(coarse: Avatar, fine: Avatar) -> Avatar:
    """`coarse`, whose vertices are some of those of `fine`, with what layers cover in `fine` moved below them.

    Vertices that no layer covers stay where they are, and so does the outermost layer.
    """
    order = sorted(
        (part for part in coarse.parts if part.kind in LAYERS and part.mesh.material.alpha_mode != "MASK"),
        key=lambda part: LAYERS.index(part.kind),
    )
    before = {part.name: part for part in fine.parts}
    start = {part.name: _points(part) for part in coarse.parts}
    points = dict(start)
    for n in range(len(order) - 1, 0, -1):  # inwards: each layer goes below those that are in place
        outer = order[n]
        if outer.kind not in COVERED:
            continue
        fine_layer = _Layer(before[outer.name], _points(before[outer.name]))
        coarse_layer = _Layer(outer, points[outer.name])
        for inner in order[:n]:
            covered = fine_layer.covers(start[inner.name], COVERED[outer.kind])
            if covered.any():
                points[inner.name] = points[inner.name].copy()
                points[inner.name][covered] = coarse_layer.lowered(points[inner.name][covered], ROOM[outer.kind])
    return replace(coarse, parts=tuple(_moved(p, points[p.name]) for p in coarse.parts))


def _points(part: Part) -> Float[np.ndarray, "V 3"]:
    return part.mesh.vertices.double().cpu().numpy()


def _moved(part: Part, points: Float[np.ndarray, "V 3"]) -> Part:
    return replace(part, mesh=replace(part.mesh, vertices=torch.from_numpy(points).to(part.mesh.vertices)))


class _Layer:
    """A part's surface with its outward normals."""

    def __init__(self, part: Part, points: Float[np.ndarray, "V 3"]) -> None:
        self._points, self._faces = points, part.mesh.faces.cpu().numpy()
        self._normals = part.mesh.normals.double().cpu().numpy()
        self._surface = surface_of(points, self._faces)

    def covers(self, points: Float[np.ndarray, "N 3"], reach: float) -> Bool[np.ndarray, " N"]:
        """Which points lie below the surface, within reach and not past its edge."""
        height, _, distance = self._heights(points, reach)
        return (height < 0) & (-height > STRAIGHT_BELOW * distance)

    def lowered(self, points: Float[np.ndarray, "N 3"], room: float) -> Float[np.ndarray, "N 3"]:
        """The points, moved down along the surface's normals where they have less than `room` above them."""
        height, normal, _ = self._heights(points, DEEPEST)
        return points - normal * np.maximum(height + room, 0)[:, None]

    def _heights(
        self, points: Float[np.ndarray, "N 3"], reach: float
    ) -> tuple[Float[np.ndarray, " N"], Float[np.ndarray, "N 3"], Float[np.ndarray, " N"]]:
        """Height over the nearest point of the surface, its normal and the distance; -inf, 0, inf out of reach."""
        hit = self._surface.nearest(points, reach)
        near = hit.face >= 0
        corner, weights = self._faces[hit.face[near]], hit.weights[near]
        normal = np.zeros_like(points)
        towards = np.einsum("nk,nkc->nc", weights, self._normals[corner])
        normal[near] = towards / np.maximum(np.linalg.norm(towards, axis=1, keepdims=True), 1e-9)
        height = np.full(len(points), -np.inf)
        at = np.einsum("nk,nkc->nc", weights, self._points[corner])
        height[near] = ((points[near] - at) * normal[near]).sum(axis=1)
        return height, normal, hit.distance
