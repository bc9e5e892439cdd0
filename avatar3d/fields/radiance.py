"""Radiance fields: density and color at points, what NeRFs are made of (Mildenhall et al. 2020, section 3).

They live in a box around the origin, [-1, 1] along each axis unless they say otherwise: whoever places them in a
world scales them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class RadianceSample:
    """What a radiance field is at N points."""

    density: Float[Tensor, " N"]
    """Per unit of length; 0 or more."""
    rgb: Float[Tensor, "N 3"]
    """Material color, sRGB in [0, 1]."""


@runtime_checkable
class RadianceField(Protocol):
    """Density and color at (N, 3) points inside a box; nothing is outside."""

    @property
    def bounds(self) -> Float[Tensor, "2 3"]:
        """Low and high corner of the box."""

    def __call__(self, points: Float[Tensor, "N 3"]) -> RadianceSample: ...
