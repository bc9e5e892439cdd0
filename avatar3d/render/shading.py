"""Surfaces and their color under lights: metallic-roughness, skin and hair. Differentiable throughout."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from avatar3d.render.lights import Light, Lights
from avatar3d.render.scene import Scene, View
from avatar3d.render.textures import sample_atlas, weighted_rows

SKIN_WRAP = (0.26, 0.11, 0.07)
"""How far past the terminator red, green and blue light travels in skin, as a share of the half circle."""
ENAMEL_GLOW = 0.4
"""Light that reaches a shaded place of a tooth through the tooth, as a share of what the shade takes."""


@dataclass(frozen=True)
class Surface:
    """`S` shaded points, components first (which is several times faster than last); colors are linear."""

    position: Float[Tensor, "3 S"]
    normal: Float[Tensor, "3 S"]
    strand: Float[Tensor, "3 S"]
    """Direction of hair, dP/dv."""
    albedo: Float[Tensor, "3 S"]
    alpha: Float[Tensor, " S"]
    occlusion: Float[Tensor, " S"]
    roughness: Float[Tensor, " S"]
    metallic: Float[Tensor, " S"]
    skin: Float[Tensor, " S"]
    hair: Float[Tensor, " S"]
    enamel: Float[Tensor, " S"]


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _unit(a: Tensor) -> Tensor:
    return a * torch.rsqrt(_dot(a, a).clamp_min(1e-20))


def surface_points(scene: Scene, view: View, face: Int[Tensor, " S"], bary: Float[Tensor, "S 3"]) -> Surface:
    """Interpolate attributes and look textures up at fragments (face, barycentrics)."""
    rows = weighted_rows(scene.attributes, scene.faces.index_select(0, face), bary)
    points, uv = rows.T.contiguous(), rows[:, 6:8]
    normal = _unit(points[3:6])
    if len(scene.normal_atlas.texels) > 1:
        bump = 2 * sample_atlas(scene.normal_atlas.texels, view.rows[1].index_select(0, face), uv).T - 1
        # green points up in the image, that is against dP/dv
        normal = _unit(bump[0] * points[8:11] - bump[1] * points[11:14] + bump[2] * normal)
    normal = normal * view.side.index_select(0, face)
    factors = scene.factors.index_select(0, scene.face_mesh.index_select(0, face)).T.contiguous()
    base = sample_atlas(scene.base_atlas.texels, view.rows[0].index_select(0, face), uv).T * factors[:4]
    roughness, metallic, occlusion = factors[4], factors[5], torch.ones_like(factors[4])
    if len(scene.orm_atlas.texels) > 1:
        orm = sample_atlas(scene.orm_atlas.texels, view.rows[2].index_select(0, face), uv).T
        occlusion, roughness, metallic = orm[0], roughness * orm[1], metallic * orm[2]
    return Surface(
        position=points[:3],
        normal=normal,
        strand=points[11:14],
        albedo=base[:3],
        alpha=1 + factors[8] * (base[3] - 1),
        occlusion=occlusion,
        roughness=roughness,
        metallic=metallic,
        skin=factors[6],
        hair=factors[7],
        enamel=factors[9],
    )


def shade(
    surface: Surface, eye: Float[Tensor, " 3"], lights: Lights, visible: Float[Tensor, "C S"]
) -> Float[Tensor, "3 S"]:
    """Linear color towards the eye. `visible` is `visibility`'s channels at the points."""
    s = surface
    to_eye = _unit(eye[:, None] - s.position)
    n_v = _dot(s.normal, to_eye).clamp_min(1e-3)
    specular_color = 0.04 + (s.albedo - 0.04) * s.metallic
    diffuse_color = s.albedo * (1 - lights.mirror * s.metallic)
    glow = ENAMEL_GLOW * s.enamel
    sky_share = (visible[0] * s.occlusion).clamp_min(1 - lights.mirror)
    filled = _filled(sky_share + glow * (1 - sky_share), diffuse_color)
    color = _ambient(s, lights, to_eye, n_v, diffuse_color, specular_color, sky_share, filled)
    hairy = s.hair.nonzero()[:, 0]
    channel = 1
    for light in lights.lights:
        lit = None
        if light.shadow:
            lit = visible[channel]
            channel += 1
        direction = s.albedo.new_tensor(light.direction)
        n_l = _dot(s.normal, direction)
        # what the sky does not see, a wide light does not fully see either
        wide = 0.15 + min(light.angle, 1.0)
        soft = sky_share.clamp_min(1e-6) ** wide
        # what the surface mirrors does not enter it
        inner = None if lit is None else lit + glow * (1 - lit)
        out = _diffuse(n_l, inner, s.skin) * (1 - specular_color) * diffuse_color * filled.clamp_min(1e-6) ** wide
        out = out + _ggx(s, light, direction, to_eye, n_l, n_v, specular_color, lit) * soft
        if len(hairy):
            strands = _hair(s, hairy, light, direction, to_eye, n_l, lit) * soft[hairy]
            out = out.index_copy(1, hairy, strands)
        color = color + out * s.albedo.new_tensor(light.color)[:, None]
    return color


def _filled(share: Tensor, diffuse: Tensor) -> Tensor:
    """Share of light per color: bright albedo fills its own creases (Jimenez et al. 2016, GTAO, equation 10)."""
    a, b, c = 2.0404 * diffuse - 0.3324, 0.6417 - 4.7951 * diffuse, 2.7552 * diffuse + 0.6903
    return torch.maximum(share, ((share * a + b) * share + c) * share)


def _ambient(
    s: Surface, lights: Lights, to_eye: Tensor, n_v: Tensor, diffuse: Tensor, specular: Tensor, share: Tensor,
    filled: Tensor,
) -> Tensor:  # fmt: skip
    """Light of sky and ground: diffuse with colored inter-reflection, and a blurred mirror image."""
    sky, ground = (s.albedo.new_tensor(color)[:, None] for color in (lights.sky, lights.ground))
    reflected_y = 2 * n_v * s.normal[1] - to_eye[1]
    horizon = 0.5 + 0.5 * (reflected_y * (3 - 2 * s.roughness)).clamp(-1, 1)
    irradiance = ground + (sky - ground) * (0.5 + 0.5 * s.normal[1])
    mirror = (ground + (sky - ground) * horizon) * (share * share)
    reflected = lights.mirror * _environment_reflectance(specular, s.roughness, n_v)
    return diffuse * (1 - reflected) * irradiance * filled + reflected * mirror


def _environment_reflectance(specular: Tensor, roughness: Tensor, n_v: Tensor) -> Tensor:
    """Share of a constant environment that a GGX surface mirrors (Karis 2014, mobile approximation)."""
    r0 = 1 - roughness
    a004 = torch.minimum(r0 * r0, torch.exp2(-9.28 * n_v)) * r0 + (0.0425 - 0.0275 * roughness)
    scale = -1.04 * a004 + (1.04 - 0.572 * roughness)
    offset = 1.04 * a004 + (0.022 * roughness - 0.04)
    return (specular * scale + offset).clamp_min(0)


def _diffuse(n_l: Tensor, lit: Tensor | None, skin: Tensor) -> Tensor:
    """Lambert's cosine; for skin wrapped around the terminator with unchanged total energy, red the farthest."""
    wrap = skin * skin.new_tensor(SKIN_WRAP)[:, None]
    cosine = (n_l + wrap).clamp_min(0) / (1 + wrap) ** 2
    if lit is None:
        return cosine
    # a point that faces away shadows itself, which is not what stops light inside skin;
    # and red light creeps into the rim of a shadow
    away = skin * ((0.15 - n_l) / 0.3).clamp(0, 1)
    lit = lit + away * (1 - lit)
    return cosine * (lit + lit * (1 - lit) * wrap)


def _ggx(
    s: Surface, light: Light, direction: Tensor, to_eye: Tensor, n_l: Tensor, n_v: Tensor, specular: Tensor,
    lit: Tensor | None,
) -> Tensor:  # fmt: skip
    """Microfacet highlight times pi times the cosine: Walter et al. 2007 as in glTF 2.0 appendix B.

    A lamp of some size widens the lobe as Karis 2013 does (alpha' = alpha + angle / 2), here kept normalized.
    """
    half = _unit(to_eye + direction[:, None])
    n_h = _dot(s.normal, half).clamp(0, 1)
    v_h = _dot(to_eye, half).clamp(0, 1)
    alpha = (s.roughness * s.roughness + 0.5 * light.angle).clamp(0.002, 1.0)
    a2 = alpha * alpha
    base = n_h * n_h * (a2 - 1) + 1
    front = n_l.clamp_min(0)
    mask = front * torch.sqrt(n_v * n_v * (1 - a2) + a2) + n_v * torch.sqrt(front * front * (1 - a2) + a2)
    lobe = 0.5 * front * a2 / (base * base * mask.clamp_min(1e-4))
    if lit is not None:
        lobe = lobe * lit
    edge = 1 - v_h
    fresnel = (edge * edge) * (edge * edge) * edge
    return lobe * (1 - fresnel) * specular + lobe * fresnel


def _hair(
    s: Surface, index: Tensor, light: Light, direction: Tensor, to_eye: Tensor, n_l: Tensor, lit: Tensor | None
) -> Tensor:
    """Kajiya & Kay 1989 with two shifted highlights (Scheuermann 2004): a white one and a tinted one."""
    normal, strand, albedo = s.normal[:, index], s.strand[:, index], s.albedo[:, index]
    half = _unit(to_eye[:, index] + direction[:, None])

    def lobe(shift: float, exponent: float) -> Tensor:
        cosine = _dot(_unit(strand + shift * normal), half)
        sine = (1 - cosine * cosine).clamp_min(1e-6).sqrt()
        return sine**exponent * (cosine + 1).clamp(0, 1)

    cosine = n_l[index]
    wide = 1 + 4 * light.angle
    diffuse = ((cosine + 0.3) / 1.3).clamp_min(0)
    facing = ((cosine + 0.2) / 0.6).clamp(0, 1)
    shine = facing * (1 - s.roughness[index])
    first = 0.22 * shine * lobe(-0.08, 90.0 / wide)
    second = 0.9 * shine * lobe(0.12, 22.0 / wide)
    out = albedo * (diffuse + second) + first
    return out if lit is None else out * lit[index]
