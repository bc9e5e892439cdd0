"""A shoe's last: rings around the foot from the sole to the collar, smooth over the toes.

Rings are planes that pivot about a lateral axis under the ankle: the front of ring k climbs from the toe tip over
the instep, its back from the heel up the tendon. Each ring is the convex outline of the foot near its plane.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from avatar3d.engine.attach import Figure
from avatar3d.engine.garment_fields import joint_weight, reference, template_fields
from avatar3d.mesh.weight_transfer import closest_on_triangles

Array = np.ndarray

AROUND = 32
"""Points of a ring; number 0 is in front, a quarter is on the outer side."""
DIRECTIONS = 48
WINDOW = np.radians(5.0)


@dataclass(frozen=True)
class Last:
    """The left foot's last in the avatar's frame."""

    rings: Array
    """(K, AROUND, 3), from the sole upwards."""
    outward: Array
    """(K, AROUND, 3) unit normals."""
    forward: Array
    """(3,) from heel to toes, level."""
    lateral: Array
    """(3,) to the foot's outer side, level."""
    length: float
    origin: Array
    """(3,) on the ground below the ankle."""

    def at(self, ring: Array, turn: Array, out: Array | float = 0.0) -> Array:
        """Points at fractional ring and turn (0 front, 0.25 outer side, 0.5 back), pushed outwards."""
        count = len(self.rings)
        ring = np.clip(np.asarray(ring, float), 0, count - 1)
        place = (np.asarray(turn, float) % 1.0) * AROUND
        i, j = np.minimum(ring.astype(int), count - 2), place.astype(int)
        a, b = (ring - i)[..., None], (place - j)[..., None]
        j0, j1 = j % AROUND, (j + 1) % AROUND

        def mix(grid: Array) -> Array:
            low = grid[i, j0] * (1 - b) + grid[i, j1] * b
            return low * (1 - a) + (grid[i + 1, j0] * (1 - b) + grid[i + 1, j1] * b) * a

        return mix(self.rings) + np.asarray(out)[..., None] * mix(self.outward)


@cache
def foot_vertices(up_to: float) -> Array:
    """Template vertices of the left foot and leg below a height of the reference body."""
    f = template_fields()
    chosen = np.flatnonzero((joint_weight("leftFoot", "leftToes", "leftLowerLeg") > 0.5) & (f.y < up_to))
    return np.intersect1d(chosen, reference().skin_vertices)


@cache
def _sole_vertices() -> Array:
    return np.intersect1d(foot_vertices(0.035), reference().skin_vertices)


def make_last(figure: Figure, front_top: float, back_top: float, rings: int, room: float, toe_room: float) -> Last:
    """Measure the left foot.

    The collar's front and back are at `front_top` and `back_top` times the height of the ankle joint; `room` and
    `toe_room` are the metres that the shoe adds all around and in front of the toes.
    """
    vertices = figure.vertices.numpy().astype(np.float64)
    sole = vertices[_sole_vertices()]
    ankle = figure.body.bone("leftFoot").numpy().astype(np.float64)
    flat = sole[:, [0, 2]] - sole[:, [0, 2]].mean(axis=0)
    main = np.linalg.svd(flat, full_matrices=False)[2][0]
    main *= np.sign(main[1])
    forward = np.array([main[0], 0.0, main[1]])
    lateral = np.cross(np.array([0.0, 1.0, 0.0]), forward)
    origin = np.array([ankle[0], 0.0, ankle[2]])
    points = vertices[foot_vertices(0.30)] - origin
    t, side, h = points @ forward, points @ lateral, np.maximum(points[:, 1], 0.0)
    length = float(t.max() - t.min())
    t = t - 0.02 * length  # the pivot lies a little before the ankle
    origin = origin + 0.02 * length * forward
    share = np.linspace(0.0, 1.0, rings)
    front = _angle(t, h, front_top * ankle[1], 1.0) * share**1.15
    back = np.pi - (np.pi - _angle(t, h, back_top * ankle[1], -1.0)) * share
    polar, radius = np.arctan2(h, t), np.hypot(t, h)
    front_radius, back_radius = (
        _reach(polar[low], radius[low], angles)  # a narrow window of angles spans much of an upright shin
        for low, angles in ((h < front_top * ankle[1] + 0.010, front), (h < back_top * ankle[1] + 0.010, back))
    )
    grown = front_radius + room + toe_room * np.clip(1 - share / 0.35, 0, 1)
    f = np.stack([grown * np.cos(front), (front_radius + room) * np.sin(front)], axis=1)
    b = (back_radius + room)[:, None] * np.stack([np.cos(back), np.sin(back)], axis=1)
    out = np.stack([_ring(t, side, h, f[k], b[k], room) for k in range(rings)])
    out = _even(out, 3)
    world = origin + out[..., :1] * forward + out[..., 1:2] * lateral + out[..., 2:] * np.array([0.0, 1.0, 0.0])
    world = _around_leg(world, figure, 0.5 * room, float(ankle[1]))
    return Last(world, _normals(world), forward, lateral, length, origin)


def _around_leg(rings: Array, figure: Figure, room: float, ankle: float) -> Array:
    """Rings pushed out of the leg to `room` metres over the skin, above the ankle: below it toes would push."""
    skin, normals = (t.numpy().astype(np.float64) for t in (figure.vertices, figure.normals))
    points = rings.reshape(-1, 3)
    high = np.clip((points[:, 1] / ankle - 0.6) / 0.3, 0.0, 1.0)
    for _ in range(4):
        face, bary = closest_on_triangles(points, skin, _leg_faces())
        corners = _leg_faces()[face]
        base, normal = ((a[corners] * bary[..., None]).sum(axis=1) for a in (skin, normals))
        out = normal * np.array([1.0, 0.0, 1.0])
        out /= np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-9)
        lack = high * np.clip(room - ((points - base) * normal).sum(axis=1), 0.0, 0.012)
        grid = lack.reshape(rings.shape[:2])  # the leg bulges between rings as well
        wide = np.maximum(grid, 0.8 * np.maximum(np.roll(grid, 1, 1), np.roll(grid, -1, 1)))
        wide[1:-1] = np.maximum(wide[1:-1], 0.8 * np.maximum(wide[:-2], wide[2:]))
        points = points + (high * wide.reshape(-1))[:, None] * out
    return points.reshape(rings.shape)


@cache
def _leg_faces() -> Array:
    """Skin triangles of the left foot and leg up to the knee."""
    faces = reference().skin_faces.numpy()
    return faces[np.isin(faces, foot_vertices(0.40)).all(axis=1)]


def _angle(t: Array, h: Array, height: float, sign: float) -> float:
    """Polar angle of the front (sign 1) or the back (-1) of the leg at a height."""
    off = np.abs(h - height)
    outermost = (sign * t[off < max(0.012, off.min() + 0.004)]).max()
    return float(np.arctan2(height, sign * outermost))


def _reach(polar: Array, radius: Array, angles: Array) -> Array:
    """Largest radius in a window about each angle, smoothed."""
    near = np.abs(polar[None] - angles[:, None]) < WINDOW
    reach = np.where(near, radius[None], 0.0).max(axis=1)
    for _ in range(2):
        padded = np.pad(reach, 1, mode="edge")
        reach = np.maximum(reach * 0.999, 0.25 * padded[:-2] + 0.5 * padded[1:-1] + 0.25 * padded[2:])
    return reach


def _ring(t: Array, side: Array, h: Array, front: Array, back: Array, room: float) -> Array:
    """(AROUND, 3) along, lateral, height: the convex outline of the points near a plane through front and back."""
    center, axis = (front + back) / 2, front - back
    reach = np.linalg.norm(axis) / 2
    axis = axis / (2 * reach)
    off = (t - center[0]) * -axis[1] + (h - center[1]) * axis[0]
    along = (t - center[0]) * axis[0] + (h - center[1]) * axis[1]
    near = np.abs(off) < 0.025
    angle = 2 * np.pi * np.arange(DIRECTIONS) / DIRECTIONS
    wide = max(float(np.abs(side[near]).max()) if near.any() else 0.03, 0.02)
    normals = np.stack([np.cos(angle) / reach, np.sin(angle) / wide], axis=1)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    inside = np.stack([np.clip(along[near], -reach, reach), side[near]], axis=1)
    support = (normals @ inside.T - 0.45 * np.abs(off[near])[None]).max(axis=1) + room
    turn = 2 * np.pi * np.arange(AROUND) / AROUND
    direction = np.stack([np.cos(turn) * reach, np.sin(turn) * wide], axis=1)
    facing = direction @ normals.T
    scale = np.where(facing > 1e-9, support[None] / np.maximum(facing, 1e-9), np.inf).min(axis=1)
    plane = direction * scale[:, None]
    plane[:, 0] = np.clip(plane[:, 0], -reach, reach)
    level = center[None] + plane[:, :1] * axis[None]
    return np.stack([level[:, 0], plane[:, 1], np.maximum(level[:, 1], 0.0)], axis=1)


def _even(rings: Array, sweeps: int) -> Array:
    """Smooth along and across the rings; the lowest and the highest stay."""
    for _ in range(sweeps):
        around = 0.25 * np.roll(rings, 1, 1) + 0.5 * rings + 0.25 * np.roll(rings, -1, 1)
        across = around.copy()
        across[1:-1] = 0.25 * around[:-2] + 0.5 * around[1:-1] + 0.25 * around[2:]
        rings = across
    return rings


def _normals(rings: Array) -> Array:
    """Outward unit normals of a grid of rings."""
    around = np.roll(rings, -1, 1) - np.roll(rings, 1, 1)
    padded = np.concatenate([2 * rings[:1] - rings[1:2], rings, 2 * rings[-1:] - rings[-2:-1]])
    up = padded[2:] - padded[:-2]
    n = np.cross(around, up)
    n /= np.maximum(np.linalg.norm(n, axis=-1, keepdims=True), 1e-12)
    center = rings.mean(axis=1, keepdims=True)
    outside = np.sign((n * (rings - center)).sum(-1).mean())
    return n * outside
