"""The styles: where strands root, how they grow and how wide they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from avatar3d.engine.attach import Figure
from avatar3d.engine.hair_chart import Scalp, inside_at, scalp_chart, unit
from avatar3d.engine.hair_strands import Field, Growth, Obstacle, Pieces, cut, grow, ribbons, waved
from avatar3d.engine.hair_texture import STRIPS, VARIANTS, strip_of
from avatar3d.spec import AvatarSpec


@dataclass(frozen=True)
class HeadOfHair:
    """What a style works with."""

    spec: AvatarSpec
    figure: Figure
    scalp: Scalp
    body: Obstacle
    rng: np.random.Generator

    @property
    def size(self) -> float:
        """Head size relative to the reference."""
        return self.scalp.size


@dataclass(frozen=True)
class Roots:
    """Roots of strands. `reference` are their positions on the reference head: regions are told there."""

    places: np.ndarray
    points: np.ndarray
    normals: np.ndarray
    reference: np.ndarray
    inside: np.ndarray
    """Metres from the hairline."""

    def only(self, keep: np.ndarray) -> Roots:
        """The roots where `keep` (N,) is true."""
        return Roots(*(getattr(self, n)[keep] for n in ("places", "points", "normals", "reference", "inside")))


def roots(hair: HeadOfHair, count: int, margin: float = 0.0) -> Roots:
    """About `count` roots spread evenly over the scalp, at least `margin` metres inside the hairline."""
    chart = scalp_chart()
    ref = chart.reference
    quads = np.linalg.norm(np.cross(ref[1:, :-1] - ref[:-1, :-1], ref[:-1, 1:] - ref[:-1, :-1]), axis=-1)
    rows, columns = quads.shape
    v, u = np.meshgrid((np.arange(rows) + 0.5) / rows, (np.arange(columns) + 0.5) / columns, indexing="ij")
    weight = quads.ravel() * (inside_at(np.stack([u.ravel(), v.ravel()], 1)) > margin)
    steps = np.cumsum(weight) / weight.sum()
    picks = np.searchsorted(steps, (np.arange(count) + hair.rng.random(count)) / count)
    cell = np.stack([picks % columns, picks // columns], axis=1)
    places = (cell + hair.rng.random((count, 2))) / [columns, rows]
    places = places[inside_at(places) > margin]
    return roots_at(hair, places)


def roots_at(hair: HeadOfHair, places: np.ndarray) -> Roots:
    """Roots at given places."""
    points, normals = hair.scalp.at(places)
    reference = Scalp(scalp_chart().reference, hair.scalp.normals, 1.0, hair.scalp.center).at(places)[0]
    return Roots(places, points, normals, reference, inside_at(places))


def toward(vector: tuple[float, float, float]) -> Field:
    """The same wish everywhere, along the surface."""
    wish = np.array(vector)
    return lambda p, n: unit(wish - n * (n @ wish)[:, None])


def from_crown(hair: HeadOfHair, extra: tuple[float, float, float]) -> Field:
    """Away from the whorl along the surface, turned by a constant wish."""
    crown = hair.scalp.points[0, 0]
    add = np.array(extra)

    def field(p: np.ndarray, n: np.ndarray) -> np.ndarray:
        wish = unit(p - crown) + add
        return unit(wish - n * (n * wish).sum(-1, keepdims=True))

    return field


def cards(hair: HeadOfHair, r: Roots, growth: Growth, steps: int, width: float, roll: float = 0.25) -> Pieces:
    """Ribbons on grown strands."""
    strands, outward = grow(r.points, r.normals, growth, hair.body, steps, hair.rng)
    return strips(hair, r, strands, outward, width, roll=roll)


def blend(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """Smooth step from 0 at `low` to 1 at `high`."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def short(hair: HeadOfHair) -> list[Pieces]:
    """Cropped, grown away from the crown; longer on top."""
    r = roots(hair, 460, 0.002)
    s, amount = hair.size, 0.6 + 0.8 * hair.spec.hair_length
    top = blend(r.reference[:, 1], 1.63, 1.68)
    length = s * amount * (0.026 + 0.022 * top) * np.clip(0.55 + r.inside / 0.05, 0, 1)
    height = (
        s
        * amount
        * (0.005 + 0.011 * top)
        * hair.rng.uniform(0.5, 1.1, len(length))
        * np.clip(r.inside / 0.025, 0.3, 1)
    )
    growth = Growth(length, from_crown(hair, (0.25, 0, 0.15)), height, rise=0.012 * s, turn=0.45, lift=0.55)
    return [cards(hair, r, growth, 4, 0.017 * s)]


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
    r = roots(hair, 430, 0.002)
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
    return [cards(hair, r, growth, 5, 0.018 * s, roll=0.18)]


def quiff(hair: HeadOfHair) -> list[Pieces]:
    """Short sides; the front of the top swept up and back."""
    r = roots(hair, 430, 0.002)
    s, amount = hair.size, 0.65 + 0.7 * hair.spec.hair_length
    ref = r.reference
    top = blend(ref[:, 1], 1.635, 1.668)
    front = top * blend(ref[:, 2], 0.03, 0.12)
    length = s * amount * (0.018 + 0.03 * top + 0.034 * front)
    height = s * amount * (0.003 + 0.012 * top + 0.026 * front) * hair.rng.uniform(0.55, 1.1, len(length))
    side = hair.rng.normal(0, 0.15, len(length)) + 2.0 * ref[:, 0]
    crown = from_crown(hair, (0, -0.4, -0.5))

    def field(p: np.ndarray, n: np.ndarray) -> np.ndarray:
        swept = np.stack([side, np.full(len(p), 0.35), np.full(len(p), -1.0)], axis=1)
        wish = top[:, None] * unit(swept) + (1 - top)[:, None] * crown(p, n)
        return unit(wish)

    growth = Growth(length, field, height, rise=0.016 * s, turn=0.5, lift=0.5 + 0.25 * 0, sway=0.1)
    return [cards(hair, r, growth, 5, 0.017 * s, roll=0.2)]


def falling(hair: HeadOfHair, r: Roots, part: float, back: float) -> Field:
    """From a parting to both sides and down; behind the shoulders, some strands before them."""
    lean = np.where(r.reference[:, 0] < part, -1.0, 1.0)
    y0, y1 = hair.body.ears[0][0][1], hair.scalp.points[..., 1].max()
    forward = np.where((r.reference[:, 2] > 0.05) & (hair.rng.random(len(lean)) < 0.6), 0.30, -0.30)

    def field(p: np.ndarray, n: np.ndarray) -> np.ndarray:
        up = blend((p[:, 1] - y0) / (y1 - y0), 0.15, 0.95)
        low = blend((p[:, 1] - y0) / (y1 - y0), -0.4, -1.1)
        z = -back * up + forward * (0.3 + 3.0 * low) * (1 - up)
        x = lean * up - (1 - up) * (0.1 + 0.8 * low) * p[:, 0] / 0.10
        return unit(np.stack([x, -1.05 + 0.75 * up, z], axis=1))

    return field


def hanging(
    hair: HeadOfHair, r: Roots, floor: np.ndarray, part: float = 0.012, waves: tuple[float, float] | None = None,
    height: float = 0.012, points: int = 10, width: float = 0.020, veil: float = 0.056, **shape: float,
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
    return strips(hair, r, strands, outward, width * s, roll=0.22, **shape)


def strips(
    hair: HeadOfHair, r: Roots, strands: np.ndarray, outward: np.ndarray, width: float | np.ndarray,
    variants: tuple[float, ...] = (0.4, 0.3, 0.2, 0.1, 0.0, 0.0), roll: float = 0.25, across: int = 3, **shape: float,
) -> Pieces:  # fmt: skip
    """Ribbons with strips of the atlas chosen at random."""
    count = len(strands)
    variant = hair.rng.choice(len(VARIANTS), count, p=variants)
    temple = ((r.reference[:, 1] < 1.645) & (r.reference[:, 2] > 0.02)).astype(int)
    widths = np.broadcast_to(width, count) * hair.rng.uniform(0.75, 1.25, count)
    outward = unit(outward + 0.5 * unit(strands - hair.scalp.center))
    return ribbons(
        strands,
        outward,
        widths,
        strip_of(variant, temple),
        STRIPS,
        hair.rng.normal(0, roll, count),
        across,
        **shape,
    )


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
    strands = waved(strands, outward, 0.009 * s, 0.026 * s, hair.rng.uniform(0, 6.28, len(length)), 1.0)
    return [strips(hair, r, strands, outward, 0.013 * s, (0.4, 0.3, 0.3, 0, 0, 0), 0.5, 2, bulge=0.0)]


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
    """A horseshoe of short hair."""
    r = roots(hair, 520, 0.002)
    r = r.only(horseshoe(r.reference) > 0.0)
    s, amount = hair.size, 0.6 + 0.8 * hair.spec.hair_length
    length = s * amount * 0.024 * np.ones(len(r.points))
    height = (
        s
        * amount
        * 0.0055
        * hair.rng.uniform(0.4, 1.1, len(length))
        * np.clip(horseshoe(r.reference) / 0.02, 0.3, 1)
    )
    growth = Growth(length, from_crown(hair, (0, -0.6, -0.3)), height, rise=0.012 * s, turn=0.5, lift=0.4)
    return [cards(hair, r, growth, 4, 0.015 * s)]


def horseshoe(reference: np.ndarray) -> np.ndarray:
    """Metres below the edge of the bald area at points (..., 3) on the reference head."""
    return (
        1.640
        + 0.18 * np.clip(-reference[..., 2] - 0.01, 0, 1)
        - reference[..., 1]
        - 0.35 * np.clip(reference[..., 2] - 0.07, 0, 1)
    )


def none(hair: HeadOfHair) -> list[Pieces]:
    """Only the cap."""
    return []


STYLES = {
    "balding": balding, "buzz": none, "short": short, "side_part": side_part, "quiff": quiff, "bob": bob,
    "long_straight": long_straight, "long_wavy": long_wavy, "curly": curly, "mohawk": mohawk,
}  # fmt: skip


def style_pieces(hair: HeadOfHair) -> list[Pieces]:
    """The strands of a person's style."""
    style = STYLES.get(hair.spec.hair_style)
    return style(hair) if style else []
