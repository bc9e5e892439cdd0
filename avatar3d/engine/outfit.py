"""Everything a person wears, from the skin outwards."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor

from avatar3d.engine.attach import Figure
from avatar3d.engine.bottoms import make_bottom
from avatar3d.engine.garment_fit import Layers
from avatar3d.engine.hats import make_hat
from avatar3d.engine.shoes import make_shoes
from avatar3d.engine.tops import make_top, top_design
from avatar3d.spec import AvatarSpec
from avatar3d.structures import Part


@dataclass(frozen=True)
class Outfit:
    """Garments, and the body faces (F,) that they hide."""

    parts: list[Part]
    hidden: Bool[Tensor, " F"]


def make_outfit(spec: AvatarSpec, figure: Figure) -> Outfit:
    """Dress a figure in the spec's clothes and shoes."""
    layers = Layers.bare(figure)
    worn = [
        make_shoes(spec, figure, layers),
        make_bottom(spec, figure, layers, top_design(spec)),
        make_top(spec, figure, layers),
        make_hat(spec, figure, layers),
    ]
    covered = torch.from_numpy(sum((w.covered for w in worn[1:]), worn[0].covered) > 0)
    hidden = covered[figure.skin_faces].all(dim=1)
    return Outfit([part for w in worn for part in w.parts], hidden)
