"""Thin blended layers, such as hair on the scalp and brows, painted onto the skin below them.

It saves their triangles, a material and blending, and what is painted on can not come off.
"""

from __future__ import annotations

from dataclasses import replace
from typing import no_type_check

import numba
import numpy as np
import torch
from jaxtyping import Float

from avatar3d.export.resample import encode_colors, resampled, sampled_at
from avatar3d.export.textures import WHOLE
from avatar3d.mesh.nearest import Surface, surface_of
from avatar3d.render.color import srgb_to_linear
from avatar3d.structures import Avatar, Material, Part

KINDS = ("hair", "brows", "beard")
REACH = 0.004
"""A blended part whose vertices nearly all lie this near to the skin (metres) is an overlay."""
NEARLY_ALL = 0.95
ASIDE = 0.0005
"""Metres that a texel may lie beside an overlay's edge."""
MARGIN = 2.0
"""Texels that are painted around the faces below an overlay."""


def with_overlays_painted(avatar: Avatar, side: int) -> Avatar:
    """The avatar without its overlays, and with skin textures of at most `side` texels that show them."""
    skins = [p for p in avatar.parts if p.kind == "body" and p.mesh.material.base_color_texture is not None]
    surfaces = [_surface(skin) for skin in skins]
    overlays = [part for part in avatar.parts if skins and _is_overlay(part, surfaces)]
    if not overlays:
        return avatar
    painted = {skin.name: _painted(skin, overlays, side) for skin in skins}
    names = {part.name for part in overlays}
    return replace(avatar, parts=tuple(painted.get(p.name, p) for p in avatar.parts if p.name not in names))


def _is_overlay(part: Part, surfaces: list[Surface]) -> bool:
    material = part.mesh.material
    if part.kind not in KINDS or material.alpha_mode != "BLEND" or material.base_color_texture is None:
        return False
    distance = np.min([surface.nearest(_points(part), REACH).distance for surface in surfaces], axis=0)
    return float(np.isfinite(distance).mean()) >= NEARLY_ALL


def _points(part: Part) -> Float[np.ndarray, "V 3"]:
    return part.mesh.vertices.double().cpu().numpy()


def _surface(part: Part) -> Surface:
    return surface_of(_points(part), part.mesh.faces.cpu().numpy())


def _painted(skin: Part, overlays: list[Part], side: int) -> Part:
    """The skin with the overlays that are near composed over its color and roughness, in linear light."""
    faces, points = skin.mesh.faces.cpu().numpy(), _points(skin)
    images = None
    for overlay in overlays:
        surface = _surface(overlay)
        near = surface.nearest(points, 3 * REACH).face >= 0
        below = faces[near[faces].any(axis=1)]
        if not len(below):
            continue
        images = images or _linear_images(skin.mesh.material, side)
        texel, place = _texels(skin.mesh.uv.double().cpu().numpy(), points, below, images[0].shape[:2])
        hit = surface.nearest(place, 2 * REACH)
        found = hit.face >= 0
        corners = overlay.mesh.faces.cpu().numpy()[hit.face]
        away = place - np.einsum("nk,nkc->nc", hit.weights, _points(overlay)[corners])
        normal = np.einsum("nk,nkc->nc", hit.weights, overlay.mesh.normals.double().cpu().numpy()[corners])
        aside = np.linalg.norm(np.cross(away, normal), axis=1)
        found &= aside < ASIDE + 0.5 * np.minimum(hit.distance, 1.0)
        uv = np.einsum("nk,nkc->nc", hit.weights[found], overlay.mesh.uv.double().cpu().numpy()[corners[found]])
        _compose(images, texel[found], overlay.mesh.material, uv)
    if images is None:
        return skin
    color, orm = images
    encode_colors(color)
    material = replace(
        skin.mesh.material,
        base_color=(1.0, 1.0, 1.0, skin.mesh.material.base_color[3]),
        base_color_texture=torch.from_numpy(color),
        orm_texture=torch.from_numpy(orm),
        roughness=1.0,
        metallic=1.0,
    )
    return replace(skin, mesh=replace(skin.mesh, material=material))


def _linear_images(m: Material, side: int) -> tuple[Float[np.ndarray, "H W 3"], Float[np.ndarray, "H W 3"]]:
    """Color in linear light, and occlusion, roughness and metallic, with the factors multiplied in."""
    assert m.base_color_texture is not None
    height, width = (min(side, n) for n in m.base_color_texture.shape[:2])
    color = resampled(m.base_color_texture.cpu().numpy(), WHOLE, (width, height), colors=True)
    color = np.ascontiguousarray(color[..., :3]) * srgb_to_linear(torch.tensor(m.base_color[:3])).numpy()
    orm = np.ones((height, width, 3), np.float32)
    if m.orm_texture is not None:
        orm = resampled(m.orm_texture.cpu().numpy(), WHOLE, (width, height))
    return color, orm * np.array([1.0, m.roughness, m.metallic], np.float32)


def _compose(
    images: tuple[np.ndarray, np.ndarray], texel: np.ndarray, m: Material, uv: Float[np.ndarray, "N 2"]
) -> None:
    """Blend a material, looked up at `uv`, over the images' texels (N,), in place."""
    assert m.base_color_texture is not None
    values = sampled_at(m.base_color_texture.cpu().numpy(), uv)
    over = srgb_to_linear(torch.from_numpy(values[:, :3])) * srgb_to_linear(torch.tensor(m.base_color[:3]))
    alpha = m.base_color[3] * (values[:, 3:] if values.shape[1] == 4 else np.ones((len(values), 1), np.float32))
    color, orm = (image.reshape(-1, 3) for image in images)
    color[texel] += alpha * (over.numpy() - color[texel])
    orm[texel, 1] += alpha[:, 0] * (m.roughness - orm[texel, 1])


def _texels(
    uv: Float[np.ndarray, "V 2"], points: Float[np.ndarray, "V 3"], faces: np.ndarray, shape: tuple[int, ...]
) -> tuple[np.ndarray, Float[np.ndarray, "N 3"]]:
    """Flat indices of the texels under and just around faces, and the points of the surface at their centers."""
    owner = np.full(shape, -1, np.int64)
    weights = np.zeros((*shape, 2))
    _rasterize(uv, faces, owner, weights)
    texel = np.flatnonzero(owner.reshape(-1) >= 0)
    second, third = weights.reshape(-1, 2)[texel].T
    bary = np.stack([1 - second - third, second, third], axis=1)
    return texel, np.einsum("nk,nkc->nc", bary, points[faces[owner.reshape(-1)[texel]]])


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def _rasterize(uv, faces, owner, weights):
    """The face over each texel's center, or the nearest within the margin, and its last two barycentrics."""
    height, width = owner.shape
    depth = np.full((height, width), -np.inf)
    for f in range(len(faces)):
        i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
        ax, ay = uv[i, 0] * width, uv[i, 1] * height
        bx, by = uv[j, 0] * width - ax, uv[j, 1] * height - ay
        cx, cy = uv[k, 0] * width - ax, uv[k, 1] * height - ay
        det = bx * cy - by * cx
        if abs(det) < 1e-9:
            continue
        # heights over the sides, in texels, turn barycentrics into distances from the sides
        high_j, high_k = abs(det) / np.hypot(cx, cy), abs(det) / np.hypot(bx, by)
        high_i = abs(det) / np.hypot(cx - bx, cy - by)
        top, bottom = int(ay + min(0.0, by, cy) - MARGIN), int(ay + max(0.0, by, cy) + MARGIN) + 1
        left, right = int(ax + min(0.0, bx, cx) - MARGIN), int(ax + max(0.0, bx, cx) + MARGIN) + 1
        for y in range(max(top, 0), min(bottom, height)):
            for x in range(max(left, 0), min(right, width)):
                px, py = x + 0.5 - ax, y + 0.5 - ay
                u, v = (px * cy - py * cx) / det, (bx * py - by * px) / det
                inside = min(u * high_j, v * high_k, (1.0 - u - v) * high_i)
                if inside >= -MARGIN and min(inside, 0.0) > depth[y, x]:
                    depth[y, x], owner[y, x] = min(inside, 0.0), f
                    weights[y, x, 0], weights[y, x, 1] = u, v
