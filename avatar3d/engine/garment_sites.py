"""Places on a garment: where collars, pockets, buttons and seams are put, found once on the design.

A site is a grid of points on a sheet, each a weighted sum of the sheet's points, so it moves with the worn cloth
and has the cloth's own skin weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree

from avatar3d.engine.garment_cut import Sheet, top_joints
from avatar3d.engine.garment_fields import NECK_BASE, skin_matrix, trunk_center
from avatar3d.engine.garment_solids import Solid, disc, loft, slab, tube

Array = np.ndarray


@dataclass(frozen=True)
class Site:
    """A grid (R, C) of places on a sheet."""

    rows: sparse.csr_matrix
    """(R * C, N)."""
    shape: tuple[int, int]
    sheet: Sheet

    @cached_property
    def skin(self) -> tuple[Array, Array]:
        """Joints and weights (R * C, 4)."""
        return top_joints(self.rows @ (self.sheet.rows @ skin_matrix()))

    def place(self, points: Array, normals: Array, out: Array | float = 0.0) -> tuple[Array, Array]:
        """The grid (R, C, 3) on worn cloth, `out` metres above it, and the unit normals there."""
        n = self.rows @ normals
        n /= np.maximum(np.linalg.norm(n, axis=1, keepdims=True), 1e-12)
        n = n.reshape(*self.shape, 3)
        p = (self.rows @ points).reshape(*self.shape, 3)
        return p + np.broadcast_to(np.asarray(out, float), self.shape)[..., None] * n, n

    def slab(self, points: Array, normals: Array, out: Array | float, thickness: float) -> Solid:
        """A patch of cloth lying on the site, its upper side `out` above it."""
        top, n = self.place(points, normals, out)
        solid = slab(top, n, thickness)
        index = np.pad(np.arange(top.shape[0] * top.shape[1]).reshape(self.shape), 1, mode="edge").reshape(-1)
        return solid.skinned(*(a[index] for a in self.skin))

    def surface(self, grid: Array) -> Solid:
        """A thin surface through points made from `place`."""
        return loft(grid).skinned(*self.skin)

    def cord(self, points: Array, normals: Array, out: Array | float, radius: float, sides: int = 6) -> Solid:
        """A cord along the site's only row."""
        path, _ = self.place(points, normals, out)
        solid = tube(path[0], radius, sides)
        ring = np.concatenate([[0], np.arange(self.shape[1]), [self.shape[1] - 1]])
        index = np.repeat(ring, sides + 1)
        return solid.skinned(*(a[index] for a in self.skin))

    def buttons(self, points: Array, normals: Array, out: float, radius: float, height: float) -> list[Solid]:
        """A button at every place."""
        centers, n = self.place(points, normals, out)
        solids = []
        for k, (c, d) in enumerate(zip(centers.reshape(-1, 3), n.reshape(-1, 3), strict=True)):
            solid = disc(c, d, radius, height)
            solids.append(solid.skinned(*(np.repeat(a[k : k + 1], len(solid.points), 0) for a in self.skin)))
        return solids


def locate(sheet: Sheet, a: Array, b: Array, faces: Array, grid: Array) -> Site:
    """Find places (R, C, 2) given in two design coordinates a and b (F, 3) of the face corners, among the chosen
    faces (F,) of a sheet. A place outside of the cloth goes to its nearest edge.
    """
    tris = sheet.faces[faces]
    corner = np.stack([a, b], axis=2)[faces]
    query = grid.reshape(-1, 2)
    tree = cKDTree(corner.mean(axis=1))
    _, near = tree.query(query, k=min(24, len(tris)))
    p, q, r = (corner[near, i] for i in range(3))
    e1, e2, d = q - p, r - p, query[:, None] - p
    area = e1[..., 0] * e2[..., 1] - e1[..., 1] * e2[..., 0]
    area = np.where(np.abs(area) < 1e-12, 1e-12, area)
    w1 = (d[..., 0] * e2[..., 1] - d[..., 1] * e2[..., 0]) / area
    w2 = (e1[..., 0] * d[..., 1] - e1[..., 1] * d[..., 0]) / area
    weights = np.stack([1 - w1 - w2, w1, w2], axis=-1)
    best = weights.min(axis=-1).argmax(axis=1)
    n = np.arange(len(query))
    chosen = np.clip(weights[n, best], 0.0, None)
    chosen /= chosen.sum(axis=1, keepdims=True)
    vertex = tris[near[n, best]]
    rows = sparse.coo_matrix(
        (chosen.reshape(-1), (np.repeat(n, 3), vertex.reshape(-1))), (len(query), sheet.rows.shape[0])
    ).tocsr()
    return Site(rows, grid.shape[:2], sheet)


def front_site(sheet: Sheet, grid: Array) -> Site:
    """Places seen from the front: x and y on the reference body."""
    f = sheet.fields
    facing = _facing(sheet) > 0.05
    return locate(
        sheet, f.x[sheet.faces], f.y[sheet.faces], facing & (f.arm[sheet.faces].mean(axis=1) < 0.6), grid
    )


def back_site(sheet: Sheet, grid: Array) -> Site:
    """Places seen from behind: x and y on the reference body."""
    f = sheet.fields
    return locate(
        sheet,
        f.x[sheet.faces],
        f.y[sheet.faces],
        (_facing(sheet) < -0.05) & (f.arm[sheet.faces].mean(axis=1) < 0.6),
        grid,
    )


def neck_site(sheet: Sheet, grid: Array) -> Site:
    """Places around the neck: angle (0 in front, pi/2 on the left) and distance from the neck's base."""
    f = sheet.fields
    distance = f.neck()[sheet.faces]
    angle = _half_turns(f.x, f.z - NECK_BASE[2], sheet.faces)
    return locate(sheet, angle, distance, distance.max(axis=1) < 0.3, grid)


def trunk_site(sheet: Sheet, grid: Array) -> Site:
    """Places around the trunk: angle (0 in front, pi/2 on the left) and height."""
    f = sheet.fields
    angle = _half_turns(f.x, f.z - trunk_center(f.y), sheet.faces)
    return locate(
        sheet, 0.13 * angle, f.y[sheet.faces], f.arm[sheet.faces].max(axis=1) < 0.6, grid * np.array([0.13, 1])
    )


def _half_turns(x: Array, z: Array, faces: Array) -> Array:
    """(F, 3) angle from the front, positive on the left; the middle of the back is +-pi by the face's own side."""
    angle = np.arctan2(x, z)[faces]
    side = np.sign(x[faces].mean(axis=1, keepdims=True))
    return np.where((angle * side < 0) & (np.abs(angle) > 2.0), angle + 2 * np.pi * side, angle)


def leg_site(sheet: Sheet, side: float, grid: Array) -> Site:
    """Places on a leg (side 1 left, -1 right): angle about the leg (0 outside, pi/2 in front) and height."""
    f = sheet.fields
    span = f.leg_angle[sheet.faces]
    whole = (span.max(axis=1) - span.min(axis=1) < 2.0) & ((f.x * side)[sheet.faces].mean(axis=1) > 0)
    return locate(sheet, span * 0.1, f.y[sheet.faces], whole, grid * np.array([0.1, 1.0]))


def _facing(sheet: Sheet) -> Array:
    p = sheet.points[sheet.faces]
    n = np.cross(p[:, 1] - p[:, 0], p[:, 2] - p[:, 0])
    return n[:, 2] / np.maximum(np.linalg.norm(n, axis=1), 1e-15)


def rectangle(left: float, right: float, low: float, high: float, rows: int, columns: int) -> Array:
    """(rows, columns, 2) grid over a rectangle of design coordinates."""
    a, b = np.linspace(left, right, columns), np.linspace(low, high, rows)
    return np.stack(np.meshgrid(a, b), axis=-1)


def strip(left: Array, right: Array, columns: int) -> Array:
    """(R, columns, 2) grid between two lines (R, 2) of design coordinates."""
    t = np.linspace(0, 1, columns)[None, :, None]
    return np.asarray(left)[:, None] * (1 - t) + np.asarray(right)[:, None] * t
