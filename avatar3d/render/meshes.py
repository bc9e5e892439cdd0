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
from avatar3d.render.fused import draw, scene_arrays
from avatar3d.render.lights import Lights, material_light, studio_lights
from avatar3d.render.rasterize import Fragments, rasterize, thread_count
from avatar3d.render.scene import (
    BARELY_SEEN,
    LabelledMesh,
    Scene,
    View,
    camera_view,
    compile_scene,
    draw_order,
    solid_cutoffs,
    view_triangles,
)
from avatar3d.render.shading import shade, surface_points
from avatar3d.render.sight import barycentrics
from avatar3d.render.textures import weighted_rows
from avatar3d.render.visibility import UPSAMPLE_DEPTH, Seen, upsample, visibility
from avatar3d.structures import Camera, Render

BACKDROP = (0.80, 0.81, 0.83)
"""Light neutral grey, sRGB."""


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
    if uses_kernels(scene):
        pixels = draw(
            scene_arrays(scene), camera, lights, background, samples, shadows, occlusion, blend_layers,
            workers=thread_count(),
        )  # fmt: skip
        rgb, alpha = (torch.from_numpy(values) for values in pixels)
    else:
        rgb, alpha = draw_torch(
            scene, camera, lights, background, samples, shadows, occlusion, blend_layers, center.seen
        )
    return Render(rgb, alpha, center.depth, center.normal, center.labels, center.uv)


def render_albedo(
    meshes: Sequence[LabelledMesh] | Scene,
    camera: Camera,
    background: tuple[float, float, float] | None = BACKDROP,
    samples: int = 2,
) -> Render:
    """As `render_meshes`, but with material colors: no light, no shade, no highlights."""
    bare = render_meshes(meshes, camera, material_light(), None, samples, shadows=False, occlusion=False)
    light = srgb_to_linear(bare.rgb) / KNEE
    return dataclasses.replace(bare, rgb=_compose(light * bare.alpha[..., None], bare.alpha, background))


def uses_kernels(scene: Scene) -> bool:
    """The fused kernels draw what is on the CPU and wants no gradients."""
    wants_gradient = torch.is_grad_enabled() and scene.requires_grad
    return scene.attributes.device.type == "cpu" and not wants_gradient


def draw_torch(
    scene: Scene,
    camera: Camera,
    lights: Lights,
    background: tuple[float, float, float] | Float[Tensor, "H W 3"] | None,
    samples: int,
    shadows: bool,
    occlusion: bool,
    blend_layers: int,
    seen: Seen,
) -> tuple[Float[Tensor, "H W 3"], Float[Tensor, "H W"]]:
    """sRGB colors and alpha; differentiable, on any device."""
    light_reach = visibility(scene, camera, lights, seen, shadows, occlusion)
    light, alpha = _shaded_samples(scene, camera, lights, samples, blend_layers, light_reach, seen.depth)
    return _compose(light, alpha, background), alpha


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
    _, pixel, face, _ = _flatten(fragments)
    bary = barycentrics(scene.vertices, scene.faces[face], camera, pixel).detach()
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


def _flatten(fragments: Fragments) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(layer, pixel, face, depth) of all covered pixels."""
    layers = fragments.face.shape[0]
    flat = fragments.face.view(-1)
    index = (flat >= 0).nonzero()[:, 0]
    pixels = flat.numel() // layers
    return index // pixels, index % pixels, flat[index].long(), fragments.depth.view(-1)[index]


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
    solid, glassy = draw_order(scene), (scene.alpha_mode[scene.face_mesh] == 2).nonzero()[:, 0]
    no_blend = torch.where(scene.alpha_mode == 1, scene.alpha_cutoff, 0.0)
    triangles = view_triangles(scene, view, solid, no_blend)
    opaque = rasterize(triangles, fine.width, fine.height, samples=samples)
    parts = [(solid, opaque)]
    if len(glassy) and blend_layers:
        barely = torch.full_like(scene.alpha_cutoff, BARELY_SEEN)
        triangles = view_triangles(scene, view, glassy, barely)
        limit = opaque.depth[0]
        parts.insert(
            0, (glassy, rasterize(triangles, fine.width, fine.height, blend_layers, limit, samples=samples))
        )
    columns: list[list[Tensor]] = [[], [], [], []]
    layer_start = 0
    for faces, fragments in parts:
        layer, pixel, face, z = _flatten(fragments)
        for column, values in zip(columns, (layer + layer_start, pixel, faces[face], z), strict=True):
            column.append(values)
        layer_start += fragments.face.shape[0]
    layer, pixel, face, z = (torch.cat(column) for column in columns)
    color, coverage = _shade(scene, view, lights, Shaded(face, pixel, z, fine, light_reach, depth))
    counts = torch.bincount(layer, minlength=layer_start).tolist()
    light, alpha = blended(counts, pixel, color, coverage, fine.width * fine.height)
    both = torch.cat([light, alpha[None]]).view(4, camera.height, samples, camera.width, samples)
    # adding slices is several times faster than a mean over two small axes
    mean = reduce(torch.add, (both[:, :, i, :, j] for i in range(samples) for j in range(samples))) / samples**2
    return mean[:3].permute(1, 2, 0), mean[3]


@dataclasses.dataclass(frozen=True)
class Shaded:
    """Fragments to shade, with the per-pixel images that tell how much light reaches them."""

    face: Int[Tensor, " S"]
    pixel: Int[Tensor, " S"]
    """Index into the samples of `camera`."""
    z: Float[Tensor, " S"]
    camera: Camera
    light_reach: Float[Tensor, "H W C"]
    depth: Float[Tensor, "H W"]


def _shade(
    scene: Scene, view: View, lights: Lights, points: Shaded
) -> tuple[Float[Tensor, "3 S"], Float[Tensor, " S"]]:
    """Tone-mapped color and alpha of fragments."""
    camera, depth = points.camera, points.depth
    bary = barycentrics(scene.vertices, scene.faces[points.face], camera, points.pixel)
    surface = surface_points(scene, view, points.face, bary)
    xy = torch.stack([points.pixel % camera.width + 0.5, points.pixel // camera.width + 0.5], dim=-1)
    xy = xy * (depth.shape[1] / camera.width)
    reach = upsample(points.light_reach, depth, xy, points.z, UPSAMPLE_DEPTH * scene.diagonal)
    return tone_map(shade(surface, camera.T_world_camera[:3, 3].to(bary), lights, reach)), surface.alpha


def blended(counts: list[int], pixel: Tensor, color: Tensor, alpha: Tensor, pixels: int) -> tuple[Tensor, Tensor]:
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
