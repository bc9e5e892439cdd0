"""What can be said about a person: attributes, their statements, and when a statement holds.

A statement has two readings. It is *said* of people for whom it is clearly so ("old": 66 and over), and it is
*accepted* a little beyond that (62 and over), as people mean it. Both are tests on the spec, all of which must
hold. Captions use the first, evaluation the second.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from avatar3d.spec import COLORS, AvatarSpec, vector_layout


@dataclass(frozen=True)
class Choice:
    """The field has one of these choices."""

    field: str
    choices: tuple[str, ...]

    def holds(self, spec: AvatarSpec) -> bool:
        return getattr(spec, self.field) in self.choices


@dataclass(frozen=True)
class Range:
    """The field or control (`face.nose_width`) lies between these numbers, both included."""

    field: str
    low: int | float
    high: int | float

    def holds(self, spec: AvatarSpec) -> bool:
        group, _, control = self.field.partition(".")
        value = getattr(spec, group).get(control, 0.0) if control else getattr(spec, self.field)
        return self.low <= value <= self.high


Test = Choice | Range


@dataclass(frozen=True)
class Constraint:
    """Everything that one statement asks of a spec."""

    statement: str
    """`attribute.value`, for example `hat.beanie`."""
    tests: tuple[Test, ...]

    def holds(self, spec: AvatarSpec) -> bool:
        return all(test.holds(spec) for test in self.tests)


@dataclass(frozen=True)
class Statement:
    """One thing that can be said, with its strict and its lenient reading."""

    name: str
    said: tuple[Test, ...]
    accepted: tuple[Test, ...]

    @property
    def attribute(self) -> str:
        return self.name.split(".")[0]

    @property
    def constraint(self) -> Constraint:
        return Constraint(self.name, self.accepted)


def matrix(tests: tuple[Test, ...], columns: dict[str, np.ndarray]) -> np.ndarray:
    """(N,) bool: for which of N people (columns as in `population`) all tests hold."""
    holds = np.ones(len(columns["age"]), dtype=bool)
    for test in tests:
        if isinstance(test, Range):
            holds &= (columns[test.field] >= test.low) & (columns[test.field] <= test.high)
        else:
            indices = [_choices()[test.field].index(choice) for choice in test.choices]
            holds &= np.isin(columns[test.field], indices)
    return holds


@cache
def statements() -> dict[str, Statement]:
    """All statements by name, in a fixed order, grouped by attribute."""
    made = [*_ages(), *_numbers(), *_choices_said(), *_worn(), *_faces()]
    return {s.name: s for s in sorted(made, key=lambda s: s.attribute)}


@cache
def attributes() -> dict[str, tuple[str, ...]]:
    """Names of each attribute's statements."""
    grouped: dict[str, tuple[str, ...]] = {}
    for s in statements().values():
        grouped[s.attribute] = (*grouped.get(s.attribute, ()), s.name)
    return grouped


@cache
def _choices() -> dict[str, tuple[str, ...]]:
    return {e.name: e.choices for e in vector_layout() if e.choices}


def _ages() -> list[Statement]:
    ranges = {  # name: said from, to, accepted from, to
        "child": (5, 12, 5, 13.5), "teen": (13, 19, 12, 20.5), "young": (18, 30, 16, 36),
        "middle_aged": (42, 57, 38, 62), "old": (66, 95, 62, 95), "very_old": (82, 95, 76, 95),
        **{f"{d}s": (d, d + 10, d - 2.5, d + 12.5) for d in range(20, 90, 10)},
        **{f"is_{n}": (max(5, n - 0.5), min(95, n + 0.5), max(5, n - 4), min(95, n + 4)) for n in range(5, 96)},
    }  # fmt: skip
    return [_ranges(f"age.{name}", ("age", *r)) for name, r in ranges.items()]


def _numbers() -> list[Statement]:
    low, middle, high = (0.0, 0.24, 0.0, 0.37), (0.42, 0.58, 0.32, 0.68), (0.76, 1.0, 0.63, 1.0)
    return [
        _ranges("gender.man", ("gender", 0.70, 1.0, 0.65, 1.0), ("age", 18, 95, 15, 95)),
        _ranges("gender.woman", ("gender", 0.0, 0.30, 0.0, 0.35), ("age", 18, 95, 15, 95)),
        _ranges("gender.boy", ("gender", 0.70, 1.0, 0.65, 1.0), ("age", 5, 18, 5, 20.5)),
        _ranges("gender.girl", ("gender", 0.0, 0.30, 0.0, 0.35), ("age", 5, 18, 5, 20.5)),
        _ranges("gender.androgynous", ("gender", 0.42, 0.58, 0.35, 0.65)),
        _ranges("ancestry.african", ("african", 0.65, 1.0, 0.5, 1.0), ("skin_tone", 0.5, 1.0, 0.4, 1.0)),
        _ranges("ancestry.east_asian", ("asian", 0.72, 1.0, 0.6, 1.0)),
        _ranges("ancestry.european", ("european", 0.76, 1.0, 0.65, 1.0), ("skin_tone", 0.0, 0.34, 0.0, 0.42)),
        _ranges(
            "ancestry.south_asian", ("asian", 0.2, 0.5, 0.12, 0.6), ("european", 0.42, 0.75, 0.3, 0.85),
            ("skin_tone", 0.48, 0.78, 0.42, 0.9),
        ),
        _ranges(
            "ancestry.middle_eastern", ("european", 0.55, 0.88, 0.45, 0.94), ("asian", 0.0, 0.17, 0.0, 0.26),
            ("skin_tone", 0.31, 0.5, 0.24, 0.6),
        ),
        _ranges(
            "ancestry.latin_american", ("asian", 0.28, 0.6, 0.2, 0.7), ("european", 0.32, 0.66, 0.22, 0.75),
            ("skin_tone", 0.26, 0.46, 0.18, 0.56),
        ),
        _ranges("skin_tone.pale", ("skin_tone", 0.0, 0.12, 0.0, 0.18)),
        _ranges("skin_tone.light", ("skin_tone", 0.08, 0.26, 0.0, 0.34)),
        _ranges("skin_tone.olive", ("skin_tone", 0.33, 0.47, 0.26, 0.55)),
        _ranges("skin_tone.brown", ("skin_tone", 0.50, 0.68, 0.43, 0.76)),
        _ranges("skin_tone.dark", ("skin_tone", 0.72, 1.0, 0.63, 1.0)),
        _ranges("height.short", ("height", *low)),
        _ranges("height.average", ("height", *middle)),
        _ranges("height.tall", ("height", *high)),
        _ranges("weight.thin", ("weight", *low)),
        _ranges("weight.average", ("weight", *middle)),
        _ranges("weight.heavy", ("weight", *high)),
        _ranges("muscle.slight", ("muscle", *low)),
        _ranges("muscle.strong", ("muscle", *high)),
        _ranges("wrinkles.wrinkled", ("wrinkles", 0.6, 1.0, 0.48, 1.0)),
        _ranges("wrinkles.smooth", ("wrinkles", 0.0, 0.12, 0.0, 0.22)),
        _ranges("freckles.yes", ("freckles", 0.4, 1.0, 0.25, 1.0)),
        _ranges("freckles.none", ("freckles", 0.0, 0.12, 0.0, 0.2)),
        _ranges("moles.yes", ("moles", 0.35, 1.0, 0.25, 1.0)),
        _ranges("blush.rosy", ("blush", 0.55, 1.0, 0.44, 1.0)),
        _ranges("makeup.yes", ("lipstick", 0.35, 1.0, 0.2, 1.0), ("eyeshadow", 0.35, 1.0, 0.2, 1.0)),
        _ranges("makeup.none", ("lipstick", 0.0, 0.08, 0.0, 0.15), ("eyeshadow", 0.0, 0.08, 0.0, 0.15)),
        *(
            _ranges(f"{name}.{said}", (name, *r))
            for name in ("lipstick", "eyeshadow")
            for said, r in (("yes", (0.35, 1.0, 0.2, 1.0)), ("none", (0.0, 0.08, 0.0, 0.15)))
        ),
        _ranges("brows.bushy", ("brow_thickness", *high)),
        _ranges("brows.thin", ("brow_thickness", *low)),
    ]  # fmt: skip


def _choices_said() -> list[Statement]:
    hair = Choice("hair_style", tuple(h for h in _choices()["hair_style"] if h != "bald"))
    ungreyed = Range("hair_grey", 0.0, 0.35), Range("hair_grey", 0.0, 0.5)
    made = [_choice(f"eye_color.{c}", "eye_color", c) for c in _choices()["eye_color"]]
    made += [_choice(f"hair_style.{c}", "hair_style", c) for c in _choices()["hair_style"]]
    made += [_choice("hair_style.long", "hair_style", "long_straight", "long_wavy")]
    dark = ("dark", ("black", "dark_brown"))
    for name, colors in (*((c, (c,)) for c in _choices()["hair_color"]), dark):
        color = Choice("hair_color", colors)
        if name in ("grey", "white"):
            made.append(Statement(f"hair_color.{name}", (color, hair), (color, hair)))
        else:
            made.append(Statement(f"hair_color.{name}", (color, hair, ungreyed[0]), (color, hair, ungreyed[1])))
    said, accepted = Range("hair_grey", 0.25, 0.70), Range("hair_grey", 0.15, 0.82)
    made.append(Statement("hair_grey.greying", (said, hair), (accepted, hair)))
    made += [_choice(f"beard_style.{c}", "beard_style", c) for c in _choices()["beard_style"]]
    beard = Choice("beard_style", ("full", "goatee"))
    for name, said, accepted in (
        ("long", Range("beard_length", 0.68, 1.0), Range("beard_length", 0.56, 1.0)),
        ("short", Range("beard_length", 0.0, 0.30), Range("beard_length", 0.0, 0.42)),
    ):
        made.append(Statement(f"beard_length.{name}", (said, beard), (accepted, beard)))
    return made + [_choice(f"expression.{c}", "expression", c) for c in _choices()["expression"]]


def _worn() -> list[Statement]:
    every = _choices()
    some = {name: tuple(c for c in every[name] if c != "none") for name in ("glasses", "hat", "earrings")}
    glasses, hat = Choice("glasses", some["glasses"]), Choice("hat", some["hat"])
    below = Choice("top", tuple(t for t in every["top"] if t != "dress"))
    patterned = Choice("top_pattern", tuple(p for p in every["top_pattern"] if p != "plain"))
    made = [
        _choice("eyewear.none", "glasses", "none"),
        _both("eyewear.glasses", glasses, Choice("lenses", ("clear",))),
        _both("eyewear.sunglasses", glasses, Choice("lenses", ("dark",))),
        *(_choice(f"glasses.{c}", "glasses", c) for c in some["glasses"]),
        _both("hat.any", hat),
        *(_choice(f"hat.{c}", "hat", c) for c in every["hat"]),
        _both("earrings.any", Choice("earrings", some["earrings"])),
        *(_choice(f"earrings.{c}", "earrings", c) for c in every["earrings"]),
        *(_choice(f"top.{c}", "top", c) for c in every["top"]),
        *(_choice(f"top_pattern.{c}", "top_pattern", c) for c in every["top_pattern"]),
        *(_both(f"bottom.{c}", Choice("bottom", (c,)), below) for c in every["bottom"]),
        *(_choice(f"shoes.{c}", "shoes", c) for c in every["shoes"]),
    ]
    needs: dict[str, tuple[Test, ...]] = {
        "glasses_color": (glasses,), "hat_color": (hat,), "top_color": (), "top_pattern_color": (patterned,),
        "bottom_color": (below,), "shoes_color": (), "lipstick_color": (), "eyeshadow_color": (),
    }  # fmt: skip
    for attribute, tests in needs.items():
        for color in COLORS:
            name = f"{attribute}.{color}"
            said, accepted = (Choice(attribute, (color,)), *tests), (Choice(attribute, (color,)), *tests)
            if attribute in ("lipstick_color", "eyeshadow_color"):
                paint = attribute.removesuffix("_color")
                said, accepted = (*said, Range(paint, 0.35, 1.0)), (*accepted, Range(paint, 0.2, 1.0))
            made.append(Statement(name, said, accepted))
    return made


def _faces() -> list[Statement]:
    controls = {  # statement: the controls that it speaks of, with their sign
        "nose.big": "+nose_volume +nose_width", "nose.small": "-nose_volume -nose_width",
        "nose_length.long": "+nose_length", "nose_length.short": "-nose_length",
        "nose_width.wide": "+nose_width", "nose_width.narrow": "-nose_width",
        "nose_shape.hooked": "+nose_hump", "nose_shape.upturned": "+nose_tip_up",
        "mouth.wide": "+mouth_width", "mouth.small": "-mouth_width",
        "lips.full": "+upper_lip_volume +lower_lip_volume", "lips.thin": "-upper_lip_volume -lower_lip_volume",
        "jaw.square": "+chin_width +chin_bones", "jaw.pointed": "-chin_width -chin_bones",
        "chin.prominent": "+chin_forward", "chin.weak": "-chin_forward",
        "chin_cleft.yes": "+chin_cleft", "double_chin.yes": "+neck_double_chin",
        "cheek_bones.high": "+cheek_bones", "cheeks.chubby": "+cheek_volume", "cheeks.hollow": "-cheek_volume",
        "face.round": "+head_fat", "face.lean": "-head_fat", "face_length.long": "+head_height",
        "eye_size.big": "+eye_size", "eye_size.small": "-eye_size",
        "eye_spacing.wide": "+eye_spacing", "eye_spacing.close": "-eye_spacing",
        "eye_bags.yes": "+eye_bags", "ears.big": "+ear_size", "ears.small": "-ear_size",
        "ear_wing.out": "+ear_wing",
        "forehead.high": "+forehead_height", "forehead.low": "-forehead_height",
        "neck.thick": "+neck_width", "neck.thin": "-neck_width",
    }  # fmt: skip
    limbs = {
        "belly.big": "+belly", "belly.flat": "-belly", "shoulders.broad": "+shoulder_width",
        "shoulders.narrow": "-shoulder_width", "hips.wide": "+hips", "hips.narrow": "-hips",
        "legs.long": "+leg_length", "legs.short": "-leg_length", "hands.big": "+hand_size",
        "hands.small": "-hand_size", "feet.big": "+foot_size", "feet.small": "-foot_size",
    }  # fmt: skip
    made = []
    for group, table in (("face", controls), ("body", limbs)):
        for name, signed in table.items():
            names = signed.split()
            said, accepted = (0.36, 0.18) if len(names) == 1 else (0.25, 0.08)
            ranges = [
                (f"{group}.{n[1:]}", said, 1.0, accepted, 1.0)
                if n[0] == "+"
                else (f"{group}.{n[1:]}", -1.0, -said, -1.0, -accepted)
                for n in names
            ]
            made.append(_ranges(name, *ranges))
    return made


def _ranges(name: str, *tests: tuple[str, int | float, int | float, int | float, int | float]) -> Statement:
    said = tuple(Range(field, low, high) for field, low, high, _, _ in tests)
    accepted = tuple(Range(field, low, high) for field, _, _, low, high in tests)
    return Statement(name, said, accepted)


def _choice(name: str, field: str, *choices: str) -> Statement:
    return _both(name, Choice(field, choices))


def _both(name: str, *tests: Test) -> Statement:
    return Statement(name, tests, tests)
