"""Skeletons with fewer joints: weights, springs and colliders go to what is left."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import torch

from avatar3d.errors import InputError
from avatar3d.structures import Avatar, Collider, Skeleton, Skin

FINGERS = ("Thumb", "Index", "Middle", "Ring", "Little")


class JointError(InputError, ValueError):
    """Joints that can not be taken away."""


def without_joints(avatar: Avatar, names: Iterable[str]) -> Avatar:
    """The avatar without some joints; what followed them follows the joint above.

    Chains that lose all but one joint swing no more. Raises `JointError` for the root and for joints that are not
    there.
    """
    skeleton, gone = avatar.skeleton, set(names)
    unknown = gone - set(skeleton.names)
    if unknown:
        raise JointError(f"no joint {min(unknown)!r} to take away; the joints are: {', '.join(skeleton.names)}")
    heir: list[int] = []
    for joint, (name, parent) in enumerate(zip(skeleton.names, skeleton.parents, strict=True)):
        if name in gone and parent < 0:
            raise JointError(f"{name!r} is the root of the skeleton and can not be taken away")
        heir.append(heir[parent] if name in gone else joint)
    kept = [joint for joint, name in enumerate(skeleton.names) if name not in gone]
    index = {joint: n for n, joint in enumerate(kept)}
    moved = torch.tensor([index[joint] for joint in heir], device=skeleton.positions.device)
    parents = tuple(-1 if skeleton.parents[j] < 0 else index[heir[skeleton.parents[j]]] for j in kept)
    chains = (replace(c, joints=tuple(j for j in c.joints if j not in gone)) for c in avatar.springs)
    return replace(
        avatar,
        skeleton=Skeleton(tuple(skeleton.names[j] for j in kept), parents, skeleton.positions[kept]),
        parts=tuple(replace(p, skin=Skin(moved[p.skin.joints], p.skin.weights)) for p in avatar.parts),
        springs=tuple(chain for chain in chains if len(chain.joints) > 1),
        colliders=tuple(_inherited(c, skeleton, heir) for c in avatar.colliders),
    )


def _inherited(collider: Collider, skeleton: Skeleton, heir: list[int]) -> Collider:
    joint = skeleton.names.index(collider.joint)
    above = heir[joint]
    if above == joint:
        return collider
    x, y, z = (skeleton.positions[joint] - skeleton.positions[above]).tolist()

    def seen_from_above(offset: tuple[float, float, float]) -> tuple[float, float, float]:
        return (offset[0] + x, offset[1] + y, offset[2] + z)

    tail = None if collider.tail is None else seen_from_above(collider.tail)
    return replace(collider, joint=skeleton.names[above], offset=seen_from_above(collider.offset), tail=tail)


def with_at_most(avatar: Avatar, joints: int) -> Avatar:
    """The avatar with at most so many joints, the most dispensable ones taken away first.

    These are the ends of long hair, twist joints, finger tips, middle joints of fingers, all of the hair, toes,
    eyes, fingers. Raises `JointError` when a body without all these has still more.
    """
    for group in _dispensable(avatar.skeleton):
        excess = len(avatar.skeleton.names) - joints
        if excess <= 0:
            return avatar
        avatar = without_joints(avatar, [name for name in group if name in avatar.skeleton.names])
    if len(avatar.skeleton.names) > joints:
        raise JointError(f"a body needs {len(avatar.skeleton.names)} joints, more than {joints}; allow more")
    return avatar


def _dispensable(skeleton: Skeleton) -> list[list[str]]:
    hair = [name for name in skeleton.names if name.startswith("hair_")]
    longest = max((int(name.rpartition("_")[2]) for name in hair if name.rpartition("_")[2].isdigit()), default=0)
    ends = [[name for name in hair if name.endswith(f"_{n}")] for n in range(longest, 1, -1)]
    digits = [f"{side}{finger}" for side in ("left", "right") for finger in FINGERS]
    return [
        *ends,
        [name for name in skeleton.names if name.endswith("Twist")],
        [f"{digit}Distal" for digit in digits],
        [f"{digit}Intermediate" for digit in digits],
        hair,
        ["leftToes", "rightToes"],
        ["leftEye", "rightEye"],
        [f"{digit}{segment}" for digit in digits for segment in ("Proximal", "Metacarpal")],
    ]
