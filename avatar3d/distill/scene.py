"""What score distillation draws: anything with parameters of which cameras can take pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.structures import Camera

Shading = Literal["albedo", "lambertian", "textureless"]


@dataclass(frozen=True)
class Pictures:
    """What B cameras of one size see of a scene."""

    rgb: Float[Tensor, "B 3 H W"]
    """sRGB over the background."""
    alpha: Float[Tensor, "B H W"]
    penalties: dict[str, Float[Tensor, ""]]
    """Regularisers by name, unweighted."""


@runtime_checkable
class DistilledScene(Protocol):
    """An nn.Module whose parameters are what is distilled."""

    def prepare(self, step: int, share: float, generator: torch.Generator) -> None:
        """Called before a step, with the share of the stage that is done."""
        ...

    def draw(
        self,
        cameras: Sequence[Camera],
        background: Float[Tensor, "B 3"],
        shading: Shading,
        generator: torch.Generator,
    ) -> Pictures:
        """Differentiable pictures; all that is random comes from the generator."""
        ...
