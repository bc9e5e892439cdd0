"""A field's colors as the texture of an unwrapped mesh, and the step of color across the seams of a texture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from avatar3d.mesh.extract import Field, evaluate
from avatar3d.mesh.normals import weld_by_position
from avatar3d.mesh.texels import Texels, texels_of
from avatar3d.structures import Mesh

REACH = 0.004
"""Metres that a point may move along the normal to meet the field's surface."""
SEAM_SAMPLES = 5
"""Places along each edge where the two sides of a seam are compared."""


@dataclass(frozen=True)
class Baked:
    """What a field is at the texels of a mesh."""

    texels: Texels
    rgb: Float[Tensor, "S S 3"]
    """Islands with their gutter; the mean color beyond."""
    labels: Int[Tensor, "S S"]
    """1 + part kind at texels of the surface and its gutter, 0 beyond."""


def bake(field: Field, mesh: Mesh, size: int) -> Baked:
    """Colors and labels of the field's surface next to each texel of a mesh with its own texture coordinates."""
    uv, faces = mesh.uv.detach().cpu().numpy(), mesh.faces.cpu().numpy()
    texels = texels_of(uv, faces, size)
    points = torch.from_numpy(texels.interpolate(mesh.vertices.detach().cpu().numpy())).to(mesh.vertices)
    normals = torch.from_numpy(texels.interpolate(mesh.normals.detach().cpu().numpy())).to(mesh.vertices)
    normals = torch.nn.functional.normalize(normals, dim=1)
    _, rgb, labels = evaluate(field, onto_surface(field, points, normals))
    kinds = torch.zeros(size * size, dtype=torch.int64)
    own = labels.cpu()
    kinds[torch.from_numpy(texels.index)] = own
    kinds[torch.from_numpy(texels.gutter)] = own[torch.from_numpy(texels.source)]
    image = torch.from_numpy(texels.image(rgb.float().cpu().numpy()))
    return Baked(texels, image.to(mesh.vertices), kinds.view(size, size).to(mesh.faces.device))


def onto_surface(
    field: Field, points: Float[Tensor, "N 3"], normals: Float[Tensor, "N 3"], reach: float = REACH, steps: int = 2
) -> Float[Tensor, "N 3"]:
    """Points moved along their unit normals to where the field's distance is 0, at most `reach` metres."""
    along = points.new_zeros(len(points))
    for _ in range(steps):
        distance, _, _ = evaluate(field, points + along[:, None] * normals)
        along = (along - distance).clamp(-reach, reach)
    return points + along[:, None] * normals


def seam_error(mesh: Mesh, texture: Float[Tensor, "H W C"]) -> float:
    """Mean absolute difference of color between the two sides of all texture seams, by length; 0 without seams.

    Seams are edges that two faces share in space and not in the texture; the look-up is bilinear, as a GPU's is.
    """
    first, second, length = _seams(mesh)
    if len(first) == 0:
        return 0.0
    t = (torch.arange(SEAM_SAMPLES, dtype=torch.float64) + 0.5) / SEAM_SAMPLES
    sides = [mesh.uv.detach().cpu().double()[torch.from_numpy(side)] for side in (first, second)]
    at = [uv[:, :1] * (1 - t)[None, :, None] + uv[:, 1:] * t[None, :, None] for uv in sides]
    colors = [bilinear(texture.detach().cpu().double(), uv.reshape(-1, 2)) for uv in at]
    step = (colors[0] - colors[1]).abs().mean(dim=1).view(-1, SEAM_SAMPLES).mean(dim=1)
    weight = torch.from_numpy(length)
    return float((step * weight).sum() / weight.sum())


def bilinear(texture: Float[Tensor, "H W C"], uv: Float[Tensor, "N 2"]) -> Float[Tensor, "N C"]:
    """Texture look-up between texel centers, clamped at the image's sides."""
    grid = (uv * 2 - 1).to(texture)[None, None]
    found = torch.nn.functional.grid_sample(
        texture.permute(2, 0, 1)[None], grid, padding_mode="border", align_corners=False
    )
    return found[0, :, 0].T


def _seams(mesh: Mesh) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices (E, 2) on either side of each seam, in the same order along it, and lengths (E,)."""
    weld = weld_by_position(mesh.vertices).cpu().numpy()
    faces = mesh.faces.cpu().numpy()
    side = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    ends = weld[side]
    flip = ends[:, 0] > ends[:, 1]
    side[flip], ends[flip] = side[flip][:, ::-1], ends[flip][:, ::-1]
    order = np.lexsort((ends[:, 1], ends[:, 0]))
    side, ends = side[order], ends[order]
    pair = np.flatnonzero((ends[1:] == ends[:-1]).all(axis=1))
    first, second = side[pair], side[pair + 1]
    uv = mesh.uv.detach().cpu().numpy()
    apart = (np.abs(uv[first] - uv[second]).reshape(len(first), -1) > 1e-6).any(axis=1)
    first, second = first[apart], second[apart]
    points = mesh.vertices.detach().cpu().double().numpy()
    return first, second, np.linalg.norm(points[first[:, 0]] - points[first[:, 1]], axis=1)
