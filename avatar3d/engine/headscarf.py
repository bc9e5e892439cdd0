"""A headscarf: wrapped around head and neck, open at the face, with its ends over the shoulders."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np

from avatar3d.engine.attach import Figure, anchor_nearest, anchored_morphs, anchored_skin
from avatar3d.engine.colors import Rgb
from avatar3d.engine.fabrics import cloth_material
from avatar3d.engine.garment import Design, Worn, drape
from avatar3d.engine.garment_chart import TRUNK
from avatar3d.engine.garment_fields import Fields, joint_weight, reference, template_fields
from avatar3d.engine.garment_fit import Ease, Layers, to_tensor
from avatar3d.engine.garment_parts import cloth_parts
from avatar3d.engine.garment_solids import Solid, loft, solid_part
from avatar3d.structures import Part, Skin

Array = np.ndarray

COLUMNS = 45
CROWN, BROW_LINE, TEMPLE, CHEEK, JAW, CHIN, NECK_LOW = 1.662, 1.612, 1.585, 1.53, 1.49, 1.462, 1.405
"""Heights on the reference head at which the opening's shape is given."""


def _cape_folds(f: Fields) -> Array:
    angle = np.arctan2(f.x, f.z - 0.03)
    return 0.004 * np.sin(38 * f.neck() * 2 * np.pi * 0.55 + 2.0 * np.cos(angle) + np.sin(3 * angle))


CAPE = Design(
    cuts=(lambda f: f.neck() - 0.055, lambda f: 0.20 + 0.04 * np.cos(np.arctan2(f.x, f.z - 0.03)) - f.neck()),
    lines=(),
    panel=lambda f: np.zeros(len(f.x), int),
    charts=(TRUNK,),
    ease=lambda f: Ease(0.006 + 0.010 * np.clip((0.13 - f.neck()) / 0.07, 0, 1), clearance=0.004, tension=120),
    folds=_cape_folds,
    longest=0.03,
)


@cache
def _slices() -> tuple[Array, Array]:
    """Template vertices of head and neck, and their heights on the reference body."""
    f = template_fields()
    near = (joint_weight("head", "neck") > 0.4) | (np.abs(f.neck()) < 0.085)
    chosen = np.flatnonzero(near & (f.y > 1.37))
    chosen = np.intersect1d(chosen, reference().skin_vertices)
    return chosen, f.y[chosen]


def make_headscarf(color: Rgb, figure: Figure, layers: Layers, tucked: bool) -> Worn:
    """Scarf around the head; its ends lie over the top like a cape, or are tucked into its collar."""
    material = cloth_material("headscarf", "poplin", color)
    parts, covered = [], _covered()
    if not tucked:
        points = drape(CAPE, figure, layers)
        parts = cloth_parts(CAPE.cloth, points, figure, "hat", [("headscarf_cape", material, (0,))])
        covered = covered | CAPE.covered
    grid = _wrap(figure)
    solid = _shaded_as_one(loft(grid))
    anchor = anchor_nearest(figure, to_tensor(solid.points))
    skin: Skin = anchored_skin(figure, anchor)
    hood = solid_part("headscarf", "hat", solid, material, skin)
    parts.append(Part(hood.name, hood.kind, hood.mesh, skin, anchored_morphs(figure, anchor)))
    return Worn(parts, covered)


def _shaded_as_one(solid: Solid) -> Solid:
    """Normals averaged over points that lie at one place."""
    _, group = np.unique(np.round(solid.points * 1e6).astype(np.int64), axis=0, return_inverse=True)
    total = np.zeros((group.max() + 1, 3))
    np.add.at(total, group.reshape(-1), solid.normals)
    shared = total[group.reshape(-1)]
    length = np.linalg.norm(shared, axis=1, keepdims=True)
    return replace(solid, normals=np.where(length > 0.3, shared / np.maximum(length, 1e-9), solid.normals))


def _opening(y: Array) -> Array:
    """Half-angle of the face's opening at a reference height."""
    return np.interp(y, [CHIN - 0.004, CHIN + 0.012, JAW, CHEEK, TEMPLE, BROW_LINE + 0.006, 1.626],
                     [0.0, 0.55, 0.92, 1.01, 0.98, 0.68, 0.0])  # fmt: skip


@cache
def _covered() -> Array:
    f = template_fields()
    angle = np.abs(np.arctan2(f.x, f.z - 0.03))
    under = (f.y > 1.43) & (angle > _opening(f.y) + 0.30) & (f.y < 1.64)
    scalp = f.y >= 1.645
    return (under | scalp) & (joint_weight("head", "neck") > 0.4)


ANGLES = 2 * np.pi * np.arange(64) / 64


def _outline(figure: Figure, levels: Array) -> tuple[Array, Array, Array]:
    """Of head and neck at reference heights (L,): the convex outline's radius at `ANGLES` (L, 64), and the y and z
    of its center."""
    chosen, height = _slices()
    p = figure.vertices.numpy().astype(np.float64)[chosen]
    at_rest = reference().vertices.numpy().astype(np.float64)[chosen]
    spread = np.stack([np.sin(ANGLES), np.cos(ANGLES)])
    facing = spread.T @ spread
    radii, ys, zs = [], [], []
    for level, axis in zip(levels, np.interp(levels, [1.40, 1.46, 1.56], [0.022, 0.03, 0.045]), strict=True):
        off = np.abs(height - level)
        near = off < 0.018
        weight = np.maximum(1 - off[near] / 0.018, 1e-6)
        weight /= weight.sum()
        z = float(axis + weight @ (p[near, 2] - at_rest[near, 2]))
        support = (np.stack([p[near, 0], p[near, 2] - z], axis=1) @ spread - 0.4 * off[near, None]).max(axis=0)
        radii.append(np.where(facing > 0.05, support[None] / np.maximum(facing, 0.05), np.inf).min(axis=1))
        ys.append(float(weight @ p[near, 1]))
        zs.append(z)
    return np.stack(radii), np.array(ys), np.array(zs)


def _wrap(figure: Figure) -> Array:
    """(R, COLUMNS + 2, 3) from the neck up to the crown; rows end at the face's opening."""
    top = float(_slices()[1].max())
    levels = np.concatenate([np.linspace(NECK_LOW, 1.63, 20), np.linspace(1.64, top - 0.0005, 6)])
    half = _opening(levels)
    radius, y, z = _outline(figure, levels)
    away = np.abs(np.where(np.pi < ANGLES, ANGLES - 2 * np.pi, ANGLES))[None]
    worn = half[:, None] - 0.1 <= away
    scalp = np.clip((levels - 1.53) / 0.05, 0, 1)[:, None]
    loose = np.clip((1.50 - levels) / 0.06, 0, 1)[:, None]
    radius = radius + 0.009 + 0.009 * scalp + 0.006 * loose + 0.010 * scalp * np.clip(-np.cos(away), 0, 1)
    # cloth falls from the head: going down it draws in slowly, more so under the chin than behind
    draw = (0.12 + 0.45 * np.clip(np.cos(away), 0, 1))[0]
    size = (y[-1] - y[0]) / 0.29
    for i in range(len(levels) - 2, -1, -1):
        if levels[i] < 1.60:
            hung = np.minimum(radius[i + 1] - draw * (y[i + 1] - y[i]), 0.118 * size)
            radius[i] = np.where(worn[i + 1], np.maximum(radius[i], hung), radius[i])
    for _ in range(10):
        even = 0.25 * radius[:-2] + 0.5 * radius[1:-1] + 0.25 * radius[2:]
        even = 0.25 * np.roll(even, 1, 1) + 0.5 * even + 0.25 * np.roll(even, -1, 1)
        radius[1:-1] = np.where(levels[1:-1, None] < 1.5, even, np.maximum(even, radius[1:-1]))
    wave = 0.003 * np.sin(5.0 * away + 55 * (levels[:, None] - 1.4) + 2.0 * np.sin(2 * away))
    radius = radius + wave * np.clip((1.60 - levels[:, None]) / 0.08, 0.1, 1.0) * worn
    turn = half[:, None] + np.linspace(0, 1, COLUMNS)[None] * (2 * np.pi - 2 * half[:, None])
    place = turn / (2 * np.pi) * len(ANGLES)
    low, share = np.floor(place).astype(int), place - np.floor(place)
    row = np.arange(len(levels))[:, None]
    r = radius[row, low % len(ANGLES)] * (1 - share) + radius[row, (low + 1) % len(ANGLES)] * share
    # the edge lies close to the face
    r = r - 0.006 * np.clip(1 - np.minimum(np.linspace(0, 1, COLUMNS), np.linspace(1, 0, COLUMNS)) / 0.08, 0, 1)
    grid = np.stack([r * np.sin(turn), np.broadcast_to(y[:, None], r.shape), r * np.cos(turn) + z[:, None]], -1)
    middle = grid[-1].mean(axis=0)
    cap = [middle + (grid[-1] - middle) * s + np.array([0.0, h, 0.0])
           for s, h in ((0.86, 0.008), (0.62, 0.015), (0.32, 0.019), (0.01, 0.020))]  # fmt: skip
    grid = np.concatenate([grid, np.stack(cap)])
    fold = grid[:, [0, -1]] - np.array([0.0, 0.0, 0.006])
    fold[..., 0] *= 0.99
    return np.concatenate([fold[:, :1], grid, fold[:, 1:]], axis=1)
