"""TalkingHead, made for Ready Player Me's avatars, takes our `rpm` files as they are: poses, gestures, visemes.

Its poses are rotations of Mixamo bones about their own axes: they look right only if ours have the same axes.
"""

from __future__ import annotations

import numpy as np
import pytest
from programs import results, run_in_browser

from avatar3d.body.visemes import READY_PLAYER_ME

pytestmark = pytest.mark.xdist_group("importers")
BONES = ("Hips", "Head", *(f"{side}{bone}" for side in ("Left", "Right") for bone in ("Arm", "Hand", "Foot")))
VISEMES = ("viseme_aa", "viseme_PP", "viseme_O")


@pytest.fixture(scope="module")
def performance(files):
    case = next(case for case in files if case.profile.name == "rpm")
    argument = {"file": str(case.path), "bones": BONES, "visemes": VISEMES, "seconds": 2.5}
    answers = run_in_browser("talkinghead_page.js", [{"function": "perform", "argument": argument}], 200, 300)
    assert answers[0]["warnings"] == []
    return results(answers)[0]


def test_all_shapes_are_there(performance):
    assert set(READY_PLAYER_ME) <= set(performance["shapes"])


def test_stands_upright_with_hanging_arms(performance):
    at = {bone: np.array(place) for bone, place in performance["standing"].items()}
    assert at["Head"][1] > at["LeftArm"][1] > at["Hips"][1] > at["LeftFoot"][1] > 0
    for side, sign in (("Left", 1), ("Right", -1)):
        arm = at[f"{side}Hand"] - at[f"{side}Arm"]
        assert arm[1] < -0.9 * np.linalg.norm(arm)
        assert 0.1 < sign * at[f"{side}Hand"][0] < 0.5
        assert sign * at[f"{side}Foot"][0] > 0.02
    assert abs(at["LeftFoot"][1] - at["RightFoot"][1]) < 0.05


def test_raises_a_hand(performance):
    """The left one alone; the other idles, how far depends on how many frames the browser gets to draw."""
    raised = performance["handUp"]
    assert raised["LeftHand"][1] > raised["LeftArm"][1]
    assert raised["LeftHand"][2] > 0.1
    assert raised["RightHand"][1] < raised["RightArm"][1] - 0.2


def test_visemes_reach_all_that_they_move(performance):
    for viseme in VISEMES:
        reached = performance["visemes"][viseme]
        assert {"Wolf3D_Head", "Wolf3D_Teeth"} <= set(reached)
        assert all(weight > 0.9 for weight in reached.values()), (viseme, reached)
