"""The pictures of an avatar: what the camera frames, the preview and the turntable."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from avatar3d.body.pose import pose_avatar, relaxed_pose
from avatar3d.camera import PORTRAIT_FOV, frame_points, orbit, project
from avatar3d.render.clips import write_mp4
from avatar3d.render.images import to_bytes, write_png
from avatar3d.render.meshes import render_meshes
from avatar3d.render.scene import LabelledMesh, Scene, compile_scene
from avatar3d.render.turntable import turntable, turntable_cameras
from avatar3d.structures import PART_KINDS, Avatar, Camera, Mesh, Part

VIEWS = {"head": 0.3, "bust": 0.75}
"""How far below the neck the picture ends, in units of neck to top of the skull."""
SKULL = 2.0
"""Height of the skull over the neck, in units of neck to eyes."""
HEADROOM = 0.06
"""Share of the picture above hair and hat, at least."""
FULL_MARGIN = 0.05
PREVIEW_AZIMUTH = math.radians(28.0)
PREVIEW_GAP = 8
"""Pixels of white between the two pictures."""
TURN_SECONDS = 3.0
"""A turntable of any number of frames takes so long, but is never slower than 12 frames per second."""

Step = Callable[[int, int], None]
"""Called with the frames done and the frames in all."""


def pose_for_pictures(avatar: Avatar) -> Scene:
    """The avatar in its relaxed pose (as far as it has the joints) and default expression, ready to be drawn."""
    pose = {joint: turn for joint, turn in relaxed_pose().items() if joint in avatar.skeleton.names}
    return compile_scene(labelled_meshes(pose_avatar(avatar, pose)))


def labelled_meshes(posed: list[tuple[Part, Mesh]]) -> list[LabelledMesh]:
    """Posed parts with the labels of their kinds."""
    return [LabelledMesh(mesh, 1 + PART_KINDS.index(part.kind)) for part, mesh in posed]


def view_camera(scene: Scene, avatar: Avatar, view: str, azimuth: float, width: int, height: int) -> Camera:
    """A camera on a circle around `head`, `bust` or `full` (the whole scene), level with its middle.

    The circle's center and radius do not depend on the azimuth (radians). Hair above the eyes and hats are in
    the picture whole; it ends `VIEWS` below the neck, so that children's heads are as large as others. Skeletons
    without neck or eyes are seen whole.
    """
    slope = 2 * math.tan(PORTRAIT_FOV / 2)
    if view == "full" or not {"neck", "leftEye"} <= set(avatar.skeleton.names):
        center = 0.5 * (scene.vertices.amin(0) + scene.vertices.amax(0))
        offset = scene.vertices - center
        radius, free = offset[:, [0, 2]].norm(dim=1), (1 - 2 * FULL_MARGIN) * slope / 2
        # a point is nearest to the upper or lower edge in front, and to the side ones a little before the side
        upright = offset[:, 1].abs() / free + radius
        aside = radius * math.hypot(1, height / width / free)
        return orbit(
            center, float(torch.maximum(upright, aside).amax()), azimuth, 0.0, PORTRAIT_FOV, width, height
        )
    joints = dict(zip(avatar.skeleton.names, avatar.skeleton.positions, strict=True))
    neck, eye = joints["neck"], joints["leftEye"]
    depth = float(eye[2] + neck[2]) / 2
    bottom = float(neck[1]) - VIEWS[view] * SKULL * float(eye[1] - neck[1])
    high = scene.vertices[scene.vertices[:, 1] > float(eye[1])]
    across = (high[:, [0, 2]] - torch.tensor([0.0, depth])).norm(dim=1)
    # the top of the picture in which a point, turned towards the camera, is just below the headroom
    distance = (float(high[:, 1].amax()) - bottom) / slope
    for _ in range(8):
        visible = distance / (distance - across).clamp_min(0.1)
        middle = bottom + 0.5 * slope * distance
        top = float((middle + (high[:, 1] - middle) * visible).amax())
        distance = 0.5 * distance + 0.5 * (top - bottom) / (1 - HEADROOM) / slope
    target = torch.tensor([0.0, bottom + 0.5 * slope * distance, depth])
    return orbit(target, distance, azimuth, 0.0, PORTRAIT_FOV, width, height)


def write_preview(avatar: Avatar, scene: Scene, path: Path, height: int) -> None:
    """A portrait from three-quarter beside the whole body: PNG, `height` high and about 1.4 times as wide."""
    portrait = view_camera(scene, avatar, "bust", PREVIEW_AZIMUTH, height, height)
    body = _body_camera(scene, height)
    left, right = (to_bytes(render_meshes(scene, camera).rgb) for camera in (portrait, body))
    gap = np.full((height, PREVIEW_GAP, 3), 255, np.uint8)
    write_png(np.concatenate([left, gap, right], axis=1), path)


def _body_camera(scene: Scene, height: int) -> Camera:
    """The whole body as high as the picture but for the margins, in a picture that is just wide enough."""
    tall = frame_points(scene.vertices, PREVIEW_AZIMUTH, width=4 * height, height=height, margin=FULL_MARGIN)
    x = project(tall, scene.vertices)[0][:, 0] - 2 * height
    width = 2 * math.ceil(float(x.abs().amax()) + FULL_MARGIN * height)
    return replace(tall, width=max(width, 3 * height // 8))


def thumbnail(avatar: Avatar, scene: Scene, size: int = 512) -> bytes:
    """The head from three-quarter, `size` pixels square, as the bytes of a JPEG: the icon of a file."""
    picture = to_bytes(render_meshes(scene, view_camera(scene, avatar, "head", PREVIEW_AZIMUTH, size, size)).rgb)
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "JPEG", quality=90)
    return stream.getvalue()


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
