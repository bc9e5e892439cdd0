"""How much light reaches what a camera sees: soft shadows and ambient occlusion, from depth maps.

Both are computed once per pixel and carried to the image samples by depth-aware interpolation. They are data
to the shading: no gradient flows through them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from avatar3d.camera import world_to_camera
from avatar3d.render.lights import Light, Lights
from avatar3d.render.rasterize import rasterize
from avatar3d.render.scene import Scene, make_view, solid_cutoffs, view_triangles
from avatar3d.render.textures import weighted_rows
from avatar3d.structures import Camera

OCCLUSION_TAPS = 20
SHADOW_TAPS = 16
BLOCKER_TAPS = 8
GOLDEN_ANGLE = math.pi * (3 - math.sqrt(5))


@dataclass(frozen=True)
class Seen:
    """The surface points at pixel centers, as flat lists of the `P` pixels that show a surface."""

    pixel: Int[Tensor, " P"]
    position: Float[Tensor, "P 3"]
    normal: Float[Tensor, "P 3"]
    depth: Float[Tensor, "H W"]


def visibility(
    scene: Scene, camera: Camera, lights: Lights, seen: Seen, shadows: bool, occlusion: bool
) -> Float[Tensor, "H W C"]:
    """Channel 0: unoccluded share of the sky; then one channel per light with a shadow: its unblocked share.

    Pixels without a surface hold 1.
    """
    height, width = seen.depth.shape
    dither = _gradient_noise(seen.pixel % width, seen.pixel // width)
    ones = torch.ones_like(dither)
    channels = [_ambient_occlusion(scene, camera, seen, dither) if occlusion else ones]
    for light in lights.lights:
        if light.shadow:
            channels.append(_shadow(scene, light, seen, dither) if shadows and len(dither) else ones)
    values = torch.stack(channels, dim=-1)
    image = values.new_ones(height * width, values.shape[1])
    image[seen.pixel] = values
    image = image.view(height, width, -1)
    return _blur(image, seen.depth, 0.25 * _occlusion_radius(scene))


def _occlusion_radius(scene: Scene) -> float:
    return 0.03 * scene.diagonal


def _gradient_noise(x: Tensor, y: Tensor) -> Tensor:
    """Interleaved gradient noise in [0, 1): neighbours differ, small blocks average out (Jimenez 2014)."""
    return (52.9829189 * ((0.06711056 * x + 0.00583715 * y) % 1.0)) % 1.0


def _ambient_occlusion(scene: Scene, camera: Camera, seen: Seen, dither: Tensor) -> Float[Tensor, " P"]:
    """Obscurance by the depth buffer on a spiral of taps (McGuire et al. 2012, Scalable Ambient Obscurance)."""
    height, width = seen.depth.shape
    radius = _occlusion_radius(scene)
    p = world_to_camera(camera, seen.position)
    n = seen.normal @ camera.T_world_camera[:3, :3].to(seen.normal)
    px, py, pz = p.unbind(-1)
    nx, ny, nz = n.unbind(-1)
    sx = camera.focal * px / pz + 0.5 * width
    sy = camera.focal * py / pz + 0.5 * height
    reach = (camera.focal * radius / pz).clamp(2.0, 0.25 * height)
    depth = seen.depth.reshape(-1).clamp_max(1e6)
    total = torch.zeros_like(px)
    for tap in range(OCCLUSION_TAPS):
        share = (tap + 0.5) / OCCLUSION_TAPS
        angle = tap * GOLDEN_ANGLE + 2 * math.pi * dither
        qx = (sx + share * reach * torch.cos(angle)).long().clamp(0, width - 1)
        qy = (sy + share * reach * torch.sin(angle)).long().clamp(0, height - 1)
        z = depth[qy * width + qx]
        vx = (qx + 0.5 - 0.5 * width) / camera.focal * z - px
        vy = (qy + 0.5 - 0.5 * height) / camera.focal * z - py
        vz = z - pz
        squared = vx * vx + vy * vy + vz * vz
        cosine = (vx * nx + vy * ny + vz * nz) * torch.rsqrt(squared + 1e-12)
        near = (1 - squared / (radius * radius)).clamp_min(0)
        total += (cosine - 0.12).clamp_min(0) * near
    return (1 - 2.6 * total / OCCLUSION_TAPS).clamp(0.05, 1)


def _shadow(scene: Scene, light: Light, seen: Seen, dither: Tensor, size: int = 1024) -> Float[Tensor, " P"]:
    """Percentage-closer soft shadows (Fernando 2005) from an orthographic depth map around what is seen."""
    R_light_world = _light_axes(light, seen.position)
    spread = math.tan(light.angle)
    points = seen.position @ R_light_world.T
    margin = 0.02 * scene.diagonal
    low = points[:, :2].amin(0) - margin
    extent = float((points[:, :2].amax(0) + margin - low).max())
    texel = extent / size
    p = scene.vertices.detach() @ R_light_world.T
    xy = (p[:, :2] - low) / texel
    start = float(p[:, 2].min()) - 1.0
    homogeneous = torch.cat([xy, torch.ones_like(xy[:, :1])], dim=-1).double()
    view = make_view(scene, homogeneous, (p[:, 2] - start).double())
    everything = torch.arange(len(scene.faces), device=p.device)
    triangles = view_triangles(scene, view, everything, solid_cutoffs(scene), two_sided=True)
    depth_map = rasterize(triangles, size, size).depth.view(-1)
    receiver = (seen.position + 2.0 * texel * seen.normal) @ R_light_world.T
    x, y = ((receiver[:, :2] - low) / texel).unbind(-1)
    z = receiver[:, 2] - start - 1.5 * texel

    def tap(index: int, count: int, reach: Tensor | float) -> Tensor:
        distance = reach * math.sqrt((index + 0.5) / count)
        angle = index * GOLDEN_ANGLE + 2 * math.pi * dither
        qx = (x + distance * torch.cos(angle)).long().clamp(0, size - 1)
        qy = (y + distance * torch.sin(angle)).long().clamp(0, size - 1)
        return depth_map[qy * size + qx]

    search = 0.02 * scene.diagonal * spread / texel + 2
    gap, blockers = torch.zeros_like(z), torch.zeros_like(z)
    for index in range(BLOCKER_TAPS):
        above = (z - tap(index, BLOCKER_TAPS, search)).clamp_min(0)
        blocked = above > 0
        gap += torch.where(blocked, above, 0.0)
        blockers += blocked
    reach = (spread * gap / blockers.clamp_min(1) / texel).clamp(1.5, 3 * search)
    lit = torch.zeros_like(z)
    for index in range(SHADOW_TAPS):
        lit += tap(index, SHADOW_TAPS, reach) >= z
    return lit / SHADOW_TAPS


def _light_axes(light: Light, like: Tensor) -> Float[Tensor, "3 3"]:
    """Rows: right, down, forward of a camera at the light."""
    forward = -torch.tensor(light.direction).to(like)
    helper = like.new_tensor([0.0, 1.0, 0.0] if abs(light.direction[1]) < 0.9 else [0.0, 0.0, 1.0])
    right = torch.nn.functional.normalize(torch.linalg.cross(forward, helper), dim=0)
    return torch.stack([right, torch.linalg.cross(forward, right), forward])


def _blur(image: Tensor, depth: Tensor, tolerance: float) -> Tensor:
    """Separable 5-tap average over pixels of similar depth, to take out the dither."""
    for axis in (0, 1):
        total = image.clone()
        weight = torch.ones_like(depth)
        for shift in (-2, -1, 1, 2):
            other = torch.roll(depth, shift, axis)
            close = ((other - depth).abs() < tolerance).float()
            total += close[..., None] * torch.roll(image, shift, axis)
            weight += close
        image = total / weight[..., None]
    return image


def upsample(
    image: Float[Tensor, "H W C"],
    depth: Float[Tensor, "H W"],
    xy: Float[Tensor, "S 2"],
    z: Float[Tensor, " S"],
    tolerance: float,
) -> Float[Tensor, "S C"]:
    """Values of `image` at pixel positions `xy`, mixed from the neighbours whose depth is like `z`."""
    height, width, channels = image.shape
    x, y = xy[:, 0] - 0.5, xy[:, 1] - 0.5
    x0, y0 = x.floor(), y.floor()
    fx, fy = x - x0, y - y0
    flat_depth = depth.reshape(-1)
    index, weights = [], []
    for dx, dy, bilinear in (
        (0, 0, (1 - fx) * (1 - fy)), (1, 0, fx * (1 - fy)), (0, 1, (1 - fx) * fy), (1, 1, fx * fy),
    ):  # fmt: skip
        near = (y0.long() + dy).clamp(0, height - 1) * width + (x0.long() + dx).clamp(0, width - 1)
        difference = (flat_depth[near] - z).abs() / tolerance
        index.append(near)
        weights.append((bilinear + 1e-3) / (1e-3 + difference * difference))
    weight = torch.stack(weights, dim=-1)
    weight = weight / weight.sum(-1, keepdim=True).clamp_min(1e-12)
    value = weighted_rows(image.reshape(-1, channels), torch.stack(index, dim=-1), weight)
    return value + (1 - weight.sum(-1, keepdim=True)).clamp_min(0)
