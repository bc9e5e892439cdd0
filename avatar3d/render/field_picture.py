"""From what rays met in a field to a `Render`: normals, light, background."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from avatar3d.render.color import linear_to_srgb, srgb_to_linear, tone_map
from avatar3d.render.lights import Lights
from avatar3d.render.rays import Field, Rays, field_normals
from avatar3d.render.shading import Surface, shade
from avatar3d.structures import PART_KINDS, Camera, Render

ROUGHNESS = {
    "eyes": 0.15,
    "teeth": 0.35,
    "glasses": 0.3,
    "jewellery": 0.3,
    "shoes": 0.5,
    "body": 0.5,
    "hair": 0.55,
}
"""Of part kinds in light, in which fields know only colors."""
CLOTH_ROUGHNESS = 0.85


@dataclass(frozen=True)
class Seen:
    """What the rays of a picture met, row by row."""

    rays: Rays
    rgb: Float[Tensor, "N 3"]
    """Material colors, sRGB, times alpha."""
    alpha: Float[Tensor, " N"]
    t: Float[Tensor, " N"]
    """Metres to the surface; inf where there is none."""
    depth_per_metre: Float[Tensor, " N"]
    labels: Int[Tensor, " N"]


def compose(
    field: Field,
    seen: Seen,
    camera: Camera,
    lights: Lights | None,
    background: tuple[float, float, float] | Float[Tensor, "H W 3"] | None,
    normals: bool = True,
) -> Render:
    """The picture. Colors are mixed with the background as they are encoded, which is how fields are trained."""
    height, width = camera.height, camera.width
    hit = seen.labels.nonzero()[:, 0]
    normal = torch.zeros_like(seen.rgb)
    rgb = seen.rgb
    if len(hit) and (normals or lights is not None):
        points = seen.rays[hit].at(seen.t[hit].detach())
        normal[hit] = field_normals(field, points)
        if lights is not None:
            albedo = rgb[hit] / seen.alpha[hit, None]
            lit = _lit(points, normal[hit], albedo, seen.labels[hit], seen.rays.origins[0], lights)
            rgb = rgb.index_copy(0, hit, lit * seen.alpha[hit, None])
    if background is None:
        rgb = rgb / seen.alpha.clamp_min(1e-6)[:, None]
    else:
        behind = torch.as_tensor(background).to(rgb).expand(height, width, 3).reshape(-1, 3)
        rgb = rgb + (1 - seen.alpha)[:, None] * behind
    return Render(
        rgb=rgb.view(height, width, 3),
        alpha=seen.alpha.view(height, width),
        depth=(seen.t * seen.depth_per_metre).view(height, width),
        normal=normal.view(height, width, 3),
        labels=seen.labels.view(height, width),
        uv=rgb.new_zeros(height, width, 2),
    )


def _lit(
    points: Float[Tensor, "S 3"],
    normals: Float[Tensor, "S 3"],
    albedo: Float[Tensor, "S 3"],
    labels: Int[Tensor, " S"],
    eye: Float[Tensor, " 3"],
    lights: Lights,
) -> Float[Tensor, "S 3"]:
    """sRGB colors of surface points in light that nothing shadows."""
    one = torch.ones_like(points[:, 0])
    down = torch.stack([0 * one, -one, 0 * one], dim=-1)
    strand = down - (down * normals).sum(-1, keepdim=True) * normals
    rough = one.new_tensor([0.5, *(ROUGHNESS.get(kind, CLOTH_ROUGHNESS) for kind in PART_KINDS)])

    def share(*kinds: str) -> Tensor:
        wanted = labels.new_tensor([1 + PART_KINDS.index(kind) for kind in kinds])
        return torch.isin(labels, wanted).to(one)

    surface = Surface(
        position=points.T, normal=normals.T, strand=torch.nn.functional.normalize(strand, dim=-1).T,
        albedo=srgb_to_linear(albedo.clamp(0, 1)).T, alpha=one, occlusion=one, roughness=rough[labels],
        metallic=0 * one, skin=share("body"), hair=share("hair"), enamel=share("teeth"),
    )  # fmt: skip
    channels = 1 + sum(light.shadow for light in lights.lights)
    light = shade(surface, eye, lights, one.expand(channels, -1))
    return linear_to_srgb(tone_map(light).clamp(0, 1)).T
