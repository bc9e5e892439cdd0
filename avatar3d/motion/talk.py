"""Someone who talks: the mouth follows a voice, hands and head its stresses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from scipy.ndimage import gaussian_filter1d, maximum_filter1d

from avatar3d.body.visemes import COMPOSED
from avatar3d.motion.face import add_life
from avatar3d.motion.idle import add_standing
from avatar3d.motion.performance import FPS, Curve, Performance, bell, ease
from avatar3d.motion.speech import HOP, VISEMES, Speech, babble, hear
from avatar3d.structures import Avatar, Clip

STRESS_EVERY = 0.45
"""Seconds between stresses that the body marks, at least."""
REST_AFTER = 0.9
"""Seconds of silence after which the hands sink."""


def talk(avatar: Avatar, seed: int = 0, seconds: float | None = None) -> Clip:
    """Talks in no language for 8 seconds unless told otherwise; loops."""
    generator = np.random.default_rng([seed, 601])
    return _talk(avatar, babble(8.0 if seconds is None else seconds, generator), generator, loops=True)


def talk_audio(avatar: Avatar, audio: Path | str, seed: int = 0) -> tuple[Clip, tuple[str, ...]]:
    """Says what an audio file says; the clip is as long as the sound. Also returns remarks.

    A silent file gives someone who stands with a closed mouth, and a remark. Raises `SoundFileError`.
    """
    speech = hear(audio)
    remarks = (f"{audio}: the audio is silent, so the mouth stays closed",) if speech.silent else ()
    return _talk(avatar, speech, np.random.default_rng([seed, 601]), loops=False), remarks


def _talk(avatar: Avatar, speech: Speech, generator: np.random.Generator, loops: bool) -> Clip:
    p = Performance(avatar, 1 + max(2, round(speech.seconds * FPS)))
    add_standing(p, generator, size=0.8)
    say(p, speech)
    _gesture(p, speech, generator)
    add_life(p, generator, gaze=0.6)
    return p.clip("talk", loops)


def say(p: Performance, speech: Speech) -> None:
    """Move the mouth: visemes as weights of actions, so that any face with ARKit's names speaks."""
    times = p.times.numpy()
    at = np.arange(len(speech.loudness)) * HOP
    actions: dict[str, Curve] = {}
    for name, weights in zip(VISEMES, speech.visemes.T, strict=True):
        curve = torch.from_numpy(np.interp(times, at, weights))
        for action, share in COMPOSED[name].items():
            actions[action] = actions.get(action, torch.zeros_like(p.times)) + share * curve
    for action, curve in actions.items():
        if bool((curve > 1e-3).any()):
            p.shape(action, curve)


def stresses(speech: Speech) -> list[tuple[float, float]]:
    """(seconds, strength in [0, 1]) of syllables that stand out."""
    loud = gaussian_filter1d(speech.loudness, 0.05 / HOP)
    reach = round(STRESS_EVERY / HOP)
    peaks = np.flatnonzero((loud == maximum_filter1d(loud, 2 * reach + 1)) & (loud > 0.35))
    return [(float(n) * HOP, float(loud[n])) for n in peaks]


def _gesture(p: Performance, speech: Speech, generator: np.random.Generator) -> None:
    """Hands in front of the body while there is speech; beats, nods and brows on its stresses."""
    engaged = _engaged(p, speech)
    beats: dict[str, Curve] = {name: torch.zeros_like(p.times) for name in ("left", "right", "nod", "brow")}
    turn, tilt = torch.zeros_like(p.times), torch.zeros_like(p.times)
    before = (0.0, 0.0)
    for at, strength in stresses(speech):
        pulse = strength * bell(p.times, at - 0.16, 0.16, 0.03, 0.30)
        for hand in ("left", "right") if generator.random() < 0.3 else (str(generator.choice(["left", "right"])),):
            beats[hand] = torch.maximum(beats[hand], pulse)
        beats["nod"] = torch.maximum(beats["nod"], pulse * float(generator.uniform(0.3, 1.0)))
        if generator.random() < 0.4:
            beats["brow"] = torch.maximum(beats["brow"], pulse)
        now = (float(generator.normal(0, 4.0)), float(generator.normal(0, 2.5)))
        step = ease(p.times, at - 0.2, at + 0.3)
        turn, tilt = turn + (now[0] - before[0]) * step, tilt + (now[1] - before[1]) * step
        before = now
    home = 1 - ease(p.times, float(p.times[-1]) - 0.7, float(p.times[-1]) - 0.05)
    p.bend_neck("x", 5.0 * beats["nod"])
    p.bend_neck("y", turn * home)
    p.bend_neck("z", tilt * home)
    p.bend_spine("y", 0.3 * turn * home)
    for name in ("browInnerUp", "browOuterUpLeft", "browOuterUpRight"):
        p.shape(name, 0.35 * beats["brow"])
    for side, sign in (("left", 1.0), ("right", -1.0)):
        _hand(p, side, sign, engaged * (0.85 if side == "right" else 0.7), beats[side], generator)


def _hand(
    p: Performance, side: str, sign: float, amount: Curve, beat: Curve, generator: np.random.Generator
) -> None:
    """The forearm in front of the body; a beat is a small throw down and outwards, palm opening."""
    spread = 0.26 + 0.08 * float(generator.uniform(-1, 1))
    upper = _direction(sign * (spread + 0.08 * beat), torch.full_like(beat, -0.93), 0.16 + 0.05 * beat)
    rise = 0.10 - 0.34 * beat + 0.06 * float(generator.uniform(-1, 1))
    lower = _direction(sign * (-0.22 + 0.42 * beat), rise, torch.full_like(beat, 0.9))
    p.place_arm(side, upper, lower, amount, twist=28.0 + 22.0 * beat)
    p.curl(side, amount * (6.0 - 12.0 * beat))


def _direction(x: Curve, y: Curve, z: Curve) -> Float[torch.Tensor, "T 3"]:
    return torch.stack([x, y, z], dim=-1)


def _engaged(p: Performance, speech: Speech) -> Curve:
    """1 while there is speech, and in pauses shorter than `REST_AFTER`; smooth, 0 at both ends."""
    reach = round(REST_AFTER / HOP)
    near = maximum_filter1d((speech.loudness > 0.25).astype(np.float64), reach)
    at = np.arange(len(near)) * HOP
    curve = torch.from_numpy(np.interp(p.times.numpy(), at, gaussian_filter1d(near, 0.16 / HOP)))
    length = float(p.times[-1])
    edge = min(0.5, 0.3 * length)
    return curve * ease(p.times, 0.0, edge) * (1 - ease(p.times, length - edge, length))
