"""The numba z-buffer: compiled once per machine, releases the GIL, one call fills one band of rows."""

from __future__ import annotations

import math

import numba
import numpy as np


@numba.njit(cache=True, nogil=True, inline="always")
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


@numba.njit(cache=True, nogil=True)
def rasterize_band(
    homogeneous, depth, faces, two_sided, uv, texels, rows, factor, cutoff, near, y_begin, y_end, width,
    limit, out_face, out_bary, out_depth,
):  # fmt: skip
    """Write the `layers` nearest fragments of each pixel in rows [y_begin, y_end), nearest first.

    Coverage is decided by homogeneous edge functions (Olano & Greer 1997): with rows v_i = (x w, y w, w) of a
    triangle, b = (x, y, 1) @ inverse([v_0 v_1 v_2]) is non-negative inside, and b / sum(b) are
    perspective-correct barycentrics; so nothing is clipped, not even at the near plane.
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
        # rows of the inverse: cross products of the columns
        a0, b0, c0 = yj * wk - wj * yk, wj * xk - xj * wk, xj * yk - yj * xk
        a1, b1, c1 = yk * wi - wk * yi, wk * xi - xk * wi, xk * yi - yk * xi
        a2, b2, c2 = yi * wj - wi * yj, wi * xj - xi * wj, xi * yj - yi * xj
        det = xi * a0 + yi * b0 + wi * c0
        if det == 0.0 or (det > 0.0 and not two_sided[f]):
            continue
        for y in range(top, bottom + 1):
            py = y + 0.5
            for x in range(left, right + 1):
                px = x + 0.5
                u0 = (a0 * px + b0 * py + c0) / det
                if u0 < 0.0:
                    continue
                u1 = (a1 * px + b1 * py + c1) / det
                if u1 < 0.0:
                    continue
                u2 = (a2 * px + b2 * py + c2) / det
                if u2 < 0.0:
                    continue
                total = u0 + u1 + u2
                if total <= 0.0:
                    continue
                u0 /= total
                u1 /= total
                u2 /= total
                z = np.float32(u0 * zi + u1 * zj + u2 * zk)
                if z <= near or z >= limit[y, x] or z >= out_depth[layers - 1, y, x]:
                    continue
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
