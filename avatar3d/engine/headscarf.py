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
    cuts=(lambda f: f.neck() - 0.055, lambda f: 0.165 + 0.03 * np.cos(np.arctan2(f.x, f.z - 0.03)) - f.neck()),
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


def make_headscarf(color: Rgb, figure: Figure, layers: Layers) -> Worn:
    """Scarf around the head, and its cape over whatever top is worn."""
    material = cloth_material("headscarf", "poplin", color)
    points = drape(CAPE, figure, layers)
    parts = cloth_parts(CAPE.cloth, points, figure, "hat", [("headscarf_cape", material, (0,))])
    grid = _wrap(figure)
    solid = _shaded_as_one(loft(grid))
    anchor = anchor_nearest(figure, to_tensor(solid.points))
    skin: Skin = anchored_skin(figure, anchor)
    hood = solid_part("headscarf", "hat", solid, material, skin)
    parts.append(Part(hood.name, hood.kind, hood.mesh, skin, anchored_morphs(figure, anchor)))
    return Worn(parts, CAPE.covered | _covered())


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
                     [0.0, 0.55, 0.98, 1.12, 1.08, 0.72, 0.0])  # fmt: skip


@cache
def _covered() -> Array:
    f = template_fields()
    angle = np.abs(np.arctan2(f.x, f.z - 0.03))
    under = (f.y > 1.43) & (angle > _opening(f.y) + 0.30) & (f.y < 1.64)
    scalp = f.y >= 1.645
    return (under | scalp) & (joint_weight("head", "neck") > 0.4)


def _wrap(figure: Figure) -> Array:
    """(R, COLUMNS, 3) from the neck up to the crown; rows end at the face's opening."""
    chosen, height = _slices()
    p = figure.vertices.numpy().astype(np.float64)[chosen]
    levels = np.concatenate([np.linspace(NECK_LOW, 1.63, 20), np.linspace(1.64, height.max() - 0.0005, 6)])
    axis_z = np.interp(levels, [1.40, 1.46, 1.56], [0.022, 0.03, 0.045])
    reference_z = reference().vertices.numpy().astype(np.float64)[chosen]
    normals = 2 * np.pi * np.arange(40) / 40
    spread = np.stack([np.sin(normals), np.cos(normals)])
    rows = []
    for y, z0 in zip(levels, axis_z, strict=True):
        near = np.abs(height - y) < 0.018
        weight = np.maximum(1 - np.abs(height[near] - y) / 0.018, 1e-6)
        world_y = float((p[near, 1] * weight).sum() / weight.sum())
        shift = float(
            (p[near, 2] * weight).sum() / weight.sum() - (reference_z[near, 2] * weight).sum() / weight.sum()
        )
        center_z = z0 + shift
        flat = np.stack([p[near, 0], p[near, 2] - center_z], axis=1)
        support = (flat @ spread - 0.4 * np.abs(height[near] - y)[:, None]).max(axis=0)
        half = float(_opening(np.array([y]))[0])
        turn = np.linspace(half, 2 * np.pi - half, COLUMNS)
        d = np.stack([np.sin(turn), np.cos(turn)], axis=1)
        facing = d @ spread
        radius = np.where(facing > 0.05, support[None] / np.maximum(facing, 0.05), np.inf).min(axis=1)
        rows.append((turn, radius, world_y, center_z))
    turn = np.stack([r[0] for r in rows])
    radius = np.stack([r[1] for r in rows])
    edge = np.minimum(np.linspace(0, 1, COLUMNS), np.linspace(1, 0, COLUMNS))[None]
    roomy = np.clip(edge / 0.10, 0, 1)
    scalp = np.clip((levels - 1.53) / 0.05, 0, 1)[:, None]
    loose = np.clip((1.50 - levels) / 0.06, 0, 1)[:, None]
    out = 0.005 + roomy * (0.004 + 0.009 * scalp + 0.006 * loose)
    out = out + 0.010 * scalp * roomy * np.clip(-np.cos(turn), 0, 1)
    folds = 0.0028 * roomy * np.sin(9 * turn * 0.5 + 26 * (levels[:, None] - 1.4) * 6.0 + np.cos(turn) * 3)
    radius = radius + out + folds * (0.4 + loose)
    y = np.array([r[2] for r in rows])
    z = np.array([r[3] for r in rows])
    # cloth falls from the head: going down it draws in slowly, more so under the chin than behind
    draw = 0.10 + 0.45 * np.clip(np.cos(turn), 0, 1)
    lowest_hang = 0.115 * (y[-1] - y[0]) / 0.29
    for i in range(len(rows) - 2, -1, -1):
        if levels[i] < 1.60:
            hung = radius[i + 1] - draw[i] * (y[i + 1] - y[i])
            radius[i] = np.maximum(radius[i], np.minimum(hung, lowest_hang + 0.03 * (levels[i] > CHIN)))
    hanging = np.clip((1.60 - levels[1:-1]) / 0.03, 0.0, 1.0)[:, None]
    for _ in range(6):
        even = 0.25 * radius[:-2] + 0.5 * radius[1:-1] + 0.25 * radius[2:]
        radius[1:-1] += hanging * (even - radius[1:-1])
    grid = np.stack(
        [radius * np.sin(turn), np.broadcast_to(y[:, None], radius.shape), radius * np.cos(turn) + z[:, None]], -1
    )
    top = grid[-1]
    cap = [top.mean(axis=0) + (top - top.mean(axis=0)) * s + np.array([0.0, h, 0.0])
           for s, h in ((0.80, 0.006), (0.55, 0.010), (0.28, 0.012), (0.01, 0.0125))]  # fmt: skip
    grid = np.concatenate([grid, np.stack(cap)])
    fold = grid[:, [0, -1]] - np.array([0.0, 0.0, 0.006])
    fold[..., 0] *= 0.99
    return np.concatenate([fold[:, :1], grid, fold[:, 1:]], axis=1)
