"""Beards: a blended shell of stubble on the jaw and ribbons that root there and move with the skin."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.engine.attach import Figure, anchored_morphs, anchored_skin
from avatar3d.engine.face_chart import Patch, lay_patch
from avatar3d.engine.hair_chart import scalp_of, unit
from avatar3d.engine.hair_strands import Growth, Obstacle, Pieces, grow, obstacle_of, outside, ribbons
from avatar3d.engine.hair_texture import (
    STRIPS,
    CAP_SHAPE,
    enlarge,
    fine_noise,
    grey_color,
    hair_color,
    strand_texture,
    strip_of,
)
from avatar3d.spec import AvatarSpec
from avatar3d.structures import Material, Mesh, Part

AROUND, DOWN = 46, 30
"""Cells of the grid over the lower face."""
ORIGIN = np.array([0.0, 1.535, 0.070])
SIDE = np.radians(104)
TOP, BOTTOM = np.radians(30), np.radians(-72)
LIFT = 0.0003


def make_beard(spec: AvatarSpec, figure: Figure) -> list[Part]:
    """Nothing for clean-shaven people; a stubble shell, and ribbons for anything longer."""
    if spec.beard_style == "none":
        return []
    patch = jaw_patch()
    points, normals = patch.on(figure)
    density = beard_density(spec.beard_style, patch.reference)
    parts = [_shell(spec, figure, patch, points, normals, density)]
    if spec.beard_style != "stubble":
        parts.append(_ribbons(spec, figure, patch, points, normals, density))
    return parts


@cache
def jaw_patch() -> Patch:
    """Places (down, around) over the lower face and the underside of the jaw."""
    elevation = np.linspace(TOP, BOTTOM, DOWN + 1)[:, None]
    azimuth = np.linspace(-SIDE, SIDE, AROUND + 1)[None]
    rays = np.stack(
        np.broadcast_arrays(
            np.cos(elevation) * np.sin(azimuth), np.sin(elevation), np.cos(elevation) * np.cos(azimuth)
        ),
        -1,
    )
    return lay_patch(ORIGIN, ORIGIN + rays.reshape(-1, 3))


def _step(x: np.ndarray, low: float, high: float) -> np.ndarray:
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def beard_density(style: str, reference: np.ndarray) -> np.ndarray:
    """(...,) how densely a style grows at points (..., 3) on the reference head, in [0, 1]."""
    x, y, z = np.abs(reference[..., 0]), reference[..., 1], reference[..., 2]
    lips = ((x / 0.0255) ** 2 + ((y - 1.5170) / 0.0105) ** 2) ** 0.5
    off_lips = _step(lips, 0.95, 1.25)
    moustache = _step(y, 1.517, 1.523) * _step(1.5455 - 0.30 * x - y, 0.0, 0.004) * _step(0.036 - x, 0.0, 0.006)
    chin = _step(1.5075 - y, 0.0, 0.004) * _step(0.031 - x, 0.0, 0.008) * _step(z, 0.085, 0.10)
    sides = _step(0.0085 - np.abs(x - 0.0295), 0.0, 0.004) * _step(1.528 - y, 0, 0.004) * _step(y, 1.49, 1.498)
    soul = _step(0.007 - x, 0.0, 0.004) * _step(1.509 - y, 0, 0.003)
    # cheek line: from the sideburn (z 0.075) down to the corner of the mouth (z 0.135)
    cheek = np.interp(z, [0.05, 0.070, 0.085, 0.105, 0.125, 0.14], [1.60, 1.575, 1.551, 1.536, 1.529, 1.524])
    neck = np.interp(z, [0.03, 0.05, 0.07, 0.10, 0.13], [1.535, 1.512, 1.490, 1.474, 1.468])
    jaw = _step(cheek - y, 0.0, 0.010) * _step(y - neck, -0.004, 0.008) * _step(z, 0.056, 0.066)
    under = _step(z, 0.075, 0.095) * _step(y, 1.462, 1.472)
    if style == "moustache":
        return moustache * off_lips
    if style == "goatee":
        return np.maximum.reduce([moustache, chin * under, sides, soul * (y > 1.49)]) * off_lips
    return np.maximum.reduce([moustache, jaw * np.maximum(under, z < 0.1), chin * under]) * off_lips


def _shell(
    spec: AvatarSpec, figure: Figure, patch: Patch, points: np.ndarray, normals: np.ndarray, density: np.ndarray
) -> Part:
    grid = np.arange(len(points)).reshape(DOWN + 1, AROUND + 1)
    a, b, c, d = grid[:-1, :-1], grid[:-1, 1:], grid[1:, :-1], grid[1:, 1:]
    faces = np.concatenate([np.stack([a, c, b], -1).reshape(-1, 3), np.stack([b, c, d], -1).reshape(-1, 3)])
    faces = faces[density[faces].max(axis=1) > 0.01]
    used, faces = np.unique(faces, return_inverse=True)
    v, u = np.meshgrid(np.linspace(0.01, 0.99, DOWN + 1), np.linspace(0.01, 0.99, AROUND + 1), indexing="ij")
    uv = np.stack([u, v], axis=-1).reshape(-1, 2)[used]
    anchor = patch.anchor(used)
    material = Material("stubble", base_color_texture=stubble_texture(spec), roughness=0.9, alpha_mode="BLEND")
    mesh = Mesh(
        torch.from_numpy((points + LIFT * normals)[used].astype(np.float32)),
        torch.from_numpy(faces.reshape(-1, 3)),
        torch.from_numpy(normals[used].astype(np.float32)),
        torch.from_numpy(uv.astype(np.float32)),
        material,
    )
    return Part("beard_stubble", "beard", mesh, anchored_skin(figure, anchor), anchored_morphs(figure, anchor))


def stubble_texture(spec: AvatarSpec) -> Float[Tensor, "256 1024 4"]:
    """Short dots of beard color over the grid of the lower face."""
    density = _fine_density(spec.beard_style)
    dots = fine_noise()
    if spec.beard_style == "stubble":
        alpha = np.clip(density * (0.42 + 0.15 * dots), 0, 1)
    else:
        alpha = np.clip(1.7 * density, 0, 1) * np.clip(0.90 + 0.08 * dots, 0, 1)
    grey = np.clip(spec.hair_grey * (1.2 + 0.5 * dots), 0, 1)[..., None]
    color = hair_color(spec) * (1 - grey) + grey_color(spec) * grey
    color = color * np.interp(hair_color(spec).mean() + 0.5 * spec.hair_grey, [0.2, 0.6], [0.68, 0.85])
    return torch.from_numpy(np.dstack([np.broadcast_to(color, (*alpha.shape, 3)), alpha]).astype(np.float32))


@cache
def _fine_density(style: str) -> np.ndarray:
    reference = jaw_patch().reference.reshape(DOWN + 1, AROUND + 1, 3)
    fine = np.stack([enlarge(reference[..., i], CAP_SHAPE) for i in range(3)], axis=-1)
    return beard_density(style, fine)


def _ribbons(
    spec: AvatarSpec, figure: Figure, patch: Patch, points: np.ndarray, normals: np.ndarray, density: np.ndarray
) -> Part:
    rng = np.random.default_rng([spec.seed, 4713])
    scalp = scalp_of(figure)
    body = obstacle_of(figure, scalp)
    rows = _pick_roots(patch, density, {"moustache": 150, "goatee": 250, "full": 400}[spec.beard_style], rng)
    slide = np.cross(normals[rows], rng.uniform(-0.0014 * scalp.size, 0.0014 * scalp.size, (len(rows), 3)))
    pieces = _grown(spec, patch.reference[rows], points[rows] + slide, normals[rows], body, scalp.size, rng)
    pieces = outside(pieces, body)
    anchor = patch.anchor(rows[pieces.strand])
    material = Material(
        "hair_beard", base_color_texture=strand_texture(spec), roughness=0.65, alpha_mode="MASK", alpha_cutoff=0.45,
        double_sided=True,
    )  # fmt: skip
    mesh = Mesh(
        torch.from_numpy(pieces.vertices.astype(np.float32)),
        torch.from_numpy(pieces.faces),
        torch.from_numpy(pieces.normals.astype(np.float32)),
        torch.from_numpy(pieces.uv.astype(np.float32)),
        material,
    )
    return Part("beard", "beard", mesh, anchored_skin(figure, anchor), anchored_morphs(figure, anchor))


def _pick_roots(patch: Patch, density: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Grid nodes drawn by the area that they stand for, spread by systematic sampling."""
    ref = patch.reference.reshape(DOWN + 1, AROUND + 1, 3)
    area = np.linalg.norm(np.cross(np.gradient(ref, axis=0), np.gradient(ref, axis=1)), axis=-1).ravel()
    lip = (patch.reference[:, 1] > 1.517) & (patch.reference[:, 2] > 0.125)
    weight = area * np.where(density > 0.35, density, 0) * np.where(lip, 2.5, 1.0)
    steps = np.cumsum(weight) / weight.sum()
    return np.unique(np.searchsorted(steps, (np.arange(count) + rng.random(count)) / count))


def _grown(
    spec: AvatarSpec, reference: np.ndarray, points: np.ndarray, normals: np.ndarray, body: Obstacle, size: float,
    rng: np.random.Generator,
) -> Pieces:  # fmt: skip
    x, y, z = reference.T
    lip = (y > 1.518) & (np.abs(x) < 0.037) & (z > 0.12)
    chin = _step(0.05 - np.abs(x), 0.0, 0.04) * _step(z, 0.085, 0.12)
    grown = spec.beard_length
    length = np.where(lip, 0.010 + 0.006 * grown, (0.010 + 0.012 * grown) + (0.004 + 0.055 * grown**1.5) * chin)
    length = size * length * rng.uniform(0.8, 1.15, len(x))
    outward = np.where(lip, np.clip(x / 0.012, -1, 1) * 1.3, 0.15 * np.sign(x))
    forward = np.where(lip, 0.1, 0.10 + 0.25 * chin)

    def field(p: np.ndarray, n: np.ndarray) -> np.ndarray:
        wish = np.stack([outward - 4.0 * p[:, 0] * (~lip) * chin, np.full(len(p), -1.0), forward], axis=1)
        return unit(wish)

    height = (
        size * np.where(lip, 0.0025, 0.003 + 0.006 * grown * (0.4 + 0.6 * chin)) * rng.uniform(0.5, 1.1, len(x))
    )
    growth = Growth(length, field, height, rise=0.008, turn=0.5, comb=0.3, lift=0.35, sway=0.12, clothes=0.02)
    strands, outs = grow(points, normals, growth, body, 4, rng)
    variant = rng.choice(4, len(x), p=(0.3, 0.25, 0.3, 0.15))
    width = size * np.where(lip, 0.0048, 0.0085) * rng.uniform(0.8, 1.2, len(x))
    return ribbons(strands, outs, width, strip_of(variant, 1), STRIPS, rng.normal(0, 0.25, len(x)), 2)
