"""Skin weights for a garment from the body under it.

Abdrashitov, Raichstat, Monsen and Hill (2023), Robust Skin Weights Transfer via Weight Inpainting: weights are
copied only where body and garment surely belong together, and continued smoothly over the rest of the garment.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import splu
from scipy.spatial import cKDTree

from avatar3d.errors import InputError
from avatar3d.mesh.laplacian import cotangents
from avatar3d.mesh.normals import weld_by_position

Array = np.ndarray

NEAR = 0.05
"""Matches are at most this share of the garment's bounding-box diagonal apart."""
ALIGNED = np.cos(np.radians(30.0))
"""Least cosine between the normals of a match."""
PASSES, PACE = 10, 0.2
"""Smoothing sweeps around what was not matched, and the share of the neighbors' mean in each."""


class WeightTransferError(InputError, ValueError):
    """A mesh that weights can not be transferred to, with the fault and the remedy in its message."""


@dataclass(frozen=True)
class Transfer:
    """Weights (V, J) of the garment's vertices, and which of them were matched (V,) to the body."""

    weights: Array
    matched: Array


def closest_on_triangles(
    points: Array, vertices: Array, faces: Array, candidates: int = 24
) -> tuple[Array, Array]:
    """Face index (N,) and barycentrics (N, 3) of the closest points, among the faces whose middles are nearest.

    After Ericson (2005), Real-Time Collision Detection, 5.1.5.
    """
    corners = vertices[faces]
    near = cKDTree(corners.mean(axis=1)).query(points, k=min(candidates, len(faces)))[1].reshape(len(points), -1)
    a, b, c = (corners[near, k] for k in range(3))
    p = points[:, None]
    ab, ac = b - a, c - a
    d1, d2 = ((p - a) * ab).sum(-1), ((p - a) * ac).sum(-1)
    d3, d4 = ((p - b) * ab).sum(-1), ((p - b) * ac).sum(-1)
    d5, d6 = ((p - c) * ab).sum(-1), ((p - c) * ac).sum(-1)
    va, vb, vc = d3 * d6 - d5 * d4, d5 * d2 - d1 * d6, d1 * d4 - d3 * d2
    total = np.maximum(va + vb + vc, 1e-30)
    bary = np.stack([1 - (vb + vc) / total, vb / total, vc / total], axis=-1)
    on_ab, on_ac = d1 / np.maximum(d1 - d3, 1e-30), d2 / np.maximum(d2 - d6, 1e-30)
    on_bc = (d4 - d3) / np.maximum((d4 - d3) + (d5 - d6), 1e-30)
    zero = np.zeros_like(d1)
    cases = (
        ((d1 <= 0) & (d2 <= 0), (zero + 1, zero, zero)),
        ((d3 >= 0) & (d4 <= d3), (zero, zero + 1, zero)),
        ((d6 >= 0) & (d5 <= d6), (zero, zero, zero + 1)),
        ((vc <= 0) & (d1 >= 0) & (d3 <= 0), (1 - on_ab, on_ab, zero)),
        ((vb <= 0) & (d2 >= 0) & (d6 <= 0), (1 - on_ac, zero, on_ac)),
        ((va <= 0) & (d4 - d3 >= 0) & (d5 - d6 >= 0), (zero, 1 - on_bc, on_bc)),
    )
    for where, weights in reversed(cases):
        bary = np.where(where[..., None], np.stack(weights, axis=-1), bary)
    found = (corners[near] * bary[..., None]).sum(axis=2)
    best = ((found - p) ** 2).sum(-1).argmin(axis=1)
    rows = np.arange(len(points))
    return near[rows, best], bary[rows, best]


def transfer(
    body: Array, body_faces: Array, body_normals: Array, body_weights: Array, vertices: Array, faces: Array,
    normals: Array,
) -> Transfer:  # fmt: skip
    """Weights (V, J) for a garment of `vertices` (V, 3), `faces` (F, 3) and unit `normals`, at most four in a row.

    The body is in the same pose: vertices (B, 3), faces, unit normals and dense weights (B, J). Vertices split at
    texture seams are one. Raises `WeightTransferError` when not one vertex of the garment lies on the body.
    """
    place = weld_by_position(torch.from_numpy(np.ascontiguousarray(vertices))).numpy()
    weld = np.unique(place, return_index=True)[1]
    points, triangles = vertices[weld].astype(np.float64), place[faces]
    face, bary = closest_on_triangles(points, body, body_faces)
    corners = body_faces[face]
    base = (body[corners] * bary[..., None]).sum(axis=1)
    up = (body_normals[corners] * bary[..., None]).sum(axis=1)
    up /= np.maximum(np.linalg.norm(up, axis=1, keepdims=True), 1e-12)
    near = np.linalg.norm(points - base, axis=1) <= NEAR * np.linalg.norm(np.ptp(points, axis=0))
    facing = np.abs((up * normals[weld]).sum(axis=1)) >= ALIGNED  # linings face the other way
    matched = near & facing
    if not matched.any():
        raise WeightTransferError(
            "no part of the garment lies on the body: put it on the body in its rest pose, in metres, +Y up, "
            "facing +Z"
        )
    copied = (body_weights[corners] * bary[..., None]).sum(axis=1)
    laplacian, area = cotangents(points, triangles)
    filled = inpainted(copied, matched, laplacian, area, near)
    smooth = smoothed_near(filled, ~matched, points, triangles)
    return Transfer(pruned(smooth)[place], matched[place])


def inpainted(weights: Array, known: Array, laplacian: sparse.csr_matrix, area: Array, fallback: Array) -> Array:
    """(V, J) weights kept where `known` (V,), elsewhere those that minimise w^T (-L + L M^-1 L) w.

    A connected piece without a known vertex (a button, a lens) keeps its `weights` where `fallback` holds in it,
    else all of them: it is far from the body but must follow something.
    """
    known = known.copy()
    pieces = connected_components(laplacian, directed=False)[1]
    for piece in np.setdiff1d(pieces, pieces[known]):
        mine = pieces == piece
        known |= mine & (fallback if (mine & fallback).any() else True)
    energy = (-laplacian + laplacian @ sparse.diags(1 / area) @ laplacian).tocsr()
    free = np.flatnonzero(~known)
    out = weights.astype(np.float64).copy()
    if len(free):
        pull = energy[free][:, np.flatnonzero(known)] @ out[known]
        out[free] = splu(energy[free][:, free].tocsc()).solve(-pull)
    out = np.maximum(out, 0.0)
    return out / np.maximum(out.sum(axis=1, keepdims=True), 1e-12)


def smoothed_near(weights: Array, around: Array, points: Array, faces: Array) -> Array:
    """Weights (V, J) averaged over neighbors within a tenth of the garment's size of the vertices `around`."""
    if not around.any():
        return weights
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    count = len(points)
    graph = sparse.coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), (count, count)).tocsr()
    graph = graph.maximum(graph.T)
    degree = np.asarray(graph.sum(axis=1)).ravel()
    mean = sparse.diags(1 / np.maximum(degree, 1)) @ graph
    reach = NEAR * np.linalg.norm(np.ptp(points, axis=0))
    near = (cKDTree(points[around]).query(points)[0] <= reach) & (degree > 0)
    for _ in range(PASSES):
        weights = np.where(near[:, None], (1 - PACE) * weights + PACE * (mean @ weights), weights)
    return weights


def pruned(weights: Array, count: int = 4) -> Array:
    """The `count` largest weights of each row, summing to one."""
    order = np.argsort(-weights, axis=1, kind="stable")[:, count:]
    out = np.maximum(weights, 0.0)
    np.put_along_axis(out, order, 0.0, axis=1)
    return out / np.maximum(out.sum(axis=1, keepdims=True), 1e-12)
