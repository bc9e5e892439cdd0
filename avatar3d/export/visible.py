"""Which triangles can be seen at all, from around and in everyday poses."""

from __future__ import annotations

from typing import no_type_check

import numba
import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from avatar3d.body.pose import Pose, pose_avatar, relaxed_pose
from avatar3d.body.poses import test_poses
from avatar3d.structures import Avatar, Skeleton

POSES = ("stride", "arms_up")
"""Taken together, beside the pose of pictures, in which the mouth is open."""
SPEAKING = {"jawOpen": 0.8, "tongueOut": 0.2}
PIXEL = 0.004
"""Metres."""
RINGS = 3
"""Triangles this near to a visible one count as visible."""


def seen_faces(avatar: Avatar) -> list[Bool[Tensor, " F"]]:
    """For each part which faces show somewhere. What is not opaque hides nothing and is never hidden."""
    opaque = [part.mesh.material.alpha_mode == "OPAQUE" for part in avatar.parts]
    faces = [part.mesh.faces.cpu().numpy() for part in avatar.parts]
    offsets = np.cumsum([0] + [len(part.mesh.vertices) for part in avatar.parts])
    solid = [i for i, hides in enumerate(opaque) if hides]
    if not solid:
        return [torch.ones(len(f), dtype=torch.bool) for f in faces]
    triangles = np.concatenate([faces[i] + offsets[i] for i in solid])
    seen = np.zeros(len(triangles), bool)
    for points in _posed(avatar):
        for axes in _directions():
            _mark(np.ascontiguousarray((points @ axes.T)[:, :3]), triangles, PIXEL, seen)
    reached = np.zeros(int(offsets[-1]), bool)
    for _ in range(RINGS):
        reached[triangles[seen]] = True
        seen |= reached[triangles].any(axis=1)
    pieces = iter(np.split(seen, np.cumsum([len(faces[i]) for i in solid])[:-1]))
    return [
        torch.from_numpy(next(pieces) if o else np.ones(len(f), bool)) for o, f in zip(opaque, faces, strict=True)
    ]


def _posed(avatar: Avatar) -> list[Float[np.ndarray, "V 3"]]:
    """All vertices in each pose; joints that the avatar lacks do not turn."""
    moving = {joint: turn for name in POSES for joint, turn in test_poses()[name].items()}
    return [
        np.concatenate([mesh.vertices.double().cpu().numpy() for _, mesh in pose_avatar(avatar, pose, expression)])
        for pose, expression in (
            (_known(relaxed_pose(), avatar.skeleton), SPEAKING),
            (_known(moving, avatar.skeleton), {}),
        )
    ]


def _known(pose: Pose, skeleton: Skeleton) -> Pose:
    return {joint: turn for joint, turn in pose.items() if joint in skeleton.names}


def _directions() -> list[Float[np.ndarray, "3 3"]]:
    """Right, up and towards the viewer, for views from eight sides, four higher and two lower ones."""
    around = [(azimuth, 0.0) for azimuth in range(0, 360, 45)]
    angles = np.radians(
        [*around, *((azimuth, 40.0) for azimuth in range(0, 360, 90)), (0.0, -30.0), (180.0, -30.0)]
    )
    views = []
    for azimuth, elevation in angles:
        c, s = np.cos(azimuth), np.sin(azimuth)
        up, over = np.cos(elevation), np.sin(elevation)
        views.append(np.array([[c, 0.0, -s], [-s * over, up, -c * over], [s * up, over, c * up]]))
    return views


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def _mark(points, faces, pixel, seen):
    """Set `seen` of the faces that own a pixel of an orthographic picture; +z is towards the viewer."""
    low_x, low_y = points[:, 0].min(), points[:, 1].min()
    width = int((points[:, 0].max() - low_x) / pixel) + 2
    height = int((points[:, 1].max() - low_y) / pixel) + 2
    depth, owner = np.full((height, width), -np.inf), np.full((height, width), -1, np.int64)
    for f in range(len(faces)):
        i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
        ax, ay = (points[i, 0] - low_x) / pixel, (points[i, 1] - low_y) / pixel
        bx, by = (points[j, 0] - low_x) / pixel - ax, (points[j, 1] - low_y) / pixel - ay
        cx, cy = (points[k, 0] - low_x) / pixel - ax, (points[k, 1] - low_y) / pixel - ay
        det = bx * cy - by * cx
        if abs(det) < 1e-12:
            continue
        az, bz, cz = points[i, 2], points[j, 2] - points[i, 2], points[k, 2] - points[i, 2]
        top, bottom = int(np.ceil(ay + min(0.0, by, cy) - 0.5)), int(np.floor(ay + max(0.0, by, cy) - 0.5))
        left, right = int(np.ceil(ax + min(0.0, bx, cx) - 0.5)), int(np.floor(ax + max(0.0, bx, cx) - 0.5))
        for y in range(max(top, 0), bottom + 1):
            for x in range(max(left, 0), right + 1):
                px, py = x + 0.5 - ax, y + 0.5 - ay
                u, v = (px * cy - py * cx) / det, (bx * py - by * px) / det
                if u >= 0.0 and v >= 0.0 and u + v <= 1.0:
                    z = az + u * bz + v * cz
                    if z > depth[y, x]:
                        depth[y, x], owner[y, x] = z, f
    for y in range(height):
        for x in range(width):
            if owner[y, x] >= 0:
                seen[owner[y, x]] = True
