"""Upper garments: how they are cut, how they sit, and what they are finished with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

from avatar3d.engine import garment_trims as trims
from avatar3d.engine.attach import Figure
from avatar3d.engine.colors import Rgb, color_rgb, luminance, shaded
from avatar3d.engine.fabrics import cloth_material, plain_material
from avatar3d.engine.garment import Design, Worn, drape
from avatar3d.engine.garment_chart import SLEEVE, TRUNK
from avatar3d.engine.garment_cut import Cut, Sheet
from avatar3d.engine.garment_fields import Fields
from avatar3d.engine.garment_fit import Ease, Layers, smooth_normals
from avatar3d.engine.garment_folds import sleeve_folds, trunk_folds
from avatar3d.engine.garment_parts import cloth_parts
from avatar3d.engine.garment_solids import join, solid_part
from avatar3d.engine.garment_trims import Trim
from avatar3d.spec import AvatarSpec
from avatar3d.structures import Material, Part

Array = np.ndarray

MAIN, ARM, TRIM, ARM_TRIM = range(4)
"""Panels: trunk, sleeves, and the ribs or cuffs of both."""
CHARTS = (TRUNK, SLEEVE, TRUNK, SLEEVE)
WRIST = 0.487
INTO_SLEEVE = 0.075
"""How far one sees into a short sleeve, metres."""


@dataclass(frozen=True)
class Sit:
    """Room of an upper garment, metres."""

    body: float
    """Below the chest."""
    arm: float
    hang: float
    """How straight it falls from chest or belly, 0 to 1."""
    chest: float = 0.003
    cuff: float | None = None
    """Room inside ribs at hem and wrist, when the garment blouses over them."""
    clearance: float = 0.004


def _ease(sit: Sit, ribs: Cut | None) -> Callable[[Fields], Ease]:
    def ease(f: Fields) -> Ease:
        trunk = 1 - np.clip((f.arm - 0.2) / 0.3, 0, 1)
        waist = np.clip((1.25 - f.y) / 0.15, 0, 1) * trunk
        arm = np.clip(f.sleeve / 0.08, 0, 1)
        room = sit.chest + sit.body * waist + sit.arm * arm
        hang = sit.hang * np.clip((1.23 - f.y) / 0.05, 0, 1) * np.clip((0.45 - f.arm) / 0.3, 0, 1)
        if ribs is not None and sit.cuff is not None:
            drawn = np.clip(0.5 - ribs(f) / 0.03, 0, 1)
            room = room + (sit.cuff - room) * drawn
            hang = hang * (1 - drawn)
        return Ease(room, clearance=sit.clearance, hang=hang)

    return ease


def _armhole(f: Fields) -> Array:
    return 0.5 - f.arm


def _design(
    cuts: tuple[Cut, ...], sit: Sit, sleeve: float, hem: float, depth: float, ribs: Cut | None = None,
    longest: float = 0.0215, thickness: float = 0.003,
) -> Design:  # fmt: skip
    """A top with sleeves; faces where `ribs` is negative belong to the trim panels."""
    into_sleeve = INTO_SLEEVE if 0 < sleeve < 0.3 else 0.0

    def panel(f: Fields) -> Array:
        base = np.where(f.arm > 0.5, ARM, MAIN)
        return base if ribs is None else np.where(ribs(f) < 0, base + TRIM, base)

    return Design(
        cuts=cuts,
        lines=(_armhole,) if ribs is None else (_armhole, ribs),
        panel=panel,
        charts=CHARTS,
        ease=_ease(sit, ribs),
        folds=lambda f: trunk_folds(f, depth, hem) + sleeve_folds(f, 1.1 * depth, sleeve),
        longest=longest,
        hem_thickness=thickness,
        seen_into=(lambda f: sleeve - into_sleeve - f.sleeve,) if into_sleeve else (),
    )


def _round_neck(radius: float, down: float = 0.0) -> Cut:
    return lambda f: f.neck(down) - radius


def _rib_line(neck: float, hem: float, wrist: float) -> Cut:
    """Negative in the ribs at neck, hem and wrist (pass 0, 0 or 9 for none)."""
    return lambda f: np.minimum(np.minimum(f.neck() - neck, f.y - hem), wrist - f.sleeve)


def opening(y: Array) -> Array:
    """Half-width of a blazer's V at a height."""
    return np.interp(y, [1.07, 1.16, 1.27, 1.40], [0.0, 0.016, 0.047, 0.075])


def _front(f: Fields, half: Array) -> Array:
    """Positive outside of a slit of half-width `half` down the front."""
    return np.where(f.z > 0.02, np.abs(f.x) - half, 0.1)


def _blazer_front(f: Fields) -> Array:
    """A closed front below the V, cut away round below the button."""
    below = np.interp(f.y, [0.78, 0.84, 0.92, 1.0], [0.085, 0.050, 0.016, 0.0])
    closed = (f.y < 1.07) & (f.y > 1.0)
    return np.where(closed, 0.05, _front(f, np.where(f.y >= 1.07, opening(f.y), below)))


def zip_opening(y: Array) -> Array:
    """Half-width of an open jacket at a height."""
    return np.interp(y, [0.88, 1.15, 1.42], [0.050, 0.038, 0.046])


def _jacket_front(f: Fields) -> Array:
    return _front(f, zip_opening(f.y))


def _dickey(f: Fields) -> Array:
    """What shows of a shirt under a blazer: its front, and a band around the neck."""
    return np.maximum(np.minimum(0.115 - np.abs(f.x), f.z - 0.02), 0.120 - f.neck())


def _shirt_tail(f: Fields) -> Array:
    """A hem that is round in front and behind and higher at the sides."""
    return f.y - 0.835 - 0.9 * np.clip(np.abs(f.x) - 0.09, 0.0, 0.06)


def _shoulder_ball(f: Fields) -> Array:
    return np.sqrt((np.abs(f.x) - 0.185) ** 2 + ((f.y - 1.335) / 1.12) ** 2 + (0.75 * (f.z - 0.025)) ** 2) - 0.083


T_SHIRT = _design(
    (_round_neck(0.082), lambda f: 0.175 - f.sleeve, lambda f: f.y - 0.868),
    Sit(body=0.012, arm=0.014, hang=0.88), 0.175, 0.868, 0.0055,
)  # fmt: skip
TANK_TOP = _design(
    (
        lambda f: np.minimum(f.neck(0.01) - 0.092, np.hypot(f.x / 0.085, (f.y - 1.40) / 0.095) * 0.085 - 0.085
                             + 3.0 * np.maximum(0.055 - f.z, 0)),
        lambda f: np.minimum(_shoulder_ball(f), 5 * (0.8 - f.arm)),
        lambda f: f.y - 0.865,
    ),
    Sit(body=0.008, arm=0.0, hang=0.80), 0.0, 0.865, 0.004,
)  # fmt: skip
SHIRT = _design(
    (_round_neck(0.066), lambda f: WRIST - f.sleeve, _shirt_tail),
    Sit(body=0.014, arm=0.011, hang=0.86), WRIST, 0.84, 0.0055,
    ribs=_rib_line(0.0, 0.0, WRIST - 0.055),
)  # fmt: skip
JUMPER = _design(
    (_round_neck(0.078), lambda f: WRIST - f.sleeve, lambda f: f.y - 0.882),
    Sit(body=0.016, arm=0.011, hang=0.80, chest=0.004, cuff=0.006), WRIST, 0.88, 0.0065,
    ribs=_rib_line(0.0, 0.925, WRIST - 0.055), longest=0.0235, thickness=0.005,
)  # fmt: skip
HOODIE = _design(
    (_round_neck(0.076), lambda f: WRIST - f.sleeve, lambda f: f.y - 0.866),
    Sit(body=0.022, arm=0.013, hang=0.85, chest=0.005, cuff=0.006), WRIST, 0.86, 0.0075,
    ribs=_rib_line(0.0, 0.905, WRIST - 0.055), longest=0.0235, thickness=0.005,
)  # fmt: skip
JACKET = _design(
    (_round_neck(0.070), lambda f: WRIST - f.sleeve, lambda f: f.y - 0.880, _jacket_front),
    Sit(body=0.020, arm=0.011, hang=0.85, chest=0.006, cuff=0.008, clearance=0.005), WRIST, 0.88, 0.0075,
    ribs=_rib_line(0.0, 0.935, WRIST - 0.055), longest=0.026, thickness=0.006,
)  # fmt: skip
BLAZER = _design(
    (_round_neck(0.078), lambda f: WRIST - 0.012 - f.sleeve, lambda f: f.y - 0.805, _blazer_front),
    Sit(body=0.010, arm=0.007, hang=0.88, chest=0.005), WRIST, 0.79, 0.004, longest=0.028, thickness=0.005,
)  # fmt: skip
BODICE = _design(
    (_round_neck(0.094, 0.008), lambda f: 0.125 - f.sleeve, lambda f: f.y - 0.996),
    Sit(body=0.002, arm=0.010, hang=0.45), 0.125, 0.80, 0.0035,
)  # fmt: skip

DESIGNS = {
    "t_shirt": T_SHIRT, "shirt": SHIRT, "jumper": JUMPER, "hoodie": HOODIE, "jacket": JACKET, "suit": BLAZER,
    "dress": BODICE, "tank_top": TANK_TOP,
}  # fmt: skip
WEAVES = {
    "t_shirt": ("jersey", "rib"), "shirt": ("poplin", "poplin"), "jumper": ("knit", "rib"),
    "hoodie": ("fleece", "rib"), "jacket": ("canvas", "rib"), "suit": ("wool", "wool"),
    "dress": ("poplin", "poplin"), "tank_top": ("jersey", "jersey"),
}  # fmt: skip
UNDERSHIRT = _design(
    (_round_neck(0.082), lambda f: 0.12 - f.sleeve, lambda f: f.y - 0.868),
    Sit(body=0.010, arm=0.004, hang=0.88), 0.12, 0.868, 0.004, longest=0.03,
)  # fmt: skip
"""Seen in an open jacket only."""
DRESS_SHIRT = _design(
    (_round_neck(0.066), _dickey, lambda f: f.y - 0.98),
    Sit(body=0.004, arm=0.0, hang=0.6), 0.0, 0.9, 0.002, longest=0.028,
)  # fmt: skip


@cache
def trims_of(top: str) -> dict[str, list[Trim]]:
    """Finishings of a top by material: self, contrast, button, metal."""
    if top == "t_shirt":
        return {"trim": [trims.neck_band(T_SHIRT.cloth.sheet, 0.082, 0.020)]}
    if top == "jumper":
        return {"trim": [trims.neck_band(JUMPER.cloth.sheet, 0.078, 0.024, 0.004)]}
    if top == "jacket":
        s = JACKET.cloth.sheet
        return {
            "trim": [trims.stand_collar(s, 0.070, 0.038, 0.62)],
            "metal": [trims.front_edges(s, zip_opening, 1.385, 0.885, 0.005)],
        }
    if top == "shirt":
        s = SHIRT.cloth.sheet
        return {
            "self": [
                trims.turned_collar(s, 0.066, 0.030, 0.020, 0.062),
                trims.placket(s, 1.372, 0.840),
                trims.chest_pocket(s),
            ],
            "button": [trims.button_row(s, 1.340, 0.890, 7)],
        }
    if top == "hoodie":
        s = HOODIE.cloth.sheet
        cords = [
            trims.line(trims.front_line(s, [(x, 1.375), (x * 1.15, 1.24 + 0.1 * x)], 14), 0.010, 0.0026, 6)
            for x in (0.035, -0.035)
        ]
        return {"self": [trims.hood(s, 0.076), trims.kangaroo_pocket(s)], "cord": cords}
    if top == "suit":
        s = BLAZER.cloth.sheet
        pockets = [
            trims.patch(trims.front_site(s, trims.rectangle(x - 0.05, x + 0.05, 0.925, 0.955, 4, 8)), 0.003, 0.004)
            for x in (0.105, -0.105)
        ]
        welt = trims.front_site(s, trims.rectangle(0.075, 0.145, 1.228, 1.245, 3, 8))
        return {
            "self": [
                trims.turned_collar(s, 0.080, 0.015, 0.016, 0.024, gap=0.66),
                trims.lapels(s, opening, 1.385, 1.075, 0.052),
                *pockets,
                trims.patch(welt, 0.002, 0.003),
            ],
            "button": [trims.button_row(s, 1.055, 0.99, 2, 0.010)],
        }
    if top == "dress":
        return {"belt": [trims.belt(BODICE.cloth.sheet, 1.012, 0.032)]}
    if top == "dress_shirt":
        s = DRESS_SHIRT.cloth.sheet
        return {"self": [trims.turned_collar(s, 0.066, 0.032, 0.018, 0.058)], "tie": [trims.tie(s, 1.352, 1.02)]}
    return {}


def top_design(spec: AvatarSpec) -> Design:
    """How the spec's upper garment is cut."""
    return DESIGNS[spec.top]


def make_top(spec: AvatarSpec, figure: Figure, layers: Layers) -> Worn:
    """The upper garment over what the figure already wears."""
    color, second = color_rgb(spec.top_color), color_rgb(spec.top_pattern_color)
    design = top_design(spec)
    parts: list[Part] = []
    covered = design.covered
    if spec.top == "suit":
        under = DRESS_SHIRT
        shirt = cloth_material("dress_shirt", "poplin", (0.93, 0.93, 0.92))
        parts += _wear("dress_shirt", under, figure, layers, {MAIN: shirt, ARM: shirt}, _tie_color(spec), None)
        covered = covered | under.covered
    if spec.top == "jacket":
        tee = cloth_material("undershirt", "jersey", _undershirt(color))
        parts += _wear("undershirt", UNDERSHIRT, figure, layers, {MAIN: tee, ARM: tee, TRIM: tee}, color, design)
        covered = covered | UNDERSHIRT.covered
    main, rib = WEAVES[spec.top]
    cloth = cloth_material(spec.top, main, color, spec.top_pattern, second)
    trim = cloth_material(f"{spec.top}_trim", rib, shaded(color, 0.9), *_trim_pattern(spec, second))
    materials = {MAIN: cloth, ARM: cloth, TRIM: trim, ARM_TRIM: trim}
    parts += _wear(spec.top, design, figure, layers, materials, color, None)
    return Worn(parts, covered)


def _tie_color(spec: AvatarSpec) -> Rgb:
    """The pattern's color where it stands out from shirt and suit, else wine on dark suits, navy on others."""
    if spec.top_pattern_color not in ("white", "beige", "silver", spec.top_color):
        return shaded(color_rgb(spec.top_pattern_color), 0.8)
    return (0.42, 0.07, 0.10) if color_rgb(spec.top_color)[0] < 0.45 else (0.12, 0.16, 0.30)


def _trim_pattern(spec: AvatarSpec, second: Rgb) -> tuple[str, Rgb]:
    return (spec.top_pattern, second) if spec.top == "shirt" else ("plain", second)


def _undershirt(color: Rgb) -> Rgb:
    return (0.90, 0.90, 0.89) if luminance(color) < 0.6 else (0.16, 0.17, 0.19)


def _wear(
    name: str, design: Design, figure: Figure, layers: Layers, materials: dict[int, Material], color: Rgb,
    over: Design | None,
) -> list[Part]:  # fmt: skip
    """Drape one garment, put its trims on, and make parts of one material each."""
    sheet: Sheet = design.cloth.sheet
    points = drape(design, figure, layers)
    layers.put_on(sheet, figure, points)
    panels: dict[str, tuple[Material, tuple[int, ...]]] = {}
    for panel, material in materials.items():
        old = panels.get(material.name, (material, ()))
        panels[material.name] = (material, (*old[1], panel))
    keep = ~over.covers(design) if over else None
    groups = [(n, m, p) for n, (m, p) in panels.items()]
    parts = cloth_parts(design.cloth, points, figure, "top", groups, keep)
    normals = smooth_normals(points, sheet, 1)
    for kind, found in trims_of(name).items():
        solid = join([s for trim in found for s in trim.on(points, normals)])
        label = "edging" if kind == "trim" else kind  # the cloth of the trim is a part of its own
        parts.append(solid_part(f"{name}_{label}", "top", solid, _trim_material(kind, materials, color)))
    return parts


def _trim_material(kind: str, materials: dict[int, Material], color: Rgb) -> Material:
    if kind == "self":
        return materials[MAIN]
    if kind == "belt":
        return cloth_material("belt", "leather", shaded(color, 0.35))
    if kind == "trim":
        return materials[TRIM]
    if kind == "button":
        return plain_material(
            "buttons", shaded(color, 0.35) if luminance(color) < 0.75 else (0.85, 0.83, 0.78), 0.35
        )
    if kind == "tie":
        return cloth_material("tie", "twill", color, roughness=0.5)
    if kind == "cord":
        return cloth_material("cord", "canvas", (0.88, 0.87, 0.85) if luminance(color) < 0.7 else (0.3, 0.3, 0.32))
    return plain_material("metal", (0.72, 0.72, 0.74), 0.3, 1.0)
