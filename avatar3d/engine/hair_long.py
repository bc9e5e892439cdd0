"""Styles that hang."""

from __future__ import annotations

import numpy as np

from avatar3d.engine.hair_chart import unit
from avatar3d.engine.hair_roots import HeadOfHair, Roots, blend, roots, strips
from avatar3d.engine.hair_strands import Field, Growth, Pieces, cut, grow, waved


def falling(hair: HeadOfHair, r: Roots, part: float, back: float) -> Field:
    """From a parting to both sides and down; behind the shoulders, some strands before them."""
    lean = np.where(r.reference[:, 0] < part, -1.0, 1.0)
    y0, y1 = hair.body.ears[0][0][1], hair.scalp.points[..., 1].max()
    forward = np.where((r.reference[:, 2] > 0.05) & (hair.rng.random(len(lean)) < 0.6), 0.30, -0.30)

    def field(p: np.ndarray, n: np.ndarray) -> np.ndarray:
        up = blend((p[:, 1] - y0) / (y1 - y0), 0.15, 0.95)
        low = blend((p[:, 1] - y0) / (y1 - y0), -0.3, -0.9) * blend(
            p[:, 1], hair.body.shoulder - 0.06, hair.body.shoulder
        )
        z = -back * up + forward * (0.2 + 2.2 * low) * (1 - up)
        x = lean * up - (1 - up) * (0.1 + 0.8 * low) * p[:, 0] / 0.10
        return unit(np.stack([x, -1.05 + 0.75 * up, z], axis=1))

    return field


def hanging(
    hair: HeadOfHair, r: Roots, floor: np.ndarray, part: float = 0.012, waves: tuple[float, float] | None = None,
    height: float = 0.012, points: int = 10, width: float = 0.020, veil: float = 0.056,
) -> Pieces:  # fmt: skip
    """Strands that fall over the ears to `floor` (N,) metres above the ground."""
    s = hair.size
    top = hair.scalp.points[..., 1].max()
    length = (top - floor) + 0.13 * s
    ear = hair.body.ears[0][0][1]
    up = np.clip(r.inside / 0.05, 0.25, 1)
    lift = s * height * up * hair.rng.uniform(0.3, 1.15, len(length))
    growth = Growth(
        length, falling(hair, r, part, 0.35), lift, rise=0.03 * s, turn=0.55, lift=0.35, hang=ear, over_ears=True, comb=0.8,
        veil=veil * s, brow=ear + 0.02 * s, sway=0.05,
    )  # fmt: skip
    strands, outward = grow(r.points, r.normals, growth, hair.body, 16, hair.rng)
    strands, outward = cut(strands, outward, floor, points)
    if waves:
        phase = 30 * r.places[:, 0] + hair.rng.normal(0, 0.7, len(length))
        strands = waved(strands, outward, waves[0] * s, waves[1] * s, phase, 0.4)
    return strips(hair, r, strands, outward, width * s, roll=0.22)


def landmark(hair: HeadOfHair, share: float) -> float:
    """A height on the body: 0 the chin's, 1 the upper chest's, 2 the waist's."""
    bone = hair.figure.body.bone
    heights = [float(bone("head")[1]) - 0.02 * hair.size, float(bone("upperChest")[1]), float(bone("spine")[1])]
    return float(np.interp(share, [0, 1, 2], heights))


def bob(hair: HeadOfHair) -> list[Pieces]:
    """To the jaw, parted on the left."""
    r = roots(hair, 300, 0.0)
    floor = (
        landmark(hair, -0.05 + 0.3 * hair.spec.hair_length)
        + hair.rng.normal(0, 0.006, len(r.points))
        + 0.06 * np.clip((r.reference[:, 2] - 0.12), 0, 1)
    )
    return [hanging(hair, r, floor, 0.025, points=9)]


def long_straight(hair: HeadOfHair) -> list[Pieces]:
    """Over the shoulders, down to the waist when long."""
    r = roots(hair, 310, 0.0)
    floor = landmark(hair, 0.55 + 0.9 * hair.spec.hair_length) + hair.rng.normal(0, 0.02, len(r.points))
    return [hanging(hair, r, floor, 0.0, points=11)]


def long_wavy(hair: HeadOfHair) -> list[Pieces]:
    """Like long_straight with waves."""
    r = roots(hair, 290, 0.0)
    floor = landmark(hair, 0.55 + 0.9 * hair.spec.hair_length) + hair.rng.normal(0, 0.025, len(r.points))
    return [hanging(hair, r, floor, 0.018, (0.011, 0.075), 0.016, points=14, width=0.024)]
