"""Short styles."""

from __future__ import annotations

import numpy as np

from avatar3d.engine.hair_chart import unit
from avatar3d.engine.hair_roots import HeadOfHair, Roots, blend, cards, from_crown, roots, strips
from avatar3d.engine.hair_strands import Field, Growth, Pieces, grow, ribbons, sample, waved
from avatar3d.engine.hair_texture import STRIPS

FINE = (0.35, 0.25, 0.35, 0.05, 0.0, 0.0, 0.0)
"""Shares of the atlas's strips in cropped hair."""
WISPS = (0.0, 0.0, 0.2, 0.8, 0.0, 0.0, 0.0)
"""And in thin hair."""


def short(hair: HeadOfHair) -> list[Pieces]:
    """Cropped, grown away from the crown; longer on top."""
    r = roots(hair, 760, 0.0, 9.0)
    s, amount = hair.size, 0.6 + 0.8 * hair.spec.hair_length
    top = blend(r.reference[:, 1], 1.63, 1.68)
    length = s * amount * (0.029 + 0.019 * top) * np.clip(0.55 + r.inside / 0.05, 0, 1)
    full = s * amount * (0.0045 + 0.0115 * top) * np.clip(r.inside / 0.025, 0.3, 1)
    height = full * hair.rng.uniform(0.6, 1.05, len(length))
    lift = 0.28 + 0.25 * top
    growth = Growth(length, from_crown(hair, (0.25, 0, 0.15)), height, rise=0.012 * s, turn=0.45, lift=lift)
    return [cards(hair, r, growth, 4, 0.0135 * s, FINE)]


def combed_over(hair: HeadOfHair, r: Roots, part: float, back: float, forward: float) -> Field:
    """From a parting at x = `part` (reference metres) to both sides, and down below the temples."""
    side = np.where(r.reference[:, 0] < part, -1.0, 1.0)
    y0, y1 = hair.body.ears[0][0][1], hair.scalp.points[..., 1].max()

    def field(p: np.ndarray, n: np.ndarray) -> np.ndarray:
        up = blend((p[:, 1] - y0) / (y1 - y0), 0.35, 0.85)
        wish = np.stack(
            [side * (0.25 + 0.75 * up), -0.1 - 1.2 * (1 - up), -back + (forward + back) * (1 - up) * 0.3], axis=1
        )
        return unit(wish - n * np.minimum((n * wish).sum(-1, keepdims=True), 1))

    return field


def side_part(hair: HeadOfHair) -> list[Pieces]:
    """Parted on the avatar's left, combed over to the right; short sides."""
    r = roots(hair, 680, 0.0, 0.034)
    s, amount, part = hair.size, 0.65 + 0.7 * hair.spec.hair_length, 0.034
    ref = r.reference
    top = blend(ref[:, 1], 1.625, 1.672) * blend(ref[:, 0], part + 0.012, part - 0.012)
    length = s * amount * (0.026 + 0.056 * top) * np.clip(0.6 + r.inside / 0.05, 0, 1)
    height = (
        s
        * amount
        * (0.006 + 0.014 * top * blend(ref[:, 2], -0.02, 0.08))
        * hair.rng.uniform(0.45, 1.1, len(length))
    )
    sweep = combed_over(hair, r, part, 0.5, -0.3)
    growth = Growth(length, sweep, height, rise=0.016 * s, turn=0.5, lift=0.45, sway=0.09)
    return [cards(hair, r, growth, 5, 0.0145 * s, FINE, 0.18)]


def quiff(hair: HeadOfHair) -> list[Pieces]:
    """Short sides; the front of the top swept up and back."""
    r = roots(hair, 720, 0.0, 9.0)
    s, amount = hair.size, 0.65 + 0.7 * hair.spec.hair_length
    ref = r.reference
    top = blend(ref[:, 1], 1.635, 1.668) * blend(np.abs(ref[:, 0]), 0.068, 0.05)
    front = top * blend(ref[:, 2], 0.03, 0.12) * (0.45 + 0.55 * blend(np.abs(ref[:, 0]), 0.058, 0.02))
    length = s * amount * (0.018 + 0.03 * top + 0.034 * front)
    height = s * amount * (0.0048 + 0.009 * top + 0.021 * front) * hair.rng.uniform(0.6, 1.05, len(length))
    side = hair.rng.normal(0, 0.05, len(length)) - 1.5 * ref[:, 0]
    crown = from_crown(hair, (0, -0.4, -0.5))

    def field(p: np.ndarray, n: np.ndarray) -> np.ndarray:
        swept = np.stack([side, np.full(len(p), 0.35), np.full(len(p), -1.0)], axis=1)
        wish = top[:, None] * unit(swept) + (1 - top)[:, None] * crown(p, n)
        return unit(wish)

    growth = Growth(length, field, height, rise=0.016 * s, turn=0.5, lift=0.5, sway=0.05)
    return [cards(hair, r, growth, 5, 0.0135 * s, FINE, 0.15)]


def curly(hair: HeadOfHair) -> list[Pieces]:
    """Coils all over, to the ears or the chin."""
    r = roots(hair, 330, 0.001)
    s, amount = hair.size, 0.6 + 0.8 * hair.spec.hair_length
    length = s * amount * hair.rng.uniform(0.05, 0.085, len(r.points)) * np.clip(0.6 + r.inside / 0.05, 0, 1)
    height = s * amount * hair.rng.uniform(0.008, 0.034, len(length)) * np.clip(r.inside / 0.03, 0.3, 1)
    growth = Growth(
        length, from_crown(hair, (0, -0.25, 0)), height, rise=0.02 * s, turn=0.35, comb=0.4, lift=0.7, sway=0.35,
        over_ears=False, veil=0.05 * s, brow=hair.body.ears[0][0][1] + 0.03 * s,
    )  # fmt: skip
    strands, outward = grow(r.points, r.normals, growth, hair.body, 12, hair.rng)
    strands, outward = sample(strands, outward, np.full(len(length), 12.0), 18)
    strands = waved(strands, outward, 0.0085 * s, 0.036 * s, hair.rng.uniform(0, 6.28, len(length)), 1.0)
    return [strips(hair, r, strands, outward, 0.0125 * s, (0.5, 0.4, 0.1, 0, 0, 0, 0), 0.5, 2, ends=0.85)]


def mohawk(hair: HeadOfHair) -> list[Pieces]:
    """A standing crest over shaven sides."""
    s, amount = hair.size, 0.7 + 0.6 * hair.spec.hair_length
    r = roots(hair, 2600, 0.002)
    r = r.only((np.abs(r.reference[:, 0]) < 0.016) & (r.reference[:, 1] > 1.56))
    length = s * amount * 0.085 * blend(r.reference[:, 1], 1.53, 1.66) * hair.rng.uniform(0.8, 1.1, len(r.points))
    crown = hair.scalp.center

    def field(p: np.ndarray, n: np.ndarray) -> np.ndarray:
        return unit(unit(p - crown) * [0.35, 1, 1] + [0, 0.25, -0.05])

    growth = Growth(length, field, 0 * length, rise=0.02, turn=0.3, comb=0.0, lift=0.3, sway=0.07)
    strands, outward = grow(r.points, r.normals, growth, hair.body, 5, hair.rng)
    outward = np.broadcast_to(np.sign(r.reference[:, :1] + 1e-9)[:, None] * [1.0, 0, 0], strands.shape)
    variant = hair.rng.choice(3, len(strands))
    return [ribbons(strands, outward + 0.0, s * hair.rng.uniform(0.014, 0.022, len(strands)), variant, STRIPS,
                    hair.rng.normal(0, 0.35, len(strands)))]  # fmt: skip


def balding(hair: HeadOfHair) -> list[Pieces]:
    """A horseshoe of short hair that thins out upwards."""
    s, amount = hair.size, 0.6 + 0.8 * hair.spec.hair_length
    grown = roots(hair, 1300, 0.0)
    edge = horseshoe(grown.reference)
    full = grown.only(edge > 0.012 + 0.012 * hair.rng.random(len(edge)))
    thin = roots(hair, 1600, 0.0)
    edge = horseshoe(thin.reference)
    thin = thin.only((edge > 0.022 * hair.rng.random(len(edge)) - 0.004) & (edge < 0.026))
    pieces = []
    for r, width, variants, lift in ((full, 0.011, FINE, 0.3), (thin, 0.006, WISPS, 0.1)):
        height = (
            s
            * amount
            * 0.0055
            * hair.rng.uniform(0.3, 1.1, len(r.points))
            * np.clip(horseshoe(r.reference) / 0.03, 0.2, 1)
        )
        length = s * amount * 0.024 * np.clip(0.6 + horseshoe(r.reference) / 0.04, 0.6, 1)
        growth = Growth(length, from_crown(hair, (0, -0.6, -0.3)), height, rise=0.012 * s, turn=0.5, lift=lift)
        pieces.append(cards(hair, r, growth, 3, width * s, variants))
    return pieces


def horseshoe(reference: np.ndarray) -> np.ndarray:
    """Metres below the edge of the bald area at points (..., 3) on the reference head."""
    return (
        1.640
        + 0.18 * np.clip(-reference[..., 2] - 0.01, 0, 1)
        - reference[..., 1]
        - 0.35 * np.clip(reference[..., 2] - 0.07, 0, 1)
    )
