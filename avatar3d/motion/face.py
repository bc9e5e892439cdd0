"""Faces that live: blinks, and eyes that jump from one thing to the next."""

from __future__ import annotations

import numpy as np
import torch

from avatar3d.motion.performance import Curve, Performance, bell

BLINK_EVERY = 3.6
"""Seconds between blinks, on average; the gaps are log-normal, as people's are."""
BLINK_SPREAD = 0.45
BLINK_TIMES = (0.09, 0.04, 0.17)
"""Seconds that a lid takes down, stays there, and takes up: it falls twice as fast as it rises."""
GAZE_EVERY = 1.6
SACCADE = 0.05
"""Seconds of a jump of the eyes."""


def add_life(performance: Performance, generator: np.random.Generator, gaze: float = 1.0) -> None:
    """Blinks, and saccades of size `gaze` (1: a person who looks around a little, idly)."""
    _add_blinks(performance, generator)
    _add_gaze(performance, generator, gaze)


def _add_blinks(p: Performance, generator: np.random.Generator) -> None:
    """The eyes are open at both ends of the clip."""
    length, duration = float(p.times[-1]), sum(BLINK_TIMES)
    at = BLINK_EVERY * float(np.exp(generator.normal(-0.5, BLINK_SPREAD)))
    while at + duration < length:
        for side in ("Left", "Right"):
            p.shape(f"eyeBlink{side}", bell(p.times, at, *BLINK_TIMES))
        at += max(0.6, BLINK_EVERY * float(np.exp(generator.normal(-0.1, BLINK_SPREAD))))


def _add_gaze(p: Performance, generator: np.random.Generator, size: float) -> None:
    """Fixations between jumps; straight ahead at both ends."""
    length = float(p.times[-1])
    across, up = torch.zeros_like(p.times), torch.zeros_like(p.times)
    now, at = (0.0, 0.0), 0.4 + 0.8 * float(generator.random())
    while at + 0.5 < length:
        goal = (float(generator.normal(0, 0.16)) * size, float(generator.normal(0, 0.07)) * size)
        if generator.random() < 0.35:
            goal = (0.0, 0.0)
        across, up = _jump(p.times, at, across, now[0], goal[0]), _jump(p.times, at, up, now[1], goal[1])
        now, at = goal, at + max(0.35, GAZE_EVERY * float(np.exp(generator.normal(-0.15, 0.6))))
    end = length - 0.25
    look(p, _jump(p.times, end, across, now[0], 0.0), _jump(p.times, end, up, now[1], 0.0))


def _jump(times: Curve, at: float, curve: Curve, before: float, after: float) -> Curve:
    return curve + (after - before) * ((times - at) / SACCADE).clamp(0, 1)


def look(p: Performance, across: Curve, up: Curve) -> None:
    """Turn both eyes to the avatar's left and up, in ARKit weights (1 is about 30 degrees)."""
    for side, outwards in (("Left", across), ("Right", -across)):
        p.shape(f"eyeLookOut{side}", outwards)
        p.shape(f"eyeLookIn{side}", -outwards)
        p.shape(f"eyeLookUp{side}", up)
        p.shape(f"eyeLookDown{side}", -up)
