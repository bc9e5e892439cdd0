"""Which triangle covers which pixel: a numba kernel for CPU tensors and pure torch for any device."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from avatar3d.render.kernels import rasterize_band
from avatar3d.render.textures import sample_atlas


@dataclass(frozen=True)
class Triangles:
    """Triangles in an image: what a rasterizer needs, and no more.

    `homogeneous` holds (x w, y w, w) with x, y in pixels; w is the depth for a perspective camera and 1 for an
    orthographic one. Front faces are counter-clockwise on the screen.
    """

    homogeneous: Float[Tensor, "V 3"]
    depth: Float[Tensor, " V"]
    faces: Int[Tensor, "F 3"]
    two_sided: Bool[Tensor, " F"]
    uv: Float[Tensor, "V 2"]
    alpha_texels: Float[Tensor, " N"]
    alpha_rows: Int[Tensor, "F 3"]
    """(offset, width, height) of the alpha texture of each face in `alpha_texels`."""
    alpha_factor: Float[Tensor, " F"]
    alpha_cutoff: Float[Tensor, " F"]
    """Fragments with less alpha are dropped; 0 is no test."""


@dataclass(frozen=True)
class Fragments:
    """The K nearest surfaces behind each pixel, nearest first; face -1 and depth inf where there is none."""

    face: Int[Tensor, "K H W"]
    depth: Float[Tensor, "K H W"]


def rasterize(
    triangles: Triangles,
    width: int,
    height: int,
    layers: int = 1,
    limit: Float[Tensor, "H W"] | None = None,
    near: float = 1e-3,
    samples: int = 1,
) -> Fragments:
    """Fragments with near < depth < limit; backs of one-sided faces and alpha below its cutoff are dropped.

    With more than one of the `samples` (per axis and pixel) the cutoff differs among neighbours, see
    `cutoff_jitter`.
    """
    if triangles.depth.device.type == "cpu":
        return rasterize_numba(triangles, width, height, layers, limit, near, samples)
    return rasterize_torch(triangles, width, height, layers, limit, near, samples)


def cutoff_jitter(samples: int) -> Float[np.ndarray, "2 2"]:
    """Factors of the alpha cutoff by the parity of row and column.

    When a pixel has several samples, alpha around the cutoff becomes partial coverage instead of a hard edge.
    """
    return np.array([[0.7, 1.1], [1.3, 0.9]]) if samples > 1 else np.ones((2, 2))


def rasterize_numba(
    triangles: Triangles,
    width: int,
    height: int,
    layers: int = 1,
    limit: Float[Tensor, "H W"] | None = None,
    near: float = 1e-3,
    samples: int = 1,
) -> Fragments:
    """`rasterize` for CPU tensors: bands of rows on a thread pool (as many threads as torch uses)."""
    face = torch.full((layers, height, width), -1, dtype=torch.int32)
    depth = torch.full((layers, height, width), torch.inf)
    limit = depth[0].clone() if limit is None else limit
    t = triangles
    arrays = (
        np.arange(len(t.faces), dtype=np.int32),
        as_array(t.homogeneous, np.float64), as_array(t.depth, np.float64), as_array(t.faces, np.int32),
        as_array(t.two_sided, np.bool_), as_array(t.uv, np.float64), as_array(t.alpha_texels, np.float32),
        as_array(t.alpha_rows[:, None], np.int64), as_array(t.alpha_factor, np.float64),
        as_array(t.alpha_cutoff, np.float64), cutoff_jitter(samples), near,
    )  # fmt: skip
    outputs = (as_array(limit, np.float32), face.numpy(), depth.numpy())
    run_bands(lambda begin, end: rasterize_band(*arrays, begin, end, width, *outputs), height, thread_count())
    return Fragments(face, depth)


def thread_count() -> int:
    """As many threads as torch uses, but no more than there are processors."""
    return min(torch.get_num_threads(), os.cpu_count() or 1)


def run_bands(fill: Callable[[int, int], None], count: int, workers: int) -> None:
    """Call `fill(begin, end)` for ranges that cover [0, count), on `workers` threads."""
    if workers == 1:
        fill(0, count)
        return
    bands = 4 * workers
    edges = [count * b // bands for b in range(bands + 1)]
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(fill, edges[:-1], edges[1:]))


def as_array(tensor: Tensor, dtype: type) -> np.ndarray:
    """The tensor's numbers as a contiguous array, without a copy when they already are."""
    return np.ascontiguousarray(tensor.detach().numpy(), dtype=dtype)


def rasterize_torch(
    triangles: Triangles,
    width: int,
    height: int,
    layers: int = 1,
    limit: Float[Tensor, "H W"] | None = None,
    near: float = 1e-3,
    samples: int = 1,
    chunk: int = 1 << 22,
) -> Fragments:
    """`rasterize` in plain torch operations, on any device.

    All (triangle, pixel) pairs inside bounding boxes are tested, `chunk` at a time; then the nearest fragment
    of each pixel is found by a scatter-min, once per layer.
    """
    t = triangles
    device = t.depth.device
    inverse, visible = _edge_functions(t, near)
    box_min, box_size = _bounding_boxes(t, visible, width, height, near)
    counts = box_size[:, 0] * box_size[:, 1]
    ends = counts.cumsum(0)
    kept: list[tuple[Tensor, Tensor, Tensor]] = []
    jitter = torch.from_numpy(cutoff_jitter(samples)).to(device)
    total = int(ends[-1]) if len(ends) else 0
    for begin in range(0, total, chunk):
        pair = torch.arange(begin, min(begin + chunk, total), device=device)
        f = torch.searchsorted(ends, pair, right=True)
        local = pair - (ends[f] - counts[f])
        x = box_min[f, 0] + local % box_size[f, 0]
        y = box_min[f, 1] + local // box_size[f, 0]
        kept.append(_test_pairs(t, inverse, f, x, y, width, limit, near, jitter))
    if not kept:
        none = torch.zeros(0, dtype=torch.int64, device=device)
        kept.append(_test_pairs(t, inverse, none, none, none, width, limit, near, jitter))
    f, pixel, z = (torch.cat(column) for column in zip(*kept, strict=True))
    out_face = torch.full((layers, height * width), -1, dtype=torch.int32, device=device)
    out_depth = torch.full((layers, height * width), torch.inf, device=device)
    for layer in range(layers):
        out_depth[layer].scatter_reduce_(0, pixel, z, "amin")
        nearest = z == out_depth[layer][pixel]
        first = torch.full((height * width,), len(t.faces), device=device)
        first.scatter_reduce_(0, pixel[nearest], f[nearest], "amin")
        winner = nearest & (f == first[pixel])
        out_face[layer, pixel[winner]] = f[winner].int()
        f, pixel, z = f[~winner], pixel[~winner], z[~winner]
    shape = (layers, height, width)
    return Fragments(out_face.view(shape), out_depth.view(shape))


def _edge_functions(t: Triangles, near: float) -> tuple[Tensor, Tensor]:
    """Coefficients (F, 3, 3) = (a, b, c) of the three edge functions a x + b y + c, and the faces to draw."""
    i, j, k = (t.homogeneous.double()[t.faces[:, n]] for n in range(3))
    cofactors = torch.stack([_cross(j, k), _cross(k, i), _cross(i, j)], 1)
    det = i[:, 0] * cofactors[:, 0, 0] + i[:, 1] * cofactors[:, 0, 1] + i[:, 2] * cofactors[:, 0, 2]
    behind = (t.depth[t.faces] <= near).all(1)
    visible = ~behind & (det != 0) & ((det < 0) | t.two_sided)
    return cofactors * det.sign()[:, None, None], visible


def _cross(a: Tensor, b: Tensor) -> Tensor:
    """Cross product with every step rounded, so that swapping a and b changes the sign and nothing else."""
    (ax, ay, az), (bx, by, bz) = a.unbind(-1), b.unbind(-1)
    return torch.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], dim=-1)


def _bounding_boxes(t: Triangles, visible: Tensor, width: int, height: int, near: float) -> tuple[Tensor, Tensor]:
    """First pixel (F, 2) and size (F, 2) of each face's box; the whole image when it crosses the near plane."""
    corners = t.homogeneous.double()[t.faces]
    w = corners[..., 2:]
    xy = corners[..., :2] / torch.where(w == 0, torch.ones_like(w), w)
    size = torch.tensor([width, height], device=w.device)
    low = (xy.amin(1).clamp(-1, 1e6) - 0.5).ceil().long().clamp_min(0)
    high = torch.minimum((xy.amax(1).clamp(-1, 1e6) - 0.5).floor().long(), size - 1)
    crossing = (t.depth[t.faces] <= near).any(1)[:, None]
    low = torch.where(crossing, 0, low)
    high = torch.where(crossing, size - 1, high)
    return low, (high - low + 1).clamp_min(0) * visible[:, None]


def _test_pairs(
    t: Triangles, edges: Tensor, f: Tensor, x: Tensor, y: Tensor, width: int, limit: Tensor | None, near: float,
    jitter: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Of the (face, pixel) pairs those that are seen: (face, pixel index, depth)."""
    px, py = x.double()[:, None] + 0.5, y.double()[:, None] + 0.5
    e = edges[f]
    b = e[..., 0] * px + (e[..., 1] * py + e[..., 2])
    total = b[:, 0] + b[:, 1] + b[:, 2]
    own = (e[..., 0] > 0) | ((e[..., 0] == 0) & (e[..., 1] > 0))
    inside = ((b > 0) | ((b == 0) & own)).all(-1) & (total > 0)
    f, pixel, b, scale = f[inside], (y * width + x)[inside], b[inside], 1 / total[inside]
    zi, zj, zk = t.depth.double()[t.faces[f]].unbind(-1)
    z = ((b[:, 0] * zi + b[:, 1] * zj + b[:, 2] * zk) * scale).float()
    b = b * scale[:, None]
    seen = z > near
    if limit is not None:
        seen &= z < limit.reshape(-1)[pixel]
    uv = (b[..., None] * t.uv.double()[t.faces[f]]).sum(1)
    alpha = t.alpha_factor[f] * sample_atlas(t.alpha_texels[:, None].double(), t.alpha_rows[f], uv)[:, 0]
    factor = jitter[pixel // width % 2, pixel % width % 2]
    seen &= (t.alpha_cutoff[f] <= 0) | (alpha >= t.alpha_cutoff[f].double() * factor)
    return f[seen], pixel[seen], z[seen]
