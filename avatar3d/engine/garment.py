"""A garment's design, and what comes of wearing it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from avatar3d.engine.attach import Figure
from avatar3d.engine.garment_chart import Chart
from avatar3d.engine.garment_cut import Cut, Sheet, covered_by, cut_cloth
from avatar3d.engine.garment_fields import Fields
from avatar3d.engine.garment_fit import Ease, Layers, fit_cloth, smooth_normals
from avatar3d.engine.garment_parts import Cloth
from avatar3d.structures import Part

Array = np.ndarray


@dataclass(frozen=True)
class Design:
    """How a garment is cut and sits. Designs are module constants; what follows from them is computed once."""

    cuts: tuple[Cut, ...]
    """Where cloth is."""
    lines: tuple[Cut, ...]
    """Seams between panels."""
    panel: Callable[[Fields], Array]
    """Fields of F face centers -> (F,) index into `charts`."""
    charts: tuple[Chart, ...]
    ease: Callable[[Fields], Ease]
    folds: Callable[[Fields], Array]
    longest: float = 0.02
    margin: float = 0.035
    """What lies further than this inside the edges can not be seen."""
    seen_into: tuple[Cut, ...] = ()
    """Further limits, positive where one can not look into wide openings."""
    hem_depth: float = 0.012
    hem_thickness: float = 0.003

    @cached_property
    def cloth(self) -> Cloth:
        """The cut cloth; raises nothing, takes a moment the first time."""
        sheet = cut_cloth(self.cuts, self.lines, self.longest)
        return Cloth(sheet, self.panel(_face_centers(sheet)), self.charts, self.hem_depth, self.hem_thickness)

    @cached_property
    def ease_here(self) -> Ease:
        """The ease at the cloth's points."""
        return self.ease(self.cloth.sheet.fields)

    @cached_property
    def folds_here(self) -> Array:
        """(N,) fold displacements at the cloth's points, never through the skin; outwards only at the edges."""
        sheet = self.cloth.sheet
        return np.maximum(self.folds(sheet.fields), -0.6 * self.ease_here.room * sheet.free)

    @cached_property
    def covered(self) -> Array:
        """(V,) template vertices that nobody can see under this garment."""
        return covered_by(self.cuts, self.margin) & covered_by((lambda f: f.y, *self.seen_into), 0.0)

    def covers(self, other: Design, extra: float = 0.01) -> Array:
        """(F,) faces of another garment's sheet that lie hidden under this one."""
        hidden = covered_by(self.cuts, self.margin + extra, other.cloth.sheet.fields)
        return hidden[other.cloth.sheet.faces].all(axis=1)


def _face_centers(sheet: Sheet) -> Fields:
    """Fields at the middle of each face."""
    f, t = sheet.fields, sheet.faces

    def straight(values: Array) -> Array:
        return values[t].mean(axis=1)

    def turning(values: Array) -> Array:
        return np.arctan2(np.sin(values)[t].mean(axis=1), np.cos(values)[t].mean(axis=1))

    angles = {"arm_angle", "leg_angle", "trunk_angle"}
    return Fields(**{k: (turning if k in angles else straight)(v) for k, v in vars(f).items()})


def drape(design: Design, figure: Figure, layers: Layers) -> Array:
    """(N, 3) points of the garment on a figure over what it already wears."""
    sheet = design.cloth.sheet
    points = fit_cloth(sheet, figure, design.ease_here, layers)
    return points + design.folds_here[:, None] * smooth_normals(points, sheet, 2)


@dataclass
class Worn:
    """Parts of a garment and the template vertices that it hides."""

    parts: list[Part]
    covered: Array = field(repr=False)
    """(V,) bool."""
