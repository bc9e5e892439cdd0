"""Strands grown over a body, and the ribbons and tubes that follow them.

S strands of K points are arrays (S, K, 3), root first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial import cKDTree

from avatar3d.engine.attach import Figure
from avatar3d.engine.hair_chart import Scalp, reference_head, unit

Field = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(points (N, 3), surface normals (N, 3)) -> wished directions (N, 3)."""


@dataclass(frozen=True)
class Obstacle:
    """The body that hair must stay outside of."""

    tree: cKDTree
    points: np.ndarray
    normals: np.ndarray
    ears: tuple[tuple[np.ndarray, np.ndarray], ...]
    """(middle, radii) of an ellipsoid around each ear."""
    shoulder: float
    """Height below which clothes need room, metres."""
    chest: tuple[float, float]
    """z of the body's front and back just below the shoulders, beside the neck."""

    def distance(self, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Signed distance (N,) to the body without ears, and its gradient (N, 3)."""
        d, near = self.tree.query(p, k=4)
        w = 1.0 / (d + 2e-3) ** 3
        w /= w.sum(axis=1, keepdims=True)
        normals = unit((self.normals[near] * w[..., None]).sum(axis=1))
        planes = ((p[:, None] - self.points[near]) * self.normals[near]).sum(axis=-1)
        return (planes * w).sum(axis=1), normals

    def past_ears(self, p: np.ndarray) -> np.ndarray:
        """Points moved sideways out of the ears."""
        for middle, radii in self.ears:
            q = (p - middle) / radii
            outside = np.sign(middle[0]) * np.sqrt(np.maximum(1 - q[:, 1] ** 2 - q[:, 2] ** 2, 0))
            inside = (q[:, 1] ** 2 + q[:, 2] ** 2 < 1) & (np.abs(q[:, 0]) < np.abs(outside))
            p[inside, 0] = (middle[0] + outside * radii[0])[inside]
        return p


def obstacle_of(figure: Figure, scalp: Scalp) -> Obstacle:
    """Head, neck and torso of a figure with the scalp sampled finely."""
    vertices, normals = figure.vertices.numpy(), figure.normals.numpy()
    ears = reference_head().ears > 0.3
    skin = figure.skin_vertices
    hips = float(figure.body.bone("hips")[1])
    solid = skin[~ears[skin] & (vertices[skin, 1] > hips - 0.1)]
    points = np.concatenate([vertices[solid], scalp.points[::2, ::2].reshape(-1, 3)])
    outward = np.concatenate([normals[solid], scalp.normals[::2, ::2].reshape(-1, 3)])
    bounds = []
    for side in (-1, 1):
        ear = vertices[ears & (vertices[:, 0] * side > 0)]
        low, high = ear.min(axis=0), ear.max(axis=0)
        bounds.append(((low + high) / 2, (high - low) / 2 + 0.006))
    shoulder = float(figure.body.bone("neck")[1])
    beside = vertices[
        solid[(np.abs(vertices[solid, 0]) < 0.09) & (np.abs(vertices[solid, 1] - shoulder + 0.03) < 0.03)]
    ]
    chest = float(beside[:, 2].max()), float(beside[:, 2].min())
    return Obstacle(cKDTree(points), points, outward, tuple(bounds), shoulder, chest)


@dataclass(frozen=True)
class Growth:
    """How strands grow. Lengths in metres, one row per strand where arrays."""

    length: np.ndarray
    field: Field
    height: np.ndarray
    """Distance from the scalp to which a strand rises."""
    rise: float = 0.03
    """Length over which it rises."""
    turn: float = 0.5
    """Share of the field in each step's direction, the rest is inertia."""
    comb: float = 0.7
    """How strongly a strand is held down to its height: 1 lies on it, 0 may float."""
    hang: float = -np.inf
    """Below this y strands hang freely, not held to the body."""
    veil: float = 0.0
    """Half the width of the face that stays free of hair below `brow`, metres."""
    brow: float = 0.0
    lift: float | np.ndarray = 0.6
    """Share of the scalp's normal in the first direction."""
    over_ears: bool = False
    clothes: float = 0.016
    """Room for clothes below the shoulders."""
    sway: float = 0.12
    """Random turn of each strand's field."""


def grow(
    roots: np.ndarray, normals: np.ndarray, growth: Growth, body: Obstacle, steps: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Strands (S, steps + 1, 3) and the outward directions (S, steps + 1, 3) along them."""
    count = len(roots)
    lift = np.reshape(growth.lift, (-1, 1))
    p, t = roots.copy(), unit(growth.field(roots, normals) * (1 - lift) + normals * lift)
    strand, out = [p], [normals]
    stride = (growth.length / steps)[:, None]
    sway = rng.normal(0, growth.sway, (count, 3))
    walked = np.zeros((count, 1))
    for _ in range(steps):
        n = out[-1]
        wish = unit(growth.field(p, n) + sway)
        t = unit((1 - growth.turn) * t + growth.turn * wish)
        p = p + t * stride
        walked = walked + stride
        d, n = body.distance(p)
        wanted = growth.height * (1 - np.exp(-walked[:, 0] / growth.rise))
        below = np.clip((body.shoulder + 0.02 - p[:, 1]) / 0.04, 0, 1)
        wanted = wanted + growth.clothes * below
        push = wanted - d
        held = growth.comb * np.clip((p[:, 1] - growth.hang) / 0.02, 0, 1)
        push = np.where(push > 0, push, held * push * (d < 0.06))
        p = p + n * push[:, None]
        t = unit(p - strand[-1])
        if growth.veil:
            p = _off_face(p, growth, body)
        if growth.over_ears:
            p = body.past_ears(p)
        strand.append(p)
        out.append(n)
    return np.stack(strand, axis=1), np.stack(out, axis=1)


def _off_face(p: np.ndarray, growth: Growth, body: Obstacle) -> np.ndarray:
    """Points before the face moved to its sides."""
    front = np.clip((p[:, 2] - body.ears[0][0][2] - 0.03) / 0.02, 0, 1)
    low = np.clip((growth.brow + 0.045 - p[:, 1]) / 0.045, 0, 1)
    least = growth.veil * front * low
    p[:, 0] = np.where(np.abs(p[:, 0]) < least, np.copysign(least, p[:, 0]), p[:, 0])
    return p


def cut(strands: np.ndarray, outward: np.ndarray, floor: np.ndarray, points: int) -> tuple[np.ndarray, np.ndarray]:
    """Strands (S, K, 3) ended where they first sink below `floor` (S,) and sampled again at `points` points."""
    y = strands[..., 1]
    below = y < floor[:, None]
    below[:, 0] = False
    first = np.where(below.any(axis=1), below.argmax(axis=1), y.shape[1] - 1)
    rows = np.arange(len(strands))
    above, under = y[rows, first - 1], y[rows, first]
    part = np.where(below.any(axis=1), (above - floor) / np.maximum(above - under, 1e-9), 1.0).clip(0, 1)
    return sample(strands, outward, first - 1 + part, points)


CROWDING = 1.3
"""Strands are sampled more finely where they bend over the head: exponent of the spacing."""


def sample(
    strands: np.ndarray, outward: np.ndarray, end: np.ndarray, points: int
) -> tuple[np.ndarray, np.ndarray]:
    """Strands sampled again at `points` points from the root to the fractional index `end` (S,)."""
    at = np.linspace(0, 1, points) ** CROWDING * end[:, None]
    low = np.minimum(at.astype(int), strands.shape[1] - 2)
    share = (at - low)[..., None]
    rows = np.arange(len(strands))[:, None]
    p, n = (a[rows, low] * (1 - share) + a[rows, low + 1] * share for a in (strands, outward))
    return p, unit(n)


def waved(
    strands: np.ndarray, outward: np.ndarray, amplitude: float, wave: float, phase: np.ndarray, coil: float = 0.0
) -> np.ndarray:
    """Strands with sideways waves of `amplitude` and length `wave` (metres); `coil` is the share across them."""
    t = tangents(strands)
    side = unit(np.cross(t, outward))
    walked = np.cumsum(np.linalg.norm(np.diff(strands, axis=1, prepend=strands[:, :1]), axis=-1), axis=1)
    angle = 2 * np.pi * walked / wave + phase[:, None]
    grown = amplitude * np.clip(walked / (1.5 * wave), 0, 1)
    swing = side * np.sin(angle)[..., None] + np.cross(side, t) * (coil * np.cos(angle))[..., None]
    return strands + swing * grown[..., None]


def tangents(strands: np.ndarray) -> np.ndarray:
    """Unit directions (S, K, 3) by central differences."""
    return unit(np.gradient(strands, axis=1))


@dataclass(frozen=True)
class Pieces:
    """Geometry in arrays: vertices, normals, uv, faces, and the strand each vertex belongs to."""

    vertices: np.ndarray
    normals: np.ndarray
    uv: np.ndarray
    faces: np.ndarray
    strand: np.ndarray


def outside(pieces: Pieces, body: Obstacle, gap: float = 0.0008) -> Pieces:
    """The pieces with vertices that sank into the body lifted to `gap` metres over it."""
    d, n = body.distance(pieces.vertices)
    return replace(pieces, vertices=pieces.vertices + n * np.maximum(gap - d, 0)[:, None])


def join(pieces: list[Pieces]) -> Pieces:
    """All pieces as one; strands are renumbered in order."""
    offsets = np.cumsum([0] + [len(p.vertices) for p in pieces])
    strands = np.cumsum([0] + [int(p.strand.max()) + 1 for p in pieces])
    vertices, normals, uv = (
        np.concatenate([getattr(p, name) for p in pieces]) for name in ("vertices", "normals", "uv")
    )
    return Pieces(
        vertices,
        normals,
        uv,
        np.concatenate([p.faces + o for p, o in zip(pieces, offsets[:-1], strict=True)]),
        np.concatenate([p.strand + o for p, o in zip(pieces, strands[:-1], strict=True)]),
    )


def ribbons(
    strands: np.ndarray,
    outward: np.ndarray,
    width: np.ndarray,
    column: np.ndarray,
    columns: int,
    roll: np.ndarray,
    across: int = 3,
    bulge: float = 0.18,
    round_normals: float = 0.45,
    v_range: tuple[float, float] = (0.03, 0.96),
) -> Pieces:
    """Curved strips along strands.

    `outward` (S, K, 3) faces away from the body; `width` (S,) or (S, K) in metres; `column` (S,) picks one of
    `columns` side by side in the texture; `roll` (S,) turns a strip about its strand, radians.
    """
    count, length = strands.shape[:2]
    t = tangents(strands)
    side = unit(np.cross(t, outward))
    n = np.cross(side, t)
    c, s = np.cos(roll)[:, None, None], np.sin(roll)[:, None, None]
    side, n = side * c + n * s, n * c - side * s
    width = np.broadcast_to(width[:, None] if width.ndim == 1 else width, (count, length))
    u = np.linspace(-1, 1, across)
    half = 0.5 * width[..., None, None]
    rim = (1 - u**2)[:, None]
    vertices = (
        strands[:, :, None] + side[:, :, None] * (half * u[:, None]) + n[:, :, None] * (2 * bulge * half * rim)
    )
    shade = unit(outward - t * (outward * t).sum(-1, keepdims=True))
    normals = unit(shade[:, :, None] + side[:, :, None] * (round_normals * u[:, None]))
    inset = 0.5 / columns * 0.04
    left = column / columns + inset
    uv = np.empty((count, length, across, 2))
    uv[..., 0] = left[:, None, None] + (1 / columns - 2 * inset) * (0.5 + 0.5 * u)
    uv[..., 1] = np.linspace(*v_range, length)[None, :, None]
    grid = np.arange(count * length * across).reshape(count, length, across)
    a, b, c_, d = grid[:, :-1, :-1], grid[:, :-1, 1:], grid[:, 1:, :-1], grid[:, 1:, 1:]
    faces = np.stack([np.stack([a, b, c_], -1), np.stack([b, d, c_], -1)], axis=-2).reshape(-1, 3)
    strand = np.repeat(np.arange(count), length * across)
    return Pieces(vertices.reshape(-1, 3), normals.reshape(-1, 3), uv.reshape(-1, 2), faces, strand)


def tubes(
    strands: np.ndarray, radius: np.ndarray, column: np.ndarray, columns: int, sides: int = 6, repeats: float = 1.0
) -> Pieces:
    """Closed tubes along strands (S, K, 3) with radii (S, K), their tips drawn to a point by the radii."""
    count, length = strands.shape[:2]
    t = tangents(strands)
    helper = np.where(np.abs(t[..., 2:]) > 0.9, [1.0, 0.0, 0.0], [0.0, 0.0, 1.0])
    x = unit(np.cross(t, helper))
    y = np.cross(t, x)
    angle = np.linspace(0, 2 * np.pi, sides + 1)
    around = x[:, :, None] * np.cos(angle)[:, None] + y[:, :, None] * np.sin(angle)[:, None]
    vertices = strands[:, :, None] + around * radius[..., None, None]
    u = (column[:, None] + np.linspace(0.02, 0.98, sides + 1)) / columns
    uv = np.empty((count, length, sides + 1, 2))
    uv[..., 0] = u[:, None]
    uv[..., 1] = (repeats * np.linspace(0, 1, length))[None, :, None]
    grid = np.arange(count * length * (sides + 1)).reshape(count, length, sides + 1)
    a, b, c, d = grid[:, :-1, :-1], grid[:, :-1, 1:], grid[:, 1:, :-1], grid[:, 1:, 1:]
    faces = np.stack([np.stack([a, b, c], -1), np.stack([b, d, c], -1)], axis=-2).reshape(-1, 3)
    return Pieces(
        vertices.reshape(-1, 3), around.reshape(-1, 3), uv.reshape(-1, 2), faces,
        np.repeat(np.arange(count), length * (sides + 1)),
    )  # fmt: skip
