"""Clips obey the laws of bodies: joints bend one way, planted feet stay, loops close, all of it for anyone."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from avatar3d.body.bind import in_t_pose
from avatar3d.body.pose import joint_transforms, rotate, skin_points
from avatar3d.engine.build import build_avatar
from avatar3d.engine.population import Population
from avatar3d.engine.population import sample as sample_spec
from avatar3d.motion.bvh import write_bvh
from avatar3d.motion.clips import CLIPS, Wish, animate, make_clip
from avatar3d.motion.kinematics import MotionError, bind_turns, clip_frames, composed, rebased, two_bone, unit
from avatar3d.motion.performance import REQUIRED, a_pose
from avatar3d.motion.play import duration, pose_at, sample
from avatar3d.motion.walk import walk
from avatar3d.spec import AvatarSpec
from avatar3d.structures import Avatar, Clip, Skeleton

PEOPLE = {
    "woman": AvatarSpec(age=30, gender=0.1, seed=1),
    "child": AvatarSpec(age=5, gender=0.8, seed=2, shoes="sandals"),
    "heavy man in boots": AvatarSpec(age=50, gender=0.95, weight=0.95, seed=3, shoes="boots"),
}


@pytest.fixture(scope="module")
def people() -> dict[str, Avatar]:
    return {name: build_avatar(spec) for name, spec in PEOPLE.items()}


@pytest.fixture(params=PEOPLE, scope="module")
def person(request, people) -> Avatar:
    return people[request.param]


MADE: dict[tuple[str, int], Clip] = {}


def made(name: str, person: Avatar) -> Clip:
    """The clip with seed 4, made once per person."""
    key = name, id(person)
    if key not in MADE:
        MADE[key] = make_clip(name, person, seed=4)
    return MADE[key]


@pytest.fixture(params=CLIPS)
def name(request) -> str:
    return request.param


def test_clips_are_well_formed(person, name):
    clip = made(name, person)
    assert clip.times[0] == 0 and (clip.times.diff() > 0).all()
    assert set(clip.rotations) <= set(person.skeleton.names)
    for q in clip.rotations.values():
        assert q.shape == (len(clip.times), 4)
        assert (q.norm(dim=-1) - 1).abs().max() < 1e-5
        assert ((q[1:] * q[:-1]).sum(-1) > 0.9).all(), "jumps, or changes sign"
    for weights in clip.expressions.values():
        assert (weights >= 0).all() and (weights <= 1).all()


def test_loops_close_without_a_jolt(person, name):
    clip = made(name, person)
    assert clip.loops
    _, places = clip_frames(person.skeleton, clip)
    assert (places[0] - places[-1]).abs().max() < 1e-5
    steps = (places[1:] - places[:-1]).norm(dim=-1)
    # the step over the seam is no longer than steps elsewhere
    assert (steps[-1] <= steps[:-1].amax(0) + 1e-4).all()
    jolts = (steps[1:] - steps[:-1]).abs()
    seam = (steps[0] - steps[-1]).abs()
    assert (seam <= jolts.amax(0) + 1e-3).all()


def test_equal_seeds_make_equal_clips(people, name):
    person = people["woman"]
    one, two, other = (make_clip(name, person, seed=s) for s in (7, 7, 8))
    assert all(torch.equal(one.rotations[j], two.rotations[j]) for j in one.rotations)
    assert any(not torch.equal(one.rotations[j], other.rotations[j]) for j in one.rotations)


def test_elbows_and_knees_bend_one_way(person, name):
    skeleton = person.skeleton
    clip = made(name, person)
    world, places = clip_frames(skeleton, clip)
    index, rest = skeleton.names.index, skeleton.positions.double()
    for side in ("left", "right"):
        for first, second, third in (("UpperArm", "LowerArm", "Hand"), ("UpperLeg", "LowerLeg", "Foot")):
            a, b, c = (index(side + bone) for bone in (first, second, third))
            hinge = unit(torch.linalg.cross(rest[b] - rest[a], rest[c] - rest[b]))
            bend = torch.linalg.cross(unit(places[:, b] - places[:, a]), unit(places[:, c] - places[:, b]))
            signed = (bend * (world[:, a] @ hinge)).sum(-1)
            assert signed.min() > math.sin(math.radians(-1.0)), f"{side}{second}"


def sole_tracks(person: Avatar, clip, side: str) -> torch.Tensor:
    """(T, N, 3): places of the vertices that the foot carries and that are low at rest."""
    names = person.skeleton.names
    foot = [names.index(f"{side}Foot"), names.index(f"{side}Toes")]
    points, joints, weights = [], [], []
    for part in person.parts:
        share = (part.skin.weights * torch.isin(part.skin.joints, torch.tensor(foot))).sum(1)
        chosen = (share > 0.8) & (part.mesh.vertices[:, 1] < 0.03)
        points.append(part.mesh.vertices[chosen])
        joints.append(part.skin.joints[chosen])
        weights.append(part.skin.weights[chosen])
    world, places = clip_frames(person.skeleton, clip)
    rest = person.skeleton.positions.double()
    v, j, w = torch.cat(points).double(), torch.cat(joints), torch.cat(weights).double()
    return sum(
        w[:, k, None] * ((world[:, j[:, k]] @ (v - rest[j[:, k]])[..., None])[..., 0] + places[:, j[:, k]])
        for k in range(4)
    )


def test_tracks_are_what_skinning_gives(people):
    person = people["child"]
    clip = make_clip("walk", person, seed=4)
    track = sole_tracks(person, clip, "left")
    moment = sample(clip, float(clip.times[7]))
    T = joint_transforms(person.skeleton, moment.pose, moment.offsets)
    names = person.skeleton.names
    foot = torch.tensor([names.index("leftFoot"), names.index("leftToes")])
    slow = []
    for part in person.parts:
        share = (part.skin.weights * torch.isin(part.skin.joints, foot)).sum(1)
        chosen = (share > 0.8) & (part.mesh.vertices[:, 1] < 0.03)
        slow.append(
            skin_points(part.mesh.vertices[chosen], part.skin.joints[chosen], part.skin.weights[chosen], T)
        )
    assert (torch.cat(slow).double() - track[7]).abs().max() < 1e-5


def test_walking_feet_neither_slide_nor_sink(person):
    clip = walk(person, seed=4, seconds=2.0, travel=True)
    for side in ("left", "right"):
        track = sole_tracks(person, clip, side)
        assert track[..., 1].min() > -2e-3
        down = track[..., 1] < 1e-3
        both = down[1:] & down[:-1]
        assert both.any(1).float().mean() > 0.4
        slide = (track[1:, :, [0, 2]] - track[:-1, :, [0, 2]]).norm(dim=-1)[both]
        assert slide.max() < 2e-3
    assert sample(clip, duration(clip)).offsets["root"][2] > 0.5


@pytest.mark.parametrize("name", [n for n in CLIPS if n != "walk"])
def test_standing_feet_stay(person, name):
    clip = made(name, person)
    for side in ("left", "right"):
        track = sole_tracks(person, clip, side)
        assert track[..., 1].min() > -2e-3
        assert track[..., 1].amin(1).max() < 2e-2


ARMS = ("Hand", "Thumb", "Index", "Middle", "Ring", "Little")
TRUNK = ("UpperLeg", "hips", "spine", "chest", "upperChest", "neck", "head")


def hand_depth(person: Avatar, clip, moments: int) -> float:
    """Metres by which hands are inside of trunk, thighs or what covers them, at most."""
    names = person.skeleton.names
    of_hand, of_trunk = (
        torch.tensor([n for n, name in enumerate(names) if any(word in name for word in words)])
        for words in (ARMS, TRUNK)
    )
    worst = 0.0
    for n in range(moments):
        hands, surface, normals = [], [], []
        for part, mesh in pose_at(person, clip, duration(clip) * n / moments):
            if part.kind in ("body", "top", "bottom"):
                main = part.skin.joints.gather(1, part.skin.weights.argmax(1, keepdim=True))[:, 0]
                hands.append(mesh.vertices[torch.isin(main, of_hand)])
                surface.append(mesh.vertices[torch.isin(main, of_trunk)])
                normals.append(mesh.normals[torch.isin(main, of_trunk)])
        points, around = torch.cat(hands).numpy(), torch.cat(surface).numpy()
        distance, near = cKDTree(around).query(points, k=4)
        height = ((points[:, None] - around[near]) * torch.cat(normals).numpy()[near]).sum(2).max(1)
        worst = max(worst, -float(height[distance[:, 0] < 0.06].min(initial=0.0)))
    return worst


def test_hands_stay_out_of_the_body(person, name):
    assert hand_depth(person, made(name, person), 4) < 2e-3


def test_hands_in_the_body_would_be_seen(people):
    person = people["heavy man in boots"]
    clip = make_clip("idle", person)
    inside = composed(rotate("z", -18.0), clip.rotations["leftUpperArm"])
    assert hand_depth(person, replace(clip, rotations=clip.rotations | {"leftUpperArm": inside}), 2) > 0.02


def test_legs_walk_at_their_own_pace(people):
    speeds = []
    for person in (people["child"], people["woman"]):
        clip = walk(person, travel=True, seconds=2.0)
        speeds.append(float(sample(clip, duration(clip)).offsets["root"][2]) / duration(clip))
    child, woman = speeds
    assert 0.6 < child < woman < 1.6


@pytest.mark.parametrize("seed", range(3))
def test_two_bones_end_at_the_target(seed):
    generator = torch.Generator().manual_seed(seed)
    root, pole = (torch.randn(40, 3, generator=generator).double() for _ in range(2))
    reach = unit(torch.randn(40, 3, generator=generator).double()) * (0.15 + 0.5 * torch.rand(40, 1)).double()
    first, second, hinge = two_bone(root, root + reach, (0.4, 0.3), pole)
    assert (root + 0.4 * first + 0.3 * second - root - reach).abs().max() < 1e-9
    assert (first.norm(dim=-1) - 1).abs().max() < 1e-9 and (second.norm(dim=-1) - 1).abs().max() < 1e-9
    turn = torch.linalg.cross(first, second)
    assert ((turn * hinge).sum(-1) > 0).all(), "the second bone turns about the hinge"
    assert ((first * pole).sum(-1) >= (unit(reach) * pole).sum(-1) * (first * unit(reach)).sum(-1) - 1e-9).all()


def test_out_of_reach_is_approached():
    one = torch.tensor([[0.0, -3.0, 0.0]]).double()
    first, second, _ = two_bone(torch.zeros(1, 3).double(), one, (0.4, 0.4), torch.tensor([[0.0, 0, 1]]).double())
    end = 0.4 * first + 0.4 * second
    assert 0.79 < -float(end[0, 1]) < 0.8 and float(first[0, 2]) > 0


def test_rebased_clips_move_joints_to_the_same_places(people, name):
    person = people["woman"]
    clip = made(name, person)
    other = in_t_pose(person).skeleton
    moved = rebased(clip, person.skeleton, other)
    _, before = clip_frames(person.skeleton, clip)
    _, after = clip_frames(other, moved)
    assert (other.positions - person.skeleton.positions).norm(dim=-1).max() > 0.3
    assert (before - after).norm(dim=-1).max() < 1e-4


def test_clips_made_for_a_t_pose_look_like_those_for_an_a_pose(people, name):
    """Directions of the limbs in space do not depend on the bind pose, but for what build does to an A pose."""
    person = people["woman"]
    other = in_t_pose(person)
    assert a_pose(person.skeleton)[0] is None and a_pose(other.skeleton)[0] is not None
    _, before = clip_frames(person.skeleton, make_clip(name, person, seed=4))
    _, after = clip_frames(other.skeleton, make_clip(name, other, seed=4))
    names = person.skeleton.names
    for side in ("left", "right"):
        for bone, end in (
            ("UpperArm", "LowerArm"),
            ("LowerArm", "Hand"),
            ("UpperLeg", "LowerLeg"),
            ("LowerLeg", "Foot"),
        ):
            a, b = names.index(side + bone), names.index(side + end)
            cosine = (unit(before[:, b] - before[:, a]) * unit(after[:, b] - after[:, a])).sum(-1)
            assert cosine.min() > math.cos(math.radians(15.0)), side + bone


def test_bind_turns_of_the_same_skeleton_are_none(people):
    skeleton = people["child"].skeleton
    assert torch.equal(bind_turns(skeleton, skeleton), torch.eye(3).double().expand(len(skeleton.names), 3, 3))


def test_sampling_meets_the_key_frames_and_the_middle_between(people):
    clip = make_clip("wave", people["woman"], seed=4)
    for n in (0, 1, 17, len(clip.times) - 2):
        moment = sample(clip, float(clip.times[n]))
        for joint, q in clip.rotations.items():
            assert (moment.pose[joint] - q[n]).abs().max() < 1e-5
    middle = sample(clip, float(clip.times[3] + clip.times[4]) / 2)
    expected = 0.5 * (clip.translations["hips"][3] + clip.translations["hips"][4])
    assert torch.allclose(middle.offsets["hips"], expected, atol=1e-6)


def test_loops_go_on_and_others_stop(people):
    clip = make_clip("walk", people["woman"])
    again = sample(clip, duration(clip) + 0.3)
    once = sample(clip, 0.3)
    assert all(torch.allclose(again.pose[j], once.pose[j], atol=1e-4) for j in once.pose)
    path = walk(people["woman"], travel=True)
    end = sample(path, duration(path) + 5.0).offsets["root"]
    assert torch.equal(end, path.translations["root"][-1])


def test_faces_keep_what_the_clip_does_not_move(people):
    person = replace(people["woman"], expression={"jawOpen": 0.7, "mouthSmileLeft": 0.2})
    clip = make_clip("idle", person)
    face = next(part for part in person.parts if part.name == "head_skin")
    meshes = {part.name: mesh for part, mesh in pose_at(person, clip, 0.0)}
    calm = {part.name: mesh for part, mesh in pose_at(replace(person, expression={}), clip, 0.0)}
    assert face.morphs is not None
    moved = (meshes["head_skin"].vertices - calm["head_skin"].vertices).norm(dim=-1)
    assert moved.max() > 5e-3


def test_errors_say_what_to_do(people):
    with pytest.raises(MotionError, match=r"no clip 'fly'; the clips are: .*walk"):
        make_clip("fly", people["woman"])
    with pytest.raises(MotionError, match="not 1000"):
        make_clip("idle", people["woman"], seconds=1000.0)
    bare = Avatar(None, Skeleton(("hips", "spine"), (-1, 0), torch.zeros(2, 3)), ())
    with pytest.raises(MotionError, match="no head, leftUpperLeg"):
        make_clip("idle", bare)
    assert np.isfinite(duration(make_clip("idle", people["woman"], seconds=0.5)))


def test_blinks_come_at_the_pace_of_people(people):
    clip = make_clip("idle", people["woman"], seed=1, seconds=60.0)
    shut = clip.expressions["eyeBlinkLeft"] > 0.5
    starts = int((shut[1:] & ~shut[:-1]).sum())
    assert 8 <= starts <= 30
    assert 0.03 < float(shut.float().sum()) / 30 / starts < 0.25


def test_other_skeletons_without_fingers_toes_and_root_move_too(people):
    """Of another program: VRM's required bones only, so arms hang on the spine and feet are stiff."""
    woman = people["woman"].skeleton
    kept = [n for n, name in enumerate(woman.names) if name in REQUIRED]
    parents = []
    for n in kept:
        parent = woman.parents[n]
        while parent >= 0 and parent not in kept:
            parent = woman.parents[parent]
        parents.append(kept.index(parent) if parent >= 0 else -1)
    bare = Skeleton(tuple(woman.names[n] for n in kept), tuple(parents), woman.positions[kept])
    for name in CLIPS:
        clip = make_clip(name, Avatar(None, bare, ()))
        assert set(clip.rotations) <= set(bare.names)
        _, places = clip_frames(bare, clip)
        assert torch.isfinite(places).all() and places[..., 1].min() > 0.02
    travelling = walk(Avatar(None, bare, ()), travel=True)
    assert travelling.translations["hips"][-1, 2] > 0.5


@pytest.mark.parametrize("seed", range(2))
def test_anyone_can_do_everything(seed):
    person = build_avatar(sample_spec(np.random.default_rng(seed), Population()))
    for name in CLIPS:
        result = animate(person, Wish(clip=name), seed)
        _, places = clip_frames(person.skeleton, result.clip)
        assert torch.isfinite(places).all()
        lowest = min(float(mesh.vertices[:, 1].min()) for _, mesh in pose_at(person, result.clip, 0.3))
        assert -4e-3 < lowest < 4e-3, name


@pytest.mark.parametrize(
    ("wish", "fault"),
    [
        (Wish(), "one of clip, bvh and audio is needed, not none"),
        (Wish(clip="walk", bvh=Path("a.bvh")), "not clip and bvh"),
        (Wish(clip="walk", audio=Path("a.wav")), "not clip and audio"),
        (Wish(audio=Path("a.wav"), seconds=3.0), "leave the seconds out"),
        (Wish(clip="idle", travel=True), "only the clip 'walk' travels"),
        (Wish(clip="idle", bones=Path("a.json")), "a bone map goes with a BVH file"),
        (Wish(clip="idle", expression="gloomy"), "no expression 'gloomy'"),
    ],
)
def test_wishes_that_can_not_be_granted(people, wish, fault):
    with pytest.raises(MotionError, match=fault):
        animate(people["woman"], wish)


def test_wishes_are_granted(people, tmp_path):
    person = people["woman"]
    write_bvh(person.skeleton, make_clip("nod", person), tmp_path / "nod.bvh")
    result = animate(person, Wish(bvh=tmp_path / "nod.bvh", expression="happy=0.5"))
    assert result.clip.name == "nod" and result.mapped is not None and result.mapped["head"] == "head"
    assert float(result.clip.expressions["mouthSmileLeft"].min()) == pytest.approx(0.4)
    assert animate(person, Wish(clip="walk", travel=True)).clip.translations["root"][-1, 2] > 0.5
