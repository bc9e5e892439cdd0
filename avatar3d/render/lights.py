"""Lights of a photographer's studio."""

from __future__ import annotations

import math
from dataclasses import dataclass

from avatar3d.camera import orbit_angles
from avatar3d.render.color import KNEE
from avatar3d.structures import Camera

Color = tuple[float, float, float]


@dataclass(frozen=True)
class Light:
    """A distant soft light. A white matte surface that faces it sends `color` to the eye."""

    direction: tuple[float, float, float]
    """Unit vector from the surface to the light, world frame."""
    color: Color
    """Linear."""
    angle: float = 0.2
    """Half the angle that the lamp spans, radians: softens highlights and shadows."""
    shadow: bool = False


@dataclass(frozen=True)
class Lights:
    """Distant lights and a sky over a ground, in linear light (1 makes white paint white)."""

    lights: tuple[Light, ...]
    sky: Color = (0.3, 0.3, 0.3)
    ground: Color = (0.15, 0.15, 0.15)
    mirror: float = 1.0
    """1, or 0 for surfaces that mirror and shade nothing: with equal sky and ground these show material colors."""


def _direction(azimuth: float, elevation: float) -> tuple[float, float, float]:
    """Unit vector; angles in degrees, as `camera.orbit` counts them."""
    a, e = math.radians(azimuth), math.radians(elevation)
    return (math.cos(e) * math.sin(a), math.sin(e), math.cos(e) * math.cos(a))


def studio_lights(camera: Camera | None = None) -> Lights:
    """Soft key light, catch light, fill and rim lights and a dim sky.

    With a camera the rig turns with its azimuth, so that a turntable keeps the lights beside the camera;
    without one it is fixed to the world and made for a camera in front (azimuth 0).
    """
    turn = math.degrees(orbit_angles(camera)[0]) if camera else 0.0
    return Lights(
        lights=(
            Light(_direction(turn - 40, 36.0), (0.80, 0.785, 0.765), angle=0.16, shadow=True),
            # beside the lens: hardly lights anything, but puts a spark into the eyes
            Light(_direction(turn - 16, 20.0), (0.10, 0.10, 0.10), angle=0.06),
            Light(_direction(turn + 48, 10.0), (0.15, 0.155, 0.165), angle=0.5),
            Light(_direction(turn + 148, 32.0), (0.85, 0.89, 0.94), angle=0.25, shadow=True),
            Light(_direction(turn - 140, 22.0), (0.42, 0.42, 0.42), angle=0.25),
        ),
        sky=(0.34, 0.345, 0.36),
        ground=(0.165, 0.155, 0.15),
    )


def ring_lights() -> Lights:
    """Studio lights fixed to the world that suit a camera at any azimuth: key and rims all around."""
    return Lights(
        lights=(
            Light(_direction(-38, 36.0), (0.80, 0.785, 0.765), angle=0.16, shadow=True),
            Light(_direction(-10, 20.0), (0.10, 0.10, 0.10), angle=0.06),
            Light(_direction(62, 16.0), (0.34, 0.345, 0.36), angle=0.5),
            Light(_direction(152, 34.0), (0.78, 0.81, 0.85), angle=0.25, shadow=True),
            Light(_direction(-128, 22.0), (0.36, 0.36, 0.36), angle=0.3),
        ),
        sky=(0.34, 0.345, 0.36),
        ground=(0.165, 0.155, 0.15),
    )


def ambient_only(level: float = 1.0) -> Lights:
    """The same light from everywhere: shows material colors nearly as they are."""
    return Lights((), (level,) * 3, (level,) * 3)


def material_light() -> Lights:
    """Shows material colors times `KNEE`, which the tone curve leaves as they are."""
    return Lights((), (KNEE,) * 3, (KNEE,) * 3, mirror=0.0)
