"""A clip at any time: pose, offsets and face, and the avatar's meshes there."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.body.pose import Pose, pose_avatar
from avatar3d.rotations import slerp
from avatar3d.structures import Avatar, Clip, Mesh, Part


@dataclass(frozen=True)
class Moment:
    """What a clip says at one time."""

    pose: Pose
    offsets: dict[str, Float[Tensor, " 3"]]
    expression: dict[str, float]


def duration(clip: Clip) -> float:
    """Seconds from the first key frame to the last."""
    return float(clip.times[-1])


def sample(clip: Clip, seconds: float) -> Moment:
    """The clip between its key frames: turns spherically, the rest linearly. Times beyond an end are that end;
    loops begin anew.
    """
    length = duration(clip)
    if clip.loops and length > 0:
        seconds = seconds % length
    last = len(clip.times) - 1
    after = int(torch.searchsorted(clip.times, torch.tensor(seconds, dtype=clip.times.dtype)).clamp(0, last))
    before = max(after - 1, 0)
    span = float(clip.times[after] - clip.times[before])
    share = 0.0 if span <= 0 else min(max((seconds - float(clip.times[before])) / span, 0.0), 1.0)

    def between(track: Tensor) -> Tensor:
        return track[before] + share * (track[after] - track[before])

    return Moment(
        {joint: slerp(q[before], q[after], share) for joint, q in clip.rotations.items()},
        {joint: between(offset) for joint, offset in clip.translations.items()},
        {name: float(between(weights)) for name, weights in clip.expressions.items()},
    )


def pose_at(avatar: Avatar, clip: Clip, seconds: float) -> list[tuple[Part, Mesh]]:
    """Every part with its mesh at a time of the clip.

    Shapes that the clip does not speak of stay the avatar's own; what it says of joints that the avatar lacks is
    left out.
    """
    moment = sample(clip, seconds)
    there = set(avatar.skeleton.names)
    pose = {joint: q for joint, q in moment.pose.items() if joint in there}
    offsets = {joint: offset for joint, offset in moment.offsets.items() if joint in there}
    return pose_avatar(avatar, pose, avatar.expression | moment.expression, offsets)
