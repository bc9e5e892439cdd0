"""Random draws that depend on a step's number alone, so that a killed run goes on as if it had not been."""

from __future__ import annotations

import torch


def step_generator(seed: int, stream: int, step: int, device: str = "cpu") -> torch.Generator:
    """The source of all randomness of one step; every program and every stage has a stream of its own."""
    return torch.Generator(device).manual_seed((seed * 1009 + stream) * 10_000_019 + step)
