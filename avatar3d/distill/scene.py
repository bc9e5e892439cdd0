"""What score distillation draws: anything with parameters of which cameras can take pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from avatar3d.structures import Camera

Shading = Literal["albedo", "lambertian", "textureless"]
Poses = Callable[[Sequence[Camera], int], Float[Tensor, "B 3 S S"]]
"""(cameras, S) -> pictures of the pose that they see, S pixels a side."""


@dataclass(frozen=True)
class Pictures:
    """What B cameras of one size see of a scene."""

    rgb: Float[Tensor, "B 3 H W"]
    """sRGB over the background."""
    alpha: Float[Tensor, "B H W"]
    penalties: dict[str, Float[Tensor, ""]]
    """Regularisers by name, unweighted."""


class DistilledScene(nn.Module):
    """Its parameters are what is distilled."""

    place: tuple[Float[Tensor, " 3"], float] = (torch.zeros(3), 1.0)
    """Center and scale in the scene's world of the box [-1, 1]^3 that cameras are drawn for."""
    poses: Poses | None = None
    """What a ControlNet of the prior is told; None where there is no ControlNet."""

    def prepare(self, step: int, share: float, generator: torch.Generator) -> None:
        """Called before a step, with the share of the stage that is done; by default nothing has to be done."""

    def draw(
        self,
        cameras: Sequence[Camera],
        background: Float[Tensor, "B 3"],
        shading: Shading,
        generator: torch.Generator,
    ) -> Pictures:
        """Differentiable pictures; all that is random comes from the generator."""
        raise NotImplementedError
