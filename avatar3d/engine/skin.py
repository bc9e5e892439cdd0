"""Skin: the body's surface as a head and a body part, each with color, relief and shine of its own."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool
from numba import njit
from torch import Tensor

from avatar3d.engine.attach import Figure, keep_faces, surface_part
from avatar3d.engine.colors import color_rgb
from avatar3d.engine.skin_canvas import MASKS, Canvas, body_canvas, head_canvas, head_layout
from avatar3d.engine.skin_tone import GAMMA, XYZ_TO_RGB, lab_of, skin_tone
from avatar3d.engine.texels import spots
from avatar3d.spec import AvatarSpec
from avatar3d.structures import Material, Mesh, Part

HAIR_LAB = {
    "black": (9, 1, 1), "dark_brown": (16, 5, 7), "brown": (25, 8, 13), "light_brown": (38, 9, 19),
    "auburn": (27, 18, 18), "red": (38, 27, 31), "blonde": (62, 7, 28), "platinum": (78, 2, 14),
    "grey": (52, 0, 1), "white": (78, 0, 3), "blue": (33, 2, -32), "pink": (58, 42, -3), "green": (42, -30, 18),
    "purple": (30, 30, -30),
}  # fmt: skip
"""CIELAB of short hair seen against skin."""

UNDERWEAR_LAB = np.array([71.0, -1.0, 2.0])

SCALP_SHADE = {"bald": 0.0, "balding": 0.12, "buzz": 0.55, "mohawk": 0.25, "afro": 0.6, "curly": 0.55}
SCALP_SHADE_OTHER = 0.5
"""How much hair of each style darkens the scalp beneath it."""

(
    LIPS, MOUTH_LINE, RED, BLUSH, SOCKET, LID, SHADOW, LINER, RIM, BEARD, GOATEE, SCALP, OIL, FRECKLES, PALM, NAIL,
    UNDERWEAR, BANDEAU, AUREOLA, VEIN, INSIDE, CAVITY, MOTTLE, PATCH, GRAIN,
) = range(len(MASKS))  # fmt: skip


def make_skin(spec: AvatarSpec, figure: Figure, hidden: Bool[Tensor, " F"] | None = None) -> list[Part]:
    """The parts `head_skin` and `body`; `hidden` marks body faces that garments cover, which are left out."""
    uv, head, _ = head_layout()
    plain = surface_part(figure, "body", "body", "body", Material("skin"))
    shown = torch.ones_like(head) if hidden is None else ~hidden
    parts = []
    for name, canvas, own in (("head_skin", head_canvas(), head), ("body", body_canvas(), ~head)):
        m = plain.mesh
        mesh = Mesh(m.vertices, m.faces, m.normals, uv if own is head else m.uv, skin_material(spec, canvas, name))
        part = keep_faces(Part(name, "body", mesh, plain.skin, plain.morphs), own & shown)
        parts.append(part)
    return [p for p in parts if len(p.mesh.faces)]


def skin_material(spec: AvatarSpec, canvas: Canvas, name: str) -> Material:
    """Base color, normal and occlusion-roughness-metallic textures of one canvas."""
    color, normal, orm = _paint(
        canvas.masks, canvas.slopes, canvas.dents, *_marks(spec, canvas), *_person(spec),
        XYZ_TO_RGB.astype(np.float32), GAMMA,
    )  # fmt: skip
    images = [torch.from_numpy(canvas.texels.image(x)) for x in (color, normal, orm)]
    return Material(
        "skin_" + name.removesuffix("_skin"),
        base_color_texture=images[0],
        normal_texture=images[1],
        orm_texture=images[2],
        roughness=1.0,
        metallic=0.0,
    )


def _marks(spec: AvatarSpec, canvas: Canvas) -> tuple[np.ndarray, np.ndarray]:
    """(N,) freckles and age spots, and (N,) moles, all in [0, 1] and placed by the seed."""
    salt = int(np.random.default_rng([spec.seed, 7101]).integers(1 << 20))
    p, region = canvas.points, canvas.masks[:, FRECKLES]
    freckles = np.zeros(len(p), np.float32)
    if spec.freckles > 0.02:
        share = (np.sqrt(spec.freckles) * 0.9 * region).astype(np.float32)
        fine, few = spots(p, 1.7, salt, share, 0.22, 0.75), spots(p, 4.0, salt + 20, 0.6 * share, 0.5, 1.3)
        freckles = np.maximum(0.85 * fine, few) * np.float32(0.45 + 0.55 * spec.freckles)
    age = np.clip((spec.age - 50) / 40, 0, 1)
    if age > 0:
        share = np.full(len(p), 0.10 * age, np.float32) * (1 - canvas.masks[:, LIPS])
        freckles = np.maximum(freckles, 0.55 * spots(p, 9.0, salt + 50, share, 1.0, 4.0))
    moles = spots(p, 26.0, salt + 90, np.full(len(p), 0.22 * spec.moles, np.float32), 0.7, 1.8)
    moles[canvas.masks[:, LIPS] > 0] = 0
    return freckles, moles


def _person(spec: AvatarSpec) -> tuple[np.ndarray, np.ndarray]:
    """CIELAB colors (rows) and strengths that the painter needs."""
    tone = skin_tone(spec)
    hair = np.array(HAIR_LAB[spec.hair_color], dtype=np.float64)
    hair = hair + (np.array([60.0, 0, 1]) - hair) * min(1.0, spec.hair_grey) * 0.8
    grown = float(np.clip((spec.age - 15) / 5, 0, 1)) * spec.gender
    contrast = float(np.clip((tone.base[0] - hair[0]) / 45, 0, 1))
    shaved = 0.11 * np.clip(2 * grown - 1, 0, 1)
    beard = {"stubble": 0.44, "full": 0.20}.get(spec.beard_style, shaved) * (0.35 + 0.65 * contrast)
    goatee = (0.35 if spec.beard_style == "goatee" else 0.0) * (0.35 + 0.65 * contrast)
    old = float(np.clip((spec.age - 30) / 45, 0, 1))
    lines = float(np.clip(spec.wrinkles * (0.25 + 0.75 * np.clip((spec.age - 18) / 45, 0, 1)), 0, 1))
    child = float(np.clip((16 - spec.age) / 8, 0, 1))
    colors = np.stack(
        [
            tone.base, tone.lips, tone.palms, tone.mouth, tone.nails, hair,
            lab_of(color_rgb(spec.lipstick_color)), lab_of(color_rgb(spec.eyeshadow_color)), UNDERWEAR_LAB,
        ]
    ).astype(np.float32)  # fmt: skip
    strengths = np.array(
        [
            tone.light, spec.blush, spec.lipstick, spec.eyeshadow, beard, goatee,
            SCALP_SHADE.get(spec.hair_style, SCALP_SHADE_OTHER), lines, old, child, spec.gender,
            float(spec.beard_style == "stubble"), float(spec.gender < 0.6 or spec.age < 14),
        ],
        dtype=np.float32,
    )  # fmt: skip
    return colors, strengths


@njit(cache=True, fastmath=True)
def _paint(masks, slopes, dents, freckles, moles, colors, strengths, xyz_to_rgb, gamma):
    """Per texel: sRGB (N, 3), tangent-space normal (N, 3) and occlusion, roughness, metallic (N, 3)."""
    light, blush, lipstick, eyeshadow, beard, goatee, scalp, lines, old, child, man, stubble, bandeau = strengths
    blood = 0.45 + 0.55 * light
    color = np.empty((len(masks), 3), np.float32)
    normal = np.empty((len(masks), 3), np.float32)
    orm = np.empty((len(masks), 3), np.float32)
    lab = np.empty(3, np.float32)
    for i in range(len(masks)):
        m = masks[i]
        for k in range(3):
            lab[k] = colors[0, k]
        skin = 1.0 - m[INSIDE]
        cloth = max(m[UNDERWEAR], bandeau * m[BANDEAU])
        # blood, melanin and texture
        lab[0] += (1.8 * m[MOTTLE] + 1.6 * m[PATCH] + 1.3 * m[GRAIN]) * (0.75 + 0.5 * old)
        lab[1] += (1.9 * m[MOTTLE] - 1.3 * m[PATCH]) * blood
        lab[2] += 0.8 * m[MOTTLE]
        red = m[RED] * (0.95 + 0.35 * child + 0.25 * old)
        lab[0] -= 2.6 * red
        lab[1] += 4.2 * red * blood
        lab[2] += 0.4 * red
        rosy = m[BLUSH] * blush * (1.0 - 0.25 * m[PATCH])
        lab[0] -= 3.2 * rosy
        lab[1] += 8.5 * rosy * (0.5 + 0.5 * light)
        lab[2] -= 0.5 * rosy
        dark = m[SOCKET] * (0.55 + 0.6 * old - 0.25 * child)
        lab[0] -= 5.0 * dark
        lab[1] += 1.6 * dark * blood
        lab[2] -= 2.2 * dark
        lab[0] -= 1.5 * m[LID]
        lab[1] += 2.0 * m[LID] * blood
        lab[2] -= 1.0 * m[VEIN] * light
        lab[0] -= 1.2 * m[VEIN] * (0.5 + old)
        for k in range(3):
            lab[k] += m[PALM] * (colors[2, k] - lab[k])
        # hair in and above the skin
        shade = max(m[BEARD] * beard, m[GOATEE] * goatee)
        if stubble > 0:
            dots = min(max(0.35 + 1.1 * m[GRAIN], 0.0), 1.0)
            shade = m[BEARD] * beard * (0.50 + 0.75 * dots + 0.25 * m[PATCH])
        shade = max(shade, m[SCALP] * scalp * (0.75 + 0.35 * m[GRAIN]))
        lab[0] += shade * (colors[5, 0] - lab[0]) * 0.80
        lab[1] += shade * (colors[5, 1] - lab[1]) * 0.90
        lab[2] += shade * (colors[5, 2] - lab[2]) * 0.95
        # marks
        f = freckles[i] * (1.0 - 0.7 * shade)
        lab[0] -= f * (5.0 + 9.0 * light)
        lab[1] += f * 3.5 * light
        lab[2] += f * 5.0 * light
        mole = moles[i]
        lab[0] += mole * 0.75 * (min(32.0, 0.5 * lab[0]) - lab[0])
        lab[1] += mole * 0.5 * (12.0 - lab[1])
        crease = min(dents[i] * 2.2, 1.0) * lines
        lab[0] -= 6.5 * crease
        lab[1] += 1.8 * crease * blood
        # lips, lids, make-up
        lip = m[LIPS]
        edge = lip * (1.0 - lip) * 4.0
        if lip > 0:
            fade = lip * (0.92 if lipstick < 0.05 else 0.98)
            for k in range(3):
                lab[k] += fade * (colors[1, k] - lab[k])
            lab[0] += lip * (1.6 * m[PATCH] + 1.2 * m[GRAIN] - 2.0 * m[MOTTLE]) - 1.2 * edge * light
            paint = lip * min(lipstick * 1.1, 0.92)
            lab[0] += paint * (colors[6, 0] - lab[0]) * (0.92 if colors[6, 0] < lab[0] else 0.62)
            lab[1] += paint * (0.88 * colors[6, 1] - lab[1])
            lab[2] += paint * (0.88 * colors[6, 2] - lab[2])
        lab[0] -= 13.0 * m[MOUTH_LINE] * (0.4 + 0.6 * lab[0] / 70.0)
        lab[1] += 2.0 * m[MOUTH_LINE]
        tint = m[SHADOW] * eyeshadow * 0.72
        for k in range(3):
            lab[k] += tint * (colors[7, k] - lab[k])
        line = m[LINER] * min(max(eyeshadow * 1.6 - 0.45, 0.0), 0.9)
        lab[0] += line * (9.0 - lab[0])
        lab[1] *= 1.0 - 0.9 * line
        lab[2] *= 1.0 - 0.9 * line
        rim = m[RIM] * 0.5 * (1.0 - line)
        lab[1] += 7.0 * rim * blood
        lab[0] -= 1.5 * rim
        # what is not skin
        for k in range(3):
            lab[k] += m[INSIDE] * (colors[3, k] - lab[k])
            lab[k] += 0.85 * m[NAIL] * (colors[4, k] - lab[k])
            lab[k] += cloth * (colors[8, k] - lab[k])
        lab[0] -= 9.0 * m[AUREOLA] * (1.0 - cloth)
        lab[1] += 6.0 * m[AUREOLA] * (1.0 - cloth)
        lab[0] *= 1.0 - 0.62 * m[CAVITY]
        lab[1] += 4.0 * m[CAVITY] * skin
        _to_srgb(lab, xyz_to_rgb, gamma, color[i])
        # relief
        plain = 1.0 - cloth
        pore = (0.55 + 0.45 * man - 0.35 * child + 0.25 * old) * plain
        x = pore * slopes[i, 0, 0] + lines * slopes[i, 1, 0] + (0.15 + lines + 0.5 * old) * slopes[i, 2, 0]
        y = pore * slopes[i, 0, 1] + lines * slopes[i, 1, 1] + (0.15 + lines + 0.5 * old) * slopes[i, 2, 1]
        x += (0.7 + 0.8 * old) * slopes[i, 3, 0]
        y += (0.7 + 0.8 * old) * slopes[i, 3, 1]
        length = np.sqrt(x * x + y * y + 1.0)
        normal[i, 0] = 0.5 - 0.5 * x / length
        normal[i, 1] = 0.5 + 0.5 * y / length
        normal[i, 2] = 0.5 + 0.5 / length
        # shine
        rough = 0.52 + 0.05 * old - 0.11 * m[OIL] * (1.0 - child) + 0.03 * m[PATCH] + 0.12 * shade
        rough += lip * (0.42 - 0.14 * lipstick - rough)
        rough += m[INSIDE] * (0.30 - rough) + 0.6 * m[NAIL] * (0.30 - rough) + cloth * (0.9 - rough)
        rough += 0.5 * m[RIM] * (0.32 - rough)
        orm[i, 0] = (1.0 - 0.8 * m[CAVITY]) * (1.0 - 0.35 * m[MOUTH_LINE]) * (1.0 - 0.25 * crease)
        orm[i, 1] = min(max(rough, 0.05), 1.0)
        orm[i, 2] = 0.0
    return color, normal, orm


@njit(cache=True, fastmath=True)
def _to_srgb(lab, xyz_to_rgb, gamma, out):
    fy = (min(max(lab[0], 2.0), 98.0) + 16.0) / 116.0
    fx, fz = fy + lab[1] / 500.0, fy - lab[2] / 200.0
    x = fx * fx * fx if fx > 0.2069 else (fx - 0.137931) * 0.128419
    y = fy * fy * fy if fy > 0.2069 else (fy - 0.137931) * 0.128419
    z = fz * fz * fz if fz > 0.2069 else (fz - 0.137931) * 0.128419
    for k in range(3):
        linear = xyz_to_rgb[k, 0] * x + xyz_to_rgb[k, 1] * y + xyz_to_rgb[k, 2] * z
        out[k] = gamma[int(min(max(linear, 0.0), 1.0) * 4096.0)]
