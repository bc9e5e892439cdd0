"""A headscarf: wrapped around head and neck, open at the face, with its ends over the shoulders."""

from __future__ import annotations

from functools import cache

import numpy as np
from scipy.ndimage import map_coordinates

from avatar3d.engine.attach import Figure, anchor_nearest, anchored_morphs, anchored_skin
from avatar3d.engine.colors import Rgb
from avatar3d.engine.fabrics import cloth_material
from avatar3d.engine.garment import Design, Worn, drape
from avatar3d.engine.garment_chart import TRUNK
from avatar3d.engine.garment_fields import Fields, joint_weight, reference, template_fields
from avatar3d.engine.garment_fit import Ease, Layers, to_tensor
from avatar3d.engine.garment_parts import cloth_parts
from avatar3d.engine.garment_solids import loft, solid_part
from avatar3d.structures import Part, Skin

Array = np.ndarray

TOP, MIDDLE, BOTTOM, HALF_ANGLE = 1.617, 1.535, 1.4575, 0.83
"""The face's opening on the reference head: heights in metres, and half its width as an angle."""
NECK_LOW, BALL = 1.385, 1.555
"""Lowest height of the wrap; height above which it is a dome about a center."""
COLUMNS = 70
HEM_ROWS = (0.0, 0.0025, 0.006, 0.010, 0.016)
"""Metres from the opening's edge."""


def _cape_folds(f: Fields) -> Array:
    """Swags that hang from shoulder to shoulder, deepest in front, and flutes that widen to the hem."""
    angle = np.arctan2(f.x, f.z - 0.03)
    front = 0.5 + 0.5 * np.cos(angle)
    low = np.clip((f.neck() - 0.12) / 0.10, 0, 1)
    wind = f.neck() / 0.050 + 0.55 * np.sin(angle - 0.6)
    swag = np.abs(np.sin(np.pi * wind)) ** 0.7 - 0.35
    flute = np.sin(8 * angle + 1.5 * np.sin(2 * angle + 0.7) + 14 * (f.neck() - 0.1))
    swag = swag * np.clip((f.neck() - 0.062) / 0.025, 0, 1)
    return 0.024 * front**1.5 * (1 - 0.85 * low) * swag + 0.011 * low * (0.25 + 0.75 * np.cos(angle) ** 2) * flute


def _cape_hem(f: Fields) -> Array:
    """Positive above the hem: longer in front than behind, short over the shoulders, never quite even."""
    angle = np.arctan2(f.x, f.z - 0.03)
    reach = np.interp(
        np.abs(angle), [0.0, 0.5, 0.95, 1.4, 1.9, 2.5, np.pi], [0.232, 0.235, 0.20, 0.165, 0.16, 0.18, 0.185]
    )
    return reach + 0.010 * np.sin(angle + 0.4) + 0.005 * np.sin(5 * angle + 1.0) - f.neck()


CAPE = Design(
    cuts=(lambda f: f.neck() - 0.055, _cape_hem),
    lines=(),
    panel=lambda f: np.zeros(len(f.x), int),
    charts=(TRUNK,),
    ease=lambda f: Ease(
        0.004 + 0.018 * np.clip((0.17 - f.neck()) / 0.09, 0, 1) * np.clip((f.neck() - 0.058) / 0.025, 0, 1),
        clearance=0.004,
        tension=70,
    ),
    folds=_cape_folds,
    longest=0.021,
)


@cache
def _slices() -> tuple[Array, Array]:
    """Template vertices of head and neck, and their heights on the reference body."""
    f = template_fields()
    near = (joint_weight("head", "neck") > 0.4) | (np.abs(f.neck()) < 0.085)
    ear = (np.abs(f.x) > 0.074) & (f.y > 1.48) & (f.y < 1.62)
    chosen = np.flatnonzero(near & ~ear & (f.y > 1.35))
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
    grid = _wrap(figure, tucked)
    solid = loft(grid, closed=True)
    anchor = anchor_nearest(figure, to_tensor(solid.points))
    skin: Skin = anchored_skin(figure, anchor)
    hood = solid_part("headscarf", "hat", solid, material, skin)
    parts.append(Part(hood.name, hood.kind, hood.mesh, skin, anchored_morphs(figure, anchor)))
    return Worn(parts, covered)


def _opening(y: Array) -> Array:
    """Half-angle of the face's opening at a reference height."""
    reach = np.where(y > MIDDLE, (y - MIDDLE) / (TOP - MIDDLE), (MIDDLE - y) / (MIDDLE - BOTTOM))
    return HALF_ANGLE * np.sqrt(np.clip(1 - reach**2, 0, 1))


@cache
def _covered() -> Array:
    f = template_fields()
    angle = np.abs(np.arctan2(f.x, f.z - 0.03))
    under = (f.y > 1.43) & (angle > np.maximum(_opening(f.y) + 0.30, 1.25)) & (f.y < 1.64)
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


def _wrap(figure: Figure, tucked: bool) -> Array:
    """(R, COLUMNS, 3) rings from inside the face's edge outwards: over the crown and down the neck."""
    path = _place(figure, _paths(), tucked)
    step = _lengths(path)
    rows = []
    for hem, share in [(h, 0.0) for h in HEM_ROWS] + [(HEM_ROWS[-1], s) for s in np.linspace(0, 1, 23)[1:]]:
        at = hem + share * (step[-1] - hem)
        rows.append([[np.interp(at[j], step[:, j], path[:, j, k]) for k in range(3)] for j in range(COLUMNS)])
    grid = np.array(rows)
    for _ in range(4):
        even = 0.25 * grid[:-2] + 0.5 * grid[1:-1] + 0.25 * grid[2:]
        grid[1:-1] = 0.25 * np.roll(even, 1, 1) + 0.5 * even + 0.25 * np.roll(even, -1, 1)
    normals = loft(grid, closed=True).normals.reshape(len(grid), COLUMNS + 1, 3)[:, :-1]
    away = _lengths(grid)
    folds = _folds(away) * np.clip((away[-1] - away) / 0.03, 0.15, 1)
    folds[1:-1] = 0.25 * folds[:-2] + 0.5 * folds[1:-1] + 0.25 * folds[2:]
    grid = grid + folds[..., None] * normals
    inner = [grid[0] - 0.003 * normals[0], grid[1] - 0.007 * normals[1], grid[3] - 0.009 * normals[3]]
    return np.concatenate([np.stack(inner[::-1]), grid])


def _lengths(grid: Array) -> Array:
    """(R, C) metres from the first row of (R, C, 3) points along their columns."""
    return np.cumsum(np.linalg.norm(np.diff(grid, axis=0, prepend=grid[:1]), axis=2), axis=0)


def _around() -> Array:
    """(COLUMNS,) turn about the face: 0 at the forehead, a quarter at the left cheek, half under the chin."""
    return 2 * np.pi * np.arange(COLUMNS) / COLUMNS


def _folds(away: Array) -> Array:
    """(R, COLUMNS) displacement at metres from the face's edge: wraps that wind about the face, so that they cross
    under the chin from one side to the other; next to none on the crown."""
    turn = _around()[None]
    low = (0.5 - 0.5 * np.cos(turn)) ** 1.2
    chin = np.exp(-(((turn - np.pi) / 0.9) ** 2))
    wind = away / (0.046 - 0.012 * chin) + turn / (2 * np.pi) + 0.3 * np.sin(2 * turn + 0.8)
    wind = wind + 0.15 * np.sin(3 * turn + 14 * away)
    crest = np.abs(np.sin(np.pi * wind)) ** 0.8 - 0.5
    fade = np.clip((away - 0.008) / 0.012, 0, 1)
    wrap = (0.0012 + 0.012 * low - 0.005 * chin) * crest * fade
    roll = 0.0028 * np.sin(np.clip(away / 0.010, 0, 1) * np.pi)
    # a second turn of the cloth lies over the first: its edge runs from the crown to the other side of the chin
    over = 0.060 - 0.028 * np.sin(turn + 0.9)
    layer = 0.004 * (1 - chin) * np.clip((away - over) / 0.005, 0, 1) * np.clip(1.6 - (away - over) / 0.10, 0, 1)
    return wrap + layer + roll


def _paths() -> Array:
    """(48, COLUMNS, 3) reference paths from the opening's edge to the neck: forehead over the crown to the nape,
    cheeks round the back of the head, chin straight down."""
    turn = _around()
    level = MIDDLE + np.where(np.cos(turn) > 0, TOP - MIDDLE, MIDDLE - BOTTOM) * np.cos(turn)
    angle = HALF_ANGLE * np.sin(turn)
    start = np.stack([0.1 * np.sin(angle), level, AXIS + 0.1 * np.cos(angle)], axis=1)
    end_angle = np.pi * (1 - np.interp(2 * turn / np.pi, np.arange(5), [0, 0.34, 1, 1.66, 2]))
    end = np.stack([0.1 * np.sin(end_angle), np.full(COLUMNS, NECK_LOW), AXIS + 0.1 * np.cos(end_angle)], axis=1)
    up = np.clip(np.cos(turn), -0.2, 1)
    side = np.abs(np.sin(turn)) * np.sign(np.sin(turn))
    back = np.clip(0.35 + 0.65 * np.cos(turn), 0, 1)
    control = np.stack([0.16 * side, MIDDLE - 0.03 + 0.26 * up, AXIS + 0.09 - 0.24 * back], axis=1)
    t = np.linspace(0, 1, 48)[:, None, None]
    return (1 - t) ** 2 * start + 2 * t * (1 - t) * control + t**2 * end


AXIS = 0.035
ELEVATIONS = np.linspace(0.0, np.pi / 2, 13)


def _place(figure: Figure, paths: Array, tucked: bool) -> Array:
    """Reference points (..., 3) to the worn surface: out from the axis below `BALL`, from a center above."""
    levels = np.linspace(NECK_LOW, BALL, 20)
    radius, y, z = _column(figure, levels, tucked)
    dome, center = _dome(figure, radius[-1], np.array([0.0, y[-1], z[-1]]))
    turn = np.arctan2(paths[..., 0], paths[..., 2] - AXIS)
    column = np.mod(turn, 2 * np.pi) / (2 * np.pi) * len(ANGLES)
    low = np.clip(paths[..., 1], NECK_LOW, BALL)
    row = (low - NECK_LOW) / (BALL - NECK_LOW) * (len(levels) - 1)
    r = map_coordinates(np.pad(radius, ((0, 0), (0, 1)), "wrap"), [row, column], order=1)
    at = np.interp(low, levels, z)
    neck = np.stack([r * np.sin(turn), np.interp(low, levels, y), at + r * np.cos(turn)], axis=-1)
    rise = np.arctan2(paths[..., 1] - BALL, np.hypot(paths[..., 0], paths[..., 2] - AXIS))
    row = np.clip(rise / (np.pi / 2), 0, 1) * (len(ELEVATIONS) - 1)
    r = map_coordinates(np.pad(dome, ((0, 0), (0, 1)), "wrap"), [row, column], order=1)
    head = center + r[..., None] * np.stack(
        [np.sin(turn) * np.cos(rise), np.sin(rise), np.cos(turn) * np.cos(rise)], axis=-1
    )
    return np.where((paths[..., 1] > BALL)[..., None], head, neck)


def _column(figure: Figure, levels: Array, tucked: bool) -> tuple[Array, Array, Array]:
    """Worn radius (L, 64) of head and neck at reference heights, and the y and z of the axis."""
    radius, y, z = _outline(figure, levels)
    away = np.abs(np.where(np.pi < ANGLES, ANGLES - 2 * np.pi, ANGLES))[None]
    worn = _opening(levels)[:, None] - 0.1 <= away
    loose = np.clip((1.50 - levels) / 0.06, 0, 1)[:, None]
    close = np.clip((1.47 - levels) / 0.05, 0, 1)[:, None] * tucked
    radius = (
        radius
        + 0.009
        - 0.004 * close
        + 0.012 * loose * (not tucked)
        + 0.014 * (1 - close) * np.clip(-np.cos(away), 0, 1)
    )
    # cloth falls from the head: going down it draws in slowly, more so under the chin than behind
    draw = (0.04 + 0.42 * np.clip(np.cos(away), 0, 1))[0]
    for i in range(len(levels) - 2, -1, -1):
        hung = radius[i + 1] - (draw + 0.6 * close[i]) * (y[i + 1] - y[i])
        radius[i] = np.where(worn[i + 1], np.maximum(radius[i], hung), radius[i])
    return _evened(radius, 6), y, z


def _dome(figure: Figure, first: Array, center: Array) -> tuple[Array, Array]:
    """Worn radius (E, 64) of the head above a center at elevations; its lowest row is `first`."""
    chosen, _ = _slices()
    p = figure.vertices.numpy().astype(np.float64)[chosen] - center
    p = p[p[:, 1] > -0.01]
    rise, turn = np.meshgrid(ELEVATIONS, ANGLES, indexing="ij")
    d = np.stack([np.sin(turn) * np.cos(rise), np.sin(rise), np.cos(turn) * np.cos(rise)], axis=-1).reshape(-1, 3)
    support = (d @ p.T).max(axis=1)
    facing = d @ d.T
    reach = np.where(facing > 0.1, support[None] / np.maximum(facing, 0.1), np.inf).min(axis=1).reshape(rise.shape)
    back = np.clip(-np.cos(turn), 0, 1) * np.cos(rise)
    reach = reach + 0.008 + 0.008 * np.sin(rise) + 0.014 * back
    mix = np.clip(ELEVATIONS / 0.5, 0, 1)[:, None]
    return _evened((1 - mix) * first + mix * reach, 4), center


def _evened(radius: Array, sweeps: int) -> Array:
    """Smoothed over both axes; the second is closed and the first keeps its ends."""
    radius = radius.copy()
    for _ in range(sweeps):
        radius[1:-1] = 0.25 * radius[:-2] + 0.5 * radius[1:-1] + 0.25 * radius[2:]
        radius[:] = 0.25 * np.roll(radius, 1, 1) + 0.5 * radius + 0.25 * np.roll(radius, -1, 1)
    return radius
