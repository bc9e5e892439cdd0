"""Waving hello."""

from __future__ import annotations

import math

import numpy as np
import torch

from avatar3d.motion.face import add_life
from avatar3d.motion.idle import add_standing, frame_count
from avatar3d.motion.performance import Performance, ease
from avatar3d.structures import Avatar, Clip

BEAT = 0.62
"""Seconds of one wave of the hand, to and fro."""


def wave(avatar: Avatar, seed: int = 0, seconds: float | None = None) -> Clip:
    """The right arm rises, waves from the elbow with an open hand, and sinks; 3.6 s unless told otherwise."""
    generator = np.random.default_rng([seed, 503])
    p = Performance(avatar, frame_count(seconds, 3.6))
    add_standing(p, generator, size=0.7)
    length = float(p.times[-1])
    rise, fall = 0.2 * length, 0.25 * length
    up = ease(p.times, 0.03 * length, 0.03 * length + rise) * (
        1 - ease(p.times, 0.97 * length - fall, 0.97 * length)
    )
    hold = length - rise - fall
    beats = max(1, round((hold + 0.3 * rise) / BEAT))
    within = (p.times - 0.6 * rise) / (length - 0.6 * rise - 0.8 * fall)
    swing = (
        torch.sin(2 * math.pi * beats * within.clamp(0, 1))
        * ease(within, 0.0, 0.15)
        * (1 - ease(within, 0.85, 1.0))
    )
    lean = torch.deg2rad(14.0 + 20.0 * swing)
    upper = torch.tensor([-0.80, -0.33, 0.38], dtype=torch.float64)
    lower = torch.stack([-torch.sin(lean), torch.cos(lean), torch.full_like(lean, 0.22)], dim=-1)
    p.turn("rightShoulder", "z", -7.0 * up)
    p.place_arm("right", upper, lower, up)
    p.turn("rightHand", "z", 9.0 * up * torch.cos(2 * math.pi * beats * within.clamp(0, 1) - 0.6))
    p.curl("right", -9.0 * up)
    p.bend_neck("z", 5.0 * up)
    p.bend_neck("x", -1.5 * up)
    p.bend_spine("z", 1.6 * up)
    for side in ("Left", "Right"):
        p.shape(f"mouthSmile{side}", 0.65 * up)
        p.shape(f"cheekSquint{side}", 0.4 * up)
        p.shape(f"browOuterUp{side}", 0.25 * up)
    add_life(p, generator, gaze=0.3)
    return p.clip("wave", loops=True)
