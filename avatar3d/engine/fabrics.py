"""Tileable cloth, leather and rubber: color, normal and roughness of one tile.

A tile is `TILE` metres wide and high; garment charts give texture coordinates in tiles, so that threads keep their
real size and stay crisp however large the garment is.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch

from avatar3d.engine.colors import Rgb
from avatar3d.structures import Material

Array = np.ndarray

TILE = 0.12
"""Metres."""
PIXELS = 512


@dataclass(frozen=True)
class Weave:
    """Relief and shading of one tile."""

    height: Array
    """(P, P) metres above the mean surface, times `TILE`/pixel-free units: slopes are taken on it."""
    shade: Array
    """(P, P) factor on the color, about 1."""
    roughness: float
    relief: float
    """Strength of the normal map."""


def _grid() -> tuple[Array, Array]:
    """u and v in [0, 1) at pixel centers."""
    axis = (np.arange(PIXELS) + 0.5) / PIXELS
    return np.meshgrid(axis, axis)


def tile_noise(cells: int, seed: int, octaves: int = 3) -> Array:
    """(P, P) smooth periodic noise with about zero mean and unit range; `cells` bumps per side."""
    rng = np.random.default_rng([seed, cells])
    total, weight = np.zeros((PIXELS, PIXELS)), 1.0
    for _ in range(octaves):
        spectrum_grid = rng.standard_normal((cells, cells))
        wave = np.fft.fft2(spectrum_grid)
        big = np.zeros((PIXELS, PIXELS), complex)
        half = cells // 2
        big[:half, :half], big[:half, -half:] = wave[:half, :half], wave[:half, -half:]
        big[-half:, :half], big[-half:, -half:] = wave[-half:, :half], wave[-half:, -half:]
        layer = np.real(np.fft.ifft2(big))
        total += weight * layer / max(layer.std(), 1e-9)
        weight *= 0.5
        cells = min(cells * 2, PIXELS)
    return total / max(np.abs(total).max(), 1e-9)


@cache
def weave(name: str) -> Weave:
    """One of jersey, rib, knit, poplin, denim, twill, wool, fleece, leather, canvas, felt, rubber."""
    u, v = _grid()
    tau = 2 * np.pi
    if name == "jersey":
        wales, courses = 60, 80
        height = 0.5 * np.cos(tau * wales * u) + 0.25 * np.cos(
            tau * courses * v + np.pi * (np.floor(wales * u) % 2)
        )
        return Weave(height, 1 + 0.030 * height + 0.010 * tile_noise(6, 1), 0.88, 0.35)
    if name == "rib":
        height = np.sqrt(np.abs(np.cos(np.pi * 24 * u)))
        return Weave(height, 0.84 + 0.18 * height + 0.02 * tile_noise(40, 2), 0.9, 1.6)
    if name == "knit":
        wales, courses = 18, 24
        x = np.abs((wales * u) % 1 - 0.5) * 2
        stitch = (courses * v + 0.75 * x) % 1
        height = np.sin(np.pi * stitch) ** 0.7 * (
            0.35 + 0.65 * np.sin(np.pi * np.clip(x * 0.92 + 0.06, 0, 1)) ** 0.6
        )
        fuzz = tile_noise(128, 3, 2)
        return Weave(height + 0.08 * fuzz, 0.74 + 0.30 * height + 0.05 * fuzz, 0.95, 2.4)
    if name == "poplin":
        height = np.cos(tau * 150 * u) * np.cos(tau * 150 * v)
        return Weave(height, 1 + 0.015 * height + 0.015 * tile_noise(8, 4), 0.8, 0.12)
    if name == "denim":
        twill = np.cos(tau * (64 * u + 64 * v)) + 0.5 * tile_noise(160, 5, 1)
        slub = np.repeat(tile_noise(96, 7, 2)[:1], PIXELS, 0) + 0.6 * tile_noise(64, 6, 2)
        return Weave(twill, 1 + 0.10 * twill + 0.10 * slub + 0.06 * tile_noise(3, 8), 0.85, 0.6)
    if name == "twill":
        lines = np.cos(tau * (90 * u + 90 * v))
        return Weave(lines, 1 + 0.025 * lines + 0.02 * tile_noise(6, 9), 0.82, 0.3)
    if name == "wool":
        lines = np.cos(tau * (70 * u + 70 * v)) + 0.6 * tile_noise(128, 10, 2)
        return Weave(lines, 1 + 0.035 * lines + 0.03 * tile_noise(32, 11), 0.9, 0.3)
    if name == "fleece":
        fuzz = tile_noise(96, 12, 3)
        return Weave(fuzz, 1 + 0.05 * fuzz, 0.95, 0.8)
    if name == "felt":
        fuzz = tile_noise(64, 13, 4)
        return Weave(fuzz, 1 + 0.04 * fuzz, 0.95, 0.4)
    if name == "leather":
        grain = np.minimum(np.abs(tile_noise(40, 14, 1)), np.abs(tile_noise(40, 15, 1)))
        height = np.sqrt(grain)
        return Weave(height, 0.93 + 0.12 * height, 0.42, 1.0)
    if name == "canvas":
        height = np.maximum(np.cos(tau * 60 * u) * np.sign(np.cos(tau * 60 * v)), 0) + 0.2 * tile_noise(128, 16, 1)
        return Weave(height, 0.95 + 0.07 * height, 0.85, 0.6)
    if name == "rubber":
        fuzz = tile_noise(64, 17, 2)
        return Weave(fuzz, 1 + 0.015 * fuzz, 0.6, 0.15)
    raise KeyError(name)


@cache
def weave_normals(name: str) -> torch.Tensor:
    """(P, P, 3) normal map of a weave, green up."""
    w = weave(name)
    strength = w.relief * 0.5
    dx = (np.roll(w.height, -1, 1) - np.roll(w.height, 1, 1)) * strength
    dy = (np.roll(w.height, -1, 0) - np.roll(w.height, 1, 0)) * strength
    n = np.stack([-dx, dy, np.ones_like(dx)], axis=-1)
    n /= np.linalg.norm(n, axis=-1, keepdims=True)
    return torch.from_numpy((0.5 + 0.5 * n).astype(np.float32))


@cache
def pattern_mask(pattern: str) -> Array:
    """(P, P) share of the pattern's color: 0 when plain; stripes run across, pinstripes down, checks are half in
    one band."""
    u, v = _grid()
    soft = 1.5 / PIXELS

    def band(t: Array, period: float, width: float) -> Array:
        d = np.abs((t / period) % 1 - 0.5) * period
        return np.clip((width * period / 2 - d) / soft + 0.5, 0, 1)

    if pattern == "stripes":
        return band(v, 1 / 4, 0.42)
    if pattern == "pinstripes":
        return 0.8 * band(u, 1 / 8, 0.12)
    if pattern == "checks":
        broad = 0.5 * band(u, 1 / 2, 0.45) + 0.5 * band(v, 1 / 2, 0.45)
        thin = np.maximum(band(u + 0.25, 1 / 2, 0.05), band(v + 0.25, 1 / 2, 0.05))
        return np.maximum(broad, 0.7 * thin)
    if pattern == "dots":
        out = np.zeros_like(u)
        for shift in (0.0, 0.5):
            du = ((4 * u + shift) % 1 - 0.5) / 4
            dv = ((4 * v + shift) % 1 - 0.5) / 4
            out = np.maximum(out, np.clip((0.042 - np.hypot(du, dv)) / soft + 0.5, 0, 1))
        return out
    return np.zeros_like(u)


def cloth_material(
    name: str,
    weave_name: str,
    color: Rgb,
    pattern: str = "plain",
    second: Rgb = (1.0, 1.0, 1.0),
    roughness: float | None = None,
) -> Material:
    """A double-sided material of one weave, color and pattern; stripes of wool are pinstripes."""
    w = weave(weave_name)
    if pattern == "plain":
        texture, factor = _shade_texture(weave_name), (*color, 1.0)
    else:
        mask = pattern_mask("pinstripes" if (weave_name, pattern) == ("wool", "stripes") else pattern)[
            ..., None
        ].astype(np.float32)
        mixed = np.array(color, np.float32) * (1 - mask) + np.array(second, np.float32) * mask
        shade = (w.shade / w.shade.max())[..., None].astype(np.float32)
        texture, factor = torch.from_numpy(mixed * shade), (1.0, 1.0, 1.0, 1.0)
    return Material(
        name,
        base_color=factor,
        base_color_texture=texture,
        normal_texture=weave_normals(weave_name),
        roughness=w.roughness if roughness is None else roughness,
        double_sided=True,
    )


@cache
def _shade_texture(weave_name: str) -> torch.Tensor:
    """(P, P, 3) light and dark of a weave, for a material whose color is plain."""
    shade = weave(weave_name).shade
    return torch.from_numpy((shade / shade.max()).astype(np.float32))[..., None].repeat(1, 1, 3)


def plain_material(name: str, color: Rgb, roughness: float = 0.6, metallic: float = 0.0) -> Material:
    """One color without texture: buttons, zips, soles."""
    return Material(name, base_color=(*color, 1.0), roughness=roughness, metallic=metallic, double_sided=True)
