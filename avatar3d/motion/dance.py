"""A small dance: weight from foot to foot, hips against shoulders, arms that take turns."""

from __future__ import annotations

import math

import numpy as np
import torch

from avatar3d.motion.face import add_life
from avatar3d.motion.feet import stand
from avatar3d.motion.performance import FPS, SIDES, Curve, Performance, ease
from avatar3d.structures import Avatar, Clip

BEAT = 16
"""Key frames of a beat: 112 beats per minute."""
BEATS = 8


def dance(avatar: Avatar, seed: int = 0, seconds: float | None = None) -> Clip:
    """Rounds of eight beats, one (4.3 seconds) unless told otherwise; loops."""
    generator = np.random.default_rng([seed, 701])
    rounds = 1 if seconds is None else max(1, round(seconds * FPS / (BEAT * BEATS)))
    p = Performance(avatar, rounds * BEAT * BEATS + 1)
    beat = torch.arange(p.frames, dtype=torch.float64) / BEAT
    spirit = 1.0 + 0.12 * float(generator.uniform(-1, 1))
    sway = torch.sin(math.pi * beat)
    bounce = 0.5 * (1 - torch.cos(2 * math.pi * beat))
    _move_trunk(p, beat, sway, bounce, spirit)
    for side, sign in SIDES:
        _move_arm(p, side, sign, beat, sway, bounce, spirit)
    scale = float(p.rest("hips")[1]) / 0.95
    heels = {side: 26.0 * spirit * (-sign * sway).clamp_min(0.0) ** 1.5 for side, sign in SIDES}
    stand(p, narrow=0.85, toe_out=10.0, give=0.012 * scale + 0.036 * scale * spirit * bounce, lift=heels)
    for side in ("Left", "Right"):
        p.shape(f"mouthSmile{side}", torch.full_like(beat, 0.6))
        p.shape(f"cheekSquint{side}", torch.full_like(beat, 0.35))
        p.shape(f"browOuterUp{side}", 0.25 * bounce)
    add_life(p, generator, gaze=0.4)
    return p.clip("dance", loops=True)


def _move_trunk(p: Performance, beat: Curve, sway: Curve, bounce: Curve, spirit: float) -> None:
    """Hips to the side of the weight, shoulders level, head with the beat."""
    scale = float(p.rest("hips")[1]) / 0.95
    twist = torch.sin(math.pi * beat + 0.5 * math.pi)
    p.offsets["hips"][:, 0] += 0.058 * scale * spirit * sway
    p.offsets["hips"][:, 2] += 0.012 * scale * torch.cos(2 * math.pi * beat)
    p.turn("hips", "z", 6.5 * spirit * sway)
    p.turn("hips", "y", 6.0 * spirit * twist)
    p.bend_spine("z", -8.5 * spirit * sway)
    p.bend_spine("y", -10.0 * spirit * twist)
    p.bend_spine("x", 2.5 - 3.0 * bounce)
    p.bend_neck("z", 5.0 * sway)
    p.bend_neck("y", 5.0 * twist)
    p.bend_neck("x", 7.0 * (bounce - 0.5))


def _move_arm(
    p: Performance, side: str, sign: float, beat: Curve, sway: Curve, bounce: Curve, spirit: float
) -> None:
    """Bent elbows that pump beside the ribs; in the second half of a round each arm is up for two beats."""
    pump = torch.sin(math.pi * beat + (0.0 if side == "left" else math.pi))
    upper = torch.stack([sign * (0.42 + 0.10 * bounce), -0.85 + 0.1 * pump, 0.12 - 0.30 * spirit * pump], dim=-1)
    lower = torch.stack([sign * (-0.28 + 0.12 * pump), 0.28 + 0.25 * bounce, 0.85 - 0.1 * pump], dim=-1)
    p.place_arm(side, upper, lower, torch.ones_like(beat))
    begin = 4.0 if side == "right" else 6.0
    within = beat % BEATS
    up = ease(within, begin - 0.7, begin + 0.5) * (1 - ease(within, begin + 1.4, begin + 2.0 - 1e-6))
    upper = torch.stack([sign * 0.62 + 0.10 * sway, 0.62 + 0.08 * bounce, torch.full_like(beat, 0.30)], dim=-1)
    lower = torch.stack([-sign * 0.22 + 0.40 * sway, torch.full_like(beat, 0.90), torch.full_like(beat, 0.18)], -1)
    p.turn(f"{side}Shoulder", "z", sign * 12.0 * up)
    p.place_arm(side, upper, lower, up)
    p.curl(side, 18.0 - 24.0 * up)
