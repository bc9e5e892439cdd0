"""Joints over time: forward kinematics of a clip, two-bone inverse kinematics, and changes of the bind pose.

`T` is the number of key frames, `J` of joints. World rotations turn a joint's rest axes (those of the avatar).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.errors import InputError
from avatar3d.rotations import (
    axis_angle_to_matrix,
    matrix_to_quaternion,
    quaternion_multiply,
    quaternion_to_matrix,
)
from avatar3d.structures import Clip, Skeleton

STRAIGHT = 0.9995
"""A limb is stretched to no more than this share of its length, so that its bend has a direction."""


FINGERS = ("Thumb", "Index", "Middle", "Ring", "Little")


class MotionError(InputError, ValueError):
    """A clip or an avatar that can not be put together, with the fault and the remedy."""


def joint_frames(
    skeleton: Skeleton, rotations: Mapping[str, Tensor], translations: Mapping[str, Tensor], frames: int
) -> tuple[Float[Tensor, "T J 3 3"], Float[Tensor, "T J 3"]]:
    """World rotations and positions of every joint under the local turns and offsets of a `Clip`."""
    rest = skeleton.positions.double()
    still = torch.eye(3, dtype=torch.float64).expand(frames, 3, 3)
    turns: list[Tensor] = []
    places: list[Tensor] = []
    for index, (name, parent) in enumerate(zip(skeleton.names, skeleton.parents, strict=True)):
        local = quaternion_to_matrix(rotations[name].double()) if name in rotations else still
        shift = translations[name].double() if name in translations else rest.new_zeros(frames, 3)
        if parent < 0:
            turns.append(local)
            places.append(rest[index] + shift)
        else:
            turns.append(turns[parent] @ local)
            offset = rest[index] - rest[parent] + shift
            places.append(places[parent] + (turns[parent] @ offset[..., None])[..., 0])
    return torch.stack(turns, dim=1), torch.stack(places, dim=1)


def clip_frames(skeleton: Skeleton, clip: Clip) -> tuple[Float[Tensor, "T J 3 3"], Float[Tensor, "T J 3"]]:
    """`joint_frames` of a clip; what it says of joints that the skeleton lacks is left out."""
    return joint_frames(skeleton, clip.rotations, clip.translations, len(clip.times))


def local_rotations(
    skeleton: Skeleton, world: Float[Tensor, "T J 3 3"], names: tuple[str, ...] | None = None
) -> dict[str, Float[Tensor, "T 4"]]:
    """Local quaternions, continuous in time, that give the joints these world rotations."""
    local = {}
    for index, (name, parent) in enumerate(zip(skeleton.names, skeleton.parents, strict=True)):
        if names is None or name in names:
            turn = world[:, index] if parent < 0 else world[:, parent].transpose(-1, -2) @ world[:, index]
            local[name] = continuous(matrix_to_quaternion(turn))
    return local


def continuous(q: Float[Tensor, "T 4"]) -> Float[Tensor, "T 4"]:
    """The same rotations without jumps to the opposite quaternion."""
    signs = torch.ones(len(q), dtype=q.dtype, device=q.device)
    signs[1:] = torch.where((q[1:] * q[:-1]).sum(-1) < 0, -1.0, 1.0)
    return q * signs.cumprod(0)[:, None]


def unit(v: Float[Tensor, "*B 3"]) -> Float[Tensor, "*B 3"]:
    return torch.nn.functional.normalize(v, dim=-1)


def limb_frame(along: Float[Tensor, "*B 3"], hinge: Float[Tensor, "*C 3"]) -> Float[Tensor, "*D 3 3"]:
    """Right-handed axes as columns: the bone, the hinge as far as it is perpendicular to it, and the third."""
    along, hinge = torch.broadcast_tensors(along, hinge)
    x = unit(along)
    y = unit(hinge - (hinge * x).sum(-1, keepdim=True) * x)
    return torch.stack([x, y, torch.linalg.cross(x, y)], dim=-1)


def two_bone(
    root: Float[Tensor, "T 3"],
    target: Float[Tensor, "T 3"],
    lengths: tuple[float, float],
    pole: Float[Tensor, "T 3"],
) -> tuple[Float[Tensor, "T 3"], Float[Tensor, "T 3"], Float[Tensor, "T 3"]]:
    """Directions of both bones of a limb from `root` that ends at `target`, and its hinge axis.

    The middle joint bends towards `pole`. Closed form by the law of cosines; a target out of reach is
    approached as far as the limb goes. The hinge is the axis about which the second bone has turned.
    """
    upper, lower = lengths
    offset = target - root
    longest = STRAIGHT * (upper + lower)
    distance = offset.norm(dim=-1, keepdim=True).clamp(abs(upper - lower) + 1e-4 * longest, longest)
    along = unit(offset)
    side = unit(pole - (pole * along).sum(-1, keepdim=True) * along)
    cosine = (upper**2 + distance**2 - lower**2) / (2 * upper * distance)
    first = cosine * along + (1 - cosine**2).clamp_min(0).sqrt() * side
    second = unit(distance * along - upper * first)
    return first, second, torch.linalg.cross(side, along)


def turn_between(a: Float[Tensor, " 3"], b: Float[Tensor, " 3"]) -> Float[Tensor, "3 3"]:
    """The smallest rotation matrix that takes the direction a to b (half turns: about any perpendicular axis)."""
    a, b = unit(a), unit(b)
    cosine = float(a @ b)
    if cosine < -1 + 1e-9:
        axis = unit(torch.linalg.cross(a, torch.eye(3, dtype=a.dtype)[int(a.abs().argmin())]))
        return 2 * torch.outer(axis, axis) - torch.eye(3, dtype=a.dtype)
    half = torch.cat([torch.tensor([1 + cosine], dtype=a.dtype), torch.linalg.cross(a, b)])
    return quaternion_to_matrix(half)


def fitted_turn(a: Float[Tensor, "N 3"], b: Float[Tensor, "N 3"]) -> Float[Tensor, "3 3"]:
    """The rotation that takes directions a to b with the least squared error (Kabsch 1976)."""
    u, _, vh = torch.linalg.svd(b.T @ a)
    sign = torch.diag(torch.tensor([1.0, 1.0, float(torch.det(u @ vh).sign())], dtype=a.dtype))
    return u @ sign @ vh


def children_of(skeleton: Skeleton) -> list[list[int]]:
    """Indices of every joint's children."""
    children: list[list[int]] = [[] for _ in skeleton.names]
    for index, parent in enumerate(skeleton.parents):
        if parent >= 0:
            children[parent].append(index)
    return children


def bind_turns(from_skeleton: Skeleton, to_skeleton: Skeleton) -> Float[Tensor, "J 3 3"]:
    """World turn of every joint that leads from one rest pose to another of the same skeleton.

    A joint with one child turns by the smallest angle on top of its parent's turn; one with several by the
    best fit to them; one with none as its parent.
    """
    a, b = from_skeleton.positions.double(), to_skeleton.positions.double()
    turns = torch.eye(3, dtype=torch.float64).repeat(len(a), 1, 1)
    for index, (parent, children) in enumerate(
        zip(from_skeleton.parents, children_of(from_skeleton), strict=True)
    ):
        carried = turns[parent] if parent >= 0 else turns[index]
        moved = [c for c in children if (a[c] - a[index]).norm() > 1e-6 and (b[c] - b[index]).norm() > 1e-6]
        before = [carried @ (a[c] - a[index]) for c in moved]
        after = [b[c] - b[index] for c in moved]
        if all((x - y).norm() < 1e-5 for x, y in zip(before, after, strict=True)):
            turns[index] = carried
        elif len(moved) == 1:
            turns[index] = turn_between(before[0], after[0]) @ carried
        else:
            turns[index] = fitted_turn(torch.stack(before), torch.stack(after)) @ carried
    return turns


def arm_turns(
    side: str, wanted: Mapping[str, Tensor], own: Mapping[str, Tensor]
) -> dict[str, Float[Tensor, "3 3"]]:
    """World turns that take an arm from the rest joints `wanted` to the rest joints `own`.

    Between a palm that faces the body and one that faces down the forearm rolls half of the way, the wrist the
    rest. Joints without a turn of their own follow the one above.
    """
    carried = torch.eye(3, dtype=torch.float64)
    turned = {}
    for bone, end in ((f"{side}UpperArm", f"{side}LowerArm"), (f"{side}LowerArm", f"{side}Hand")):
        if end in own:
            carried = turn_between(carried @ (wanted[end] - wanted[bone]), own[end] - own[bone]) @ carried
        turned[bone] = carried
    turned[f"{side}Hand"] = carried
    knuckles = [f"{side}{finger}Proximal" for finger in ("Index", "Middle", "Little")]
    if all(name in wanted and name in own for name in (f"{side}Hand", *knuckles)):
        turned |= _turned_hand(side, wanted, own, carried)
    for finger in FINGERS:
        carried = turned[f"{side}Hand"]
        for segment, following in itertools.pairwise((*segments_of(finger), "")):
            bone, end = f"{side}{finger}{segment}", f"{side}{finger}{following}"
            if all(name in heads for name in (bone, end) for heads in (wanted, own)):
                carried = turn_between(carried @ (wanted[end] - wanted[bone]), own[end] - own[bone]) @ carried
            turned[bone] = carried
    return turned


def segments_of(finger: str) -> tuple[str, str, str]:
    """Names of a finger's joints from the palm outwards."""
    if finger == "Thumb":
        return ("Metacarpal", "Proximal", "Distal")
    return ("Proximal", "Intermediate", "Distal")


def _turned_hand(
    side: str, wanted: Mapping[str, Tensor], own: Mapping[str, Tensor], forearm: Float[Tensor, "3 3"]
) -> dict[str, Float[Tensor, "3 3"]]:
    """Turns of hand and forearm that take the template's palm to the given one."""

    def palm(heads: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        along = heads[f"{side}MiddleProximal"] - heads[f"{side}Hand"]
        return along, heads[f"{side}IndexProximal"] - heads[f"{side}LittleProximal"]

    axis = unit(own[f"{side}Hand"] - own[f"{side}LowerArm"])
    across, goal = (v - (v @ axis) * axis for v in (forearm @ palm(wanted)[1], palm(own)[1]))
    roll = torch.atan2(torch.linalg.cross(across, goal) @ axis, across @ goal)
    return {
        f"{side}LowerArm": axis_angle_to_matrix(0.5 * roll * axis) @ forearm,
        f"{side}Hand": limb_frame(*palm(own)) @ limb_frame(*palm(wanted)).T,
    }


def rebased(clip: Clip, from_skeleton: Skeleton, to_skeleton: Skeleton) -> Clip:
    """The same motion in space for a skeleton whose rest pose differs (A and T pose, say).

    Raises `MotionError` when the skeletons do not have the same joints.
    """
    if from_skeleton.names != to_skeleton.names:
        raise MotionError("the skeletons have different joints; retarget the clip instead")
    turns = bind_turns(from_skeleton, to_skeleton)
    moved = with_bind_turns(clip, to_skeleton, turns)
    before, after = from_skeleton.positions.double(), to_skeleton.positions.double()
    offsets = dict(moved.translations)
    for index, (name, parent) in enumerate(zip(to_skeleton.names, to_skeleton.parents, strict=True)):
        expected = before[index] if parent < 0 else turns[parent] @ (before[index] - before[parent])
        actual = after[index] if parent < 0 else after[index] - after[parent]
        if (shift := expected - actual).norm() > 1e-6:
            own = offsets.get(name, torch.zeros(len(clip.times), 3))
            offsets[name] = own.to(clip.times) + shift.to(clip.times)
    return replace(moved, translations=offsets)


def with_bind_turns(clip: Clip, to_skeleton: Skeleton, turns: Float[Tensor, "J 3 3"]) -> Clip:
    """A clip for the rest pose that `turns` lead to: each joint's world turn is after undoing its own."""
    still = torch.eye(3, dtype=torch.float64)
    names, parents = to_skeleton.names, to_skeleton.parents
    local: dict[str, Tensor] = {}
    for index, (name, parent) in enumerate(zip(names, parents, strict=True)):
        before, after = still if parent < 0 else turns[parent], turns[index]
        if torch.equal(before, still) and torch.equal(after, still):
            local |= {name: clip.rotations[name]} if name in clip.rotations else {}
        elif name in clip.rotations:
            turned = before @ quaternion_to_matrix(clip.rotations[name].double()) @ after.T
            local[name] = continuous(matrix_to_quaternion(turned)).to(clip.times)
        elif not torch.allclose(before, after, atol=1e-9):
            turned = (before @ after.T).expand(len(clip.times), 3, 3)
            local[name] = matrix_to_quaternion(turned).to(clip.times)
    offsets = {}
    for name, offset in clip.translations.items():
        parent = parents[names.index(name)] if name in names else -1
        carry = still if parent < 0 else turns[parent]
        offsets[name] = (offset.double() @ carry.T).to(offset)
    return Clip(clip.name, clip.times, local, offsets, clip.expressions, clip.loops)


def composed(after: Float[Tensor, "*B 4"], before: Float[Tensor, "*C 4"]) -> Float[Tensor, "*D 4"]:
    """`quaternion_multiply` with broadcasting."""
    after, before = torch.broadcast_tensors(after, before)
    return quaternion_multiply(after, before)
