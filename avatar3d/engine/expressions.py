"""The face an avatar wears by default, as ARKit weights."""

from __future__ import annotations

import numpy as np

from avatar3d.spec import AvatarSpec

EXPRESSION_WEIGHTS: dict[str, dict[str, float]] = {
    "neutral": {"mouthSmile": 0.05, "mouthPress": 0.03, "eyeWide": 0.06},
    "smile": {
        "mouthSmile": 0.58, "cheekSquint": 0.45, "eyeSquint": 0.16, "mouthDimple": 0.10, "browOuterUp": 0.08,
    },
    "sad": {
        "mouthFrown": 0.62, "browInnerUp": 0.75, "browDown": 0.10, "mouthShrugLower": 0.22, "eyeLookDown": 0.18,
        "eyeSquint": 0.12,
    },
    "angry": {
        "browDown": 0.85, "noseSneer": 0.38, "mouthFrown": 0.35, "mouthPress": 0.45, "eyeSquint": 0.32,
        "jawForward": 0.15,
    },
    "surprised": {
        "eyeWide": 0.75, "browInnerUp": 0.70, "browOuterUp": 0.75, "jawOpen": 0.30, "mouthFunnel": 0.10,
    },
}  # fmt: skip
"""Names without a side stand for the left and the right action where ARKit has two."""
WHOLE = ("browInnerUp", "jawOpen", "jawForward", "mouthShrugLower", "mouthFunnel", "cheekPuff")
ASYMMETRY = 0.06


def default_expression(spec: AvatarSpec) -> dict[str, float]:
    """ARKit weights of `spec.expression`, a little different left and right as in every face."""
    generator = np.random.default_rng([spec.seed, 3607])
    expression = {}
    for name, weight in EXPRESSION_WEIGHTS[spec.expression].items():
        if name in WHOLE:
            expression[name] = weight
            continue
        tilt = float(np.clip(generator.normal(0, ASYMMETRY), -0.15, 0.15))
        if name.startswith("eye"):
            tilt = 0.0
        expression[f"{name}Left"] = round(weight * (1 + tilt), 4)
        expression[f"{name}Right"] = round(weight * (1 - tilt), 4)
    return expression
