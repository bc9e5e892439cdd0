"""How much light reaches what a camera sees: soft shadows and ambient occlusion, from depth maps.

Both are computed once per pixel and carried to the image samples by depth-aware interpolation. They are data
to the shading: no gradient flows through them. `visibility_kernel` is the fast twin for CPUs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from avatar3d.camera import world_to_camera
from avatar3d.render.lights import Light, Lights
from avatar3d.render.rasterize import rasterize
from avatar3d.render.scene import Scene, make_view, solid_cutoffs, view_triangles
from avatar3d.render.textures import weighted_rows
from avatar3d.structures import Camera


def _spiral(count: int, power: float) -> np.ndarray:
    """(count, 2) points of the unit disk on a golden-angle spiral; power 0.5 spreads them evenly."""
    n = np.arange(count)
    distance = ((n + 0.5) / count) ** power
    angle = n * math.pi * (3 - math.sqrt(5))
    return np.stack([distance * np.cos(angle), distance * np.sin(angle)], axis=-1).astype(np.float64)


OCCLUSION_TAPS = _spiral(20, 1.0)
OCCLUSION_STRENGTH = 3.6
OCCLUSION_BIAS = 0.12
"""Cosine to the surface below which a neighbour does not occlude: hides the facets of coarse meshes."""
BLOCKER_TAPS = _spiral(8, 0.5)
SHADOW_TAPS = _spiral(16, 0.5)
UPSAMPLE_DEPTH = 0.005
"""Depths that differ by this share of the scene's diagonal belong to different surfaces."""


@dataclass(frozen=True)
class Seen:
    """The surface points at pixel centers, as flat lists of the `P` pixels that show a surface."""

    pixel: Int[Tensor, " P"]
    position: Float[Tensor, "P 3"]
    normal: Float[Tensor, "P 3"]
    depth: Float[Tensor, "H W"]


@dataclass(frozen=True)
class ShadowMap:
    """Depth seen from a distant light, orthographic."""

    depth: Float[Tensor, "S S"]
    R_light_world: Float[Tensor, "3 3"]
    low: tuple[float, float]
    """Light coordinates of the upper left corner, metres."""
    texel: float
    """Metres."""
    start: float
    """Light coordinate at which depth is 0."""
    spread: float
    """Texels that a penumbra grows per metre of distance to what blocks."""
    search: float
    """Texels around a point in which blockers are looked for."""


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
            lit = ones
            if shadows and len(dither):
                lit = _lit(shadow_map(scene, light, seen.position), seen, dither)
            channels.append(lit)
    values = torch.stack(channels, dim=-1)
    image = values.new_ones(height * width, values.shape[1])
    image[seen.pixel] = values
    image = image.view(height, width, -1)
    return _blur(image, seen.depth, blur_tolerance(scene.diagonal))


def occlusion_radius(diagonal: float) -> float:
    """How far away occluders count, metres, in a scene with this diagonal."""
    return 0.03 * diagonal


def blur_tolerance(diagonal: float) -> float:
    """Difference in depth, metres, within which neighbouring pixels share their light."""
    return 0.25 * occlusion_radius(diagonal)


def _gradient_noise(x: Tensor, y: Tensor) -> Tensor:
    """Interleaved gradient noise in [0, 1): neighbours differ, small blocks average out (Jimenez 2014)."""
    return ((52.9829189 * ((0.06711056 * x.double() + 0.00583715 * y.double()) % 1.0)) % 1.0).float()


def _ambient_occlusion(scene: Scene, camera: Camera, seen: Seen, dither: Tensor) -> Float[Tensor, " P"]:
    position = world_to_camera(camera, seen.position)
    normal = seen.normal @ camera.T_world_camera[:3, :3].to(seen.normal)
    share = occluded(position, normal, dither, seen.depth, camera.focal, occlusion_radius(scene.diagonal))
    return (1 - OCCLUSION_STRENGTH * share).clamp(0.05, 1)


def occluded(
    position: Float[Tensor, "P 3"], normal: Float[Tensor, "P 3"], dither: Float[Tensor, " P"],
    depth: Float[Tensor, "H W"], focal: float, radius: float,
) -> Float[Tensor, " P"]:  # fmt: skip
    """Mean obscurance by the depth buffer over a spiral of taps, turned by `dither`; all in camera axes.

    After McGuire et al. 2012, Scalable Ambient Obscurance: a tap counts with its cosine to the normal and fades
    with distance up to `radius`.
    """
    height, width = depth.shape
    px, py, pz = position.unbind(-1)
    sx = focal * px / pz + 0.5 * width
    sy = focal * py / pz + 0.5 * height
    reach = (focal * radius / pz).clamp(2.0, 0.25 * height)
    cosine = reach * torch.cos(2 * math.pi * dither)
    sine = reach * torch.sin(2 * math.pi * dither)
    flat = depth.reshape(-1).clamp_max(1e6)
    total = torch.zeros_like(px)
    for tx, ty in OCCLUSION_TAPS.tolist():
        qx = (sx + cosine * tx - sine * ty).long().clamp(0, width - 1)
        qy = (sy + sine * tx + cosine * ty).long().clamp(0, height - 1)
        z = flat[qy * width + qx]
        vx = (qx + 0.5 - 0.5 * width) / focal * z - px
        vy = (qy + 0.5 - 0.5 * height) / focal * z - py
        v = torch.stack([vx, vy, z - pz], dim=-1)
        squared = (v * v).sum(-1)
        facing = (v * normal).sum(-1) * torch.rsqrt(squared + 1e-8) - OCCLUSION_BIAS
        total += facing.clamp_min(0) * (1 - squared / (radius * radius)).clamp_min(0)
    return total / len(OCCLUSION_TAPS)


def shadow_map(scene: Scene, light: Light, points: Float[Tensor, "P 3"], size: int = 1024) -> ShadowMap:
    """Depth from a light around `points`; with alpha tests and both sides of every face."""
    R_light_world = _light_axes(light, points)
    seen = points @ R_light_world.T
    margin = 0.02 * scene.diagonal
    low = seen[:, :2].amin(0) - margin
    texel = float((seen[:, :2].amax(0) + margin - low).max()) / size
    p = scene.vertices.detach() @ R_light_world.T
    start = float(p[:, 2].min()) - 1.0
    xy = (p[:, :2] - low) / texel
    homogeneous = torch.cat([xy, torch.ones_like(xy[:, :1])], dim=-1).double()
    view = make_view(scene, homogeneous, (p[:, 2] - start).double())
    everything = torch.arange(len(scene.faces), device=p.device)
    triangles = view_triangles(scene, view, everything, solid_cutoffs(scene), two_sided=True)
    depth = rasterize(triangles, size, size).depth[0]
    spread = math.tan(light.angle)
    search = 0.02 * scene.diagonal * spread / texel + 2
    return ShadowMap(depth, R_light_world, (float(low[0]), float(low[1])), texel, start, spread / texel, search)


def _lit(shadow: ShadowMap, seen: Seen, dither: Tensor) -> Float[Tensor, " P"]:
    """Unblocked share of a light. Points are raised a little, so that surfaces do not shadow themselves."""
    raised = (seen.position + 2.0 * shadow.texel * seen.normal) @ shadow.R_light_world.T
    xy = (raised[:, :2] - raised.new_tensor(shadow.low)) / shadow.texel
    receiver = torch.cat([xy, raised[:, 2:] - shadow.start - 1.5 * shadow.texel], dim=-1)
    return lit_share(receiver, dither, shadow.depth, shadow.spread, shadow.search)


def lit_share(
    receiver: Float[Tensor, "P 3"], dither: Float[Tensor, " P"], depth: Float[Tensor, "H W"],
    spread: float, search: float,
) -> Float[Tensor, " P"]:  # fmt: skip
    """Percentage-closer soft shadows (Fernando 2005): the lit share of taps around each point.

    `receiver` holds texel coordinates and depth in the map. The taps reach as far as the mean gap to what
    blocks within `search` texels, times `spread` (texels per metre), so shadows are sharp at contacts.
    """
    height, width = depth.shape
    x, y, z = receiver.unbind(-1)
    cosine, sine = torch.cos(2 * math.pi * dither), torch.sin(2 * math.pi * dither)
    flat = depth.reshape(-1)

    def look_up(tap: list[float], reach: Tensor | float) -> Tensor:
        tx, ty = reach * tap[0], reach * tap[1]
        qx = (x + cosine * tx - sine * ty).long().clamp(0, width - 1)
        qy = (y + sine * tx + cosine * ty).long().clamp(0, height - 1)
        return flat[qy * width + qx]

    gap, blockers = torch.zeros_like(z), torch.zeros_like(z)
    for tap in BLOCKER_TAPS.tolist():
        above = z - look_up(tap, search)
        gap += above.clamp_min(0)
        blockers += above > 0
    reach = (spread * gap / blockers.clamp_min(1)).clamp(1.5, 3 * search)
    lit = torch.zeros_like(z)
    for tap in SHADOW_TAPS.tolist():
        lit += look_up(tap, reach) >= z
    return torch.where(blockers > 0, lit / len(SHADOW_TAPS), 1.0)


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
        place = torch.arange(depth.shape[axis], device=depth.device)
        place = place[:, None] if axis == 0 else place
        for shift in (-2, -1, 1, 2):
            inside = (place >= shift) & (place < depth.shape[axis] + shift)
            close = (((torch.roll(depth, shift, axis) - depth).abs() < tolerance) & inside).float()
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
) -> Float[Tensor, "C S"]:
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
    total = (weights[0] + weights[1] + weights[2] + weights[3]).clamp_min(1e-12)
    weight = torch.stack([w / total for w in weights], dim=-1)
    # no neighbour shows a surface: nothing is known to block the light
    lost = 1 - (weights[0] + weights[1] + weights[2] + weights[3]) / total
    value = weighted_rows(image.reshape(-1, channels), torch.stack(index, dim=-1), weight)
    return value.T + lost
