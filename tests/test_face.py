"""Face actions on every head: regions, mirror images, lids on eyes, lips on lips, teeth, lashes, expressions."""

import dataclasses

import numpy as np
import pytest
import torch

from avatar3d.body import lids, lips
from avatar3d.body.face import GRAIN, face_actions
from avatar3d.body.pose import morph_part
from avatar3d.body.shape import ShapedBody, shape_body
from avatar3d.body.template import load_template, mirror_map, opposite, symmetric_actions
from avatar3d.camera import orbit
from avatar3d.engine.attach import Figure, surface_part
from avatar3d.engine.expressions import EXPRESSION_WEIGHTS, default_expression
from avatar3d.engine.lashes import COLUMNS, ROWS, make_lashes
from avatar3d.engine.mouth import make_mouth
from avatar3d.engine.population import sample
from avatar3d.render.meshes import render_meshes
from avatar3d.render.scene import LabelledMesh
from avatar3d.spec import EXPRESSIONS, AvatarSpec
from avatar3d.structures import Material

EXTREMES = (
    AvatarSpec(age=5.0),
    AvatarSpec(age=92.0, weight=0.9),
    AvatarSpec(asian=1.0, african=0.0, european=0.0, face={"eye_epicanthus": 1.0, "eye_fold": 1.0}),
    AvatarSpec(face={"eye_size": 1.0, "eye_height_middle": 1.0, "eye_depth_inner": 1.0}),
    AvatarSpec(face={"eye_size": -1.0, "eye_height_middle": -1.0, "eye_depth_outer": -1.0}),
    AvatarSpec(face={"upper_lip_volume": 1.0, "lower_lip_volume": 1.0, "mouth_width": 1.0, "jaw_drop": 1.0}),
    AvatarSpec(
        face={"upper_lip_volume": -1.0, "lower_lip_height": -1.0, "mouth_width": -1.0, "chin_forward": 1.0}
    ),
)


@pytest.fixture(scope="module")
def template():
    return load_template()


@pytest.fixture(scope="module")
def heads():
    """(spec, body, actions) of random people and of extreme faces."""
    generator = np.random.default_rng(11)
    specs = [*EXTREMES, *(sample(generator) for _ in range(8))]
    bodies = [shape_body(spec) for spec in specs]
    return [(spec, body, face_actions(body)) for spec, body in zip(specs, bodies, strict=True)]


def action(template, actions, name):
    return actions[template.action_names.index(name)].numpy()


def lid_gap(margin: np.ndarray) -> np.ndarray:
    """Height of the upper lid's margin above the lower one along the eye, metres."""
    corner = lids.OUTER_CORNER
    across = margin[corner] - margin[0]
    along = (margin - margin[0]) @ across / (across @ across)
    lower, upper = np.arange(corner + 1), np.r_[0, np.arange(len(margin) - 1, corner - 1, -1)]
    share = np.linspace(0.05, 0.95, 40)
    heights = [np.interp(share, np.maximum.accumulate(along[p]), margin[p, 1]) for p in (upper, lower)]
    return heights[0] - heights[1]


def test_actions_have_the_52_arkit_names(template):
    names = template.action_names
    assert len(set(names)) == 52
    assert {"eyeBlinkLeft", "jawOpen", "mouthSmileRight", "tongueOut", "cheekPuff", "noseSneerLeft"} <= set(names)
    assert all(opposite(name) in names for name in names)


def test_actions_hold_no_rounding_noise(heads):
    """What sums leave in place of 0 depends on the number of threads, and files would depend on it too."""
    for _, _, actions in heads:
        moved = actions[actions != 0].abs()
        assert moved.min() > 0.99 * GRAIN


def test_actions_are_mirror_images(template):
    flip, mirror = torch.tensor([-1.0, 1.0, 1.0]), mirror_map(template)
    order = [template.action_names.index(opposite(name)) for name in template.action_names]
    actions = symmetric_actions(template)
    assert (actions[order][:, mirror] * flip - actions).abs().max() < 1e-7
    assert (actions - template.actions).abs().max() < 1.2e-3


def test_actions_of_a_symmetric_head_are_mirror_images(template):
    body = shape_body(AvatarSpec(age=11, face={"head_fat": 0.6, "eye_size": 0.5, "mouth_width": 0.5}))
    flip, mirror = torch.tensor([-1.0, 1.0, 1.0]), mirror_map(template)
    vertices = (body.vertices + body.vertices[mirror] * flip) / 2
    actions = face_actions(ShapedBody(template, vertices, body.skeleton))
    order = [template.action_names.index(opposite(name)) for name in template.action_names]
    assert (actions[order][:, mirror] * flip - actions).abs().max() < 1e-5


@pytest.mark.parametrize("side", ["Left", "Right"])
def test_sided_actions_stay_on_their_side(template, side):
    body = shape_body(AvatarSpec())
    actions = face_actions(body)
    sign = 1.0 if side == "Left" else -1.0
    other = sign * body.vertices[:, 0] < -0.022
    for name in template.action_names:
        if name.endswith(side) and name not in (f"jaw{side}", f"mouth{side}"):
            moved = torch.from_numpy(action(template, actions, name)).norm(dim=-1)
            assert moved[other].max() < 0.25 * moved.max(), name


def test_actions_move_only_their_region(template):
    body = shape_body(AvatarSpec())
    actions, vertices = face_actions(body), body.vertices
    moved = actions.norm(dim=-1) > 1e-4
    eyes, chin = body.bone("leftEye")[1], body.bone("neck")[1]
    assert not moved[:, vertices[:, 1] < chin - 0.06].any()
    face = torch.zeros(len(vertices), dtype=torch.bool)
    face[template.surface_vertices("body")] = True
    for index, name in enumerate(template.action_names):
        heights = vertices[moved[index] & face, 1]
        if name.startswith("brow"):
            assert heights.min() > eyes - 0.045, name
        elif name.startswith("mouth"):
            assert heights.max() < eyes + 0.03, name
        elif name.startswith(("eyeBlink", "eyeWide", "eyeSquint")):
            assert (heights - eyes).abs().max() < 0.07, name
        elif name == "tongueOut":
            assert len(heights) == 0


def test_a_larger_head_gets_larger_actions(template):
    child, adult = (shape_body(AvatarSpec(age=age)) for age in (5.0, 30.0))
    small, large = (float(face_actions(b)[template.action_names.index("jawOpen")].norm()) for b in (child, adult))
    size = [float((b.bone("leftEye") - b.bone("rightEye")).norm()) for b in (child, adult)]
    assert small < large
    assert small / large == pytest.approx(size[0] / size[1], rel=0.25)


@pytest.mark.parametrize("side", ["left", "right"])
def test_blink_closes_the_lids_on_every_head(template, heads, side):
    margin = lids.lid_margin(template, side)
    for spec, body, actions in heads:
        open_lids = body.vertices.numpy()[margin]
        closed = open_lids + action(template, actions, f"eyeBlink{side.capitalize()}")[margin]
        assert lid_gap(open_lids).max() > 0.003, spec
        assert lid_gap(closed).max() < 0.0003, spec


@pytest.mark.parametrize("side", ["left", "right"])
def test_lids_never_cut_the_eyeball(template, heads, side):
    grid = lids.lid_grid(template, side)[2:]
    names = [n for n in template.action_names if n.startswith(("eye", "brow", "cheek", "nose", "mouthSmile"))]
    for spec, body, actions in heads:
        center, radius = lids.eye_sphere(template, body.vertices.numpy(), side)
        rest = body.vertices.numpy()[grid] - center
        assert np.linalg.norm(rest, axis=-1).min() > radius, spec
        for name in names:
            for weight in (0.5, 1.0):
                posed = rest + weight * action(template, actions, name)[grid]
                assert np.linalg.norm(posed, axis=-1).min() > radius - 0.0003, (spec, name, weight)


@pytest.mark.parametrize("side", ["left", "right"])
def test_eyes_turn_as_rigid_balls(template, heads, side):
    eye = template.surface_vertices(f"eye_{side}").numpy()
    for _, body, actions in heads:
        vertices = body.vertices.numpy()
        center, radius = lids.eye_sphere(template, vertices, side)
        for direction, axis, sign in (("Up", 1, 1), ("Down", 1, -1)):
            moved = vertices[eye] + action(template, actions, f"eyeLook{direction}{side.capitalize()}")[eye]
            assert np.abs(np.linalg.norm(moved - center, axis=1) - radius).max() < 2e-5
            pupil = int(vertices[eye, 2].argmax())
            assert sign * (moved - vertices[eye])[pupil, axis] > 0.1 * radius


def test_lips_are_closed_at_rest_and_by_mouth_close(template, heads):
    for spec, body, actions in heads:
        rest = body.vertices.numpy()
        assert lips.openings(template, rest).max() < 0.0002, spec
        jaw = rest + action(template, actions, "jawOpen")
        assert lips.openings(template, jaw).max() > 0.008, spec
        closed = lips.openings(template, jaw + action(template, actions, "mouthClose"))
        assert closed.max() < 0.0005 and closed.min() > -0.002, spec


def test_lashes_ride_on_the_margins(template, heads):
    for spec, body, _ in heads[::3]:
        figure = Figure(body)
        (part,) = make_lashes(spec, figure)
        margins = np.concatenate([lids.lid_margin(template, side) for side in ("left", "right")])
        for name in (None, "eyeBlinkLeft", "eyeWideRight", "eyeSquintLeft"):
            skin, lashes = body.vertices.numpy()[margins], part.mesh.vertices.numpy()
            if name:
                skin = skin + action(template, figure.actions, name)[margins]
                lashes = lashes + part.morphs.deltas[part.morphs.names.index(name)].numpy()
            ribbons = lashes.reshape(4, ROWS, COLUMNS, 3)
            roots, tips = ribbons[:, 0].reshape(-1, 3), ribbons[:, -1].reshape(-1, 3)
            distance = np.linalg.norm(roots[:, None] - skin, axis=2).min(axis=1)
            assert distance.max() < 0.0028, (spec, name)
            assert np.linalg.norm(tips - roots, axis=1).min() > 0.001, (spec, name)


def test_teeth_are_hidden_behind_closed_lips(heads):
    smile = {"mouthSmileLeft": 1.0, "mouthSmileRight": 1.0}
    hidden = ({}, {"mouthPucker": 1.0}, {"cheekPuff": 1.0}, smile, {"jawOpen": 1.0, "mouthClose": 1.0})
    for spec, body, _ in heads[::3]:
        assert max(visible_teeth(spec, body, expression) for expression in hidden) <= 1, spec


def test_teeth_show_when_the_lips_part(heads):
    parted = {"jawOpen": 0.5, "mouthUpperUpLeft": 0.6, "mouthUpperUpRight": 0.6}
    for spec, body, _ in heads[::4]:
        assert visible_teeth(spec, body, parted) > 30, spec


def visible_teeth(spec, body, expression) -> int:
    """Pixels of teeth in a picture of the mouth from the front."""
    figure = Figure(body)
    parts = [surface_part(figure, "body", "body", "body", Material("skin")), *make_mouth(spec, figure)]
    meshes = [LabelledMesh(morph_part(p, expression), 2 if p.kind == "teeth" else 1) for p in parts]
    lip = body.vertices[torch.tensor(lips.corner_vertices(body.template))].mean(dim=0)
    camera = orbit(lip, 0.4, width=128, height=128)
    render = render_meshes(meshes, camera, samples=1, shadows=False, occlusion=False)
    return int((render.labels == 2).sum())


def test_lower_teeth_follow_the_jaw_rigidly(heads):
    spec, body, _ = heads[-1]
    upper, lower, tongue = make_mouth(spec, Figure(body))
    assert upper.morphs is None
    assert set(lower.morphs.names) == {"jawOpen", "jawForward", "jawLeft", "jawRight"}
    assert "tongueOut" in tongue.morphs.names
    rest = lower.mesh.vertices.double()
    opened = rest + lower.morphs.deltas[lower.morphs.names.index("jawOpen")]
    assert (torch.pdist(opened[::7]) - torch.pdist(rest[::7])).abs().max() < 1e-5
    assert (opened - rest)[:, 1].mean() < -0.01
    assert sum(len(p.mesh.faces) for p in (upper, lower)) <= 3000


@pytest.mark.parametrize("kind", EXPRESSIONS)
def test_default_expressions_name_arkit_actions(template, kind):
    spec = AvatarSpec(expression=kind, seed=5)
    expression = default_expression(spec)
    assert expression == default_expression(dataclasses.replace(spec))
    assert set(expression) <= set(template.action_names)
    assert all(0 < weight <= 1 for weight in expression.values())
    assert set(EXPRESSION_WEIGHTS) == set(EXPRESSIONS)


def test_expressions_tell_apart(template):
    actions = face_actions(shape_body(AvatarSpec()))

    def corner_lift(kind: str) -> float:
        corner = lips.corner_vertices(template)[1]
        weights = default_expression(AvatarSpec(expression=kind))
        return sum(w * float(actions[template.action_names.index(n), corner, 1]) for n, w in weights.items())

    assert corner_lift("smile") > 0.004 > corner_lift("neutral") > 0 > corner_lift("sad")
