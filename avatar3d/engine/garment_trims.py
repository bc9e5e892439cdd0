"""What makes a garment that garment: collars, plackets, pockets, a hood, lapels, a tie, zips and buttons.

Every trim is a function of the design's sheet that returns sites; they are found once and put on each figure's cloth.
Heights and widths are metres on the reference body.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from avatar3d.engine.garment_cut import Sheet
from avatar3d.engine.garment_sites import (
    Site,
    back_site,
    front_site,
    neck_site,
    rectangle,
    strip,
    trunk_site,
)  # fmt: skip
from avatar3d.engine.garment_solids import Solid

Array = np.ndarray


@dataclass(frozen=True)
class Trim:
    """One kind of finishing: where it is and how it is built there."""

    sites: tuple[Site, ...]
    build: Callable[[Site, Array, Array], list[Solid]]
    """(site, worn points, their normals) -> solids."""

    def on(self, points: Array, normals: Array) -> list[Solid]:
        """The trim on worn cloth."""
        return [solid for site in self.sites for solid in self.build(site, points, normals)]


def patch(site: Site, out: float | Array = 0.0025, thickness: float = 0.003) -> Trim:
    """A layer of cloth sewn onto the garment."""
    return Trim((site,), lambda s, p, n: [s.slab(p, n, out, thickness)])


def line(site: Site, out: float = 0.001, radius: float = 0.0011, sides: int = 4) -> Trim:
    """A seam, stitching or cord along the first row of a site."""
    return Trim((site,), lambda s, p, n: [s.cord(p, n, out, radius, sides)])


def buttons(site: Site, out: float = 0.003, radius: float = 0.0055, height: float = 0.0022) -> Trim:
    """Buttons at every place of a site."""
    return Trim((site,), lambda s, p, n: s.buttons(p, n, out, radius, height))


def front_line(sheet: Sheet, points: list[tuple[float, float]], count: int) -> Site:
    """A line on the front through design points (x, y), evenly divided."""
    return front_site(sheet, _divided(points, count)[None])


def back_line(sheet: Sheet, points: list[tuple[float, float]], count: int) -> Site:
    """A line on the back through design points (x, y), evenly divided."""
    return back_site(sheet, _divided(points, count)[None])


def _divided(points: list[tuple[float, float]], count: int) -> Array:
    p = np.array(points, float)
    s = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(p, axis=0), axis=1))])
    t = np.linspace(0, s[-1], count)
    return np.stack([np.interp(t, s, p[:, k]) for k in (0, 1)], axis=1)


def placket(sheet: Sheet, top: float, low: float, half: float = 0.016) -> Trim:
    """The overlapping strip down the front of a shirt."""
    return patch(front_site(sheet, rectangle(-half, half, low, top, 28, 5)), 0.0022, 0.004)


def button_row(sheet: Sheet, top: float, low: float, count: int, x: float = 0.0) -> Trim:
    """Buttons down the front."""
    grid = np.stack([np.full(count, x), np.linspace(top, low, count)], axis=-1)[:, None]
    return buttons(front_site(sheet, grid))


def chest_pocket(
    sheet: Sheet, x: float = 0.075, y: float = 1.235, width: float = 0.085, height: float = 0.095
) -> Trim:
    """A patch pocket with a pointed bottom, on the wearer's left."""
    g = rectangle(x - width / 2, x + width / 2, y - height / 2, y + height / 2, 8, 8)
    low = np.clip((y - 0.30 * height - g[..., 1]) / (0.2 * height), 0, 1)
    g[..., 1] -= 0.010 * low * (1 - np.abs(g[..., 0] - x) / (width / 2)) - 0.006 * low
    return patch(front_site(sheet, g), 0.0025, 0.004)


def kangaroo_pocket(sheet: Sheet) -> Trim:
    """The wide pocket of a hoodie, with slanted openings."""
    rows = np.linspace(0, 1, 12)
    y = 0.925 + 0.165 * rows
    half = np.where(rows < 0.35, 0.118, 0.118 - 0.045 * (rows - 0.35) / 0.65)
    left, right = np.stack([-half, y], 1), np.stack([half, y], 1)
    return patch(front_site(sheet, strip(left, right, 16)), 0.006, 0.008)


def turned_collar(
    sheet: Sheet, neck: float, fall: float, point: float, gap: float = 0.10, lift: float = 0.007
) -> Trim:
    """A collar that folds over at `neck` and falls by `fall` behind and `point` in front, open by `gap` radians."""
    turn = _around(gap, 61)
    front = np.clip((1.1 - np.abs(turn)) / 0.9, 0, 1) ** 1.5
    length = fall + (point - fall) * front
    share = np.array([0.0, 0.03, 0.12, 0.3, 0.5, 0.7, 0.88, 1.0])[:, None]
    distance = neck - 0.004 + share * (length + 0.004)[None]
    spread = np.sign(turn) * 0.30 * front * share**1.5
    out = 0.002 + lift * np.sin(np.pi * np.clip(share * 0.9 + 0.12, 0, 1)) ** 0.6
    site = neck_site(sheet, np.stack([turn + spread, distance], axis=-1))
    return Trim((site,), lambda s, p, n: [s.slab(p, n, np.broadcast_to(out, s.shape), 0.003)])


def _around(gap: float, count: int) -> Array:
    """Angles once around the neck from the right of the front over the back to the left, in (-pi, pi]."""
    turn = np.linspace(2 * np.pi - gap, gap, count)
    return np.where(turn > np.pi, turn - 2 * np.pi, turn)


def lapels(sheet: Sheet, opening: Callable[[Array], Array], top: float, low: float, width: float) -> Trim:
    """Lapels along a V opening (half-width at a height), with a notch."""
    y = np.linspace(low, top, 26)
    share = (y - low) / (top - low)
    shape = width * np.minimum(np.sin(np.pi * 0.5 * np.clip(share / 0.78, 0, 1)) ** 0.75, 1.0)
    notch = np.where(share > 0.80, 0.55, 1.0)
    sites = []
    for side in (1.0, -1.0):
        inner = np.stack([side * (opening(y) + 0.001), y], 1)
        outer = np.stack([side * (opening(y) + 0.004 + shape * notch), y - 0.012 * share], 1)
        pair = (inner, outer) if side > 0 else (outer, inner)
        sites.append(front_site(sheet, strip(*pair, 8)))
    out = 0.004
    return Trim(tuple(sites), lambda s, p, n: [s.slab(p, n, out, 0.005)])


def tie(sheet: Sheet, top: float, low: float) -> Trim:
    """A long tie that widens downwards, and its knot."""
    y = np.linspace(low, top, 24)
    share = (top - y) / (top - low)
    half = 0.016 + 0.021 * share
    tip = np.clip((share - 0.9) / 0.1, 0, 1)
    half = half * (1 - 0.97 * tip)
    blade = front_site(sheet, strip(np.stack([-half, y], 1), np.stack([half, y], 1), 7))
    ky = np.linspace(top - 0.012, top + 0.030, 7)
    kh = np.interp(ky, [top - 0.012, top + 0.022, top + 0.030], [0.013, 0.021, 0.019])
    knot = front_site(sheet, strip(np.stack([-kh, ky], 1), np.stack([kh, ky], 1), 7))

    def build(site: Site, points: Array, normals: Array) -> list[Solid]:
        rows, columns = site.shape
        across = 1 - np.linspace(-1, 1, columns)[None] ** 2
        if site is knot:
            bump = 0.010 * across**0.5 * np.sin(np.pi * np.linspace(0.08, 0.9, rows))[:, None] ** 0.5
            return [site.slab(points, normals, 0.004 + bump, 0.008)]
        return [site.slab(points, normals, 0.004 + 0.002 * across * np.ones((rows, 1)), 0.005)]

    return Trim((blade, knot), build)


def hood(sheet: Sheet, neck: float) -> Trim:
    """A hood that lies on the back: a deep fold around the neck that hangs to a point between the shoulders."""
    turn = _around(0.10, 53)
    behind = 0.5 - 0.5 * np.cos(turn)
    share = np.linspace(0, 1, 15)[:, None]
    depth = 0.030 + 0.145 * behind**1.3
    distance = neck - 0.012 + share * depth[None]
    bulge = (0.012 + 0.050 * behind[None] ** 1.2) * np.sin(np.pi * np.clip(0.10 + 0.9 * share, 0, 1)) ** 0.55
    out = bulge + 0.010 * behind[None] * np.exp(-((share / 0.08) ** 2))
    site = neck_site(sheet, np.stack(np.broadcast_arrays(turn[None], distance), axis=-1))
    return Trim((site,), lambda s, p, n: [s.slab(p, n, out, 0.012)])


def side_seams(sheet: Sheet, top: float, low: float) -> list[Trim]:
    """Seams down both sides of the trunk."""
    y = np.linspace(top, low, 20)
    return [
        line(trunk_site(sheet, np.stack([np.full_like(y, s * np.pi / 2), y], 1)[None]), 0.0004, 0.0009)
        for s in (1, -1)
    ]
