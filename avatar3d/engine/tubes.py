"""Swept profiles: wires, rims and bars along a path."""

from __future__ import annotations

import numpy as np
import torch

from avatar3d.mesh.normals import vertex_normals
from avatar3d.structures import Material, Mesh


def profile(width: float, height: float, sides: int, roundness: float = 2.0) -> np.ndarray:
    """(sides, 2) a superellipse: an ellipse at roundness 2, nearly a box at 6."""
    angle = 2 * np.pi * (np.arange(sides) + 0.5) / sides
    c, s = np.cos(angle), np.sin(angle)
    power = 2.0 / roundness
    return np.stack([width / 2 * np.sign(c) * np.abs(c) ** power, height / 2 * np.sign(s) * np.abs(s) ** power], 1)


def sweep(
    path: np.ndarray,
    across: np.ndarray,
    section: np.ndarray,
    closed: bool = False,
    scale: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and outward triangles of a tube along a path (N, 3).

    `section` (S, 2) is laid out, counter-clockwise, along `across` (N, 3) (made perpendicular to the path) and
    along path x across. An open tube gets flat caps. `scale` (N, 2) stretches the section along the path.
    """
    count, sides = len(path), len(section)
    if closed:
        along = np.roll(path, -1, 0) - np.roll(path, 1, 0)
    else:
        along = np.gradient(path, axis=0)
    along = along / np.linalg.norm(along, axis=1, keepdims=True)
    first = across - (across * along).sum(1, keepdims=True) * along
    first = first / np.linalg.norm(first, axis=1, keepdims=True)
    second = np.cross(along, first)
    shape = section[None] * (np.ones((count, 1, 2)) if scale is None else scale[:, None])
    vertices = path[:, None] + shape[..., :1] * first[:, None] + shape[..., 1:] * second[:, None]
    rings = np.arange(count if closed else count - 1)
    i = np.repeat(rings, sides) * sides
    k = np.tile(np.arange(sides), len(rings))
    k_next, j = (k + 1) % sides, (np.repeat(rings + 1, sides) % count) * sides
    faces = np.concatenate([np.stack([i + k, i + k_next, j + k_next], 1), np.stack([i + k, j + k_next, j + k], 1)])
    flat = vertices.reshape(-1, 3)
    if not closed:
        ends = np.concatenate([flat[:sides].mean(0, keepdims=True), flat[-sides:].mean(0, keepdims=True)])
        a, b, k = len(flat), len(flat) + 1, np.arange(sides)
        last = len(flat) - sides
        faces = np.concatenate(
            [
                faces,
                np.stack([np.full(sides, a), (k + 1) % sides, k], 1),
                np.stack([np.full(sides, b), last + k, last + (k + 1) % sides], 1),
            ]
        )
        flat = np.concatenate([flat, ends])
    return flat, faces


def ball(center: np.ndarray, axes: np.ndarray, rings: int = 5, sides: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """An ellipsoid with half axes as the rows of `axes` (3, 3)."""
    theta = np.linspace(0, np.pi, rings + 1)
    phi = 2 * np.pi * np.arange(sides) / sides
    t, p = np.meshgrid(theta, phi, indexing="ij")
    unit = np.stack([np.sin(t) * np.cos(p), np.sin(t) * np.sin(p), np.cos(t)], 2).reshape(-1, 3)
    i = np.repeat(np.arange(rings), sides) * sides
    k = np.tile(np.arange(sides), rings)
    n = (k + 1) % sides
    faces = np.concatenate(
        [np.stack([i + k, i + sides + k, i + sides + n], 1), np.stack([i + k, i + sides + n, i + n], 1)]
    )
    vertices = unit @ axes
    if np.linalg.det(axes) < 0:
        faces = faces[:, ::-1]
    a, b, c = (vertices[faces[:, x]] for x in range(3))
    solid = np.linalg.norm(np.cross(b - a, c - a), axis=1) > 1e-14
    return vertices + center, faces[solid]


def mirrored(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same on the other side of the plane x = 0."""
    return vertices * [-1, 1, 1], faces[:, ::-1]


def joined(pieces: list[tuple[np.ndarray, np.ndarray]], material: Material) -> Mesh:
    """One mesh out of several pieces, smooth within each; uv are the x and y in decimetres."""
    starts = np.cumsum([0] + [len(v) for v, _ in pieces])
    vertices = torch.from_numpy(np.concatenate([v for v, _ in pieces])).float()
    faces = torch.from_numpy(np.concatenate([f + s for (_, f), s in zip(pieces, starts, strict=False)])).long()
    return Mesh(vertices, faces, vertex_normals(vertices, faces), vertices[:, :2] * 10, material)
