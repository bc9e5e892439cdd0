"""How far a level of detail is from the avatar it was made of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from avatar3d.body.pose import Pose, pose_avatar
from avatar3d.export.visible import seen_faces
from avatar3d.mesh.nearest import surface_of
from avatar3d.structures import Avatar

POINTS_PER_FACE = ((1 / 3, 1 / 3, 1 / 3), (2 / 3, 1 / 6, 1 / 6), (1 / 6, 2 / 3, 1 / 6), (1 / 6, 1 / 6, 2 / 3))


@dataclass(frozen=True)
class LodError:
    """Distances of a part's visible surface, millimetres: mean over its area, 95th percentile, largest."""

    mean: float
    p95: float
    most: float
    sliding: float
    """95th percentile of how far the texture moved on the surface; NaN without texture area."""


def lod_errors(
    fine: Avatar, coarse: Avatar, pose: Pose | None = None, expression: dict[str, float] | None = None
) -> dict[str, LodError]:
    """One-sided distances from the parts of `fine` to the same parts of `coarse`, both in a pose and expression.

    Parts of which nothing is left, and ribbons that were made wider, are as far away as they are.
    """
    expression = {} if expression is None else expression
    posed = {part.name: mesh for part, mesh in pose_avatar(coarse, pose or {}, expression)}
    errors = {}
    seen = dict(zip((part.name for part in fine.parts), seen_faces(fine), strict=True))
    for part, mesh in pose_avatar(fine, pose or {}, expression):
        if part.name not in posed:
            continue
        faces = mesh.faces[seen[part.name]].cpu().numpy()
        vertices = mesh.vertices.double().cpu().numpy()
        place, weight = _spread(vertices, faces)
        other = posed[part.name]
        other_faces = other.faces.cpu().numpy()
        hit = surface_of(other.vertices.double().cpu().numpy(), other_faces).nearest(place)
        uv = np.concatenate([_mixed(mesh.uv.double().cpu().numpy(), faces, w) for w in POINTS_PER_FACE])
        slid = np.linalg.norm(hit.mixed(other.uv.double().cpu().numpy(), other_faces) - uv, axis=1)
        errors[part.name] = LodError(
            1000 * float(np.average(hit.distance, weights=weight)),
            1000 * _quantile(hit.distance, weight),
            1000 * float(hit.distance.max()),
            1000 * _quantile(slid, weight) * _metres_per_uv(vertices, mesh.uv.double().cpu().numpy(), faces),
        )
    return errors


def _mixed(values: np.ndarray, faces: np.ndarray, weights: tuple[float, float, float]) -> np.ndarray:
    return sum(w * values[faces[:, i]] for i, w in enumerate(weights))  # type: ignore[return-value]


def _spread(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points of all faces and the area that each stands for."""
    a, b, c = vertices[faces].transpose(1, 0, 2)
    area = 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1) / len(POINTS_PER_FACE)
    points = np.concatenate([_mixed(vertices, faces, w) for w in POINTS_PER_FACE])
    return points, np.tile(area, len(POINTS_PER_FACE))


def _quantile(values: Float[np.ndarray, " N"], weight: Float[np.ndarray, " N"], share: float = 0.95) -> float:
    order = np.argsort(values)
    total = np.cumsum(weight[order])
    return float(values[order][np.searchsorted(total, share * total[-1])])


def _metres_per_uv(vertices: np.ndarray, uv: np.ndarray, faces: np.ndarray) -> float:
    a, b, c = vertices[faces].transpose(1, 0, 2)
    p, q, r = uv[faces].transpose(1, 0, 2)
    u, v = q - p, r - p
    flat = np.abs(u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]).sum()
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1).sum()
    return float((area / flat) ** 0.5) if flat > 1e-9 else float("nan")
