"""Faces to wear during a clip."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.body.visemes import ARKIT, COMPOSED, VRM_PRESETS, actions_of
from avatar3d.motion.kinematics import MotionError
from avatar3d.structures import Avatar, Clip

FEELINGS = ("happy", "angry", "sad", "relaxed", "surprised", "neutral")
"""Those of VRM's presets that are moods."""
WITH_BLINKS = ("eyeSquint", "eyeWide")
"""Shapes that move the same lids as a blink: they give way to it."""


def read_expression(text: str) -> dict[str, float]:
    """`happy`, `happy=0.6`, `jawOpen=0.2,browInnerUp` ... as weights of ARKit's actions; 1 without a number.

    Names are VRM's presets, ARKit's 52 actions and the composed shapes of `body.visemes`. Raises `MotionError`.
    """
    total: dict[str, float] = {}
    for item in text.split(","):
        name, _, number = (part.strip() for part in item.partition("="))
        try:
            weight = float(number) if number else 1.0
        except ValueError:
            weight = float("nan")
        if not 0.0 <= weight <= 1.0:
            raise MotionError(f"the weight of {name!r} is a number from 0 to 1, not {number!r}")
        if name not in VRM_PRESETS and name not in ARKIT and name not in COMPOSED:
            raise MotionError(
                f"no expression {name!r}; use {', '.join(FEELINGS)}, or an ARKit name such as jawOpen=0.4"
            )
        shares = VRM_PRESETS[name] if name in VRM_PRESETS else actions_of({name: 1.0})
        for action, share in shares.items():
            total[action] = min(1.0, total.get(action, 0.0) + weight * share)
    return total


def with_expression(clip: Clip, avatar: Avatar, expression: Mapping[str, float]) -> Clip:
    """The clip with a face worn all along, in place of the one that the avatar has by itself.

    What the clip's face does beyond it (blinks, speech) stays, the larger weight of the two holds.
    """
    face = dict(clip.expressions)
    for name in avatar.expression:
        if name not in expression and name not in face:
            face[name] = torch.zeros_like(clip.times)
    for name, weight in expression.items():
        worn = torch.full_like(clip.times, weight)
        face[name] = torch.maximum(face[name], worn) if name in face else worn
    return replace(clip, expressions=relieved(face))


def relieved(face: Mapping[str, Float[Tensor, " T"]]) -> dict[str, Float[Tensor, " T"]]:
    """Weights in which squinting and wide eyes give way to blinks, so that lids close once, not twice."""
    eased = dict(face)
    for side in ("Left", "Right"):
        blink = face.get(f"eyeBlink{side}")
        for name in (f"{shape}{side}" for shape in WITH_BLINKS):
            if blink is not None and name in face:
                eased[name] = face[name] * (1 - blink)
    return eased
