"""The cap: a thin blended layer on the scalp that colors it and fades out at the hairline."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from scipy.ndimage import map_coordinates

from avatar3d.engine.attach import Figure, rigid_skin
from avatar3d.engine.hair_chart import COLUMNS, ROWS, Scalp, inside_at, places_grid, scalp_chart
from avatar3d.engine.hair_short import horseshoe
from avatar3d.engine.hair_texture import CAP_SHAPE, cap_noise, cap_texture, enlarge, fine_noise
from avatar3d.mesh.normals import with_area
from avatar3d.spec import AvatarSpec
from avatar3d.structures import Material, Mesh, Part

FADE = 0.010
"""Width over which the hairline fades, metres."""


def cap_part(spec: AvatarSpec, figure: Figure, scalp: Scalp) -> Part:
    """The scalp's grid lifted off the skin, painted in hair color inside the hairline."""
    places = places_grid(ROWS + 1, COLUMNS + 1)
    depth = inside_at(places.reshape(-1, 2)).reshape(places.shape[:2])
    lift = 0.0004 + 0.0014 * np.clip(depth / 0.03, 0, 1)
    points = scalp.points + scalp.normals * lift[..., None]
    grid = np.arange(points.shape[0] * points.shape[1]).reshape(points.shape[:2])
    a, b, c, d = grid[:-1, :-1], grid[:-1, 1:], grid[1:, :-1], grid[1:, 1:]
    faces = np.concatenate([np.stack([a, c, b], -1).reshape(-1, 3), np.stack([b, c, d], -1).reshape(-1, 3)])
    shown = depth.reshape(-1)[faces].max(axis=1) > -0.4 * FADE
    used, faces = np.unique(with_area(points.reshape(-1, 3), faces[shown]), return_inverse=True)
    vertices = torch.from_numpy(points.reshape(-1, 3)[used].astype(np.float32))
    shaven = spec.hair_style in ("buzz", "mohawk", "balding")
    streaks, stubble = (0.25, 0.45) if shaven else (1.0, 0.0)
    material = Material(
        "hair_cap",
        base_color_texture=cap_texture(spec, cap_cover(spec), streaks, stubble),
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


PARTINGS = {"side_part": 0.034, "bob": 0.025, "long_straight": 0.0, "long_wavy": 0.018, "braids": 0.0}
"""x of the parting on the reference head, metres."""


def cap_cover(spec: AvatarSpec) -> np.ndarray:
    """(256, 1024) opacity of the cap."""
    depth = enlarge(scalp_chart().inside, CAP_SHAPE)
    lines, _ = cap_noise()
    soft = 1.3 if spec.hair_style in ("buzz", "mohawk") else 1.0
    cover = np.clip((depth + 0.0015 * lines + 0.003) / (FADE * soft), 0, 1)
    x, y, z = reference_maps()
    if spec.hair_style in PARTINGS:
        line = np.abs(x - PARTINGS[spec.hair_style] - 0.0008 * lines)
        cover = cover * (1 - 0.75 * np.clip(1 - line / 0.0016, 0, 1) * ((z > 0.0) & (y > 1.62)))
    if spec.hair_style == "balding":
        cover = cover * np.clip((horseshoe(np.stack([x, y, z], axis=-1)) + 0.002 * lines) / 0.03, 0, 1)
    if spec.hair_style == "buzz":
        cover = cover * np.clip(0.84 + 0.06 * fine_noise(), 0, 1)
    if spec.hair_style == "mohawk":
        crest = np.clip((0.020 - np.abs(x)) / 0.006, 0, 1)
        cover = cover * np.maximum(crest, 0.64 + 0.07 * fine_noise())
    return cover


@cache
def reference_maps() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x, y and z (256, 1024) on the reference head over the chart."""
    grid = scalp_chart().reference
    rows, columns = (np.arange(n) / (n - 1) * (m - 1) for n, m in zip(CAP_SHAPE, grid.shape[:2], strict=True))
    cells = np.stack(np.meshgrid(rows, columns, indexing="ij"))
    return tuple(map_coordinates(grid[..., i], cells, order=1) for i in range(3))  # type: ignore[return-value]
