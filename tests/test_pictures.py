"""What the cameras of an avatar's pictures frame."""

import math

import pytest
import torch

from avatar3d.camera import project
from avatar3d.engine.build import build_avatar
from avatar3d.pictures import FULL_MARGIN, HEADROOM, pose_for_pictures, view_camera
from avatar3d.spec import AvatarSpec

TURNS = [2 * math.pi * n / 12 for n in range(12)]


@pytest.fixture(scope="module")
def posed():
    avatar = build_avatar(AvatarSpec(age=8, hat="fedora"))
    return avatar, pose_for_pictures(avatar)


@pytest.mark.parametrize("width", [96, 48])
def test_full_view_shows_everything_and_fills_the_picture(posed, width: int):
    avatar, scene = posed
    size = torch.tensor([width, 96])
    free = []
    for turn in TURNS:
        pixels, _ = project(view_camera(scene, avatar, "full", turn, width, 96), scene.vertices)
        free.append(float((torch.minimum(pixels, size - pixels) / size).min()))
    assert FULL_MARGIN - 1e-3 < min(free) < 1.5 * FULL_MARGIN


@pytest.mark.parametrize("view", ["bust", "head"])
def test_hats_are_not_cut_off(posed, view: str):
    avatar, scene = posed
    eye = avatar.skeleton.positions[avatar.skeleton.names.index("leftEye")]
    high = scene.vertices[scene.vertices[:, 1] > eye[1]]
    free = []
    for turn in TURNS:
        pixels, _ = project(view_camera(scene, avatar, view, turn, 100, 100), high)
        free.append(float(pixels[:, 1].min()) / 100)
    assert HEADROOM - 0.01 < min(free) < HEADROOM + 0.06
