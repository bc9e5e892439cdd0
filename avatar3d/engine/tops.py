"""Upper garments: how they are cut and how they sit."""

from __future__ import annotations

import numpy as np

from avatar3d.engine.attach import Figure
from avatar3d.engine.colors import color_rgb
from avatar3d.engine.fabrics import cloth_material
from avatar3d.engine.garment import Design, Worn, drape
from avatar3d.engine.garment_chart import SLEEVE, TRUNK
from avatar3d.engine.garment_fields import Fields
from avatar3d.engine.garment_fit import Ease, Layers
from avatar3d.engine.garment_folds import sleeve_folds, trunk_folds
from avatar3d.engine.garment_parts import cloth_parts
from avatar3d.spec import AvatarSpec

Array = np.ndarray

MAIN, ARM, TRIM, ARM_TRIM = range(4)
WRIST = 0.495


def _ease(loose: float, sleeve: float, hang: float, clearance: float = 0.004):
    def ease(f: Fields) -> Ease:
        waist = np.clip((1.25 - f.y) / 0.15, 0, 1) * (1 - np.clip((f.arm - 0.2) / 0.3, 0, 1))
        arm = np.clip(f.sleeve / 0.08, 0, 1)
        room = 0.003 + loose * waist + sleeve * arm
        straight = hang * np.clip((1.23 - f.y) / 0.05, 0, 1) * np.clip((0.45 - f.arm) / 0.3, 0, 1)
        return Ease(room, clearance=clearance, hang=straight)

    return ease


def _armhole(f: Fields) -> Array:
    return 0.5 - f.arm


def _torso(neck: float, sleeve: float, hem: float, loose: float, arm: float, hang: float, depth: float) -> Design:
    return Design(
        cuts=(lambda f: f.neck() - neck, lambda f: sleeve - f.sleeve, lambda f: f.y - hem),
        lines=(_armhole,),
        panel=lambda f: np.where(f.arm > 0.5, ARM, MAIN),
        charts=(TRUNK, SLEEVE),
        ease=_ease(loose, arm, hang),
        folds=lambda f: trunk_folds(f, depth, hem) + sleeve_folds(f, depth, sleeve),
    )


T_SHIRT = _torso(neck=0.082, sleeve=0.175, hem=0.855, loose=0.010, arm=0.012, hang=0.85, depth=0.0035)
DESIGNS = {"t_shirt": T_SHIRT}
WEAVES = {"t_shirt": "jersey"}


def top_design(spec: AvatarSpec) -> Design:
    """How the spec's upper garment is cut."""
    return DESIGNS.get(spec.top, T_SHIRT)


def make_top(spec: AvatarSpec, figure: Figure, layers: Layers) -> Worn:
    """The upper garment over what the figure already wears."""
    design = top_design(spec)
    points = drape(design, figure, layers)
    layers.put_on(design.cloth.sheet, figure, points)
    material = cloth_material(
        spec.top,
        WEAVES.get(spec.top, "jersey"),
        color_rgb(spec.top_color),
        spec.top_pattern,
        color_rgb(spec.top_pattern_color),
    )
    parts = cloth_parts(design.cloth, points, figure, "top", [(spec.top, material, (MAIN, ARM))])
    return Worn(parts, design.covered)
