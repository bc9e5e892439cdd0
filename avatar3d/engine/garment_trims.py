"""What makes a garment that garment: collars, plackets, pockets, a hood, lapels, a tie, zips and buttons.

Every trim is found once on the design's sheet and put on each figure's cloth. Heights and widths are metres on the
reference body.
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
    leg_site,
    neck_site,
    rectangle,
    strip,
    trunk_site,
)  # fmt: skip
from avatar3d.engine.garment_solids import Solid, loft

Array = np.ndarray

UP = np.array([0.0, 1.0, 0.0])


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
    sheet: Sheet, neck: float, stand: float, fall: float, point: float, gap: float = 0.05, thick: float = 0.003
) -> Trim:
    """A collar that stands up from the neckline by `stand` and folds over.

    It ends `fall` outside of the neckline behind and `point` in front, where its corners spread.
    """
    turn = _around(gap, 41)
    front = np.clip((1.25 - np.abs(turn)) / 1.15, 0, 1) ** 1.6
    ends = np.stack([turn, np.full_like(turn, neck + 0.003)], axis=-1)
    low = np.stack([turn + 0.42 * np.sign(turn) * front**2, neck + fall + (point - fall) * front], axis=-1)
    site = neck_site(sheet, np.stack([ends, low]))
    height = stand * (1 - 0.25 * front)

    def build(site: Site, points: Array, normals: Array) -> list[Solid]:
        (foot, end), n = site.place(points, normals, np.array([[0.001], [0.007]]))
        level = n[0] * np.array([1.0, 0.0, 1.0])
        level /= np.maximum(np.linalg.norm(level, axis=1, keepdims=True), 1e-9)
        rise = 0.94 * UP - 0.10 * level
        top = foot + height[:, None] * rise
        fold = top + 0.004 * level + 0.002 * UP
        over = top + 0.009 * level - 0.003 * UP
        t = np.linspace(0, 1, 6)[1:, None, None]
        falling = over + t * (end - over) + 0.004 * np.sin(np.pi * t) * level
        inner = foot + np.linspace(0, 1, 4)[:, None, None] * (top - foot)
        grid = np.concatenate([inner, fold[None], over[None], falling, (end - thick * n[1])[None]])
        index = np.concatenate([np.zeros(8, int), np.ones(4, int)])
        index = (index[:, None] * len(turn) + np.arange(len(turn))).reshape(-1)
        return [loft(grid).skinned(*(a[index] for a in site.skin))]

    return Trim((site,), build)


def stand_collar(sheet: Sheet, neck: float, height: float, gap: float, thick: float = 0.005) -> Trim:
    """A collar that stands around the neck, open in front by `gap` radians on both sides."""
    turn = _around(gap, 53)
    site = neck_site(sheet, np.stack([turn, np.full_like(turn, neck + 0.004)], axis=-1)[None])

    def build(site: Site, points: Array, normals: Array) -> list[Solid]:
        (foot,), (n,) = site.place(points, normals, 0.0)
        level = n * np.array([1.0, 0.0, 1.0])
        level /= np.maximum(np.linalg.norm(level, axis=1, keepdims=True), 1e-9)
        steps = np.array(
            [[-0.012, 1.0], [0.0, 1.15], [0.35, 1.0], [0.8, 0.8], [1.0, 0.45], [1.0, 0.0], [0.8, -0.3], [0, 0.0]]
        )
        grid = np.stack([foot + height * a * UP + thick * b * level for a, b in steps[::-1]])
        index = np.tile(np.arange(len(turn)), len(steps))
        return [loft(grid).skinned(*(a[index] for a in site.skin))]

    return Trim((site,), build)


def neck_band(sheet: Sheet, neck: float, width: float, thick: float = 0.0025) -> Trim:
    """A sewn-on band around a closed neckline."""
    turn = np.linspace(np.pi, -np.pi, 57)
    distance = neck + np.linspace(0.0, width, 4)
    site = neck_site(sheet, np.stack(np.broadcast_arrays(turn[None], distance[:, None]), axis=-1))
    return patch(site, thick, thick + 0.003)


def belt(sheet: Sheet, y: float, width: float, thick: float = 0.003) -> Trim:
    """A band around the trunk."""
    turn = np.linspace(-np.pi, np.pi, 65)
    height = np.linspace(y - width / 2, y + width / 2, 4)
    site = trunk_site(sheet, np.stack(np.broadcast_arrays(turn[None], height[:, None]), axis=-1))
    return patch(site, thick, thick + 0.003)


def front_edges(sheet: Sheet, half: Callable[[Array], Array], top: float, low: float, width: float) -> Trim:
    """Strips along both edges of an open front: zip tapes or facings."""
    y = np.linspace(low, top, 34)
    sites = []
    for side in (1.0, -1.0):
        a, b = (np.stack([side * (half(y) + w), y], 1) for w in (0.002, 0.002 + width))
        sites.append(front_site(sheet, strip(*((a, b) if side > 0 else (b, a)), 3)))
    return Trim(tuple(sites), lambda s, p, n: [s.slab(p, n, 0.0015, 0.003)])


def _around(gap: float, count: int) -> Array:
    """Angles once around the neck from the right of the front over the back to the left, in (-pi, pi]."""
    turn = np.linspace(2 * np.pi - gap, gap, count)
    return np.where(turn > np.pi, turn - 2 * np.pi, turn)


def lapels(sheet: Sheet, opening: Callable[[Array], Array], top: float, low: float, width: float) -> Trim:
    """Lapels along a V opening (half-width at a height), with a notch."""
    y = np.linspace(low, top, 20)
    share = (y - low) / (top - low)
    shape = width * np.minimum(np.sin(np.pi * 0.5 * np.clip(share / 0.78, 0, 1)) ** 0.75, 1.0)
    notch = np.where(share > 0.80, 0.55, 1.0)
    sites = []
    for side in (1.0, -1.0):
        inner = np.stack([side * (opening(y) + 0.001), y], 1)
        outer = np.stack([side * (opening(y) + 0.004 + shape * notch), y - 0.012 * share], 1)
        pair = (inner, outer) if side > 0 else (outer, inner)
        sites.append(front_site(sheet, strip(*pair, 5)))
    out = 0.004
    return Trim(tuple(sites), lambda s, p, n: [s.slab(p, n, out, 0.005)])


def tie(sheet: Sheet, top: float, low: float) -> Trim:
    """A long tie that widens downwards, and its knot."""
    y = np.linspace(low, top, 16)
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
    turn = _around(0.10, 43)
    behind = 0.5 - 0.5 * np.cos(turn)
    share = np.linspace(0, 1, 12)[:, None]
    depth = 0.030 + 0.145 * behind**1.3
    distance = neck - 0.012 + share * depth[None]
    bulge = (0.012 + 0.050 * behind[None] ** 1.2) * np.sin(np.pi * np.clip(0.10 + 0.9 * share, 0, 1)) ** 0.55
    out = bulge + 0.010 * behind[None] * np.exp(-((share / 0.08) ** 2))
    site = neck_site(sheet, np.stack(np.broadcast_arrays(turn[None], distance), axis=-1))
    return Trim((site,), lambda s, p, n: [s.slab(p, n, out, 0.012)])


def leg_seam(sheet: Sheet, side: float, angle: float, top: float, low: float, radius: float = 0.0009) -> Trim:
    """A seam down a leg at an angle about it (0 outside, pi/2 in front)."""
    y = low + (top - low) * np.linspace(1.0, 0.0, 38) ** 1.5  # closer together where legs fold
    return line(leg_site(sheet, side, np.stack([np.full_like(y, angle), y], 1)[None]), 0.0022, radius, 3)


def leg_ring(sheet: Sheet, side: float, y: float, radius: float = 0.0008) -> Trim:
    """Stitching around a trouser leg."""
    angle = np.linspace(-np.pi + 0.02, np.pi - 0.02, 24)
    return line(leg_site(sheet, side, np.stack([angle, np.full_like(angle, y)], 1)[None]), 0.0014, radius, 3)


def back_pocket(sheet: Sheet, side: float, y: float = 0.885) -> Trim:
    """A patch pocket on the seat."""
    g = rectangle(0.035, 0.115, y - 0.050, y + 0.045, 8, 7)
    low = np.clip((y - 0.025 - g[..., 1]) / 0.025, 0, 1)
    g[..., 1] -= 0.012 * low * (1 - np.abs(g[..., 0] - 0.075) / 0.04)
    g[..., 0] *= side
    return patch(back_site(sheet, g if side < 0 else g[:, ::-1]), 0.0025, 0.004)


def hip_pocket(sheet: Sheet, side: float) -> Trim:
    """The curved edge of a front pocket."""
    curve = [(0.075, 0.95), (0.082, 0.925), (0.098, 0.908), (0.118, 0.898), (0.134, 0.894)]
    return line(front_line(sheet, [(side * x, y) for x, y in curve], 14), 0.0008, 0.0011, 3)


def fly(sheet: Sheet) -> Trim:
    """The stitched flap over a zip."""
    curve = [(0.028, 0.95), (0.028, 0.915), (0.022, 0.895), (0.004, 0.882)]
    return line(front_line(sheet, curve, 16), 0.0008, 0.0010, 3)


def side_seams(sheet: Sheet, top: float, low: float) -> list[Trim]:
    """Seams down both sides of the trunk."""
    y = np.linspace(top, low, 20)
    return [
        line(trunk_site(sheet, np.stack([np.full_like(y, s * np.pi / 2), y], 1)[None]), 0.0004, 0.0009)
        for s in (1, -1)
    ]
