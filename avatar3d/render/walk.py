"""Where along rays to look at a field: nodes near its surfaces, found in its grid of distances alone.

A ray leaps over empty space, puts nodes closely where the surface is near and stops where the grid says that it
is opaque. Two ways with one meaning: numba kernels for CPU tensors, torch for any device.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from avatar3d.fields.density import optical_depth
from avatar3d.render.distance_grid import DistanceGrid
from avatar3d.render.rasterize import as_array, run_bands, thread_count
from avatar3d.render.rays import Rays, box_span
from avatar3d.render.walk_kernel import pack_rays, skip_rays, walk_rays

REACH = 5.0
"""Scales of the density beyond which a surface is not felt: a metre at this distance absorbs exp(-5) / 2 beta."""
OPAQUE = 7.0
"""Optical depth at which a ray ends: 1/1000 of the light would go on."""
NEAR_STEP, FAR_STEP = 1.5, 0.7
"""Between nodes: scales of the density at the surface, and share of the distance off it."""
MOST = 96
"""Nodes of a ray."""
LEAST = 5e-4
"""Metres that a ray leaps at least."""


@dataclass(frozen=True)
class Nodes:
    """P places along N rays, those of a ray together and in order."""

    t: Float[Tensor, " P"]
    ray: Int[Tensor, " P"]
    first: Int[Tensor, " M"]
    """Where each ray's nodes begin, and P at last (M is N + 1); they end where the next ray's begin."""
    linked: Bool[Tensor, " P"]
    """The ray stays near surfaces from this node to the next one; else it goes through empty space or ends."""


@torch.no_grad()
def walk(
    grid: DistanceGrid, rays: Rays, beta: float, generator: torch.Generator | None = None, pace: float = 1.0
) -> Nodes:
    """Nodes of rays for a density of scale `beta` metres.

    A smaller `pace` puts them closer; above 1.2 a ray may step over thin parts. With a generator each ray has its
    own pace, so that many views of the same rays see all places.
    """
    paces = torch.full_like(rays.origins[:, 0], pace)
    if generator is not None:
        paces *= 0.6 + 0.8 * torch.rand(len(rays), generator=generator, device=generator.device).to(paces)
    if rays.origins.device.type == "cpu":
        return walk_numba(grid, rays, beta, paces)
    return walk_torch(grid, rays, beta, paces)


def walk_numba(grid: DistanceGrid, rays: Rays, beta: float, pace: Float[Tensor, " N"]) -> Nodes:
    """`walk` on as many threads as torch uses."""
    count = len(rays)
    enter, leave = box_span(rays, grid.bounds)
    t, linked = np.empty((count, MOST), np.float32), np.empty((count, MOST), np.bool_)
    counts = np.zeros(count, np.int64)
    arguments = (
        *_in_cells(grid, rays), as_array(enter, np.float32), as_array(leave, np.float32),
        *np.array([REACH * beta + grid.slack, LEAST, beta, NEAR_STEP * beta, FAR_STEP, OPAQUE], np.float32),
        as_array(pace, np.float32), t, linked, counts,
    )  # fmt: skip
    run_bands(lambda begin, end: walk_rays(begin, end, *arguments), count, thread_count())
    first = np.concatenate([[0], counts.cumsum()])
    packed = np.empty(first[-1], np.float32), np.empty(first[-1], np.bool_), np.empty(first[-1], np.int64)
    run_bands(lambda begin, end: pack_rays(begin, end, first, t, linked, *packed), count, thread_count())
    found_t, found_linked, ray = (torch.from_numpy(values) for values in packed)
    return Nodes(found_t.to(rays.origins), ray, torch.from_numpy(first), found_linked)


def walk_torch(grid: DistanceGrid, rays: Rays, beta: float, pace: Float[Tensor, " N"]) -> Nodes:
    """`walk` for all rays side by side, a step of each at a time."""
    t, leave = box_span(rays, grid.bounds)
    reach = REACH * beta + grid.slack
    alive = (t < leave).nonzero()[:, 0]
    t, leave, pace = t[alive], leave[alive], pace[alive]
    linked, depth = torch.zeros_like(alive, dtype=torch.bool), torch.zeros_like(t)
    before, step, count = torch.zeros_like(t), torch.zeros_like(t), torch.zeros_like(alive)
    rows: list[tuple[Tensor, Tensor, Tensor]] = []
    while len(alive):
        d = grid(rays[alive].at(t))
        near = d < reach
        depth = depth + torch.where(near & linked, optical_depth(before, d, step, beta), 0.0)
        rows.append((alive[near], t[near], (linked & near)[near]))
        count = count + near
        step = torch.minimum(pace * (FAR_STEP * d.abs()).clamp_min(NEAR_STEP * beta), leave - t)
        before, linked = d, near
        going = (t < leave) & (count < MOST) & ((depth <= OPAQUE) | ~near)
        t = t + torch.where(near, step, (d - reach).clamp_min(LEAST))
        kept = (going & (near | (t < leave))).nonzero()[:, 0]
        alive, t, leave, pace, linked, depth, before, step, count = (
            values[kept] for values in (alive, t, leave, pace, linked, depth, before, step, count)
        )
    ray, found, after = (torch.cat(column) for column in zip(*rows, strict=True)) if rows else (alive, t, linked)
    order = torch.argsort(ray, stable=True)
    after = after[order]
    first = torch.bincount(ray, minlength=len(rays)).cumsum(0)
    return Nodes(
        found[order], ray[order], torch.cat([first.new_zeros(1), first]), torch.cat([after[1:], after[:1] & False])
    )


@torch.no_grad()
def skip(
    grid: DistanceGrid, rays: Rays, start: Float[Tensor, " N"], leave: Float[Tensor, " N"]
) -> Float[Tensor, " N"]:
    """The first t from `start` on where a surface may be; `leave` or more where there is none."""
    if rays.origins.device.type != "cpu":
        return skip_torch(grid, rays, start, leave)
    out = np.empty(len(rays), np.float32)
    arguments = (
        *_in_cells(grid, rays), as_array(start, np.float32), as_array(leave, np.float32),
        np.float32(grid.slack), np.float32(LEAST), out,
    )  # fmt: skip
    run_bands(lambda begin, end: skip_rays(begin, end, *arguments), len(rays), thread_count())
    return torch.from_numpy(out).to(start)


def skip_torch(
    grid: DistanceGrid, rays: Rays, start: Float[Tensor, " N"], leave: Float[Tensor, " N"]
) -> Float[Tensor, " N"]:
    """`skip` for all rays side by side."""
    t = start.clone()
    alive = (t < leave).nonzero()[:, 0]
    while len(alive):
        d = grid(rays[alive].at(t[alive]))
        alive, d = alive[d >= grid.slack], d[d >= grid.slack]
        t[alive] += (d - grid.slack).clamp_min(LEAST)
        alive = alive[t[alive] < leave[alive]]
    return t


def _in_cells(grid: DistanceGrid, rays: Rays) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distances, and origins and directions in units of cells, as the kernels read them."""
    low, high = grid.bounds.to(rays.origins)
    scale = (rays.origins.new_tensor(grid.values.shape).flip(0) - 1) / (high - low)
    origins, directions = (rays.origins - low) * scale, rays.directions * scale
    return tuple(as_array(values, np.float32) for values in (grid.values, origins, directions))  # type: ignore
