"""Skirts: cloth that hangs around both legs, cut from the template's skirt surface, which follows every body."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree

from avatar3d.engine.attach import Figure
from avatar3d.engine.garment_chart import SKIRT
from avatar3d.engine.garment_cut import Cut, Sheet, cut_cloth
from avatar3d.engine.garment_fields import reference, template_fields
from avatar3d.engine.garment_fit import Layers
from avatar3d.engine.garment_parts import Cloth

Array = np.ndarray

TOP_Y = 1.012
NEAREST = 6


@dataclass(frozen=True)
class Skirt:
    """The design of a skirt; metres on the reference body."""

    hem: float
    flare: float
    """How far the hem stands out beyond the straight fall."""
    waves: float
    """Depth of the flutes at the hem."""
    count: int = 9
    """Flutes around the hem."""
    tight: float = 0.004
    band: float = 0.03
    under_bodice: bool = False
    """The waist is hidden by what continues the skirt upwards."""

    @cached_property
    def cloth(self) -> Cloth:
        """The cut cloth: panel 0 is the skirt, 1 its waistband."""
        band: Cut = lambda f: TOP_Y - self.band - f.y  # noqa: E731
        sheet = cut_cloth((lambda f: f.y - self.hem, lambda f: TOP_Y - f.y), (band,), 0.032, surface="skirt")
        sheet = replace(sheet, skin_rows=_following_legs(sheet))
        panel = (sheet.fields.y[sheet.faces].mean(axis=1) > TOP_Y - self.band).astype(int)
        return Cloth(sheet, panel, (SKIRT, SKIRT))

    @cached_property
    def near(self) -> Array:
        """(N, NEAREST) body vertices next to each point of the cloth."""
        body = _trunk_vertices()
        tree = cKDTree(reference().vertices.numpy()[body])
        return body[tree.query(self.cloth.sheet.points, k=NEAREST)[1]]

    @cached_property
    def covered(self) -> Array:
        """(V,) template vertices that nobody can see under the skirt."""
        f = template_fields()
        top = TOP_Y + (0.02 if self.under_bodice else -0.035)
        return (f.y < top) & (f.y > self.hem + 0.045) & (f.arm < 0.2) & (f.hand < 0.01)


def _following_legs(sheet: Sheet) -> sparse.csr_matrix:
    """(N, V) body vertices that each point moves with: the nearest ones, blended smoothly from leg to leg."""
    body = _trunk_vertices()
    tree = cKDTree(reference().vertices.numpy()[body])
    distance, near = tree.query(sheet.points, k=8)
    weight = 1.0 / np.maximum(distance, 0.01)
    weight /= weight.sum(axis=1, keepdims=True)
    count, total = sheet.rows.shape
    owner = np.repeat(np.arange(count), near.shape[1])
    rows = sparse.coo_matrix((weight.reshape(-1), (owner, body[near].reshape(-1))), (count, total)).tocsr()
    start, index = sheet.neighbors
    step = sparse.csr_matrix((np.repeat(1.0 / np.maximum(np.diff(start), 1), np.diff(start)), index, start))
    for _ in range(6):
        rows = 0.4 * rows + 0.6 * (step @ rows)
    return rows


def _trunk_vertices() -> Array:
    f = template_fields()
    return np.intersect1d(np.flatnonzero((f.arm < 0.3) & (f.y < 1.1) & (f.y > 0.3)), reference().skin_vertices)


def drape_skirt(skirt: Skirt, figure: Figure, layers: Layers) -> Array:
    """(N, 3) points of the skirt on a figure; raises `layers` so that tops fall over it."""
    sheet: Sheet = skirt.cloth.sheet
    base = sheet.rows @ figure.vertices.numpy().astype(np.float64)
    f = sheet.fields
    center = np.array([0.0, 0.0, (base[:, 2].max() + base[:, 2].min()) / 2])
    out = (base - center) * np.array([1.0, 0.0, 1.0])
    out /= np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-9)
    down = np.clip((0.93 - f.y) / (0.93 - skirt.hem), 0.0, 1.0)
    size = float(base[:, 1].max() - base[:, 1].min()) / (TOP_Y - skirt.hem)
    angle = f.trunk_angle
    flutes = np.sin(skirt.count * angle + 0.6 * np.sin(2 * angle + 1.0) + 0.4)
    room = skirt.tight + size * (skirt.flare * down**1.1 + skirt.waves * down**1.3 * (0.5 + 0.5 * flutes))
    points = base + room[:, None] * out
    body, normals = figure.vertices.numpy().astype(np.float64), figure.normals.numpy().astype(np.float64)
    touch, facing = body[skirt.near], normals[skirt.near]
    outside = (facing * out[:, None]).sum(axis=2) > 0.45
    floor = 0.006 + layers.stand_off[skirt.near]
    start, index = sheet.neighbors
    width = np.diff(start)
    owner = np.repeat(np.arange(len(points)), width)
    for _ in range(5):
        gap = ((points[:, None] - touch) * facing).sum(axis=2)
        lack = np.clip(np.where(outside, floor - gap, 0.0).max(axis=1), 0.0, 0.08)
        push = lack.copy()
        for _ in range(3):
            spread = np.zeros(len(points))
            np.add.at(spread, owner, push[index])
            push = np.maximum(lack, 0.9 * spread / np.maximum(width, 1))
        points = points + push[:, None] * out
    if skirt.under_bodice:  # gathered at the waist, so that bodice and belt sit close
        gap = np.where(outside, ((points[:, None] - touch) * facing).sum(axis=2), np.inf).min(axis=1)
        waist = np.clip((f.y - 0.93) / 0.06, 0.0, 1.0)
        slack = np.where(np.isfinite(gap), np.clip(gap - 0.005, 0.0, 0.06), 0.0)
        points = points - (waist * waist * (3 - 2 * waist) * slack)[:, None] * out
    high = np.flatnonzero(f.y > 0.80)
    gap = ((points[:, None] - touch) * facing).sum(axis=2)[high]
    np.maximum.at(layers.stand_off, skirt.near[high].reshape(-1), np.clip(gap, 0.0, 0.05).reshape(-1) + 0.002)
    if skirt.under_bodice:
        belted = template_fields().y > 0.965
        layers.stand_off[belted] = np.minimum(layers.stand_off[belted], 0.003)
    return points
