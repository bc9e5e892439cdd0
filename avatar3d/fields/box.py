"""The box of a bust's field: head, hair and shoulders, whatever the size of the person."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.camera import PORTRAIT_FOV, orbit
from avatar3d.errors import InputError
from avatar3d.structures import Camera, Skeleton

BOX_LOW = (-1.9, -0.8, -1.35)
BOX_HIGH = (1.9, 2.9, 1.65)
"""Corners relative to the neck joint, in units of the height from neck to eyes."""


def bust_bounds(skeleton: Skeleton) -> Float[Tensor, "2 3"]:
    """Low and high corner of the box around head and shoulders at rest, metres.

    Raises `InputError` when the skeleton has no neck or left eye.
    """
    joints = dict(zip(skeleton.names, skeleton.positions, strict=True))
    if not {"neck", "leftEye"} <= set(joints):
        raise InputError("a bust needs the joints neck and leftEye, which this skeleton lacks")
    neck = joints["neck"]
    unit = joints["leftEye"][1] - neck[1]
    return neck + unit * torch.tensor([BOX_LOW, BOX_HIGH]).to(neck)


VIEW_HEIGHT = 3.4
"""Of what pictures of a field show at the middle of the box, in the same units."""


def bust_camera(bounds: Float[Tensor, "2 3"], azimuth: float = 0.0, size: int = 256) -> Camera:
    """The camera that pictures of a field are taken and compared with: level, square, around the box's middle."""
    middle = bounds.mean(0)
    unit = float(bounds[1, 1] - bounds[0, 1]) / (BOX_HIGH[1] - BOX_LOW[1])
    distance = 0.5 * VIEW_HEIGHT * unit / math.tan(0.5 * PORTRAIT_FOV)
    return orbit(middle, distance, azimuth, 0.0, PORTRAIT_FOV, size, size)
