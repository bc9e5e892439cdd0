"""One avatar as training data: labelled points, charts and pictures, in small whole numbers."""

from __future__ import annotations

import math

import numpy as np
import torch

from avatar3d.cascade.charts import draw_charts
from avatar3d.cascade.surface import Surface, label_points, see_surface
from avatar3d.engine.bust import build_bust
from avatar3d.fields.box import bust_camera
from avatar3d.fields.triplane import WARP_CENTER
from avatar3d.render.meshes import render_albedo
from avatar3d.render.scene import compile_scene, labelled
from avatar3d.spec import AvatarSpec
from avatar3d.structures import PART_KINDS

POINTS = 49152
"""Labelled points of one avatar."""
UNIFORM, NEAR, FACE, EYES = 0.22, 0.40, 0.26, 0.12
"""Shares of them: anywhere in the box, near the surface, near the face, near the eyes."""
NEAR_JITTER, FACE_JITTER = (0.003, 0.014), (0.0015, 0.006)
"""Standard deviations of their distance from the surface, metres: half of the points each."""
FACE_HALF = (0.42, 0.42, 0.5)
"""Half size of the box around `WARP_CENTER` whose surface is the face, box units."""
EYE_MARGIN = 0.008
"""Around the eyeballs' visible part, metres."""
SURFACE_POINTS = 12000
"""Points exactly on the surface, kept for measuring."""
PICTURES = (0.0, math.radians(40.0))
"""Azimuths of the pictures."""
PICTURE = 256


def make_example(spec: AvatarSpec, generator: np.random.Generator) -> dict[str, np.ndarray]:
    """Everything the auto-encoder, the judge and the evaluation need of one avatar.

    `points` (N, 3) int16 and `surface` (M, 3) int16 in box coordinates times 32767; `distance` (N,) float16 in
    half heights of the box; `colors` (N, 3), `labels` (N,) (1 + index into `PART_KINDS`), `charts` and `pictures`
    (2, H, W, 4) uint8, their last channel coverage; `picture_labels` (2, H, W) uint8; `bounds` (2, 3) float32.
    """
    bust = build_bust(spec)
    scene = compile_scene(labelled(bust.parts))
    seen = see_surface(scene, bust.bounds)
    points = choose_points(seen, generator)
    truth = label_points(seen, points)
    low, high = seen.bounds
    pictures, labels = zip(*(_picture(scene, bust.bounds, azimuth) for azimuth in PICTURES), strict=True)
    on = generator.choice(len(seen.areas), SURFACE_POINTS, p=seen.areas / seen.areas.sum())
    return {
        "points": _box_numbers(points, low, high),
        "distance": (truth.distance * (2.0 / (high[1] - low[1]))).astype(np.float16),
        "colors": _bytes(truth.colors),
        "labels": truth.labels.astype(np.uint8),
        "surface": _box_numbers(seen.positions[on], low, high),
        "charts": draw_charts(seen),
        "pictures": np.stack(pictures),
        "picture_labels": np.stack(labels),
        "bounds": seen.bounds.astype(np.float32),
    }


def choose_points(seen: Surface, generator: np.random.Generator) -> np.ndarray:
    """(N, 3) world points inside the box at which the truth is asked for."""
    low, high = seen.bounds
    middle, half = (low + high) / 2, (high - low) / 2
    face = (np.abs((seen.positions - middle) / half - WARP_CENTER) < FACE_HALF).all(1)
    eyes = seen.labels == 1 + PART_KINDS.index("eyes")
    near_eyes = np.zeros_like(eyes)
    for side in (seen.positions[:, 0] < 0, seen.positions[:, 0] >= 0):
        if (ball := seen.positions[eyes & side]).size:
            inside = (seen.positions > ball.min(0) - EYE_MARGIN) & (seen.positions < ball.max(0) + EYE_MARGIN)
            near_eyes |= inside.all(1)
    chosen = [generator.uniform(low, high, (round(UNIFORM * POINTS), 3))]
    for mask, share, jitters in (
        (np.ones_like(face), NEAR, NEAR_JITTER),
        (face, FACE, FACE_JITTER),
        (near_eyes if near_eyes.any() else face, POINTS, FACE_JITTER),
    ):
        count = round(share * POINTS) if share < 1 else POINTS - sum(len(c) for c in chosen)
        rows = np.flatnonzero(mask)
        weight = seen.areas[rows]
        at = seen.positions[generator.choice(rows, count, p=weight / weight.sum())]
        size = np.where(np.arange(count) % 2 == 0, *jitters)[:, None]
        chosen.append(at + size * generator.standard_normal((count, 3)))
    return np.clip(np.concatenate(chosen), low, high)


def _picture(scene, bounds: torch.Tensor, azimuth: float) -> tuple[np.ndarray, np.ndarray]:
    """Material colors with coverage, and labels; what lies outside of the box is left out."""
    camera = bust_camera(bounds, azimuth, PICTURE)
    render = render_albedo(scene, camera, background=None)
    rgba = torch.cat([render.rgb, render.alpha[..., None]], dim=-1)
    return _bytes(rgba.numpy()), render.labels.numpy().astype(np.uint8)


def _box_numbers(points: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    return np.round(((points - low) * (2.0 / (high - low)) - 1.0) * 32767).astype(np.int16)


def _bytes(values: np.ndarray) -> np.ndarray:
    return np.round(255.0 * np.clip(values, 0, 1)).astype(np.uint8)
