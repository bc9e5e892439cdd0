"""A field's look on the structured avatar: new base colors for its textures; shape, skin and rig stay.

Where every texel shows one place of the surface (head and body), the difference between field and texture is
looked up texel by texel, spread into what the field does not show, and added. Where a texture repeats (cloth) or
many strands share it (hair), the whole part gets the mean color that the field has there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from scipy.ndimage import gaussian_filter, label, uniform_filter
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, normalize

from avatar3d.export.mesh_formats import vertex_colors
from avatar3d.mesh.bake import onto_surface
from avatar3d.mesh.extract import Field, evaluate
from avatar3d.mesh.texels import Texels, texels_of
from avatar3d.render.color import linear_to_srgb, srgb_to_linear
from avatar3d.structures import PART_KINDS, Avatar, Material, Mesh, Part

KINDS = ("body", "hair", "beard", "brows", "hat", "top")
"""Kinds of parts that get the field's colors. Eyes, teeth and lashes are finer than a field."""
SIZE = 512
"""Texels along each side of what is looked up: a field is no finer."""
REACH = 0.006
"""Metres between an avatar's surface and the field's."""
ON_SURFACE = 0.001
"""A point that moved onto the surface is so near to it, metres."""
BORDER = 0.03
"""The look fades out so far inside the box's sides, metres."""
FEATHER = 13
"""Texels in whose middle a texel counts only if the field shows nearly all of them: colors of parts bleed."""
SPREAD = 9
"""Halvings: differences reach about 2^SPREAD texels into what the field does not show."""
FEWEST_SHOWN = 0.05
"""An island of which the field shows less than this share (the mouth's inside) keeps its colors."""
DETAIL = 6.0
"""Texels (standard deviation) below which the avatar's own detail stays."""
OVERLAP = 1.15
"""A texture is shared when its triangles cover so many times the texels that they touch."""
FEWEST = 40
"""Vertices that a shared texture's mean difference needs."""
LEAST = 0.008
"""Mean differences below this (sRGB) are left alone."""

Refine = Callable[[Float[Tensor, "S S 3"], Float[Tensor, "S S"]], Float[Tensor, "R R 3"]]
"""What the field shows of `head_skin` and how much of it counts -> the texture."""


@dataclass(frozen=True)
class Seen:
    """What a field shows on one part's texture."""

    texels: Texels
    rgb: Float[Tensor, "S S 3"]
    """sRGB, with gutter."""
    weight: Float[Tensor, "S S"]
    """In [0, 1]: 0 where the field has another part, no surface within reach, or ends."""
    inside: Float[Tensor, "S S"]
    """In [0, 1]: 0 at the box's sides and beyond, and on islands of which the field shows next to nothing."""


def with_look_of(
    avatar: Avatar,
    field: Field,
    bounds: Float[Tensor, "2 3"],
    detail: float = DETAIL,
    refine: Refine | None = None,
) -> Avatar:
    """The avatar at rest in the colors of a field that stands in the same place; all else is the same.

    `detail` is the size in texels of `SIZE` below which a texture's own detail is kept, 0 for none. `refine`
    paints `head_skin` from what the field shows of it instead.
    """
    parts = []
    for part in avatar.parts:
        if part.kind in KINDS and not outside(part.mesh, bounds):
            if is_shared(part.mesh):
                part = tinted(part, field, bounds)
            elif refine is not None and part.name == "head_skin":
                seen = look_up(field, part, bounds)
                part = _painted(part, refine(seen.rgb, seen.weight), seen.inside)
            else:
                part = painted(part, look_up(field, part, bounds), detail)
        parts.append(part)
    return replace(avatar, parts=tuple(parts))


def outside(mesh: Mesh, bounds: Float[Tensor, "2 3"]) -> bool:
    """No vertex lies in the box."""
    return not bool(((mesh.vertices > bounds[0]) & (mesh.vertices < bounds[1])).all(dim=1).any())


def is_shared(mesh: Mesh) -> bool:
    """A texel of the mesh's texture shows several places, or is one strand of many, or there is no texture."""
    material = mesh.material
    if material.base_color_texture is None or material.alpha_mode != "OPAQUE":
        return True
    if float(mesh.uv.min()) < 0 or float(mesh.uv.max()) > 1:
        return True
    a, b, c = mesh.uv.double()[mesh.faces].unbind(dim=1)
    first, second = b - a, c - a
    area = 0.5 * float((first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]).abs().sum())
    texels = texels_of(mesh.uv.cpu().numpy(), mesh.faces.cpu().numpy(), SIZE // 2)
    return area > OVERLAP * len(texels.index) / (SIZE // 2) ** 2


def look_up(field: Field, part: Part, bounds: Float[Tensor, "2 3"], size: int = SIZE) -> Seen:
    """The field's colors at the surface points of a part's texels, moved by up to `REACH` onto its surface."""
    mesh = part.mesh
    texels = texels_of(mesh.uv.cpu().numpy(), mesh.faces.cpu().numpy(), size)
    points, normals = (
        torch.from_numpy(texels.interpolate(v.cpu().numpy())) for v in (mesh.vertices, mesh.normals)
    )
    fade = _inside(points, bounds)
    rows = (fade > 0).nonzero()[:, 0]
    rgb, counts = torch.zeros(len(points), 3), torch.zeros(len(points))
    here = onto_surface(field, points[rows], normalize(normals[rows], dim=1), REACH)
    distance, colors, labels = evaluate(field, here)
    rgb[rows] = colors.float()
    own = labels == 1 + PART_KINDS.index(part.kind)
    counts[rows] = (own & (distance.abs() < ON_SURFACE)).float()

    def image(values: Tensor) -> np.ndarray:
        flat = np.zeros((size * size, values.shape[1]), np.float32)
        flat[texels.index] = values.numpy()
        flat[texels.gutter] = flat[texels.index][texels.source]
        return flat.reshape(size, size, -1)

    shown = image(counts[:, None])[..., 0]
    near, covered = (
        uniform_filter(x, FEATHER * size // SIZE) for x in (shown, image(torch.ones(len(points), 1))[..., 0])
    )
    weight = shown * np.clip(4 * near / np.maximum(covered, 1e-6) - 3, 0, 1)
    enough = _enough(weight, texels)
    inside = image(fade[:, None])[..., 0] * enough
    return Seen(texels, torch.from_numpy(image(rgb)), torch.from_numpy(weight * enough), torch.from_numpy(inside))


def _enough(weight: np.ndarray, texels: Texels) -> np.ndarray:
    """1 on islands (with their gutter) of which enough is shown, else 0."""
    size = len(weight)
    covered = np.zeros(size * size, bool)
    covered[texels.index] = True
    island, count = label(covered.reshape(size, size))
    share = np.bincount(island.ravel(), weight.ravel(), count + 1) / np.bincount(
        island.ravel(), minlength=count + 1
    )
    kept = (share >= FEWEST_SHOWN)[island].ravel() & covered
    kept[texels.gutter] = kept[texels.index][texels.source]
    return kept.reshape(size, size)


def _inside(points: Float[Tensor, "N 3"], bounds: Float[Tensor, "2 3"]) -> Float[Tensor, " N"]:
    """0 at the box's sides and outside of it, 1 from `BORDER` on inside, smooth between."""
    depth = torch.minimum(points - bounds[0], bounds[1] - points).amin(dim=1)
    t = (depth / BORDER).clamp(0, 1)
    return t * t * (3 - 2 * t)


def painted(part: Part, seen: Seen, detail: float = DETAIL) -> Part:
    """The part with its texture moved to what the field shows."""
    texture = _whole(part.mesh.material)
    size = seen.rgb.shape[0]
    difference = (seen.rgb - _resized(texture[..., :3], size, size)).numpy()
    weight = seen.weight.numpy()
    if detail > 0:
        near = gaussian_filter(weight, detail)
        blurred = gaussian_filter(difference * weight[..., None], (detail, detail, 0))
        difference = blurred / np.maximum(near, 1e-3)[..., None]
        weight = np.where(weight > 0, near, 0.0)
    move = spread(torch.from_numpy(difference), torch.from_numpy(weight)) * seen.inside[..., None]
    rgb = (texture[..., :3] + _resized(move, *texture.shape[:2])).clamp(0, 1)
    return _with_texture(part, torch.cat([rgb, texture[..., 3:]], dim=2))


def _painted(part: Part, picture: Float[Tensor, "R R 3"], inside: Float[Tensor, "S S"]) -> Part:
    """The part with a new texture where the field is."""
    texture = _whole(part.mesh.material)
    share = _resized(inside[..., None], *texture.shape[:2])
    return _with_texture(part, texture + share * (_resized(picture, *texture.shape[:2]) - texture))


def spread(
    values: Float[Tensor, "S S C"], weight: Float[Tensor, "S S"], levels: int = SPREAD
) -> Float[Tensor, "S S C"]:
    """Values where they count, and around them their continuation, which fades to 0 over 2^levels texels.

    Pull and push (Gortler et al. 1996, section 3.4): weighted averages over ever larger squares fill the gaps.
    """
    numbers = torch.cat([values * weight[..., None], weight[..., None]], dim=2).permute(2, 0, 1)[None]
    pyramid = [numbers]
    for _ in range(min(levels, int(math.log2(min(values.shape[:2]))))):
        pyramid.append(avg_pool2d(pyramid[-1], 2))
    filled = torch.zeros_like(pyramid[-1][:, :-1])
    for level in reversed(pyramid):
        filled = interpolate(filled, size=level.shape[2:], mode="bilinear", align_corners=False)
        counts = level[:, -1:]
        rest = (1 - counts / 0.1).clamp(0, 1)
        filled = rest * filled + (1 - rest) * level[:, :-1] / counts.clamp_min(1e-6)
    return filled[0].permute(1, 2, 0)


def tinted(part: Part, field: Field, bounds: Float[Tensor, "2 3"]) -> Part:
    """The part with its colors moved by the mean difference to the field where that shows it."""
    mesh = part.mesh
    rows = (_inside(mesh.vertices, bounds) > 0).nonzero()[:, 0]
    here = onto_surface(field, mesh.vertices[rows], normalize(mesh.normals[rows], dim=1), REACH)
    distance, colors, labels = evaluate(field, here)
    shown = (distance.abs() < ON_SURFACE) & (labels == 1 + PART_KINDS.index(part.kind))
    own = vertex_colors(mesh)[rows][shown]
    weight = own[:, 3:] * (own[:, 3:] > 0.3)
    if int(shown.sum()) < FEWEST or float(weight.sum()) < 1:
        return part
    before = (own[:, :3] * weight).sum(dim=0) / weight.sum()
    after = (colors[shown] * weight).sum(dim=0) / weight.sum()
    if float((after - before).abs().max()) < LEAST:
        return part
    material = mesh.material
    if material.base_color_texture is None:
        r, g, b = moved(torch.tensor(material.base_color[:3]), before, after).tolist()
        changed = replace(material, base_color=(r, g, b, material.base_color[3]))
        return replace(part, mesh=replace(mesh, material=changed))
    texture = _whole(material)
    return _with_texture(part, torch.cat([moved(texture[..., :3], before, after), texture[..., 3:]], dim=2))


def moved(
    colors: Float[Tensor, "*B 3"], before: Float[Tensor, " 3"], after: Float[Tensor, " 3"]
) -> Float[Tensor, "*B 3"]:
    """Colors scaled, per channel, towards black or white so that `before` becomes `after`; none leaves [0, 1]."""
    darker = colors * (after / before.clamp_min(1e-4)).clamp_max(1)
    lighter = 1 - (1 - colors) * ((1 - after) / (1 - before).clamp_min(1e-4)).clamp_max(1)
    return torch.where(after < before, darker, lighter)


def _whole(material: Material) -> Float[Tensor, "H W C"]:
    """The texture with the material's color multiplied in, as light."""
    texture = material.base_color_texture
    assert texture is not None
    factor = torch.tensor(material.base_color[:3]).to(texture)
    if bool((factor == 1).all()):
        return texture
    rgb = linear_to_srgb(srgb_to_linear(texture[..., :3]) * srgb_to_linear(factor))
    return torch.cat([rgb, texture[..., 3:]], dim=2)


def _with_texture(part: Part, texture: Float[Tensor, "H W C"]) -> Part:
    """The part in a texture that holds all of its color."""
    material = part.mesh.material
    changed = replace(material, base_color=(1.0, 1.0, 1.0, material.base_color[3]), base_color_texture=texture)
    return replace(part, mesh=replace(part.mesh, material=changed))


def _resized(image: Float[Tensor, "H W C"], height: int, width: int) -> Float[Tensor, "A B C"]:
    """Averages along an axis that shrinks, interpolation along one that grows."""
    planes = image.permute(2, 0, 1)[None]
    if image.shape[0] > height or image.shape[1] > width:
        planes = interpolate(planes, size=(min(height, image.shape[0]), min(width, image.shape[1])), mode="area")
    if planes.shape[2:] != (height, width):
        planes = interpolate(planes, size=(height, width), mode="bilinear", align_corners=False)
    return planes[0].permute(1, 2, 0)
