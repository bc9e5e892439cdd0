"""The body template: its laws, and anny's own results."""

import dataclasses
import itertools
from collections import Counter

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from avatar3d.body.controls import LOCAL_CHANGES, PHENOTYPES
from avatar3d.body.lids import eye_sphere
from avatar3d.body.pose import joint_transforms, skin_points
from avatar3d.body.shape import anny_age, hat_weights, rest_points, shape_body, skin_of
from avatar3d.body.template import load_masks, load_template, mirror_map
from avatar3d.engine.population import sample
from avatar3d.rotations import axis_angle_to_quaternion
from avatar3d.spec import BODY_CONTROLS, FACE_CONTROLS, AvatarSpec
from avatar3d.structures import Skeleton
from tests.anny_reference import FIXTURE, PEOPLE, anny_results, random_inputs


@pytest.fixture(scope="module")
def template():
    return load_template()


def our_results(template, inputs):
    """Rest and posed vertices (P, V, 3) for anny's own inputs."""
    rest, posed = [], []
    count = len(template.vertices)
    for person in range(PEOPLE):
        phenotype = dict(zip(PHENOTYPES, inputs["phenotype"][person].tolist(), strict=True))
        local = dict(zip(LOCAL_CHANGES, inputs["local"][person].tolist(), strict=True))
        points = rest_points(template, phenotype, local)
        vertices = points[:count] + torch.einsum("a,avc->vc", inputs["actions"][person], template.actions)
        skeleton = Skeleton(template.bone_names, template.bone_parents, points[count:])
        turns = axis_angle_to_quaternion(inputs["turns"][person])
        transforms = joint_transforms(skeleton, dict(zip(template.bone_names, turns, strict=True)))
        rest.append(vertices)
        posed.append(skin_points(vertices, template.joints, template.weights, transforms))
    return {"rest": torch.stack(rest), "posed": torch.stack(posed)}


def test_shapes_actions_and_poses_equal_anny(template):
    saved = load_file(FIXTURE)
    ours = our_results(template, saved)
    for name in ("rest", "posed"):
        assert (ours[name][:, saved["kept"]] - saved[name]).norm(dim=-1).max() < 1e-4


@pytest.mark.slow
def test_every_vertex_equals_anny(template):
    pytest.importorskip("anny", reason="the template extra is not installed")
    inputs = random_inputs(seed=1)
    ours, reference = our_results(template, inputs), anny_results(inputs)
    for name in ("rest", "posed"):
        assert (ours[name] - reference[name]).norm(dim=-1).max() < 1e-4


def test_weights_are_a_partition_over_at_most_four_joints(template):
    joints, weights = skin_of(template)
    assert joints.shape == weights.shape == (len(template.vertices), 4)
    assert (weights >= 0).all()
    assert (weights.double().sum(dim=1) - 1).abs().max() < 1e-6
    assert joints.min() >= 0 and joints.max() < 1 + len(template.bone_names) + 2
    assert (joints[weights == 0] == 0).all()


def test_the_skeleton_is_a_tree_of_humanoid_bones():
    skeleton = shape_body(AvatarSpec()).skeleton
    assert skeleton.names[0] == "root" and skeleton.parents[0] == -1
    assert all(parent < index for index, parent in enumerate(skeleton.parents))
    required = {"hips", "spine", "chest", "neck", "head", "leftEye", "rightEye"}
    sided = ("UpperArm", "LowerArm", "Hand", "UpperLeg", "LowerLeg", "Foot", "IndexProximal", "ThumbDistal")
    assert required | {side + bone for side in ("left", "right") for bone in sided} <= set(skeleton.names)
    left, right = (skeleton.positions[skeleton.names.index(f"{side}Hand"), 0] for side in ("left", "right"))
    assert left > 0 > right


def test_the_template_is_mirror_symmetric(template):
    mirror = mirror_map(template)
    flip = torch.tensor([-1.0, 1.0, 1.0])
    assert torch.equal(mirror[mirror], torch.arange(len(mirror)))
    assert (template.vertices[mirror] * flip - template.vertices).abs().max() < 1e-6


def test_the_body_is_a_closed_surface(template):
    corner, _, faces = template.surface("body")
    edges = Counter()
    for a, b in ((0, 1), (1, 2), (2, 0)):
        edges.update(zip(corner[faces[:, a]].tolist(), corner[faces[:, b]].tolist(), strict=True))
    assert max(edges.values()) == 1
    assert all((b, a) in edges for a, b in edges)
    points = template.vertices[corner[faces]].double()
    volume = torch.linalg.det(points).sum() / 6
    assert 0.03 < volume < 0.12


def test_texture_coordinates_lie_in_the_unit_square(template):
    assert template.corner_uv.min() >= 0 and template.corner_uv.max() <= 1
    masks = load_masks()
    assert all(m.min() >= 0 and m.max() <= 1 and m.max() > 0.5 for m in masks.values())


def test_people_stand_on_the_ground_facing_forward(template):
    generator = np.random.default_rng(0)
    body = template.surface_vertices("body")
    for _ in range(5):
        shaped = shape_body(sample(generator))
        assert abs(float(shaped.vertices[body, 1].min())) < 1e-6
        left, right = (shaped.bone(f"{side}Eye") for side in ("left", "right"))
        assert left[0] > 0 > right[0]
        assert left[2] > shaped.bone("head")[2]


@pytest.mark.parametrize(
    ("age", "gender", "low", "high"),
    [
        (5, 0.5, 1.00, 1.16),
        (8, 0.5, 1.18, 1.36),
        (12, 0.5, 1.38, 1.60),
        (16, 1.0, 1.62, 1.82),
        (30, 0.0, 1.56, 1.74),
        (30, 1.0, 1.68, 1.88),
        (85, 0.0, 1.50, 1.74),
    ],
)
def test_heights_are_plausible(template, age, gender, low, high):
    body = template.surface_vertices("body")
    heights = {
        share: float(shape_body(AvatarSpec(age=age, gender=gender, height=share)).vertices[body, 1].max())
        for share in (0.0, 0.5, 1.0)
    }
    assert low < heights[0.5] < high
    assert heights[0.0] < heights[0.5] < heights[1.0]


def test_weight_changes_volume(template):
    def volume(**fields):
        corner, _, faces = template.surface("body")
        points = shape_body(AvatarSpec(**fields)).vertices[corner[faces]].double()
        return float(torch.linalg.det(points).sum() / 6)

    assert volume(weight=0.0) < 0.9 * volume(weight=0.5) < 0.9 * volume(weight=1.0)


@pytest.mark.parametrize("control", FACE_CONTROLS + BODY_CONTROLS)
def test_controls_move_the_body_both_ways(control):
    group = "face" if control in FACE_CONTROLS else "body"
    rest = shape_body(AvatarSpec()).vertices
    up, down = (shape_body(AvatarSpec(**{group: {control: amount}})).vertices - rest for amount in (1.0, -1.0))
    assert up.norm(dim=-1).max() > 3e-4 and down.norm(dim=-1).max() > 3e-4
    assert (up - down).norm(dim=-1).max() > 5e-4


def test_eyeballs_are_round_and_joints_sit_in_them(template):
    generator = np.random.default_rng(3)
    for _ in range(5):
        shaped = shape_body(sample(generator))
        for side in ("left", "right"):
            center, radius = eye_sphere(template, shaped.vertices.numpy(), side)
            eye = shaped.vertices[template.surface_vertices(f"eye_{side}")].double().numpy()
            assert np.abs(np.linalg.norm(eye - center, axis=1) - radius).max() < 1e-5
            assert np.abs(shaped.bone(f"{side}Eye").numpy() - center).max() < 1e-5


def test_age_map_is_monotone():
    ages = [anny_age(years) for years in np.linspace(1, 95, 60)]
    assert ages[0] == 0 and ages[-1] == 1 and all(a <= b for a, b in itertools.pairwise(ages))


@pytest.mark.parametrize("value", [-0.2, 0.0, 0.31, 0.5, 0.99, 1.0, 1.4])
def test_hat_weights_interpolate(value):
    weights = hat_weights(value, 0.0, 1.0, 5)
    assert float(weights.sum()) == pytest.approx(1)
    assert (weights > 0).sum() <= 2
    assert float(weights @ torch.linspace(0, 1, 5)) == pytest.approx(min(max(value, 0), 1), abs=1e-6)


def test_same_spec_same_bytes():
    spec = sample(np.random.default_rng(9))
    first, second = shape_body(spec), shape_body(dataclasses.replace(spec))
    assert first.vertices.numpy().tobytes() == second.vertices.numpy().tobytes()
    assert first.skeleton.positions.numpy().tobytes() == second.skeleton.positions.numpy().tobytes()
