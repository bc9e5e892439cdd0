"""Cutting cloth out of the body's surface along smooth curves.

Everything here depends on the template alone and is done once per process: a `Sheet` knows each of its vertices
as a weighted sum of template vertices, so it follows every body by one sparse product.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree

from avatar3d.engine.garment_fields import (
    Fields,
    body_faces,
    fields_at,
    reference,
    skin_matrix,
    template_fields,
)  # fmt: skip
from avatar3d.mesh.laplacian import cotangents, diffused

Array = np.ndarray
Cut = Callable[[Fields], Array]
"""Signed distance from an edge of the cloth, positive where cloth is; metres on the reference body."""

EVEN = 0.04
"""Reach of the smoothing of skin weights inside the cloth, metres: cloth bridges armpit and crotch."""
EDGE = 0.05
"""So near its edges, where skin shows, cloth moves as the skin does."""
SNAP = 0.35
"""A vertex closer to a cut than this share of its edge is moved onto the cut, which avoids sliver triangles."""


@dataclass(frozen=True)
class Sheet:
    """N points on the body and F triangles between them."""

    rows: sparse.csr_matrix
    """(N, V): each point as weighted template vertices."""
    faces: Array
    """(F, 3), wound like the body."""
    skin_rows: sparse.csr_matrix | None = None
    """(N, V) template vertices whose skin weights the points take; `rows` when absent."""

    @cached_property
    def fields(self) -> Fields:
        """The design fields at the points."""
        return fields_at(self.rows)

    @cached_property
    def points(self) -> Array:
        """(N, 3) on the reference body."""
        return self.rows @ reference().vertices.numpy().astype(np.float64)

    @cached_property
    def skin(self) -> tuple[Array, Array]:
        """Joints (N, 4) and weights (N, 4): those of the skin beneath, smoothed away from the edges."""
        copied = (self.rows if self.skin_rows is None else self.skin_rows) @ skin_matrix()
        away = cKDTree(self.points[self.rim]).query(self.points)[0]
        inside = np.clip((away - EDGE) / EDGE, 0.0, 1.0)
        return top_joints(diffused(copied, *cotangents(self.points, self.faces), EVEN * inside))

    @cached_property
    def neighbors(self) -> tuple[Array, Array]:
        """CSR (start, index) of the points that share an edge; a point of the rim has only rim neighbors."""
        edges = np.concatenate([self.faces[:, [0, 1]], self.faces[:, [1, 2]], self.faces[:, [2, 0]]])
        count = self.rows.shape[0]
        graph = sparse.coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), (count, count)).tocsr()
        both = graph + graph.T
        rim_edge = both.tocoo()
        on_rim = self.rim[rim_edge.row]
        single = rim_edge.data == 1
        keep = ~on_rim | single
        graph = sparse.coo_matrix(
            (np.ones(int(keep.sum())), (rim_edge.row[keep], rim_edge.col[keep])), (count, count)
        ).tocsr()
        graph.sort_indices()
        return graph.indptr.astype(np.int32), graph.indices.astype(np.int32)

    @cached_property
    def free(self) -> Array:
        """(N,) 0 on the cloth's edges, where skin shows, rising to 1 four rows of points inside."""
        start, index = self.neighbors
        near = self.rim.astype(float)
        inside = np.repeat(np.arange(len(near)), np.diff(start))
        for level in (0.75, 0.5, 0.25):
            reached = np.zeros_like(near)
            np.maximum.at(reached, inside, near[index])
            near = np.where(near > 0, near, np.where(reached > 0, level, 0.0))
        return 1.0 - near

    @cached_property
    def rim_edges(self) -> Array:
        """(E, 2) edges with one face, in the direction of that face."""
        edges = np.concatenate([self.faces[:, [0, 1]], self.faces[:, [1, 2]], self.faces[:, [2, 0]]])
        keys = edges[:, 0].astype(np.int64) * (edges.max() + 1) + edges[:, 1]
        reverse = edges[:, 1].astype(np.int64) * (edges.max() + 1) + edges[:, 0]
        return edges[~np.isin(keys, reverse)]

    @cached_property
    def level_rims(self) -> list[Array]:
        """Closed edges of the cloth that lie in a plane on the reference body (hems, cuffs), in order."""
        following = dict(self.rim_edges.tolist())
        loops = []
        while following:
            start, point = next(iter(following.items()))
            loop = [start]
            del following[start]
            while point != start and point in following:
                loop.append(point)
                point = following.pop(point)
            p = self.points[loop] - self.points[loop].mean(axis=0)
            spread = np.linalg.svd(p, compute_uv=False)
            if point == start and len(loop) > 8 and spread[2] < 0.10 * spread[1]:
                loops.append(np.array(loop))
        return loops

    @cached_property
    def rim(self) -> Array:
        """(N,) whether a point lies on an edge of the cloth."""
        flags = np.zeros(self.rows.shape[0], bool)
        flags[self.rim_edges.reshape(-1)] = True
        return flags


def top_joints(dense: Array, count: int = 4) -> tuple[Array, Array]:
    """The `count` strongest joints of each row and their weights, summing to one."""
    order = np.argsort(-dense, axis=1, kind="stable")[:, :count]
    weights = np.take_along_axis(dense, order, axis=1).astype(np.float32)
    weights /= weights.sum(axis=1, keepdims=True)
    return np.where(weights > 0, order, 0).astype(np.int64), weights


def cut_cloth(
    cuts: Sequence[Cut], lines: Sequence[Cut] = (), longest: float = 0.018, surface: str = "body"
) -> Sheet:
    """The part of a template surface where every cut is positive, refined to edges of `longest` metres.

    `lines` are drawn into the mesh as edges but nothing is removed; sort faces by them with `face_fields`.
    """
    f = template_fields()
    inside = np.min([cut(f) for cut in cuts], axis=0)
    faces = body_faces() if surface == "body" else _surface_faces(surface)
    sheet = _compact(sparse.identity(len(f.x), format="csr"), faces[(inside[faces] > -0.05).all(axis=1)])
    for _ in range(2):
        sheet = _refine(sheet, longest)
    for cut in cuts:
        sheet, values = draw_line(sheet, cut)
        sheet = _compact(sheet.rows, sheet.faces[values[sheet.faces].sum(axis=1) > 0])
    for line in lines:
        sheet, _ = draw_line(sheet, line)
    return sheet


def _surface_faces(surface: str) -> Array:
    corner, _, faces = reference().body.template.surface(surface)
    return corner[faces].numpy()


def covered_by(cuts: Sequence[Cut], margin: float, fields: Fields | None = None) -> Array:
    """(N,) points that lie under the cloth, at least `margin` metres from its edges."""
    f = template_fields() if fields is None else fields
    return np.min([cut(f) for cut in cuts], axis=0) > margin


def face_fields(sheet: Sheet, of: Cut) -> Array:
    """(F,) the mean of a design scalar over each face's corners."""
    return of(sheet.fields)[sheet.faces].mean(axis=1)


def select_faces(sheet: Sheet, keep: Array) -> Sheet:
    """The sheet with only the chosen faces."""
    return _compact(sheet.rows, sheet.faces[keep])


def draw_line(sheet: Sheet, scalar: Cut) -> tuple[Sheet, Array]:
    """Insert the curve scalar = 0 as mesh edges; also returns the scalar at the new points (0 on the curve)."""
    s = scalar(sheet.fields)
    s = np.where(np.abs(s) < 1e-6, 0.0, s)
    edges = _unique_edges(sheet.faces)
    a, b = edges[s[edges[:, 0]] * s[edges[:, 1]] < 0].T
    t = s[a] / (s[a] - s[b])
    # move near vertices onto the curve
    near = np.concatenate([t, 1 - t])
    vertex, other = np.concatenate([a, b]), np.concatenate([b, a])
    order = np.argsort(near, kind="stable")
    vertex, other, near = vertex[order], other[order], near[order]
    first = np.unique(vertex, return_index=True)[1]
    first = first[near[first] < SNAP]
    moved, to, share = vertex[first], other[first], near[first]
    # an edge is not collapsed from both ends
    both = np.isin(to, moved)
    moved, to, share = moved[~both | (moved < to)], to[~both | (moved < to)], share[~both | (moved < to)]
    rows = sheet.rows.copy()
    if len(moved):
        keep = np.ones(len(s))
        keep[moved] = 1 - share
        pull = sparse.coo_matrix((share, (moved, to)), (len(s), len(s)))
        rows = (sparse.diags(keep) + pull).tocsr() @ rows
        s = s.copy()
        s[moved] = 0.0
    crossing = edges[s[edges[:, 0]] * s[edges[:, 1]] < 0]
    share = s[crossing[:, 0]] / (s[crossing[:, 0]] - s[crossing[:, 1]])
    split = _split_edges(Sheet(rows, sheet.faces), crossing, share)
    return split, np.concatenate([s, np.zeros(len(crossing))])


def _unique_edges(faces: Array) -> Array:
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    return np.unique(edges, axis=0)


def _refine(sheet: Sheet, longest: float) -> Sheet:
    edges = _unique_edges(sheet.faces)
    length = np.linalg.norm(sheet.points[edges[:, 0]] - sheet.points[edges[:, 1]], axis=1)
    long = edges[length > longest * 1.25]
    return _split_edges(sheet, long, np.full(len(long), 0.5))


def _split_edges(sheet: Sheet, edges: Array, share: Array) -> Sheet:
    """Put a point on each of the edges (a, b) at a + share (b - a) and re-triangulate the faces around it."""
    count = sheet.rows.shape[0]
    if not len(edges):
        return sheet
    a, b = edges.T
    n = np.arange(len(edges))
    mix = sparse.coo_matrix(
        (np.concatenate([1 - share, share]), (np.concatenate([n, n]), np.concatenate([a, b]))), (len(edges), count)
    )
    rows = sparse.vstack([sheet.rows, mix.tocsr() @ sheet.rows]).tocsr()
    width = count + 1
    keys = np.minimum(a, b).astype(np.int64) * width + np.maximum(a, b)
    order = np.argsort(keys)
    keys = keys[order]

    def middle(p: Array, q: Array) -> Array:
        wanted = np.minimum(p, q).astype(np.int64) * width + np.maximum(p, q)
        at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        return np.where(keys[at] == wanted, count + order[at], -1)

    f = sheet.faces
    mids = np.stack([middle(f[:, i], f[:, (i + 1) % 3]) for i in range(3)], axis=1)
    cuts = (mids >= 0).sum(axis=1)
    out = [f[cuts == 0]]
    for i in range(3):
        j, k = (i + 1) % 3, (i + 2) % 3
        one = (cuts == 1) & (mids[:, i] >= 0)
        v, m = f[one], mids[one]
        out += [np.stack([v[:, i], m[:, i], v[:, k]], 1), np.stack([m[:, i], v[:, j], v[:, k]], 1)]
        two = (cuts == 2) & (mids[:, i] < 0)
        v, m = f[two], mids[two]  # edge ij is whole; jk and ki are cut around corner k
        out += [
            np.stack([m[:, k], m[:, j], v[:, k]], 1),
            np.stack([v[:, i], v[:, j], m[:, j]], 1),
            np.stack([v[:, i], m[:, j], m[:, k]], 1),
        ]
    v, m = f[cuts == 3], mids[cuts == 3]
    out += [np.stack([v[:, i], m[:, i], m[:, (i + 2) % 3]], 1) for i in range(3)] + [m]
    return replace(sheet, rows=rows, faces=np.concatenate(out))


def _compact(rows: sparse.csr_matrix, faces: Array) -> Sheet:
    used, inverse = np.unique(faces, return_inverse=True)
    return Sheet(rows[used].tocsr(), inverse.reshape(-1, 3))
