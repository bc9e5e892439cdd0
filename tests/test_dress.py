"""Swapping what is worn: the person stays the same, byte for byte."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import cycle, islice

import numpy as np
import pytest
import torch

from avatar3d.engine.build import build_avatar
from avatar3d.engine.dress import dress, dressed
from avatar3d.engine.shoes import sole_height
from avatar3d.spec import (
    BEARD_STYLES,
    BOTTOMS,
    EARRINGS,
    GLASSES_SHAPES,
    HAIR_STYLES,
    HATS,
    SHOES,
    TOPS,
    AvatarSpec,
    SpecError,
)
from avatar3d.structures import Avatar, Part

PERSON = AvatarSpec(
    seed=5, gender=0.4, hair_style="long_wavy", glasses="round", earrings="hoops", beard_style="goatee",
    top="shirt", bottom="jeans", shoes="dress_shoes", hat="cap", freckles=0.5, moles=0.6, lipstick=0.4,
)  # fmt: skip
CHOICES = {
    "top": TOPS, "bottom": BOTTOMS, "shoes": SHOES, "hat": HATS, "glasses": GLASSES_SHAPES,
    "hair_style": HAIR_STYLES, "beard_style": BEARD_STYLES, "earrings": EARRINGS,
}  # fmt: skip
DEPENDENTS = {
    "top": {"top", "bottom"}, "bottom": {"bottom", "top"}, "shoes": {"shoes", "bottom", "top"},
    "hat": {"hat", "hair"}, "glasses": {"glasses"}, "hair_style": {"hair"}, "beard_style": {"beard"},
    "earrings": {"jewellery"},
}  # fmt: skip
"""Kinds of parts that may change with a field; the skin may lose or regain hidden faces."""
LAYERS = (("top", "bottom", "shoes", "glasses"), ("hat", "hair_style", "beard_style", "earrings"))
"""Fields that are swapped together, so that each choice is built once."""


@cache
def original() -> Avatar:
    return build_avatar(PERSON)


def unlifted(part: Part, spec: AvatarSpec) -> torch.Tensor:
    return part.mesh.vertices - torch.tensor([0.0, sole_height(spec), 0.0])


def corners(part: Part) -> np.ndarray:
    """(V,) a name for each vertex of a skin part: its texture coordinates' bytes."""
    return np.ascontiguousarray(part.mesh.uv.numpy()).view(np.int64).reshape(-1)


def check_skin(old: Part, new: Part, new_spec: AvatarSpec) -> None:
    """What both show of the skin is equal."""
    _, one, two = np.intersect1d(corners(old), corners(new), return_indices=True)
    assert len(one) > 0.4 * min(len(old.mesh.uv), len(new.mesh.uv))
    assert (unlifted(old, PERSON)[one] - unlifted(new, new_spec)[two]).abs().max() < 3e-7
    assert torch.equal(old.mesh.normals[one], new.mesh.normals[two])
    assert torch.equal(old.skin.joints[one], new.skin.joints[two])
    assert torch.equal(old.skin.weights[one], new.skin.weights[two])
    assert old.morphs is not None and new.morphs is not None and old.morphs.names == new.morphs.names
    assert torch.equal(old.morphs.deltas[:, one], new.morphs.deltas[:, two])


def textures(part: Part) -> list[bytes]:
    m = part.mesh.material
    return [t.numpy().tobytes() for t in (m.base_color_texture, m.normal_texture, m.orm_texture) if t is not None]


def check_same_person(new: Avatar, fields: tuple[str, ...]) -> None:
    assert new.spec is not None
    free = set().union(*(DEPENDENTS[f] for f in fields))
    before = {p.name: p for p in original().parts}
    after = {p.name: p for p in new.parts}
    up = torch.tensor([0.0, sole_height(new.spec) - sole_height(PERSON), 0.0])
    moved = new.skeleton.positions[1:55] - original().skeleton.positions[1:55] - up
    assert moved.abs().max() < 3e-7
    for name in before.keys() | after.keys():
        kind = (before.get(name) or after[name]).kind
        if kind in free:
            continue
        old, part = before[name], after[name]
        assert "shoes" in fields or torch.equal(old.mesh.vertices, part.mesh.vertices) or kind == "body"
        if kind == "body":
            check_skin(old, part, new.spec)
            if not {"hair_style", "beard_style"} & set(fields):
                assert textures(old) == textures(part)
        else:
            assert (unlifted(old, PERSON) - unlifted(part, new.spec)).abs().max() < 3e-7
            for array in ("faces", "normals", "uv"):
                assert torch.equal(getattr(old.mesh, array), getattr(part.mesh, array)), (name, array)
            assert torch.equal(old.skin.weights, part.skin.weights) and torch.equal(
                old.skin.joints, part.skin.joints
            )
            assert textures(old) == textures(part)
            assert (old.morphs is None) == (part.morphs is None)
            if old.morphs is not None:
                assert torch.equal(old.morphs.deltas, part.morphs.deltas)


@pytest.mark.parametrize("fields", LAYERS, ids="+".join)
def test_the_person_is_the_same_in_other_things(fields: tuple[str, ...]) -> None:
    count = max(len(CHOICES[f]) for f in fields)
    for values in islice(zip(*(cycle(CHOICES[f]) for f in fields), strict=True), count):
        check_same_person(build_avatar(replace(PERSON, **dict(zip(fields, values, strict=True)))), fields)


def test_hair_of_another_style_leaves_the_skin_as_it_is() -> None:
    new = dress(original(), {"hair": "ponytail"})
    before, after = ({p.name: textures(p) for p in a.parts if p.kind == "body"} for a in (original(), new))
    assert before == after


def test_shoes_move_the_shirt_by_less_than_a_tenth_of_a_millimeter() -> None:
    new = build_avatar(replace(PERSON, shoes="boots"))
    one, two = (next(p for p in a.parts if p.name == "shirt") for a in (original(), new))
    assert (unlifted(one, PERSON) - unlifted(two, new.spec)).abs().max() < 1e-4


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"top": "hoodie", "colour": "red"}, {"top": "hoodie", "top_color": "red"}),
        ({"top": "sweater", "top_colour": "gray"}, {"top": "jumper", "top_color": "grey"}),
        ({"bottom": "pants", "shoes": "sneakers"}, {"bottom": "trousers", "shoes": "trainers"}),
        ({"hair": "plaits", "hair-color": "ginger"}, {"hair_style": "braids", "hair_color": "red"}),
        ({"hair": "none", "beard": "Full"}, {"hair_style": "bald", "beard_style": "full"}),
        ({"glasses": "cat-eye", "lenses": "dark"}, {"glasses": "cat_eye", "lenses": "dark"}),
        (
            {"hat": "none", "earrings": "none", "glasses": "none"},
            {"hat": "none", "earrings": "none", "glasses": "none"},
        ),
        ({"hair_length": "0.8"}, {"hair_length": 0.8}),
    ],
)
def test_words_for_what_is_worn(changes: dict, expected: dict) -> None:
    assert dressed(PERSON, changes) == replace(PERSON, **expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "nothing to change"),
        ({"tpo": "shirt"}, "can not change 'tpo'; did you mean 'top'"),
        ({"age": 3}, "can not change 'age'"),
        ({"top": "hodie"}, "did you mean 'hoodie'"),
        ({"shoes": "none"}, "shoes can not be none; choose one of"),
        ({"color": "red"}, "no garment is changed: say which"),
        ({"top": "shirt", "hat": "cap", "color": "red"}, "top, hat are changed: say which"),
        ({"top": "dress", "bottom": "skirt"}, "change the top as well"),
        ({"hat": "headscarf", "hair": "bob"}, "take it off"),
        ({"hair_length": "long"}, "number from 0 to 1"),
        ({"hair_length": 2}, "outside 0 to 1"),
    ],
)
def test_what_can_not_be_worn_is_said(changes: dict, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        dressed(PERSON, changes)


def test_bodies_of_other_programs_can_not_wear_our_clothes() -> None:
    with pytest.raises(SpecError, match="not made by avatar3d"):
        dress(replace(original(), spec=None), {"top": "hoodie"})
