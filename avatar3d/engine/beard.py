"""Beards: a blended shell of stubble on the jaw and ribbons that root there and move with the skin."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.engine.attach import Anchor, Figure, anchored_morphs, anchored_skin
from avatar3d.engine.face_chart import Patch, lay_patch
from avatar3d.engine.hair_chart import scalp_of, unit
from avatar3d.engine.hair_strands import Growth, Obstacle, Pieces, grow, obstacle_of, outside, ribbons
from avatar3d.engine.hair_texture import (
    CAP_SHAPE,
    STRIPS,
    enlarge,
    fine_noise,
    grey_color,
    hair_color,
    strand_texture,
    strip_of,
)
from avatar3d.spec import AvatarSpec
from avatar3d.structures import Material, Mesh, MorphTargets, Part, Skin

AROUND, DOWN = 46, 30
"""Cells of the grid over the lower face."""
ORIGIN = np.array([0.0, 1.535, 0.070])
SIDE = np.radians(104)
TOP, BOTTOM = np.radians(30), np.radians(-72)
LIFT = 0.0007
"""Height of the shell over the skin, metres."""
ROOTS = {"moustache": 230, "goatee": 380, "full": 490}
"""Ribbons of each style."""


def make_beard(spec: AvatarSpec, figure: Figure) -> list[Part]:
    """Nothing for clean-shaven people; a stubble shell, and ribbons for anything longer."""
    if spec.beard_style == "none":
        return []
    patch = jaw_patch()
    points, normals = patch.on(figure)
    density = beard_density(spec.beard_style, patch.reference)
    parts = [_shell(spec, figure, patch, points, normals, density)]
    if spec.beard_style != "stubble":
        parts.append(_ribbons(spec, figure, patch, points, normals))
    return parts


def _grid_faces() -> np.ndarray:
    """(F, 3) triangles of the grid, facing outwards."""
    grid = np.arange((DOWN + 1) * (AROUND + 1)).reshape(DOWN + 1, AROUND + 1)
    a, b, c, d = grid[:-1, :-1], grid[:-1, 1:], grid[1:, :-1], grid[1:, 1:]
    return np.concatenate([np.stack([a, c, b], -1).reshape(-1, 3), np.stack([b, c, d], -1).reshape(-1, 3)])


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
    faces = _grid_faces()
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
    grey = np.clip(spec.hair_grey * (1.4 + 0.4 * dots), 0, 1)[..., None]
    color = hair_color(spec) * (1 - grey) + grey_color(spec) * grey
    color = color * np.interp(hair_color(spec).mean() + spec.hair_grey, [0.2, 0.6], [0.75, 0.92])
    return torch.from_numpy(np.dstack([np.broadcast_to(color, (*alpha.shape, 3)), alpha]).astype(np.float32))


@cache
def _fine_density(style: str) -> np.ndarray:
    reference = jaw_patch().reference.reshape(DOWN + 1, AROUND + 1, 3)
    fine = np.stack([enlarge(reference[..., i], CAP_SHAPE) for i in range(3)], axis=-1)
    return beard_density(style, fine)


def _ribbons(spec: AvatarSpec, figure: Figure, patch: Patch, points: np.ndarray, normals: np.ndarray) -> Part:
    rng = np.random.default_rng([spec.seed, 4713])
    scalp = scalp_of(figure)
    body = obstacle_of(figure, scalp)
    nodes, share = _pick_roots(patch, spec.beard_style, ROOTS[spec.beard_style], rng)
    reference, root, normal = (
        (a[nodes] * share[..., None]).sum(axis=1) for a in (patch.reference, points, normals)
    )
    pieces = outside(_grown(spec, reference, root, unit(normal), body, scalp.size, rng), body)
    anchor = Anchor(
        torch.from_numpy(patch.faces[nodes].reshape(len(nodes), -1).astype(np.int64)),
        torch.from_numpy((patch.bary[nodes] * share[..., None]).reshape(len(nodes), -1)).float(),
    )
    strand = torch.from_numpy(pieces.strand)
    skin, morphs = anchored_skin(figure, anchor), anchored_morphs(figure, anchor)
    material = Material(
        "hair_beard", base_color_texture=strand_texture(spec), roughness=0.65, alpha_mode="MASK",
        alpha_cutoff=0.45, double_sided=True,
    )  # fmt: skip
    mesh = Mesh(
        torch.from_numpy(pieces.vertices.astype(np.float32)),
        torch.from_numpy(pieces.faces),
        torch.from_numpy(pieces.normals.astype(np.float32)),
        torch.from_numpy(pieces.uv.astype(np.float32)),
        material,
    )
    skin = Skin(skin.joints[strand], skin.weights[strand])
    return Part("beard", "beard", mesh, skin, morphs and MorphTargets(morphs.names, morphs.deltas[:, strand]))


def _pick_roots(patch: Patch, style: str, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Roots as barycentrics (count, 3) of triangles of grid nodes (count, 3), evenly over the area where the
    style grows; finer hair and so more roots on the lip."""
    triangles = _grid_faces()
    corners = patch.reference[triangles]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=-1)
    middle = corners.mean(axis=1)
    density = beard_density(style, middle)
    weight = area * np.where(density > 0.3, density, 0) * np.where(_on_lip(middle), 3.5, 1.0)
    steps = np.cumsum(weight) / weight.sum()
    picks = np.searchsorted(steps, (np.arange(count) + rng.random(count)) / count)
    return triangles[picks], rng.dirichlet((1.0, 1.0, 1.0), count)


def _on_lip(reference: np.ndarray) -> np.ndarray:
    """Whether points (..., 3) on the reference head are on the upper lip or beside it."""
    return (reference[..., 1] > 1.518) & (np.abs(reference[..., 0]) < 0.037) & (reference[..., 2] > 0.12)


def _grown(
    spec: AvatarSpec, reference: np.ndarray, points: np.ndarray, normals: np.ndarray, body: Obstacle, size: float,
    rng: np.random.Generator,
) -> Pieces:  # fmt: skip
    x, y, z = reference.T
    lip = _on_lip(reference)
    chin = _step(0.05 - np.abs(x), 0.0, 0.04) * _step(z, 0.085, 0.12)
    grown = spec.beard_length
    length = np.where(
        lip,
        (0.0095 + 0.006 * grown) * np.clip((y - 1.516) / 0.012, 0.5, 1),
        (0.010 + 0.012 * grown) + (0.004 + 0.055 * grown**1.5) * chin,
    )
    length = size * length * rng.uniform(0.8, 1.15, len(x))
    outward = np.where(lip, np.clip(x / 0.012, -1, 1) * 1.3, 0.15 * np.sign(x))
    forward = np.where(lip, 0.1, 0.10 + 0.25 * chin)

    def field(p: np.ndarray, n: np.ndarray) -> np.ndarray:
        wish = np.stack([outward - 4.0 * p[:, 0] * (~lip) * chin, np.full(len(p), -1.0), forward], axis=1)
        return unit(wish)

    height = (
        size * np.where(lip, 0.0022, 0.003 + 0.006 * grown * (0.4 + 0.6 * chin)) * rng.uniform(0.5, 1.1, len(x))
    )
    growth = Growth(length, field, height, rise=0.008, turn=0.5, comb=0.3, lift=0.35, sway=0.07, clothes=0.02)
    strands, outs = grow(points, normals, growth, body, 3, rng)
    variant = rng.choice(4, len(x), p=(0.3, 0.25, 0.3, 0.15))
    width = size * np.where(lip, 0.0046, 0.0088) * rng.uniform(0.8, 1.2, len(x))
    return ribbons(
        strands, outs, width, strip_of(variant, 1), STRIPS, rng.normal(0, 0.2, len(x)), 2, v_range=(0.05, 0.95)
    )
