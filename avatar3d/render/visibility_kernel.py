"""`visibility` as numba kernels: soft shadows and ambient occlusion of the pixels that show a solid surface.

The torch functions in `visibility` are their twins, which the tests hold them to, and tell the sources. Constants
of other files come as arguments, because numba's cache does not notice when another file changes.
"""

from __future__ import annotations

import math
from typing import no_type_check

import numba
import numpy as np

NOTHING = 1e9
"""Depth of pixels without a surface, metres; infinity would not survive the optimizer's fast mathematics."""


@numba.njit(cache=True, nogil=True, error_model="numpy")
@no_type_check
def seen_rows(
    begin, end, samples, face, depth, homogeneous, attributes, faces, side, out_position, out_normal, out_depth
):
    """World position, normal to the eye and depth of one image sample per pixel, rows [begin, end)."""
    middle = samples // 2
    for row in range(begin, end):
        for column in range(out_depth.shape[1]):
            y, x = row * samples + middle, column * samples + middle
            f = face[y, x]
            if f < 0:
                out_depth[row, column] = NOTHING
                continue
            i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
            xi, yi, wi = homogeneous[i, 0], homogeneous[i, 1], homogeneous[i, 2]
            xj, yj, wj = homogeneous[j, 0], homogeneous[j, 1], homogeneous[j, 2]
            xk, yk, wk = homogeneous[k, 0], homogeneous[k, 1], homogeneous[k, 2]
            px, py = x + 0.5, y + 0.5
            b0 = (yj * wk - wj * yk) * px + ((wj * xk - xj * wk) * py + (xj * yk - yj * xk))
            b1 = (yk * wi - wk * yi) * px + ((wk * xi - xk * wi) * py + (xk * yi - yk * xi))
            b2 = (yi * wj - wi * yj) * px + ((wi * xj - xi * wj) * py + (xi * yj - yi * xj))
            scale = 1.0 / (b0 + b1 + b2)
            b0, b1, b2 = b0 * scale, b1 * scale, b2 * scale
            out_depth[row, column] = depth[y, x]
            for c in range(3):
                out_position[row, column, c] = (
                    b0 * attributes[i, c] + b1 * attributes[j, c] + b2 * attributes[k, c]
                )
            nx = b0 * attributes[i, 3] + b1 * attributes[j, 3] + b2 * attributes[k, 3]
            ny = b0 * attributes[i, 4] + b1 * attributes[j, 4] + b2 * attributes[k, 4]
            nz = b0 * attributes[i, 5] + b1 * attributes[j, 5] + b2 * attributes[k, 5]
            scale = side[f] / math.sqrt(max(nx * nx + ny * ny + nz * nz, 1e-20))
            out_normal[row, column, 0] = nx * scale
            out_normal[row, column, 1] = ny * scale
            out_normal[row, column, 2] = nz * scale


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=True)
@no_type_check
def _occluded(depth, row, column, place, nx, ny, nz, focal, radius, bias, dither_cosine, dither_sine, taps):
    """`visibility.occluded` at one pixel; the normal is in camera axes."""
    height, width = depth.shape
    pz = depth[row, column]
    px = (column + place - 0.5 * width) / focal * pz
    py = (row + place - 0.5 * height) / focal * pz
    reach = min(max(focal * radius / pz, 2.0), 0.25 * height)
    cosine, sine = reach * dither_cosine, reach * dither_sine
    total = 0.0
    for tap in range(taps.shape[0]):
        tx, ty = taps[tap, 0], taps[tap, 1]
        qx = min(max(int(column + 0.5 + cosine * tx - sine * ty), 0), width - 1)
        qy = min(max(int(row + 0.5 + sine * tx + cosine * ty), 0), height - 1)
        z = depth[qy, qx]
        vz = z - pz
        if vz > radius or vz < -radius:
            continue
        vx = (qx + place - 0.5 * width) / focal * z - px
        vy = (qy + place - 0.5 * height) / focal * z - py
        squared = vx * vx + vy * vy + vz * vz
        near = 1 - squared / (radius * radius)
        if near > 0:
            facing = (vx * nx + vy * ny + vz * nz) / math.sqrt(squared + 1e-8) - bias
            if facing > 0:
                total += facing * near
    return total / taps.shape[0]


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=True)
@no_type_check
def _lit(x, y, z, depth, spread, search, dither_cosine, dither_sine, blocker_taps, taps):
    """`visibility.lit_share` at one point of a shadow map."""
    height, width = depth.shape
    gap = 0.0
    blockers = 0
    cosine, sine = search * dither_cosine, search * dither_sine
    for tap in range(blocker_taps.shape[0]):
        tx, ty = blocker_taps[tap, 0], blocker_taps[tap, 1]
        qx = min(max(int(x + cosine * tx - sine * ty), 0), width - 1)
        qy = min(max(int(y + sine * tx + cosine * ty), 0), height - 1)
        above = z - depth[qy, qx]
        if above > 0:
            gap += above
            blockers += 1
    if blockers == 0:
        return 1.0
    reach = min(max(spread * gap / blockers, 1.5), 3 * search)
    cosine, sine = reach * dither_cosine, reach * dither_sine
    lit = 0
    for tap in range(taps.shape[0]):
        tx, ty = taps[tap, 0], taps[tap, 1]
        qx = min(max(int(x + cosine * tx - sine * ty), 0), width - 1)
        qy = min(max(int(y + sine * tx + cosine * ty), 0), height - 1)
        if depth[qy, qx] >= z:
            lit += 1
    return lit / taps.shape[0]


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=True)
@no_type_check
def reach_rows(
    begin, end, place, position, normal, depth, R_world_camera, focal, radius, strength, bias, occlusion_taps,
    maps, map_axes, map_numbers, blocker_taps, shadow_taps, out,
):  # fmt: skip
    """Channels of `visibility.visibility` before the blur, for the rows [begin, end).

    `maps` (N, S, S) are shadow maps with axes (N, 3, 3) and numbers (texel, low x, low y, start, spread, search).
    """
    for row in range(begin, end):
        for column in range(depth.shape[1]):
            for c in range(out.shape[2]):
                out[row, column, c] = 1.0
            if depth[row, column] >= NOTHING:
                continue
            turn = 0.06711056 * column + 0.00583715 * row
            turn = 52.9829189 * (turn - math.floor(turn))
            turn = 2 * math.pi * (turn - math.floor(turn))
            cosine, sine = math.cos(turn), math.sin(turn)
            nx, ny, nz = normal[row, column, 0], normal[row, column, 1], normal[row, column, 2]
            if strength > 0:
                R = R_world_camera
                blocked = _occluded(
                    depth, row, column, place,
                    nx * R[0, 0] + ny * R[1, 0] + nz * R[2, 0], nx * R[0, 1] + ny * R[1, 1] + nz * R[2, 1],
                    nx * R[0, 2] + ny * R[1, 2] + nz * R[2, 2], focal, radius, bias, cosine, sine, occlusion_taps,
                )  # fmt: skip
                out[row, column, 0] = min(max(1 - strength * blocked, 0.05), 1.0)
            for n in range(maps.shape[0]):
                texel = map_numbers[n, 0]
                R = map_axes[n]
                px = position[row, column, 0] + 2 * texel * nx
                py = position[row, column, 1] + 2 * texel * ny
                pz = position[row, column, 2] + 2 * texel * nz
                x = (px * R[0, 0] + py * R[0, 1] + pz * R[0, 2] - map_numbers[n, 1]) / texel
                y = (px * R[1, 0] + py * R[1, 1] + pz * R[1, 2] - map_numbers[n, 2]) / texel
                z = px * R[2, 0] + py * R[2, 1] + pz * R[2, 2] - map_numbers[n, 3] - 1.5 * texel
                out[row, column, 1 + n] = _lit(
                    x, y, z, maps[n], map_numbers[n, 4], map_numbers[n, 5], cosine, sine, blocker_taps, shadow_taps
                )


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=True)
@no_type_check
def blur_rows(begin, end, image, depth, tolerance, down, out):
    """5-tap average over pixels of similar depth along one axis, rows [begin, end)."""
    height, width, channels = image.shape
    total = np.empty(channels)
    for row in range(begin, end):
        for column in range(width):
            z = depth[row, column]
            for c in range(channels):
                total[c] = 0.0
            weight = 0.0
            for shift in range(-2, 3):
                y, x = row + shift * down, column + shift * (1 - down)
                if y < 0 or x < 0 or y >= height or x >= width:
                    continue
                if shift == 0 or (z < NOTHING and abs(depth[y, x] - z) < tolerance):
                    weight += 1.0
                    for c in range(channels):
                        total[c] += image[y, x, c]
            for c in range(channels):
                out[row, column, c] = total[c] / weight
