"""Motions of other skeletons, played by an avatar: bones point where the file's bones point."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.motion.bone_names import recognise
from avatar3d.motion.bvh import MotionFile, MotionFileError
from avatar3d.motion.feet import lift_sunk_feet, lowest_soles
from avatar3d.motion.kinematics import arm_turns, limb_frame, local_rotations, turn_between, unit
from avatar3d.motion.performance import FPS, SIDES, Performance
from avatar3d.structures import Avatar, Clip

NEEDED = ("hips", "leftUpperLeg", "leftLowerLeg", "rightUpperLeg", "rightLowerLeg", "leftUpperArm", "leftLowerArm",
          "rightUpperArm", "rightLowerArm")  # fmt: skip
"""Bones without which a file moves nobody."""
NEXT = {"UpperArm": "LowerArm", "LowerArm": "Hand", "UpperLeg": "LowerLeg", "LowerLeg": "Foot"}
SQUARE = 0.94
"""Cosine: rest poses nearer than this to the file's axes are taken to stand upright along them."""
FLOOR = 0.05
"""Share of the frames in which soles may be below the ground before they are lifted."""


@dataclass(frozen=True)
class Retargeted:
    """A clip, and what became of the file's joints."""

    clip: Clip
    mapped: dict[str, str]
    """The file's joint -> the avatar's."""
    unmapped: tuple[str, ...]
    """The file's joints that move nothing."""
    still: tuple[str, ...]
    """The avatar's joints that the file does not move."""
    remarks: tuple[str, ...] = ()


def read_bone_map(path: Path | str) -> dict[str, str]:
    """A JSON object from a file's joint names to the avatar's. Raises `MotionFileError`."""
    try:
        content = json.loads(Path(path).read_text("utf-8-sig"))
    except OSError as error:
        raise MotionFileError(f"{path}: can not be read ({error.strerror}); check the path") from error
    except ValueError as error:
        raise MotionFileError(f"{path}: is not JSON ({error})") from error
    if not isinstance(content, dict) or not all(isinstance(v, str) for v in content.values()):
        raise MotionFileError(f'{path}: should hold an object such as {{"Bip01 L Thigh": "leftUpperLeg"}}')
    return content


def retarget(
    motion: MotionFile, avatar: Avatar, bones: dict[str, str] | None = None, name: str = "motion"
) -> Retargeted:
    """Let an avatar do what a motion file does; it begins at the origin and faces +Z.

    Rest poses may differ: limbs are aligned by their directions, the trunk by the axes in which the file's
    skeleton stands (its first frame, when its rest pose is no standing figure). The way of the hips is scaled by
    the length of the legs, and the soles end up on the ground. `bones` adds to or replaces what names tell.
    Raises `MotionFileError` when too few bones are recognised.
    """
    found = _matched(motion, avatar, bones or {})
    ours = {bone: n for n, bone in found.items()}
    stride = max(1, round(1 / (motion.frame_time * FPS)))
    turns, places = motion.world()
    remarks: tuple[str, ...] = ()
    rest = motion.rest()
    if not _stands(rest, ours):
        rest = places[0]
        turns = turns @ turns[:1].transpose(-1, -2)
        remarks = ("the rest pose is no standing figure; the first frame was taken for it",)
    turns, places = turns[::stride], places[::stride]
    p = Performance(avatar, len(turns))
    p.times = torch.arange(len(turns), dtype=torch.float64) * motion.frame_time * stride
    level = _leveled(places, ours)
    world = _world_turns(p, rest, level @ turns, (level @ places[..., None])[..., 0], ours)
    p.rotations |= world
    _move_hips(p, rest, (level @ places[..., None])[..., 0], ours)
    lift_sunk_feet(p)
    mapped = {motion.names[n]: bone for n, bone in found.items()}
    return Retargeted(
        p.clip(name, loops=False),
        mapped,
        tuple(n for n in motion.names if n not in mapped),
        tuple(n for n in avatar.skeleton.names if n not in ours and n != "root"),
        remarks,
    )


def _matched(motion: MotionFile, avatar: Avatar, bones: dict[str, str]) -> dict[int, str]:
    """Index of the file's joint -> joint of the avatar."""
    found = recognise(motion.names, motion.parents)
    for theirs, bone in bones.items():
        if theirs not in motion.names:
            raise MotionFileError(
                f"the bone map names {theirs!r}, but the file's joints are: {', '.join(motion.names)}"
            )
        if bone not in avatar.skeleton.names:
            raise MotionFileError(
                f"the bone map names {bone!r}, but the avatar's joints are: {', '.join(avatar.skeleton.names)}"
            )
        found = {n: b for n, b in found.items() if b != bone and n != motion.names.index(theirs)}
        found[motion.names.index(theirs)] = bone
    found = {n: bone for n, bone in found.items() if bone in avatar.skeleton.names}
    missing = [bone for bone in NEEDED if bone not in found.values()]
    if missing:
        raise MotionFileError(
            f"no joint was recognised as {', '.join(missing)}. The file's joints are: {', '.join(motion.names)}. "
            "Names like those of CMU, Mixamo, Biped, Xsens, Unity or VRM are known; for others pass a JSON file "
            'from the file\'s names to VRM\'s, such as {"thigh_L": "leftUpperLeg"}'
        )
    return found


def _upright(places: Float[Tensor, "J 3"], ours: dict[str, int]) -> tuple[Tensor, Tensor]:
    """(up, left) of a figure, not of unit length."""
    shoulders = places[[ours["leftUpperArm"], ours["rightUpperArm"]]]
    thighs = places[[ours["leftUpperLeg"], ours["rightUpperLeg"]]]
    top = places[ours["head"]] if "head" in ours else shoulders.mean(0)
    return top - thighs.mean(0), (thighs[0] - thighs[1]) + (shoulders[0] - shoulders[1])


def _stands(rest: Float[Tensor, "J 3"], ours: dict[str, int]) -> bool:
    """Is the rest pose a figure with a trunk, a left and legs that go away from the head?"""
    up, left = _upright(rest, ours)
    legs = rest[ours["leftLowerLeg"]] - rest[ours["leftUpperLeg"]]
    size = legs.norm()
    return bool(
        up.norm() > 0.3 * size
        and left.norm() > 0.1 * size
        and abs(float(unit(up) @ unit(left))) < 0.5
        and float(unit(legs) @ unit(up)) < -0.3
    )


def _axes(places: Float[Tensor, "J 3"], ours: dict[str, int]) -> Float[Tensor, "3 3"]:
    """Columns: the figure's left, up and front; along the file's axes when these are near."""
    up, left = _upright(places, ours)
    frame = limb_frame(up, left)
    axes = torch.stack([frame[:, 1], frame[:, 0], torch.linalg.cross(frame[:, 1], frame[:, 0])], dim=1)
    nearest = axes.abs().argmax(dim=0)
    if sorted(nearest.tolist()) == [0, 1, 2] and float(axes.abs().amax(0).min()) > SQUARE:
        square = torch.zeros_like(axes)
        square[nearest, torch.arange(3)] = axes[nearest, torch.arange(3)].sign()
        return square
    return axes


def _leveled(places: Float[Tensor, "T J 3"], ours: dict[str, int]) -> Float[Tensor, "3 3"]:
    """The turn into our axes: the file's vertical becomes Y, the first frame's figure faces +Z.

    A figure that nearly faces along one of the file's axes is turned by whole quarters only.
    """
    risen = torch.stack([_upright(frame, ours)[0] for frame in places[:: max(1, len(places) // 50)]])
    mean = unit(unit(risen).mean(0))
    axis = torch.zeros(3, dtype=torch.float64)
    axis[int(mean.abs().argmax())] = mean[int(mean.abs().argmax())].sign()
    vertical = turn_between(axis, torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64))
    left = unit((vertical @ _upright(places[0], ours)[1]) * torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64))
    if float(left.abs().max()) > SQUARE:
        left = left.round()
    up = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)
    return torch.stack([left, up, torch.linalg.cross(left, up)]) @ vertical


def _world_turns(
    p: Performance,
    rest: Float[Tensor, "J 3"],
    turns: Float[Tensor, "T J 3 3"],
    places: Float[Tensor, "T J 3"],
    ours: dict[str, int],
) -> dict[str, Float[Tensor, "T 4"]]:
    """Local turns of the avatar's joints that give its bones the directions of the file's."""
    axes = _axes(rest, ours)
    stood = rest @ axes  # in our axes
    wanted = {name: p.rest(name) for name in p.skeleton.names}
    own = {bone: stood[n] for bone, n in ours.items()}
    align: dict[str, Tensor] = {}
    for side, _ in SIDES:
        align |= arm_turns(side, wanted, own)
        align |= _leg_turns(side, wanted, own)
    still, _ = p.frames_of_joints()
    world = torch.empty_like(still)
    for n, (name, parent) in enumerate(zip(p.skeleton.names, p.skeleton.parents, strict=True)):
        if name in ours:
            world[:, n] = turns[:, ours[name]] @ axes @ align.get(name, torch.eye(3, dtype=torch.float64))
            end = _end(name)
            if end in ours:
                now = places[:, ours[end]] - places[:, ours[name]]
                before = (world[:, n] @ (wanted[end] - wanted[name])[:, None])[..., 0]
                world[:, n] = _turned_onto(before, now) @ world[:, n]
        elif parent < 0:
            world[:, n] = torch.eye(3, dtype=torch.float64)
        else:
            local = still[:, parent].transpose(-1, -2) @ still[:, n]
            world[:, n] = world[:, parent] @ local
    return local_rotations(p.skeleton, world, tuple(n for n in p.skeleton.names if n != "root"))


def _end(bone: str) -> str:
    """The joint at the other end of a limb's bone."""
    side = next((s for s, _ in SIDES if bone.startswith(s)), "")
    return side + NEXT.get(bone.removeprefix(side), "none")


def _leg_turns(side: str, wanted: dict[str, Tensor], own: dict[str, Tensor]) -> dict[str, Tensor]:
    """Alignment of a leg's rest directions; feet stand flat in both rest poses."""
    turned, carried = {}, torch.eye(3, dtype=torch.float64)
    for bone in (f"{side}UpperLeg", f"{side}LowerLeg"):
        end = _end(bone)
        if end in own:
            carried = turn_between(carried @ (wanted[end] - wanted[bone]), own[end] - own[bone]) @ carried
        turned[bone] = carried
    return turned


def _turned_onto(a: Float[Tensor, "T 3"], b: Float[Tensor, "T 3"]) -> Float[Tensor, "T 3 3"]:
    """Smallest turns from directions to directions; none where a bone has no length."""
    turns = torch.eye(3, dtype=torch.float64).repeat(len(a), 1, 1)
    for n in range(len(a)):
        if a[n].norm() > 1e-9 and b[n].norm() > 1e-9:
            turns[n] = turn_between(a[n], b[n])
    return turns


def _move_hips(
    p: Performance, rest: Float[Tensor, "J 3"], places: Float[Tensor, "T J 3"], ours: dict[str, int]
) -> None:
    """The way of the file's hips, scaled by the legs, from the origin; the lowest soles touch the ground."""

    def leg(at: dict[str, Tensor]) -> float:
        return float((at["leftLowerLeg"] - at["leftUpperLeg"]).norm() + (at[foot] - at["leftLowerLeg"]).norm())

    foot = "leftFoot" if "leftFoot" in ours else "leftLowerLeg"
    theirs = {bone: rest[n] for bone, n in ours.items()}
    mine = {bone: p.rest(bone) for bone in ("leftUpperLeg", "leftLowerLeg", foot)}
    way = places[:, ours["hips"]] * (leg(mine) / leg(theirs))
    p.offsets["hips"] = way - way[0]
    lowest = torch.minimum(*(lowest_soles(p, side) for side, _ in SIDES))
    p.offsets["hips"][:, 1] -= torch.quantile(lowest, FLOOR)
