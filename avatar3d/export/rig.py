"""The skeleton as a file has it: an avatar's joints renamed, regrouped and turned as a bone profile wants.

Inside, joints are axis-aligned at rest and rotations are about the avatar's axes. A bone of a file may have axes
of its own: with `R` the rest orientations, a joint's rotation `q` becomes `R_parent^T q R_self`. Whatever the
profile, each bone's rigid motion equals that of the joint that it stands for (its source).

`mixamo` and `rpm` have Mixamo's axes (+Y along the bone, rolls as in the table below), so that rotation keys of
Mixamo clips fit unchanged. All other profiles have the avatar's axes at rest: engines retarget by the rest pose.
Unreal's own mannequin has other axes (X along the bone); its IK retargeter does not need them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.export.profiles import Inserted, Profile
from avatar3d.rotations import matrix_to_quaternion, quaternion_to_matrix, rotation_between
from avatar3d.structures import Clip, Skeleton

UNMOVED = 1e-6
"""A bone that stays this close (metres; for rotations, sine of the angle) to its rest place needs no track."""

SKULL = 0.2
"""Metres from the head joint up to the end bone that Mixamo's skeletons have there."""
_MIXAMO_AXES = {
    "up": np.eye(3),
    "left arm": np.array([[0.0, 1, 0], [0, 0, -1], [-1, 0, 0]]),
    "right arm": np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]]),
    "leg": np.array([[-1.0, 0, 0], [0, -1, 0], [0, 0, 1]]),
    "foot": np.array([[-1.0, 0, 0], [0, 0, 1], [0, 1, 0]]),
}
"""Columns are a bone's X, Y, Z in the avatar's axes when it lies straight: up, sideways, down, forwards."""


@dataclass(frozen=True)
class Rig:
    """B bones, parents before children."""

    names: tuple[str, ...]
    parents: tuple[int, ...]
    sources: tuple[int, ...]
    """Index of the joint that each bone moves with."""
    bone_of_joint: tuple[int, ...]
    """Per joint the bone that takes its skin weights."""
    positions: Float[Tensor, "B 3"]
    rotations: Float[Tensor, "B 3 3"]
    """Rest positions and orientations in the avatar's frame, double precision."""

    def rest(self) -> tuple[Float[Tensor, "B 4"], Float[Tensor, "B 3"]]:
        """Local rotations (wxyz) and translations of the bones' nodes at rest."""
        rotations, translations = [], []
        for bone, parent in enumerate(self.parents):
            R_parent = torch.eye(3).double() if parent < 0 else self.rotations[parent]
            origin = torch.zeros(3).double() if parent < 0 else self.positions[parent]
            rotations.append(R_parent.T @ self.rotations[bone])
            translations.append(R_parent.T @ (self.positions[bone] - origin))
        return matrix_to_quaternion(torch.stack(rotations)), torch.stack(translations)

    def inverse_bind_matrices(self) -> Float[Tensor, "B 4 4"]:
        """From the avatar's frame at rest to each bone's."""
        matrices = torch.eye(4).double().repeat(len(self.names), 1, 1)
        matrices[:, :3, :3] = self.rotations.mT
        matrices[:, :3, 3] = -(self.rotations.mT @ self.positions[:, :, None])[:, :, 0]
        return matrices


def make_rig(skeleton: Skeleton, profile: Profile) -> Rig:
    """The skeleton in the names, hierarchy and rest orientations of a profile."""
    positions = skeleton.positions.detach().cpu().double()
    kept = [j for j, name in enumerate(skeleton.names) if name not in profile.dropped]
    names = [profile.bones.get(skeleton.names[j], skeleton.names[j]) for j in kept]
    parents: dict[str, str | None] = {}
    places = {name: positions[j] for name, j in zip(names, kept, strict=True)}
    sources = dict(zip(names, kept, strict=True))
    for name, j in zip(names, kept, strict=True):
        above = skeleton.parents[j]
        while above >= 0 and skeleton.names[above] in profile.dropped:
            above = skeleton.parents[above]
        parents[name] = None if above < 0 else names[kept.index(above)]
    for bone in profile.inserted:
        if bone.parent in places and (bone.child is None or bone.child in places):
            _insert(bone, places, parents, sources)
    order = _parents_first(parents)
    index = {name: n for n, name in enumerate(order)}
    bone_of_source = {sources[name]: index[name] for name in reversed(order) if name in names}
    rig = Rig(
        names=tuple(order),
        parents=tuple(-1 if above is None else index[above] for above in (parents[name] for name in order)),
        sources=tuple(sources[name] for name in order),
        bone_of_joint=tuple(_heir(skeleton, j, bone_of_source) for j in range(len(skeleton.names))),
        positions=torch.stack([places[name] for name in order]),
        rotations=torch.eye(3).double().repeat(len(order), 1, 1),
    )
    return _along_bones(rig, skeleton) if profile.along_bones else rig


def _insert(bone: Inserted, places: dict, parents: dict, sources: dict) -> None:
    start = places[bone.parent]
    if bone.child is not None:
        direction = places[bone.child] - start
        parents[bone.child] = bone.name
    elif bone.name.endswith("HeadTop_End"):
        direction = torch.tensor([0.0, SKULL, 0.0]).double()
    else:
        direction = start - places[parents[bone.parent]]
    places[bone.name] = start + bone.share * direction
    parents[bone.name] = bone.parent
    sources[bone.name] = sources[bone.parent]


def _parents_first(parents: dict[str, str | None]) -> list[str]:
    """Names in their given order, moved behind their parents where these come later."""
    order: dict[str, None] = {}

    def place(name: str) -> None:
        above = parents[name]
        if above is not None and above not in order:
            place(above)
        order[name] = None

    for name in parents:
        if name not in order:
            place(name)
    return list(order)


def _heir(skeleton: Skeleton, joint: int, bone_of_source: dict[int, int]) -> int:
    """The bone of a joint; of a dropped joint, its nearest ancestor's or else its first child's."""
    above = joint
    while above >= 0:
        if above in bone_of_source:
            return bone_of_source[above]
        above = skeleton.parents[above]
    return _heir(skeleton, skeleton.parents.index(joint), bone_of_source)


def _along_bones(rig: Rig, skeleton: Skeleton) -> Rig:
    """Turn bones to point at their children: Mixamo's axes for straight bones, the shortest turn from there."""
    rotations: list[Tensor] = []
    for bone in range(len(rig.names)):
        joint = skeleton.names[rig.sources[bone]]
        axes = torch.from_numpy(_MIXAMO_AXES[_region(joint)])
        child = _straight_child(rig, skeleton, bone)
        above = rig.parents[bone]
        if child is not None:
            direction = rig.positions[child] - rig.positions[bone]
            axes = rotation_between(axes[:, 1], direction) @ axes
        elif above >= 0 and not joint.endswith("Eye"):
            axes = rotations[above]  # an end bone points as the bone that it ends
        rotations.append(axes)
    return Rig(rig.names, rig.parents, rig.sources, rig.bone_of_joint, rig.positions, torch.stack(rotations))


def _region(joint: str) -> str:
    side = joint.removeprefix("left").removeprefix("right")
    if side == joint or side == "Eye":
        return "up"
    if side.startswith(("Foot", "Toes")):
        return "foot"
    if side.startswith(("UpperLeg", "LowerLeg")):
        return "leg"
    return "left arm" if joint.startswith("left") else "right arm"


_NEXT = {
    "hips": "spine", "spine": "chest", "chest": "upperChest", "upperChest": "neck", "neck": "head",
    "Shoulder": "UpperArm", "UpperArm": "LowerArm", "LowerArm": "Hand", "Hand": "MiddleProximal",
    "UpperLeg": "LowerLeg", "LowerLeg": "Foot", "Foot": "Toes",
}  # fmt: skip


def _straight_child(rig: Rig, skeleton: Skeleton, bone: int) -> int | None:
    """The bone that this one points to: the next of its chain, or its only child; None for end bones."""
    children = [c for c, parent in enumerate(rig.parents) if parent == bone]
    joint = skeleton.names[rig.sources[bone]]
    side = next((s for s in ("left", "right") if joint.startswith(s)), "")
    wanted = _NEXT.get(joint) or _NEXT.get(joint.removeprefix(side))
    for child in children:
        name = skeleton.names[rig.sources[child]]
        if wanted is not None and name in (wanted, side + wanted):
            return child
    own = [c for c in children if rig.sources[c] == rig.sources[bone]]
    if own:
        return own[0]
    return children[0] if len(children) == 1 and wanted is None else None


@dataclass(frozen=True)
class BoneTrack:
    """Local values of a bone's node at a clip's T times; None for what stays at rest."""

    bone: int
    rotations: Float[Tensor, "T 4"] | None
    """Unit quaternions wxyz, neighbours in the same half-sphere."""
    translations: Float[Tensor, "T 3"] | None


def bone_tracks(rig: Rig, skeleton: Skeleton, clip: Clip) -> list[BoneTrack]:
    """A clip, which speaks of joints, as local rotations and translations of the bones that move."""
    moves = _JointMoves(skeleton, clip)
    rest_rotations, rest_translations = rig.rest()
    tracks = []
    for bone, (parent, source) in enumerate(zip(rig.parents, rig.sources, strict=True)):
        T_parent_bone = moves.relative(rig.sources[parent] if parent >= 0 else -1, source)
        if T_parent_bone is None:
            continue
        R_parent = torch.eye(3).double() if parent < 0 else rig.rotations[parent]
        origin = torch.zeros(3).double() if parent < 0 else rig.positions[parent]
        rotations = matrix_to_quaternion(R_parent.T @ T_parent_bone[:, :3, :3] @ rig.rotations[bone])
        place = T_parent_bone[:, :3, :3] @ rig.positions[bone] + T_parent_bone[:, :3, 3]
        translations = (place - origin) @ R_parent
        turned = (rotations * rest_rotations[bone]).sum(dim=1).abs() < 1 - UNMOVED**2
        shifted = (translations - rest_translations[bone]).abs() > UNMOVED
        track = BoneTrack(
            bone,
            _same_half_sphere(rotations) if bool(turned.any()) else None,
            translations if bool(shifted.any()) else None,
        )
        if track.rotations is not None or track.translations is not None:
            tracks.append(track)
    return tracks


class _JointMoves:
    """Rigid motions of a clip's joints relative to each other."""

    def __init__(self, skeleton: Skeleton, clip: Clip) -> None:
        self._skeleton = skeleton
        self._local: dict[int, Tensor] = {}
        for joint, name in enumerate(skeleton.names):
            if name in clip.rotations or name in clip.translations:
                self._local[joint] = _local_motion(skeleton.positions[joint].double(), name, clip)

    def relative(self, base: int, joint: int) -> Float[Tensor, "T 4 4"] | None:
        """The motion of `joint` (about rest positions) as `base` sees it; None if the two do not move apart."""
        above_base, above = self._ancestors(base), self._ancestors(joint)
        down = [j for j in above if j not in above_base and j in self._local]
        up = [j for j in above_base if j not in above and j in self._local]
        if not down and not up:
            return None
        result: Tensor | None = None
        for j in up:
            inverse = torch.linalg.inv(self._local[j])
            result = inverse if result is None else result @ inverse
        for j in reversed(down):
            result = self._local[j] if result is None else result @ self._local[j]
        return result

    def _ancestors(self, joint: int) -> list[int]:
        """The joint and what is above it, upwards."""
        chain = []
        while joint >= 0:
            chain.append(joint)
            joint = self._skeleton.parents[joint]
        return chain


def _local_motion(position: Tensor, name: str, clip: Clip) -> Float[Tensor, "T 4 4"]:
    motion = torch.eye(4).double().repeat(len(clip.times), 1, 1)
    if name in clip.rotations:
        motion[:, :3, :3] = quaternion_to_matrix(clip.rotations[name].detach().cpu().double())
    motion[:, :3, 3] = position - motion[:, :3, :3] @ position
    if name in clip.translations:
        motion[:, :3, 3] += clip.translations[name].detach().cpu().double()
    return motion


def _same_half_sphere(rotations: Float[Tensor, "T 4"]) -> Float[Tensor, "T 4"]:
    """Signs chosen so that interpolation takes the short way."""
    flips = torch.where((rotations[1:] * rotations[:-1]).sum(dim=1) < 0, -1.0, 1.0).to(rotations)
    signs = torch.cat([torch.ones(1).to(rotations), torch.cumprod(flips, dim=0)])
    return rotations * signs[:, None]
