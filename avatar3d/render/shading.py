"""Surfaces and their color under lights: metallic-roughness, skin and hair. Differentiable throughout."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from avatar3d.render.lights import Light, Lights
from avatar3d.render.scene import Scene, View
from avatar3d.render.textures import sample_atlas, weighted_rows

SKIN_WRAP = (0.32, 0.12, 0.07)
"""How far past the terminator red, green and blue light travels in skin, as a share of the half circle."""


@dataclass(frozen=True)
class Surface:
    """`S` shaded points; colors are linear."""

    position: Float[Tensor, "S 3"]
    normal: Float[Tensor, "S 3"]
    strand: Float[Tensor, "S 3"]
    """Direction of hair, dP/dv."""
    albedo: Float[Tensor, "S 3"]
    alpha: Float[Tensor, " S"]
    occlusion: Float[Tensor, " S"]
    roughness: Float[Tensor, " S"]
    metallic: Float[Tensor, " S"]
    skin: Float[Tensor, " S"]
    hair: Float[Tensor, " S"]


def surface_points(scene: Scene, view: View, face: Int[Tensor, " S"], bary: Float[Tensor, "S 3"]) -> Surface:
    """Interpolate attributes and look textures up at fragments (face, barycentrics)."""
    points = weighted_rows(scene.attributes, scene.faces[face], bary)
    mesh = scene.face_mesh[face]
    uv = points[:, 6:8]
    normal = F.normalize(points[:, 3:6], dim=-1)
    if len(scene.normal_atlas.texels) > 1:
        bump = 2 * sample_atlas(scene.normal_atlas.texels, view.rows[1][face], uv) - 1
        # green points up in the image, that is against dP/dv
        normal = bump[:, :1] * points[:, 8:11] - bump[:, 1:2] * points[:, 11:14] + bump[:, 2:] * normal
        normal = F.normalize(normal, dim=-1)
    normal = torch.where(view.back[face][:, None], -normal, normal)
    base = scene.base_color[mesh] * sample_atlas(scene.base_atlas.texels, view.rows[0][face], uv)
    roughness, metallic = scene.roughness_metallic[mesh].unbind(-1)
    occlusion = torch.ones_like(roughness)
    if len(scene.orm_atlas.texels) > 1:
        orm = sample_atlas(scene.orm_atlas.texels, view.rows[2][face], uv)
        occlusion, roughness, metallic = orm[:, 0], roughness * orm[:, 1], metallic * orm[:, 2]
    return Surface(
        position=points[:, :3],
        normal=normal,
        strand=F.normalize(points[:, 11:14], dim=-1, eps=1e-8),
        albedo=base[:, :3],
        alpha=torch.where(scene.alpha_mode[mesh] == 2, base[:, 3], torch.ones_like(roughness)),
        occlusion=occlusion,
        roughness=roughness,
        metallic=metallic,
        skin=scene.skin[mesh],
        hair=scene.hair[mesh],
    )


def shade(
    surface: Surface, eye: Float[Tensor, " 3"], lights: Lights, visible: Float[Tensor, "S C"]
) -> Float[Tensor, "S 3"]:
    """Linear color towards the eye. `visible` is `visibility`'s channels at the points."""
    s = surface
    to_eye = F.normalize(eye - s.position, dim=-1)
    n_v = (s.normal * to_eye).sum(-1).clamp_min(1e-3)
    specular_color = 0.04 + (s.albedo - 0.04) * s.metallic[:, None]
    diffuse_color = s.albedo * (1 - s.metallic)[:, None]
    sky_share = visible[:, 0] * s.occlusion
    color = _ambient(s, lights, to_eye, n_v, diffuse_color, specular_color, sky_share)
    wrap = s.skin[:, None] * s.albedo.new_tensor(SKIN_WRAP)
    hairy = s.hair.nonzero()[:, 0]
    channel = 1
    for light in lights.lights:
        lit = None
        if light.shadow:
            lit = visible[:, channel]
            channel += 1
        direction = s.albedo.new_tensor(light.direction)
        n_l = s.normal @ direction
        diffuse = _wrapped_diffuse(n_l, wrap, lit, s.skin) * diffuse_color
        specular = _ggx(s, light, direction, to_eye, n_l, n_v, specular_color)
        if lit is not None:
            specular = specular * lit[:, None]
        out = diffuse + specular
        if len(hairy):
            out = out.index_copy(0, hairy, _hair(s, hairy, light, direction, to_eye, n_l, lit))
        # what the sky does not see, a wide light does not fully see either
        soft = sky_share ** (0.15 + min(light.angle, 1.0))
        color = color + out * soft[:, None] * s.albedo.new_tensor(light.color)
    return color


def _ambient(
    s: Surface, lights: Lights, to_eye: Tensor, n_v: Tensor, diffuse: Tensor, specular: Tensor, share: Tensor
) -> Tensor:
    """Light of sky and ground: diffuse with colored inter-reflection, and a blurred mirror image."""
    sky, ground = s.albedo.new_tensor(lights.sky), s.albedo.new_tensor(lights.ground)
    up = (0.5 + 0.5 * s.normal[:, 1])[:, None]
    # bright albedo fills its own creases: Jimenez et al. 2016, GTAO, equation 10
    a, b, c = 2.0404 * diffuse - 0.3324, 0.6417 - 4.7951 * diffuse, 2.7552 * diffuse + 0.6903
    v = share[:, None]
    filled = torch.maximum(v, ((v * a + b) * v + c) * v)
    reflected_y = 2 * n_v * s.normal[:, 1] - to_eye[:, 1]
    sharp = 1.5 - s.roughness
    horizon = (0.5 + 0.5 * (reflected_y * sharp * 2).clamp(-1, 1))[:, None]
    mirror = ground + (sky - ground) * horizon
    return (
        diffuse * (ground + (sky - ground) * up) * filled
        + _environment_reflectance(specular, s.roughness, n_v) * mirror * (share * share)[:, None]
    )


def _environment_reflectance(specular: Tensor, roughness: Tensor, n_v: Tensor) -> Tensor:
    """Share of a constant environment that a GGX surface mirrors (Karis 2014, mobile approximation)."""
    r0 = 1 - roughness
    a004 = torch.minimum(r0 * r0, torch.exp2(-9.28 * n_v)) * r0 + (0.0425 - 0.0275 * roughness)
    scale = -1.04 * a004 + (1.04 - 0.572 * roughness)
    offset = 1.04 * a004 + (0.022 * roughness - 0.04)
    return (specular * scale[:, None] + offset[:, None]).clamp_min(0)


def _wrapped_diffuse(n_l: Tensor, wrap: Tensor, lit: Tensor | None, skin: Tensor) -> Tensor:
    """Lambert's cosine, for skin wrapped around the terminator with unchanged total energy."""
    diffuse = (n_l[:, None] + wrap).clamp_min(0) / (1 + wrap) ** 2
    if lit is None:
        return diffuse
    # a point that faces away shadows itself, which is not what stops light inside skin;
    # and red light creeps into the rim of a shadow
    away = skin * ((0.15 - n_l) / 0.3).clamp(0, 1)
    lit = lit + away * (1 - lit)
    bleed = (lit * (1 - lit))[:, None] * wrap
    return diffuse * (lit[:, None] + bleed)


def _ggx(
    s: Surface, light: Light, direction: Tensor, to_eye: Tensor, n_l: Tensor, n_v: Tensor, specular: Tensor
) -> Tensor:
    """Microfacet highlight times pi times the cosine: Walter et al. 2007 as in glTF 2.0 appendix B.

    A lamp of some size widens the lobe as Karis 2013 does (alpha' = alpha + angle / 2), here kept normalized.
    """
    half = F.normalize(to_eye + direction, dim=-1)
    n_h = (s.normal * half).sum(-1).clamp(0, 1)
    v_h = (to_eye * half).sum(-1).clamp(0, 1)
    alpha = (s.roughness * s.roughness + 0.5 * light.angle).clamp(0.002, 1.0)
    a2 = alpha * alpha
    distribution = a2 / ((n_h * n_h * (a2 - 1) + 1) ** 2)
    lit = n_l.clamp_min(0)
    mask = lit * torch.sqrt(n_v * n_v * (1 - a2) + a2) + n_v * torch.sqrt(lit * lit * (1 - a2) + a2)
    fresnel = specular + (1 - specular) * ((1 - v_h) ** 5)[:, None]
    return (0.5 * lit * distribution / mask.clamp_min(1e-4))[:, None] * fresnel


def _hair(
    s: Surface, index: Tensor, light: Light, direction: Tensor, to_eye: Tensor, n_l: Tensor, lit: Tensor | None
) -> Tensor:
    """Kajiya & Kay 1989 with two shifted highlights (Scheuermann 2004): a white one and a tinted one."""
    normal, strand, albedo = s.normal[index], s.strand[index], s.albedo[index]
    half = F.normalize(to_eye[index] + direction, dim=-1)

    def lobe(shift: float, exponent: float) -> Tensor:
        along = F.normalize(strand + shift * normal, dim=-1)
        cosine = (along * half).sum(-1)
        sine = (1 - cosine * cosine).clamp_min(1e-6).sqrt()
        return sine**exponent * ((cosine + 1).clamp(0, 1))

    cosine = n_l[index]
    wide = 1 + 4 * light.angle
    diffuse = ((cosine + 0.3) / 1.3).clamp_min(0)
    facing = ((cosine + 0.2) / 0.6).clamp(0, 1)
    shine = 1 - s.roughness[index]
    first = 0.22 * shine * lobe(-0.08, 90.0 / wide)
    second = 0.9 * shine * lobe(0.12, 22.0 / wide)
    out = albedo * diffuse[:, None] + facing[:, None] * (first[:, None] + second[:, None] * albedo)
    return out if lit is None else out * lit[index][:, None]
