"""The inner loop of `mesh.decimate`: a queue of half-edge collapses.

A *group* is a place of the surface; its *wedges* are the vertices there, more than one where a texture seam or
a crease splits it. `no_type_check` keeps the tests' shape checker from wrapping what numba compiles.
"""

from __future__ import annotations

import math
from typing import no_type_check

import numba
import numpy as np

from avatar3d.mesh.quadrics import error_at

SHARPEST_TURN = 0.2
"""Least cosine between a face's normal before and after a collapse."""
SLIVER = 0.02
"""Least height of a new face as a share of its longest side."""
MOST_WEDGES = 16


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def _push(cost, item, size, key, value):
    """Binary heap ordered by (cost, item); returns the new size."""
    at = size
    while at > 0:
        parent = (at - 1) >> 1
        if cost[parent] < key or (cost[parent] == key and item[parent] <= value):
            break
        cost[at], item[at] = cost[parent], item[parent]
        at = parent
    cost[at], item[at] = key, value
    return size + 1


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def _pop(cost, item, size):
    """Remove the first entry of the heap; returns the new size."""
    size -= 1
    key, value = cost[size], item[size]
    at = 0
    while True:
        child = 2 * at + 1
        if child >= size:
            break
        right = child + 1
        if right < size and (
            cost[right] < cost[child] or (cost[right] == cost[child] and item[right] < item[child])
        ):
            child = right
        if cost[child] > key or (cost[child] == key and item[child] >= value):
            break
        cost[at], item[at] = cost[child], item[child]
        at = child
    cost[at], item[at] = key, value
    return size


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def _turns_over(points, a, b, c, old, new, least):
    """Whether the face of wedges a, b, c turns too far or becomes a sliver when its wedge `old` moves to `new`."""
    if b == old:
        a, b, c = b, c, a
    elif c == old:
        a, b, c = c, a, b
    ux, uy, uz = points[c, 0] - points[b, 0], points[c, 1] - points[b, 1], points[c, 2] - points[b, 2]
    vx, vy, vz = points[a, 0] - points[b, 0], points[a, 1] - points[b, 1], points[a, 2] - points[b, 2]
    wx, wy, wz = points[new, 0] - points[b, 0], points[new, 1] - points[b, 1], points[new, 2] - points[b, 2]
    ox, oy, oz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
    nx, ny, nz = uy * wz - uz * wy, uz * wx - ux * wz, ux * wy - uy * wx
    before, after = math.sqrt(ox * ox + oy * oy + oz * oz), math.sqrt(nx * nx + ny * ny + nz * nz)
    if before <= 1e-14:
        return False
    if ox * nx + oy * ny + oz * nz <= least * before * after:
        return True
    sides = max(ux * ux + uy * uy + uz * uz, wx * wx + wy * wy + wz * wz)
    tx, ty, tz = wx - ux, wy - uy, wz - uz
    sides = max(sides, tx * tx + ty * ty + tz * tz)
    old_sides = max(ux * ux + uy * uy + uz * uz, vx * vx + vy * vy + vz * vz)
    return after < SLIVER * sides and after * old_sides < before * sides


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def _wedge_map(u, v, faces, alive, head, following, group, old, new):
    """How the wedges of u follow the edge to v: fills old and new; returns their number and the edge's faces.

    The number is 0 when some wedge of u has no face on the edge, or when a face tells otherwise than another.
    """
    found = shared = 0
    corner = head[u]
    while corner >= 0:
        f, c = corner // 3, corner % 3
        if alive[f]:
            a = faces[f, c]
            b = -1
            for n in range(1, 3):
                other = faces[f, (c + n) % 3]
                if group[other] == v:
                    b = other
            if b >= 0:
                shared += 1
            at = 0
            while at < found and old[at] != a:
                at += 1
            if at == found:
                if found == MOST_WEDGES:
                    return 0, shared
                old[at], new[at] = a, b
                found += 1
            elif b >= 0:
                if new[at] >= 0 and new[at] != b:
                    return 0, shared
                new[at] = b
        corner = following[corner]
    for at in range(found):
        if new[at] < 0:
            return 0, shared
    return found, shared


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def _common_neighbours(u, v, faces, alive, head, following, group, mark, stamp):
    """Places that share an edge with both u and v. `mark` (G,) is scratch; uses stamp and stamp + 1."""
    corner = head[u]
    while corner >= 0:
        f = corner // 3
        if alive[f]:
            for n in range(3):
                mark[group[faces[f, n]]] = stamp
        corner = following[corner]
    mark[u], mark[v] = 0, 0
    common = 0
    corner = head[v]
    while corner >= 0:
        f = corner // 3
        if alive[f]:
            for n in range(3):
                g = group[faces[f, n]]
                if mark[g] == stamp:
                    mark[g] = stamp + 1
                    common += 1
        corner = following[corner]
    return common


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def _may_collapse(
    u, v, shared, points, moved, faces, alive, head, following, group, border, mark, stamp, old, new, found
):
    """Link condition (Dey and others 1999), borders stay borders, and no face turns over, at rest or moved."""
    if shared != (1 if border[u] else 2):
        return False
    if _common_neighbours(u, v, faces, alive, head, following, group, mark, stamp) != shared:
        return False
    corner = head[u]
    while corner >= 0:
        f, c = corner // 3, corner % 3
        if alive[f]:
            i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
            if group[i] != v and group[j] != v and group[k] != v:
                a = faces[f, c]
                at = 0
                while old[at] != a:
                    at += 1
                if _turns_over(points, i, j, k, a, new[at], SHARPEST_TURN):
                    return False
                for s in range(moved.shape[0]):
                    if _turns_over(moved[s], i, j, k, a, new[at], 0.0):
                        return False
        corner = following[corner]
    return True


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def collapse(points, moved, attributes, faces, group, border, locked, quadrics, target, worst):
    """Collapse half edges, cheapest first, until `target` faces are left or the next one costs more than `worst`.

    Changes `faces` and `quadrics`; returns which faces are left, and the cost of the last collapse. Costs are
    brought up to date when they come to the front of the queue: they hardly ever fall.
    """
    groups, face_count = len(border), faces.shape[0]
    alive = np.ones(face_count, np.bool_)
    left = face_count
    head, tail = np.full(groups, -1, np.int64), np.full(groups, -1, np.int64)
    following = np.full(3 * face_count, -1, np.int64)
    for corner in range(3 * face_count):
        g = group[faces[corner // 3, corner % 3]]
        if head[g] < 0:
            head[g] = corner
        else:
            following[tail[g]] = corner
        tail[g] = corner
    best, aim = np.full(groups, np.inf), np.full(groups, -1, np.int64)
    stale = np.zeros(groups, np.bool_)
    mark = np.zeros(groups, np.int64)
    stamp = 1
    old, new = np.empty(MOST_WEDGES, np.int64), np.empty(MOST_WEDGES, np.int64)
    around, price = np.empty(256, np.int64), np.empty(256)
    heap_cost, heap_item = np.empty(2 * groups + 64), np.empty(2 * groups + 64, np.int64)
    size = 0
    last = 0.0
    # places whose best collapse is to be found: at first all, later those whose surroundings changed
    todo = np.empty(groups + 256, np.int64)
    todo_count = groups
    for g in range(groups):
        todo[g] = g
    while True:
        for t in range(todo_count):
            u = todo[t]
            stale[u] = False
            best[u], aim[u] = np.inf, -1
            if locked[u] or head[u] < 0:
                continue
            stamp += 2
            count = 0
            corner = head[u]
            while corner >= 0:
                f = corner // 3
                if alive[f]:
                    for n in range(3):
                        v = group[faces[f, n]]
                        if v != u and mark[v] != stamp and count < 256:
                            mark[v] = stamp
                            around[count] = v
                            count += 1
                corner = following[corner]
            for n in range(count):
                v = around[n]
                found, shared = _wedge_map(u, v, faces, alive, head, following, group, old, new)
                price[n] = np.inf
                if found and shared == (1 if border[u] else 2):
                    total = 0.0
                    for at in range(found):
                        w = new[at]
                        x, y, z = points[w, 0], points[w, 1], points[w, 2]
                        total += error_at(quadrics[old[at]], x, y, z, attributes, w)
                        total += error_at(quadrics[w], x, y, z, attributes, w)
                    price[n] = max(total, 0.0)
            while True:
                n, lowest = -1, np.inf
                for m in range(count):
                    if price[m] < lowest:
                        n, lowest = m, price[m]
                if n < 0:
                    break
                v = around[n]
                found, shared = _wedge_map(u, v, faces, alive, head, following, group, old, new)
                stamp += 2
                if _may_collapse(
                    u, v, shared, points, moved, faces, alive, head, following, group, border, mark, stamp,
                    old, new, found,
                ):  # fmt: skip
                    best[u], aim[u] = lowest, v
                    if size == len(heap_cost):
                        heap_cost = np.concatenate((heap_cost, np.empty(size)))
                        heap_item = np.concatenate((heap_item, np.empty(size, np.int64)))
                    size = _push(heap_cost, heap_item, size, lowest, u)
                    break
                price[n] = np.inf
        todo_count = 0
        u = -1
        while size > 0:
            key, item = heap_cost[0], heap_item[0]
            size = _pop(heap_cost, heap_item, size)
            if head[item] >= 0 and best[item] == key:
                u = item
                break
        if u < 0 or left <= target or best[u] > worst:
            break
        if stale[u]:
            todo[0], todo_count = u, 1
            continue
        v, last = aim[u], best[u]
        found, shared = _wedge_map(u, v, faces, alive, head, following, group, old, new)
        for at in range(found):
            quadrics[new[at]] += quadrics[old[at]]
        corner = head[u]
        while corner >= 0:
            f, c = corner // 3, corner % 3
            if alive[f]:
                if group[faces[f, 0]] == v or group[faces[f, 1]] == v or group[faces[f, 2]] == v:
                    alive[f] = False
                    left -= 1
                else:
                    at = 0
                    while old[at] != faces[f, c]:
                        at += 1
                    faces[f, c] = new[at]
            corner = following[corner]
        following[tail[v]] = head[u]
        tail[v] = tail[u]
        head[u] = -1
        best[u] = np.inf
        # drop corners of dead faces, and see who is around
        stamp += 2
        previous, corner = -1, head[v]
        while corner >= 0:
            f = corner // 3
            if alive[f]:
                previous = corner
                for n in range(3):
                    g = group[faces[f, n]]
                    if mark[g] != stamp:
                        mark[g] = stamp
                        if best[g] == np.inf and todo_count < groups:
                            todo[todo_count] = g
                            todo_count += 1
                        else:
                            stale[g] = True
            elif previous < 0:
                head[v] = following[corner]
            else:
                following[previous] = following[corner]
            corner = following[corner]
        tail[v] = previous
    return alive, last
