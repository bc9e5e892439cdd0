"""Twist joints: limbs that roll along their length instead of wringing at the wrist, elbow, knee or ankle.

A twist joint sits half-way along a limb, is a child of the limb's joint and takes half of the roll of the joint at
the limb's end. Linear blends alone wring skin like a candy wrapper (Kavan and Sorkine, "Elasticity-Inspired
Deformers for Character Articulation", 2012). While it does not roll it moves with its parent: skin is as before.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from avatar3d.body.pose import Pose
from avatar3d.rotations import slerp
from avatar3d.structures import Avatar, Clip, Part, Skeleton, Skin

SHARE = 0.5
"""Of the roll of the limb's end; also where along the limb a twist joint sits."""
LIMBS = {
    f"{side}{joint}Twist": (f"{side}{joint}", f"{side}{end}")
    for side in ("left", "right")
    for joint, end in (
        ("UpperArm", "LowerArm"), ("LowerArm", "Hand"), ("UpperLeg", "LowerLeg"), ("LowerLeg", "Foot"),
    )
}  # fmt: skip
"""Twist joint -> the limb's joint and the one at its end."""


def with_twist_joints(avatar: Avatar) -> Avatar:
    """The avatar with a twist joint in each of the eight limb segments that its skeleton has and that lack one."""
    for twist, (joint, end) in LIMBS.items():
        names = avatar.skeleton.names
        if twist not in names and joint in names and end in names:
            avatar = _with_twist(avatar, twist, names.index(joint), names.index(end))
    return avatar


def roll_twists(pose: Pose, skeleton: Skeleton) -> Pose:
    """The pose with the twist joints that the skeleton has rolled by their share of their limb's end."""
    return pose | _rolls(pose, skeleton)


def clip_with_twists(clip: Clip, skeleton: Skeleton) -> Clip:
    """The clip with tracks for the twist joints that the skeleton has."""
    return replace(clip, rotations=clip.rotations | _rolls(clip.rotations, skeleton))


def _rolls(rotations: dict[str, Tensor], skeleton: Skeleton) -> dict[str, Tensor]:
    places = dict(zip(skeleton.names, skeleton.positions, strict=True))
    rolls = {}
    for twist, (joint, end) in LIMBS.items():
        if twist in places and end in rotations and twist not in rotations:
            axis = torch.nn.functional.normalize(places[end] - places[joint], dim=0)
            roll = roll_about(rotations[end], axis.to(rotations[end]))
            still = torch.tensor([1.0, 0.0, 0.0, 0.0]).to(roll).expand(roll.shape)
            rolls[twist] = slerp(still, roll, SHARE)
    return rolls


def roll_about(q_wxyz: Float[Tensor, "*B 4"], axis: Float[Tensor, " 3"]) -> Float[Tensor, "*B 4"]:
    """The part of rotations that turns about a unit axis (swing-twist decomposition); none for swings of 180."""
    along = (q_wxyz[..., 1:] * axis).sum(dim=-1, keepdim=True)
    roll = torch.cat([q_wxyz[..., :1], along * axis], dim=-1)
    length = roll.norm(dim=-1, keepdim=True)
    still = torch.tensor([1.0, 0.0, 0.0, 0.0]).to(roll).expand(roll.shape)
    return torch.where(length > 1e-6, roll / length.clamp_min(1e-6), still)


def _with_twist(avatar: Avatar, name: str, joint: int, end: int) -> Avatar:
    """Append the twist joint and give it its share of the limb's weights."""
    skeleton = avatar.skeleton
    start, stop = skeleton.positions[joint], skeleton.positions[end]
    place = start + SHARE * (stop - start)
    new = len(skeleton.names)
    extended = Skeleton(
        (*skeleton.names, name), (*skeleton.parents, joint), torch.cat([skeleton.positions, place[None]])
    )
    parts = tuple(_shared(part, joint, new, start, stop) for part in avatar.parts)
    return replace(avatar, skeleton=extended, parts=parts)


def _shared(part: Part, joint: int, twist: int, start: Tensor, stop: Tensor) -> Part:
    skin, limb = part.skin, stop - start
    rows = torch.nonzero(((skin.joints == joint) & (skin.weights > 0)).any(dim=1))[:, 0]
    if len(rows) == 0:
        return part
    along = (part.mesh.vertices[rows] - start) @ limb / (limb @ limb)
    share = (along / SHARE).clamp(0, 1)
    joints, weights = _split(skin.joints[rows], skin.weights[rows], joint, twist, share)
    all_joints, all_weights = skin.joints.clone(), skin.weights.clone()
    all_joints[rows], all_weights[rows] = joints, weights
    return replace(part, skin=Skin(all_joints, all_weights))


def _split(
    joints: Int[Tensor, "N 4"], weights: Float[Tensor, "N 4"], joint: int, twist: int, share: Float[Tensor, " N"]
) -> tuple[Int[Tensor, "N 4"], Float[Tensor, "N 4"]]:
    """Move a share of one joint's weight to another; where all four slots are taken, all of it or none."""
    joints, weights = joints.clone(), weights.clone()
    own = (joints == joint) & (weights > 0)
    total = (weights * own).sum(dim=1)
    slot = own.to(torch.uint8).argmax(dim=1)
    every = torch.arange(len(joints), device=joints.device)
    weights[own] = 0.0
    weights[every, slot] = total
    free = weights == 0
    room = free.any(dim=1)
    share = torch.where(room, share, (share >= 0.5).to(share))
    other = torch.where(room, free.to(torch.uint8).argmax(dim=1), slot)
    moved = total * share
    weights[every, slot] = total - moved
    whole = share >= 1
    into = torch.where(whole, slot, other)
    has = share > 0
    joints[every[has], into[has]] = twist
    weights[every[has], into[has]] = moved[has]
    return joints, weights
