"""Fewer triangles by edge collapse under quadric errors of shape and attributes.

Garland and Heckbert 1997 give the quadrics and the planes on borders, Hoppe 1999 the attributes. Edges collapse
onto one of their ends (subset placement), so that every vertex that is left is one of the input's, with its
texture coordinates, skin weights and face shapes untouched. Vertices at one position move together: texture
seams, creases and the seam between two parts stay closed, and a seam gets shorter only along itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from avatar3d.errors import InputError
from avatar3d.mesh.collapse_kernel import collapse
from avatar3d.mesh.quadrics import border_quadrics, face_quadrics


class DecimationError(InputError, ValueError):
    """A mesh that can not be simplified, or a number of triangles that makes no sense."""


@dataclass(frozen=True)
class Decimated:
    """Faces over the input's vertices, which of the input's faces they were, and what the last collapse cost."""

    faces: Int[Tensor, "F 3"]
    origin: Int[Tensor, " F"]
    """Index of the input's face that each face came from (and whose part and material it has)."""
    cost: float
    """Importance x square metres x squared metres; the square root of the cost per area is a distance."""


def decimate(
    vertices: Float[Tensor, "V 3"],
    faces: Int[Tensor, "F 3"],
    target: int,
    weld: Int[Tensor, " V"],
    attributes: Float[Tensor, "V K"] | None = None,
    importance: Float[Tensor, " F"] | None = None,
    locked: Bool[Tensor, " V"] | None = None,
    moved: Float[Tensor, "S V 3"] | None = None,
    most_cost: float = float("inf"),
) -> Decimated:
    """Collapse edges until `target` faces are left, none may collapse, or the next would cost over `most_cost`.

    `weld` numbers positions without gaps (`mesh.normals.weld_by_position`). `attributes` are in metres: a
    difference of one counts like a distance of one metre. `importance` multiplies the error on a face. Places
    with a `locked` vertex stay, and so do those on edges of more than two faces. `moved` are further positions
    of the vertices (face shapes) in which no face may turn over. Faces of zero area are removed first.

    Raises `DecimationError` for positions that are not finite and for faces that name no vertex.
    """
    points = _checked(vertices, faces, target)
    group = weld.detach().cpu().numpy().astype(np.int64)
    triangles = faces.detach().cpu().numpy().astype(np.int64)
    kept = np.flatnonzero(_positive(points, triangles, group))
    triangles = np.ascontiguousarray(triangles[kept])
    extra = np.zeros((len(points), 0)) if attributes is None else _float64(attributes)
    if not np.isfinite(extra).all():
        raise DecimationError("attributes must be finite numbers; look for NaN in texture coordinates or shapes")
    weight = np.ones(len(faces)) if importance is None else _float64(importance)
    weight = weight[kept]
    groups = int(group.max()) + 1 if len(group) else 0
    edge, border, tangled = _edges(triangles, group, groups)
    if locked is not None:
        tangled[group[locked.detach().cpu().numpy()]] = True
    others = np.zeros((0, *points.shape)) if moved is None else _float64(moved)
    quadrics = np.zeros((len(points), 11 + 4 * extra.shape[1]))
    face_quadrics(points, extra, triangles, weight, quadrics)
    border_quadrics(points, triangles, edge, weight, quadrics)
    alive, cost = collapse(
        points, others, extra, triangles, group, border, tangled, quadrics, int(target), float(most_cost)
    )
    return Decimated(
        torch.from_numpy(triangles[alive]).to(faces), torch.from_numpy(kept[alive]).to(faces.device), float(cost)
    )


def principal(values: Float[Tensor, "V N"], most: int, least: float = 1e-4) -> Float[Tensor, "V K"]:
    """Coordinates of the rows along at most `most` orthogonal axes that tell them apart, the same on any machine.

    Each axis is what is left of the longest row (as in a QR decomposition with pivots), until less than `least` is
    left of every row. Distances between rows hardly shrink; units stay.
    """
    left = _float64(values)
    scores = []
    for _ in range(most):
        squares = np.einsum("vn,vn->v", left, left)
        if not len(squares) or squares.max() <= least * least:
            break
        row = int(squares.argmax())
        axis = left[row] / np.sqrt(squares[row])
        score = np.einsum("vn,n->v", left, axis)
        left = left - score[:, None] * axis
        scores.append(score)
    columns = np.stack(scores, axis=1) if scores else np.zeros((len(left), 0))
    return torch.from_numpy(columns).to(values)


def _float64(tensor: Tensor) -> np.ndarray:
    return np.ascontiguousarray(tensor.detach().cpu().numpy(), dtype=np.float64)


def _checked(vertices: Tensor, faces: Tensor, target: int) -> np.ndarray:
    points = _float64(vertices)
    if target < 0:
        raise DecimationError(f"a mesh can not have {target} triangles; ask for 0 or more")
    if not np.isfinite(points).all():
        bad = int((~np.isfinite(points)).any(axis=1).sum())
        raise DecimationError(f"{bad} vertices have positions that are not finite; repair the mesh first")
    if len(faces) and (int(faces.min()) < 0 or int(faces.max()) >= len(points)):
        raise DecimationError(f"faces name vertices outside 0 to {len(points) - 1}; the mesh is broken")
    return points


def _positive(points: np.ndarray, triangles: np.ndarray, group: np.ndarray) -> np.ndarray:
    """(F,) faces with three different places and an area."""
    a, b, c = (group[triangles[:, i]] for i in range(3))
    p, q, r = (points[triangles[:, i]] for i in range(3))
    area = np.linalg.norm(np.cross(q - p, r - p), axis=1)
    return (a != b) & (b != c) & (c != a) & (area > 1e-16)


def _edges(triangles: np.ndarray, group: np.ndarray, groups: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Border edges as (face, corner) rows, and per place whether it is on a border and whether it is tangled.

    Tangled are ends of edges that more than two faces share or that two faces walk in the same direction.
    """
    corner = group[triangles]
    start, end = corner.reshape(-1), np.roll(corner, -1, axis=1).reshape(-1)
    low, high = np.minimum(start, end), np.maximum(start, end)
    _, inverse, counts = np.unique(low * np.int64(groups) + high, return_inverse=True, return_counts=True)
    forward = np.bincount(inverse, weights=start < end, minlength=len(counts))
    same_way = (counts == 2) & (forward != 1)
    single = np.flatnonzero(counts[inverse] == 1)
    border, tangled = np.zeros(groups, bool), np.zeros(groups, bool)
    border[start[single]] = border[end[single]] = True
    bad = ((counts > 2) | same_way)[inverse]
    tangled[start[bad]] = tangled[end[bad]] = True
    return np.stack([single // 3, single % 3], axis=1), border, tangled
