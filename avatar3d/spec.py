"""AvatarSpec: an avatar as named, readable numbers and choices (the latent z of the cascade).

A spec is the interface between language and geometry: the text model samples one, people edit one by hand,
the engine builds one. It converts to and from JSON, and to and from a flat vector in which numbers are scaled
to [-1, 1] and choices are one-hot.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from typing import Any

import numpy as np

from avatar3d.errors import InputError

HAIR_STYLES = (
    "bald", "balding", "buzz", "short", "side_part", "quiff", "bob", "long_straight", "long_wavy", "curly",
    "afro", "ponytail", "bun", "braids", "mohawk", "dreadlocks",
)  # fmt: skip
HAIR_COLORS = (
    "black", "dark_brown", "brown", "light_brown", "auburn", "red", "blonde", "platinum", "grey", "white",
    "blue", "pink", "green", "purple",
)  # fmt: skip
BEARD_STYLES = ("none", "stubble", "moustache", "goatee", "full")
EYE_COLORS = ("brown", "dark_brown", "hazel", "amber", "green", "blue", "grey")
GLASSES_SHAPES = ("none", "round", "square", "rectangular", "cat_eye", "aviator")
LENSES = ("clear", "dark")
HATS = ("none", "beanie", "cap", "fedora", "headscarf")
TOPS = ("t_shirt", "shirt", "jumper", "hoodie", "jacket", "suit", "dress", "tank_top")
BOTTOMS = ("trousers", "jeans", "shorts", "skirt")
SHOES = ("trainers", "boots", "dress_shoes", "sandals")
PATTERNS = ("plain", "stripes", "checks", "dots")
EARRINGS = ("none", "studs", "hoops")
EXPRESSIONS = ("neutral", "smile", "sad", "angry", "surprised")
COLORS = (
    "black", "white", "grey", "red", "orange", "yellow", "green", "teal", "blue", "navy", "purple", "pink",
    "brown", "beige", "gold", "silver",
)  # fmt: skip

FACE_CONTROLS = (
    "head_fat", "head_height", "head_width", "head_depth", "head_back", "forehead_temple", "forehead_forward",
    "forehead_height", "forehead_slope", "brow_angle", "brow_height", "brow_ridge",
    "eye_size", "eye_height_inner", "eye_height_middle", "eye_height_outer", "eye_corner_inner",
    "eye_corner_outer", "eye_depth_inner", "eye_depth_outer", "eye_vertical", "eye_spacing", "eye_bags",
    "eye_fold", "eye_fold_angle", "eye_epicanthus",
    "nose_width", "nose_length", "nose_depth", "nose_bridge_width", "nose_middle_width", "nose_tip_width",
    "nose_hump", "nose_tip_up", "nose_tip_size", "nose_flare", "nose_curve", "nose_greek", "nose_base",
    "nose_vertical", "nose_volume", "nostril_width",
    "cheek_bones", "cheek_volume", "cheek_inner", "cheek_height",
    "mouth_width", "mouth_height", "upper_lip_volume", "lower_lip_volume", "upper_lip_height",
    "lower_lip_height", "cupids_bow", "mouth_corners", "mouth_vertical", "mouth_forward", "laugh_lines",
    "chin_width", "chin_height", "chin_forward", "chin_bones", "chin_cleft", "jaw_prognathism", "jaw_drop",
    "ear_size", "ear_wing", "ear_lobe", "ear_tilt", "neck_width", "neck_double_chin",
)  # fmt: skip
"""Signed face and head controls in [-1, 1]; 0 is the face that phenotype alone gives."""

BODY_CONTROLS = (
    "shoulder_width", "waist", "hips", "belly", "chest", "back_width", "torso_v_shape", "buttocks",
    "leg_length", "arm_length", "hand_size", "foot_size",
)  # fmt: skip
"""Signed body controls in [-1, 1]."""

Number = int | float


class SpecError(InputError, ValueError):
    """A spec that can not be built, with the field's name and the remedy in its message."""


def _number(default: float, low: float, high: float, meaning: str) -> Any:
    return field(default=default, metadata={"low": low, "high": high, "meaning": meaning})


def _choice(default: str, choices: tuple[str, ...], meaning: str) -> Any:
    return field(default=default, metadata={"choices": choices, "meaning": meaning})


def _controls(names: tuple[str, ...], meaning: str) -> Any:
    return field(default_factory=dict, metadata={"controls": names, "meaning": meaning})


@dataclass(frozen=True)
class AvatarSpec:
    """Everything that says who an avatar is. Two equal specs build byte-identical avatars.

    Raises `SpecError` when a value is of the wrong type, out of range or not among its choices.
    """

    seed: int = field(default=0, metadata={"meaning": "drives what the spec leaves open"})
    age: Number = _number(35.0, 5.0, 95.0, "years")
    gender: Number = _number(0.5, 0.0, 1.0, "0 woman, 1 man")
    height: Number = _number(0.5, 0.0, 1.0, "short to tall for age and gender")
    weight: Number = _number(0.5, 0.0, 1.0, "thin to heavy")
    muscle: Number = _number(0.5, 0.0, 1.0, "slight to muscular")
    proportions: Number = _number(0.5, 0.0, 1.0, "uncommon to ideal proportions")
    bust: Number = _number(0.5, 0.0, 1.0, "bust size of women")
    african: Number = _number(0.33, 0.0, 1.0, "share of African ancestry (shape)")
    asian: Number = _number(0.33, 0.0, 1.0, "share of Asian ancestry (shape)")
    european: Number = _number(0.33, 0.0, 1.0, "share of European ancestry (shape)")
    skin_tone: Number = _number(0.35, 0.0, 1.0, "very light to very dark")
    skin_warmth: Number = _number(0.5, 0.0, 1.0, "cool, rosy to warm, golden undertone")
    wrinkles: Number = _number(0.2, 0.0, 1.0, "smooth to deeply lined")
    freckles: Number = _number(0.0, 0.0, 1.0, "none to many")
    moles: Number = _number(0.1, 0.0, 1.0, "none to many")
    blush: Number = _number(0.3, 0.0, 1.0, "pale to rosy cheeks")
    lipstick: Number = _number(0.0, 0.0, 1.0, "bare to opaque")
    lipstick_color: str = _choice("red", COLORS, "lipstick")
    eyeshadow: Number = _number(0.0, 0.0, 1.0, "bare to opaque")
    eyeshadow_color: str = _choice("brown", COLORS, "eye shadow")
    eye_color: str = _choice("brown", EYE_COLORS, "iris")
    brow_thickness: Number = _number(0.5, 0.0, 1.0, "thin to bushy")
    hair_style: str = _choice("short", HAIR_STYLES, "hair")
    hair_color: str = _choice("brown", HAIR_COLORS, "hair, brows and beard")
    hair_grey: Number = _number(0.0, 0.0, 1.0, "share of grey strands")
    hair_length: Number = _number(0.5, 0.0, 1.0, "short to long for the style")
    beard_style: str = _choice("none", BEARD_STYLES, "beard")
    beard_length: Number = _number(0.4, 0.0, 1.0, "trimmed to long")
    glasses: str = _choice("none", GLASSES_SHAPES, "frame shape")
    glasses_color: str = _choice("black", COLORS, "frame")
    lenses: str = _choice("clear", LENSES, "clear glasses or sunglasses")
    hat: str = _choice("none", HATS, "headwear")
    hat_color: str = _choice("grey", COLORS, "headwear")
    earrings: str = _choice("none", EARRINGS, "earrings")
    top: str = _choice("t_shirt", TOPS, "upper garment")
    top_color: str = _choice("blue", COLORS, "upper garment")
    top_pattern: str = _choice("plain", PATTERNS, "upper garment")
    top_pattern_color: str = _choice("white", COLORS, "second colour of the pattern")
    bottom: str = _choice("trousers", BOTTOMS, "lower garment; not worn with a dress")
    bottom_color: str = _choice("navy", COLORS, "lower garment")
    shoes: str = _choice("trainers", SHOES, "shoes")
    shoes_color: str = _choice("white", COLORS, "shoes")
    expression: str = _choice("neutral", EXPRESSIONS, "the face the avatar wears by default")
    face: dict[str, Number] = _controls(FACE_CONTROLS, "face and head shape; an absent control is 0")
    body: dict[str, Number] = _controls(BODY_CONTROLS, "body shape; an absent control is 0")

    def __post_init__(self) -> None:
        for f in fields(self):
            _check(f.name, getattr(self, f.name), f.metadata)
        if self.african + self.asian + self.european <= 0:
            raise SpecError("african, asian and european are all 0: raise at least one of them above 0")


def _check(name: str, value: object, rule: Mapping) -> None:
    if name == "seed":
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
            raise SpecError(f"seed must be a whole number from 0 to 2**63 - 1, got {_short(value)}")
    elif "choices" in rule:
        if value not in rule["choices"]:
            raise SpecError(f"{name} is {_short(value)}; {nearest_choice(value, rule['choices'])}")
    elif "controls" in rule:
        if not isinstance(value, dict):
            raise SpecError(f"{name} must map control names to numbers in [-1, 1], got {_short(value)}")
        for control, amount in value.items():
            if control not in rule["controls"]:
                raise SpecError(
                    f"{name} has no control {_short(control)}; {nearest_choice(control, rule['controls'])}"
                )
            _check_number(f"{name}.{control}", amount, -1.0, 1.0)
    else:
        _check_number(name, value, rule["low"], rule["high"])


def _check_number(name: str, value: object, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value:
        raise SpecError(f"{name} must be a number from {low:g} to {high:g}, got {_short(value)}")
    if not low <= value <= high:
        raise SpecError(f"{name} is {_short(value)}, outside {low:g} to {high:g}")


def _short(value: object) -> str:
    """`value` as it may stand in a message: at most about forty characters."""
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:32]} ... ({len(text)} characters)"


def nearest_choice(value: object, choices: tuple[str, ...]) -> str:
    """What a message says after a value that is not among the choices."""
    near = difflib.get_close_matches(str(value), choices, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{hint}choose one of: {', '.join(choices)}"


def spec_to_json(spec: AvatarSpec) -> str:
    """Indented JSON with every field, in declaration order."""
    return json.dumps(asdict(spec), indent=2)


def spec_from_json(text: str) -> AvatarSpec:
    """Parse and validate; absent fields take their defaults. Raises `SpecError` on anything else."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError also for whole numbers of thousands of digits
        raise SpecError(f"not valid JSON: {error}") from error
    if not isinstance(values, dict):
        raise SpecError("a spec is a JSON object of field names and values")
    rules = {f.name: f.metadata for f in fields(AvatarSpec)}
    for name, value in values.items():
        if name not in rules:
            raise SpecError(f"unknown field {_short(name)}; {nearest_choice(name, tuple(rules))}")
        _check(name, value, rules[name])
        if "low" in rules[name]:
            values[name] = float(value)
        elif "controls" in rules[name]:
            values[name] = {control: float(amount) for control, amount in value.items()}
    return AvatarSpec(**values)


@dataclass(frozen=True)
class VectorEntry:
    """Where one field or control sits in the spec vector."""

    name: str
    """Field name, or `face.control`, `body.control`."""
    start: int
    size: int
    low: float = -1.0
    high: float = 1.0
    choices: tuple[str, ...] = ()


@cache
def vector_layout() -> tuple[VectorEntry, ...]:
    """All entries of the spec vector in order (the seed is not part of it)."""
    entries: list[VectorEntry] = []
    start = 0
    for f in fields(AvatarSpec):
        rule = f.metadata
        if f.name == "seed":
            continue
        if "controls" in rule:
            new = [VectorEntry(f"{f.name}.{c}", start + i, 1) for i, c in enumerate(rule["controls"])]
        elif "choices" in rule:
            new = [VectorEntry(f.name, start, len(rule["choices"]), choices=rule["choices"])]
        else:
            new = [VectorEntry(f.name, start, 1, rule["low"], rule["high"])]
        entries += new
        start = new[-1].start + new[-1].size
    return tuple(entries)


def vector_size() -> int:
    """Length of the spec vector."""
    last = vector_layout()[-1]
    return last.start + last.size


def spec_to_vector(spec: AvatarSpec) -> np.ndarray:
    """(D,) float32: numbers scaled from their range to [-1, 1], choices one-hot in {-1, 1}."""
    vector = np.full(vector_size(), -1.0, dtype=np.float32)
    for e in vector_layout():
        value = _get(spec, e.name)
        if e.choices:
            vector[e.start + e.choices.index(value)] = 1.0
        else:
            vector[e.start] = 2.0 * (value - e.low) / (e.high - e.low) - 1.0
    return vector


def spec_from_vector(vector: np.ndarray, seed: int) -> AvatarSpec:
    """Nearest valid spec: numbers are clipped to their range, choices take their largest entry."""
    if vector.shape != (vector_size(),):
        raise SpecError(f"a spec vector has shape ({vector_size()},), got {vector.shape}")
    if not np.isfinite(vector).all():
        raise SpecError("the spec vector has entries that are not finite")
    values: dict = {"seed": seed, "face": {}, "body": {}}
    for e in vector_layout():
        if e.choices:
            values[e.name] = e.choices[int(np.argmax(vector[e.start : e.start + e.size]))]
            continue
        share = float(np.clip((vector[e.start] + 1.0) / 2.0, 0.0, 1.0))
        number = round(e.low + share * (e.high - e.low), 4)
        if "." in e.name:
            group, control = e.name.split(".")
            values[group][control] = number
        else:
            values[e.name] = number
    if values["african"] + values["asian"] + values["european"] <= 0:
        values["european"] = 1.0
    return AvatarSpec(**values)


def _get(spec: AvatarSpec, name: str):
    if "." in name:
        group, control = name.split(".")
        return getattr(spec, group).get(control, 0.0)
    return getattr(spec, name)
