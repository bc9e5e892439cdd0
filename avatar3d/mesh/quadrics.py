"""Quadric errors of faces and borders, with attributes.

A quadric of K attributes is a row of 11 + 4 K numbers: the symmetric matrix A (xx xy xz yy yz zz), b, c, the
weight w, then per attribute the weighted gradient (3) and offset (1) of Hoppe 1999, section 3. Its value at a
place with attributes s is the weighted sum of squared distances to planes, and of squared differences between s
and what the faces' linear attributes are at that place. `no_type_check` keeps the tests' shape checker from
wrapping what numba compiles.
"""

from __future__ import annotations

import math
from typing import no_type_check

import numba
import numpy as np

BORDER_WEIGHT = 3.0
"""Of the planes that stand on open borders, against faces of the border's own size."""
STEEPEST = 30.0
"""Gradients of attributes (metres per metre) are cut here: slivers would have any."""


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def _add_plane(q, nx, ny, nz, d, w):
    q[0] += w * nx * nx
    q[1] += w * nx * ny
    q[2] += w * nx * nz
    q[3] += w * ny * ny
    q[4] += w * ny * nz
    q[5] += w * nz * nz
    q[6] += w * d * nx
    q[7] += w * d * ny
    q[8] += w * d * nz
    q[9] += w * d * d


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def face_quadrics(points, attributes, faces, importance, quadrics):
    """Add each face's quadric, weighted by area and importance (F,), to its three wedges' rows."""
    count = attributes.shape[1]
    row = np.zeros(quadrics.shape[1])
    for f in range(faces.shape[0]):
        i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
        ux, uy, uz = points[j, 0] - points[i, 0], points[j, 1] - points[i, 1], points[j, 2] - points[i, 2]
        vx, vy, vz = points[k, 0] - points[i, 0], points[k, 1] - points[i, 1], points[k, 2] - points[i, 2]
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        length = math.sqrt(nx * nx + ny * ny + nz * nz)
        if length <= 1e-20:
            continue
        w = 0.5 * length * importance[f] / 3.0
        nx, ny, nz = nx / length, ny / length, nz / length
        px, py, pz = points[i, 0], points[i, 1], points[i, 2]
        row[:] = 0.0
        _add_plane(row, nx, ny, nz, -(nx * px + ny * py + nz * pz), w)
        row[10] = w
        uu, uv, vv = ux * ux + uy * uy + uz * uz, ux * vx + uy * vy + uz * vz, vx * vx + vy * vy + vz * vz
        det = uu * vv - uv * uv
        for m in range(count):
            s = attributes[i, m]
            ds, dt = attributes[j, m] - s, attributes[k, m] - s
            if ds == 0.0 and dt == 0.0:
                gx = gy = gz = 0.0
            else:
                a, b = (vv * ds - uv * dt) / det, (uu * dt - uv * ds) / det
                gx, gy, gz = a * ux + b * vx, a * uy + b * vy, a * uz + b * vz
                steep = math.sqrt(gx * gx + gy * gy + gz * gz)
                if steep > STEEPEST:
                    gx, gy, gz = gx * STEEPEST / steep, gy * STEEPEST / steep, gz * STEEPEST / steep
            d = s - (gx * px + gy * py + gz * pz)
            _add_plane(row, gx, gy, gz, d, w)
            at = 11 + 4 * m
            row[at], row[at + 1], row[at + 2], row[at + 3] = w * gx, w * gy, w * gz, w * d
        for c in range(3):
            quadrics[faces[f, c]] += row


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def border_quadrics(points, faces, corners, importance, quadrics):
    """Add planes through border edges, upright on their face, to both ends.

    `corners` (B, 2) holds face and corner: the edge runs from there to the face's next corner.
    """
    row = np.zeros(quadrics.shape[1])
    for e in range(corners.shape[0]):
        f, c = corners[e, 0], corners[e, 1]
        i, j, k = faces[f, c], faces[f, (c + 1) % 3], faces[f, (c + 2) % 3]
        ux, uy, uz = points[j, 0] - points[i, 0], points[j, 1] - points[i, 1], points[j, 2] - points[i, 2]
        vx, vy, vz = points[k, 0] - points[i, 0], points[k, 1] - points[i, 1], points[k, 2] - points[i, 2]
        uu = ux * ux + uy * uy + uz * uz
        if uu <= 1e-20:
            continue
        share = (ux * vx + uy * vy + uz * vz) / uu
        nx, ny, nz = vx - share * ux, vy - share * uy, vz - share * uz
        length = math.sqrt(nx * nx + ny * ny + nz * nz)
        if length <= 1e-12:
            continue
        nx, ny, nz = nx / length, ny / length, nz / length
        row[:] = 0.0
        d = -(nx * points[i, 0] + ny * points[i, 1] + nz * points[i, 2])
        _add_plane(row, nx, ny, nz, d, BORDER_WEIGHT * importance[f] * 0.5 * uu)
        quadrics[i] += row
        quadrics[j] += row


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def error_at(q, x, y, z, attributes, wedge):
    """A quadric's value at a place with a wedge's attributes, in square metres of squared distance."""
    total = q[0] * x * x + q[3] * y * y + q[5] * z * z + 2.0 * (q[1] * x * y + q[2] * x * z + q[4] * y * z)
    total += 2.0 * (q[6] * x + q[7] * y + q[8] * z) + q[9]
    for m in range(attributes.shape[1]):
        s, at = attributes[wedge, m], 11 + 4 * m
        total += s * (q[10] * s - 2.0 * (q[at] * x + q[at + 1] * y + q[at + 2] * z + q[at + 3]))
    return total
