"""Styles that hang."""

from __future__ import annotations

import numpy as np

from avatar3d.engine.hair_chart import unit
from avatar3d.engine.hair_roots import HeadOfHair, Roots, blend, roots, strips
from avatar3d.engine.hair_strands import Field, Growth, Pieces, cut, grow, waved


def falling(hair: HeadOfHair, r: Roots, part: float | None, before: float | None = 0.5) -> Field:
    """From a parting to both sides, down past the ears, and behind the shoulders or, for the share `before` of the
    strands beside the face, before them; straight down when `before` is None."""
    x, _, depth = r.reference.T
    parted = blend(depth, -0.01, 0.04) * (part is not None)
    lean = parted * np.where(x < (part or 0.0), -1.0, 1.0) + (1 - parted) * np.clip(x / 0.05, -1, 1)
    body, rng = hair.body, hair.rng
    ear, top = body.ears[0][0][1], hair.scalp.points[..., 1].max()
    aside = (r.reference[:, 2] > 0.045) & (rng.random(len(lean)) < (before or 0.0))
    front, back = body.chest
    z = np.where(aside, front + 0.012, back - 0.012)
    brow = blend(r.reference[:, 2], 0.06, 0.12)

    def field(p: np.ndarray, n: np.ndarray) -> np.ndarray:
        up = blend((p[:, 1] - ear) / (top - ear), 0.15, 0.95)
        over = np.stack([lean * (0.45 + 0.55 * up), -1.05 + 0.85 * up, -(0.35 + 0.35 * brow) * up - 0.05], axis=1)
        beside = np.where(aside, np.copysign(np.clip(np.abs(p[:, 0]), 0.055, 0.075), p[:, 0]), 0.7 * p[:, 0])
        goal = np.stack([beside, np.full(len(p), body.shoulder - 0.03), z], axis=1)
        down = unit(goal - p)
        down[:, 1] = np.minimum(down[:, 1], -0.45)
        near = blend(p[:, 1], body.shoulder - 0.02, body.shoulder + 0.02) * blend(p[:, 1], ear, ear - 0.05)
        past = (1 - near * (before is not None))[:, None]
        down = unit(down) * (1 - past) + np.array([0.0, -1.0, 0.0]) * past
        return unit(over * up[:, None] + down * (1 - up)[:, None])

    return field


def hanging(
    hair: HeadOfHair, r: Roots, floor: np.ndarray, part: float = 0.012, waves: tuple[float, float] | None = None,
    height: float = 0.016, points: int = 14, width: float = 0.024, before: float | None = 0.5,
) -> Pieces:  # fmt: skip
    """Strands that fall over the ears to `floor` (N,) metres above the ground."""
    s = hair.size
    top = hair.scalp.points[..., 1].max()
    ear = hair.body.ears[0][0][1]
    up = np.clip(r.inside / 0.05, 0.25, 1)
    lift = s * height * up * hair.rng.uniform(0.3, 1.15, len(floor))
    growth = Growth(
        top - floor + 0.13 * s, falling(hair, r, part, before), lift, rise=0.03 * s, turn=0.5, lift=0.35, hang=ear,
        over_ears=True, comb=0.8, veil=0.056 * s, brow=ear + 0.02 * s, sway=0.05,
    )  # fmt: skip
    strands, outward = grow(r.points, r.normals, growth, hair.body, 22, hair.rng)
    strands, outward = cut(strands, outward, floor, points)
    middle, radii = hair.body.ears[1]
    tame = np.abs(strands[..., 0]).max(axis=1) < middle[0] + radii[0] + 0.03 * s
    r, strands, outward = r.only(tame), strands[tame], outward[tame]
    if waves:
        phase = 30 * r.places[:, 0] + hair.rng.normal(0, 0.6, len(strands))
        strands = waved(strands, outward, waves[0] * s, waves[1] * s, phase, 0.4)
    return strips(hair, r, strands, outward, width * s, roll=0.2, across=2)


def fringe_line(hair: HeadOfHair, part: float, field: Field | None = None) -> Pieces:
    """Short fine hair that softens the hairline around the face."""
    s = hair.size
    r = roots(hair, 1800, -0.004)
    r = r.only((r.inside < 0.006) & (r.reference[:, 2] > 0.06) & (hair.rng.random(len(r.inside)) < 0.8))
    length = s * hair.rng.uniform(0.02, 0.045, len(r.inside))
    wish = field or falling(hair, r, part, None)
    growth = Growth(
        length, wish, np.full(len(length), 0.0025 * s), 0.01 * s, turn=0.5, comb=0.9, lift=0.2, sway=0.2
    )
    strands, outward = grow(r.points, r.normals, growth, hair.body, 3, hair.rng)
    return strips(hair, r, strands, outward, 0.013 * s, (0, 0, 0.35, 0.65, 0, 0, 0), 0.1, across=2)


def landmark(hair: HeadOfHair, share: float) -> float:
    """A height on the body: 0 the chin's, 1 the upper chest's, 2 the waist's."""
    bone = hair.figure.body.bone
    heights = [float(bone("head")[1]) - 0.02 * hair.size, float(bone("upperChest")[1]), float(bone("spine")[1])]
    return float(np.interp(share, [0, 1, 2], heights))


def bob(hair: HeadOfHair) -> list[Pieces]:
    """To the jaw, parted on the left."""
    r = roots(hair, 380, 0.0, 0.025)
    floor = (
        landmark(hair, -0.05 + 0.3 * hair.spec.hair_length)
        + hair.rng.normal(0, 0.006, len(r.points))
        + 0.06 * np.clip((r.reference[:, 2] - 0.12), 0, 1)
    )
    return [hanging(hair, r, floor, 0.025, points=13, before=None), fringe_line(hair, 0.025)]


def long_straight(hair: HeadOfHair) -> list[Pieces]:
    """Over the shoulders, down to the waist when long."""
    r = roots(hair, 340, 0.0, 0.0)
    floor = landmark(hair, 0.55 + 0.9 * hair.spec.hair_length) + hair.rng.normal(0, 0.02, len(r.points))
    return [hanging(hair, r, floor, 0.0, points=16), fringe_line(hair, 0.0)]


def long_wavy(hair: HeadOfHair) -> list[Pieces]:
    """Like long_straight with waves."""
    r = roots(hair, 265, 0.0, 0.018)
    floor = landmark(hair, 0.55 + 0.9 * hair.spec.hair_length) + hair.rng.normal(0, 0.025, len(r.points))
    return [
        hanging(hair, r, floor, 0.018, (0.012, 0.095), 0.019, points=22, width=0.027),
        fringe_line(hair, 0.018),
    ]
