"""Which way a bust faces in a picture, by a small network; and the Janus rate: faces where none should be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from avatar3d.evaluation.judge import as_input
from avatar3d.weights import load_state, load_tensors, save_tensors, weights_path

FACING_TYPE = "avatar3d.facing"
AROUND = 12
"""Views of a turn."""
BEHIND = math.radians(120.0)
"""Views with a larger azimuth show the back of a head."""
FRONT = math.radians(60.0)
"""A picture in which the head seems turned less than this shows a face."""


class Facing(nn.Module):
    """(B, 3, 64, 64) sRGB in [0, 1] -> (B, 2): sine and cosine of the camera's azimuth, not of unit length."""

    def __init__(self, widths: Sequence[int] = (24, 48, 64, 96)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, width in zip((3, *widths[:-1]), widths, strict=True):
            layers += [nn.Conv2d(before, width, 5, 2, 2), nn.GroupNorm(8, width), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.answer = nn.Linear(widths[-1] * 16, 2)

    def forward(self, pictures: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B 2"]:
        return self.answer(self.body(4 * (pictures - 0.5)).flatten(1))


@torch.no_grad()
def azimuths(facing: Facing, pictures: Float[Tensor, "B 3 H W"]) -> Float[Tensor, " B"]:
    """The azimuths (radians) that pictures seem to be taken from; 0 is in front."""
    sine, cosine = facing(as_input(pictures)).unbind(1)
    return torch.atan2(sine, cosine)


@dataclass(frozen=True)
class Turned:
    """What a turn around something shows."""

    error: float
    """Median distance between the camera's azimuth and the one that the picture shows, degrees."""
    faces_behind: int
    """Pictures from behind that show a face."""
    janus: bool
    """At least half of the pictures from behind do."""


def judge_turn(facing: Facing, pictures: Float[Tensor, "B 3 H W"], true: Float[Tensor, " B"]) -> Turned:
    """Pictures from azimuths `true` (radians) all around."""
    seen = azimuths(facing, pictures)
    gap = torch.atan2((seen - true).sin(), (seen - true).cos()).abs()
    turned = torch.atan2(true.sin(), true.cos()).abs()
    behind = turned > BEHIND
    faces = int((behind & (seen.abs() < FRONT)).sum())
    return Turned(math.degrees(float(gap.median())), faces, faces > 0 and 2 * faces >= int(behind.sum()))


def save_facing(facing: Facing, path: Path) -> None:
    """Weights as float16."""
    save_tensors(
        path, {k: t.half() for k, t in facing.state_dict().items()}, {"type": FACING_TYPE, "version": "1"}
    )


def load_facing(path: Path | None = None) -> Facing:
    """The network that ships, or another. Raises `WeightsError`."""
    path = path or weights_path("facing.safetensors")
    facing = Facing()
    load_state(facing, load_tensors(path, FACING_TYPE)[0], path)
    return facing.eval()
