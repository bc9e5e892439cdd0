"""Other clothes, hair, glasses for a person who stays the same.

Body, face and skin do not know what is worn: a changed spec gives the same ones, byte for byte. What depends on a
changed part changes with it: skin that it hides, hair under a hat, cloth over other cloth, and the height of
everything over the soles of the shoes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from functools import cache
from typing import Any

from avatar3d.engine.build import build_avatar
from avatar3d.engine.wordings import wordings
from avatar3d.spec import AvatarSpec, SpecError, nearest_choice
from avatar3d.structures import Avatar

GARMENTS = ("top", "bottom", "shoes", "hat", "glasses", "hair_style")
"""What can be changed and has a color of its own; `hair` and `beard` may be said for the styles."""
OTHERS = ("beard_style", "earrings", "lenses", "top_pattern", "top_pattern_color")
AMOUNTS = ("hair_length", "hair_grey", "beard_length")
"""Numbers from 0 to 1."""
SHORT = {
    "hair": "hair_style",
    "beard": "beard_style",
    "pattern": "top_pattern",
    "pattern_color": "top_pattern_color",
}
NOTHING = {"hat": "none", "glasses": "none", "earrings": "none", "beard_style": "none", "hair_style": "bald",
           "top_pattern": "plain"}  # fmt: skip


def dressed(spec: AvatarSpec, changes: Mapping[str, str | float]) -> AvatarSpec:
    """The spec with other things worn: `{"top": "hoodie", "color": "red", "hair": "bob"}`.

    Keys are fields (`top`, `top_color`, `hair_style` ...) or their short names; `color` is that of the one garment
    that is changed. Values are choices or their usual names ("sweater", "gray", "plaits"); "none" takes off what
    one can go without. British and American spelling are equal.

    Raises `SpecError`: a key or value that does not exist, nothing to change, a color without one garment to have
    it, a lower garment under a dress, hair under a headscarf.
    """
    if not changes:
        raise SpecError(f"nothing to change: give at least one of {', '.join(keys())}")
    said = {_field(key): value for key, value in changes.items()}
    if "color" in said:
        said[_color_field(said)] = said.pop("color")
    values: dict[str, Any] = {field: _value(field, value) for field, value in said.items()}
    new = replace(spec, **values)
    if new.top == "dress" and "bottom" in said:
        raise SpecError("nothing is worn below a dress: change the top as well, for example to a t_shirt")
    if new.hat == "headscarf" and {"hair_style", "hair_color", "hair_length"} & set(said):
        raise SpecError("the headscarf hides the hair: take it off as well with hat none")
    return new


def dress(avatar: Avatar, changes: Mapping[str, str | float]) -> Avatar:
    """The avatar with other things worn (see `dressed`).

    Raises `SpecError` as `dressed`, and for an avatar of another program: our garments are cut from our body.
    """
    if avatar.spec is None:
        raise SpecError(
            "this avatar was not made by avatar3d: its file says nothing about the body that clothes and hair are "
            "cut from. Use an avatar.glb or spec.json of `avatar3d generate`"
        )
    return build_avatar(dressed(avatar.spec, changes))


def keys() -> tuple[str, ...]:
    """All keys of `dressed` but for the short names."""
    colors = tuple(f"{_stem(garment)}_color" for garment in GARMENTS)
    return ("color", *GARMENTS, *colors, *OTHERS, *AMOUNTS)


def _stem(garment: str) -> str:
    return garment.removesuffix("_style")


def _field(key: str) -> str:
    plain = key.strip().lower().replace("-", "_").replace(" ", "_").replace("colour", "color")
    field = SHORT.get(plain, plain)
    if field not in keys():
        raise SpecError(f"can not change {key!r}; {nearest_choice(field, keys())}")
    return field


def _color_field(said: Mapping[str, object]) -> str:
    taken_off = {garment for garment in GARMENTS if str(said.get(garment)).strip().lower() == "none"}
    garments = [garment for garment in GARMENTS if garment in said and garment not in taken_off]
    if len(garments) != 1:
        what = f"{', '.join(garments)} are changed" if garments else "no garment is changed"
        raise SpecError(f"color belongs to one garment and {what}: say which, for example top_color")
    return f"{_stem(garments[0])}_color"


def _value(field: str, value: str | float) -> str | float:
    if field in AMOUNTS:
        try:
            return float(value)
        except ValueError as error:
            raise SpecError(f"{field} must be a number from 0 to 1, got {value!r}") from error
    word = str(value).strip().lower()
    choices = _choices(field)
    name = word.replace("-", "_").replace(" ", "_")
    if name in choices:
        return name
    if name == "none":
        if field in NOTHING:
            return NOTHING[field]
        raise SpecError(f"{_stem(field)} can not be none; {nearest_choice(name, choices)}")
    found = [choice for choice in choices if word.replace("-", " ").replace("_", " ") in _names(field, choice)]
    if not found:
        raise SpecError(f"{field} is {value!r}; {nearest_choice(name, choices)}")
    return found[0]


@cache
def _choices(field: str) -> tuple[str, ...]:
    return next(f.metadata["choices"] for f in fields(AvatarSpec) if f.name == field)


@cache
def _names(field: str, choice: str) -> frozenset[str]:
    """What a choice is called in captions."""
    block = f"{'color' if field.endswith('_color') and field != 'hair_color' else field}.{choice}"
    roles = wordings().get(block, {}).values()
    return frozenset(w.lstrip("*").replace("-", " ") for r in roles for s in r.values() for w in s)
