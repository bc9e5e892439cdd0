"""Pictures of meshes: one call from meshes, camera and lights to a `Render`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import reduce

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from avatar3d.render.color import KNEE, linear_to_srgb, srgb_to_linear, tone_map
from avatar3d.render.lights import Lights, studio_lights
from avatar3d.render.rasterize import Fragments, as_array, rasterize, run_bands
from avatar3d.render.scene import (
    LabelledMesh,
    Scene,
    camera_view,
    compile_scene,
    solid_cutoffs,
    view_triangles,
)  # fmt: skip
from avatar3d.render.shading import SKIN_WRAP, shade, surface_points
from avatar3d.render.shading_kernel import shade_range
from avatar3d.render.textures import weighted_rows
from avatar3d.render.visibility import Seen, upsample, visibility
from avatar3d.structures import Camera, Render

BACKDROP = (0.80, 0.81, 0.83)
"""Light neutral grey, sRGB."""
DEPTH_TOLERANCE = 0.005
"""Depths that differ by this share of the scene's diagonal belong to different surfaces."""


def render_meshes(
    meshes: Sequence[LabelledMesh] | Scene,
    camera: Camera,
    lights: Lights | None = None,
    background: tuple[float, float, float] | Float[Tensor, "H W 3"] | None = BACKDROP,
    samples: int = 2,
    shadows: bool = True,
    occlusion: bool = True,
    blend_layers: int = 4,
) -> Render:
    """Rasterize and shade meshes (or a compiled `Scene`, for many views of the same meshes).

    rgb and alpha are averages over `samples` x `samples` image samples; depth, normal, labels and uv are what
    the pixel's center sees. Without `lights` the studio turns with the camera. `background` is sRGB; None
    leaves rgb 0 where nothing is. Colors are differentiable with respect to textures, normals, uv and
    positions (not through coverage and shadows). Runs on the device of the meshes.

    Raises ValueError when there is nothing to draw or `samples` is not in 1 to 4.
    """
    if not 1 <= samples <= 4:
        raise ValueError(f"samples is per axis, from 1 to 4, got {samples}")
    scene = meshes if isinstance(meshes, Scene) else compile_scene(meshes)
    lights = studio_lights(camera) if lights is None else lights
    center = _center_pass(scene, camera)
    light_reach = visibility(scene, camera, lights, center.seen, shadows, occlusion)
    light, alpha = _shaded_samples(scene, camera, lights, samples, blend_layers, light_reach, center.depth)
    rgb = _compose(light, alpha, background)
    return Render(rgb, alpha, center.depth, center.normal, center.labels, center.uv)


@dataclasses.dataclass(frozen=True)
class _Center:
    """What pixel centers see."""

    depth: Float[Tensor, "H W"]
    normal: Float[Tensor, "H W 3"]
    labels: Tensor
    uv: Float[Tensor, "H W 2"]
    seen: Seen


def _center_pass(scene: Scene, camera: Camera) -> _Center:
    view = camera_view(scene, camera)
    every = torch.arange(len(scene.faces), device=scene.faces.device)
    fragments = rasterize(view_triangles(scene, view, every, solid_cutoffs(scene)), camera.width, camera.height)
    _, pixel, face, bary, _ = _flatten(fragments)
    with torch.no_grad():
        points = weighted_rows(scene.attributes, scene.faces[face], bary)
    normal = torch.nn.functional.normalize(points[:, 3:6], dim=-1) * view.side[face][:, None]

    def image(values: Tensor) -> Tensor:
        flat = values.new_zeros(camera.height * camera.width, *values.shape[1:])
        flat[pixel] = values
        return flat.view(camera.height, camera.width, *values.shape[1:])

    labels = image(scene.labels[scene.face_mesh[face]])
    depth = fragments.depth[0]
    seen = Seen(pixel, points[:, :3], normal, depth)
    return _Center(depth, image(normal), labels, image(points[:, 6:8]), seen)


def _flatten(fragments: Fragments) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """(layer, pixel, face, barycentrics, depth) of all covered pixels."""
    layers = fragments.face.shape[0]
    flat = fragments.face.view(-1)
    index = (flat >= 0).nonzero()[:, 0]
    pixels = flat.numel() // layers
    return (
        index // pixels,
        index % pixels,
        flat[index].long(),
        fragments.bary.view(-1, 3)[index],
        fragments.depth.view(-1)[index],
    )


def _shaded_samples(
    scene: Scene,
    camera: Camera,
    lights: Lights,
    samples: int,
    blend_layers: int,
    light_reach: Tensor,
    depth: Tensor,
) -> tuple[Float[Tensor, "H W 3"], Float[Tensor, "H W"]]:
    """Linear, tone-mapped, premultiplied color and coverage of each pixel."""
    fine = dataclasses.replace(
        camera, focal=camera.focal * samples, width=camera.width * samples, height=camera.height * samples
    )
    view = camera_view(scene, fine)
    mode = scene.alpha_mode[scene.face_mesh]
    solid, glassy = (mode != 2).nonzero()[:, 0], (mode == 2).nonzero()[:, 0]
    no_blend = torch.where(scene.alpha_mode == 1, scene.alpha_cutoff, 0.0)
    opaque = rasterize(view_triangles(scene, view, solid, no_blend), fine.width, fine.height)
    parts = [(solid, opaque)]
    if len(glassy):
        barely = torch.full_like(scene.alpha_cutoff, 1 / 255)
        triangles = view_triangles(scene, view, glassy, barely)
        parts.insert(0, (glassy, rasterize(triangles, fine.width, fine.height, blend_layers, opaque.depth[0])))
    columns: list[list[Tensor]] = [[], [], [], [], []]
    layer_start = 0
    for faces, fragments in parts:
        layer, pixel, face, bary, z = _flatten(fragments)
        for column, values in zip(columns, (layer + layer_start, pixel, faces[face], bary, z), strict=True):
            column.append(values)
        layer_start += fragments.face.shape[0]
    layer, pixel, face, bary, z = (torch.cat(column) for column in columns)
    wants_gradient = torch.is_grad_enabled() and scene.requires_grad
    fast = pixel.device.type == "cpu" and not wants_gradient
    shade_points = shade_numba if fast else shade_torch
    color, coverage = shade_points(scene, view, lights, Shaded(face, bary, pixel, z, fine, light_reach, depth))
    counts = torch.bincount(layer, minlength=layer_start).tolist()
    light, alpha = _blend(counts, pixel, color, coverage, fine.width * fine.height)
    both = torch.cat([light, alpha[None]]).view(4, camera.height, samples, camera.width, samples)
    # adding slices is several times faster than a mean over two small axes
    mean = reduce(torch.add, (both[:, :, i, :, j] for i in range(samples) for j in range(samples))) / samples**2
    return mean[:3].permute(1, 2, 0), mean[3]


@dataclasses.dataclass(frozen=True)
class Shaded:
    """Fragments to shade, with the per-pixel images that tell how much light reaches them."""

    face: Int[Tensor, " S"]
    bary: Float[Tensor, "S 3"]
    pixel: Int[Tensor, " S"]
    """Index into the samples of `camera`."""
    z: Float[Tensor, " S"]
    camera: Camera
    light_reach: Float[Tensor, "H W C"]
    depth: Float[Tensor, "H W"]


def shade_torch(
    scene: Scene, view: View, lights: Lights, points: Shaded
) -> tuple[Float[Tensor, "3 S"], Float[Tensor, " S"]]:
    """Tone-mapped color and alpha of fragments; differentiable, on any device."""
    camera, depth = points.camera, points.depth
    bary = _differentiable_bary(scene, camera, points.face, points.bary, points.pixel)
    surface = surface_points(scene, view, points.face, bary)
    xy = torch.stack([points.pixel % camera.width + 0.5, points.pixel // camera.width + 0.5], dim=-1)
    xy = xy * (depth.shape[1] / camera.width)
    reach = upsample(points.light_reach, depth, xy, points.z, DEPTH_TOLERANCE * scene.diagonal)
    return tone_map(shade(surface, camera.T_world_camera[:3, 3].to(bary), lights, reach)), surface.alpha


def shade_numba(
    scene: Scene, view: View, lights: Lights, points: Shaded
) -> tuple[Float[Tensor, "3 S"], Float[Tensor, " S"]]:
    """`shade_torch` for CPU tensors, without gradients."""
    out = torch.empty(4, len(points.face))
    rows, channel = [], 1
    for light in lights.lights:
        rows.append([*light.direction, *light.color, light.angle, channel if light.shadow else -1])
        channel += light.shadow
    geometry = [
        as_array(x, np.float32) for x in (points.bary, points.z, scene.attributes, view.side, scene.factors)
    ]
    bary, z, attributes, side, factors = geometry
    face, pixel, faces, face_mesh = (
        as_array(x, np.int64) for x in (points.face, points.pixel, scene.faces, scene.face_mesh)
    )
    textures = []
    for atlas, level in zip((scene.base_atlas, scene.normal_atlas, scene.orm_atlas), view.rows, strict=True):
        textures += [as_array(atlas.texels, np.float32), as_array(level, np.int64)]
    arguments = (
        face, bary, pixel, z, points.camera.width, attributes, faces, face_mesh, side, factors, *textures,
        as_array(points.camera.T_world_camera[:3, 3], np.float64), np.array(rows).reshape(-1, 8),
        np.array([*lights.sky, *lights.ground]), as_array(points.light_reach, np.float32),
        as_array(points.depth, np.float32), DEPTH_TOLERANCE * scene.diagonal, KNEE,
        np.array(SKIN_WRAP), out.numpy(),
    )  # fmt: skip
    run_bands(lambda begin, end: shade_range(begin, end, *arguments), len(points.face))
    return out[:3], out[3]


def _differentiable_bary(scene: Scene, camera: Camera, face: Tensor, bary: Tensor, pixel: Tensor) -> Tensor:
    """Barycentrics as a function of the vertices, when these want gradients."""
    if not scene.attributes.requires_grad:
        return bary
    T = camera.T_world_camera.to(scene.attributes)
    i, j, k = (((scene.vertices - T[:3, 3]) @ T[:3, :3])[scene.faces[face, n]] for n in range(3))
    x = (pixel % camera.width + 0.5 - 0.5 * camera.width) / camera.focal
    y = (pixel // camera.width + 0.5 - 0.5 * camera.height) / camera.focal
    ray = torch.stack([x, y, torch.ones_like(x)], dim=-1)
    areas = [(torch.linalg.cross(a, b) * ray).sum(-1) for a, b in ((j, k), (k, i), (i, j))]
    unnormalized = torch.stack(areas, dim=-1)
    return unnormalized / unnormalized.sum(-1, keepdim=True)


def _blend(counts: list[int], pixel: Tensor, color: Tensor, alpha: Tensor, pixels: int) -> tuple[Tensor, Tensor]:
    """Composite fragments, `counts[n]` of layer n after those of layer n - 1, front to back.

    Gives (3, pixels) premultiplied color and (pixels,) alpha.
    """
    light = color.new_zeros(3, pixels)
    through = color.new_ones(pixels)
    ends = np.cumsum(counts)
    for begin, end in zip([0, *ends[:-1]], ends, strict=True):
        at, a = pixel[begin:end], alpha[begin:end]
        share = through[at] * a
        light = light.index_add(1, at, share * color[:, begin:end])
        through = through.index_add(0, at, -share)
    return light, 1 - through


def _compose(light: Tensor, alpha: Tensor, background: tuple[float, float, float] | Tensor | None) -> Tensor:
    if background is None:
        return linear_to_srgb((light / alpha.clamp_min(1e-6)[..., None]).clamp(0, 1))
    behind = srgb_to_linear(torch.as_tensor(background).to(light))
    return linear_to_srgb((light + (1 - alpha)[..., None] * behind).clamp(0, 1))
