"""A chart of the scalp: polar coordinates about the crown that name the same place on every head.

A place is (azimuth, row): azimuth in [0, 1] runs from the back over the avatar's right, the forehead (0.5) and its
left to the back again; row in [0, 1] runs from the crown to a little outside the hairline. The chart is laid once
on the reference head and tied to the template's faces, so it follows every body shape.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.ndimage import gaussian_filter1d, map_coordinates, maximum_filter1d
from scipy.spatial import cKDTree

from avatar3d.body.shape import shape_body
from avatar3d.body.template import load_masks
from avatar3d.engine.attach import Figure
from avatar3d.mesh.normals import vertex_normals
from avatar3d.spec import AvatarSpec

COLUMNS, ROWS = 72, 22
"""Cells of the chart's grid around and along."""
FINE = (256, 128)
"""Samples of `ScalpChart.inside` around and along."""

CENTER = np.array([0.0, 1.60, 0.05])
"""Inside the reference head, metres."""
TILT = 0.30
"""The crown lies this angle (radians) behind the vertical."""
UP = np.array([0.0, np.cos(TILT), -np.sin(TILT)])
FRONT = np.array([0.0, np.sin(TILT), np.cos(TILT)])
LEFT = np.array([1.0, 0.0, 0.0])

HAIRLINE = np.array([
    (0.000, 1.661, 0.137), (0.022, 1.662, 0.134), (0.040, 1.660, 0.123), (0.050, 1.652, 0.115),
    (0.056, 1.640, 0.108), (0.062, 1.628, 0.100), (0.066, 1.616, 0.092), (0.070, 1.602, 0.083),
    (0.071, 1.585, 0.077), (0.071, 1.568, 0.073), (0.071, 1.566, 0.066), (0.071, 1.580, 0.063),
    (0.073, 1.594, 0.060), (0.074, 1.601, 0.050), (0.074, 1.599, 0.038), (0.073, 1.588, 0.026),
    (0.070, 1.570, 0.020), (0.065, 1.552, 0.018), (0.058, 1.536, 0.014), (0.050, 1.526, 0.006),
    (0.034, 1.520, -0.008), (0.016, 1.516, -0.014), (0.000, 1.516, -0.015),
])  # fmt: skip
"""The left half of the hairline on the reference head, from the forehead to the nape (directions from CENTER)."""


@dataclass(frozen=True)
class ScalpChart:
    """The chart on the template; grids are (ROWS + 1, COLUMNS + 1, ...), first and last column coincide."""

    faces: np.ndarray
    """(R, C, 3) welded template vertices of the face under each node."""
    bary: np.ndarray
    """(R, C, 3)."""
    reference: np.ndarray
    """(R, C, 3) positions on the reference head."""
    inside: np.ndarray
    """(128, 256) metres inside the hairline, negative outside."""


@dataclass(frozen=True)
class Scalp:
    """The chart on one head. `size` is 1 for the reference head."""

    points: np.ndarray
    normals: np.ndarray
    size: float
    center: np.ndarray
    """Middle of the skull."""

    def at(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Positions and unit normals (N, 3) at places (N, 2) = (azimuth, row)."""
        cells = np.stack([places[:, 1] * ROWS, (places[:, 0].clip(0, 1)) * COLUMNS])
        points, normals = (
            np.stack([map_coordinates(a[..., i], cells, order=1, mode="nearest") for i in range(3)], axis=1)
            for a in (self.points, self.normals)
        )
        return points, unit(normals)


def unit(v: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1."""
    return v / np.maximum(np.linalg.norm(v, axis=-1, keepdims=True), 1e-12)


def inside_at(places: np.ndarray) -> np.ndarray:
    """(N,) metres inside the hairline at places (N, 2)."""
    field = scalp_chart().inside
    cells = np.stack([places[:, 1] * field.shape[0] - 0.5, places[:, 0].clip(0, 1) * field.shape[1] - 0.5])
    return map_coordinates(field, cells, order=1, mode="nearest")


def places_grid(rows: int, columns: int) -> np.ndarray:
    """(rows, columns, 2) places that span the chart evenly, ends included."""
    v, u = np.meshgrid(np.linspace(0, 1, rows), np.linspace(0, 1, columns), indexing="ij")
    return np.stack([u, v], axis=-1)


def scalp_of(figure: Figure) -> Scalp:
    """The chart laid on one person's head, rounded between the template's vertices."""
    chart = scalp_chart()
    points, normals = on_faces(figure, chart.faces.reshape(-1, 3), chart.bary.reshape(-1, 3))
    points, normals = (a.reshape(*chart.faces.shape[:2], 3) for a in (points, normals))
    spans = [np.ptp(p.reshape(-1, 3), axis=0) for p in (points, chart.reference)]
    return Scalp(points, normals, float((spans[0] / spans[1]).mean()), points.reshape(-1, 3).mean(axis=0))


def on_faces(figure: Figure, faces: np.ndarray, bary: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points and unit normals at barycentrics (N, 3) of faces (N, 3), on the surface rounded by the normals.

    Phong tessellation (Boubekeur and Alexa 2008) with shape factor 3/4, outwards only.
    """
    vertices, normals = figure.vertices.numpy()[faces], figure.normals.numpy()[faces]
    flat = (vertices * bary[..., None]).sum(axis=1)
    heights = ((flat[:, None] - vertices) * normals).sum(axis=-1, keepdims=True)
    curved = ((flat[:, None] - heights * normals) * bary[..., None]).sum(axis=1)
    normal = unit((normals * bary[..., None]).sum(axis=1))
    rise = np.maximum(((curved - flat) * normal).sum(axis=1, keepdims=True), 0)
    return flat + 0.75 * rise * normal, normal


@cache
def scalp_chart() -> ScalpChart:
    """Lay the chart on the reference head."""
    outline = _angles(_outline())
    azimuth = np.linspace(-np.pi, np.pi, COLUMNS + 1)
    reach = _reach(outline, azimuth)
    phi = np.linspace(0, 1, ROWS + 1)[:, None] * reach
    rays = _directions(np.broadcast_to(azimuth, phi.shape), phi).reshape(-1, 3)
    faces, bary, points = cast_rays(CENTER, rays, outermost=False)
    shape = (*phi.shape, 3)
    return ScalpChart(
        faces.reshape(shape), bary.reshape(shape), points.reshape(shape), _inside(outline, azimuth, reach)
    )


def _outline() -> np.ndarray:
    """Closed hairline (N, 3), densely sampled."""
    right = HAIRLINE[-2:0:-1] * [-1, 1, 1]
    ring = np.concatenate([HAIRLINE, right, HAIRLINE[:1]])
    steps = np.linspace(0, len(ring) - 1, 20 * (len(ring) - 1), endpoint=False)
    return np.stack([np.interp(steps, np.arange(len(ring)), ring[:, i]) for i in range(3)], axis=1)


def _angles(points: np.ndarray) -> np.ndarray:
    """(azimuth, angle from the crown) of points, radians."""
    d = unit(points - CENTER)
    return np.stack([np.arctan2(d @ LEFT, d @ FRONT), np.arccos(np.clip(d @ UP, -1, 1))], axis=-1)


def _directions(azimuth: np.ndarray, phi: np.ndarray) -> np.ndarray:
    ring = np.cos(azimuth)[..., None] * FRONT + np.sin(azimuth)[..., None] * LEFT
    return np.cos(phi)[..., None] * UP + np.sin(phi)[..., None] * ring


def _reach(outline: np.ndarray, azimuth: np.ndarray) -> np.ndarray:
    """Largest angle from the crown in each column: a margin outside the hairline."""
    width = azimuth[1] - azimuth[0]
    lowest = np.array([outline[np.abs(_wrap(outline[:, 0] - a)) < 0.8 * width, 1].max(initial=0) for a in azimuth])
    lowest = maximum_filter1d(lowest[:-1], 3, mode="wrap")
    smooth = gaussian_filter1d(lowest + 0.14, 0.8, mode="wrap")
    return np.append(smooth, smooth[0])


def _wrap(angle: np.ndarray) -> np.ndarray:
    return (angle + np.pi) % (2 * np.pi) - np.pi


def _inside(outline: np.ndarray, azimuth: np.ndarray, reach: np.ndarray) -> np.ndarray:
    """Signed distance to the hairline over the chart, metres (a skull of 10 cm radius)."""
    columns = (np.arange(FINE[0]) + 0.5) / FINE[0] * 2 * np.pi - np.pi
    rows = (np.arange(FINE[1]) + 0.5) / FINE[1]
    phi = rows[:, None] * np.interp(columns, azimuth, reach)
    flat = _plane(np.broadcast_to(columns, phi.shape), phi).reshape(-1, 2)
    ring = _plane(outline[:, 0], outline[:, 1])
    nodes = _directions(np.broadcast_to(columns, phi.shape), phi).reshape(-1, 3)
    distance = 0.1 * cKDTree(_directions(outline[:, 0], outline[:, 1])).query(nodes)[0]
    return np.where(_contains(ring, flat), distance, -distance).reshape(phi.shape)


def _plane(azimuth: np.ndarray, phi: np.ndarray) -> np.ndarray:
    return np.stack([phi * np.sin(azimuth), phi * np.cos(azimuth)], axis=-1)


def _contains(ring: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Even-odd rule of a closed polygon."""
    inside = np.zeros(len(points), dtype=bool)
    x, y = points.T
    for (x0, y0), (x1, y1) in zip(ring[::4], np.roll(ring[::4], -1, axis=0), strict=True):
        if y0 != y1:
            inside ^= ((y0 > y) != (y1 > y)) & (x < (x1 - x0) * (y - y0) / (y1 - y0) + x0)
    return inside


@dataclass(frozen=True)
class ReferenceHead:
    """The head on which charts are laid out: the default spec's."""

    vertices: np.ndarray
    normals: np.ndarray
    faces: np.ndarray
    """(F, 3) skin triangles above the shoulders, without the inside of the mouth."""
    ears: np.ndarray
    """(V,) share of ear at each welded vertex."""


@cache
def reference_head() -> ReferenceHead:
    """The default spec's head and its ears."""
    body = shape_body(AvatarSpec())
    corner, uv, faces = body.template.surface("body")
    skin = corner[faces]
    normals = vertex_normals(body.vertices, skin).numpy()
    vertices = body.vertices.numpy()
    welded = skin.numpy()
    cells = np.stack([uv[:, 1].numpy(), uv[:, 0].numpy()])
    ears, mouth = (_at_vertices(load_masks()[name].numpy(), cells, corner.numpy(), len(vertices)) for name in
                   ("ears", "inside-mouth"))  # fmt: skip
    outside = (vertices[welded][:, :, 1].min(axis=1) > 1.40) & (mouth[welded].min(axis=1) < 0.5)
    return ReferenceHead(vertices, normals, welded[outside], ears)


def _at_vertices(mask: np.ndarray, cells: np.ndarray, corner: np.ndarray, count: int) -> np.ndarray:
    """Largest value of a picture at the texture coordinates (v, u) of each welded vertex."""
    size = np.array(mask.shape)[:, None]
    values = np.zeros(count)
    np.maximum.at(values, corner, map_coordinates(mask, cells * size - 0.5, order=1, mode="nearest"))
    return values


def cast_rays(
    origin: np.ndarray, rays: np.ndarray, outermost: bool, candidates: int = 48
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where rays (N, 3) from a point in the reference head leave it: faces (N, 3), barycentrics (N, 3), points.

    Only the faces whose middles are nearest in direction are tested (Moeller and Trumbore 1997). A ray that finds
    none takes the nearest face's middle.
    """
    head = reference_head()
    corners = head.vertices[head.faces]
    middles = unit(corners.mean(axis=1) - origin)
    near = cKDTree(middles).query(unit(rays), k=candidates)[1]
    a, b, c = (corners[near, i] for i in range(3))
    e1, e2, ray = b - a, c - a, unit(rays)[:, None]
    p = np.cross(ray, e2)
    det = (e1 * p).sum(-1)
    det = np.where(np.abs(det) < 1e-14, 1e-14, det)
    s = origin - a
    u = (s * p).sum(-1) / det
    q = np.cross(s, e1)
    v = (ray * q).sum(-1) / det
    distance = (e2 * q).sum(-1) / det
    hit = (u >= -1e-4) & (v >= -1e-4) & (u + v <= 1 + 1e-4) & (distance > 0.03)
    order = np.where(hit, -distance if outermost else distance, np.inf)
    best = order.argmin(axis=1)
    rows = np.arange(len(rays))
    found = np.isfinite(order[rows, best])
    best = np.where(found, best, 0)
    u, v = (np.where(found, x[rows, best], 1 / 3).clip(0, 1) for x in (u, v))
    bary = np.stack([1 - u - v, u, v], axis=1).clip(0, 1)
    bary /= bary.sum(axis=1, keepdims=True)
    faces = head.faces[near[rows, best]]
    return faces, bary, (head.vertices[faces] * bary[..., None]).sum(axis=1)
