"""Re-binding: what a T-pose is, and that posing back gives what was there before."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from synthetic import synthetic_avatar

from avatar3d.body.bind import BindError, back, in_t_pose, rebound, rebound_clip, t_pose
from avatar3d.body.pose import joint_transforms, pose_avatar, rotate
from avatar3d.engine.build import build_avatar
from avatar3d.engine.population import Population, sample
from avatar3d.rotations import quaternion_to_matrix
from avatar3d.structures import Avatar, Clip, Collider

SEEDS = (3, 5, 8)


@pytest.fixture(scope="module", params=SEEDS)
def person(request) -> Avatar:
    return build_avatar(sample(np.random.default_rng(request.param), Population()))


def direction(avatar: Avatar, start: str, end: str) -> np.ndarray:
    places = dict(zip(avatar.skeleton.names, avatar.skeleton.positions.double().numpy(), strict=True))
    line = places[end] - places[start]
    return line / np.linalg.norm(line)


def test_t_pose_is_vrms(person):
    avatar = in_t_pose(person)
    for side, out in (("left", 1.0), ("right", -1.0)):
        along = np.array([out, 0, 0])
        straight = ["UpperArm", "LowerArm", "Hand", "MiddleProximal", "MiddleIntermediate", "MiddleDistal"]
        lines = list(pairwise(straight))
        for finger in ("Index", "Ring", "Little"):
            lines += [(f"{finger}Proximal", f"{finger}Intermediate"), (f"{finger}Intermediate", f"{finger}Distal")]
        for start, end in lines:
            np.testing.assert_allclose(direction(avatar, side + start, side + end), along, atol=5e-5)
        for start, end in (("UpperLeg", "LowerLeg"), ("LowerLeg", "Foot")):
            np.testing.assert_allclose(direction(avatar, side + start, side + end), [0, -1, 0], atol=5e-5)
        toes = direction(avatar, f"{side}Foot", f"{side}Toes")
        assert abs(toes[0]) < 5e-5 < toes[2]
        for start, end in (("ThumbMetacarpal", "ThumbProximal"), ("ThumbProximal", "ThumbDistal")):
            thumb = direction(avatar, side + start, side + end)
            np.testing.assert_allclose(thumb, np.array([out, 0, 1]) / 2**0.5, atol=5e-5)
        knuckles = direction(avatar, f"{side}LittleProximal", f"{side}IndexProximal")
        assert abs(knuckles[1]) < 0.02 and knuckles[2] > 0.9  # palm down, index finger in front
    assert min(float(part.mesh.vertices[:, 1].min()) for part in avatar.parts) == pytest.approx(0, abs=1e-6)
    assert avatar.skeleton.positions[avatar.skeleton.names.index("root")].tolist() == [0, 0, 0]


def test_posing_back_gives_the_original_shape(person):
    """Vertices, moving faces and normals, also where joints share a vertex."""
    pose = t_pose(person.skeleton)
    avatar = in_t_pose(person)
    hips = person.skeleton.names.index("hips")
    up = avatar.skeleton.positions[hips] - person.skeleton.positions[hips]
    assert abs(float(up[0])) + abs(float(up[2])) < 1e-6
    for (part, mesh), before in zip(
        pose_avatar(avatar, back(person.skeleton, pose), {}), person.parts, strict=True
    ):
        np.testing.assert_allclose(mesh.normals, before.mesh.normals, atol=2e-5, err_msg=part.name)
    smile = {"mouthSmileLeft": 0.8, "jawOpen": 0.5}
    posed = pose_avatar(avatar, back(person.skeleton, pose), smile)
    for (part, mesh), (_, expected) in zip(posed, pose_avatar(person, {}, smile), strict=True):
        np.testing.assert_allclose(mesh.vertices - up, expected.vertices, atol=2e-6, err_msg=part.name)


def test_a_t_pose_is_a_fixed_point(person):
    once = in_t_pose(person)
    for q in t_pose(once.skeleton).values():
        assert abs(float(q[0])) > 1 - 1e-6


def test_morph_targets_turn_with_their_vertices():
    """A rigid turn of everything turns offsets, normals and colliders by the same rotation."""
    avatar = synthetic_avatar(2)
    avatar = replace(avatar, colliders=(Collider("spine", (0.1, 0.0, 0.0), 0.1, (0.1, 0.2, 0.0)),))
    pose = {"hips": rotate("z", 90)}
    turned = rebound(avatar, pose)
    R = quaternion_to_matrix(pose["hips"])
    for before, after in zip(avatar.parts, turned.parts, strict=True):
        np.testing.assert_allclose(after.mesh.normals, before.mesh.normals @ R.T, atol=1e-5)
        if before.morphs is not None:
            np.testing.assert_allclose(after.morphs.deltas, before.morphs.deltas @ R.T, atol=1e-5)
    (collider,) = turned.colliders
    np.testing.assert_allclose([*collider.offset, *collider.tail], [0, 0.1, 0, -0.2, 0.1, 0], atol=1e-6)


def test_clips_move_a_rebound_avatar_as_before(person):
    """World motion of every joint, seen from its posed place, is the same in both bindings."""
    pose = t_pose(person.skeleton)
    after = in_t_pose(person)
    turn = torch.stack([rotate("x", 0.0), rotate("x", 40.0)])
    clip = Clip(
        "c", torch.tensor([0.0, 1.0]), {"leftUpperArm": turn, "spine": turn}, {"hips": torch.ones(2, 3) * 0.1}
    )
    moved = rebound_clip(clip, person.skeleton, pose, after.skeleton)
    for frame in range(2):
        expected = posed_joints(person, clip, frame)
        got = posed_joints(after, moved, frame)
        np.testing.assert_allclose(got[:, :3, 3], expected[:, :3, 3], atol=1e-5)
        world = joint_transforms(person.skeleton, pose)[:, :3, :3]
        np.testing.assert_allclose(got[:, :3, :3] @ world.numpy(), expected[:, :3, :3], atol=1e-5)


def posed_joints(avatar: Avatar, clip: Clip, frame: int) -> np.ndarray:
    """(J, 4, 4) posed frames of joints: their turn, and where they are."""
    skeleton = avatar.skeleton
    worlds: list[np.ndarray] = []
    for name, parent, place in zip(skeleton.names, skeleton.parents, skeleton.positions.numpy(), strict=True):
        local = np.eye(4)
        if name in clip.rotations:
            local[:3, :3] = quaternion_to_matrix(clip.rotations[name][frame])
        above = skeleton.positions[parent].numpy() if parent >= 0 else 0.0
        local[:3, 3] = place - above + (clip.translations[name][frame].numpy() if name in clip.translations else 0)
        worlds.append(local if parent < 0 else worlds[parent] @ local)
    return np.stack(worlds)


def test_only_humanoids_have_a_t_pose():
    with pytest.raises(BindError, match="leftFoot"):
        in_t_pose(synthetic_avatar(0))
