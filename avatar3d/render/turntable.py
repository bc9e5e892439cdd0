"""A camera that walks around meshes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from avatar3d.camera import PORTRAIT_FOV, frame_points, orbit
from avatar3d.render.images import to_bytes
from avatar3d.render.lights import studio_lights
from avatar3d.render.meshes import BACKDROP, render_meshes
from avatar3d.render.scene import LabelledMesh, Scene, compile_scene
from avatar3d.structures import Camera


def turntable_cameras(
    points: Float[Tensor, "N 3"],
    frames: int,
    elevation: float = 0.06,
    fov: float = PORTRAIT_FOV,
    width: int = 512,
    height: int = 512,
    margin: float = 0.06,
    start: float = 0.0,
) -> list[Camera]:
    """`frames` cameras once around the Y axis through the middle of `points`, all at the distance from which
    every one of them sees all points with `margin` (share of the image) to spare. The first is at azimuth
    `start`, radians.
    """
    if frames < 1:
        raise ValueError(f"a turntable needs at least 1 frame, got {frames}")
    points = points.detach().float()
    center = 0.5 * (points.amin(0) + points.amax(0))
    azimuths = [start + 2 * math.pi * n / frames for n in range(frames)]
    nearest = [frame_points(points, a, elevation, fov, width, height, margin) for a in azimuths]
    distance = max(float((camera.T_world_camera[:3, 3] - center).norm()) for camera in nearest)
    return [orbit(center, distance, a, elevation, fov, width, height) for a in azimuths]


def turntable(
    meshes: Sequence[LabelledMesh] | Scene,
    frames: int = 72,
    width: int = 512,
    height: int = 512,
    elevation: float = 0.06,
    background: tuple[float, float, float] = BACKDROP,
    samples: int = 2,
    cameras: Sequence[Camera] | None = None,
    on_frame: Callable[[int, int], None] | None = None,
) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    """Frames of a walk around the meshes (or along `cameras`); the studio lights walk along.

    `on_frame(done, frames)` is called after each frame.
    """
    scene = meshes if isinstance(meshes, Scene) else compile_scene(meshes)
    used = torch.unique(scene.faces)
    path = cameras or turntable_cameras(scene.vertices[used], frames, elevation, width=width, height=height)
    for n, camera in enumerate(path):
        with torch.no_grad():
            picture = render_meshes(scene, camera, studio_lights(camera), background, samples)
        yield to_bytes(picture.rgb)
        if on_frame is not None:
            on_frame(n + 1, len(path))
