"""Composed face shapes: names, linearity, which parts carry them, the tongue."""

import dataclasses

import pytest
import torch

from avatar3d.body.template import load_template
from avatar3d.body.visemes import (
    ARKIT,
    COMPOSED,
    READY_PLAYER_ME,
    TONGUE,
    VRM_PRESETS,
    FaceShapeError,
    actions_of,
    bent_tongue,
    with_composed,
    with_every_shape,
)
from avatar3d.engine.build import build_avatar
from avatar3d.spec import AvatarSpec


@pytest.fixture(scope="module")
def plain():
    return build_avatar(AvatarSpec(gender=1.0, beard_style="full", glasses="round", seed=4))


@pytest.fixture(scope="module")
def composed(plain):
    return with_composed(plain, keep_still=("head_skin",))


def part(avatar, name):
    return next(p for p in avatar.parts if p.name == name)


def test_names_are_those_of_the_importers():
    assert sorted(ARKIT) == sorted(load_template().action_names)
    assert len(READY_PLAYER_ME) == len(set(READY_PLAYER_ME)) == 72
    assert sum(name.startswith("viseme_") for name in COMPOSED) == 15
    assert len(VRM_PRESETS) == 18
    for weights in (*COMPOSED.values(), *VRM_PRESETS.values()):
        assert set(weights) <= set(ARKIT)
        assert all(0 < w <= 1 for w in weights.values())


def test_a_composed_shape_is_the_sum_of_its_actions(plain, composed):
    for before, after in zip(plain.parts, composed.parts, strict=True):
        if before.morphs is None:
            continue
        own = dict(zip(before.morphs.names, before.morphs.deltas, strict=True))
        made = dict(zip(after.morphs.names, after.morphs.deltas, strict=True))
        for name, weights in COMPOSED.items():
            total = torch.zeros_like(before.mesh.vertices)
            total = sum((w * own[a] for a, w in weights.items() if a in own), total)
            if before.kind == "tongue" and name in TONGUE:
                total = total + bent_tongue(before.mesh, TONGUE[name])
            if total.abs().max() > 0:
                torch.testing.assert_close(made[name], total, rtol=0, atol=1e-7)
            else:
                assert name not in made or made[name].abs().max() == 0


def test_parts_have_what_moves_them_and_the_head_has_all(composed):
    names = {p.name: p.morphs.names for p in composed.parts if p.morphs}
    assert names["head_skin"][-20:] == tuple(COMPOSED)
    assert len(names["head_skin"]) == 71  # tongueOut moves no skin
    assert {"viseme_aa", "mouthOpen"} <= set(names["teeth_lower"])
    assert {"viseme_aa", "viseme_DD", "viseme_TH"} <= set(names["tongue"])
    assert {"eyesClosed", "eyesLookUp"} <= set(names["lashes"]) & set(names["eye_shadows"])
    assert {"eyesLookUp", "eyesLookDown"} == set(names["eyes"]) & set(COMPOSED)
    assert {"viseme_PP", "mouthSmile"} <= set(names["beard"]) & set(names["beard_stubble"])
    assert "eyesClosed" not in names["teeth_lower"] and "viseme_sil" not in names["teeth_lower"]


def test_every_shape_gives_one_list_in_one_order(composed):
    full = with_every_shape(composed, ("head_skin", "teeth_upper", "teeth_lower"))
    for name in ("head_skin", "teeth_upper", "teeth_lower"):
        assert part(full, name).morphs.names == READY_PLAYER_ME
    few, all_72 = (
        dict(zip(p.morphs.names, p.morphs.deltas, strict=True))
        for p in (part(composed, "teeth_lower"), part(full, "teeth_lower"))
    )
    assert torch.equal(few["jawOpen"], all_72["jawOpen"])
    assert not part(full, "teeth_upper").morphs.deltas.any()
    assert part(full, "tongue") is part(composed, "tongue")


def test_composing_twice_changes_nothing(composed):
    again = with_composed(composed, keep_still=("head_skin",))
    assert all(a is b for a, b in zip(again.parts, composed.parts, strict=True))


def test_actions_of_an_expression_add_up():
    mixed = actions_of({"viseme_aa": 0.5, "jawOpen": 0.1})
    assert mixed["jawOpen"] == pytest.approx(0.5 * COMPOSED["viseme_aa"]["jawOpen"] + 0.1)
    assert actions_of({"viseme_sil": 1.0}) == {}


def test_unknown_shapes_are_refused(plain):
    with pytest.raises(FaceShapeError, match="viseme_XX"):
        with_composed(plain, names=("viseme_XX",))
    with pytest.raises(FaceShapeError, match="smirk"):
        actions_of({"smirk": 1.0})


def test_parts_without_shapes_keep_none(plain):
    bare = dataclasses.replace(plain, parts=tuple(dataclasses.replace(p, morphs=None) for p in plain.parts))
    assert all(p.morphs is None or p.kind == "tongue" for p in with_composed(bare).parts)
