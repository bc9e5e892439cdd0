"""`shading` as one fused numba kernel: pictures without gradients, several times faster on a CPU.

It follows `meshes.shade_torch` line by line, one image sample at a time; the tests hold the two together.
Sources of the formulas are given there. Constants of other files come as arguments, because numba's cache does not
notice when another file changes.
"""

from __future__ import annotations

import math
from typing import no_type_check

import numba
import numpy as np


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=True, inline="always")
@no_type_check
def _unit(x, y, z):
    scale = 1.0 / math.sqrt(max(x * x + y * y + z * z, 1e-20))
    return x * scale, y * scale, z * scale


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=True)
@no_type_check
def _texel(texels, rows, u, v, out):
    """Bilinear look-up with repeat wrapping into out[:channels]."""
    offset, width, height = rows[0], rows[1], rows[2]
    channels = texels.shape[1]
    if width == 1 and height == 1:
        for c in range(channels):
            out[c] = texels[offset, c]
        return
    x = u * width - 0.5
    y = v * height - 0.5
    x0 = math.floor(x)
    y0 = math.floor(y)
    fx = x - x0
    fy = y - y0
    left = int(x0) % width
    top = int(y0) % height
    right = (left + 1) % width
    upper = offset + top * width
    lower = offset + ((top + 1) % height) * width
    w00, w01, w10, w11 = (1 - fx) * (1 - fy), fx * (1 - fy), (1 - fx) * fy, fx * fy
    for c in range(channels):
        out[c] = (
            w00 * texels[upper + left, c]
            + w01 * texels[upper + right, c]
            + w10 * texels[lower + left, c]
            + w11 * texels[lower + right, c]
        )


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=True)
@no_type_check
def _reach(image, depth, x, y, z, tolerance, out):
    """`visibility.upsample` at one point."""
    height, width = depth.shape
    x -= 0.5
    y -= 0.5
    x0 = math.floor(x)
    y0 = math.floor(y)
    fx = x - x0
    fy = y - y0
    total = 0.0
    channels = image.shape[2]
    for c in range(channels):
        out[c] = 0.0
    for dy in range(2):
        row = min(max(int(y0) + dy, 0), height - 1)
        for dx in range(2):
            column = min(max(int(x0) + dx, 0), width - 1)
            bilinear = (fx if dx else 1 - fx) * (fy if dy else 1 - fy)
            difference = abs(depth[row, column] - z) / tolerance
            weight = (bilinear + 1e-3) / (1e-3 + difference * difference)
            total += weight
            for c in range(channels):
                out[c] += weight * image[row, column, c]
    scale = 1.0 / max(total, 1e-12)
    lost = 1.0 - total * scale
    for c in range(channels):
        out[c] = out[c] * scale + lost


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=True, inline="always")
@no_type_check
def _strand_lobe(sx, sy, sz, nx, ny, nz, hx, hy, hz, shift, exponent):
    tx, ty, tz = _unit(sx + shift * nx, sy + shift * ny, sz + shift * nz)
    cosine = tx * hx + ty * hy + tz * hz
    sine = math.exp(0.5 * exponent * math.log(max(1.0 - cosine * cosine, 1e-6)))
    return sine * min(max(cosine + 1.0, 0.0), 1.0)


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=True)
@no_type_check
def shade_range(
    begin, end, face, bary, pixel, depth_of, fine_width, attributes, faces, face_mesh, side, factors,
    base_texels, base_rows, normal_texels, normal_rows, orm_texels, orm_rows, eye, lights, ambient, reach_image,
    depth_image, tolerance, knee, wraps, out,
):  # fmt: skip
    """Tone-mapped color out[:3] and alpha out[3] of the fragments [begin, end).

    `lights` has rows (direction 3, color 3, angle, channel of its shadow or -1), `ambient` sky 3 and ground 3.
    """
    a = np.empty(14)
    base = np.empty(4)
    bump = np.empty(4)
    orm = np.empty(4)
    reach = np.empty(reach_image.shape[2])
    color = np.empty(3)
    diffuse = np.empty(3)
    specular = np.empty(3)
    scale = depth_image.shape[1] / fine_width
    for s in range(begin, end):
        f = face[s]
        i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
        b0, b1, b2 = bary[s, 0], bary[s, 1], bary[s, 2]
        for c in range(14):
            a[c] = b0 * attributes[i, c] + b1 * attributes[j, c] + b2 * attributes[k, c]
        mesh = face_mesh[f]
        nx, ny, nz = _unit(a[3], a[4], a[5])
        if normal_texels.shape[0] > 1:
            _texel(normal_texels, normal_rows[f], a[6], a[7], bump)
            bx, by, bz = 2 * bump[0] - 1, 2 * bump[1] - 1, 2 * bump[2] - 1
            nx, ny, nz = _unit(
                bx * a[8] - by * a[11] + bz * nx,
                bx * a[9] - by * a[12] + bz * ny,
                bx * a[10] - by * a[13] + bz * nz,
            )
        nx, ny, nz = nx * side[f], ny * side[f], nz * side[f]
        _texel(base_texels, base_rows[f], a[6], a[7], base)
        roughness, metallic, share = factors[mesh, 4], factors[mesh, 5], 1.0
        skin, hair = factors[mesh, 6], factors[mesh, 7]
        if orm_texels.shape[0] > 1:
            _texel(orm_texels, orm_rows[f], a[6], a[7], orm)
            share = orm[0]
            roughness = roughness * orm[1]
            metallic = metallic * orm[2]
        out[3, s] = 1 + factors[mesh, 8] * (base[3] * factors[mesh, 3] - 1)
        vx, vy, vz = _unit(eye[0] - a[0], eye[1] - a[1], eye[2] - a[2])
        n_v = max(nx * vx + ny * vy + nz * vz, 1e-3)
        x = (pixel[s] % fine_width + 0.5) * scale
        y = (pixel[s] // fine_width + 0.5) * scale
        _reach(reach_image, depth_image, x, y, depth_of[s], tolerance, reach)
        share = share * reach[0]
        # ambient
        r0 = 1 - roughness
        a004 = min(r0 * r0, math.exp(-6.432405792 * n_v)) * r0 + (0.0425 - 0.0275 * roughness)
        env_scale = -1.04 * a004 + (1.04 - 0.572 * roughness)
        env_offset = 1.04 * a004 + (0.022 * roughness - 0.04)
        reflected_y = 2 * n_v * ny - vy
        horizon = 0.5 + 0.5 * min(max(reflected_y * (3 - 2 * roughness), -1.0), 1.0)
        up = 0.5 + 0.5 * ny
        for c in range(3):
            albedo = base[c] * factors[mesh, c]
            base[c] = albedo
            specular[c] = 0.04 + (albedo - 0.04) * metallic
            diffuse[c] = albedo * (1 - metallic)
            filled = (share * (2.0404 * diffuse[c] - 0.3324) + (0.6417 - 4.7951 * diffuse[c])) * share
            filled = max(share, (filled + (2.7552 * diffuse[c] + 0.6903)) * share)
            sky, ground = ambient[c], ambient[3 + c]
            reflected = max(specular[c] * env_scale + env_offset, 0.0)
            color[c] = diffuse[c] * (1 - reflected) * (ground + (sky - ground) * up) * filled
            color[c] += reflected * (ground + (sky - ground) * horizon) * share * share
        dimming = math.log(max(share, 1e-6))
        for n in range(lights.shape[0]):
            lx, ly, lz = lights[n, 0], lights[n, 1], lights[n, 2]
            angle = lights[n, 6]
            lit = reach[int(lights[n, 7])] if lights[n, 7] >= 0 else 1.0
            n_l = nx * lx + ny * ly + nz * lz
            hx, hy, hz = _unit(vx + lx, vy + ly, vz + lz)
            soft = math.exp(dimming * (0.15 + min(angle, 1.0)))
            if hair > 0.0:
                wide = 1 + 4 * angle
                facing = min(max((n_l + 0.2) / 0.6, 0.0), 1.0) * (1 - roughness)
                first, second = 0.0, 0.0
                if facing > 0.0 and lit > 0.0:
                    first = (
                        0.22
                        * facing
                        * _strand_lobe(a[11], a[12], a[13], nx, ny, nz, hx, hy, hz, -0.08, 90.0 / wide)
                    )
                    second = (
                        0.9 * facing * _strand_lobe(a[11], a[12], a[13], nx, ny, nz, hx, hy, hz, 0.12, 22.0 / wide)
                    )
                body = max((n_l + 0.3) / 1.3, 0.0) + second
                for c in range(3):
                    color[c] += (base[c] * body + first) * lit * soft * lights[n, 3 + c]
                continue
            front = max(n_l, 0.0)
            lobe, fresnel = 0.0, 0.0
            if front > 0.0 and lit > 0.0:
                n_h = min(max(nx * hx + ny * hy + nz * hz, 0.0), 1.0)
                v_h = min(max(vx * hx + vy * hy + vz * hz, 0.0), 1.0)
                alpha = min(max(roughness * roughness + 0.5 * angle, 0.002), 1.0)
                a2 = alpha * alpha
                d = n_h * n_h * (a2 - 1) + 1
                mask = front * math.sqrt(n_v * n_v * (1 - a2) + a2) + n_v * math.sqrt(
                    front * front * (1 - a2) + a2
                )
                lobe = 0.5 * front * a2 / (d * d * max(mask, 1e-4)) * lit
                edge = 1 - v_h
                fresnel = (edge * edge) * (edge * edge) * edge
            inner = lit
            if lights[n, 7] >= 0:
                inner = lit + skin * min(max((0.15 - n_l) / 0.3, 0.0), 1.0) * (1 - lit)
            for c in range(3):
                wrap = skin * wraps[c]
                cosine = max(n_l + wrap, 0.0) / ((1 + wrap) * (1 + wrap))
                matte = cosine * (inner + inner * (1 - inner) * wrap) * (1 - specular[c]) * diffuse[c]
                shine = lobe * (1 - fresnel) * specular[c] + lobe * fresnel
                color[c] += (matte + shine) * soft * lights[n, 3 + c]
        room = 1 - knee
        for c in range(3):
            over = color[c] - knee
            out[c, s] = color[c] if over <= 0 else knee + room * (1 - math.exp(-over / room))
