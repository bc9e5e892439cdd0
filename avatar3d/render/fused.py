"""Pictures on a CPU without gradients: `meshes.render_meshes`' colors from numba kernels, for frame after frame.

Nothing here calls torch between the scene and the pixels, so that frames can be drawn on several threads at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from avatar3d.render.color import KNEE, linear_to_srgb, srgb_to_linear
from avatar3d.render.kernels import face_range, rasterize_band
from avatar3d.render.lights import Lights, material_light
from avatar3d.render.rasterize import as_array, cutoff_jitter, run_bands
from avatar3d.render.scene import BARELY_SEEN, Scene, draw_order, solid_cutoffs
from avatar3d.render.shading import ENAMEL_GLOW, SKIN_WRAP
from avatar3d.render.shading_kernel import encode_rows, resolve_rows
from avatar3d.render.textures import STRETCH
from avatar3d.render.visibility import (
    BLOCKER_TAPS,
    OCCLUSION_BIAS,
    OCCLUSION_STRENGTH,
    OCCLUSION_TAPS,
    SHADOW_TAPS,
    UPSAMPLE_DEPTH,
    ShadowMap,
    blur_tolerance,
    occlusion_radius,
    shadow_map,
)
from avatar3d.render.visibility_kernel import NOTHING, blur_rows, reach_rows, seen_rows
from avatar3d.structures import Camera

MERGE_DEPTH = 0.002
"""Samples of a pixel and mesh are lit together when their depths differ by less than this share of the scene."""


@dataclass(frozen=True)
class SceneArrays:
    """What the kernels read of a `Scene`; made once for many views."""

    scene: Scene
    vertices: Float[np.ndarray, "V 3"]
    attributes: Float[np.ndarray, "V 14"]
    uv: Float[np.ndarray, "V 2"]
    faces: Int[np.ndarray, "F 3"]
    face_mesh: Int[np.ndarray, " F"]
    solid: Int[np.ndarray, " S"]
    """Faces to draw with the depth buffer, in drawing order."""
    blended: Int[np.ndarray, " B"]
    two_sided: Bool[np.ndarray, " F"]
    alpha_factor: Float[np.ndarray, " F"]
    alpha_cutoff: Float[np.ndarray, " F"]
    factors: Float[np.ndarray, "M 10"]
    alpha_texels: Float[np.ndarray, " N"]
    texels: tuple[Float[np.ndarray, "_ 4"], Float[np.ndarray, "_ 3"], Float[np.ndarray, "_ 3"]]
    texture_ids: Int[np.ndarray, "M 3"]
    levels: Int[np.ndarray, "3 T L 3"]
    """(offset, width, height) of every level of every texture in the three atlases."""
    diagonal: float


def scene_arrays(scene: Scene) -> SceneArrays:
    """The arrays of a scene on the CPU, shared with its tensors where types allow."""
    atlases = (scene.base_atlas, scene.normal_atlas, scene.orm_atlas)
    tables = [as_array(atlas.levels, np.int64) for atlas in atlases]
    levels = np.ones((3, max(len(t) for t in tables), tables[0].shape[1], 3), np.int64)
    for n, table in enumerate(tables):
        levels[n, : len(table)] = table
    face_mesh = as_array(scene.face_mesh, np.int64)
    mode = as_array(scene.alpha_mode, np.int64)
    cutoff = np.choose(mode, [np.zeros(len(mode)), as_array(scene.alpha_cutoff, np.float64), BARELY_SEEN])
    factors = as_array(scene.factors, np.float32)
    attributes = as_array(scene.attributes, np.float32)
    return SceneArrays(
        scene=scene,
        vertices=as_array(scene.vertices, np.float64),
        attributes=attributes,
        uv=np.ascontiguousarray(attributes[:, 6:8], dtype=np.float64),
        faces=as_array(scene.faces, np.int32),
        face_mesh=face_mesh,
        solid=as_array(draw_order(scene), np.int32),
        blended=np.flatnonzero(mode[face_mesh] == 2).astype(np.int32),
        two_sided=as_array(scene.two_sided, np.bool_)[face_mesh],
        alpha_factor=factors[face_mesh, 3].astype(np.float64),
        alpha_cutoff=cutoff[face_mesh],
        factors=factors,
        alpha_texels=as_array(scene.alpha_texels, np.float32),
        texels=tuple(as_array(atlas.texels, np.float32) for atlas in atlases),  # type: ignore[arg-type]
        texture_ids=as_array(scene.texture_ids, np.int64),
        levels=levels,
        diagonal=scene.diagonal,
    )


@dataclass(frozen=True)
class Samples:
    """What the image samples see."""

    homogeneous: Float[np.ndarray, "V 3"]
    side: Float[np.ndarray, " F"]
    rows: Int[np.ndarray, "F 3 3"]
    solid_face: Int[np.ndarray, "Hs Ws"]
    solid_depth: Float[np.ndarray, "Hs Ws"]
    layer_face: Int[np.ndarray, "K Hs Ws"]
    layer_depth: Float[np.ndarray, "K Hs Ws"]


def draw(
    arrays: SceneArrays,
    camera: Camera,
    lights: Lights,
    background: tuple[float, float, float] | Float[Tensor, "H W 3"] | None,
    samples: int = 2,
    shadows: bool = True,
    occlusion: bool = True,
    blend_layers: int = 4,
    shadow_maps: Sequence[ShadowMap] | None = None,
    workers: int = 1,
) -> tuple[Float[np.ndarray, "H W 3"], Float[np.ndarray, "H W"]]:
    """sRGB colors and alpha; arguments as for `render_meshes`.

    `shadow_maps`, one for each light that casts shadows, serve many frames under the same lights; without them
    they are made for what this camera sees. Row bands are shared by `workers` threads.
    """
    seen = see(arrays, camera, samples, blend_layers, workers)
    reach, depth, channels = _light_reach(
        arrays, camera, lights, seen, samples, shadows, occlusion, shadow_maps, workers
    )
    light = np.empty((camera.height, camera.width, 4), np.float32)
    lamps = [
        [*light.direction, *light.color, light.angle, n] for light, n in zip(lights.lights, channels, strict=True)
    ]
    arguments = (
        samples, seen.solid_face, seen.solid_depth, seen.layer_face, seen.layer_depth, seen.homogeneous,
        arrays.attributes, arrays.faces, arrays.face_mesh, seen.side, arrays.factors, *arrays.texels, seen.rows,
        as_array(camera.T_world_camera[:3, 3], np.float64), np.array(lamps, np.float64).reshape(-1, 8),
        np.array([*lights.sky, *lights.ground, lights.mirror]), reach, depth, (samples // 2 + 0.5) / samples,
        UPSAMPLE_DEPTH * arrays.diagonal, MERGE_DEPTH * arrays.diagonal, KNEE, np.array(SKIN_WRAP),
        ENAMEL_GLOW, light,
    )  # fmt: skip
    run_bands(lambda begin, end: resolve_rows(begin, end, *arguments), camera.height, workers)
    behind = np.zeros((0, 0, 3), np.float32)
    if background is not None:
        linear = srgb_to_linear(torch.as_tensor(background, dtype=torch.float32))
        behind = as_array(linear.view(1, 1, 3) if linear.ndim == 1 else linear, np.float32)
    rgb = np.empty((camera.height, camera.width, 3), np.float32)
    run_bands(lambda begin, end: encode_rows(begin, end, light, behind, rgb), camera.height, workers)
    return rgb, light[..., 3]


@dataclass(frozen=True)
class Look:
    """What a camera sees of a scene at its pixels' centers, without light."""

    albedo: Float[np.ndarray, "H W 3"]
    """Material colors, sRGB; 0 where nothing is."""
    depth: Float[np.ndarray, "H W"]
    """Along the camera's z axis, metres; inf where nothing is."""
    labels: Int[np.ndarray, "H W"]
    """1 + index into `PART_KINDS`; 0 where nothing is."""
    position: Float[np.ndarray, "H W 3"]
    normal: Float[np.ndarray, "H W 3"]
    """World frame; without meaning where nothing is."""


def look(arrays: SceneArrays, camera: Camera) -> Look:
    """Material colors, depth and labels: what data sets of points are made of. One thread.

    Blended surfaces that are mostly opaque count as solid in depth and labels, as in `render_meshes`.
    """
    colors, _ = draw(arrays, camera, material_light(), None, 1, False, False)
    scene = arrays.scene
    as_solid = replace(
        arrays,
        solid=np.concatenate([arrays.solid, arrays.blended]),
        blended=arrays.blended[:0],
        alpha_cutoff=as_array(solid_cutoffs(scene), np.float64)[arrays.face_mesh],
    )
    seen = see(as_solid, camera, 1, 0, 1)
    labels = np.where(seen.solid_face >= 0, as_array(scene.labels, np.int64)[arrays.face_mesh[seen.solid_face]], 0)
    position, normal = (np.empty((camera.height, camera.width, 3), np.float32) for _ in range(2))
    seen_rows(
        0, camera.height, 1, seen.solid_face, seen.solid_depth, seen.homogeneous, arrays.attributes, arrays.faces,
        seen.side, position, normal, np.empty((camera.height, camera.width), np.float32),
    )  # fmt: skip
    return Look(_unlit(colors), seen.solid_depth, labels, position, normal)


def _unlit(colors: Float[np.ndarray, "H W 3"]) -> Float[np.ndarray, "H W 3"]:
    """sRGB colors under `material_light` as material colors."""
    linear = srgb_to_linear(torch.from_numpy(colors)) / KNEE
    return linear_to_srgb(linear.clamp(0, 1)).numpy()


def see(arrays: SceneArrays, camera: Camera, samples: int, layers: int, workers: int) -> Samples:
    """Solid surfaces and up to `layers` blended ones before them, at `samples` x `samples` places a pixel."""
    width, height, focal = camera.width * samples, camera.height * samples, camera.focal * samples
    T_world_camera = as_array(camera.T_world_camera, np.float64)
    p = (arrays.vertices - T_world_camera[:3, 3]) @ T_world_camera[:3, :3]
    z = np.ascontiguousarray(p[:, 2])
    homogeneous = np.stack([focal * p[:, 0] + 0.5 * width * z, focal * p[:, 1] + 0.5 * height * z, z], axis=1)
    count = len(arrays.faces)
    side, rows = np.empty(count, np.float32), np.empty((count, 3, 3), np.int64)
    run_bands(
        lambda begin, end: face_range(
            begin, end, homogeneous, arrays.uv, arrays.faces, arrays.face_mesh, arrays.factors,
            arrays.texture_ids, arrays.levels, STRETCH, side, rows,
        ),
        count, workers,
    )  # fmt: skip

    def fill(chosen: np.ndarray, layers: int, limit: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        face = np.full((layers, height, width), -1, np.int32)
        depth = np.full((layers, height, width), np.inf, np.float32)
        arguments = (width, depth[0].copy() if limit is None else limit, face, depth)
        inputs = (
            chosen, homogeneous, z, arrays.faces, arrays.two_sided, arrays.uv, arrays.alpha_texels, rows,
            arrays.alpha_factor, arrays.alpha_cutoff, cutoff_jitter(samples), 1e-3,
        )  # fmt: skip
        run_bands(lambda begin, end: rasterize_band(*inputs, begin, end, *arguments), height, workers)
        return face, depth

    solid_face, solid_depth = fill(arrays.solid, 1, None)
    if len(arrays.blended) and layers:
        layer_face, layer_depth = fill(arrays.blended, layers, solid_depth[0])
    else:
        layer_face, layer_depth = solid_face[:0], solid_depth[:0]
    return Samples(homogeneous, side, rows, solid_face[0], solid_depth[0], layer_face, layer_depth)


def _light_reach(
    arrays: SceneArrays,
    camera: Camera,
    lights: Lights,
    seen: Samples,
    samples: int,
    shadows: bool,
    occlusion: bool,
    shadow_maps: Sequence[ShadowMap] | None,
    workers: int,
) -> tuple[Float[np.ndarray, "H W C"], Float[np.ndarray, "H W"], list[int]]:
    """The channels of `visibility`, the depth they belong to, and each light's channel (-1: unblocked)."""
    height, width = camera.height, camera.width
    position, normal = (np.empty((height, width, 3), np.float32) for _ in range(2))
    depth = np.empty((height, width), np.float32)
    inputs = (
        samples, seen.solid_face, seen.solid_depth, seen.homogeneous, arrays.attributes, arrays.faces, seen.side
    )  # fmt: skip
    run_bands(lambda begin, end: seen_rows(begin, end, *inputs, position, normal, depth), height, workers)
    covered = depth < NOTHING
    casting = [light for light in lights.lights if light.shadow]
    if not (shadows and covered.any()):
        casting, shadow_maps = [], []
    elif shadow_maps is None:
        points = torch.from_numpy(position[covered])
        shadow_maps = [shadow_map(arrays.scene, light, points) for light in casting]
    channels = [casting.index(light) + 1 if light in casting else -1 for light in lights.lights]
    maps, axes, numbers = _stacked(shadow_maps)
    reach, blurred = (np.empty((height, width, 1 + len(maps)), np.float32) for _ in range(2))
    strength = OCCLUSION_STRENGTH if occlusion else 0.0
    arguments = (
        (samples // 2 + 0.5) / samples, position, normal, depth,
        as_array(camera.T_world_camera[:3, :3], np.float64), float(camera.focal),
        occlusion_radius(arrays.diagonal), strength, OCCLUSION_BIAS, OCCLUSION_TAPS,
        maps, axes, numbers, BLOCKER_TAPS, SHADOW_TAPS, reach,
    )  # fmt: skip
    run_bands(lambda begin, end: reach_rows(begin, end, *arguments), height, workers)
    tolerance = blur_tolerance(arrays.diagonal)

    def blur(down: int, source: np.ndarray, target: np.ndarray) -> None:
        run_bands(lambda b, e: blur_rows(b, e, source, depth, tolerance, down, target), height, workers)

    blur(1, reach, blurred)
    blur(0, blurred, reach)
    return reach, depth, channels


def _stacked(maps: Sequence[ShadowMap]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Depths (N, S, S), axes (N, 3, 3) and numbers (N, 6) of shadow maps, as `reach_rows` reads them."""
    if not maps:
        return np.zeros((0, 1, 1), np.float32), np.zeros((0, 3, 3)), np.zeros((0, 6))
    depths = np.stack([as_array(m.depth, np.float32) for m in maps])
    axes = np.stack([as_array(m.R_light_world, np.float64) for m in maps])
    numbers = np.array([[m.texel, *m.low, m.start, m.spread, m.search] for m in maps], np.float64)
    return depths, axes, numbers
