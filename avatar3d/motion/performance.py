"""A clip in the making: key frames of a person who starts from the relaxed pose.

All turns are written for the A pose that the body template rests in. `Performance.clip` carries them to the rest
pose that the avatar has, so that avatars bound in T pose, ours or other programs', move alike.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.body.pose import relaxed_pose
from avatar3d.body.template import load_template
from avatar3d.motion.expressions import WITH_BLINKS, relieved
from avatar3d.motion.kinematics import (
    MotionError,
    arm_turns,
    composed,
    continuous,
    joint_frames,
    limb_frame,
    local_rotations,
    two_bone,
    unit,
    with_bind_turns,
)
from avatar3d.rotations import (
    axis_angle_to_quaternion,
    matrix_to_quaternion,
    slerp,
)
from avatar3d.structures import Avatar, Clip, Skeleton

FPS = 30
SIDES = (("left", 1.0), ("right", -1.0))
"""Names of the sides and the sign of x there."""
REQUIRED = ("hips", "spine", "head") + tuple(
    f"{side}{bone}"
    for side, _ in SIDES
    for bone in ("UpperLeg", "LowerLeg", "Foot", "UpperArm", "LowerArm", "Hand")
)
"""VRM's required bones: what every clip moves."""
SAME_BIND = math.radians(15.0)
"""Arms that rest nearer to the template's than this rest in A pose."""

Curve = Float[Tensor, " T"]


class Performance:
    """Local turns, hip offsets and face weights of `frames` key frames; methods add to what is there."""

    def __init__(self, avatar: Avatar, frames: int, fps: int = FPS) -> None:
        missing = [name for name in REQUIRED if name not in avatar.skeleton.names]
        if missing:
            raise MotionError(
                f"the skeleton has no {', '.join(missing)}: clips need VRM's humanoid bones; rename the joints"
            )
        self.avatar = avatar
        self.turns, self.skeleton = a_pose(avatar.skeleton)
        self.frames = frames
        self.times = torch.arange(frames, dtype=torch.float64) / fps
        names = set(self.skeleton.names)
        self.rotations = {
            name: q.double().expand(frames, 4) for name, q in relaxed_pose().items() if name in names
        }
        self.offsets: dict[str, Float[Tensor, "T 3"]] = {"hips": torch.zeros(frames, 3, dtype=torch.float64)}
        self.face: dict[str, Curve] = {}

    @property
    def phase(self) -> Curve:
        """From 0 at the first key frame to 1 at the last."""
        return torch.linspace(0.0, 1.0, self.frames, dtype=torch.float64)

    def rest(self, joint: str) -> Float[Tensor, " 3"]:
        """Where the joint is in A pose."""
        return self.skeleton.positions[self.skeleton.names.index(joint)].double()

    def turn(self, joint: str, axis: str, degrees: Curve) -> None:
        """Turn a joint about its parent's x (left), y (up) or z (front) axis, after what it did before."""
        if joint in self.skeleton.names:
            direction = torch.eye(3, dtype=torch.float64)["xyz".index(axis)]
            self.add(joint, axis_angle_to_quaternion(torch.deg2rad(degrees)[:, None] * direction))

    def add(self, joint: str, turn: Float[Tensor, "*B 4"]) -> None:
        """Turn a joint after what it did before."""
        still = torch.tensor([1.0, 0, 0, 0], dtype=torch.float64).expand(self.frames, 4)
        self.rotations[joint] = composed(turn, self.rotations.get(joint, still))

    def bend_spine(self, axis: str, degrees: Curve, shares: dict[str, float] | None = None) -> None:
        """Spread a turn of the trunk over the spine's joints that the skeleton has."""
        shares = {"spine": 0.3, "chest": 0.35, "upperChest": 0.35} if shares is None else shares
        there = {joint: share for joint, share in shares.items() if joint in self.skeleton.names}
        total = sum(there.values())
        for joint, share in there.items():
            self.turn(joint, axis, degrees * (share / total))

    def bend_neck(self, axis: str, degrees: Curve) -> None:
        """Turn the head, two fifths of it in the neck."""
        share = 0.4 if "neck" in self.skeleton.names else 0.0
        self.turn("neck", axis, degrees * share)
        self.turn("head", axis, degrees * (1 - share))

    def shape(self, name: str, weights: Curve) -> None:
        """Raise a face shape to at least these weights."""
        weights = weights.clamp(0.0, 1.0)
        self.face[name] = torch.maximum(self.face[name], weights) if name in self.face else weights

    def frames_of_joints(self) -> tuple[Float[Tensor, "T J 3 3"], Float[Tensor, "T J 3"]]:
        """World rotations and positions of all joints so far."""
        return joint_frames(self.skeleton, self.rotations, self.offsets, self.frames)

    def place_leg(self, side: str, ankle: Float[Tensor, "T 3"], foot: Float[Tensor, "T 3 3"]) -> None:
        """Bring an ankle to a place and its foot to an attitude in space; the knee points as the foot does."""
        names = self.skeleton.names
        world, places = self.frames_of_joints()
        hip, knee, end = (self.rest(f"{side}{bone}") for bone in ("UpperLeg", "LowerLeg", "Foot"))
        front = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
        pole = unit(foot[..., 2] * torch.tensor([1.0, 0.0, 1.0]).double()) + world[:, names.index("hips"), :, 2]
        lengths = (float((knee - hip).norm()), float((end - knee).norm()))
        root = places[:, names.index(f"{side}UpperLeg")]
        thigh, shank, hinge = two_bone(root, ankle, lengths, pole)
        along = unit(end - hip)
        rest_hinge = torch.linalg.cross(unit(front - (front @ along) * along), along)
        for bone, rest, now in (("UpperLeg", knee - hip, thigh), ("LowerLeg", end - knee, shank)):
            world[:, names.index(f"{side}{bone}")] = limb_frame(now, hinge) @ limb_frame(
                rest, rest_hinge
            ).transpose(-1, -2)
        world[:, names.index(f"{side}Foot")] = foot
        self.rotations |= local_rotations(
            self.skeleton, world, (f"{side}UpperLeg", f"{side}LowerLeg", f"{side}Foot")
        )

    def place_arm(
        self,
        side: str,
        upper: Float[Tensor, "*B 3"],
        lower: Float[Tensor, "*C 3"],
        amount: Curve,
        twist: Curve | float = 0.0,
    ) -> None:
        """Point the arm's two bones along directions of the chest's axes, by `amount` of the way from before.

        The elbow's hinge turns with them. `twist` turns the palm up (supination), degrees.
        """
        shoulder, elbow, wrist = (self.rest(f"{side}{bone}") for bone in ("UpperArm", "LowerArm", "Hand"))
        rest_hinge = torch.linalg.cross(elbow - shoulder, wrist - elbow)
        upper, lower = torch.broadcast_tensors(upper, lower)
        hinge = torch.linalg.cross(upper, lower)
        first, second = (
            (limb_frame(now, hinge) @ limb_frame(rest, rest_hinge).T).expand(self.frames, 3, 3)
            for rest, now in ((elbow - shoulder, upper), (wrist - elbow, lower))
        )
        local = {
            f"{side}UpperArm": matrix_to_quaternion(first),
            f"{side}LowerArm": matrix_to_quaternion(first.transpose(-1, -2) @ second),
        }
        sign = 1.0 if side == "left" else -1.0
        roll = torch.deg2rad(torch.as_tensor(twist, dtype=torch.float64)).expand(self.frames)
        turn = axis_angle_to_quaternion(sign * roll[:, None] * unit(wrist - elbow))
        local[f"{side}LowerArm"] = composed(local[f"{side}LowerArm"], turn)
        for bone, goal in local.items():
            self.rotations[bone] = slerp(self.rotations[bone], goal, amount)

    def bend_elbow(self, side: str, degrees: Curve) -> None:
        """Bend an elbow about the hinge that its rest pose shows."""
        shoulder, elbow, wrist = (self.rest(f"{side}{bone}") for bone in ("UpperArm", "LowerArm", "Hand"))
        hinge = unit(torch.linalg.cross(elbow - shoulder, wrist - elbow))
        self.add(f"{side}LowerArm", axis_angle_to_quaternion(torch.deg2rad(degrees)[:, None] * hinge))

    def curl(
        self, side: str, degrees: Curve, fingers: tuple[str, ...] = ("Index", "Middle", "Ring", "Little")
    ) -> None:
        """Bend fingers at each of their joints about the hand's knuckles; negative opens them."""
        names = self.skeleton.names
        if f"{side}IndexProximal" not in names or f"{side}LittleProximal" not in names:
            return
        knuckles = unit(self.rest(f"{side}LittleProximal") - self.rest(f"{side}IndexProximal"))
        axis = knuckles * (1.0 if side == "left" else -1.0)
        for finger in fingers:
            for segment in ("Proximal", "Intermediate", "Distal"):
                if f"{side}{finger}{segment}" in names:
                    turn = axis_angle_to_quaternion(torch.deg2rad(degrees)[:, None] * axis)
                    self.add(f"{side}{finger}{segment}", turn)

    def clip(self, name: str, loops: bool) -> Clip:
        """The finished clip, for the avatar's own rest pose. A loop's last key frame becomes its first."""
        dtype = self.avatar.skeleton.positions.dtype
        device = self.avatar.skeleton.positions.device
        rotations = {joint: continuous(unit_quaternion(q)) for joint, q in self.rotations.items()}
        tracks = [rotations, self.offsets, self._whole_face()]
        if loops:
            tracks = [{key: closed(values) for key, values in track.items()} for track in tracks]
        rotations, offsets, face = (
            {key: values.to(device, dtype) for key, values in track.items()} for track in tracks
        )
        clip = Clip(name, self.times.to(device, dtype), rotations, offsets, face, loops)
        return clip if self.turns is None else with_bind_turns(clip, self.avatar.skeleton, self.turns)

    def _whole_face(self) -> dict[str, Curve]:
        """Face weights that never fall below the face that the avatar wears, and lids that close once."""
        worn = {name: torch.full_like(self.times, weight) for name, weight in self.avatar.expression.items()}
        face = {name: torch.maximum(w, worn[name]) if name in worn else w for name, w in self.face.items()}
        return relieved(face | {name: w for name, w in worn.items() if name.startswith(WITH_BLINKS)})


def unit_quaternion(q: Float[Tensor, "T 4"]) -> Float[Tensor, "T 4"]:
    return torch.nn.functional.normalize(q, dim=-1)


def closed(values: Float[Tensor, T * C]) -> Float[Tensor, T * C]:
    """The last value replaced by the first (of quaternions, by the nearer of the two that mean the same)."""
    values = values.clone()
    opposite = values.ndim == 2 and values.shape[1] == 4 and float((values[0] * values[-2:][0]).sum()) < 0
    values[-1] = -values[0] if opposite else values[0]
    return values


def a_pose(skeleton: Skeleton) -> tuple[Float[Tensor, "J 3 3"] | None, Skeleton]:
    """A skeleton whose arms rest as the template's, and the turns that lead from it to the given one.

    None when the arms are there already, but for what a person's build makes of them.
    """
    names, positions = skeleton.names, skeleton.positions.double()
    template = load_template()
    wanted = dict(zip(template.bone_names, template.bone_heads.double(), strict=True))
    own = dict(zip(names, positions, strict=True))
    turned: dict[str, Float[Tensor, "3 3"]] = {}
    far = 0.0
    for side, _ in SIDES:
        turned |= arm_turns(side, wanted, own)
        for bone, end in ((f"{side}UpperArm", f"{side}LowerArm"), (f"{side}LowerArm", f"{side}Hand")):
            cosine = float(unit(wanted[end] - wanted[bone]) @ unit(own[end] - own[bone]))
            far = max(far, math.acos(max(-1.0, min(1.0, cosine))))
    if far < SAME_BIND:
        return None, skeleton
    turns = torch.eye(3, dtype=torch.float64).repeat(len(names), 1, 1)
    places = positions.clone()
    for n, (name, parent) in enumerate(zip(names, skeleton.parents, strict=True)):
        if parent >= 0:
            turns[n] = turned.get(name, turns[parent])
            places[n] = places[parent] + turns[parent].T @ (positions[n] - positions[parent])
    return turns, replace(skeleton, positions=places.to(skeleton.positions))


def waves(
    generator: np.random.Generator, phase: Float[Tensor, " T"], cycles: tuple[int, ...] = (1, 2, 3)
) -> Float[Tensor, " T"]:
    """A smooth aimless curve in about [-1, 1] that ends as it begins: few harmonics with random phases."""
    total = torch.zeros_like(phase)
    for n in cycles:
        total = total + torch.sin(2 * math.pi * (n * phase + generator.random())) / n**0.5
    return total / sum(1 / n for n in cycles) ** 0.5


def ease(t: Float[Tensor, " T"], start: float, end: float) -> Float[Tensor, " T"]:
    """0 before `start`, 1 after `end`, between them the minimum-jerk curve (Flash and Hogan 1985)."""
    s = ((t - start) / (end - start)).clamp(0.0, 1.0)
    return s**3 * (10 - 15 * s + 6 * s * s)


def bell(t: Float[Tensor, " T"], start: float, attack: float, hold: float, release: float) -> Float[Tensor, " T"]:
    """Rises from 0 to 1, stays, and falls back, in seconds."""
    return ease(t, start, start + attack) * (1 - ease(t, start + attack + hold, start + attack + hold + release))
