"""Posing: rest is the identity, rigid motions move all rigidly, joints turn what hangs on them."""

import math

import pytest
import torch

from avatar3d.body.pose import (
    PoseError,
    joint_transforms,
    morph_part,
    pose_avatar,
    relaxed_pose,
    rotate,
    skin_points,
    skin_transforms,
)
from avatar3d.body.shape import shape_body, skin_of
from avatar3d.engine.attach import Figure, merge_parts, surface_part
from avatar3d.mesh.normals import vertex_normals, weld_by_position
from avatar3d.rotations import axis_angle_to_quaternion, quaternion_to_matrix
from avatar3d.spec import AvatarSpec
from avatar3d.structures import Avatar, Material


@pytest.fixture(scope="module")
def avatar():
    figure = Figure(shape_body(AvatarSpec(age=25, gender=0.2, weight=0.6)))
    body = surface_part(figure, "body", "body", "body", Material("skin"))
    eyes = [surface_part(figure, f"eye_{s}", f"eye_{s}", "eyes", Material("eyes")) for s in ("left", "right")]
    return Avatar(AvatarSpec(), figure.body.skeleton, (body, merge_parts(eyes, "eyes")))


def posed_vertices(avatar, pose, expression=None):
    return torch.cat([mesh.vertices for _, mesh in pose_avatar(avatar, pose, expression or {})])


def rest_vertices(avatar):
    return torch.cat([part.mesh.vertices for part in avatar.parts])


def test_rest_pose_is_the_identity(avatar):
    still = {name: torch.tensor([1.0, 0, 0, 0]) for name in avatar.skeleton.names}
    assert torch.equal(posed_vertices(avatar, {}), rest_vertices(avatar))
    assert (posed_vertices(avatar, still) - rest_vertices(avatar)).abs().max() < 1e-6


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_root_turn_moves_all_rigidly(avatar, seed):
    generator = torch.Generator().manual_seed(seed)
    turn = axis_angle_to_quaternion(torch.randn(3, generator=generator))
    R = quaternion_to_matrix(turn)
    origin = avatar.skeleton.positions[0]
    expected = (rest_vertices(avatar) - origin) @ R.T + origin
    assert (posed_vertices(avatar, {"root": turn}) - expected).abs().max() < 1e-5
    normals = torch.cat([mesh.normals for _, mesh in pose_avatar(avatar, {"root": turn}, {})])
    still = torch.cat([part.mesh.normals for part in avatar.parts])
    assert (normals - still @ R.T).abs().max() < 1e-5


def test_a_root_turn_after_a_pose_moves_the_posed_body_rigidly(avatar):
    pose = relaxed_pose()
    turn = rotate("y", 70.0)
    R, origin = quaternion_to_matrix(turn), avatar.skeleton.positions[0]
    expected = (posed_vertices(avatar, pose) - origin) @ R.T + origin
    assert (posed_vertices(avatar, pose | {"root": turn}) - expected).abs().max() < 1e-5


def test_a_joint_keeps_its_place_and_turns_its_children(avatar):
    skeleton = avatar.skeleton
    elbow, hand = (skeleton.names.index(n) for n in ("leftLowerArm", "leftHand"))
    transforms = joint_transforms(skeleton, {"leftLowerArm": rotate("y", 40.0)})
    positions = torch.cat([skeleton.positions, torch.ones(len(skeleton.names), 1)], dim=1)
    moved = torch.einsum("jab,jb->ja", transforms, positions)[:, :3]
    assert (moved[elbow] - skeleton.positions[elbow]).norm() < 1e-6
    before = skeleton.positions[hand] - skeleton.positions[elbow]
    after = moved[hand] - moved[elbow]
    assert torch.allclose(after, quaternion_to_matrix(rotate("y", 40.0)) @ before, atol=1e-6)
    other = skeleton.names.index("rightHand")
    assert (moved[other] - skeleton.positions[other]).norm() == 0


def test_skinning_matches_a_loop(avatar):
    part = avatar.parts[0]
    transforms = joint_transforms(avatar.skeleton, relaxed_pose())
    chosen = torch.arange(0, len(part.mesh.vertices), 997)
    joints, weights = part.skin.joints[chosen], part.skin.weights[chosen]
    points = part.mesh.vertices[chosen]
    fast = skin_points(points, joints, weights, transforms)
    for row in range(len(chosen)):
        slow = torch.zeros(3)
        for joint, weight in zip(joints[row].tolist(), weights[row].tolist(), strict=True):
            slow += weight * (transforms[joint, :3, :3] @ points[row] + transforms[joint, :3, 3])
        assert (fast[row] - slow).norm() < 1e-5
    assert skin_transforms(joints, weights, transforms).shape == (len(chosen), 3, 4)


@pytest.mark.parametrize(
    ("axis", "point", "image"),
    [("x", (0, 1, 0), (0, 0, 1)), ("y", (0, 0, 1), (1, 0, 0)), ("z", (1, 0, 0), (0, 1, 0))],
)
def test_turns_are_right_handed(axis, point, image):
    turned = quaternion_to_matrix(rotate(axis, 90.0)) @ torch.tensor(point).float()
    assert torch.allclose(turned, torch.tensor(image).float(), atol=1e-6)


@pytest.mark.parametrize("fields", [{"age": 6.0}, {"weight": 1.0, "gender": 1.0}, {"weight": 0.0}, {}])
def test_relaxed_arms_hang_beside_the_body(fields):
    figure = Figure(shape_body(AvatarSpec(**fields)))
    joints, weights = skin_of(figure.body.template)
    transforms = joint_transforms(figure.body.skeleton, relaxed_pose())
    names = figure.body.skeleton.names
    heads = {n: (transforms[names.index(n)] @ torch.cat([figure.body.bone(n), torch.ones(1)]))[:3] for n in names}
    upper = heads["leftLowerArm"] - heads["leftUpperArm"]
    angle = math.degrees(math.atan2(float(upper[0]), -float(upper[1])))
    assert 8 < angle < 25
    assert heads["leftHand"][1] < heads["leftLowerArm"][1] < heads["leftUpperArm"][1]
    assert heads["leftHand"][0] > heads["hips"][0] > heads["rightHand"][0]
    posed = skin_points(figure.vertices, joints, weights, transforms)
    skin = figure.body.template.surface_vertices("body")
    hand = {
        names.index(n) for n in names if n.startswith("left") and ("Hand" in n or "Index" in n or "Middle" in n)
    }
    is_hand = torch.tensor([j in hand for j in joints[skin, 0].tolist()])
    legs = {names.index(n) for n in ("hips", "leftUpperLeg")}
    is_leg = torch.tensor([j in legs for j in joints[skin, 0].tolist()])
    low, high = posed[skin][is_hand, 1].min(), posed[skin][is_hand, 1].max()
    beside = is_leg & (posed[skin, 1] > low) & (posed[skin, 1] < high)
    assert posed[skin][is_hand, 0].min() > posed[skin][beside, 0].max() - 0.01


def test_an_unknown_joint_names_the_known_ones(avatar):
    with pytest.raises(PoseError, match=r"no joint 'elbow'.*leftLowerArm"):
        joint_transforms(avatar.skeleton, {"elbow": rotate("x", 1.0)})


def test_expressions_add_up(avatar):
    part = avatar.parts[0]
    expression = {"jawOpen": 0.5, "mouthSmileLeft": 0.3, "browInnerUp": 1.0}
    expected = part.mesh.vertices.clone()
    for name, weight in expression.items():
        expected += weight * part.morphs.deltas[part.morphs.names.index(name)]
    moved = morph_part(part, expression)
    assert (moved.vertices - expected).abs().max() < 1e-6
    assert torch.equal(morph_part(part, {}).vertices, part.mesh.vertices)
    assert torch.equal(moved.faces, part.mesh.faces)


def test_morphed_normals_are_those_of_the_moved_surface(avatar):
    part = avatar.parts[0]
    moved = morph_part(part, {"jawOpen": 1.0, "cheekPuff": 1.0})
    weld = weld_by_position(part.mesh.vertices)
    exact = vertex_normals(moved.vertices, part.mesh.faces, weld)
    far = (moved.vertices - part.mesh.vertices).norm(dim=-1) > 2e-3
    assert (moved.normals.norm(dim=-1) - 1).abs().max() < 1e-5
    assert ((moved.normals * exact).sum(-1)[far] > 0.9).float().mean() > 0.99
