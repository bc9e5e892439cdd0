"""sRGB <-> linear light, and the tone curve."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

KNEE = 0.7
"""Linear light up to which pictures reproduce it exactly."""


def srgb_to_linear(color: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
    """IEC 61966-2-1 decoding of values in [0, 1]."""
    high = ((color.clamp_min(0.04045) + 0.055) / 1.055) ** 2.4
    return torch.where(color <= 0.04045, color / 12.92, high)


def linear_to_srgb(light: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
    """IEC 61966-2-1 encoding of values in [0, 1]."""
    high = 1.055 * light.clamp_min(0.0031308) ** (1 / 2.4) - 0.055
    return torch.where(light <= 0.0031308, 12.92 * light, high)


def tone_map(light: Float[Tensor, "*B"], knee: float = KNEE) -> Float[Tensor, "*B"]:
    """Identity below `knee`, then an exponential shoulder that tends to 1 with a continuous slope.

    It is this mild so that colors stay what the material says and only highlights roll off.
    """
    room = 1.0 - knee
    over = (light - knee).clamp_min(0.0)
    return torch.minimum(light, light.new_tensor(knee)) + room * (1 - torch.exp(-over / room))
