"""Textures at other sizes: exact area weights and repeating edges, in linear light where they hold colors."""

from __future__ import annotations

import math
from functools import cache
from typing import no_type_check

import numba
import numpy as np
import torch
from jaxtyping import Float

from avatar3d.render.color import linear_to_srgb, srgb_to_linear

STEPS = 4096
"""Of the tables between sRGB and linear light; values between them are interpolated."""


def resampled(
    texture: Float[np.ndarray, "H W C"],
    box: Float[np.ndarray, "2 2"],
    size: tuple[int, int],
    gutter: int = 0,
    colors: bool = False,
) -> Float[np.ndarray, "h w C"]:
    """A box [(u, v) low, (u, v) high] of texture space at `size` (x, y) texels, with `gutter` more on all sides.

    The texture repeats. Each texel is a mean under a tent as wide as two texels of the coarser grid: bilinear
    interpolation when enlarging, no aliasing when shrinking. `colors`: the first three channels are sRGB, and
    come out in linear light.
    """
    height, width, _ = texture.shape
    columns, rows = (
        _tent(count, box[0, axis], box[1, axis], size[axis], gutter) for axis, count in ((0, width), (1, height))
    )
    table = _tables()[0] if colors else np.zeros(0, np.float32)
    source = np.ascontiguousarray(texture, np.float32)
    return _across(_down(source, *rows, table), *columns)


def sampled_at(texture: Float[np.ndarray, "H W C"], uv: Float[np.ndarray, "N 2"]) -> Float[np.ndarray, "N C"]:
    """Bilinear look-up; the texture repeats."""
    height, width, _ = texture.shape
    x, y = uv[:, 0] * width - 0.5, uv[:, 1] * height - 0.5
    x0, y0 = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    fx, fy = ((t - t0)[:, None].astype(np.float32) for t, t0 in ((x, x0), (y, y0)))
    upper, lower = (
        texture[row % height, x0 % width] * (1 - fx) + texture[row % height, (x0 + 1) % width] * fx
        for row in (y0, y0 + 1)
    )
    return upper * (1 - fy) + lower * fy


def encode_colors(linear: Float[np.ndarray, "H W C"]) -> None:
    """Linear light to sRGB in place, in the first three channels."""
    _encode(linear, _tables()[1])


@cache
def _tables() -> tuple[np.ndarray, np.ndarray]:
    """Linear light at even steps of sRGB, and sRGB at even steps of the root of linear light."""
    steps = torch.linspace(0, 1, STEPS + 1, dtype=torch.float64)
    tables = [f.numpy().astype(np.float32) for f in (srgb_to_linear(steps), linear_to_srgb(steps**2))]
    return tables[0], tables[1]


def _tent(source: int, low: float, high: float, count: int, gutter: int) -> tuple[np.ndarray, np.ndarray]:
    """First texel (N,) and weights (N, T), each row summing to 1."""
    step = (high - low) / count
    center = (low + (np.arange(-gutter, count + gutter) + 0.5) * step) * source - 0.5
    radius = max(1.0, step * source)
    first = np.floor(center - radius).astype(np.int64) + 1
    texel = first[:, None] + np.arange(math.ceil(2 * radius))
    weight = np.maximum(1 - np.abs(texel - center[:, None]) / radius, 0)
    return first % source, (weight / weight.sum(axis=1, keepdims=True)).astype(np.float32)


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def _down(image, first, weight, table):
    """Weighted sums of rows; the first three channels are looked up in the table when it has entries."""
    height, width, channels = image.shape
    count, taps = weight.shape
    steps = len(table) - 1
    if steps > 0:
        decoded = np.empty_like(image)
        for y in range(height):
            for x in range(width):
                for c in range(channels):
                    value = image[y, x, c]
                    if c < 3:
                        at = min(max(value, np.float32(0)), np.float32(1)) * np.float32(steps)
                        i = min(int(at), steps - 1)
                        value = table[i] + (at - np.float32(i)) * (table[i + 1] - table[i])
                    decoded[y, x, c] = value
        image = decoded
    flat = image.reshape(height, width * channels)
    out = np.zeros((count, width * channels), np.float32)
    for n in range(count):
        y = first[n]
        for t in range(taps):
            w = weight[n, t]
            for x in range(width * channels):
                out[n, x] += w * flat[y, x]
            y += 1
            if y == height:
                y = 0
    return out.reshape(count, width, channels)


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def _across(image, first, weight):
    """Weighted sums of columns."""
    height, width, channels = image.shape
    count, taps = weight.shape
    out = np.empty((height, count, channels), np.float32)
    for y in range(height):
        for n in range(count):
            x = first[n]
            r = g = b = a = np.float32(0)
            for t in range(taps):
                w = weight[n, t]
                r += w * image[y, x, 0]
                if channels > 2:
                    g += w * image[y, x, 1]
                    b += w * image[y, x, 2]
                if channels > 3:
                    a += w * image[y, x, 3]
                x += 1
                if x == width:
                    x = 0
            out[y, n, 0] = r
            if channels > 2:
                out[y, n, 1], out[y, n, 2] = g, b
            if channels > 3:
                out[y, n, 3] = a
    return out


@numba.njit(cache=True, error_model="numpy")
@no_type_check
def _encode(image, table):
    steps = len(table) - 1
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            for c in range(3):
                at = math.sqrt(min(max(image[y, x, c], 0.0), 1.0)) * steps
                i = min(int(at), steps - 1)
                image[y, x, c] = table[i] + (at - i) * (table[i + 1] - table[i])
