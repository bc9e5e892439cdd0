"""Re-binding: the same avatar with another pose as its rest pose.

The engine models in A-pose. Importers of humanoids (VRM, Unity, Godot, Mixamo) expect a T-pose: legs straight
down, arms straight out along X, palms down, thumbs at 45 degrees between X and Z (VRM 1.0, tpose.md).

Skinning is not undone by skinning back: blends of rotations shrink. So the new rest shape is not the skinned one
but the one which *becomes the old shape exactly* when it is posed back: with B the blend of a vertex's backward
joint transforms, its new rest place is B^-1 v. Poses near the modelled one look as modelled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from avatar3d.body.pose import Pose, joint_transforms, skin_transforms
from avatar3d.errors import InputError
from avatar3d.rotations import axis_angle_to_matrix, matrix_to_quaternion, quaternion_to_matrix, rotation_between
from avatar3d.structures import Avatar, Clip, Collider, Part, Skeleton

FLATTEST = 0.1
"""Smallest determinant of a blend that is still inverted; flatter ones are skinned forwards instead. Two joints
half and half reach it when one is turned by 143 degrees against the other."""


class BindError(InputError, ValueError):
    """An avatar whose skeleton lacks the joints of a pose."""


def in_t_pose(avatar: Avatar) -> Avatar:
    """The avatar bound in T-pose, soles at Y = 0. Raises `BindError` for a skeleton that is not a humanoid's."""
    return rebound(avatar, t_pose(avatar.skeleton))


def rebound(avatar: Avatar, pose: Pose) -> Avatar:
    """The avatar with `pose` as its rest pose, its lowest vertex at the height that it had before.

    Posed by `back(skeleton, pose)` it has the original shape (vertices, normals, face shapes) except for that
    change of height, which all joints but `root` share.
    """
    transforms = joint_transforms(avatar.skeleton, pose)
    parts = [_rebound_part(part, transforms) for part in avatar.parts]
    up = torch.tensor([0.0, 1.0, 0.0]).to(transforms) * (_lowest(avatar.parts) - _lowest(parts))
    homogeneous = torch.nn.functional.pad(avatar.skeleton.positions, (0, 1), value=1.0)
    positions = (transforms[:, :3] @ homogeneous[:, :, None])[:, :, 0]
    root = torch.tensor([name == "root" for name in avatar.skeleton.names], device=positions.device)
    turns = dict(zip(avatar.skeleton.names, transforms[:, :3, :3], strict=True))
    return replace(
        avatar,
        skeleton=replace(avatar.skeleton, positions=torch.where(root[:, None], positions, positions + up)),
        parts=tuple(replace(p, mesh=replace(p.mesh, vertices=p.mesh.vertices + up)) for p in parts),
        colliders=tuple(_turned_collider(c, turns[c.joint]) for c in avatar.colliders),
    )


def _rebound_part(part: Part, transforms: Float[Tensor, "J 4 4"]) -> Part:
    moving = (transforms != torch.eye(4).to(transforms)).any(dim=(1, 2))
    rows = (moving[part.skin.joints] & (part.skin.weights > 0)).any(dim=1)
    if not bool(rows.any()):
        return part
    turn, shift = _new_rest(part.skin.joints[rows], part.skin.weights[rows], transforms)
    mesh, morphs = part.mesh, part.morphs
    vertices, normals = mesh.vertices.clone(), mesh.normals.clone()
    vertices[rows] = _turned(turn, mesh.vertices[rows]) + shift
    normals[rows] = torch.nn.functional.normalize(_turned(turn, mesh.normals[rows]), dim=-1)
    if morphs is not None:
        shaped = (morphs.deltas[:, rows] != 0).any(dim=2).any(dim=0)
        both = torch.nonzero(rows)[shaped, 0]
        if len(both):
            deltas = morphs.deltas.clone()
            deltas[:, both] = _turned(turn[shaped], morphs.deltas[:, both])
            morphs = replace(morphs, deltas=deltas)
    return replace(part, mesh=replace(mesh, vertices=vertices, normals=normals), morphs=morphs)


def _turned(turn: Float[Tensor, "V 3 3"], vectors: Float[Tensor, "*M V 3"]) -> Float[Tensor, "*M V 3"]:
    return (turn @ vectors[..., None])[..., 0]


def _new_rest(
    joints: Int[Tensor, "V 4"], weights: Float[Tensor, "V 4"], transforms: Float[Tensor, "J 4 4"]
) -> tuple[Float[Tensor, "V 3 3"], Float[Tensor, "V 3"]]:
    """Linear and constant part of each vertex's way into the new rest pose."""
    backwards = skin_transforms(joints, weights, torch.linalg.inv(transforms))
    linear = backwards[:, :, :3]
    flat = torch.linalg.det(linear) < FLATTEST
    turn = torch.linalg.inv(torch.where(flat[:, None, None], torch.eye(3).to(linear), linear))
    shift = -(turn @ backwards[:, :, 3:])[:, :, 0]
    if bool(flat.any()):
        forwards = skin_transforms(joints, weights, transforms)
        turn = torch.where(flat[:, None, None], forwards[:, :, :3], turn)
        shift = torch.where(flat[:, None], forwards[:, :, 3], shift)
    return turn, shift


def _lowest(parts: Sequence[Part]) -> Tensor:
    return torch.stack([part.mesh.vertices[:, 1].min() for part in parts]).min()


def _turned_collider(collider: Collider, turn: Float[Tensor, "3 3"]) -> Collider:
    def turned(offset: tuple[float, float, float]) -> tuple[float, float, float]:
        x, y, z = (turn @ torch.tensor(offset).to(turn)).tolist()
        return (x, y, z)

    tail = None if collider.tail is None else turned(collider.tail)
    return replace(collider, offset=turned(collider.offset), tail=tail)


def back(skeleton: Skeleton, pose: Pose) -> Pose:
    """The pose that takes an avatar which was re-bound in `pose` to its former rest pose."""
    world = joint_transforms(skeleton, pose)[:, :3, :3]
    result = {}
    for name, parent, turn in zip(skeleton.names, skeleton.parents, world, strict=True):
        above = torch.eye(3).to(turn) if parent < 0 else world[parent]
        result[name] = matrix_to_quaternion(above @ turn.mT)
    return result


def rebound_clip(clip: Clip, before: Skeleton, pose: Pose, after: Skeleton) -> Clip:
    """A clip of the skeleton `before` for the one that re-binding in `pose` gave: joints move as they did."""
    world = joint_transforms(before, pose)[:, :3, :3].double()
    unmoved = torch.nn.functional.pad(before.positions.double(), (0, 1), value=1.0)
    unmoved = (joint_transforms(before, pose).double()[:, :3] @ unmoved[:, :, None])[:, :, 0]
    raised = after.positions.double() - unmoved
    still = torch.tensor([1.0, 0.0, 0.0, 0.0]).expand(len(clip.times), 4)
    rotations, translations = dict(clip.rotations), dict(clip.translations)
    for joint, (name, parent) in enumerate(zip(before.names, before.parents, strict=True)):
        above = torch.eye(3).double() if parent < 0 else world[parent]
        if name in rotations or name in pose:
            turned = quaternion_to_matrix(rotations.get(name, still).double())
            rotations[name] = matrix_to_quaternion(above @ turned @ world[joint].mT).to(clip.times)
        shift = raised[joint] - (raised[parent] if parent >= 0 else 0)
        if name in translations or float(shift.norm()) > 1e-7:
            offsets = translations.get(name, torch.zeros(len(clip.times), 3).to(clip.times))
            translations[name] = (offsets.double() @ above.T - shift).to(clip.times)
    return replace(clip, rotations=rotations, translations=translations)


LIMBS = ("UpperArm", "LowerArm", "Hand", "UpperLeg", "LowerLeg", "Foot")
FINGERS = ("Index", "Middle", "Ring", "Little")


def t_pose(skeleton: Skeleton) -> Pose:
    """Rotations that straighten a skeleton, from any pose that is no contortion, into VRM's T-pose.

    The forearm takes half of the hand's roll. Raises `BindError` when arms or legs are missing.
    """
    missing = {f"{side}{joint}" for side in ("left", "right") for joint in LIMBS} - set(skeleton.names)
    if missing:
        raise BindError(f"a T-pose needs arms and legs; these joints are missing: {', '.join(sorted(missing))}")
    turned = _Turned(skeleton)
    down, front = _vector(0, -1, 0), _vector(0, 0, 1)
    for side, out in (("left", _vector(1, 0, 0)), ("right", _vector(-1, 0, 0))):
        turned.aim(f"{side}UpperLeg", f"{side}LowerLeg", down)
        turned.aim(f"{side}LowerLeg", f"{side}Foot", down)
        turned.world[f"{side}Foot"] = _foot_forwards(turned, side)
        turned.aim(f"{side}UpperArm", f"{side}LowerArm", out)
        turned.aim(f"{side}LowerArm", f"{side}Hand", out)
        if not {f"{side}{finger}Proximal" for finger in ("Index", "Middle", "Little")} <= set(skeleton.names):
            continue
        _flatten_hand(turned, side, out, front)
        for finger in FINGERS:
            turned.straighten(
                (f"{side}{finger}Proximal", f"{side}{finger}Intermediate", f"{side}{finger}Distal"), out
            )
        thumb = (f"{side}ThumbMetacarpal", f"{side}ThumbProximal", f"{side}ThumbDistal")
        turned.straighten(thumb, (out + front) / 2**0.5)
    return turned.pose()


class _Turned:
    """World rotations of joints while a skeleton is straightened from the root outwards."""

    def __init__(self, skeleton: Skeleton) -> None:
        self.skeleton = skeleton
        self.world: dict[str, Tensor] = {}

    def place(self, joint: str) -> Tensor:
        """Rest position."""
        return self.skeleton.positions[self.skeleton.names.index(joint)].double()

    def of(self, joint: str) -> Tensor:
        """World rotation so far: its own or that of the nearest joint above that has one."""
        index = self.skeleton.names.index(joint)
        while index >= 0:
            name = self.skeleton.names[index]
            if name in self.world:
                return self.world[name]
            index = self.skeleton.parents[index]
        return torch.eye(3).double()

    def aim(self, joint: str, child: str, direction: Tensor) -> None:
        """Turn a joint by the shortest way so that its bone points along a direction."""
        self._aim(joint, self.place(child) - self.place(joint), direction)

    def _aim(self, joint: str, bone: Tensor, direction: Tensor) -> None:
        base = self.of(joint)
        self.world[joint] = rotation_between(base @ bone, direction) @ base

    def straighten(self, chain: tuple[str, str, str], direction: Tensor) -> None:
        """Align a finger; its last bone, whose tip no joint marks, is taken to bend as much as the one before."""
        if not set(chain) <= set(self.skeleton.names):
            return
        first, second, last = chain
        bone_1, bone_2 = self.place(second) - self.place(first), self.place(last) - self.place(second)
        self._aim(first, bone_1, direction)
        self._aim(second, bone_2, direction)
        self._aim(last, rotation_between(bone_1, bone_2) @ bone_2, direction)

    def pose(self) -> Pose:
        """Rotations in the parents' frames."""
        result = {}
        for name, parent in zip(self.skeleton.names, self.skeleton.parents, strict=True):
            if name in self.world:
                above = torch.eye(3).double() if parent < 0 else self.of(self.skeleton.names[parent])
                result[name] = matrix_to_quaternion(above.mT @ self.world[name]).to(self.skeleton.positions)
        return result


def _flatten_hand(turned: _Turned, side: str, out: Tensor, front: Tensor) -> None:
    """Palm down: middle finger outwards, index finger in front; the forearm rolls half of the way."""
    middle = turned.place(f"{side}MiddleProximal") - turned.place(f"{side}Hand")
    knuckles = turned.place(f"{side}IndexProximal") - turned.place(f"{side}LittleProximal")
    hand = _frame(out, front) @ _frame(middle, knuckles).mT
    forearm = turned.of(f"{side}LowerArm")
    across = forearm @ knuckles
    across = across - out * (across @ out)
    roll = torch.atan2(torch.linalg.cross(across, front) @ out, across @ front)
    turned.world[f"{side}LowerArm"] = axis_angle_to_matrix(out * roll / 2) @ forearm
    turned.world[f"{side}Hand"] = hand


def _foot_forwards(turned: _Turned, side: str) -> Tensor:
    """The foot as flat on the ground as it was, pointing along Z."""
    if f"{side}Toes" not in turned.skeleton.names:
        return torch.eye(3).double()
    along = turned.place(f"{side}Toes") - turned.place(f"{side}Foot")
    return axis_angle_to_matrix(_vector(0, -float(torch.atan2(along[0], along[2])), 0))


def _frame(first: Tensor, second: Tensor) -> Float[Tensor, "3 3"]:
    """Orthonormal columns: along `first`, `second` made orthogonal to it, their normal."""
    a = first / first.norm()
    b = second - a * (a @ second)
    b = b / b.norm()
    return torch.stack([a, b, torch.linalg.cross(a, b)], dim=1)


def _vector(x: float, y: float, z: float) -> Float[Tensor, " 3"]:
    return torch.tensor([x, y, z], dtype=torch.float64)
