"""Eyelids that close on every face and never cut the eyeball.

The lids are a regular polar grid around the eye: ring 0 hides inside the eyeball, ring 1 touches it, ring 3 is the
margin where the lashes grow, further rings are the lid's skin. Every ring has the same number of columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from avatar3d.body.template import Template, mirror_map, symmetric_actions

RINGS = 12
MARGIN = 3
OUTER_CORNER = 14
CLEARANCE = np.array([-1.0, -0.0002, 0.0004, 0.0006] + [0.0008] * (RINGS - 3))
"""Least distance (metres) from the eyeball to each ring of a closed lid on the template; ring 0 is free."""
REST_CLEARANCE = 0.0003
"""The same for rings 2 and beyond of an open lid."""
OVERLAP = 0.0001
"""Metres by which the closed upper margin passes the lower one."""
LOWER_LIFT = 0.1
"""Share of the opening that the lower lid covers in a blink."""
PUSH_LIMIT = 0.003


@dataclass(frozen=True)
class _Lids:
    """One eye's lid grid; columns 0 and `OUTER_CORNER` are the corners, the lower lid lies between them."""

    grid: np.ndarray
    """(RINGS + 1, C) vertices."""
    follow: np.ndarray
    """(RINGS + 1, C) how much each vertex shares a correction of its column's margin in a blink."""
    lashes: np.ndarray
    """(L,) lash vertices."""
    lash_columns: np.ndarray
    """(L, 2) margin columns that a lash vertex is rooted between."""
    lash_weights: np.ndarray
    """(L, 2)"""
    eye: np.ndarray
    """(E,) eyeball vertices."""
    eye_directions: np.ndarray
    """(E, 3) unit vectors from the eyeball's centre."""
    radius: float


def eye_sphere(template: Template, vertices: np.ndarray, side: str) -> tuple[np.ndarray, float]:
    """Centre (3,) and radius of the sphere that best fits one eyeball's vertices (least squares), metres."""
    eye = vertices[template.surface_vertices(f"eye_{side}").numpy()].astype(np.float64)
    middle = eye.mean(axis=0)
    around = eye - middle
    fit = np.linalg.lstsq(np.c_[2 * around, np.ones(len(around))], (around**2).sum(axis=1), rcond=None)[0]
    return middle + fit[:3], float(np.sqrt(fit[3] + fit[:3] @ fit[:3]))


def lid_grid(template: Template, side: str) -> np.ndarray:
    """(RINGS + 1, C) vertices of one eye's lids, see the module; columns as in `lid_margin`."""
    return _lids(template, side).grid


def lid_margin(template: Template, side: str) -> np.ndarray:
    """(C,) vertices around one eye where lashes grow: the inner corner, the lower lid, the outer corner (column
    `OUTER_CORNER`), then the upper lid back to the inner corner."""
    return _lids(template, side).grid[MARGIN]


def round_eye(template: Template, vertices: np.ndarray, side: str) -> None:
    """Make one eyeball a sphere (head shapes stretch it a little) and keep the open lids off it, in place."""
    lids = _lids(template, side)
    center, radius = eye_sphere(template, vertices, side)
    vertices[lids.eye] = center + radius * lids.eye_directions
    hidden, skin = lids.grid[0], lids.grid[2:]
    vertices[hidden] = center + _inside(vertices[hidden] - center, radius - REST_CLEARANCE)
    vertices[skin] = center + _outside(vertices[skin] - center, np.array(radius + REST_CLEARANCE))


def seat(template: Template, vertices: np.ndarray, deltas: np.ndarray, moving: np.ndarray, side: str) -> None:
    """Correct the lids of one eye in all actions, in place.

    `deltas` is (A, M, 3) over the vertices `moving` (M,). A full `eyeBlink` brings the margins together; no action
    takes a lid vertex into the eyeball; half a blink does not either. Lashes follow their margin.
    """
    lids = _lids(template, side)
    center, radius = eye_sphere(template, vertices, side)
    rest = vertices[lids.grid].astype(np.float64) - center
    at = np.searchsorted(moving, lids.grid)
    raw = deltas[:, at]
    floor = radius + CLEARANCE[:, None] * (radius / lids.radius)
    blink = template.action_names.index(f"eyeBlink{side.capitalize()}")
    new = raw.copy()
    new[blink] = _closed(lids, rest, raw[blink]) - rest
    moves = np.linalg.norm(raw, axis=-1) > 1e-7
    moves[blink] = True
    own_floor = np.minimum(np.minimum(floor, radius + REST_CLEARANCE), np.linalg.norm(rest, axis=-1))
    for action in np.flatnonzero(moves.any(axis=(1, 2))):
        target = _outside(rest + new[action], floor if action == blink else own_floor)
        target = _outside_halfway(rest, target, np.minimum(own_floor, radius + 0.0002))
        new[action] = np.where(moves[action][..., None], target - rest, 0.0)
    new[:, 0] = raw[:, 0] + (new[:, 1] - raw[:, 1])
    deltas[:, at] = new
    change = (new - raw)[:, MARGIN]
    lash_change = (change[:, lids.lash_columns] * lids.lash_weights[..., None]).sum(axis=2)
    deltas[:, np.searchsorted(moving, lids.lashes)] += lash_change


def _closed(lids: _Lids, rest: np.ndarray, raw: np.ndarray) -> np.ndarray:
    """Grid positions (R, C, 3) in a full blink: the upper margin meets the slightly raised lower one."""
    columns = rest.shape[1]
    lower, upper = np.arange(OUTER_CORNER + 1), np.arange(OUTER_CORNER + 1, columns)
    corner_in, corner_out = rest[MARGIN, 0], rest[MARGIN, OUTER_CORNER]
    across = corner_out - corner_in
    across /= np.linalg.norm(across)
    place = (rest - corner_in) @ across
    closed = rest + raw
    ring = np.arange(len(rest))[:, None]
    fade = np.clip(1 - (ring - MARGIN) / 6.0, 0, 1)
    path_up = np.concatenate([[0], upper[::-1], [OUTER_CORNER]])
    lift = np.zeros((len(lower), 3))
    for c in range(3):
        lift[:, c] = np.interp(place[MARGIN, lower], place[MARGIN, path_up], rest[MARGIN, path_up, c])
    lift = LOWER_LIFT * (lift - rest[MARGIN, lower])
    lift[[0, -1]] = 0
    closed[:, lower] += fade[..., None] * lift
    down = np.cross(across, [0.0, 0.0, 1.0])
    down *= -np.sign(down[1]) * OVERLAP / np.linalg.norm(down)
    target = np.empty((MARGIN + 1, len(upper), 3))
    for k in range(MARGIN + 1):
        along = np.maximum.accumulate(place[k, lower])
        for c in range(3):
            target[k, :, c] = np.interp(place[MARGIN, upper], along, closed[k, lower, c]) + down[c]
    change = target[MARGIN] - closed[MARGIN, upper]
    closed[MARGIN + 1 :, upper] += lids.follow[MARGIN + 1 :, upper, None] * change
    closed[1 : MARGIN + 1, upper] = target[1:]
    return closed


def _outside(points: np.ndarray, floor: np.ndarray) -> np.ndarray:
    """Points moved radially to at least `floor` from the origin."""
    distance = np.linalg.norm(points, axis=-1)
    return points * np.maximum(1.0, floor / np.maximum(distance, 1e-9))[..., None]


def _inside(points: np.ndarray, ceiling: float) -> np.ndarray:
    """Points moved radially to at most `ceiling` from the origin."""
    distance = np.linalg.norm(points, axis=-1)
    return points * np.minimum(1.0, ceiling / np.maximum(distance, 1e-9))[..., None]


def _outside_halfway(rest: np.ndarray, end: np.ndarray, floor: np.ndarray) -> np.ndarray:
    """Ends moved so that the middle of the straight way from `rest` also keeps to `floor`."""
    middle = (rest + end) / 2
    distance = np.linalg.norm(middle, axis=-1)
    lack = np.clip(floor - distance, 0, PUSH_LIMIT / 2)
    return end + middle * (2 * lack / np.maximum(distance, 1e-9))[..., None]


@cache
def _lids(template: Template, side: str) -> _Lids:
    points = template.vertices.numpy().astype(np.float64)
    mirror = mirror_map(template).numpy()
    center, radius = eye_sphere(template, points, "left")
    grid = _grid(template, points, center, radius)
    blink = symmetric_actions(template).numpy()[template.action_names.index("eyeBlinkLeft")]
    share = np.linalg.norm(blink[grid], axis=-1)
    follow = np.clip(share / np.maximum(share[MARGIN], 1e-4), 0, 1)
    follow = np.minimum.accumulate(np.concatenate([np.ones_like(follow[: MARGIN + 1]), follow[MARGIN + 1 :]]))
    lashes = template.surface_vertices("lashes").numpy()
    lashes = lashes[points[lashes, 0] > 0]
    columns, weights = _lash_roots(template, points, grid, lashes)
    if side == "right":
        grid, lashes = mirror[grid], mirror[lashes]
    eye = template.surface_vertices(f"eye_{side}").numpy()
    directions = points[eye] - eye_sphere(template, points, side)[0]
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return _Lids(grid, follow, lashes, columns, weights, eye, directions, radius)


def _grid(template: Template, points: np.ndarray, center: np.ndarray, radius: float) -> np.ndarray:
    """(RINGS + 1, C) vertices of the left eye's lids; column 0 is the inner corner, the lower lid comes first."""
    corner, _, triangles = template.surface("body")
    faces = corner[triangles].numpy()
    count = len(points)
    ends = np.stack([faces.ravel(), np.roll(faces, 1, axis=1).ravel()])
    edges = coo_array((np.ones(ends.shape[1]), ends), (count, count)).tocsr()
    edges = edges + edges.T
    skin = np.unique(faces)
    hidden = skin[np.linalg.norm(points[skin] - center, axis=1) < radius - 5e-5]
    others = np.setdiff1d(skin, hidden)
    _, label = connected_components(edges[others][:, others], directed=False)
    outside = np.zeros(count, dtype=bool)
    outside[others[label == np.bincount(label).argmax()]] = True
    rings = [_loop(edges, hidden, points)]
    seen = np.zeros(count, dtype=bool)
    seen[hidden] = True
    for _ in range(RINGS):
        ring = np.unique(edges[rings[-1]].indices)
        ring = ring[outside[ring] & ~seen[ring]]
        seen[ring] = True
        rings.append(_aligned(_loop(edges, ring, points), rings[-1], points))
    grid = np.stack(rings)
    start = int((points[grid[MARGIN], 0]).argmin())
    grid = np.roll(grid, -start, axis=1)
    quarter = grid.shape[1] // 4
    if points[grid[MARGIN, quarter], 1] > points[grid[MARGIN, -quarter], 1]:
        grid = np.roll(grid[:, ::-1], 1, axis=1)
    return grid


def _loop(edges, ring: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The ring's vertices in order around it."""
    inside = edges[ring][:, ring].tolil().rows
    order = [0]
    while len(order) < len(ring):
        order.append(next(i for i in inside[order[-1]] if i not in order))
    return ring[order]


def _aligned(loop: np.ndarray, inner: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The loop turned (and reversed) so that its columns lie nearest to those of the next inner one."""
    turned = [np.roll(way, k) for way in (loop, loop[::-1]) for k in range(len(loop))]
    gaps = [np.linalg.norm(points[t] - points[inner], axis=1).sum() for t in turned]
    return turned[int(np.argmin(gaps))]


def _lash_roots(template: Template, points: np.ndarray, grid: np.ndarray, lashes: np.ndarray):
    """Margin columns and weights that carry each lash vertex: those its strip of lashes is rooted at."""
    margin = points[grid[MARGIN]]
    lower = np.zeros(len(margin), dtype=bool)
    lower[1:OUTER_CORNER] = True
    corner, _, triangles = template.surface("lashes")
    faces = corner[triangles].numpy()
    ends = np.stack([faces.ravel(), np.roll(faces, 1, axis=1).ravel()])
    links = coo_array((np.ones(ends.shape[1]), ends), (len(points), len(points))).tocsr()
    _, label = connected_components(links, directed=False)
    columns, weights = np.zeros((len(lashes), 2), dtype=int), np.zeros((len(lashes), 2))
    middle = margin[:, 1].mean()
    for strip in np.unique(label[lashes]):
        own = np.flatnonzero(label[lashes] == strip)
        is_lower = points[lashes[own], 1].mean() < middle
        allowed = np.flatnonzero(lower == is_lower)
        distance = np.abs(points[lashes[own], 0][:, None] - margin[allowed, 0])
        best = np.argsort(distance, axis=1, kind="stable")[:, :2]
        near = np.take_along_axis(distance, best, 1)
        columns[own] = allowed[best]
        weights[own] = near[:, ::-1] / np.maximum(near.sum(axis=1, keepdims=True), 1e-9)
    return columns, weights
