"""Fitting cloth to a body: shrink-wrap under tension, ease, drape, and room for what is worn beneath."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import no_type_check

import numba
import numpy as np
import torch

from avatar3d.engine.attach import Figure
from avatar3d.engine.garment_cut import Sheet
from avatar3d.engine.garment_fields import CHEST_Y, CROTCH_Y

Array = np.ndarray


@dataclass(frozen=True)
class Ease:
    """How a cloth sits, per point of its sheet (N,), metres."""

    room: Array
    """Distance added beyond the tight fit."""
    clearance: float = 0.004
    """Least distance from what is beneath."""
    tension: int = 90
    """Sweeps of tightening: more bridge wider hollows."""
    hang: Array | float = 0.0
    """Where positive (N,), cloth below an overhang (bust, belly) falls with this share of straightness."""
    smooth: int = 3
    """Sweeps of final smoothing."""
    ignore: int = 30
    """Sweeps that take small relief (navel, nipples, muscles) off the body before cloth is laid on it."""


@dataclass
class Layers:
    """What a figure already wears: how far the outermost cloth stands off the skin."""

    stand_off: Array
    """(V,) metres over the welded template vertices."""
    normals: Array = field(repr=False, default_factory=lambda: np.zeros((0, 3)))

    @staticmethod
    def bare(figure: Figure) -> Layers:
        """Nothing worn yet."""
        return Layers(np.zeros(len(figure.vertices)))

    def put_on(self, sheet: Sheet, figure: Figure, points: Array) -> None:
        """Raise the stand-off where this cloth lies further out."""
        base = sheet.rows @ figure.vertices.numpy().astype(np.float64)
        normals = smooth_normals(base, sheet)
        distance = np.maximum(((points - base) * normals).sum(1), 0.0)
        weight = np.asarray(sheet.rows.sum(axis=0)).ravel()
        spread = (sheet.rows.T @ distance) / np.maximum(weight, 1e-9)
        self.stand_off = np.maximum(self.stand_off, np.where(weight > 0.3, spread, 0.0))


def fit_cloth(sheet: Sheet, figure: Figure, ease: Ease, layers: Layers) -> Array:
    """(N, 3) float64 points of the worn cloth at rest."""
    skin = sheet.rows @ figure.vertices.numpy().astype(np.float64)
    start, index = sheet.neighbors
    rim = sheet.rim
    slide = _tangential(skin, smooth_normals(skin, sheet), start, index)
    base = skin + sheet.free[:, None] * (
        _without_detail(skin, slide, start, index, ease.ignore, np.arange(len(skin))) - skin
    )
    edge = np.flatnonzero(rim)
    base[edge] = _without_detail(skin, np.zeros_like(slide), start, index, 40, edge)[edge]
    normals = smooth_normals(base, sheet)
    slide = _tangential(base, normals, start, index)
    floor = ease.clearance + sheet.rows @ layers.stand_off
    points = base + floor[:, None] * normals
    _relax(points, base, normals, slide, floor, start, index, rim, ease.tension)
    points += ease.room[:, None] * smooth_normals(points, sheet, 2)
    if np.any(ease.hang):
        hang = np.broadcast_to(np.asarray(ease.hang, np.float64), (len(points),)).copy()
        order = np.argsort(-sheet.points[:, 1], kind="stable")
        for _ in range(2):
            _hang(points, order, start, index, hang, _axis(figure, sheet, points))
    for loop in sheet.level_rims:
        _level(points, loop)
    _relax(points, base, normals, slide, floor + 0.6 * ease.room, start, index, rim, ease.smooth)
    # where skin shows at the edges, the body as it is counts, not its low-passed shape
    lack = np.where(sheet.free < 0.9, floor - ((points - skin) * normals).sum(axis=1), 0.0)
    return points + np.maximum(lack, 0.0)[:, None] * normals


def _level(points: Array, loop: Array) -> None:
    """Make a hem convex, and keep only the slowest waves of its height over its own plane (in place)."""
    p = points[loop] - points[loop].mean(axis=0)
    normal = np.linalg.svd(p, full_matrices=False)[2][2]
    height = p @ normal
    waves = np.fft.rfft(height)
    waves[3:] = 0
    flat = p - height[:, None] * normal
    radius = np.linalg.norm(flat, axis=1, keepdims=True)
    outward = flat / np.maximum(radius, 1e-9)
    span = outward @ outward.T  # a hem is stretched: its outline is convex
    reach = np.where(span > 0.1, (outward @ flat.T).max(axis=1)[None] / np.maximum(span, 0.1), np.inf).min(axis=1)
    points[loop] += (reach[:, None] - radius) * outward + (np.fft.irfft(waves, len(loop)) - height)[
        :, None
    ] * normal


def _axis(figure: Figure, sheet: Sheet, points: Array) -> Array:
    """(N, 2) x and z of the trunk's axis, or below the crotch of the leg's, at each point's height."""
    trunk = np.abs(sheet.fields.y - CHEST_Y) < 0.25
    middle = (points[trunk, 2].max() + points[trunk, 2].min()) / 2 if trunk.any() else 0.0
    hip, knee, foot = (
        figure.body.bone(f"left{n}").numpy().astype(np.float64) for n in ("UpperLeg", "LowerLeg", "Foot")
    )
    heights = np.array([foot[1], knee[1], hip[1]])
    side = np.where(sheet.fields.x >= 0, 1.0, -1.0)
    leg = [np.interp(points[:, 1], heights, [foot[k], knee[k], hip[k]]) for k in (0, 2)]
    below = np.clip((CROTCH_Y + 0.02 - sheet.fields.y) / 0.04, 0.0, 1.0)
    return np.stack([below * side * leg[0], below * leg[1] + (1 - below) * middle], axis=1)


def smooth_normals(points: Array, sheet: Sheet, sweeps: int = 1) -> Array:
    """(N, 3) unit vertex normals, averaged over neighbors `sweeps` times."""
    normals = face_weighted_normals(points, sheet.faces)
    start, index = sheet.neighbors
    return _average_normals(normals, start, index, sweeps)


@numba.njit(cache=True)
@no_type_check
def face_weighted_normals(points: Array, faces: Array) -> Array:
    """(N, 3) unit area-weighted vertex normals."""
    normals = np.zeros_like(points)
    for f in range(len(faces)):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        ux, uy, uz = points[b, 0] - points[a, 0], points[b, 1] - points[a, 1], points[b, 2] - points[a, 2]
        vx, vy, vz = points[c, 0] - points[a, 0], points[c, 1] - points[a, 1], points[c, 2] - points[a, 2]
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        for k in (a, b, c):
            normals[k, 0] += nx
            normals[k, 1] += ny
            normals[k, 2] += nz
    for i in range(len(points)):
        length = np.sqrt(normals[i, 0] ** 2 + normals[i, 1] ** 2 + normals[i, 2] ** 2)
        if length > 1e-20:
            normals[i] /= length
        else:
            normals[i, 1] = 1.0
    return normals


@numba.njit(cache=True)
@no_type_check
def _average_normals(normals: Array, start: Array, index: Array, sweeps: int) -> Array:
    for _ in range(sweeps):
        out = normals.copy()
        for i in range(len(normals)):
            for e in range(start[i], start[i + 1]):
                out[i] += normals[index[e]]
            length = np.sqrt(out[i, 0] ** 2 + out[i, 1] ** 2 + out[i, 2] ** 2)
            out[i] = out[i] / length if length > 1e-12 else normals[i]
        normals = out
    return normals


@numba.njit(cache=True)
@no_type_check
def _tangential(points: Array, normals: Array, start: Array, index: Array) -> Array:
    """(N, 3) how far each point lies from the mean of its neighbors, along the surface.

    Smoothing that leaves this part alone does not make points drift over the surface.
    """
    out = np.zeros_like(points)
    for i in range(len(points)):
        count = start[i + 1] - start[i]
        if count == 0:
            continue
        for e in range(start[i], start[i + 1]):
            out[i] += points[index[e]]
        out[i] = out[i] / count - points[i]
        along = out[i, 0] * normals[i, 0] + out[i, 1] * normals[i, 1] + out[i, 2] * normals[i, 2]
        out[i] -= along * normals[i]
    return out


@numba.njit(cache=True)
@no_type_check
def _without_detail(points: Array, slide: Array, start: Array, index: Array, sweeps: int, chosen: Array) -> Array:
    """The chosen points under a low-pass filter that does not shrink (Taubin 1995, A signal processing approach to
    fair surface design)."""
    x = points.copy()
    for sweep in range(2 * sweeps):
        factor = 0.6 if sweep % 2 == 0 else -0.62
        out = x.copy()
        for i in chosen:
            count = start[i + 1] - start[i]
            if count == 0:
                continue
            for k in range(3):
                mean = 0.0
                for e in range(start[i], start[i + 1]):
                    mean += x[index[e], k]
                out[i, k] += factor * (mean / count - x[i, k] - slide[i, k])
        x = out
    return x


@numba.njit(cache=True)
@no_type_check
def _relax(
    points: Array, base: Array, normals: Array, slide: Array, floor: Array, start: Array, index: Array, rim: Array,
    sweeps: int,
) -> None:  # fmt: skip
    """Gauss-Seidel membrane: each point to the mean of its neighbors, never closer to the skin than `floor`."""
    for sweep in range(sweeps):
        for n in range(len(points)):
            i = n if sweep % 2 == 0 else len(points) - 1 - n
            count = start[i + 1] - start[i]
            if count == 0:
                continue
            mx, my, mz = 0.0, 0.0, 0.0
            for e in range(start[i], start[i + 1]):
                j = index[e]
                mx += points[j, 0]
                my += points[j, 1]
                mz += points[j, 2]
            dx = mx / count - points[i, 0] - slide[i, 0]
            dy = my / count - points[i, 1] - slide[i, 1]
            dz = mz / count - points[i, 2] - slide[i, 2]
            nx, ny, nz = normals[i, 0], normals[i, 1], normals[i, 2]
            if rim[i]:  # an edge keeps its height on the body
                along = dx * nx + dy * ny + dz * nz
                dx, dy, dz = along * nx, along * ny, along * nz
            x, y, z = points[i, 0] + 0.7 * dx, points[i, 1] + 0.7 * dy, points[i, 2] + 0.7 * dz
            lack = floor[i] - ((x - base[i, 0]) * nx + (y - base[i, 1]) * ny + (z - base[i, 2]) * nz)
            if lack > 0:
                x, y, z = x + lack * nx, y + lack * ny, z + lack * nz
            points[i, 0], points[i, 1], points[i, 2] = x, y, z


@numba.njit(cache=True)
@no_type_check
def _hang(points: Array, order: Array, start: Array, index: Array, hang: Array, axis: Array) -> None:
    """From top to bottom: a point lies at least as far out as its upper neighbors, less a share of the drop."""
    for n in range(len(order)):
        i = order[n]
        if hang[i] <= 0:
            continue
        cx, cz = axis[i, 0], axis[i, 1]
        rx, rz = points[i, 0] - cx, points[i, 2] - cz
        radius = np.sqrt(rx * rx + rz * rz) + 1e-9
        rx, rz = rx / radius, rz / radius
        want, total = 0.0, 0.0
        for e in range(start[i], start[i + 1]):
            j = index[e]
            drop = points[j, 1] - points[i, 1]
            side = (points[j, 0] - points[i, 0]) * rz - (points[j, 2] - points[i, 2]) * rx
            if drop > 0.3 * abs(side) and drop > 1e-5:
                out = (points[j, 0] - cx) * rx + (points[j, 2] - cz) * rz
                weight = drop * drop / (drop * drop + side * side)
                want += weight * (out - (1.0 - hang[i]) * drop)
                total += weight
        if total > 0:
            push = want / total - radius
            if push > 0:
                points[i, 0] += push * rx
                points[i, 2] += push * rz


def to_tensor(array: Array) -> torch.Tensor:
    """float32 tensor of an array."""
    return torch.from_numpy(np.ascontiguousarray(array, np.float32))
