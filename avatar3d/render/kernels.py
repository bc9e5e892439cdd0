"""Numba kernels for CPUs, compiled once per machine; they release the GIL and fill one range of their output.

Each has a twin in plain torch that the tests hold it to: `rasterize.rasterize_torch`, `visibility.occluded_torch`
and `visibility.shadowed_torch`. `no_type_check` keeps the tests' shape checker from wrapping what numba compiles.
"""

from __future__ import annotations

import math
from typing import no_type_check

import numba
import numpy as np

OCCLUSION_BIAS = 0.12
"""Cosine to the surface below which a neighbour does not occlude: hides the facets of coarse meshes."""


@numba.njit(cache=True, nogil=True, error_model="numpy", inline="always")
@no_type_check
def _alpha(texels, offset, width, height, u, v):
    """Bilinear look-up with repeat wrapping, as `textures.sample_atlas`."""
    x = u * width - 0.5
    y = v * height - 0.5
    x0 = math.floor(x)
    y0 = math.floor(y)
    fx = x - x0
    fy = y - y0
    left = int(x0) % width
    top = int(y0) % height
    right = (left + 1) % width
    bottom = (top + 1) % height
    upper = texels[offset + top * width + left] * (1 - fx) + texels[offset + top * width + right] * fx
    lower = texels[offset + bottom * width + left] * (1 - fx) + texels[offset + bottom * width + right] * fx
    return upper * (1 - fy) + lower * fy


@numba.njit(cache=True, nogil=True, error_model="numpy")
@no_type_check
def rasterize_band(
    homogeneous, depth, faces, two_sided, uv, texels, rows, factor, cutoff, near, y_begin, y_end, width,
    limit, out_face, out_bary, out_depth,
):  # fmt: skip
    """Write the `layers` nearest fragments of each pixel in rows [y_begin, y_end), nearest first.

    Coverage is decided by homogeneous edge functions (Olano & Greer 1997): with rows v_i = (x w, y w, w) of a
    triangle, b = (x, y, 1) @ inverse([v_0 v_1 v_2]) is non-negative inside, and b / sum(b) are
    perspective-correct barycentrics (so only the determinant's sign matters); nothing is clipped, not even at
    the near plane.
    """
    layers = out_face.shape[0]
    for f in range(faces.shape[0]):
        i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
        zi, zj, zk = depth[i], depth[j], depth[k]
        if zi <= near and zj <= near and zk <= near:
            continue
        xi, yi, wi = homogeneous[i, 0], homogeneous[i, 1], homogeneous[i, 2]
        xj, yj, wj = homogeneous[j, 0], homogeneous[j, 1], homogeneous[j, 2]
        xk, yk, wk = homogeneous[k, 0], homogeneous[k, 1], homogeneous[k, 2]
        top, bottom, left, right = y_begin, y_end - 1, 0, width - 1
        if zi > near and zj > near and zk > near:
            a, b, c = yi / wi, yj / wj, yk / wk
            top = max(top, math.ceil(max(min(a, b, c), -1.0) - 0.5))
            bottom = min(bottom, math.floor(min(max(a, b, c), 1e6) - 0.5))
            if top > bottom:
                continue
            a, b, c = xi / wi, xj / wj, xk / wk
            left = max(left, math.ceil(max(min(a, b, c), -1.0) - 0.5))
            right = min(right, math.floor(min(max(a, b, c), 1e6) - 0.5))
            if left > right:
                continue
        # rows of the inverse but for the determinant: cross products of the columns
        a0, b0, c0 = yj * wk - wj * yk, wj * xk - xj * wk, xj * yk - yj * xk
        a1, b1, c1 = yk * wi - wk * yi, wk * xi - xk * wi, xk * yi - yk * xi
        a2, b2, c2 = yi * wj - wi * yj, wi * xj - xi * wj, xi * yj - yi * xj
        det = xi * a0 + yi * b0 + wi * c0
        if det == 0.0 or (det > 0.0 and not two_sided[f]):
            continue
        if det < 0.0:
            a0, b0, c0, a1, b1, c1, a2, b2, c2 = -a0, -b0, -c0, -a1, -b1, -c1, -a2, -b2, -c2
        # of two triangles that share an edge exactly one owns the points on it
        own0 = a0 > 0.0 or (a0 == 0.0 and b0 > 0.0)
        own1 = a1 > 0.0 or (a1 == 0.0 and b1 > 0.0)
        own2 = a2 > 0.0 or (a2 == 0.0 and b2 > 0.0)
        for y in range(top, bottom + 1):
            py = y + 0.5
            row0, row1, row2 = b0 * py + c0, b1 * py + c1, b2 * py + c2
            first, last = left, right
            if right - left > 6:
                # skip to where the edges cross this row, give or take a pixel
                for a, row in ((a0, row0), (a1, row1), (a2, row2)):
                    if a > 0.0:
                        first = max(first, int(min(-row / a - 1.5, 1e6)))
                    elif a < 0.0:
                        last = min(last, int(max(-row / a + 1.5, -1.0)))
            for x in range(first, last + 1):
                px = x + 0.5
                u0 = a0 * px + row0
                u1 = a1 * px + row1
                u2 = a2 * px + row2
                if u0 < 0.0 or u1 < 0.0 or u2 < 0.0:
                    continue
                if (u0 == 0.0 and not own0) or (u1 == 0.0 and not own1) or (u2 == 0.0 and not own2):
                    continue
                total = u0 + u1 + u2
                if total <= 0.0:
                    continue
                total = 1.0 / total
                z = np.float32((u0 * zi + u1 * zj + u2 * zk) * total)
                if z <= near or z >= limit[y, x] or z >= out_depth[layers - 1, y, x]:
                    continue
                u0 *= total
                u1 *= total
                u2 *= total
                if cutoff[f] > 0.0:
                    u = u0 * uv[i, 0] + u1 * uv[j, 0] + u2 * uv[k, 0]
                    v = u0 * uv[i, 1] + u1 * uv[j, 1] + u2 * uv[k, 1]
                    alpha = factor[f] * _alpha(texels, rows[f, 0], rows[f, 1], rows[f, 2], u, v)
                    if alpha < cutoff[f]:
                        continue
                slot = layers - 1
                while slot > 0 and out_depth[slot - 1, y, x] > z:
                    out_depth[slot, y, x] = out_depth[slot - 1, y, x]
                    out_face[slot, y, x] = out_face[slot - 1, y, x]
                    for axis in range(3):
                        out_bary[slot, y, x, axis] = out_bary[slot - 1, y, x, axis]
                    slot -= 1
                out_depth[slot, y, x] = z
                out_face[slot, y, x] = f
                out_bary[slot, y, x, 0] = u0
                out_bary[slot, y, x, 1] = u1
                out_bary[slot, y, x, 2] = u2


@numba.njit(cache=True, nogil=True, error_model="numpy")
@no_type_check
def occluded_range(begin, end, position, normal, dither, depth, focal, radius, taps, out):
    """`visibility.occluded_torch` for points [begin, end)."""
    height, width = depth.shape
    count = taps.shape[0]
    for s in range(begin, end):
        px, py, pz = position[s, 0], position[s, 1], position[s, 2]
        nx, ny, nz = normal[s, 0], normal[s, 1], normal[s, 2]
        sx = focal * px / pz + 0.5 * width
        sy = focal * py / pz + 0.5 * height
        reach = min(max(focal * radius / pz, 2.0), 0.25 * height)
        cosine = reach * math.cos(2 * math.pi * dither[s])
        sine = reach * math.sin(2 * math.pi * dither[s])
        total = 0.0
        for tap in range(count):
            tx, ty = taps[tap, 0], taps[tap, 1]
            qx = min(max(int(sx + cosine * tx - sine * ty), 0), width - 1)
            qy = min(max(int(sy + sine * tx + cosine * ty), 0), height - 1)
            z = min(depth[qy, qx], 1e6)
            vx = (qx + 0.5 - 0.5 * width) / focal * z - px
            vy = (qy + 0.5 - 0.5 * height) / focal * z - py
            vz = z - pz
            squared = vx * vx + vy * vy + vz * vz
            near = 1 - squared / (radius * radius)
            if near > 0:
                facing = (vx * nx + vy * ny + vz * nz) / math.sqrt(squared + 1e-12) - OCCLUSION_BIAS
                if facing > 0:
                    total += facing * near
        out[s] = total / count


@numba.njit(cache=True, nogil=True, error_model="numpy")
@no_type_check
def shadowed_range(begin, end, receiver, dither, depth, spread, search, blocker_taps, taps, out):
    """`visibility.shadowed_torch` for points [begin, end)."""
    height, width = depth.shape
    for s in range(begin, end):
        x, y, z = receiver[s, 0], receiver[s, 1], receiver[s, 2]
        cosine = math.cos(2 * math.pi * dither[s])
        sine = math.sin(2 * math.pi * dither[s])
        gap = 0.0
        blockers = 0
        for tap in range(blocker_taps.shape[0]):
            tx, ty = search * blocker_taps[tap, 0], search * blocker_taps[tap, 1]
            qx = min(max(int(x + cosine * tx - sine * ty), 0), width - 1)
            qy = min(max(int(y + sine * tx + cosine * ty), 0), height - 1)
            above = z - depth[qy, qx]
            if above > 0:
                gap += above
                blockers += 1
        reach = min(max(spread * gap / max(blockers, 1), 1.5), 3 * search)
        lit = 0
        for tap in range(taps.shape[0]):
            tx, ty = reach * taps[tap, 0], reach * taps[tap, 1]
            qx = min(max(int(x + cosine * tx - sine * ty), 0), width - 1)
            qy = min(max(int(y + sine * tx + cosine * ty), 0), height - 1)
            if depth[qy, qx] >= z:
                lit += 1
        out[s] = lit / taps.shape[0]
