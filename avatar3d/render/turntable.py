"""A camera that walks around meshes."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from avatar3d.camera import PORTRAIT_FOV, frame_points, orbit, project
from avatar3d.render.fused import draw, scene_arrays
from avatar3d.render.lights import Lights, ring_lights
from avatar3d.render.meshes import BACKDROP
from avatar3d.render.rasterize import thread_count
from avatar3d.render.scene import LabelledMesh, Scene, compile_scene
from avatar3d.render.visibility import shadow_map
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
    lights: Lights | None = None,
) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    """Frames of a walk around the meshes (or along `cameras`) under lights that stay where they are.

    So shadows are found once for all frames. Each thread draws a frame of its own. `on_frame(done, frames)` is
    called after each frame.
    """
    scene = meshes if isinstance(meshes, Scene) else compile_scene(meshes)
    vertices = scene.vertices[torch.unique(scene.faces)]
    path = cameras or turntable_cameras(vertices, frames, elevation, width=width, height=height)
    lights = lights or ring_lights()
    shadows = [shadow_map(scene, light, _seen(vertices, path)) for light in lights.lights if light.shadow]
    arrays = scene_arrays(scene)

    def frame(camera: Camera) -> UInt8[np.ndarray, "H W 3"]:
        rgb, _ = draw(arrays, camera, lights, background, samples, shadow_maps=shadows)
        return (rgb * 255 + 0.5).astype(np.uint8)

    workers = thread_count()
    with ThreadPoolExecutor(workers) as pool:
        waiting = deque(pool.submit(frame, camera) for camera in path[: workers + 1])
        for n in range(len(path)):
            picture = waiting.popleft().result()
            if n + workers + 1 < len(path):
                waiting.append(pool.submit(frame, path[n + workers + 1]))
            yield picture
            if on_frame is not None:
                on_frame(n + 1, len(path))


def _seen(vertices: Float[Tensor, "N 3"], cameras: Sequence[Camera]) -> Float[Tensor, "K 3"]:
    """The vertices that some camera has in its picture, or a little outside; all when that is none."""
    inside = torch.zeros(len(vertices), dtype=torch.bool)
    for camera in cameras[:: max(1, len(cameras) // 12)]:
        xy, depth = project(camera, vertices)
        size = xy.new_tensor([camera.width, camera.height])
        inside |= ((xy > -0.05 * size) & (xy < 1.05 * size)).all(-1) & (depth > 0)
    return vertices[inside] if inside.any() else vertices
