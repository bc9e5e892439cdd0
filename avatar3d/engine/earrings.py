"""Earrings at the lobes: studs and hoops."""

from __future__ import annotations

import numpy as np

from avatar3d.engine.attach import Figure, rigid_skin
from avatar3d.engine.head_surface import head_faces, head_surface
from avatar3d.engine.tubes import ball, joined, mirrored, profile, sweep
from avatar3d.spec import AvatarSpec
from avatar3d.structures import Material, Part

METALS = ((0.93, 0.76, 0.44), (0.84, 0.85, 0.87))
"""Gold and silver, sRGB."""
HOOP_POINTS = 32


def make_earrings(spec: AvatarSpec, figure: Figure) -> list[Part]:
    """The part `earrings` (both sides), gold or silver by the seed; none when the spec has none."""
    if spec.earrings == "none":
        return []
    rng = np.random.default_rng([spec.seed, 7304])
    metal = METALS[int(rng.random() < 0.4)]
    size = float(figure.body.bone("leftEye")[0]) / 0.0308 * (0.9 + 0.2 * rng.random())
    lobe = figure.vertices[head_faces().lobe].numpy().astype(np.float64)
    left = _stud(lobe, size) if spec.earrings == "studs" else _hoop(figure, lobe, size, rng)
    material = Material("earrings", base_color=(*metal, 1.0), roughness=0.22, metallic=1.0)
    mesh = joined([*left, *(mirrored(*piece) for piece in left)], material)
    return [Part("earrings", "jewellery", mesh, rigid_skin(figure, len(mesh.vertices)))]


def _stud(lobe: np.ndarray, size: float) -> list[tuple[np.ndarray, np.ndarray]]:
    """A bead on a flat collar."""
    bead = ball(lobe + np.array([1.3e-3, 0, 0.3e-3]) * size, np.diag([1.6e-3, 2.3e-3, 2.3e-3]) * size, 6, 12)
    return [bead]


def _hoop(
    figure: Figure, lobe: np.ndarray, size: float, rng: np.random.Generator
) -> list[tuple[np.ndarray, np.ndarray]]:
    """A ring through the lobe that hangs clear of the jaw, turned half towards the front."""
    radius = (8.5 + 5.0 * rng.random()) * 1e-3 * size
    thick = (1.5 + 0.8 * rng.random()) * 1e-3 * size
    turn = np.radians(50.0)
    across = np.array([np.cos(turn), 0.0, np.sin(turn)])
    center = lobe + np.array([0.3e-3 * size, -radius + 1.2e-3 * size, 0])
    angle = 2 * np.pi * np.arange(HOOP_POINTS) / HOOP_POINTS
    outward = np.cos(angle)[:, None] * across + np.sin(angle)[:, None] * np.array([0.0, 1.0, 0.0])
    ring = center + radius * outward
    skin = head_surface(figure).sideways(ring[:, 2], ring[:, 1])
    push = float(np.max(np.where(skin > 0, skin + thick - ring[:, 0], 0.0)))
    if push > 0:
        # lean out at the bottom, as far as the jaw asks
        share = np.clip((lobe[1] - ring[:, 1]) / (2 * radius), 0, 1)
        ring[:, 0] += min(push, 0.012) * np.sqrt(share)
    return [sweep(ring, outward, profile(thick, thick, 8), closed=True)]
