"""Standing: breathing, a weight that shifts, a head that is never quite still; and the nod."""

from __future__ import annotations

import math

import numpy as np
import torch

from avatar3d.motion.face import add_life
from avatar3d.motion.feet import stand
from avatar3d.motion.performance import FPS, SIDES, Performance, bell, waves
from avatar3d.structures import Avatar, Clip

BREATH = 3.8
"""Seconds of a breath at rest."""


def idle(avatar: Avatar, seed: int = 0, seconds: float | None = None) -> Clip:
    """Someone who waits, 8 seconds unless told otherwise; loops."""
    generator = np.random.default_rng([seed, 401])
    p = Performance(avatar, frame_count(seconds, 8.0))
    add_standing(p, generator)
    add_life(p, generator)
    return p.clip("idle", loops=True)


def nod(avatar: Avatar, seed: int = 0, seconds: float | None = None) -> Clip:
    """Two nods of agreement, the second one smaller; loops over 2.4 seconds unless told otherwise."""
    generator = np.random.default_rng([seed, 409])
    p = Performance(avatar, frame_count(seconds, 2.4))
    add_standing(p, generator, size=0.6)
    start = 0.15 * float(p.times[-1])
    down = bell(p.times, start, 0.22, 0.02, 0.30) + 0.65 * bell(p.times, start + 0.56, 0.22, 0.02, 0.34)
    back = bell(p.times, start - 0.12, 0.16, 0.0, 0.2)
    p.bend_neck("x", 15.0 * down - 4.0 * back)
    p.bend_spine("x", 1.6 * down)
    for side in ("Left", "Right"):
        p.shape(f"eyeBlink{side}", 0.55 * bell(p.times, start + 0.02, 0.16, 0.05, 0.2))
        p.shape(f"mouthSmile{side}", 0.3 * bell(p.times, start, 0.3, 0.6, 0.5))
        p.shape(f"eyeLookUp{side}", 0.3 * down)
    return p.clip("nod", loops=True)


def frame_count(seconds: float | None, default: float) -> int:
    """Key frames of a clip, both ends included."""
    return 1 + max(2, round((default if seconds is None else seconds) * FPS))


def add_standing(p: Performance, generator: np.random.Generator, size: float = 1.0) -> None:
    """Breath, sway and planted feet. `size` scales the sway; breath is never scaled."""
    phase, length = p.phase, float(p.times[-1])
    breath = torch.sin(2 * math.pi * (max(1, round(length / BREATH)) * phase + generator.random()))
    # a breath in is shorter than the breath out
    breath = torch.sin(torch.asin(breath.clamp(-1, 1)) + 0.25 * torch.cos(0.5 * math.pi * breath))
    hips = p.offsets["hips"]
    scale = float(p.rest("hips")[1]) / 0.95
    shift = size * waves(generator, phase, (1, 2))
    hips[:, 0] += 0.016 * scale * shift
    hips[:, 2] += 0.005 * scale * size * waves(generator, phase, (1, 2, 3))
    p.turn("hips", "z", 1.3 * shift)
    p.turn("hips", "y", 1.2 * size * waves(generator, phase, (1, 2)))
    p.bend_spine("z", -1.7 * shift)
    p.bend_spine("y", 1.5 * size * waves(generator, phase, (1, 2)))
    p.bend_spine("x", -0.9 * breath + 0.5 * size * waves(generator, phase), {"chest": 0.5, "upperChest": 0.5})
    p.bend_neck("x", 0.6 * breath + 1.6 * size * waves(generator, phase))
    p.bend_neck("y", 3.2 * size * waves(generator, phase, (1, 2, 3)))
    p.bend_neck("z", 0.5 * shift + 1.0 * size * waves(generator, phase))
    for side, sign in SIDES:
        p.turn(f"{side}Shoulder", "z", sign * 1.1 * breath)
        p.turn(f"{side}UpperArm", "z", -sign * 0.6 * breath + 0.5 * size * waves(generator, phase))
        p.turn(f"{side}UpperArm", "x", 1.2 * size * waves(generator, phase, (1, 2)))
        p.bend_elbow(side, 1.5 + 1.8 * size * waves(generator, phase, (1, 2)))
        p.curl(side, 3.0 + 2.0 * size * waves(generator, phase))
    stand(p)
