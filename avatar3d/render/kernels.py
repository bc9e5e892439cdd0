"""Numba kernels for CPUs, compiled once per machine; they release the GIL and fill one range of their output.

`rasterize_band` and `face_range` have twins in plain torch that the tests hold them to:
`rasterize.rasterize_torch` and `scene.make_view`. `no_type_check` keeps the tests' shape checker from wrapping
what numba compiles.
"""

from __future__ import annotations

import math
from typing import no_type_check

import numba
import numpy as np


@numba.njit(cache=True, nogil=True, error_model="numpy")
@no_type_check
def _alpha(texels, offset, width, height, u, v):
    """Bilinear look-up with repeat wrapping, as `textures.sample_atlas`."""
    x = (u - math.floor(u)) * width - 0.5
    y = (v - math.floor(v)) * height - 0.5
    x0 = math.floor(x)
    y0 = math.floor(y)
    fx = x - x0
    fy = y - y0
    left = int(x0) if x0 >= 0 else width - 1
    top = int(y0) if y0 >= 0 else height - 1
    right = left + 1 if left + 1 < width else 0
    bottom = top + 1 if top + 1 < height else 0
    upper = texels[offset + top * width + left] * (1 - fx) + texels[offset + top * width + right] * fx
    lower = texels[offset + bottom * width + left] * (1 - fx) + texels[offset + bottom * width + right] * fx
    return upper * (1 - fy) + lower * fy


@numba.njit(cache=True, nogil=True, error_model="numpy")
@no_type_check
def rasterize_band(
    chosen, homogeneous, depth, faces, two_sided, uv, texels, rows, factor, cutoff, jitter, near, y_begin, y_end,
    width, limit, out_face, out_depth,
):  # fmt: skip
    """Write the nearest fragments of the chosen faces for each pixel in rows [y_begin, y_end), nearest first.

    Coverage is decided by homogeneous edge functions (Olano & Greer 1997): with rows v_i = (x w, y w, w) of a
    triangle, b = (x, y, 1) @ inverse([v_0 v_1 v_2]) is non-negative inside, and b / sum(b) are
    perspective-correct barycentrics (so only the determinant's sign matters); nothing is clipped, not even at
    the near plane. `jitter` multiplies the alpha cutoff by row and column parity.
    """
    layers = out_face.shape[0]
    for index in range(chosen.shape[0]):
        f = chosen[index]
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
        tested = cutoff[f] > 0.0
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
                if tested:
                    u0 *= total
                    u1 *= total
                    u2 *= total
                    u = u0 * uv[i, 0] + u1 * uv[j, 0] + u2 * uv[k, 0]
                    v = u0 * uv[i, 1] + u1 * uv[j, 1] + u2 * uv[k, 1]
                    alpha = factor[f] * _alpha(texels, rows[f, 0, 0], rows[f, 0, 1], rows[f, 0, 2], u, v)
                    if alpha < cutoff[f] * jitter[y & 1, x & 1]:
                        continue
                slot = layers - 1
                while slot > 0 and out_depth[slot - 1, y, x] > z:
                    out_depth[slot, y, x] = out_depth[slot - 1, y, x]
                    out_face[slot, y, x] = out_face[slot - 1, y, x]
                    slot -= 1
                out_depth[slot, y, x] = z
                out_face[slot, y, x] = f


@numba.njit(cache=True, nogil=True, error_model="numpy")
@no_type_check
def face_range(begin, end, homogeneous, uv, faces, face_mesh, factors, texture_ids, levels, stretch, side, rows):
    """Facing and mip levels of the faces [begin, end): `scene.make_view`."""
    for f in range(begin, end):
        i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
        wi, wj, wk = homogeneous[i, 2], homogeneous[j, 2], homogeneous[k, 2]
        product = wi * wj * wk
        if product == 0.0:
            wi, wj, wk, product = 1.0, 1.0, 1.0, 1.0
        x0, y0 = homogeneous[i, 0] / wi, homogeneous[i, 1] / wi
        ax, ay = homogeneous[j, 0] / wj - x0, homogeneous[j, 1] / wj - y0
        bx, by = homogeneous[k, 0] / wk - x0, homogeneous[k, 1] / wk - y0
        area = ax * by - ay * bx
        mesh = face_mesh[f]
        side[f] = -1.0 if area * product > 0.0 and factors[mesh, 7] == 0.0 else 1.0
        area = max(abs(area), 1e-9)
        du1, dv1 = uv[j, 0] - uv[i, 0], uv[j, 1] - uv[i, 1]
        du2, dv2 = uv[k, 0] - uv[i, 0], uv[k, 1] - uv[i, 1]
        ux, uy = (du1 * by - du2 * ay) / area, (du2 * ax - du1 * bx) / area
        vx, vy = (dv1 * by - dv2 * ay) / area, (dv2 * ax - dv1 * bx) / area
        squared_u, squared_v, cross = ux * ux + uy * uy, vx * vx + vy * vy, ux * vy - uy * vx
        for n in range(3):
            texture = texture_ids[mesh, n]
            width, height = levels[n, texture, 0, 1], levels[n, texture, 0, 2]
            both = squared_u * width * width + squared_v * height * height
            product = cross * cross * (width * width * height * height)
            longest = 0.5 * (both + math.sqrt(max(both * both - 4 * product, 0.0)))
            shortest = product / max(longest, 1e-30)
            footprint = max(shortest, longest / (stretch * stretch), 1e-12)
            level = min(max(math.floor(0.5 * math.log2(footprint)), 0), levels.shape[2] - 1)
            for c in range(3):
                rows[f, n, c] = levels[n, texture, level, c]
