"""Cameras of a step, drawn from a stage's distribution."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.camera import orbit
from avatar3d.distill.stage import Cameras
from avatar3d.structures import Camera

STEEPEST = math.radians(89.0)


def draw_cameras(
    config: Cameras, share: float, count: int, size: int, generator: torch.Generator
) -> tuple[list[Camera], Float[Tensor, "B 2"], list[int]]:
    """Cameras, their (azimuth, elevation) in radians, and which close-up each is (-1: none).

    Azimuths are stratified over the batch. Half of the elevations are even in the angle and half in the area of
    the sphere (DreamFusion, appendix A.2). `share` of the stage is done.
    """

    def draw(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, device=generator.device).cpu()

    low, high = (math.radians(a) for a in config.azimuth)
    if share < config.frontal:
        kept = 0.5 + 0.5 * share / config.frontal
        low, high = low * kept, high * kept
    azimuth = low + (high - low) * ((torch.arange(count) + draw(count)) / count + draw(1)).remainder(1.0)
    azimuth = torch.atan2(azimuth.sin(), azimuth.cos())
    elevation = _elevations(config, draw(count), draw(count))
    radius, fov = (a + (b - a) * draw(count) for a, b in (config.radius, config.fov))
    shift = config.jitter * torch.randn(count, 3, generator=generator, device=generator.device).cpu()
    dice = draw(count).tolist()
    cameras, parts = [], []
    for n in range(count):
        part = _part(config, dice[n])
        target, zoom = shift[n], 1.0
        if part >= 0:
            close = config.close_ups[part]
            target, zoom = shift[n] / close.zoom + torch.tensor(close.target), close.zoom
        angles = float(azimuth[n]), float(elevation[n])
        cameras.append(orbit(target, float(radius[n]) / zoom, *angles, math.radians(float(fov[n])), size, size))
        parts.append(part)
    return cameras, torch.stack([azimuth, elevation], 1), parts


def fixed_cameras(config: Cameras, azimuths: Sequence[float], size: int, elevation: float = 0.0) -> list[Camera]:
    """Cameras of the middle of the distribution at some azimuths (radians), the same every time."""
    radius, fov = (0.5 * (a + b) for a, b in (config.radius, config.fov))
    return [
        orbit(torch.zeros(3), radius, azimuth, elevation, math.radians(fov), size, size) for azimuth in azimuths
    ]


def _elevations(config: Cameras, place: Tensor, dice: Tensor) -> Tensor:
    low, high = (math.radians(a) for a in config.elevation)
    by_angle = low + (high - low) * place
    by_area = torch.asin(math.sin(low) + (math.sin(high) - math.sin(low)) * place)
    return torch.where(dice < 0.5, by_angle, by_area).clamp(-STEEPEST, STEEPEST)


def _part(config: Cameras, dice: float) -> int:
    for n, close in enumerate(config.close_ups):
        if dice < close.share:
            return n
        dice -= close.share
    return -1
