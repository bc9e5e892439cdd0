"""Vertex tangents for normal-mapped meshes."""

from __future__ import annotations

import numpy as np


def vertex_tangents(vertices: np.ndarray, faces: np.ndarray, normals: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """(V, 4) float32 tangents as glTF wants them: xyz along +u, unit, orthogonal to the normal; w = +1 or -1.

    `vertices` (V, 3), `faces` (F, 3), unit `normals` (V, 3), `uv` (V, 2) with v down. The mean of
    the faces' tangents, weighted by their angles and projected onto the normal's plane, as in MikkTSpace
    (Mikkelsen, "Simulation of Wrinkled Surfaces Revisited", 2008). The bitangent w * cross(normal, tangent)
    points up the texture, against v, because green means up in a glTF normal map.
    """
    corners, corner_uv = vertices[faces].astype(np.float64), uv[faces].astype(np.float64)
    edge_1, edge_2 = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    uv_1, uv_2 = corner_uv[:, 1] - corner_uv[:, 0], corner_uv[:, 2] - corner_uv[:, 0]
    area = uv_1[:, 0] * uv_2[:, 1] - uv_1[:, 1] * uv_2[:, 0]
    orientation = np.sign(area)[:, None]
    along_u = _unit((edge_1 * uv_2[:, 1:] - edge_2 * uv_1[:, 1:]) * orientation)
    along_v = _unit((edge_2 * uv_1[:, :1] - edge_1 * uv_2[:, :1]) * orientation)
    angles = np.stack([_corner_angle(corners, corner) for corner in range(3)], axis=1)
    sum_u, sum_v = (_sum_per_vertex(faces, angles, along, len(vertices)) for along in (along_u, along_v))
    normals = normals.astype(np.float64)
    tangent = sum_u - normals * (normals * sum_u).sum(axis=1, keepdims=True)
    length = np.linalg.norm(tangent, axis=1, keepdims=True)
    tangent = np.where(length > 1e-6, tangent / np.maximum(length, 1e-6), _any_orthogonal(normals))
    upwards = -(np.cross(normals, tangent) * sum_v).sum(axis=1)
    return np.column_stack([tangent, np.where(upwards < 0, -1.0, 1.0)]).astype(np.float32)


def _sum_per_vertex(faces: np.ndarray, angles: np.ndarray, directions: np.ndarray, count: int) -> np.ndarray:
    """(V, 3) sums of the faces' directions (F, 3) at their corners, weighted by `angles` (F, 3)."""
    index = faces.reshape(-1)
    columns = [np.bincount(index, (angles * directions[:, k : k + 1]).reshape(-1), count) for k in range(3)]
    return np.stack(columns, axis=1)


def _unit(vectors: np.ndarray) -> np.ndarray:
    length = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    return vectors / np.maximum(length, 1e-20)[:, None]


def _corner_angle(corners: np.ndarray, corner: int) -> np.ndarray:
    apex = corners[:, corner]
    left, right = _unit(corners[:, corner - 1] - apex), _unit(corners[:, corner - 2] - apex)
    return np.arccos(np.clip((left * right).sum(axis=1), -1.0, 1.0))


def _any_orthogonal(normals: np.ndarray) -> np.ndarray:
    axis = np.where(np.abs(normals[:, :1]) < 0.9, [[1.0, 0.0, 0.0]], [[0.0, 1.0, 0.0]])
    return _unit(np.cross(axis, normals))
