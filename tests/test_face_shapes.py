"""Laws of all face shapes over all parts of the face, on a few people.

`python scripts/measure_face.py` measures the same on many.
"""

import numpy as np
import pytest
import torch

from avatar3d.body import lips
from avatar3d.body.pose import morph_part
from avatar3d.body.shape import ShapedBody, shape_body
from avatar3d.body.template import mirror_map, opposite
from avatar3d.body.visemes import ARKIT, COMPOSED, VRM_PRESETS
from avatar3d.engine.attach import Figure
from avatar3d.engine.beard import make_beard
from avatar3d.engine.brows import make_brows
from avatar3d.engine.glasses import make_glasses
from avatar3d.engine.lashes import make_lashes
from avatar3d.engine.mouth import make_mouth
from avatar3d.mesh.intersections import self_intersections
from avatar3d.spec import AvatarSpec
from scripts.measure_face import Head, fold_depth, lid_depth, lid_gap, lip_gap, past_skin, people, tongue_cut_area

EVERY = {name: {name: 1.0} for name in (*ARKIT, *COMPOSED)} | {f"VRM {k}": v for k, v in VRM_PRESETS.items()}


def both(**weights: float) -> dict[str, float]:
    return {f"{name}{side}": weight for name, weight in weights.items() for side in ("Left", "Right")}


@pytest.fixture(scope="module")
def heads():
    """A child, a thin old man, full lips, and a random face with controls at 1 and -1."""
    crowd = people(14)
    return [Head(crowd[i]) for i in (0, 2, 8, 11)]


def test_closed_mouths_stay_closed(heads):
    closed = {name: {name: 1.0} for name in ARKIT if name.startswith(lips.SEALED) and name != "mouthClose"}
    closed |= {
        n: both(**{n: 1.0}) for n in ("mouthSmile", "mouthPress", "mouthFrown", "mouthDimple", "mouthStretch")
    }
    for head in heads:
        for name, expression in closed.items():
            assert lip_gap(head, expression)[0] < 0.3, (head.spec, name)


def test_mouth_close_undoes_any_jaw_open(heads):
    """Offsets are linear, and so nearly is the opening."""
    for head in heads:
        for weight in (0.25, 0.5, 0.75, 1.0):
            assert lip_gap(head, {"jawOpen": weight, "mouthClose": weight})[0] < 0.3, (head.spec, weight)


def test_lips_do_not_pass_through_each_other(heads):
    """By at most 1 mm more than at rest: where both can not be had, a sealed mouth comes first."""
    for head in heads:
        template = head.figure.body.template
        allowed = max(1e3 * lips.overlaps(template, head.skin({})).max(), 0.3)
        for name in ARKIT:
            if name.startswith(("mouth", "jaw", "cheek")) and name != "mouthClose":
                overlap = 1e3 * lips.overlaps(template, head.skin({name: 1.0})).max()
                assert overlap < allowed + 1.0, (head.spec, name)
        for name in COMPOSED:
            overlap = 1e3 * lips.overlaps(template, head.skin({name: 1.0})).max()
            assert overlap < allowed + 1.0, (head.spec, name)


def test_teeth_never_come_out_through_the_face(heads):
    for head in heads[1::2]:
        for name, expression in EVERY.items():
            for row in ("teeth_upper", "teeth_lower"):
                assert past_skin(head, row, expression, least=2) == 0, (head.spec, name, row)


def test_teeth_are_not_in_the_lips_at_rest(heads):
    for head in heads:
        assert max(past_skin(head, row, {}) for row in ("teeth_upper", "teeth_lower")) == 0, head.spec


def test_the_tongue_goes_around_the_teeth(heads):
    """Only `tongueOut` with closed teeth, which leave no way, is cut."""
    for head in heads[::2]:
        for name, expression in EVERY.items():
            if name != "tongueOut":
                assert tongue_cut_area(head, expression) < 5, (head.spec, name)
        put_out = {"tongueOut": 1.0, "jawOpen": 0.35}
        tip = head.part("tongue", put_out)[:, 2].max()
        assert tip > head.part("teeth_upper", put_out)[:, 2].max() + 0.004 * head.size, head.spec


def test_visemes_of_the_tongue_put_its_tip_where_the_sound_is_made(heads):
    for head in heads:
        for viseme in ("viseme_TH", "viseme_DD", "viseme_nn"):
            tongue, upper = (head.part(part, {viseme: 1.0}) for part in ("tongue", "teeth_upper"))
            front = upper[head.crowns("teeth_upper") & (np.abs(upper[:, 0]) < 0.008 * head.size)]
            tip = tongue[tongue[:, 2].argmax()]
            if viseme == "viseme_TH":
                assert tip[2] > front[:, 2].max() - 0.004 * head.size, head.spec
            else:
                assert tip[1] > front[:, 1].min() and tip[2] < front[:, 2].min(), (head.spec, viseme)


@pytest.mark.parametrize(
    "expression",
    [
        both(eyeBlink=1.0), both(mouthSmile=1.0), {"mouthPucker": 1.0}, {"mouthShrugLower": 1.0},
        {"mouthRollLower": 1.0}, {"jawOpen": 1.0}, {"viseme_PP": 1.0}, {"viseme_O": 1.0},
    ],
    ids=lambda e: next(iter(e)),
)  # fmt: skip
def test_skin_hardly_enters_skin(heads, expression):
    """By at most 2.5 mm more than at rest: a figure of the corners of the mouth and the folds over the eyes."""
    for head in heads[:2]:
        assert fold_depth(head, expression) < 2.5, head.spec


@pytest.mark.parametrize(
    "other", ["eyeLookUp", "eyeLookDown", "eyeLookIn", "eyeLookOut", "eyeSquint", "cheekSquint"]
)
def test_blinks_close_with_other_movements_of_the_eye(heads, other):
    for head in heads:
        expression = both(**{"eyeBlink": 1.0, other: 1.0})
        assert lid_gap(head, expression)[0] < 0.5, head.spec
        assert lid_depth(head, expression) < 0.3, head.spec


def test_wide_eyes_are_wider_and_half_blinks_are_half(heads):
    for head in heads:
        rest, half, wide = (lid_gap(head, both(**e))[0] for e in ({}, {"eyeBlink": 0.5}, {"eyeWide": 1.0}))
        assert wide > rest + 1.0, head.spec
        assert 0.3 * rest < half < 0.75 * rest, head.spec


@pytest.fixture(scope="module")
def symmetric():
    """A figure whose left and right sides are equal."""
    body = shape_body(AvatarSpec(gender=1.0, face={"head_fat": 0.6, "mouth_width": 0.5}))
    mirrored = body.vertices[mirror_map(body.template)] * torch.tensor([-1.0, 1.0, 1.0])
    return Figure(ShapedBody(body.template, (body.vertices + mirrored) / 2, body.skeleton))


def test_lashes_mirror(symmetric):
    (part,) = make_lashes(AvatarSpec(), symmetric)
    flip = torch.tensor([-1.0, 1.0, 1.0])
    left, right = part.mesh.vertices.chunk(2)
    assert (left * flip - right).abs().max() < 1e-5
    for name, delta in zip(part.morphs.names, part.morphs.deltas, strict=True):
        other = part.morphs.deltas[part.morphs.names.index(opposite(name))]
        assert (delta[: len(left)] * flip - other[len(left) :]).abs().max() < 1e-5, name


def test_lower_teeth_and_tongue_mirror(symmetric):
    """The jaw is one rigid body: points and their mirror images move as mirror images (teeth themselves vary)."""
    _, lower, tongue = make_mouth(AvatarSpec(), symmetric)
    for part in (lower, tongue):
        names = part.morphs.names
        side = part.morphs.deltas[names.index("jawLeft"), :, 0].mean()
        assert side == pytest.approx(-float(part.morphs.deltas[names.index("jawRight"), :, 0].mean()), rel=1e-3)
        assert abs(float(part.morphs.deltas[names.index("jawOpen"), :, 0].mean())) < 1e-5


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("brows", ("browDownLeft", "browInnerUp", "browOuterUpRight", "noseSneerLeft")),
        ("beard_stubble", ("jawOpen", "mouthSmileLeft", "cheekPuff", "mouthPucker", "mouthUpperUpRight")),
    ],
)
def test_hair_of_the_face_moves_as_the_skin_beneath(kind, names):
    spec = AvatarSpec(gender=1.0, beard_style="full")
    figure = Figure(shape_body(spec))
    (part,) = (p for p in (*make_brows(spec, figure), *make_beard(spec, figure)) if p.name == kind)
    _, nearest = figure.tree.query(part.mesh.vertices.numpy(), k=3)
    actions = figure.body.template.action_names
    for name in names:
        moved = part.morphs.deltas[part.morphs.names.index(name)]
        skin = figure.actions[actions.index(name)][figure.skin_vertices[nearest]]
        assert moved.norm(dim=-1).max() > 0.003, name
        lag = (skin - moved[:, None]).norm(dim=-1).amin(dim=1)
        assert lag.quantile(0.98) < 0.0008 + 0.12 * moved.norm(dim=-1).max(), name


@pytest.fixture(scope="module", params=["round", "cat_eye"])
def spectacles(request):
    spec = AvatarSpec(gender=1.0, age=60.0, glasses=request.param)
    head = Head(spec)
    return head, make_glasses(spec, head.figure)


def cuts(one, two) -> int:
    """Pairs of triangles of two surfaces (points, faces) that cut each other."""
    (a, faces), (b, others) = one, two
    pairs = self_intersections(np.concatenate([a, b]), np.concatenate([faces, others + len(a)]))
    return int(((pairs[:, 0] < len(faces)) & (pairs[:, 1] >= len(faces))).sum())


def surface(part, expression):
    return morph_part(part, expression).vertices.double().numpy(), part.mesh.faces.numpy()


@pytest.mark.parametrize("name", ["cheekPuff", "mouthSmile", "eyeWide", "eyeBlink", "browOuterUp"])
def test_cheeks_and_lashes_do_not_touch_glasses(spectacles, name):
    head, parts = spectacles
    expression = {name: 1.0} if name in ARKIT else both(**{name: 1.0, "cheekSquint": 1.0})
    lashes = make_lashes(head.spec, head.figure)[0]
    for part in parts:
        worn = surface(part, expression)
        at_rest = cuts(surface(part, {}), (head.skin({}), head.faces))
        assert cuts(worn, (head.skin(expression), head.faces)) <= at_rest, part.name
        assert cuts(worn, surface(lashes, expression)) == 0, part.name


def test_brows_push_glasses_forward(spectacles):
    """Frowning brows would come through the frame; it gives way, straight if both do."""
    head, parts = spectacles
    frame = parts[0]
    moved = morph_part(frame, both(browDown=1.0)).vertices - frame.mesh.vertices
    front = frame.mesh.vertices[:, 2] > frame.mesh.vertices[:, 2].max() - 0.01
    assert moved[front, 2].min() > 0.0005 and moved[front, 2].max() - moved[front, 2].min() < 1e-4
    assert moved[:, :2].abs().max() == 0
    skin = head.skin(both(browDown=1.0))
    stiff, pushed = (cuts(s, (skin, head.faces)) for s in (surface(frame, {}), surface(frame, both(browDown=1.0))))
    assert pushed < 0.6 * stiff
