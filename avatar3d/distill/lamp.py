"""The light of score distillation: one lamp near the camera (Poole et al. 2022, DreamFusion, section 3.2).

How near, and how much light comes from everywhere, are numbers of ours.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.structures import Camera

AMBIENT = 0.3
"""Linear light from everywhere; the lamp gives the rest."""
SPREAD = 0.6
"""How far the lamp's direction strays from the camera's."""


def lamp_direction(camera: Camera, generator: torch.Generator) -> Float[Tensor, " 3"]:
    """Unit vector to a lamp somewhere around the camera."""
    T = camera.T_world_camera
    stray = torch.randn(3, generator=generator, device=generator.device).to(T)
    return torch.nn.functional.normalize(SPREAD * stray - T[:3, 2], dim=0)


def lit(normal: Float[Tensor, "N 3"], direction: Float[Tensor, " 3"]) -> Float[Tensor, " N"]:
    """Lambert's law: how much light a white surface returns (DreamFusion, equation 7)."""
    return AMBIENT + (1 - AMBIENT) * (normal @ direction.to(normal)).clamp_min(0)
