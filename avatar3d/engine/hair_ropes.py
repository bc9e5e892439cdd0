"""Dreadlocks and the afro."""

from __future__ import annotations

import numpy as np

from avatar3d.engine.hair_chart import COLUMNS, ROWS, inside_at, places_grid, unit
from avatar3d.engine.hair_long import falling, landmark
from avatar3d.engine.hair_roots import HeadOfHair, blend, roots, roots_at, temples
from avatar3d.engine.hair_strands import Growth, Pieces, cut, grow, ribbons, tubes
from avatar3d.engine.hair_texture import STRIPS, VARIANTS, strip_of
from avatar3d.mesh.normals import with_area


def dreadlocks(hair: HeadOfHair) -> list[Pieces]:
    """Felted ropes from all over the scalp."""
    s, rng = hair.size, hair.rng
    r = roots(hair, 1600, 0.004)
    r = r.only(_spread(r.reference, 114))
    count = len(r.points)
    floor = landmark(hair, -0.1 + 0.9 * hair.spec.hair_length) + rng.normal(0, 0.025, count)
    ear = hair.body.ears[0][0][1]
    lift = s * 0.012 * rng.uniform(0.5, 1.6, count)
    growth = Growth(
        hair.scalp.points[..., 1].max() - floor + 0.12 * s, falling(hair, r, None), lift, rise=0.02 * s,
        turn=0.4, comb=0.6, lift=0.55, hang=ear, over_ears=True, veil=0.062 * s, brow=ear + 0.02 * s, sway=0.1,
    )  # fmt: skip
    grown, outward = grow(r.points - 0.003 * r.normals, r.normals, growth, hair.body, 16, rng)
    strands, _ = cut(grown, outward, floor, 11)
    # ropes that a shoulder turns outwards end at the jaw
    middle, radii = hair.body.ears[1]
    stray = np.abs(strands[..., 0]).max(axis=1) > middle[0] + radii[0] + 0.02 * s
    strands, _ = cut(grown, outward, np.where(stray, np.maximum(floor, ear - 0.075 * s), floor), 11)
    strands[:, 2:] += rng.normal(0, 0.0022 * s, strands[:, 2:].shape)
    knots = 1 + 0.14 * rng.normal(size=strands.shape[:2])
    radius = s * 0.0062 * rng.uniform(0.8, 1.2, count)[:, None] * knots * np.r_[0.8, np.ones(8), 0.85, 0.25]
    column = strip_of(np.full(count, VARIANTS.index("twist")), temples(hair, r))
    return [tubes(strands, radius, column, STRIPS, 5, 2.0)]


def _spread(points: np.ndarray, count: int) -> np.ndarray:
    """Mask of `count` points far from each other, greedily."""
    chosen = np.zeros(len(points), dtype=bool)
    distance = np.full(len(points), np.inf)
    at = 0
    for _ in range(count):
        chosen[at] = True
        distance = np.minimum(distance, ((points - points[at]) ** 2).sum(axis=1))
        at = int(distance.argmax())
    return chosen


def afro(hair: HeadOfHair) -> list[Pieces]:
    """A round cloud: a solid ball of curls, and tufts all over it."""
    s, rng = hair.size, hair.rng
    places = places_grid(ROWS + 1, COLUMNS + 1)
    lumps = rng.normal(0, 1, (ROWS + 1, COLUMNS))
    lumps = np.concatenate([lumps, lumps[:, :1]], axis=1)
    lumps[0] = 0
    core = _cloud(hair, places.reshape(-1, 2), 0.74)[0].reshape(*places.shape[:2], 3)
    out = unit(core - hair.scalp.center)
    core = (
        core
        + out
        * (0.0025 * s * lumps * blend(inside_at(places.reshape(-1, 2)), 0, 0.02).reshape(lumps.shape))[..., None]
    )
    # tufts
    r = roots(hair, 1900, -0.002)
    ends, out_r = _cloud(hair, r.places, 1.0)
    start = r.points + (ends - r.points) * 0.55
    start = np.where(np.linalg.norm(ends - start, axis=1)[:, None] > 0.022 * s, ends - out_r * 0.022 * s, start)
    aim = unit(out_r + rng.normal(0, 0.5, ends.shape))
    length = 0.030 * s * rng.uniform(0.7, 1.15, len(ends))[:, None]
    strands = np.stack([start, start + aim * length], axis=1)
    face = unit(np.cross(aim, rng.normal(size=aim.shape)))
    column = strip_of(np.full(len(ends), VARIANTS.index("coil")), temples(hair, r))
    tufts = ribbons(
        strands, np.repeat(face[:, None], 2, axis=1), 0.030 * s * rng.uniform(0.7, 1.2, len(ends)), column, STRIPS,
        np.zeros(len(ends)), across=2, bulge=0.0,
    )  # fmt: skip
    tufts.normals[:] = unit(tufts.vertices - hair.scalp.center)
    return [_core_pieces(core), tufts]


def _cloud(hair: HeadOfHair, places: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Points of the afro's surface above places (N, 2), and its outward directions."""
    s, scalp = hair.size, hair.scalp
    r = roots_at(hair, places)
    middle = scalp.center + s * np.array([0.0, 0.022, -0.008])
    out = unit(r.points - middle)
    radius = s * (0.117 + 0.052 * hair.spec.hair_length)
    reach = np.linalg.norm(r.points - middle, axis=1)
    height = np.maximum(radius - reach, 0.02 * s) * blend(r.inside, -0.004, 0.026) ** 0.7 * share
    return r.points + out * height[:, None], out


def _core_pieces(core: np.ndarray) -> Pieces:
    """The ball as separate cells, each with a whole tuft of the atlas."""
    corners = np.stack([core[:-1, :-1], core[:-1, 1:], core[1:, :-1], core[1:, 1:]], axis=2).reshape(-1, 4, 3)
    normals = unit(corners - corners.reshape(-1, 3).mean(axis=0))
    cells = len(corners)
    column = VARIANTS.index("coil")
    u = (column + np.array([0.25, 0.75, 0.25, 0.75])) / STRIPS
    v = np.array([0.15, 0.15, 0.5, 0.5])
    uv = np.tile(np.stack([u, v], axis=1), (cells, 1))
    base = 4 * np.arange(cells)[:, None]
    faces = np.concatenate([base + [0, 2, 1], base + [1, 2, 3]])
    points = corners.reshape(-1, 3)
    used, faces = np.unique(with_area(points, faces), return_inverse=True)
    return Pieces(
        points[used], normals.reshape(-1, 3)[used], uv[used], faces.reshape(-1, 3), np.zeros(len(used), dtype=int)
    )
