"""The pictures of an avatar: what the camera frames, the preview and the turntable."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from avatar3d.body.pose import pose_avatar, relaxed_pose
from avatar3d.camera import PORTRAIT_FOV, framing, orbit
from avatar3d.render.clips import write_mp4
from avatar3d.render.images import to_bytes, write_png
from avatar3d.render.meshes import render_meshes
from avatar3d.render.scene import LabelledMesh, Scene, compile_scene
from avatar3d.render.turntable import turntable, turntable_cameras
from avatar3d.structures import PART_KINDS, Avatar, Camera

VIEWS = {"head": (-0.25, 1.12), "bust": (-0.85, 1.15)}
"""Lowest and highest point in the picture, counted from the neck in units of neck to crown (hair, hat)."""
FULL_MARGIN = 0.06
PREVIEW_AZIMUTH = math.radians(28.0)
PREVIEW_GAP = 8
"""Pixels of white between the two pictures."""
TURN_SECONDS = 3.0
"""A turntable of any number of frames takes so long, but is never slower than 12 frames per second."""

Step = Callable[[int, int], None]
"""Called with the frames done and the frames in all."""


def pose_for_pictures(avatar: Avatar) -> Scene:
    """The avatar in its relaxed pose and default expression, ready to be drawn from many sides."""
    posed = pose_avatar(avatar, relaxed_pose())
    return compile_scene([LabelledMesh(mesh, 1 + PART_KINDS.index(part.kind)) for part, mesh in posed])


def view_camera(scene: Scene, avatar: Avatar, view: str, azimuth: float, width: int, height: int) -> Camera:
    """A camera on a circle around `head`, `bust` or `full` (the whole scene), level with its middle.

    The circle's center and radius do not depend on the azimuth (radians).
    """
    low, high = scene.vertices.amin(0), scene.vertices.amax(0)
    if view == "full":
        radius = float((high - low)[[0, 2]].norm()) / 2
        half = max(float(high[1] - low[1]) / 2, radius * height / width) * (1 + 2 * FULL_MARGIN)
        distance = half / math.tan(PORTRAIT_FOV / 2) + radius
        return orbit((low + high) / 2, distance, azimuth, 0.0, PORTRAIT_FOV, width, height)
    joints = dict(zip(avatar.skeleton.names, avatar.skeleton.positions, strict=True))
    neck, crown = float(joints["neck"][1]), float(high[1])
    bottom, top = (neck + share * (crown - neck) for share in VIEWS[view])
    depth = float(joints["leftEye"][2] + joints["neck"][2]) / 2
    target = torch.tensor([0.0, (bottom + top) / 2, depth])
    distance = (top - bottom) / 2 / math.tan(PORTRAIT_FOV / 2)
    return orbit(target, distance, azimuth, 0.0, PORTRAIT_FOV, width, height)


def write_preview(avatar: Avatar, scene: Scene, path: Path, height: int) -> None:
    """A portrait from three-quarter beside the whole body: PNG, `height` high and about 1.5 times as wide."""
    portrait = view_camera(scene, avatar, "bust", PREVIEW_AZIMUTH, height, height)
    low, high = scene.vertices.amin(0), scene.vertices.amax(0)
    body = framing(low, high, PREVIEW_AZIMUTH, width=height // 2, height=height, margin=0.05)
    left, right = (to_bytes(render_meshes(scene, camera).rgb) for camera in (portrait, body))
    gap = np.full((height, PREVIEW_GAP, 3), 255, np.uint8)
    write_png(np.concatenate([left, gap, right], axis=1), path)


def write_turntable(
    scene: Scene, avatar: Avatar | None, path: Path, frames: int, resolution: int, view: str, step: Step
) -> None:
    """One turn as an H.264 clip, beginning in front and passing the avatar's left.

    Without an avatar (a scene from a file) the whole scene is in the picture.
    """
    if avatar is None:
        cameras = turntable_cameras(scene.vertices, frames, width=resolution, height=resolution)
    else:
        turns = [2 * math.pi * frame / frames for frame in range(frames)]
        cameras = [view_camera(scene, avatar, view, turn, resolution, resolution) for turn in turns]
    pictures = turntable(scene, cameras=cameras, on_frame=step)
    write_mp4(path, pictures, fps=max(12.0, frames / TURN_SECONDS))
