"""Eyelashes: a curled ribbon along each lid margin with a drawn fringe of hairs."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.body.lids import OUTER_CORNER, eye_sphere, lid_margin
from avatar3d.engine.attach import Figure, moving_morphs, rigid_skin
from avatar3d.mesh.normals import vertex_normals
from avatar3d.spec import AvatarSpec
from avatar3d.structures import Material, Mesh, Part

COLUMNS = 41
ROWS = 4
REACH = {"upper": 0.0082, "lower": 0.0046}
"""Longest lashes on the template's head, metres."""
TEXTURE_SIZE = (256, 1024)
PALE_HAIR = {"blonde": 0.45, "platinum": 0.6, "red": 0.4, "auburn": 0.2, "light_brown": 0.15, "white": 0.55}
"""How far bare lashes go from black-brown to light brown."""


def make_lashes(spec: AvatarSpec, figure: Figure) -> list[Part]:
    """One part with the upper and lower lashes of both eyes; they ride on the lid margins in every face shape."""
    made_up = spec.gender < 0.5 and max(spec.lipstick, spec.eyeshadow) > 0.2
    length = 1.0 + 0.22 * (spec.gender < 0.5) + 0.12 * made_up - 0.25 * max(spec.age - 50, 0) / 45
    density = 1.0 + 0.35 * (spec.gender < 0.5) + 0.6 * made_up
    pale = 0.0 if made_up else PALE_HAIR.get(spec.hair_color, 0.0)
    color = tuple(
        float(c) for c in np.array([0.05, 0.04, 0.035]) * (1 - pale) + np.array([0.36, 0.26, 0.17]) * pale
    )
    texture = _fringe(round(density, 2), color)
    material = Material(
        "hair_lashes", base_color_texture=texture, roughness=0.6, alpha_mode="BLEND", double_sided=True
    )
    points, deltas, faces, uv = [], [], [], []
    for side in ("left", "right"):
        for lid in ("upper", "lower"):
            p, d = _ribbon(figure, side, lid, length)
            points.append(p)
            deltas.append(d)
            faces.append(_ribbon_faces() + sum(len(q) for q in points[:-1]))
            uv.append(_ribbon_uv(lid))
    vertices = torch.from_numpy(np.concatenate(points)).float()
    triangles = torch.from_numpy(np.concatenate(faces))
    coordinates = torch.from_numpy(np.concatenate(uv)).float()
    mesh = Mesh(vertices, triangles, vertex_normals(vertices, triangles), coordinates, material)
    morphs = moving_morphs(figure, torch.from_numpy(np.concatenate(deltas, axis=1)).float())
    return [Part("lashes", "lashes", mesh, rigid_skin(figure, len(vertices)), morphs)]


def _ribbon(figure: Figure, side: str, lid: str, length: float) -> tuple[np.ndarray, np.ndarray]:
    """Points (COLUMNS * ROWS, 3) of one ribbon at rest and their offsets (A, ..., 3) in every action."""
    template = figure.body.template
    margin = lid_margin(template, side)
    path = np.arange(OUTER_CORNER + 1)
    if lid == "upper":
        path = np.concatenate([[0], np.arange(len(margin) - 1, OUTER_CORNER - 1, -1)])
    root = figure.vertices[margin].numpy().astype(np.float64)
    moved = root + figure.actions[:, margin].numpy()
    center, radius = eye_sphere(template, figure.vertices.numpy(), side)
    opening = np.linalg.norm(root[OUTER_CORNER + 7] - root[7])
    travel = (root - moved)[..., 1] * (1 if lid == "upper" else -1)
    closed = np.clip(travel / max(opening, 1e-4), 0, 1)[:, path]
    share = np.linspace(0.06, 0.985, COLUMNS)
    shape = (center, radius, lid, length)
    even = np.linspace(0, 1, len(path))
    rest = _strands(_along(root[path], share), np.zeros(COLUMNS), share, *shape)
    posed = np.stack(
        [
            _strands(_along(m[path], share), np.interp(share, even, c), share, *shape)
            for m, c in zip(moved, closed, strict=True)
        ]
    )
    still = np.abs(moved - root).max(axis=(1, 2)) < 1e-6
    posed[still] = rest
    return rest.reshape(-1, 3), (posed - rest).reshape(len(posed), -1, 3)


def _along(path: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Points at shares of a polyline's index range, smoothed over its corners, (N, 3)."""
    smooth = path.copy()
    smooth[1:-1] = 0.25 * path[:-2] + 0.5 * path[1:-1] + 0.25 * path[2:]
    smooth = 0.5 * path + 0.5 * smooth
    index = np.linspace(0, 1, len(path))
    return np.stack([np.interp(share, index, smooth[:, c]) for c in range(3)], axis=1)


def _strands(root, closed, share, center, radius, lid: str, length: float) -> np.ndarray:
    """(ROWS, COLUMNS, 3): lashes leave the lid forwards and curl away from the opening; less so on closed eyes."""
    away = 1.0 if lid == "upper" else -1.0
    out = root - center
    out /= np.linalg.norm(out, axis=1, keepdims=True)
    up = np.array([0.0, 1.0, 0.0]) - out * out[:, 1:2]
    up /= np.linalg.norm(up, axis=1, keepdims=True)
    fan = np.cross(up, out) * ((share - 0.45) * (1.0 if root[-1, 0] > root[0, 0] else -1.0))[:, None]
    longest = REACH[lid] * length * radius / 0.015
    reach = longest * (0.55 + 0.45 * np.sin(np.pi * np.clip(0.12 + 0.8 * share, 0, 1)))[:, None]
    lift = (1 - 1.25 * closed)[:, None] * away
    rows = []
    for t in np.linspace(0, 1, ROWS):
        curl = lift * (0.25 * t + 0.75 * t * t) * (0.85 if lid == "upper" else 0.7)
        forward = t * (1 - 0.22 * t)
        rows.append(root + reach * (0.75 * forward * out + curl * up + 0.5 * t * fan) - 0.0004 * (1 - t) * out)
    return np.stack(rows)


def _ribbon_faces() -> np.ndarray:
    """(F, 3) triangles of a ribbon of ROWS x COLUMNS points."""
    i = (np.arange(ROWS - 1)[:, None] * COLUMNS + np.arange(COLUMNS - 1)).ravel()
    return np.concatenate(
        [np.stack([i, i + 1, i + COLUMNS], 1), np.stack([i + 1, i + COLUMNS + 1, i + COLUMNS], 1)]
    )


def _ribbon_uv(lid: str) -> np.ndarray:
    """(ROWS * COLUMNS, 2): u along the lid, v from root to tip; upper lashes use the upper half of the texture."""
    u, v = np.meshgrid(np.linspace(0.002, 0.998, COLUMNS), np.linspace(0.0, 1.0, ROWS))
    half = 0.01 + 0.47 * v + (0.5 if lid == "lower" else 0.0)
    return np.stack([u.ravel(), half.ravel()], axis=1)


@cache
def _fringe(density: float, color: tuple[float, float, float]) -> Float[Tensor, "H W 4"]:
    """Hairs that taper from root (v = 0) to tip and bunch a little, alpha in the last channel."""
    height, width = TEXTURE_SIZE
    generator = np.random.default_rng(5)
    alpha = np.zeros((height, width), dtype=np.float32)
    for half, count, thickness in ((0, int(95 * density), 2.5), (1, int(58 * density), 1.7)):
        y = np.arange(height // 2)
        t = y / (0.94 * height / 2)
        block = np.zeros((height // 2, width), dtype=np.float32)
        x = np.arange(width)
        for strand in range(count):
            place = (strand + generator.uniform(-0.45, 0.45)) / count
            tip = place + generator.normal(0, 0.010) + 0.012 * np.sin(strand * 1.9)
            reach = generator.uniform(0.62, 1.0) if strand % 3 else generator.uniform(0.4, 0.7)
            bend = generator.normal(0, 0.006)
            s = np.clip(t / reach, 0, 1)
            middle = (place + (tip - place) * s + bend * s * (1 - s)) * width
            half_width = thickness * (1 - s) ** 0.7 * generator.uniform(0.75, 1.1) * (t < reach) + 1e-3
            cover = np.clip(half_width[:, None] - np.abs(x - middle[:, None]) + 0.5, 0, 1) * (t < reach)[:, None]
            block = np.maximum(block, cover)
        root = np.clip(1 - t / 0.07, 0, 1)[:, None] * (0.85 if half == 0 else 0.35)
        alpha[half * height // 2 : (half + 1) * height // 2] = np.maximum(block, root)
    image = np.empty((height, width, 4), dtype=np.float32)
    image[..., :3] = color
    image[..., 3] = alpha
    return torch.from_numpy(image)
