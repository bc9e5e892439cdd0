"""The cap: a thin blended layer on the scalp that colors it and fades out at the hairline."""

from __future__ import annotations

import numpy as np
import torch

from avatar3d.engine.attach import Figure, rigid_skin
from avatar3d.engine.hair_chart import COLUMNS, ROWS, Scalp, inside_at, places_grid, scalp_chart
from avatar3d.engine.hair_texture import CAP_SHAPE, cap_noise, cap_texture, enlarge
from avatar3d.spec import AvatarSpec
from avatar3d.structures import Material, Mesh, Part

FADE = 0.010
"""Width over which the hairline fades, metres."""


def cap_part(spec: AvatarSpec, figure: Figure, scalp: Scalp) -> Part:
    """The scalp's grid lifted off the skin, painted in hair color inside the hairline."""
    places = places_grid(ROWS + 1, COLUMNS + 1)
    depth = inside_at(places.reshape(-1, 2)).reshape(places.shape[:2])
    lift = 0.0006 + 0.0016 * np.clip(depth / 0.015, 0, 1)
    points = scalp.points + scalp.normals * lift[..., None]
    grid = np.arange(points.shape[0] * points.shape[1]).reshape(points.shape[:2])
    a, b, c, d = grid[:-1, :-1], grid[:-1, 1:], grid[1:, :-1], grid[1:, 1:]
    faces = np.concatenate([np.stack([a, c, b], -1).reshape(-1, 3), np.stack([b, c, d], -1).reshape(-1, 3)])
    shown = depth.reshape(-1)[faces].max(axis=1) > -0.4 * FADE
    used, faces = np.unique(faces[shown], return_inverse=True)
    vertices = torch.from_numpy(points.reshape(-1, 3)[used].astype(np.float32))
    material = Material(
        "hair_cap",
        base_color_texture=cap_texture(spec, cap_cover(spec), 1.0, 0.0),
        roughness=0.7,
        alpha_mode="BLEND",
    )
    mesh = Mesh(
        vertices,
        torch.from_numpy(faces.reshape(-1, 3)),
        torch.from_numpy(scalp.normals.reshape(-1, 3)[used].astype(np.float32)),
        torch.from_numpy((0.01 + 0.98 * places.reshape(-1, 2)[used]).astype(np.float32)),
        material,
    )
    return Part("hair_cap", "hair", mesh, rigid_skin(figure, len(vertices)))


def cap_cover(spec: AvatarSpec) -> np.ndarray:
    """(256, 512) opacity of the cap."""
    depth = enlarge(scalp_chart().inside, CAP_SHAPE)
    lines, _ = cap_noise()
    return np.clip((depth + 0.003 * lines + 0.002) / FADE, 0, 1)
