"""Pixels from fragments in one fused numba kernel: pictures without gradients, many times faster on a CPU.

It follows `meshes.shade_torch` and `meshes._blend`, with one difference: textures are looked up at every image
sample, but samples of a pixel that show the same mesh at about the same depth are lit once, by their mean surface
(as multisampling does). With one sample per pixel the two are equal; the tests hold them together. Sources of the
formulas are given there. Constants of other files come as arguments, because numba's cache does not notice when
another file changes.
"""

from __future__ import annotations

import math
from typing import no_type_check

import numba
import numpy as np

NEGLIGIBLE = 1 / 1024
"""Share of a sample below which a fragment is not worth lighting."""


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=True)
@no_type_check
def _unit(x, y, z):
    scale = 1.0 / math.sqrt(max(x * x + y * y + z * z, 1e-20))
    return x * scale, y * scale, z * scale


@numba.njit(cache=True, nogil=True, error_model="numpy")
@no_type_check
def _barycentrics(homogeneous, i, j, k, x, y):
    """Perspective-correct barycentrics of an image point, with the edge functions of `kernels.rasterize_band`."""
    xi, yi, wi = homogeneous[i, 0], homogeneous[i, 1], homogeneous[i, 2]
    xj, yj, wj = homogeneous[j, 0], homogeneous[j, 1], homogeneous[j, 2]
    xk, yk, wk = homogeneous[k, 0], homogeneous[k, 1], homogeneous[k, 2]
    b0 = (yj * wk - wj * yk) * x + ((wj * xk - xj * wk) * y + (xj * yk - yj * xk))
    b1 = (yk * wi - wk * yi) * x + ((wk * xi - xk * wi) * y + (xk * yi - yk * xi))
    b2 = (yi * wj - wi * yj) * x + ((wi * xj - xi * wj) * y + (xi * yj - yi * xj))
    scale = 1.0 / (b0 + b1 + b2)
    return b0 * scale, b1 * scale, b2 * scale


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=True)
@no_type_check
def _texel(texels, rows, u, v):
    """The first three channels of a bilinear look-up with repeat wrapping, and the last one."""
    offset, width, height = rows[0], rows[1], rows[2]
    last = texels.shape[1] - 1
    if width == 1 and height == 1:
        return texels[offset, 0], texels[offset, 1], texels[offset, 2], texels[offset, last]
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
    p, q = offset + top * width + left, offset + top * width + right
    r, s = offset + bottom * width + left, offset + bottom * width + right
    w00, w01, w10, w11 = (1 - fx) * (1 - fy), fx * (1 - fy), (1 - fx) * fy, fx * fy
    return (
        w00 * texels[p, 0] + w01 * texels[q, 0] + w10 * texels[r, 0] + w11 * texels[s, 0],
        w00 * texels[p, 1] + w01 * texels[q, 1] + w10 * texels[r, 1] + w11 * texels[s, 1],
        w00 * texels[p, 2] + w01 * texels[q, 2] + w10 * texels[r, 2] + w11 * texels[s, 2],
        w00 * texels[p, last] + w01 * texels[q, last] + w10 * texels[r, last] + w11 * texels[s, last],
    )


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=True)
@no_type_check
def _reach(image, depth, x, y, z, tolerance, out):
    """`visibility.upsample` at one point; (0, 0) is the place of image[0, 0]."""
    height, width = depth.shape
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
            difference = (depth[row, column] - z) / tolerance
            weight = (bilinear + 1e-3) / (1e-3 + difference * difference)
            total += weight
            for c in range(channels):
                out[c] += weight * image[row, column, c]
    scale = 1.0 / max(total, 1e-12)
    lost = 1.0 - total * scale
    for c in range(channels):
        out[c] = out[c] * scale + lost


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=True)
@no_type_check
def _strand_lobe(sx, sy, sz, nx, ny, nz, hx, hy, hz, shift, exponent):
    tx, ty, tz = _unit(sx + shift * nx, sy + shift * ny, sz + shift * nz)
    cosine = tx * hx + ty * hy + tz * hz
    sine = math.exp(0.5 * exponent * math.log(max(1.0 - cosine * cosine, 1e-6)))
    return sine * min(max(cosine + 1.0, 0.0), 1.0)


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=True)
@no_type_check
def _light_surface(
    a, skin, hair, glow, eye, lights, ambient, reach, wraps, knee, diffuse, specular, fill, color
):  # fmt: skip
    """Tone-mapped color[:3] of a mean surface `a`: `shading.shade` at one point.

    a: position 4:7, normal 7:10, strand 10:13, albedo 13:16, occlusion 16, roughness 17, metallic 18.
    """
    # normals that differ inside the pixel roughen it: Neubelt & Pettineo 2013, von Mises-Fisher lobe
    squared = min(a[7] * a[7] + a[8] * a[8] + a[9] * a[9], 1.0)
    spread = (1 - squared) / max(math.sqrt(squared) * (3 - squared), 1e-3)
    nx, ny, nz = _unit(a[7], a[8], a[9])
    vx, vy, vz = _unit(eye[0] - a[4], eye[1] - a[5], eye[2] - a[6])
    n_v = max(nx * vx + ny * vy + nz * vz, 1e-3)
    mirror = ambient[6]
    share, roughness, metallic = max(a[16] * reach[0], 1 - mirror), a[17], a[18]
    inside = share + glow * (1 - share)
    r0 = 1 - roughness
    a004 = min(r0 * r0, math.exp(-6.432405792 * n_v)) * r0 + (0.0425 - 0.0275 * roughness)
    env_scale = -1.04 * a004 + (1.04 - 0.572 * roughness)
    env_offset = 1.04 * a004 + (0.022 * roughness - 0.04)
    reflected_y = 2 * n_v * ny - vy
    horizon = 0.5 + 0.5 * min(max(reflected_y * (3 - 2 * roughness), -1.0), 1.0)
    up = 0.5 + 0.5 * ny
    for c in range(3):
        albedo = a[13 + c]
        specular[c] = 0.04 + (albedo - 0.04) * metallic
        diffuse[c] = albedo * (1 - mirror * metallic)
        filled = (inside * (2.0404 * diffuse[c] - 0.3324) + (0.6417 - 4.7951 * diffuse[c])) * inside
        filled = max(inside, (filled + (2.7552 * diffuse[c] + 0.6903)) * inside)
        fill[c] = math.log(max(filled, 1e-6))
        sky, ground = ambient[c], ambient[3 + c]
        reflected = mirror * max(specular[c] * env_scale + env_offset, 0.0)
        color[c] = diffuse[c] * (1 - reflected) * (ground + (sky - ground) * up) * filled
        color[c] += reflected * (ground + (sky - ground) * horizon) * share * share
    dimming = math.log(max(share, 1e-6))
    for n in range(lights.shape[0]):
        lx, ly, lz = lights[n, 0], lights[n, 1], lights[n, 2]
        angle = lights[n, 6]
        lit = reach[int(lights[n, 7])] if lights[n, 7] >= 0 else 1.0
        n_l = nx * lx + ny * ly + nz * lz
        if n_l < -0.3:  # beyond the reach of every term below
            continue
        hx, hy, hz = _unit(vx + lx, vy + ly, vz + lz)
        wide_light = 0.15 + min(angle, 1.0)
        soft = math.exp(dimming * wide_light)
        if hair > 0.0:
            wide = 1 + 4 * angle
            facing = min(max((n_l + 0.2) / 0.6, 0.0), 1.0) * (1 - roughness)
            first, second = 0.0, 0.0
            if facing > 0.0 and lit > 0.0:
                lobe = _strand_lobe(a[10], a[11], a[12], nx, ny, nz, hx, hy, hz, -0.08, 90.0 / wide)
                first = 0.22 * facing * lobe
                lobe = _strand_lobe(a[10], a[11], a[12], nx, ny, nz, hx, hy, hz, 0.12, 22.0 / wide)
                second = 0.9 * facing * lobe
            body = max((n_l + 0.3) / 1.3, 0.0) + second
            for c in range(3):
                color[c] += (a[13 + c] * body + first) * lit * soft * lights[n, 3 + c]
            continue
        front = max(n_l, 0.0)
        lobe, fresnel = 0.0, 0.0
        if front > 0.0 and lit > 0.0:
            n_h = min(max(nx * hx + ny * hy + nz * hz, 0.0), 1.0)
            v_h = min(max(vx * hx + vy * hy + vz * hz, 0.0), 1.0)
            alpha = min(max(roughness * roughness + 0.5 * angle, 0.002), 1.0)
            a2 = min(alpha * alpha + spread, 1.0)
            d = n_h * n_h * (a2 - 1) + 1
            mask = front * math.sqrt(n_v * n_v * (1 - a2) + a2) + n_v * math.sqrt(front * front * (1 - a2) + a2)
            lobe = 0.5 * front * a2 / (d * d * max(mask, 1e-4)) * lit
            edge = 1 - v_h
            fresnel = (edge * edge) * (edge * edge) * edge
        inner = lit + glow * (1 - lit)
        if lights[n, 7] >= 0:
            inner += skin * min(max((0.15 - n_l) / 0.3, 0.0), 1.0) * (1 - lit)
        for c in range(3):
            wrap = skin * wraps[c]
            cosine = max(n_l + wrap, 0.0) / ((1 + wrap) * (1 + wrap))
            matte = cosine * (inner + inner * (1 - inner) * wrap) * (1 - specular[c]) * diffuse[c]
            shine = lobe * (1 - fresnel) * specular[c] + lobe * fresnel
            color[c] += (matte * math.exp(fill[c] * wide_light) + shine * soft) * lights[n, 3 + c]
    room = 1 - knee
    for c in range(3):
        over = color[c] - knee
        if over > 0:
            color[c] = knee + room * (1 - math.exp(-over / room))


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=True)
@no_type_check
def resolve_rows(
    begin, end, samples, solid_face, solid_depth, layer_face, layer_depth, homogeneous, attributes, faces,
    face_mesh, side, factors, base_texels, normal_texels, orm_texels, rows, eye, lights, ambient, reach_image,
    reach_depth, reach_place, tolerance, merge, knee, wraps, enamel, out,
):  # fmt: skip
    """Linear, tone-mapped, premultiplied color and alpha out[y, x, :4] of the pixel rows [begin, end).

    `layer_*` are blended fragments in front of the solid ones, nearest first. `lights` has rows (direction 3,
    color 3, angle, channel of its shadow or -1), `ambient` sky 3, ground 3 and mirror. `reach_image[r, c]`
    belongs to the image point (c, r) + reach_place, in pixels. Samples are lit together within the depth `merge`.
    """
    layers = layer_face.shape[0]
    most = samples * samples * (layers + 1)
    group_mesh = np.empty(most, np.int64)
    groups = np.empty((most, 19))
    diffuse, specular, fill, color = np.empty(3), np.empty(3), np.empty(3), np.empty(3)
    reach = np.empty(reach_image.shape[2])
    for row in range(begin, end):
        for column in range(solid_face.shape[1] // samples):
            count = 0
            for sample in range(samples * samples):
                y, x = row * samples + sample // samples, column * samples + sample % samples
                through = 1.0
                for layer in range(layers + 1):
                    if layer < layers:
                        f, z = layer_face[layer, y, x], layer_depth[layer, y, x]
                    else:
                        f, z = solid_face[y, x], solid_depth[y, x]
                    if f < 0:
                        continue
                    i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
                    b0, b1, b2 = _barycentrics(homogeneous, i, j, k, x + 0.5, y + 0.5)
                    u = b0 * attributes[i, 6] + b1 * attributes[j, 6] + b2 * attributes[k, 6]
                    v = b0 * attributes[i, 7] + b1 * attributes[j, 7] + b2 * attributes[k, 7]
                    mesh = face_mesh[f]
                    red, green, blue, alpha = _texel(base_texels, rows[f, 0], u, v)
                    weight = through * (1 + factors[mesh, 8] * (alpha * factors[mesh, 3] - 1))
                    if weight < NEGLIGIBLE:
                        continue
                    through -= weight
                    g = 0
                    while g < count and (
                        group_mesh[g] != mesh or abs(groups[g, 1] - z * groups[g, 0]) > merge * groups[g, 0]
                    ):
                        g += 1
                    a = groups[g]
                    if g == count:
                        group_mesh[g] = mesh
                        count += 1
                        for c in range(19):
                            a[c] = 0.0
                    w0, w1, w2 = weight * b0, weight * b1, weight * b2
                    a[0] += weight
                    a[1] += weight * z
                    a[2] += weight * (x + 0.5)
                    a[3] += weight * (y + 0.5)
                    for c in range(3):
                        a[4 + c] += w0 * attributes[i, c] + w1 * attributes[j, c] + w2 * attributes[k, c]
                    nx = b0 * attributes[i, 3] + b1 * attributes[j, 3] + b2 * attributes[k, 3]
                    ny = b0 * attributes[i, 4] + b1 * attributes[j, 4] + b2 * attributes[k, 4]
                    nz = b0 * attributes[i, 5] + b1 * attributes[j, 5] + b2 * attributes[k, 5]
                    nx, ny, nz = _unit(nx, ny, nz)
                    bumpy = normal_texels.shape[0] > 1
                    if bumpy or factors[mesh, 7] > 0:
                        sx = b0 * attributes[i, 11] + b1 * attributes[j, 11] + b2 * attributes[k, 11]
                        sy = b0 * attributes[i, 12] + b1 * attributes[j, 12] + b2 * attributes[k, 12]
                        sz = b0 * attributes[i, 13] + b1 * attributes[j, 13] + b2 * attributes[k, 13]
                        a[10] += weight * sx
                        a[11] += weight * sy
                        a[12] += weight * sz
                        if bumpy:
                            bx, by, bz, _ = _texel(normal_texels, rows[f, 1], u, v)
                            bx, by, bz = 2 * bx - 1, 2 * by - 1, 2 * bz - 1
                            tx = b0 * attributes[i, 8] + b1 * attributes[j, 8] + b2 * attributes[k, 8]
                            ty = b0 * attributes[i, 9] + b1 * attributes[j, 9] + b2 * attributes[k, 9]
                            tz = b0 * attributes[i, 10] + b1 * attributes[j, 10] + b2 * attributes[k, 10]
                            nx, ny, nz = _unit(
                                bx * tx - by * sx + bz * nx,
                                bx * ty - by * sy + bz * ny,
                                bx * tz - by * sz + bz * nz,
                            )
                    towards = weight * side[f]
                    a[7] += towards * nx
                    a[8] += towards * ny
                    a[9] += towards * nz
                    a[13] += weight * red * factors[mesh, 0]
                    a[14] += weight * green * factors[mesh, 1]
                    a[15] += weight * blue * factors[mesh, 2]
                    occlusion, rough, metal = 1.0, 1.0, 1.0
                    if orm_texels.shape[0] > 1:
                        occlusion, rough, metal, _ = _texel(orm_texels, rows[f, 2], u, v)
                    a[16] += weight * occlusion
                    a[17] += weight * rough * factors[mesh, 4]
                    a[18] += weight * metal * factors[mesh, 5]
            for c in range(4):
                out[row, column, c] = 0.0
            for g in range(count):
                a = groups[g]
                share = a[0] / (samples * samples)
                scale = 1.0 / a[0]
                for c in range(1, 19):
                    a[c] *= scale
                right, down = a[2] / samples - reach_place, a[3] / samples - reach_place
                _reach(reach_image, reach_depth, right, down, a[1], tolerance, reach)
                mesh = group_mesh[g]
                _light_surface(
                    a, factors[mesh, 6], factors[mesh, 7], enamel * factors[mesh, 9], eye, lights, ambient,
                    reach, wraps, knee, diffuse, specular, fill, color,
                )  # fmt: skip
                for c in range(3):
                    out[row, column, c] += share * color[c]
                out[row, column, 3] += share


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=True)
@no_type_check
def encode_rows(begin, end, light, background, out):
    """sRGB of premultiplied linear light over `background`: one linear color, an image, or nothing at all."""
    for y in range(begin, end):
        for x in range(light.shape[1]):
            alpha = light[y, x, 3]
            for c in range(3):
                value = light[y, x, c]
                if background.shape[0] == 0:
                    value /= max(alpha, 1e-6)
                elif alpha < 1:
                    value += (1 - alpha) * background[y % background.shape[0], x % background.shape[1], c]
                value = min(max(value, 0.0), 1.0)
                if value > 0.0031308:
                    out[y, x, c] = 1.055 * math.exp(math.log(value) / 2.4) - 0.055
                else:
                    out[y, x, c] = 12.92 * value
