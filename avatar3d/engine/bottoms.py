"""Trousers, jeans, shorts and skirts."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from avatar3d.engine import garment_trims as trims
from avatar3d.engine.attach import Figure
from avatar3d.engine.colors import Rgb, color_rgb, luminance, shaded
from avatar3d.engine.fabrics import cloth_material, plain_material
from avatar3d.engine.garment import Design, Worn, drape
from avatar3d.engine.garment_chart import LEG
from avatar3d.engine.garment_fields import Fields
from avatar3d.engine.garment_fit import Ease, Layers, smooth_normals
from avatar3d.engine.garment_folds import leg_folds
from avatar3d.engine.garment_parts import cloth_parts
from avatar3d.engine.garment_skirt import Skirt, drape_skirt
from avatar3d.engine.garment_solids import join, solid_part
from avatar3d.engine.garment_trims import Trim
from avatar3d.spec import AvatarSpec
from avatar3d.structures import Material

Array = np.ndarray

WAISTBAND_Y = 0.985
BAND = 0.035
LONG_Y = 0.055
SHORT_Y = 0.56
INTO_LEGS = 0.13
"""How far up a leg of trousers one sees from below, metres."""


def _leg_ease(hem: float, thigh: float, straight: float) -> Callable[[Fields], Ease]:
    def ease(f: Fields) -> Ease:
        down = np.clip((0.86 - f.y) / 0.25, 0, 1)
        room = 0.005 + thigh * down
        falling = straight - 0.045 * np.clip((0.52 - f.y) / 0.1, 0, 1)
        return Ease(room, clearance=0.004, hang=falling * np.clip((0.80 - f.y) / 0.1, 0, 1))

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
        longest=0.028,
        seen_into=(lambda f: f.y - hem - INTO_LEGS,),
    )


TROUSERS = _legs(LONG_Y, 0.013, 0.985, 0.0045)
JEANS = _legs(LONG_Y, 0.009, 0.97, 0.0045)
SHORTS = _legs(SHORT_Y, 0.020, 0.97, 0.0035)
WEAVES = {"trousers": "twill", "jeans": "denim", "shorts": "twill"}
PLAIN_SKIRT = Skirt(hem=0.50, flare=0.045, waves=0.030)
DRESS_SKIRT = Skirt(hem=0.47, flare=0.062, waves=0.045, band=0.012, under_bodice=True)
DESIGNS = {"trousers": TROUSERS, "jeans": JEANS, "shorts": SHORTS}


def make_bottom(spec: AvatarSpec, figure: Figure, layers: Layers, over: Design | None) -> Worn:
    """The lower garment; faces hidden under the upper garment `over` are left out."""
    if spec.top == "dress":
        return _make_skirt(DRESS_SKIRT, "dress_skirt", "top", top_material(spec), figure, layers)
    if spec.bottom == "skirt":
        material = cloth_material("skirt", "twill", color_rgb(spec.bottom_color))
        return _make_skirt(PLAIN_SKIRT, "skirt", "bottom", material, figure, layers)
    design = DESIGNS[spec.bottom]
    points = drape(design, figure, layers)
    layers.put_on(design.cloth.sheet, figure, points)
    keep = ~over.covers(design) if over else None
    color, material = _cloth(spec)
    parts = cloth_parts(design.cloth, points, figure, "bottom", [(spec.bottom, material, (0, 1, 2))], keep)
    normals = smooth_normals(points, design.cloth.sheet, 1)
    for kind, found in trims_of(spec.bottom).items():
        solid = join([s for trim in found for s in trim.on(points, normals)])
        finish = material if kind == "pockets" else plain_material(kind, _stitch_color(spec.bottom, color), 0.8)
        parts.append(solid_part(f"{spec.bottom}_{kind}", "bottom", solid, finish))
    return Worn(parts, design.covered)


def _cloth(spec: AvatarSpec) -> tuple[Rgb, Material]:
    """Color and cloth of a lower garment with legs; the trousers of a suit match its jacket."""
    if (spec.top, spec.bottom) == ("suit", "trousers"):
        color, second = color_rgb(spec.top_color), color_rgb(spec.top_pattern_color)
        return color, cloth_material("trousers", "wool", color, spec.top_pattern, second)
    color = color_rgb(spec.bottom_color)
    return color, cloth_material(spec.bottom, WEAVES[spec.bottom], color)


@cache
def trims_of(bottom: str) -> dict[str, list[Trim]]:
    """Seams, stitching and pockets of a lower garment with legs."""
    sheet = DESIGNS[bottom].cloth.sheet
    hem = SHORT_Y if bottom == "shorts" else LONG_Y
    stitches = [trims.leg_ring(sheet, s, hem + 0.022) for s in (1, -1)]
    stitches += [trims.hip_pocket(sheet, s) for s in (1, -1)] + [trims.fly(sheet)]
    stitches += [trims.leg_seam(sheet, s, 0.0, 0.94, hem + 0.002) for s in (1, -1)]
    if bottom == "trousers":
        return {"stitches": stitches}
    return {"stitches": stitches, "pockets": [trims.back_pocket(sheet, s) for s in (1.0, -1.0)]}


def _stitch_color(bottom: str, color: Rgb) -> Rgb:
    if bottom == "jeans":
        return (0.66, 0.44, 0.22) if luminance(color) < 0.6 else (0.45, 0.36, 0.28)
    return shaded(color, 0.62) if luminance(color) > 0.2 else shaded(color, 1.12)


def top_material(spec: AvatarSpec) -> Material:
    """The cloth of a dress, which its skirt shares with its bodice."""
    return cloth_material(
        "dress", "poplin", color_rgb(spec.top_color), spec.top_pattern, color_rgb(spec.top_pattern_color)
    )


def _make_skirt(skirt: Skirt, name: str, kind: str, material: Material, figure: Figure, layers: Layers) -> Worn:
    points = drape_skirt(skirt, figure, layers)
    return Worn(cloth_parts(skirt.cloth, points, figure, kind, [(name, material, (0, 1))]), skirt.covered)
