"""Painting on surfaces: noise and spots at points, the same for the same seed on any machine."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True)
def hash_unit(x, y, z, salt):
    """A number in [0, 1) from whole numbers: the same ones give the same number."""
    h = np.uint32(x) * np.uint32(374761393) + np.uint32(y) * np.uint32(668265263)
    h = h + np.uint32(z) * np.uint32(2147483647) + np.uint32(salt) * np.uint32(3266489917)
    h = (h ^ (h >> np.uint32(13))) * np.uint32(1274126177)
    h = (h ^ (h >> np.uint32(16))) * np.uint32(2246822519)
    h = h ^ (h >> np.uint32(15))
    return np.float32(h & np.uint32(0xFFFFFF)) / np.float32(0x1000000)


@njit(cache=True)
def value_noise(points, cell, salt):
    """(N,) smooth noise in [-1, 1] at points (N, 3) with features of about `cell` (same unit as the points)."""
    out = np.empty(len(points), dtype=np.float32)
    for i in range(len(points)):
        x, y, z = points[i, 0] / cell, points[i, 1] / cell, points[i, 2] / cell
        fx, fy, fz = np.floor(x), np.floor(y), np.floor(z)
        ix, iy, iz = int(fx), int(fy), int(fz)
        tx, ty, tz = x - fx, y - fy, z - fz
        tx, ty, tz = tx * tx * (3 - 2 * tx), ty * ty * (3 - 2 * ty), tz * tz * (3 - 2 * tz)
        total = 0.0
        for dx in range(2):
            wx = tx if dx else 1 - tx
            for dy in range(2):
                wy = ty if dy else 1 - ty
                for dz in range(2):
                    wz = tz if dz else 1 - tz
                    total += wx * wy * wz * hash_unit(ix + dx, iy + dy, iz + dz, salt)
        out[i] = 2.0 * total - 1.0
    return out


@njit(cache=True)
def spots(points, cell, salt, share, low, high):
    """(N,) seeded round spots in [0, 1]: a cell holds one with probability `share` (N,), of radius low..high."""
    out = np.zeros(len(points), dtype=np.float32)
    for i in range(len(points)):
        if share[i] <= 0:
            continue
        x, y, z = points[i, 0], points[i, 1], points[i, 2]
        best = 0.0
        for jx in range(int(np.floor((x - high) / cell)), int(np.floor((x + high) / cell)) + 1):
            for jy in range(int(np.floor((y - high) / cell)), int(np.floor((y + high) / cell)) + 1):
                for jz in range(int(np.floor((z - high) / cell)), int(np.floor((z + high) / cell)) + 1):
                    if hash_unit(jx, jy, jz, salt) >= share[i]:
                        continue
                    rx = x - cell * (jx + hash_unit(jx, jy, jz, salt + 1))
                    ry = y - cell * (jy + hash_unit(jx, jy, jz, salt + 2))
                    rz = z - cell * (jz + hash_unit(jx, jy, jz, salt + 3))
                    size = hash_unit(jx, jy, jz, salt + 4)
                    radius = low + (high - low) * size * size
                    distance = np.sqrt(rx * rx + ry * ry + rz * rz) / radius
                    if distance < 1.0:
                        strength = 0.4 + 0.6 * hash_unit(jx, jy, jz, salt + 5)
                        best = max(best, strength * min(1.0, 2.2 * (1.0 - distance)))
        out[i] = best
    return out
