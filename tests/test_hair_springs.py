"""Chains of joints in long hair: where they are, what follows them, and that nothing tears."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from avatar3d.body.pose import pose_avatar, rotate
from avatar3d.engine.build import build_avatar
from avatar3d.engine.hair import without_springs
from avatar3d.engine.hair_springs import HANGS
from avatar3d.spec import AvatarSpec
from avatar3d.structures import Avatar, Part

PEOPLE = {
    "woman": {"gender": 0.0, "hair_length": 1.0},
    "child": {"gender": 0.2, "age": 6.0, "hair_length": 0.0, "hat": "cap"},
    "heavy man": {"gender": 1.0, "weight": 1.0, "hair_length": 0.6},
}
EVERYONE = [(person, style) for person in PEOPLE for style in HANGS]


@cache
def built(person: str, style: str) -> Avatar:
    return build_avatar(AvatarSpec(hair_style=style, **PEOPLE[person]))


def hair_of(avatar: Avatar) -> Part:
    return next(p for p in avatar.parts if p.name == "hair")


def positions(avatar: Avatar, names) -> torch.Tensor:
    return avatar.skeleton.positions[[avatar.skeleton.names.index(n) for n in names]]


@pytest.mark.parametrize(("person", "style"), EVERYONE)
def test_chains_hang_from_the_head_inside_the_hair(person: str, style: str) -> None:
    avatar = built(person, style)
    names, parents = avatar.skeleton.names, avatar.skeleton.parents
    assert len(names) <= 75 and len(set(names)) == len(names)
    assert all(p < i for i, p in enumerate(parents))
    tree = cKDTree(hair_of(avatar).mesh.vertices.numpy())
    for spring in avatar.springs:
        chain = [names.index(j) for j in spring.joints]
        assert [names[parents[j]] for j in chain] == ["head", *spring.joints[:-1]]
        assert [j.rsplit("_", 1)[1] for j in spring.joints] == [str(n) for n in range(len(chain))]
        places = avatar.skeleton.positions[chain]
        assert tree.query(places.numpy())[0].max() < 0.022
        bones = places.diff(dim=0)
        assert (bones[:, 1] < 0).all() and (bones.norm(dim=1) > 0.04).all() and (bones.norm(dim=1) < 0.25).all()


@pytest.mark.parametrize(("person", "style"), EVERYONE)
def test_every_joint_but_the_ends_carries_hair_and_roots_follow_the_head(person: str, style: str) -> None:
    avatar = built(person, style)
    skin = hair_of(avatar).skin
    names = avatar.skeleton.names
    total = torch.zeros(len(names)).index_add_(0, skin.joints.reshape(-1), skin.weights.reshape(-1))
    for spring in avatar.springs:
        *swinging, end = (float(total[names.index(j)]) for j in spring.joints)
        assert min(swinging) > 20 and end == 0
    torch.testing.assert_close(skin.weights.sum(dim=1), torch.ones(len(skin.weights)), atol=1e-6, rtol=0)
    tops = [positions(avatar, s.joints)[:2, 1] for s in avatar.springs]
    above = hair_of(avatar).mesh.vertices[:, 1] > max(
        float(first + 0.51 * (first - second)) for first, second in tops
    )
    on_head = (skin.weights * (skin.joints == names.index("head"))).sum(dim=1)
    assert (on_head[above] > 0.999).all() and (on_head > 0.999).sum() > 500


@pytest.mark.parametrize(("person", "style"), EVERYONE)
def test_colliders_leave_room_for_the_hair_at_rest(person: str, style: str) -> None:
    avatar = built(person, style)
    assert {c.joint for c in avatar.colliders} >= {"head", "neck", "upperChest", "leftShoulder", "rightUpperArm"}
    for c in avatar.colliders:
        (joint,) = positions(avatar, [c.joint])
        start = joint + torch.tensor(c.offset)
        end = joint + torch.tensor(c.tail or c.offset)
        assert 0.005 <= c.radius < 0.2
        for spring in avatar.springs:
            for place in positions(avatar, spring.joints[1:]):
                axis = end - start
                share = ((place - start) @ axis / (axis @ axis).clamp_min(1e-12)).clamp(0, 1)
                assert (place - start - share * axis).norm() >= c.radius + spring.radius or c.radius == 0.005


@pytest.mark.parametrize("style", HANGS)
def test_neighboring_chains_pull_without_tearing(style: str) -> None:
    """Every chain bent another way: no edge of a strand grows by more than half, few by a tenth."""
    avatar = built("woman", style)
    pose = {
        joint: rotate("xz"[n % 2], 12.0 * (-1) ** (n // 2))
        for n, joint in enumerate(j for s in avatar.springs for j in s.joints)
    }
    mesh = hair_of(avatar).mesh
    moved = next(m for p, m in pose_avatar(avatar, pose, {}) if p.name == "hair")
    edges = mesh.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    before, after = ((m.vertices[edges[:, 0]] - m.vertices[edges[:, 1]]).norm(dim=1) for m in (mesh, moved))
    long = before > 0.004
    growth = after[long] / before[long]
    assert growth.max() < 1.5
    assert float(np.quantile(growth.numpy(), 0.99)) < 1.15


@pytest.mark.parametrize("style", ["long_straight", "braids"])
def test_hair_without_springs_lies_on_the_chest(style: str) -> None:
    avatar = built("woman", style)
    still = without_springs(avatar)
    assert still.springs == () and not [n for n in still.skeleton.names if n.startswith("hair_")]
    assert len(still.skeleton.names) == 55
    for old, new in zip(avatar.parts, still.parts, strict=True):
        assert torch.equal(old.mesh.vertices, new.mesh.vertices)
        if old.name != "hair":
            assert torch.equal(old.skin.weights, new.skin.weights)
    part = hair_of(still)
    y = part.mesh.vertices[:, 1]
    chest = still.skeleton.names.index("upperChest")
    below = y < positions(still, ["upperChest"])[0, 1]
    weight = (part.skin.weights * (part.skin.joints == chest)).sum(dim=1)
    assert below.any() and (weight[below] > 0.99).all()


def test_short_hair_has_no_chains() -> None:
    avatar = build_avatar(AvatarSpec(hair_style="short"))
    assert avatar.springs == () and avatar.colliders == () and len(avatar.skeleton.names) == 55
    assert without_springs(avatar).skeleton.names == avatar.skeleton.names
