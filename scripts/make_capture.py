"""Take pictures of an engine avatar from all around, with their cameras: what `avatar3d reconstruct` learns from.

    python scripts/make_capture.py --prompt "old man with glasses" --out outputs/capture
    avatar3d reconstruct outputs/capture

The folder has PNG pictures with alpha and a `transforms.json` in Blender's axes, which nerfstudio reads as well
(`nerfstudio-data --eval-mode interval --eval-interval 8` holds out the same views). Lamps are fixed to the world.
All of the object is in all pictures. Cameras are spread evenly over azimuths and heights, from below to above,
and so is every eighth one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
import tyro
from jaxtyping import Float
from torch import Tensor

from avatar3d.camera import PORTRAIT_FOV, frame_points, orbit
from avatar3d.conditioning.prompt import sample_specs
from avatar3d.engine.build import build_avatar
from avatar3d.engine.bust import build_bust
from avatar3d.pictures import pose_for_pictures
from avatar3d.reconstruct.transforms import write_transforms
from avatar3d.render.lights import ring_lights
from avatar3d.render.meshes import render_meshes
from avatar3d.render.scene import Scene, compile_scene, labelled
from avatar3d.spec import AvatarSpec
from avatar3d.structures import Camera, Part

TURN = math.sqrt(2) % 1
"""Of a circle, from view to view: its multiples are spread evenly, and every eighth of them are as well."""


@dataclass(frozen=True)
class Config:
    prompt: str = "old man with glasses"
    seed: int = 0
    out: Path = Path("outputs/capture")
    shape: Literal["bust", "body"] = "bust"
    """Head and shoulders, cut off at the box of a bust's field, or the whole avatar in its relaxed pose."""
    views: int = 100
    size: int = 160
    """Pixels along each side."""
    elevation: tuple[float, float] = (0.0, 50.0)
    """Lowest and highest camera, degrees."""
    samples: int = 4
    """Of each pixel, along each side."""


def main(config: Config) -> None:
    (spec,) = sample_specs(config.prompt, config.seed)
    scene = bust_scene(spec) if config.shape == "bust" else pose_for_pictures(build_avatar(spec))
    cameras = around(scene.vertices[scene.faces.unique()], config.views, config.size, config.elevation)
    write_transforms(config.out, cameras, [picture(scene, camera, config.samples) for camera in cameras])
    print(f"{config.views} pictures of {config.size} x {config.size}: {config.out}")


def bust_scene(spec: AvatarSpec) -> Scene:
    """The triangles of a bust inside its box."""
    bust = build_bust(spec, thin=True)
    return compile_scene(labelled([_inside(part, bust.bounds) for part in bust.parts]))


def around(points: Float[Tensor, "N 3"], views: int, size: int, elevation: tuple[float, float]) -> list[Camera]:
    """Cameras at one distance, at which each sees all points; elevations in degrees."""
    low, high = map(math.radians, elevation)
    angles = [(2 * math.pi * (n * TURN % 1), low + (high - low) * (n + 0.5) / views) for n in range(views)]
    center = 0.5 * (points.amin(0) + points.amax(0))
    nearest = [frame_points(points, a, e, PORTRAIT_FOV, size, size, margin=0.04) for a, e in angles]
    distance = max(float((camera.T_world_camera[:3, 3] - center).norm()) for camera in nearest)
    return [orbit(center, distance, a, e, PORTRAIT_FOV, size, size) for a, e in angles]


def picture(scene: Scene, camera: Camera, samples: int) -> Float[Tensor, "H W 4"]:
    """RGBA, not premultiplied, in light that is fixed to the world."""
    render = render_meshes(scene, camera, ring_lights(), background=None, samples=samples)
    return torch.cat([render.rgb, render.alpha[..., None]], -1)


def _inside(part: Part, bounds: Float[Tensor, "2 3"]) -> Part:
    kept = ((part.mesh.vertices >= bounds[0]) & (part.mesh.vertices <= bounds[1])).all(dim=1)
    return replace(part, mesh=replace(part.mesh, faces=part.mesh.faces[kept[part.mesh.faces].all(dim=1)]))


if __name__ == "__main__":
    main(tyro.cli(Config))
