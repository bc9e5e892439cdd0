"""Twist joints and skeletons with fewer joints."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from synthetic import synthetic_avatar
from test_glb import khronos_reports
from test_profiles import wild_clip

from avatar3d.body.bind import in_t_pose
from avatar3d.body.joints import JointError, with_at_most, without_joints
from avatar3d.body.pose import pose_avatar, rotate
from avatar3d.body.poses import test_poses
from avatar3d.body.twist import clip_with_twists, roll_about, roll_twists, with_twist_joints
from avatar3d.engine.build import build_avatar
from avatar3d.engine.population import Population, sample
from avatar3d.export.glb import write_glb
from avatar3d.export.profiles import PROFILES, find_profile
from avatar3d.export.rig import make_rig
from avatar3d.export.textures import with_smaller_textures
from avatar3d.rotations import axis_angle_to_quaternion, quaternion_multiply
from avatar3d.structures import Avatar, Collider, SpringChain


@pytest.fixture(scope="module")
def person() -> Avatar:
    return in_t_pose(with_smaller_textures(build_avatar(sample(np.random.default_rng(5), Population())), 128))


def test_idle_twist_joints_change_nothing(person):
    twisted = with_twist_joints(person)
    assert len(twisted.skeleton.names) == len(person.skeleton.names) + 8
    assert with_twist_joints(twisted) is twisted
    for name in ("sit", "hands_on_hips", "arms_up"):
        pose = test_poses()[name]
        for (part, new), (_, old) in zip(pose_avatar(twisted, pose), pose_avatar(person, pose), strict=True):
            np.testing.assert_allclose(new.vertices, old.vertices, atol=1e-6, err_msg=part.name)
    for part in twisted.parts:
        np.testing.assert_allclose(part.skin.weights.sum(1), 1, atol=1e-6)
        assert int((part.skin.weights < 0).sum()) == 0


def test_forearms_are_wrung_less(person):
    """A hand rolled by 150 degrees: the forearm keeps more of its thickness just above the wrist."""
    twisted = with_twist_joints(person)
    pose = {"leftHand": rotate("x", 150.0)}

    def thinnest(avatar: Avatar, pose: dict) -> float:
        """Smallest radius of rings around the forearm, as a share of their radius at rest."""
        places = dict(zip(avatar.skeleton.names, avatar.skeleton.positions, strict=True))
        elbow, wrist = places["leftLowerArm"], places["leftHand"]
        rest = next(part for part in avatar.parts if part.name == "body").mesh.vertices
        posed = next(mesh for part, mesh in pose_avatar(avatar, pose, {}) if part.name == "body").vertices
        shares = []
        for at in torch.linspace(0.6, 1.05, 10):
            ring = (rest[:, 0] - (elbow[0] + at * (wrist - elbow)[0])).abs() < 0.012
            ring &= (rest[:, 1:] - elbow[1:]).norm(dim=1) < 0.1
            if int(ring.sum()) > 5:
                shares.append(
                    float(
                        (posed[ring] - wrist)[:, 1:].norm(dim=1).mean()
                        / (rest[ring] - wrist)[:, 1:].norm(dim=1).mean()
                    )
                )
        return min(shares)

    before, after = thinnest(person, pose), thinnest(twisted, roll_twists(pose, twisted.skeleton))
    assert after > before + 0.1, (before, after)


def test_roll_is_the_turn_about_the_axis():
    axis = torch.nn.functional.normalize(torch.tensor([1.0, 2.0, -1.0]), dim=0)
    swing = axis_angle_to_quaternion(0.7 * torch.nn.functional.normalize(torch.tensor([2.0, -1.0, 0.0]), dim=0))
    roll = axis_angle_to_quaternion(axis * 0.9)
    np.testing.assert_allclose(roll_about(quaternion_multiply(swing, roll), axis), roll, atol=1e-6)
    np.testing.assert_allclose(roll_about(swing, axis), [1, 0, 0, 0], atol=1e-6)


@pytest.mark.parametrize("profile", PROFILES)
def test_twist_joints_in_files(person, tmp_path, profile):
    twisted = with_twist_joints(person)
    clip = wild_clip(person)
    tracked = clip_with_twists(clip, twisted.skeleton)
    assert set(tracked.rotations) - set(clip.rotations) == set(twisted.skeleton.names) - set(person.skeleton.names)
    write_glb(twisted, tmp_path / "a.glb", {}, profile, [clip])
    (report,) = khronos_reports([tmp_path / "a.glb"])
    assert report["issues"]["numErrors"] == report["issues"]["numWarnings"] == 0
    rig = make_rig(twisted.skeleton, find_profile(profile))
    if profile == "unreal":
        assert {"upperarm_twist_01_l", "lowerarm_twist_01_r", "thigh_twist_01_l", "calf_twist_01_r"} <= set(
            rig.names
        )
    if profile in ("vrm", "unity", "unreal", "godot"):
        assert len(rig.names) <= 75


def test_weights_go_to_the_joint_above():
    avatar = synthetic_avatar(3)
    chain = SpringChain("c", ("spine", "head"))
    collider = Collider("head", (0.0, 0.1, 0.0), 0.1, (0.0, 0.2, 0.0))
    less = without_joints(replace(avatar, springs=(chain,), colliders=(collider,)), ["head"])
    assert less.skeleton.names == ("hips", "spine", "leftUpperArm") and less.skeleton.parents == (-1, 0, 1)
    assert less.springs == ()
    np.testing.assert_allclose(less.colliders[0].offset, [0, 0.5, 0.02], atol=1e-6)
    np.testing.assert_allclose(less.colliders[0].tail, [0, 0.6, 0.02], atol=1e-6)
    pose = {"spine": rotate("x", 30.0), "leftUpperArm": rotate("z", 20.0)}
    for (_, new), (_, old) in zip(pose_avatar(less, pose), pose_avatar(avatar, pose), strict=True):
        np.testing.assert_allclose(new.vertices, old.vertices, atol=1e-6)
    with pytest.raises(JointError, match="tail"):
        without_joints(avatar, ["tail"])
    with pytest.raises(JointError, match="root"):
        without_joints(avatar, ["hips"])


@pytest.mark.parametrize("limit", [75, 60, 45, 30, 22])
def test_joint_limits(person, limit):
    less = with_at_most(with_twist_joints(person), limit)
    assert len(less.skeleton.names) <= limit
    pose = test_poses()["sit"] | test_poses()["arms_up"]
    for (part, new), (_, old) in zip(pose_avatar(less, pose), pose_avatar(person, pose), strict=True):
        np.testing.assert_allclose(new.vertices, old.vertices, atol=1e-6, err_msg=part.name)


def test_bodies_need_joints(person):
    with pytest.raises(JointError, match="allow more"):
        with_at_most(person, 15)
