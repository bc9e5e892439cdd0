"""Where a triangle mesh cuts itself, and where lines cut it: measures of faces in motion."""

from __future__ import annotations

from typing import no_type_check

import numba
import numpy as np
from jaxtyping import Float, Int


def self_intersections(
    vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]
) -> Int[np.ndarray, "P 2"]:
    """Pairs of triangles without a common vertex that cut each other, each pair once, smaller index first.

    Two triangles cut each other when an edge of one passes through the other (Moeller 1997 tests the same);
    triangles in one plane count as not cutting. Sweep along the longest axis.
    """
    if len(faces) == 0:
        return np.zeros((0, 2), dtype=np.int64)
    corners = np.ascontiguousarray(vertices[faces], dtype=np.float64)
    low, high = corners.min(axis=1), corners.max(axis=1)
    axis = int(np.argmax(high.max(axis=0) - low.min(axis=0)))
    order = np.argsort(low[:, axis], kind="stable")
    pairs = _sweep(corners, low, high, np.ascontiguousarray(faces, dtype=np.int64), order, axis)
    pairs.sort(axis=1)
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


def segment_crossings(
    starts: Float[np.ndarray, "N 3"],
    ends: Float[np.ndarray, "N 3"],
    vertices: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "F 3"],
) -> tuple[Int[np.ndarray, " N"], Float[np.ndarray, " N"]]:
    """How many triangles each segment passes through, and the share of its way to the first one (inf if none)."""
    corners = np.ascontiguousarray(vertices[faces], dtype=np.float64)
    return _crossings(
        np.ascontiguousarray(starts, dtype=np.float64), np.ascontiguousarray(ends, dtype=np.float64), corners,
        corners.min(axis=1), corners.max(axis=1),
    )  # fmt: skip


def buried_depths(
    vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"], reach: float = 0.012
) -> Float[np.ndarray, " V"]:
    """How deep each vertex of a closed surface lies inside another part of the same solid, metres; 0 if outside.

    Seen from a vertex along its normal, the first surface in the way (up to `reach`) shows its inside only if the
    vertex is buried; seven rays must agree. The depth is the shortest way out of 26 directions.
    """
    corners = np.ascontiguousarray(vertices[faces], dtype=np.float64)
    face_normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros((len(vertices), 3))
    for k in range(3):
        np.add.at(normals, faces[:, k], face_normals)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-20)
    steps = np.stack(np.meshgrid(*[[-1.0, 0.0, 1.0]] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    steps = steps[np.argsort((steps**2).sum(axis=1), kind="stable")][1:]
    ways = steps / np.linalg.norm(steps, axis=1, keepdims=True)
    return _buried(
        np.ascontiguousarray(vertices, dtype=np.float64), normals, np.unique(faces), corners, corners.min(axis=1),
        corners.max(axis=1), np.ascontiguousarray(faces, dtype=np.int64), reach, ways,
    )  # fmt: skip


@numba.njit(cache=True, nogil=True)
@no_type_check
def _hit(p, q, triangle):
    """Share of the way from p to q at which the triangle is passed, or -1 (Moeller and Trumbore 1997)."""
    dx, dy, dz = q[0] - p[0], q[1] - p[1], q[2] - p[2]
    ax, ay, az = triangle[0, 0], triangle[0, 1], triangle[0, 2]
    ex, ey, ez = triangle[1, 0] - ax, triangle[1, 1] - ay, triangle[1, 2] - az
    fx, fy, fz = triangle[2, 0] - ax, triangle[2, 1] - ay, triangle[2, 2] - az
    hx, hy, hz = dy * fz - dz * fy, dz * fx - dx * fz, dx * fy - dy * fx
    det = ex * hx + ey * hy + ez * hz
    if abs(det) < 1e-18:
        return -1.0
    sx, sy, sz = p[0] - ax, p[1] - ay, p[2] - az
    u = (sx * hx + sy * hy + sz * hz) / det
    if u < 0.0 or u > 1.0:
        return -1.0
    gx, gy, gz = sy * ez - sz * ey, sz * ex - sx * ez, sx * ey - sy * ex
    v = (dx * gx + dy * gy + dz * gz) / det
    if v < 0.0 or u + v > 1.0:
        return -1.0
    t = (fx * gx + fy * gy + fz * gz) / det
    return t if 0.0 <= t <= 1.0 else -1.0


@numba.njit(cache=True, nogil=True)
@no_type_check
def _sweep(corners, low, high, faces, order, axis):
    one, two = (axis + 1) % 3, (axis + 2) % 3
    found = []
    for n in range(len(order)):
        i = order[n]
        for m in range(n + 1, len(order)):
            j = order[m]
            if low[j, axis] > high[i, axis]:
                break
            if low[j, one] > high[i, one] or high[j, one] < low[i, one]:
                continue
            if low[j, two] > high[i, two] or high[j, two] < low[i, two]:
                continue
            shared = False
            for a in range(3):
                for b in range(3):
                    shared = shared or faces[i, a] == faces[j, b]
            if shared:
                continue
            for k in range(3):
                after = (k + 1) % 3
                if (
                    _hit(corners[i, k], corners[i, after], corners[j]) >= 0.0
                    or _hit(corners[j, k], corners[j, after], corners[i]) >= 0.0
                ):
                    found.append((i, j))
                    break
    pairs = np.empty((len(found), 2), np.int64)
    for n in range(len(found)):
        pairs[n, 0], pairs[n, 1] = found[n]
    return pairs


@numba.njit(cache=True, nogil=True)
@no_type_check
def _crossings(starts, ends, corners, low, high):
    counts, first = np.zeros(len(starts), np.int64), np.full(len(starts), np.inf)
    for n in range(len(starts)):
        p, q = starts[n], ends[n]
        for f in range(len(corners)):
            outside = False
            for c in range(3):
                outside = outside or max(p[c], q[c]) < low[f, c] or min(p[c], q[c]) > high[f, c]
            if outside:
                continue
            t = _hit(p, q, corners[f])
            if t >= 0.0:
                counts[n] += 1
                first[n] = min(first[n], t)
    return counts, first


@numba.njit(cache=True, nogil=True)
@no_type_check
def _way_out(p, way, vertex, corners, low, high, faces):
    """Share of the way from p at which the first triangle shows its inside; inf if another side comes first.

    Triangles around `vertex` are ignored.
    """
    q = p + way
    first, out = np.inf, False
    for f in range(len(corners)):
        outside = faces[f, 0] == vertex or faces[f, 1] == vertex or faces[f, 2] == vertex
        for c in range(3):
            outside = outside or max(p[c], q[c]) < low[f, c] or min(p[c], q[c]) > high[f, c]
        if outside:
            continue
        t = _hit(p, q, corners[f])
        if t >= 0.0 and t < first:
            normal = np.cross(corners[f, 1] - corners[f, 0], corners[f, 2] - corners[f, 0])
            first, out = t, normal[0] * way[0] + normal[1] * way[1] + normal[2] * way[2] > 0.0
    return first if out else np.inf


@numba.njit(cache=True, nogil=True)
@no_type_check
def _buried(points, normals, active, corners, low, high, faces, reach, ways):
    depth = np.zeros(len(points))
    for v in active:
        share = _way_out(points[v], reach * normals[v], v, corners, low, high, faces)
        for n in range(6):  # ways along the axes come first
            if share == np.inf:
                break
            tilted = _way_out(points[v], reach * (normals[v] + 0.3 * ways[n]), v, corners, low, high, faces)
            share = np.inf if tilted == np.inf else min(share, 1.2 * tilted)
        if share == np.inf:
            continue
        for n in range(len(ways)):
            share = min(share, _way_out(points[v], reach * ways[n], v, corners, low, high, faces))
        depth[v] = share * reach
    return depth
