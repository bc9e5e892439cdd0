"""Cameras, and the one page of axis conventions.

World       metres, radians, right-handed; +Y up. The avatar faces +Z, its left is +X, its soles are at Y = 0.
Camera      OpenCV axes: x right, y down, z forward. `T_world_camera` maps camera coordinates to the world:
            p_world = T_world_camera @ p_camera. Names read left to right: `T_a_b` takes b to a.
Pixels      x grows to the right, y downwards; the centre of the upper left pixel is (0.5, 0.5). The principal
            point is the image centre, focal lengths of both axes are equal and in pixels.
Depth       the camera's z coordinate (not the distance to the eye), metres.
Orbit       azimuth 0 is in front of the avatar, looking along -Z; a positive azimuth moves the camera to the
            avatar's left (+X), which is the right-hand side of a picture taken from the front. A positive
            elevation moves it up. Field of view is the vertical one.
Transforms  files of Blender and nerfstudio (`transforms.json`): the camera looks along -z with y up (OpenGL), and
            the world has +Z up; what faces us along -Y there faces +Z here.
Texture     glTF: (0, 0) is the upper left corner of the image, v grows downwards.
Quaternion  (w, x, y, z).

Only this module converts between axis conventions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.structures import Camera

PORTRAIT_FOV = math.radians(25.0)
"""Vertical field of view of a long lens, which leaves faces undistorted."""


def orbit(
    target: Float[Tensor, 3] | Sequence[float],
    distance: float,
    azimuth: float = 0.0,
    elevation: float = 0.0,
    fov: float = PORTRAIT_FOV,
    width: int = 512,
    height: int = 512,
) -> Camera:
    """A camera on a sphere around `target` that looks at it, upright. Angles in radians, distance in metres.

    Raises ValueError when the distance, the field of view or the size make no camera, or at a pole, where
    "upright" means nothing.
    """
    if not (math.isfinite(distance) and distance > 0):
        raise ValueError(f"an orbit needs a distance above 0, got {distance}")
    if not 0 < fov < math.pi:
        raise ValueError(f"the field of view is in radians between 0 and pi, got {fov}; use math.radians")
    if width < 1 or height < 1:
        raise ValueError(f"the image size must be at least 1 x 1, got {width} x {height}")
    if abs(elevation) >= math.pi / 2 - 1e-6:
        raise ValueError(f"elevation must stay inside (-pi/2, pi/2), got {elevation}; use at most 1.57")
    target = torch.as_tensor(target)
    if not target.is_floating_point():
        target = target.float()
    cos_e, sin_e = math.cos(elevation), math.sin(elevation)
    cos_a, sin_a = math.cos(azimuth), math.sin(azimuth)
    backward = target.new_tensor([cos_e * sin_a, sin_e, cos_e * cos_a])
    right = target.new_tensor([cos_a, 0.0, -sin_a])
    down = target.new_tensor([sin_e * sin_a, -cos_e, sin_e * cos_a])
    T_world_camera = torch.eye(4, dtype=target.dtype, device=target.device)
    T_world_camera[:3, :3] = torch.stack([right, down, -backward], dim=1)
    T_world_camera[:3, 3] = target + distance * backward
    return Camera(T_world_camera, 0.5 * height / math.tan(0.5 * fov), width, height)


def framing(
    bounds_min: Float[Tensor, " 3"] | Sequence[float],
    bounds_max: Float[Tensor, " 3"] | Sequence[float],
    azimuth: float = 0.0,
    elevation: float = 0.0,
    fov: float = PORTRAIT_FOV,
    width: int = 512,
    height: int = 512,
    margin: float = 0.08,
) -> Camera:
    """The nearest orbit camera that sees the whole box, with `margin` (share of the image) free all around."""
    low, high = torch.as_tensor(bounds_min).float(), torch.as_tensor(bounds_max).float()
    if not (torch.isfinite(low).all() and torch.isfinite(high).all() and (high >= low).all()):
        raise ValueError(f"bounds must be finite with min <= max, got {low.tolist()} and {high.tolist()}")
    corners = torch.cartesian_prod(*torch.stack([low, high], dim=1).unbind(0))
    return frame_points(corners, azimuth, elevation, fov, width, height, margin)


def frame_points(
    points: Float[Tensor, "N 3"],
    azimuth: float = 0.0,
    elevation: float = 0.0,
    fov: float = PORTRAIT_FOV,
    width: int = 512,
    height: int = 512,
    margin: float = 0.08,
) -> Camera:
    """The nearest orbit camera around the points that sees them all with `margin` of the image free all around."""
    points = points.detach().float()
    if len(points) == 0 or not torch.isfinite(points).all():
        raise ValueError(f"a camera needs at least one point and finite ones to frame, got {len(points)}")
    if not 0 <= margin < 0.5:
        raise ValueError(f"margin is a share of the image in [0, 0.5), got {margin}")
    center = 0.5 * (points.amin(0) + points.amax(0))
    camera = orbit(center, 1.0, azimuth, elevation, fov, width, height)
    x, y, z = ((points - center) @ camera.T_world_camera[:3, :3]).unbind(-1)
    free = 0.5 - margin
    needed = torch.maximum(x.abs() / (free * width), y.abs() / (free * height)) * camera.focal - z
    return orbit(center, max(float(needed.max()), 1e-6), azimuth, elevation, fov, width, height)


def orbit_angles(camera: Camera) -> tuple[float, float]:
    """(azimuth, elevation) of the camera's viewing direction, radians: the inverse of `orbit`."""
    x, y, z = (-camera.T_world_camera[:3, 2]).tolist()
    return math.atan2(x, z), math.asin(max(-1.0, min(1.0, y)))


def world_to_camera(camera: Camera, points: Float[Tensor, "*B 3"]) -> Float[Tensor, "*B 3"]:
    """World points in camera axes."""
    T = camera.T_world_camera.to(points)
    return (points - T[:3, 3]) @ T[:3, :3]


def project(camera: Camera, points: Float[Tensor, "*B 3"]) -> tuple[Float[Tensor, "*B 2"], Float[Tensor, "*B"]]:
    """World points to pixels and depth. Pixels of points with depth <= 0 have no meaning."""
    x, y, depth = world_to_camera(camera, points).unbind(-1)
    px = camera.focal * x / depth + 0.5 * camera.width
    py = camera.focal * y / depth + 0.5 * camera.height
    return torch.stack([px, py], dim=-1), depth


def unproject(camera: Camera, pixels: Float[Tensor, "*B 2"], depth: Float[Tensor, "*B"]) -> Float[Tensor, "*B 3"]:
    """Pixels with depth to world points: the inverse of `project`."""
    center = pixels.new_tensor([0.5 * camera.width, 0.5 * camera.height])
    xy = (pixels - center) / camera.focal * depth[..., None]
    T = camera.T_world_camera.to(pixels)
    return torch.cat([xy, depth[..., None]], dim=-1) @ T[:3, :3].T + T[:3, 3]


def pixel_centers(camera: Camera) -> Float[Tensor, "H W 2"]:
    """(x, y) of every pixel's centre."""
    like = camera.T_world_camera
    x = torch.arange(camera.width, dtype=like.dtype, device=like.device) + 0.5
    y = torch.arange(camera.height, dtype=like.dtype, device=like.device) + 0.5
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)


OPENGL_WORLD = ((1.0, 0.0, 0.0), (0.0, 0.0, -1.0), (0.0, 1.0, 0.0))
"""Our axes to those of a world with +Z up: (x, y, z) becomes (x, -z, y)."""


def from_transform(matrix: Float[Tensor, "4 4"]) -> Float[Tensor, "4 4"]:
    """`T_world_camera` of a `transform_matrix`: a camera with OpenGL axes in a world with +Z up."""
    axes = matrix.new_tensor(OPENGL_WORLD)
    ours = matrix.clone()
    ours[:3] = axes.T @ matrix[:3]
    ours[:, 1:3] *= -1
    return ours


def to_transform(T_world_camera: Float[Tensor, "4 4"]) -> Float[Tensor, "4 4"]:
    """The inverse of `from_transform`."""
    theirs = T_world_camera.clone()
    theirs[:, 1:3] *= -1
    theirs[:3] = T_world_camera.new_tensor(OPENGL_WORLD) @ theirs[:3]
    return theirs
