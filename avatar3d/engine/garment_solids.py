"""Small solids that garments are finished with: lofts, slabs, tubes, buttons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from avatar3d.engine.attach import Figure, anchor_nearest, anchored_skin
from avatar3d.engine.fabrics import TILE
from avatar3d.engine.garment_fit import face_weighted_normals, to_tensor
from avatar3d.mesh.normals import with_area
from avatar3d.structures import Material, Mesh, Part, Skin

Array = np.ndarray


@dataclass(frozen=True)
class Solid:
    """N vertices with texture coordinates in tiles, and F triangles."""

    points: Array
    faces: Array
    uv: Array
    normals: Array
    joints: Array | None = None
    weights: Array | None = None
    """(N, 4) skin, when it is known."""

    def mirrored(self) -> Solid:
        """The same on the other side of the body, without a skin."""
        flip = np.array([-1.0, 1.0, 1.0])
        return Solid(self.points * flip, self.faces[:, ::-1], self.uv, self.normals * flip)

    def skinned(self, joints: Array, weights: Array) -> Solid:
        """The same with skin weights."""
        return replace(self, joints=joints, weights=weights)


def loft(grid: Array, closed: bool = False, flip: bool = False, tile: float = TILE) -> Solid:
    """A surface through a grid (R, C, 3); the ends of its rows are joined when `closed`.

    The outside is where (along a row) x (to the next row) points, or the other side with `flip`. Texture
    coordinates follow arc length.
    """
    rows = len(grid)
    wide = np.concatenate([grid, grid[:, :1]], axis=1) if closed else grid
    n = wide.shape[1]
    along = np.linalg.norm(np.diff(wide, axis=1), axis=2).mean(axis=0)
    down = np.linalg.norm(np.diff(wide, axis=0), axis=2).mean(axis=1)
    u, v = np.concatenate([[0], np.cumsum(along)]) / tile, np.concatenate([[0], np.cumsum(down)]) / tile
    if closed:
        u *= max(round(u[-1]), 1) / max(u[-1], 1e-9)
    uv = np.stack(np.broadcast_arrays(u[None], -v[:, None]), axis=-1).reshape(-1, 2)
    i = np.arange(rows - 1)[:, None] * n + np.arange(n - 1)[None]
    a, b, c, d = (k.reshape(-1) for k in (i, i + 1, i + n + 1, i + n))
    faces = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])
    if flip:
        faces = faces[:, ::-1]
    points = wide.reshape(-1, 3)
    faces = with_area(points, faces)
    normals = face_weighted_normals(points, faces).reshape(rows, n, 3)
    if closed:
        seam = normals[:, 0] + normals[:, -1]
        seam /= np.maximum(np.linalg.norm(seam, axis=1, keepdims=True), 1e-12)
        normals[:, 0] = normals[:, -1] = seam
    return Solid(points, faces, uv, normals.reshape(-1, 3))


def slab(top: Array, normals: Array, thickness: float, tile: float = TILE, flip: bool = False) -> Solid:
    """A patch (R, C, 3) of some thickness: its top, and edges that drop by `thickness` against `normals`."""
    down = top - thickness * normals
    grid = np.pad(top, ((1, 1), (1, 1), (0, 0)), mode="edge")
    grid[0, 1:-1], grid[-1, 1:-1] = down[0], down[-1]
    grid[1:-1, 0], grid[1:-1, -1] = down[:, 0], down[:, -1]
    for i, j in ((0, 0), (0, -1), (-1, 0), (-1, -1)):
        grid[i, j] = down[i, j]
    return loft(grid, tile=tile, flip=flip)


def tube(path: Array, radius: float | Array, sides: int = 6, tile: float = TILE) -> Solid:
    """A round cord along a path (P, 3), with closed ends."""
    tangent = np.gradient(path, axis=0)
    tangent /= np.maximum(np.linalg.norm(tangent, axis=1, keepdims=True), 1e-12)
    side = np.cross(tangent, np.array([0.31, 0.87, 0.39]))
    side /= np.maximum(np.linalg.norm(side, axis=1, keepdims=True), 1e-12)
    other = np.cross(tangent, side)
    turn = 2 * np.pi * np.arange(sides) / sides
    size = np.broadcast_to(np.asarray(radius, float), (len(path),))[:, None, None]
    ring = np.cos(turn)[None, :, None] * side[:, None] + np.sin(turn)[None, :, None] * other[:, None]
    grid = path[:, None] + size * ring
    grid = np.concatenate(
        [np.broadcast_to(path[:1, None], grid[:1].shape), grid, np.broadcast_to(path[-1:, None], grid[:1].shape)]
    )
    return loft(grid, closed=True, flip=False, tile=tile)


def disc(center: Array, normal: Array, radius: float, height: float, sides: int = 10) -> Solid:
    """A button: a low dome whose foot lies at `center`."""
    normal = normal / np.linalg.norm(normal)
    side = np.cross(normal, np.array([0.0, 1.0, 0.02]))
    side /= np.linalg.norm(side)
    other = np.cross(normal, side)
    turn = 2 * np.pi * np.arange(sides) / sides
    ring = np.cos(turn)[:, None] * side + np.sin(turn)[:, None] * other
    rows = [
        center + radius * ring,
        center + radius * ring + 0.7 * height * normal,
        center + 0.8 * radius * ring + height * normal,
        np.broadcast_to(center + 0.85 * height * normal, ring.shape),
    ]
    return loft(np.stack(rows), closed=True)


def join(solids: Sequence[Solid]) -> Solid:
    """Several solids as one."""
    offsets = np.cumsum([0] + [len(s.points) for s in solids])
    return Solid(
        np.concatenate([s.points for s in solids]),
        np.concatenate([s.faces + o for s, o in zip(solids, offsets, strict=False)]),
        np.concatenate([s.uv for s in solids]),
        np.concatenate([s.normals for s in solids]),
        *(None if any(s.joints is None for s in solids) else np.concatenate([getattr(s, k) for s in solids])
          for k in ("joints", "weights")),
    )  # fmt: skip


def solid_part(name: str, kind: str, solid: Solid, material: Material, skin: Skin | None = None) -> Part:
    """A solid as a part of an avatar, with the skin given or its own."""
    if skin is None:
        if solid.joints is None or solid.weights is None:
            raise ValueError(f"{name} has no skin weights: give a skin, or make it from sites that have them")
        skin = Skin(torch.from_numpy(solid.joints), torch.from_numpy(solid.weights))
    faces = torch.from_numpy(np.ascontiguousarray(solid.faces))
    mesh = Mesh(to_tensor(solid.points), faces, to_tensor(solid.normals), to_tensor(solid.uv), material)
    return Part(name, kind, mesh, skin)


def nearest_skin(figure: Figure, points: Array) -> Skin:
    """Skin weights of the nearest body vertices."""
    return anchored_skin(figure, anchor_nearest(figure, to_tensor(points)))


def mirrored_skin(figure: Figure, skin: Skin) -> Skin:
    """The weights of the other side's joints."""
    names = figure.body.skeleton.names
    swap = {"left": "right", "right": "left"}

    def other(name: str) -> str:
        for a, b in swap.items():
            if name.startswith(a):
                return b + name[len(a) :]
        return name

    table = torch.tensor([names.index(other(n)) for n in names])
    return Skin(table[skin.joints], skin.weights)
