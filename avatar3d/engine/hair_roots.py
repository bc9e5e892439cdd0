"""Where hair roots, which way it wishes to go, and ribbons along it: the material of the styles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from avatar3d.engine.attach import Figure
from avatar3d.engine.hair_chart import Scalp, inside_at, scalp_chart, unit
from avatar3d.engine.hair_strands import Field, Growth, Obstacle, Pieces, grow, ribbons
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


def roots(hair: HeadOfHair, count: int, margin: float = 0.0, part: float | None = None) -> Roots:
    """About `count` roots spread over the scalp, at least `margin` metres inside the hairline; twice as dense near
    a parting at x = `part` (reference metres) and at the forehead's hairline when there is one."""
    chart = scalp_chart()
    ref = chart.reference
    quads = np.linalg.norm(np.cross(ref[1:, :-1] - ref[:-1, :-1], ref[:-1, 1:] - ref[:-1, :-1]), axis=-1)
    rows, columns = quads.shape
    v, u = np.meshgrid((np.arange(rows) + 0.5) / rows, (np.arange(columns) + 0.5) / columns, indexing="ij")
    inside = inside_at(np.stack([u.ravel(), v.ravel()], 1))
    weight = quads.ravel() * (inside > margin)
    if part is not None:
        x, y, z = ref[:-1, :-1].reshape(-1, 3).T
        weight *= 1 + (((np.abs(x - part) < 0.016) & (y > 1.62) & (z > -0.02)) | ((inside < 0.02) & (z > 0.08)))
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


def from_crown(hair: HeadOfHair, extra: tuple[float, float, float]) -> Field:
    """Away from the whorl along the surface, turned by a constant wish."""
    crown = hair.scalp.points[0, 0]
    add = np.array(extra)

    def field(p: np.ndarray, n: np.ndarray) -> np.ndarray:
        wish = unit(p - crown) + add
        return unit(wish - n * (n * wish).sum(-1, keepdims=True))

    return field


def cards(
    hair: HeadOfHair,
    r: Roots,
    growth: Growth,
    steps: int,
    width: float,
    variants: tuple[float, ...],
    roll: float = 0.25,
) -> Pieces:
    """Flat ribbons on grown strands."""
    strands, outward = grow(r.points, r.normals, growth, hair.body, steps, hair.rng)
    return strips(hair, r, strands, outward, width, variants, roll, across=2)


def temples(hair: HeadOfHair, r: Roots) -> np.ndarray:
    """1 for the roots at the temples (and a share of those around them), where grey comes first; else 0."""
    near = blend(r.reference[:, 1], 1.665, 1.63) * blend(r.reference[:, 2], 0.0, 0.04)
    return (hair.rng.random(len(near)) < 0.85 * near).astype(int)


def strips(
    hair: HeadOfHair, r: Roots, strands: np.ndarray, outward: np.ndarray, width: float | np.ndarray,
    variants: tuple[float, ...] = (0.4, 0.3, 0.2, 0.1, 0.0, 0.0, 0.0), roll: float = 0.25, across: int = 3,
    bulge: float = 0.18, ends: float = 1.0,
) -> Pieces:  # fmt: skip
    """Ribbons with strips of the atlas chosen at random; `ends` is the share of its length that is used."""
    count = len(strands)
    variant = hair.rng.choice(len(VARIANTS), count, p=variants)
    widths = np.asarray(width) * hair.rng.uniform(0.75, 1.25, count if np.ndim(width) < 2 else (count, 1))
    slim = np.clip(0.5 + r.inside / 0.03, 0.5, 1)
    widths = widths * (slim if widths.ndim == 1 else slim[:, None])
    outward = unit(outward + 0.5 * unit(strands - hair.scalp.center))
    return ribbons(
        strands,
        outward,
        widths,
        strip_of(variant, temples(hair, r)),
        STRIPS,
        hair.rng.normal(0, roll, count),
        across,
        bulge,
        v_range=(0.03, 0.96 * ends),
    )


def blend(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """Smooth step from 0 at `low` to 1 at `high`."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)
