"""Eyebrows: two thin blended layers of drawn hairs on the brow's skin, moving with it."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from jaxtyping import Float
from scipy.ndimage import gaussian_filter
from torch import Tensor

from avatar3d.engine.attach import Anchor, Figure, anchored_morphs, anchored_skin
from avatar3d.engine.face_chart import Patch, lay_patch
from avatar3d.engine.hair_texture import NATURAL, grey_color, hair_color
from avatar3d.spec import AvatarSpec
from avatar3d.structures import Material, Mesh, Part

ALONG, ACROSS = 22, 6
"""Cells of a brow's grid from the nose outwards, and upwards."""
HALF_WIDTH = 0.0075
"""Of the grid, metres on the reference head."""
ARC = np.array(
    [(0.0115, 1.6010), (0.020, 1.6045), (0.030, 1.6078), (0.0385, 1.6092), (0.046, 1.6065), (0.0545, 1.6010)]
)
"""(x, y) of the left brow's middle line on the reference head, from the nose outwards."""
LIFTS = (0.0003, 0.0010)
"""Height of the two layers over the skin, metres."""
PICTURE = (512, 128)
"""Rows (along a brow) and columns (upwards) of one layer's picture."""


def make_brows(spec: AvatarSpec, figure: Figure) -> list[Part]:
    """Both brows in one part."""
    patch = brow_patch()
    points, normals = patch.on(figure)
    grid = np.arange(len(points)).reshape(2, ALONG + 1, ACROSS + 1)
    a, b, c, d = grid[:, :-1, :-1], grid[:, :-1, 1:], grid[:, 1:, :-1], grid[:, 1:, 1:]
    faces = np.stack([np.stack([a, b, c], -1), np.stack([b, d, c], -1)], axis=-2)
    faces[0] = faces[0][..., ::-1]
    v, u = np.meshgrid(np.linspace(0, 1, ALONG + 1), np.linspace(0, 1, ACROSS + 1), indexing="ij")
    vertices, uvs, all_faces = [], [], []
    for layer, lift in enumerate(LIFTS):
        vertices.append(points + lift * normals)
        uvs.append(np.tile(np.stack([0.5 * layer + 0.01 + 0.48 * u, 0.01 + 0.98 * v], -1).reshape(-1, 2), (2, 1)))
        all_faces.append(faces.reshape(-1, 3) + layer * len(points))
    rows = np.tile(np.arange(len(points)), len(LIFTS))
    anchor: Anchor = patch.anchor(rows)
    material = Material("brows", base_color_texture=brow_texture(spec), roughness=0.9, alpha_mode="BLEND")
    mesh = Mesh(
        torch.from_numpy(np.concatenate(vertices).astype(np.float32)),
        torch.from_numpy(np.concatenate(all_faces).copy()),
        torch.from_numpy(np.tile(normals, (len(LIFTS), 1)).astype(np.float32)),
        torch.from_numpy(np.concatenate(uvs).astype(np.float32)),
        material,
    )
    return [Part("brows", "brows", mesh, anchored_skin(figure, anchor), anchored_morphs(figure, anchor))]


@cache
def brow_patch() -> Patch:
    """Places (side, along, across) of both brows, left first."""
    along = np.linspace(0, 1, ALONG + 1)
    knots = np.linspace(0, 1, len(ARC))
    curve = np.stack([_spline(knots, ARC[:, i], along) for i in (0, 1)], 1)
    tangent = np.gradient(curve, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    up = np.stack([-tangent[:, 1], tangent[:, 0]], axis=1)
    offset = np.linspace(-1, 1, ACROSS + 1) * HALF_WIDTH
    flat = curve[:, None] + up[:, None] * offset[:, None]
    left = np.concatenate([flat, np.full((*flat.shape[:2], 1), 0.14)], axis=-1).reshape(-1, 3)
    return lay_patch(np.array([0.0, 1.60, 0.02]), np.concatenate([left, left * [-1, 1, 1]]))


def _spline(knots: np.ndarray, values: np.ndarray, at: np.ndarray) -> np.ndarray:
    return np.polyval(np.polyfit(knots, values, 4), at)


def brow_texture(spec: AvatarSpec) -> Float[Tensor, "512 256 4"]:
    """Both layers side by side; hairs root along the middle and lean outwards."""
    rng = np.random.default_rng([spec.seed, 4712])
    woman = 1 - spec.gender
    child = np.clip((14 - spec.age) / 8, 0, 1)
    bushy = spec.brow_thickness
    width = (0.30 + 0.42 * bushy) * (1 - 0.25 * woman - 0.15 * child)
    count = int((190 + 250 * bushy) * (1 - 0.2 * woman - 0.2 * child))
    layers = [_draw(rng, int(count * share), width, 0.8 + 0.5 * bushy, spec) for share in (0.65, 0.35)]
    return torch.from_numpy(np.concatenate(layers, axis=1).astype(np.float32))


def _draw(rng: np.random.Generator, count: int, width: float, length: float, spec: AvatarSpec) -> np.ndarray:
    rows, columns = PICTURE
    s = rng.beta(1.35, 1.35, count) * 0.93 + 0.02
    outline = width * np.clip(s / 0.16 + 0.40, 0, 1) * np.clip((1.04 - s) / 0.55, 0, 1) ** 0.75
    t = rng.uniform(-1, 1, count) * outline
    # near the nose hairs stand up; outwards they lie along the brow and close in on its middle line
    lean = (
        np.interp(s, [0, 0.12, 0.35, 0.7, 1], [1.25, 0.85, 0.38, 0.05, -0.10])
        - 0.45 * np.interp(s, [0, 0.2, 0.5], [0, 0.3, 1]) * t / np.maximum(width, 1e-3)
        + rng.normal(0, 0.12, count)
    )
    reach = (
        length * np.interp(s, [0, 0.2, 0.7, 1], [0.0056, 0.0075, 0.0080, 0.0055]) * rng.uniform(0.6, 1.1, count)
    )
    span = 0.047  # metres along a brow
    walk = np.linspace(0, 1, 72)
    bend = lean[:, None] - 0.35 * walk
    y = (s[:, None] + reach[:, None] / span * np.cumsum(np.cos(bend), 1) / len(walk)) * (rows - 1)
    x = (0.5 + 0.5 * (t[:, None] + reach[:, None] / HALF_WIDTH * np.cumsum(np.sin(bend), 1) / len(walk))) * (
        columns - 1
    )
    weight = (1.0 - walk**2.5)[None] * rng.uniform(0.65, 1.1, count)[:, None]
    shade = np.clip(rng.normal(0.5, 0.2, count), 0, 1)
    grey = (rng.random(count) < brow_grey(spec)).astype(float)
    cover, light, greys = (_splat(y, x, weight * value[:, None]) for value in (np.ones(count), shade, grey))
    total = np.maximum(cover, 1e-6)
    color = brow_color(spec) * (1 - (greys / total)[..., None]) + grey_color(spec) * (greys / total)[..., None]
    rgb = np.clip(color * (0.72 + 0.45 * light / total)[..., None], 0, 1)
    # fine hairs that are not drawn one by one: without them brows pale with distance
    down = gaussian_filter(cover, (9, 5))
    return np.dstack(
        [np.where(cover[..., None] > 1e-5, rgb, brow_color(spec)), 1 - np.exp(-3.4 * cover - 1.3 * down)]
    )


def _splat(y: np.ndarray, x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Add weights at points of a picture, bilinearly, slightly blurred."""
    rows, columns = PICTURE
    y, x, weight = (
        np.broadcast_to(a, y.shape).ravel() for a in (y.clip(0, rows - 1.001), x.clip(0, columns - 1.001), weight)
    )
    y0, x0 = y.astype(int), x.astype(int)
    fy, fx = y - y0, x - x0
    total = np.zeros(rows * columns)
    for dy, dx, w in ((0, 0, (1 - fy) * (1 - fx)), (0, 1, (1 - fy) * fx), (1, 0, fy * (1 - fx)), (1, 1, fy * fx)):
        total += np.bincount((y0 + dy) * columns + x0 + dx, weight * w, minlength=rows * columns)
    return gaussian_filter(total.reshape(rows, columns), 0.65)


def brow_grey(spec: AvatarSpec) -> float:
    """Share of grey hairs in the brows: they grey later than the head."""
    return float(np.clip(1.3 * spec.hair_grey - 0.3, 0, 0.9))


def brow_color(spec: AvatarSpec) -> np.ndarray:
    """(3,) sRGB: darker than fair hair; under dyed hair mostly the natural dark brown."""
    color = hair_color(spec)
    if spec.hair_color not in NATURAL:
        return 0.35 * color + 0.65 * np.array([0.17, 0.12, 0.10])
    light = color.mean()
    return color * np.interp(light, [0.07, 0.3, 0.6, 0.9], [0.98, 0.82, 0.68, 0.78])
