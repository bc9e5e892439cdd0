"""The motions that ship, by name."""

from __future__ import annotations

from collections.abc import Callable

from avatar3d.motion.dance import dance
from avatar3d.motion.idle import idle, nod
from avatar3d.motion.kinematics import MotionError
from avatar3d.motion.talk import talk
from avatar3d.motion.walk import walk
from avatar3d.motion.wave import wave
from avatar3d.structures import Avatar, Clip

CLIPS: dict[str, Callable[[Avatar, int, float | None], Clip]] = {
    "idle": idle,
    "wave": wave,
    "nod": nod,
    "walk": walk,
    "talk": talk,
    "dance": dance,
}
LONGEST = 120.0
"""Seconds."""


def make_clip(name: str, avatar: Avatar, seed: int = 0, seconds: float | None = None) -> Clip:
    """A motion by name, made for this avatar's proportions, shoes and rest pose; equal arguments, equal clips.

    `seconds` None takes the motion's own length. Raises `MotionError` for a name that is not in `CLIPS`, a length
    out of range and a skeleton without VRM's required bones.
    """
    if name not in CLIPS:
        raise MotionError(f"no clip {name!r}; the clips are: {', '.join(CLIPS)}")
    if seconds is not None and not 0.5 <= seconds <= LONGEST:
        raise MotionError(f"a clip lasts 0.5 to {LONGEST:g} seconds, not {seconds:g}")
    return CLIPS[name](avatar, seed, seconds)
