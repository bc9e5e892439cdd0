"""The motions that ship, by name, and every other way to a clip, on one page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from avatar3d.motion.bvh import read_bvh
from avatar3d.motion.dance import dance
from avatar3d.motion.expressions import read_expression, with_expression
from avatar3d.motion.idle import idle, nod
from avatar3d.motion.kinematics import MotionError
from avatar3d.motion.performance import REQUIRED, SIDES
from avatar3d.motion.retarget import read_bone_map, retarget
from avatar3d.motion.springs import with_springs
from avatar3d.motion.talk import talk, talk_audio
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
BODY = (*REQUIRED, "neck", "chest", *(f"{side}{bone}" for side, _ in SIDES for bone in ("Shoulder", "Toes")))
"""Joints that one misses when a motion file does not move them."""
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


@dataclass(frozen=True)
class Wish:
    """What an avatar should do: a clip by name, or what a motion file or a voice says."""

    clip: str | None = None
    bvh: Path | None = None
    bones: Path | None = None
    """JSON from the motion file's joint names to VRM's, for names that are not recognised."""
    audio: Path | None = None
    expression: str | None = None
    """A face to wear, as `expressions.read_expression` reads it."""
    seconds: float | None = None
    travel: bool = False
    """Walk forward instead of in place."""


@dataclass(frozen=True)
class Animated:
    """A clip and what is to be said of it."""

    clip: Clip
    remarks: tuple[str, ...] = ()
    mapped: dict[str, str] | None = None
    """Of a motion file: its joint -> the avatar's."""
    unmapped: tuple[str, ...] = ()
    """Joints of the motion file that move nothing."""


def animate(avatar: Avatar, wish: Wish, seed: int = 0) -> Animated:
    """The clip of a wish, hair included.

    Raises `MotionError`, `MotionFileError` or `SoundFileError` with the fault and the remedy.
    """
    made = _body_of(avatar, wish, seed)
    clip = made.clip
    if wish.expression is not None:
        clip = with_expression(clip, avatar, read_expression(wish.expression))
    return replace(made, clip=with_springs(clip, avatar))


def _body_of(avatar: Avatar, wish: Wish, seed: int) -> Animated:
    sources = [name for name in ("clip", "bvh", "audio") if getattr(wish, name) is not None]
    if sources not in (["clip"], ["bvh"], ["audio"]) and (sources, wish.clip) != (["clip", "audio"], "talk"):
        raise MotionError(f"one of clip, bvh and audio is needed, not {' and '.join(sources) or 'none'}")
    if wish.seconds is not None and wish.clip is None:
        raise MotionError("the length of a motion file or a voice can not be chosen; leave the seconds out")
    if wish.travel and wish.clip != "walk":
        raise MotionError("only the clip 'walk' travels")
    if wish.bones is not None and wish.bvh is None:
        raise MotionError("a bone map goes with a BVH file")
    if wish.audio is not None:
        return Animated(*talk_audio(avatar, wish.audio, seed))
    if wish.bvh is not None:
        bones = read_bone_map(wish.bones) if wish.bones else None
        result = retarget(read_bvh(wish.bvh), avatar, bones, wish.bvh.stem)
        still = [joint for joint in result.still if joint in BODY]
        remarks = (*result.remarks, *((f"the file does not move {', '.join(still)}",) if still else ()))
        return Animated(result.clip, remarks, result.mapped, result.unmapped)
    if wish.travel:
        return Animated(walk(avatar, seed, wish.seconds, travel=True))
    assert wish.clip is not None
    return Animated(make_clip(wish.clip, avatar, seed, wish.seconds))
