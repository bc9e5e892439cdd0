"""The nearest point on a triangle mesh, by a tree of bounding boxes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import no_type_check

import numba
import numpy as np
from jaxtyping import Float, Int

LEAF = 4
"""Most triangles at an end of the tree."""


@dataclass(frozen=True)
class Hit:
    """For each of N points the nearest point of the surface."""

    distance: Float[np.ndarray, " N"]
    """Infinite where nothing is within reach."""
    face: Int[np.ndarray, " N"]
    """-1 where nothing is within reach."""
    weights: Float[np.ndarray, "N 3"]
    """Barycentric."""

    def mixed(self, values: Float[np.ndarray, "V C"], faces: Int[np.ndarray, "F 3"]) -> Float[np.ndarray, "N C"]:
        """What the vertices have (positions, say) at the nearest points; something must have been within reach."""
        return np.einsum("nk,nkc->nc", self.weights, values[faces[self.face]])


@dataclass(frozen=True)
class Surface:
    """Triangles in a tree: node n holds the triangles `order[start:end]`, or the nodes `left` and `left` + 1."""

    corners: Float[np.ndarray, "F 3 3"]
    order: Int[np.ndarray, " F"]
    boxes: Float[np.ndarray, "B 6"]
    spans: Int[np.ndarray, "B 3"]
    """start, end, left; left is 0 at the ends of the tree."""

    def nearest(self, points: Float[np.ndarray, "N 3"], reach: float = np.inf) -> Hit:
        """Nearest points within `reach` metres."""
        points = np.ascontiguousarray(points, np.float64)
        face, distance, weights = _search(points, self.corners, self.order, self.boxes, self.spans, reach * reach)
        return Hit(np.sqrt(distance), face, weights)


def surface_of(vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]) -> Surface:
    """A mesh ready to be searched. Raises ValueError when it has no face."""
    if len(faces) == 0:
        raise ValueError("a mesh without faces has no nearest point")
    corners = np.ascontiguousarray(np.asarray(vertices, np.float64)[np.asarray(faces)])
    return Surface(corners, *_tree(corners.min(axis=1), corners.max(axis=1)))


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def _tree(low, high):
    """Boxes split at the middle of their longest side, or in the middle of the order when that splits nothing."""
    count = len(low)
    order = np.arange(count)
    boxes, spans = np.empty((2 * count + 1, 6)), np.zeros((2 * count + 1, 3), np.int64)
    spans[0, 0], spans[0, 1] = 0, count
    nodes, node = 1, 0
    while node < nodes:
        start, end = spans[node, 0], spans[node, 1]
        boxes[node, :3], boxes[node, 3:] = np.inf, -np.inf
        for n in range(start, end):
            for c in range(3):
                boxes[node, c] = min(boxes[node, c], low[order[n], c])
                boxes[node, 3 + c] = max(boxes[node, 3 + c], high[order[n], c])
        if end - start > LEAF:
            axis = 0
            for c in range(1, 3):
                if boxes[node, 3 + c] - boxes[node, c] > boxes[node, 3 + axis] - boxes[node, axis]:
                    axis = c
            split = boxes[node, axis] + boxes[node, 3 + axis]
            middle = start
            for n in range(start, end):
                f = order[n]
                if low[f, axis] + high[f, axis] < split:
                    order[n], order[middle] = order[middle], f
                    middle += 1
            if middle in (start, end):
                middle = (start + end) // 2
            spans[node, 2] = nodes
            spans[nodes, 0], spans[nodes, 1] = start, middle
            spans[nodes + 1, 0], spans[nodes + 1, 1] = middle, end
            nodes += 2
        node += 1
    return order, boxes[:nodes].copy(), spans[:nodes].copy()


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def _box_distance(box, x, y, z):
    dx = max(box[0] - x, 0.0, x - box[3])
    dy = max(box[1] - y, 0.0, y - box[4])
    dz = max(box[2] - z, 0.0, z - box[5])
    return dx * dx + dy * dy + dz * dz


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def _search(points, corners, order, boxes, spans, reach):
    count = len(points)
    face, distance = np.full(count, -1, np.int64), np.full(count, np.inf)
    weights = np.zeros((count, 3))
    stack = np.empty(128, np.int64)
    for n in range(count):
        x, y, z = points[n, 0], points[n, 1], points[n, 2]
        best = reach
        stack[0], depth = 0, 1
        while depth > 0:
            depth -= 1
            node = stack[depth]
            if _box_distance(boxes[node], x, y, z) >= best:
                continue
            left = spans[node, 2]
            if left > 0:
                near, far = left, left + 1
                if _box_distance(boxes[far], x, y, z) < _box_distance(boxes[near], x, y, z):
                    near, far = far, near
                if depth + 2 <= len(stack):
                    stack[depth], stack[depth + 1] = far, near
                    depth += 2
                continue
            for k in range(spans[node, 0], spans[node, 1]):
                f = order[k]
                u, v, w = _closest(corners[f], x, y, z)
                squared = 0.0
                for c in range(3):
                    d = u * corners[f, 0, c] + v * corners[f, 1, c] + w * corners[f, 2, c] - points[n, c]
                    squared += d * d
                if squared < best:
                    best, face[n], distance[n] = squared, f, squared
                    weights[n, 0], weights[n, 1], weights[n, 2] = u, v, w
    return face, distance, weights


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def _closest(t, x, y, z):
    """Barycentrics of the triangle's point that is nearest to (x, y, z): Ericson 2005, section 5.1.5."""
    ax, ay, az = t[1, 0] - t[0, 0], t[1, 1] - t[0, 1], t[1, 2] - t[0, 2]
    bx, by, bz = t[2, 0] - t[0, 0], t[2, 1] - t[0, 1], t[2, 2] - t[0, 2]
    px, py, pz = x - t[0, 0], y - t[0, 1], z - t[0, 2]
    d1, d2 = ax * px + ay * py + az * pz, bx * px + by * py + bz * pz
    if d1 <= 0.0 and d2 <= 0.0:
        return 1.0, 0.0, 0.0
    aa, ab, bb = ax * ax + ay * ay + az * az, ax * bx + ay * by + az * bz, bx * bx + by * by + bz * bz
    d3, d4 = d1 - aa, d2 - ab
    if d3 >= 0.0 and d4 <= d3:
        return 0.0, 1.0, 0.0
    vc = d1 * d4 - d3 * d2
    if vc <= 0.0 and d1 >= 0.0 and d3 <= 0.0:
        v = d1 / (d1 - d3) if d1 > d3 else 0.0
        return 1.0 - v, v, 0.0
    d5, d6 = d1 - ab, d2 - bb
    if d6 >= 0.0 and d5 <= d6:
        return 0.0, 0.0, 1.0
    vb = d5 * d2 - d1 * d6
    if vb <= 0.0 and d2 >= 0.0 and d6 <= 0.0:
        w = d2 / (d2 - d6) if d2 > d6 else 0.0
        return 1.0 - w, 0.0, w
    va = d3 * d6 - d5 * d4
    if va <= 0.0 and d4 - d3 >= 0.0 and d5 - d6 >= 0.0:
        w = (d4 - d3) / ((d4 - d3) + (d5 - d6)) if d4 - d3 + d5 - d6 > 0.0 else 0.0
        return 0.0, 1.0 - w, w
    total = va + vb + vc
    if total <= 0.0:
        return 1.0, 0.0, 0.0
    return va / total, vb / total, vc / total
