"""Distances between surfaces as cameras see them: depth pictures as meshes, points against triangles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int

from avatar3d.camera import pixel_centers, unproject
from avatar3d.mesh.nearest import surface_of
from avatar3d.structures import Camera, Render

JUMP = 4.0
"""Neighboring pixels belong to one surface when their depths differ by less than so many pixel widths."""


@dataclass(frozen=True)
class SurfaceDistance:
    """Distances of two surfaces' points to the other surface, both ways together, metres."""

    mean: float
    median: float
    p95: float


def seen_surface(
    render: Render, camera: Camera, jump: float = JUMP
) -> tuple[Float[np.ndarray, "V 3"], Int[np.ndarray, "F 3"]]:
    """What a camera sees, as a mesh with a vertex for each pixel that shows something.

    Two triangles join four pixels unless the depth jumps between them: `jump` is in widths of a pixel there.
    """
    shown = torch.isfinite(render.depth)
    depth = torch.where(shown, render.depth, 0.0)
    points = unproject(camera, pixel_centers(camera).to(depth), depth)
    height, width = depth.shape
    index = torch.arange(height * width).view(height, width)
    corners = torch.stack([index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]], -1).reshape(-1, 4)
    faces = torch.cat([corners[:, [0, 1, 2]], corners[:, [0, 2, 3]]])
    z = depth.flatten()[faces]
    whole = shown.flatten()[faces].all(1) & (z.amax(1) - z.amin(1) < jump * z.amin(1) / camera.focal)
    used = torch.full((height * width,), -1, dtype=torch.long)
    kept = shown.flatten().nonzero()[:, 0]
    used[kept] = torch.arange(len(kept))
    return points.reshape(-1, 3)[kept].numpy().astype(np.float64), used[faces[whole]].numpy()


def surface_distance(
    picture: Sequence[Render], truth: Sequence[Render], cameras: Sequence[Camera]
) -> SurfaceDistance:
    """Symmetric point-to-surface distance of what the cameras see of two avatars.

    Points are the pixels of each render; each is measured against the triangles of the other avatar's renders
    (a distance between point clouds would have the spacing of the points as its floor). Raises ValueError when
    one of them shows nothing.
    """
    clouds = []
    for renders in (picture, truth):
        pieces = [seen_surface(r, c) for r, c in zip(renders, cameras, strict=True)]
        starts = np.cumsum([0] + [len(v) for v, _ in pieces])
        shifted = [f + start for (_, f), start in zip(pieces, starts[:-1], strict=True)]
        clouds.append((np.concatenate([v for v, _ in pieces]), np.concatenate(shifted)))
    if any(len(faces) == 0 for _, faces in clouds):
        raise ValueError("one of the two avatars shows no surface to these cameras: is its field empty?")
    (points, faces), (other_points, other_faces) = clouds
    there = surface_of(other_points, other_faces).nearest(points).distance
    back = surface_of(points, faces).nearest(other_points).distance
    both = np.concatenate([there, back])
    return SurfaceDistance(float(both.mean()), float(np.median(both)), float(np.quantile(both, 0.95)))
