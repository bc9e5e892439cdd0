"""A clip as a film: the camera keeps its place beside the figure and goes where it goes."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from avatar3d.camera import PORTRAIT_FOV, orbit
from avatar3d.motion.play import duration, pose_at, sample
from avatar3d.pictures import FULL_MARGIN, Step, labelled_meshes, view_camera
from avatar3d.render.clips import write_mp4
from avatar3d.render.fused import draw, scene_arrays
from avatar3d.render.ground import at, grid, shadow
from avatar3d.render.lights import ring_lights
from avatar3d.render.meshes import BACKDROP
from avatar3d.render.rasterize import thread_count
from avatar3d.render.scene import LabelledMesh, compile_scene, moved_scene
from avatar3d.structures import Avatar, Camera, Clip

FILM_AZIMUTH = math.radians(24.0)
FOLLOW_SECONDS = 0.8
"""The camera follows the mean place over so long."""
FLOOR_RADIUS = 3.0
"""Metres that the grid reaches beyond the figure's way."""
LOOKS = 12
"""Moments of the clip that the camera is set up for."""


def write_motion(
    avatar: Avatar,
    clip: Clip,
    path: Path,
    fps: float = 30.0,
    resolution: int = 512,
    view: str = "full",
    step: Step | None = None,
    azimuth: float = FILM_AZIMUTH,
    seconds: float | None = None,
) -> int:
    """Film a clip as square H.264 at `path`; returns the number of frames.

    `seconds` None films the clip once; loops go on for as long as asked. `view` as in `view_camera`.
    """
    length = duration(clip) if seconds is None else seconds
    times = [n / fps for n in range(max(1, round(length * fps)))]
    return write_mp4(path, film(avatar, clip, times, resolution, view, azimuth, step), fps=fps)


def film(
    avatar: Avatar, clip: Clip, times: list[float], resolution: int, view: str, azimuth: float, step: Step | None
) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    """The pictures of a clip at these times, seconds. Each thread draws one of its own."""
    track = _track(clip, times)
    floor = _Floor(avatar, float(track.norm(dim=-1).max()))
    figure = labelled_meshes(pose_at(avatar, clip, times[0]))
    scene = compile_scene([*figure, *floor.meshes(figure)])
    camera = _set_up(avatar, clip, times, track, resolution, view, azimuth)
    lights = ring_lights()

    def picture(n: int) -> UInt8[np.ndarray, "H W 3"]:
        figure = labelled_meshes(pose_at(avatar, clip, times[n]))
        now = moved_scene(scene, [*figure, *floor.meshes(figure)])
        rgb, _ = draw(scene_arrays(now), _moved(camera, track[n]), lights, BACKDROP, samples=2)
        return (rgb * 255 + 0.5).astype(np.uint8)

    workers = thread_count()
    with ThreadPoolExecutor(workers) as pool:
        waiting = deque(pool.submit(picture, n) for n in range(min(workers + 1, len(times))))
        for n in range(len(times)):
            yield waiting.popleft().result()
            if n + workers + 1 < len(times):
                waiting.append(pool.submit(picture, n + workers + 1))
            if step is not None:
                step(n + 1, len(times))


class _Floor:
    """A grid, and a shadow under each shoe or foot that pales as it lifts."""

    def __init__(self, avatar: Avatar, reach: float) -> None:
        names = avatar.skeleton.names
        self.grid = grid(reach + FLOOR_RADIUS)
        self.spot = shadow(1.0)
        self.size = float(avatar.skeleton.positions[names.index("head"), 1]) if "head" in names else 1.0

    def meshes(self, figure: list[LabelledMesh]) -> list[LabelledMesh]:
        """The floor under a posed figure."""
        points = torch.cat([item.mesh.vertices[::3] for item in figure])
        low = points[points[:, 1] < 0.12 * self.size]
        low = low if len(low) else points
        middle = float(low[:, 0].mean())
        spots = []
        for foot in (low[low[:, 0] >= middle], low[low[:, 0] < middle]):
            foot = foot if len(foot) else low
            x, _, z = 0.5 * (foot.amin(0) + foot.amax(0))
            lift = float(foot[:, 1].min().clamp_min(0.0)) / (0.1 * self.size)
            spots.append(at(self.spot, float(x), float(z), 0.17 * self.size * (1 + lift)))
        x, _, z = points.mean(0)
        return [self.grid, *spots, at(self.spot, float(x), float(z), 0.34 * self.size)]


def _track(clip: Clip, times: list[float]) -> Float[Tensor, "N 3"]:
    """Where the camera goes along the ground: the mean of where root and hips went around each time."""
    places = []
    for time in times:
        offsets = sample(clip, time).offsets
        places.append(
            sum((offsets[j].double() for j in ("root", "hips") if j in offsets), torch.zeros(3).double())
        )
    path = torch.stack(places) * torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64)
    if len(path) < 3:
        return path
    half = max(1, round(FOLLOW_SECONDS / 2 / max(times[1] - times[0], 1e-3)))
    before = path[:1] + (path[1] - path[0]) * torch.arange(-half, 0)[:, None]
    after = path[-1:] + (path[-1] - path[-2]) * torch.arange(1, half + 1)[:, None]
    long = torch.cat([before, path, after]).cumsum(0)
    long = torch.cat([torch.zeros(1, 3, dtype=torch.float64), long])
    return (long[2 * half + 1 :] - long[: -2 * half - 1]) / (2 * half + 1)


def _set_up(
    avatar: Avatar,
    clip: Clip,
    times: list[float],
    track: Float[Tensor, "N 3"],
    resolution: int,
    view: str,
    azimuth: float,
) -> Camera:
    """A camera, to be moved along `track`, that has the figure in its picture all the time."""
    if view != "full":
        scene = compile_scene(labelled_meshes(pose_at(avatar, clip, times[0])))
        return _moved(view_camera(scene, avatar, view, azimuth, resolution, resolution), -track[0])
    points = []
    for n in range(0, len(times), max(1, len(times) // LOOKS)):
        meshes = pose_at(avatar, clip, times[n])
        points += [mesh.vertices[::7] - track[n].to(mesh.vertices) for _, mesh in meshes]
    seen = torch.cat(points)
    center = 0.5 * (seen.amin(0) + seen.amax(0))
    free = (1 - 2 * FULL_MARGIN) * math.tan(PORTRAIT_FOV / 2)
    camera = orbit(center, 1.0, azimuth, 0.06, PORTRAIT_FOV, resolution, resolution)
    x, y, z = ((seen - center) @ camera.T_world_camera[:3, :3]).unbind(-1)
    distance = float((torch.maximum(x.abs(), y.abs()) / free - z).amax())
    return orbit(center, distance, azimuth, 0.06, PORTRAIT_FOV, resolution, resolution)


def _moved(camera: Camera, offset: Float[Tensor, " 3"]) -> Camera:
    T = camera.T_world_camera.clone()
    T[:3, 3] += offset.to(T)
    return replace(camera, T_world_camera=T)
