"""The cotangent Laplacian of a triangle mesh (Pinkall and Polthier 1993) and what is done with it."""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import splu

Array = np.ndarray

LEAST_COTANGENT = 1e-3
"""Obtuse angles give edges negative weights, with which averages may leave the range of what is averaged."""


def cotangents(vertices: Array, faces: Array) -> tuple[sparse.csr_matrix, Array]:
    """Laplacian (V, V), rows summing to zero and negative on the diagonal, and Voronoi areas (V,).

    Areas are the mixed ones of Meyer, Desbrun, Schroeder and Barr (2003). Triangles without an area are left out;
    a vertex without any triangle has a zero row and the smallest area.
    """
    p = vertices[faces]
    double = np.linalg.norm(np.cross(p[:, 1] - p[:, 0], p[:, 2] - p[:, 0]), axis=1)
    faces, p, double = (a[double > 1e-14] for a in (faces, p, double))
    count = len(vertices)
    rows, columns, weights = [], [], []
    area = np.zeros(count)
    cots = np.empty((len(faces), 3))
    for k in range(3):
        u, v = p[:, (k + 1) % 3] - p[:, k], p[:, (k + 2) % 3] - p[:, k]
        cots[:, k] = (u * v).sum(axis=1) / double
        rows += [faces[:, (k + 1) % 3], faces[:, (k + 2) % 3]]
        columns += [faces[:, (k + 2) % 3], faces[:, (k + 1) % 3]]
        weights += [cots[:, k] / 2] * 2
    obtuse = cots < 0
    for k in range(3):
        i, j = (k + 1) % 3, (k + 2) % 3
        to_i, to_j = (((p[:, n] - p[:, k]) ** 2).sum(axis=1) for n in (i, j))
        voronoi = (to_i * cots[:, j] + to_j * cots[:, i]) / 8
        share = np.where(obtuse[:, k], double / 4, double / 8)
        np.add.at(area, faces[:, k], np.where(obtuse.any(axis=1), share, voronoi))
    graph = sparse.coo_matrix(
        (np.concatenate(weights), (np.concatenate(rows), np.concatenate(columns))), (count, count)
    ).tocsr()
    graph.data = np.maximum(graph.data, LEAST_COTANGENT)
    matrix = graph - sparse.diags(np.asarray(graph.sum(axis=1)).ravel())
    least = area[area > 0].min() if (area > 0).any() else 1.0
    return matrix.tocsr(), np.maximum(area, least)


def diffused(values: Array, laplacian: sparse.csr_matrix, area: Array, radius: Array | float) -> Array:
    """(V, C) values after heat has flowed for as long as it takes to reach `radius` metres.

    One implicit step of (M - t L) x = M x0 with t = radius^2 / 2, which keeps the sum of each row and the range of
    each column. `radius` may differ from vertex to vertex (V,); where it is 0 values stay.
    """
    time = np.broadcast_to(np.asarray(radius, float) ** 2 / 2, area.shape)
    out = values.astype(np.float64).copy()
    free = np.flatnonzero(time > 0)
    if len(free):
        flow = (sparse.diags(time[free]) @ laplacian[free]).tocsc()
        fixed = np.setdiff1d(np.arange(len(area)), free)
        matrix = sparse.diags(area[free]) - flow[:, free]
        inflow = area[free, None] * out[free] + flow[:, fixed] @ out[fixed]
        moving = np.flatnonzero(np.abs(inflow).max(axis=0) > 0)
        out[free] = 0.0
        out[np.ix_(free, moving)] = splu(matrix.tocsc()).solve(inflow[:, moving])
    return out
