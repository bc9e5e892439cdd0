"""Spring bones: rest stays rest, a pendulum swings and comes to rest, colliders are never entered."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from avatar3d.body.pose import rotate
from avatar3d.engine.build import build_avatar
from avatar3d.motion.clips import make_clip
from avatar3d.motion.kinematics import clip_frames
from avatar3d.motion.springs import with_springs
from avatar3d.spec import AvatarSpec
from avatar3d.structures import Avatar, Clip, Collider, Skeleton, SpringChain

TAIL = ("hair_0", "hair_1", "hair_2", "hair_3")


def ponytail(**forces) -> Avatar:
    """A head with a chain of three bones hanging behind it."""
    names = ("hips", "head", *TAIL)
    places = [[0, 0.9, 0], [0, 1.5, 0]] + [[0, 1.6 - 0.1 * n, -0.12] for n in range(4)]
    skeleton = Skeleton(names, (-1, 0, 1, 2, 3, 4), torch.tensor(places).float())
    return Avatar(None, skeleton, (), springs=(SpringChain("tail", TAIL, **forces),))


def still(seconds: float, turn: torch.Tensor | None = None, after: float = 0.0) -> Clip:
    """Nothing moves, but the head may turn at once."""
    times = torch.arange(round(seconds * 60) + 1) / 60
    q = torch.tensor([1.0, 0, 0, 0]).repeat(len(times), 1)
    if turn is not None:
        q[times > after] = turn
    return Clip("still", times, {"head": q})


def angles(avatar: Avatar, clip: Clip) -> torch.Tensor:
    """Degrees of the last bone from the vertical, in the plane of x and y."""
    _, places = clip_frames(avatar.skeleton, clip)
    bone = places[:, -1] - places[:, -2]
    return torch.rad2deg(torch.atan2(bone[:, 0], -bone[:, 1]))


def test_rest_stays_rest():
    avatar = ponytail(gravity=0.0)
    clip = with_springs(still(1.0), avatar)
    assert set(TAIL[:-1]) <= set(clip.rotations) and TAIL[-1] not in clip.rotations
    for name in TAIL[:-1]:
        assert (clip.rotations[name] - torch.tensor([1.0, 0, 0, 0])).abs().max() < 1e-5


def test_avatars_without_springs_keep_their_clips():
    avatar = replace(ponytail(), springs=())
    clip = still(1.0)
    assert with_springs(clip, avatar) is clip


def test_a_pendulum_swings_and_comes_to_rest():
    avatar = ponytail(stiffness=0.02, gravity=1.0, drag=0.02)
    swing = angles(avatar, with_springs(still(12.0, rotate("z", 40.0), after=0.1), avatar))
    crossings = int(((swing[1:] > 0) != (swing[:-1] > 0)).sum())
    assert swing[:5].abs().max() < 1.0
    assert crossings >= 4, "it overshoots"
    first, last = swing[: len(swing) // 4], swing[-len(swing) // 8 :]
    assert first.abs().max() > 10 and (last - last.mean()).abs().max() < 0.1 * first.abs().max()


def test_stiff_springs_follow_the_head():
    avatar = ponytail(stiffness=4.0, gravity=0.0, drag=0.5)
    swing = angles(avatar, with_springs(still(3.0, rotate("z", 40.0), after=0.1), avatar))
    assert swing[-1] == pytest.approx(40.0, abs=1.0)


def test_more_drag_overshoots_less():
    beyond = []
    for drag in (0.02, 0.1, 0.5):
        avatar = ponytail(stiffness=0.1, gravity=0.5, drag=drag)
        swing = angles(avatar, with_springs(still(6.0, rotate("z", 30.0), after=0.1), avatar))
        direction = (swing[-1] - swing[0]).sign()
        beyond.append(float(((swing - swing[-1]) * direction).max()))
    assert beyond[0] > 2 * beyond[1] and beyond[1] > beyond[2] - 0.1


def test_bones_keep_their_length_and_stay_outside_of_colliders():
    sphere = Collider("head", (0.0, 0.1 - 0.16, -0.20), 0.07)
    capsule = Collider("hips", (0.25, 0.5, -0.12), 0.05, (0.25, 0.1, -0.12))
    avatar = replace(ponytail(stiffness=0.1, gravity=0.6, drag=0.1, radius=0.015), colliders=(sphere, capsule))
    clip = with_springs(still(4.0, rotate("z", 80.0), after=0.3), avatar)
    world, places = clip_frames(avatar.skeleton, clip)
    names = avatar.skeleton.names
    for above, below in itertools.pairwise(TAIL):
        length = (places[:, names.index(below)] - places[:, names.index(above)]).norm(dim=-1)
        assert (length - 0.1).abs().max() < 1e-5
    for collider in avatar.colliders:
        joint = names.index(collider.joint)
        a = places[:, joint] + world[:, joint] @ torch.tensor(collider.offset).double()
        b = places[:, joint] + world[:, joint] @ torch.tensor(collider.tail or collider.offset).double()
        for name in TAIL[1:]:
            p = places[:, names.index(name)]
            axis = b - a
            share = ((p - a) * axis).sum(-1) / (axis * axis).sum(-1).clamp_min(1e-12)
            distance = (p - a - share.clamp(0, 1)[:, None] * axis).norm(dim=-1)
            assert distance.min() > collider.radius + 0.015 - 2e-3, name


@pytest.fixture(scope="module")
def long_hair() -> Avatar:
    return build_avatar(AvatarSpec(age=28, gender=0.1, hair_style="ponytail", seed=2))


@pytest.mark.parametrize("name", ["walk", "dance"])
def test_hair_of_a_person_swings_in_a_loop_that_closes(long_hair, name):
    assert long_hair.springs
    clip = with_springs(make_clip(name, long_hair), long_hair)
    for chain in long_hair.springs:
        for joint in chain.joints[:-1]:
            q = clip.rotations[joint]
            assert torch.equal(q[0], q[-1]) or torch.equal(q[0], -q[-1])
            steps = 2 * torch.acos((q[1:] * q[:-1]).sum(-1).abs().clamp(max=1))
            assert math.degrees(float(steps.max())) < 20.0, "it jumps"
    tip = long_hair.skeleton.names.index(long_hair.springs[0].joints[-1])
    head = long_hair.skeleton.names.index("head")
    world, places = clip_frames(long_hair.skeleton, clip)
    local = (world[:, head].transpose(-1, -2) @ (places[:, tip] - places[:, head])[..., None])[..., 0]
    assert float(np.ptp(local.numpy(), axis=0).max()) > 5e-3, "it moves against the head"
