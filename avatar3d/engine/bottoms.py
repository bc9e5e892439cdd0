"""Trousers, jeans, shorts and skirts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from avatar3d.engine.attach import Figure
from avatar3d.engine.colors import color_rgb
from avatar3d.engine.fabrics import cloth_material
from avatar3d.engine.garment import Design, Worn, drape
from avatar3d.engine.garment_chart import LEG
from avatar3d.engine.garment_fields import Fields
from avatar3d.engine.garment_fit import Ease, Layers
from avatar3d.engine.garment_folds import leg_folds
from avatar3d.engine.garment_parts import cloth_parts
from avatar3d.engine.garment_skirt import Skirt, drape_skirt
from avatar3d.spec import AvatarSpec
from avatar3d.structures import Material

Array = np.ndarray

WAISTBAND_Y = 0.985
BAND = 0.035
LONG_Y = 0.055
SHORT_Y = 0.56


def _leg_ease(hem: float, thigh: float, straight: float) -> Callable[[Fields], Ease]:
    def ease(f: Fields) -> Ease:
        down = np.clip((0.86 - f.y) / 0.25, 0, 1)
        room = 0.005 + thigh * down
        return Ease(room, clearance=0.004, tension=40, hang=straight * np.clip((0.80 - f.y) / 0.1, 0, 1))

    return ease


def _legs(hem: float, thigh: float, straight: float, depth: float) -> Design:
    return Design(
        cuts=(
            lambda f: WAISTBAND_Y - f.y,
            lambda f: f.y - hem,
            lambda f: 0.1 - f.arm,
        ),
        lines=(lambda f: f.x, lambda f: WAISTBAND_Y - BAND - f.y),
        panel=lambda f: np.where(f.y > WAISTBAND_Y - BAND, 2, (f.x > 0).astype(int)),
        charts=(LEG, LEG, LEG),
        ease=_leg_ease(hem, thigh, straight),
        folds=lambda f: leg_folds(f, depth, hem),
        longest=0.025,
    )


TROUSERS = _legs(LONG_Y, 0.014, 0.94, 0.0045)
JEANS = _legs(LONG_Y, 0.009, 0.92, 0.0045)
SHORTS = _legs(SHORT_Y, 0.020, 0.97, 0.0035)
WEAVES = {"trousers": "twill", "jeans": "denim", "shorts": "twill"}
SKIRT = Skirt(hem=0.50, flare=0.045, waves=0.030)
DRESS_SKIRT = Skirt(hem=0.47, flare=0.062, waves=0.045, band=0.012, under_bodice=True)
DESIGNS = {"trousers": TROUSERS, "jeans": JEANS, "shorts": SHORTS}


def make_bottom(spec: AvatarSpec, figure: Figure, layers: Layers, over: Design | None) -> Worn:
    """The lower garment; faces hidden under the upper garment `over` are left out."""
    if spec.top == "dress":
        return _make_skirt(DRESS_SKIRT, "dress_skirt", "top", top_material(spec), figure, layers)
    if spec.bottom == "skirt":
        material = cloth_material("skirt", "twill", color_rgb(spec.bottom_color))
        return _make_skirt(SKIRT, "skirt", "bottom", material, figure, layers)
    design = DESIGNS[spec.bottom]
    points = drape(design, figure, layers)
    layers.put_on(design.cloth.sheet, figure, points)
    keep = ~over.covers(design) if over else None
    material = cloth_material(spec.bottom, WEAVES[spec.bottom], color_rgb(spec.bottom_color))
    parts = cloth_parts(design.cloth, points, figure, "bottom", [(spec.bottom, material, (0, 1, 2))], keep)
    return Worn(parts, design.covered)


def top_material(spec: AvatarSpec) -> Material:
    """The cloth of a dress, which its skirt shares with its bodice."""
    return cloth_material(
        "dress", "poplin", color_rgb(spec.top_color), spec.top_pattern, color_rgb(spec.top_pattern_color)
    )


def _make_skirt(skirt: Skirt, name: str, kind: str, material: Material, figure: Figure, layers: Layers) -> Worn:
    points = drape_skirt(skirt, figure, layers)
    return Worn(cloth_parts(skirt.cloth, points, figure, kind, [(name, material, (0, 1))]), skirt.covered)
