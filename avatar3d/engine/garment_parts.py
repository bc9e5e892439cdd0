"""From fitted cloth to parts: hems with thickness, texture coordinates, skin weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy import sparse

from avatar3d.engine.attach import Figure
from avatar3d.engine.fabrics import TILE
from avatar3d.engine.garment_chart import Chart
from avatar3d.engine.garment_cut import Sheet
from avatar3d.engine.garment_fit import face_weighted_normals, to_tensor
from avatar3d.structures import Material, Mesh, Part, Skin

Array = np.ndarray


@dataclass(frozen=True)
class Cloth:
    """A sheet with hems and texture coordinates; depends on the template alone."""

    sheet: Sheet
    panel: Array
    """(F,) which chart and material a face has."""
    charts: tuple[Chart, ...]
    hem_depth: float = 0.012
    hem_thickness: float = 0.003

    @cached_property
    def rim(self) -> Array:
        """(R,) points on the cloth's edges."""
        return np.flatnonzero(self.sheet.rim)

    @cached_property
    def inner(self) -> sparse.csr_matrix:
        """(R, N) mean of the points that face each rim point from inside."""
        count = self.sheet.rows.shape[0]
        edges = self.sheet.rim_edges
        keys = edges[:, 0].astype(np.int64) * count + edges[:, 1]
        pairs = []
        for i in range(3):
            f = self.sheet.faces
            a, b, c = f[:, i], f[:, (i + 1) % 3], f[:, (i + 2) % 3]
            hit = np.isin(a.astype(np.int64) * count + b, keys)
            pairs += [np.stack([a[hit], c[hit]], 1), np.stack([b[hit], c[hit]], 1)]
        p = np.concatenate(pairs)
        slot = np.full(count, -1)
        slot[self.rim] = np.arange(len(self.rim))
        m = sparse.coo_matrix((np.ones(len(p)), (slot[p[:, 0]], p[:, 1])), (len(self.rim), count)).tocsr()
        return sparse.diags(1 / np.maximum(np.asarray(m.sum(axis=1)).ravel(), 1)) @ m

    @cached_property
    def faces(self) -> Array:
        """(F + 4E, 3) faces with hems; hem points follow the N sheet points in two rings."""
        count, ring = self.sheet.rows.shape[0], len(self.rim)
        slot = np.full(count, -1)
        slot[self.rim] = np.arange(ring)
        a, b = self.sheet.rim_edges.T
        a1, b1 = count + slot[a], count + slot[b]
        a2, b2 = a1 + ring, b1 + ring
        strips = [np.stack(t, 1) for t in ((b, a, a1), (b, a1, b1), (b1, a1, a2), (b1, a2, b2))]
        return np.concatenate([self.sheet.faces, *strips])

    @cached_property
    def face_panel(self) -> Array:
        """(F + 4E,) panel of every face; a hem takes its cloth's."""
        count = self.sheet.rows.shape[0]
        f = self.sheet.faces
        of_edge = {}
        for i in range(3):
            for key, p in zip(
                (f[:, i].astype(np.int64) * count + f[:, (i + 1) % 3]).tolist(), self.panel, strict=True
            ):
                of_edge[key] = p
        edges = self.sheet.rim_edges
        hem = np.array([of_edge[k] for k in (edges[:, 0].astype(np.int64) * count + edges[:, 1]).tolist()], int)
        return np.concatenate([self.panel, hem, hem, hem, hem])

    @cached_property
    def corners(self) -> tuple[Array, Array, Array, Array]:
        """(vertex (R,), turn (R,), panel (R,), faces (F, 3) over corners); whole `turn`s join a face's corners."""
        source = np.concatenate([np.arange(self.sheet.rows.shape[0]), self.rim, self.rim])
        turn = np.zeros((len(self.faces), 3), np.int64)
        for p, chart in enumerate(self.charts):
            chosen = self.face_panel == p
            share = chart.angle(self.sheet.fields)[source[self.faces[chosen]]] / (2 * np.pi)
            turn[chosen] = -np.round(share - share[:, :1]).astype(np.int64)
        key = np.stack([self.faces.reshape(-1), turn.reshape(-1), np.repeat(self.face_panel, 3)], axis=1)
        _, first, inverse = np.unique(key, axis=0, return_index=True, return_inverse=True)
        return *key[first].T, inverse.reshape(-1, 3)

    def uv(self, points: Array, figure: Figure) -> Array:
        """(R, 2) texture coordinates of the corners, in tiles, for the cloth as worn."""
        vertex, turn, panel, _ = self.corners
        count, ring = self.sheet.rows.shape[0], len(self.rim)
        source = np.concatenate([np.arange(count), self.rim, self.rim])[vertex]
        out = np.zeros((len(vertex), 2))
        for p, chart in enumerate(self.charts):
            mine = panel == p
            share, down, around = chart.measure(points, self.sheet.fields, figure)
            tiles = max(round(around / TILE), 1)
            out[mine, 0] = tiles * (share[source[mine]] + turn[mine])
            out[mine, 1] = down[source[mine]] / TILE
        # hems continue the cloth by their width, so that their texture has an area
        return out + 0.03 * ((vertex >= count).astype(float) + (vertex >= count + ring))[:, None]

    @cached_property
    def skin(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Joints and weights of sheet points and hem points."""
        joints, weights = self.sheet.skin
        order = np.concatenate([np.arange(len(joints)), self.rim, self.rim])
        return torch.from_numpy(joints[order]), torch.from_numpy(weights[order])

    def with_hems(self, points: Array) -> Array:
        """(N + 2R, 3): the cloth's points, then the folded edge and the end of the fold."""
        normals = face_weighted_normals(points, self.sheet.faces)[self.rim]
        edge = points[self.rim]
        inward = self.inner @ points - edge
        inward -= (inward * normals).sum(1, keepdims=True) * normals
        inward /= np.maximum(np.linalg.norm(inward, axis=1, keepdims=True), 1e-6)
        fold = edge - self.hem_thickness * normals
        return np.concatenate([points, fold, fold + self.hem_depth * inward])


def cloth_parts(
    cloth: Cloth, points: Array, figure: Figure, kind: str,
    panels: Sequence[tuple[str, Material, tuple[int, ...]]], keep: Array | None = None,
) -> list[Part]:  # fmt: skip
    """One part per (name, material, panels). `keep` (F,) drops faces of the sheet that nobody can see."""
    full = cloth.with_hems(points)
    normals = to_tensor(face_weighted_normals(full, cloth.faces))
    vertex, _, _, faces = cloth.corners
    uv = cloth.uv(points, figure)
    full_t, joints, weights = to_tensor(full), *cloth.skin
    shown = np.ones(len(faces), bool)
    if keep is not None:
        shown[: len(keep)] = keep
    parts = []
    for name, material, chosen in panels:
        mine = faces[np.isin(cloth.face_panel, chosen) & shown]
        if not len(mine):
            continue
        used, inverse = np.unique(mine, return_inverse=True)
        at = torch.from_numpy(vertex[used])
        mesh = Mesh(
            full_t[at], torch.from_numpy(inverse.reshape(-1, 3)), normals[at], to_tensor(uv[used]), material
        )
        parts.append(Part(name, kind, mesh, Skin(joints[at], weights[at])))
    return parts
