"""What can be seen of a bust from outside, as points: the ground truth of fields.

A bust is many meshes that are neither closed nor free of each other. What a field should carry is their outside,
so that is looked at from all around: pixels of the views are the surface, points that some view sees through are
outside, all others inside. Clothes with thickness and open mouths need no special care so. Hair is sheets with
gaps; what few views see through or into counts as filled.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import no_type_check

import numba
import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.spatial import cKDTree
from torch import Tensor

from avatar3d.camera import orbit
from avatar3d.fields.triplane import WARP_CENTER
from avatar3d.render.fused import Look, look, scene_arrays
from avatar3d.render.scene import Scene
from avatar3d.structures import PART_KINDS, Camera

ELEVATIONS = {-25.0: 6, 6.0: 8, 40.0: 5, 78.0: 1}
"""Degrees, and how many views look around from there."""
CLOSE_UPS = ((0.0, 0.0), (-50.0, -8.0), (50.0, -8.0), (0.0, -22.0))
"""Azimuth and elevation of views of the face alone, degrees."""
WIDE_PIXELS, CLOSE_PIXELS = 208, 256
HAIRY = [1 + PART_KINDS.index(kind) for kind in ("hair", "beard")]
DISTANCE = 1.7
"""Of the cameras from the middle of the box, metres."""
CLOSE_SHARE = 0.4
"""Of the box that the views of the face show."""
SEEN_THROUGH = 0.0015
"""A point is outside when a view sees so much further, metres."""
HAIR_SHARE, STRAND_SHARE = 0.22, 0.15
"""Shares of the views that must see through a place in hair for it to be outside, and see a strand for it to be
part of the surface."""
FLAT = 0.005
"""Up to so far from a surface point the distance is that from its tangent plane, metres."""


Views = tuple[tuple[Camera, Float[np.ndarray, "_ _"]], ...]


@dataclass(frozen=True)
class Surface:
    """P points of a bust's outside, and the views that saw them; world frame, metres."""

    positions: Float[np.ndarray, "P 3"]
    normals: Float[np.ndarray, "P 3"]
    colors: Float[np.ndarray, "P 3"]
    """Material color, sRGB."""
    labels: Int[np.ndarray, " P"]
    """1 + index into `PART_KINDS`."""
    areas: Float[np.ndarray, " P"]
    """That each point stands for, up to a common factor."""
    views: Views
    """Cameras and depths."""
    bounds: Float[np.ndarray, "2 3"]

    @cached_property
    def tree(self) -> cKDTree:
        """Nearest-point search."""
        return cKDTree(self.positions, balanced_tree=False, compact_nodes=False)


def see_surface(scene: Scene, box: Float[Tensor, "2 3"]) -> Surface:
    """Look at what a box around a bust holds from all around."""
    arrays = scene_arrays(scene)
    seen = [(camera, look(arrays, camera)) for camera in _cameras(box)]
    bounds = box.numpy()
    columns = [_points(camera, view, bounds) for camera, view in seen]
    positions, normals, colors, labels, areas = (np.concatenate(column) for column in zip(*columns, strict=True))
    views = tuple((camera, view.depth) for camera, view in seen)
    hairy = np.flatnonzero(np.isin(labels, HAIRY))
    shown = views_past(views, positions[hairy], -SEEN_THROUGH) >= STRAND_SHARE * len(views)
    kept = np.ones(len(labels), np.bool_)
    kept[hairy[~shown]] = False
    return Surface(positions[kept], normals[kept], colors[kept], labels[kept], areas[kept], views, bounds)


def _cameras(box: Float[Tensor, "2 3"]) -> list[Camera]:
    low, high = box
    middle, half = (low + high) / 2, (high - low) / 2
    face = middle + half * torch.tensor(WARP_CENTER)
    size = float(half.norm())
    wide = 2 * math.asin(min(size / DISTANCE, 0.9))
    close = 2 * math.atan(CLOSE_SHARE * float(half[1]) / DISTANCE)
    cameras = [
        orbit(middle, DISTANCE, 2 * math.pi * k / count, math.radians(elevation), wide, WIDE_PIXELS, WIDE_PIXELS)
        for elevation, count in ELEVATIONS.items()
        for k in range(count)
    ]
    return cameras + [
        orbit(face, DISTANCE, math.radians(a), math.radians(e), close, CLOSE_PIXELS, CLOSE_PIXELS)
        for a, e in CLOSE_UPS
    ]


def _points(camera: Camera, view: Look, bounds: np.ndarray) -> tuple[np.ndarray, ...]:
    """Columns of `Surface` for the pixels of one view that lie in the box."""
    position = view.position
    shown = (view.labels > 0) & ((position > bounds[0]) & (position < bounds[1])).all(-1)
    eye = camera.T_world_camera[:3, 3].numpy()
    towards = eye - position[shown]
    towards /= np.linalg.norm(towards, axis=1, keepdims=True)
    facing = np.abs((towards * view.normal[shown]).sum(1))
    areas = (view.depth[shown] / camera.focal) ** 2 / np.maximum(facing, 0.15)
    return position[shown], view.normal[shown], view.albedo[shown], view.labels[shown], areas


@dataclass(frozen=True)
class Labelled:
    """N points of a field's ground truth."""

    distance: Float[np.ndarray, " N"]
    """Signed, metres; negative inside."""
    colors: Float[np.ndarray, "N 3"]
    labels: Int[np.ndarray, " N"]
    """1 + index into `PART_KINDS`, of the nearest surface, as the color."""


def label_points(surface: Surface, points: Float[np.ndarray, "N 3"]) -> Labelled:
    """Signed distance, color and label at world points."""
    distance, nearest = surface.tree.query(points)
    offset = ((points - surface.positions[nearest]) * surface.normals[nearest]).sum(1)
    hairy = np.isin(surface.labels[nearest], HAIRY)
    needed = np.where(hairy, HAIR_SHARE * len(surface.views), 1)
    signed = np.where(views_past(surface.views, points, SEEN_THROUGH) >= needed, distance, -distance)
    flat = (distance < FLAT) & (np.abs(offset) > 0.5 * distance - 0.002) & ~hairy
    signed = np.where(flat, offset, signed)
    return Labelled(signed.astype(np.float32), surface.colors[nearest], surface.labels[nearest])


def views_past(views: Views, points: Float[np.ndarray, "N 3"], margin: float) -> Int[np.ndarray, " N"]:
    """How many views see further than each point by more than `margin` metres."""
    count = np.zeros(len(points), np.int32)
    for camera, depth in views:
        _count_past(points, camera.T_world_camera.double().numpy(), float(camera.focal), depth, margin, count)
    return count


@numba.njit(cache=True, nogil=True)
@no_type_check
def _count_past(points, T, focal, depth, margin, count):
    """Add one where the pixel of a point shows something further away than the point."""
    height, width = depth.shape
    for i in range(points.shape[0]):
        x, y, z = points[i, 0] - T[0, 3], points[i, 1] - T[1, 3], points[i, 2] - T[2, 3]
        ahead = x * T[0, 2] + y * T[1, 2] + z * T[2, 2]
        column = int(np.floor(focal * (x * T[0, 0] + y * T[1, 0] + z * T[2, 0]) / ahead + 0.5 * width))
        row = int(np.floor(focal * (x * T[0, 1] + y * T[1, 1] + z * T[2, 1]) / ahead + 0.5 * height))
        if 0 <= column < width and 0 <= row < height and depth[row, column] > ahead + margin:
            count[i] += 1
