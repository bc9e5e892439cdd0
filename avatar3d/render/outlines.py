"""Outlines that move smoothly with the vertices, so that pictures have a gradient where a surface ends.

A pixel's color switches from one surface to the next where an outline passes its center, which has no gradient.
As Laine et al. 2020 do, two neighbors on either side of an outline are blended by where between their centers it
passes. Here outlines are walked edge by edge, row by row: the triangles along the outline may be much
smaller than a pixel.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

IN_FRONT = 16.0
"""A surface may curve this many pixels' sizes towards the eye between its outline and the next pixel's center."""
BEHIND = 2.0
"""And so many away from it."""


@dataclass(frozen=True)
class Edges:
    """The E edges of a mesh with the (at most) two faces along each."""

    ends: Int[Tensor, "E 2"]
    faces: Int[Tensor, "E 2"]
    """Twice the same where there is only one."""
    opposite: Int[Tensor, "E 2"]
    """The corner of each face that is not on the edge."""


def mesh_edges(faces: Int[Tensor, "F 3"], weld: Int[Tensor, " V"] | None = None) -> Edges:
    """Edges between welded vertices; of edges with more than two faces only two are kept."""
    ends = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).long()
    opposite = torch.cat([faces[:, 2], faces[:, 0], faces[:, 1]]).long()
    owner = torch.arange(len(faces), device=faces.device).repeat(3)
    welded = ends if weld is None else weld[ends]
    low, high = welded.amin(1), welded.amax(1)
    order = (low * (int(high.max()) + 1 if len(high) else 1) + high).argsort(stable=True)
    low, high = low[order], high[order]
    new = torch.ones(len(order), dtype=torch.bool, device=faces.device)
    new[1:] = (low[1:] != low[:-1]) | (high[1:] != high[:-1])
    first = new.nonzero()[:, 0]
    last = torch.cat([first[1:], first.new_tensor([len(order)])]) - 1
    first, last = order[first], order[last]
    return Edges(
        ends[first], torch.stack([owner[first], owner[last]], 1), torch.stack([opposite[first], opposite[last]], 1)
    )


@dataclass(frozen=True)
class Crossings:
    """Pixels that an outline covers partly: `target` gets the share `weight` of the color of `source`."""

    target: Int[Tensor, " N"]
    source: Int[Tensor, " N"]
    weight: Float[Tensor, " N"]
    """In [0, 0.5]; differentiable in the vertices."""


def crossings(
    edges: Edges,
    faces: Int[Tensor, "F 3"],
    homogeneous: Float[Tensor, "V 3"],
    depth: Float[Tensor, "H W"],
    focal: float,
    two_sided: Bool[Tensor, " F"] | None = None,
    near: float = 1e-3,
) -> Crossings:
    """Where outlines that can be seen pass between the centers of neighboring pixels.

    `homogeneous` are vertices as `sight.homogeneous_pixels` gives them, `depth` is what pixel centers see, `focal`
    in pixels.
    """
    with torch.no_grad():
        outline, opposite = _outline(edges, faces, homogeneous, two_sided, near)
    corners = torch.cat([outline, opposite[:, None]], 1)
    points = homogeneous[corners.reshape(-1)].view(-1, 3, 3)
    z = points[..., 2].detach()
    a, b, c = (points[..., :2] / points[..., 2:].clamp_min(near)).unbind(1)
    steep = ((b - a)[:, 1].abs() >= (b - a)[:, 0].abs()).detach()
    flat = ~steep
    found = [
        _walked(a[steep], b[steep], c[steep], z[steep], depth, focal),
        _walked(a[flat].flip(1), b[flat].flip(1), c[flat].flip(1), z[flat], depth.T, focal),
    ]
    width = depth.shape[1]
    (inner0, outer0, at0), (inner1, outer1, at1) = found
    inner = torch.cat([inner0[:, 1] * width + inner0[:, 0], inner1[:, 0] * width + inner1[:, 1]])
    outer = torch.cat([outer0[:, 1] * width + outer0[:, 0], outer1[:, 0] * width + outer1[:, 1]])
    inner, outer, at = _outermost(inner, outer, torch.cat([at0, at1]), depth.numel())
    beyond = at > 0.5
    return Crossings(
        torch.where(beyond, outer, inner),
        torch.where(beyond, inner, outer),
        torch.where(beyond, at - 0.5, 0.5 - at),
    )


def antialiased(image: Float[Tensor, "C P"], found: Crossings) -> Float[Tensor, "C P"]:
    """Premultiplied colors (or anything linear) of all P pixels, blended along outlines."""
    total = image.new_zeros(image.shape[1]).index_add(0, found.target, found.weight.to(image))
    weight = found.weight.to(image) / total[found.target].clamp_min(1.0)
    step = image[:, found.source] - image[:, found.target]
    return image.index_add(1, found.target, weight * step)


def _outline(
    edges: Edges, faces: Tensor, homogeneous: Tensor, two_sided: Tensor | None, near: float
) -> tuple[Int[Tensor, "N 2"], Int[Tensor, " N"]]:
    """Ends of the edges between front and back, or of one face only, and the corner beside each."""
    p = homogeneous.detach()
    xy = p[:, :2] / p[:, 2:].clamp_min(near)
    i, j, k = (xy[faces[:, n]] for n in range(3))
    front = (j - i)[:, 0] * (k - i)[:, 1] - (j - i)[:, 1] * (k - i)[:, 0] < 0
    ahead = (p[:, 2] > near)[faces].all(1)
    first, second = edges.faces.unbind(1)
    single = first == second
    shown = front[first] if two_sided is None else front[first] | two_sided[first]
    chosen = torch.where(single, shown, front[first] != front[second]) & ahead[first] & ahead[second]
    index = chosen.nonzero()[:, 0]
    beside = torch.where(front[first[index]], edges.opposite[index, 0], edges.opposite[index, 1])
    return edges.ends[index], beside


def _walked(
    a: Float[Tensor, "N 2"],
    b: Float[Tensor, "N 2"],
    c: Float[Tensor, "N 2"],
    z: Float[Tensor, "N 3"],
    depth: Float[Tensor, "H W"],
    focal: float,
) -> tuple[Int[Tensor, "K 2"], Int[Tensor, "K 2"], Float[Tensor, " K"]]:
    """Crossings of edges a-b, whose surface lies on the side of c, with the rows of pixel centers.

    Gives the (x, y) of the pixel inside and the one outside, and how far from the first center the edge passes.
    """
    height, width = depth.shape
    with torch.no_grad():
        start = (torch.minimum(a[:, 1], b[:, 1]) - 0.5).ceil().clamp(0, height).long()
        end = (torch.maximum(a[:, 1], b[:, 1]) - 0.5).ceil().clamp(0, height).long()
        count = end - start
        edge = torch.arange(len(a), device=a.device).repeat_interleave(count)
        row = torch.arange(len(edge), device=a.device) - (count.cumsum(0) - count)[edge] + start[edge]
    a, b, c, z = a[edge], b[edge], c[edge], z[edge]
    slope = (b[:, 0] - a[:, 0]) / (b[:, 1] - a[:, 1])
    x = a[:, 0] + slope * (row + 0.5 - a[:, 1])
    with torch.no_grad():
        share = (row + 0.5 - a[:, 1]) / (b[:, 1] - a[:, 1])
        z_edge = 1 / ((1 - share) / z[:, 0] + share / z[:, 1])
        left = (x - 0.5).floor().long()
        surface_left = c[:, 0] < a[:, 0] + slope * (c[:, 1] - a[:, 1])
        inner, outer = torch.where(surface_left, left, left + 1), torch.where(surface_left, left + 1, left)
        inside = (left >= 0) & (left + 1 < width)
        z_inner = depth[row, inner.clamp(0, width - 1)]
        z_outer = depth[row, outer.clamp(0, width - 1)]
        pixel = z_edge / focal
        near_surface = (z_edge - z_inner < IN_FRONT * pixel) & (z_inner - z_edge < BEHIND * pixel)
        kept = (inside & near_surface & (z_edge < z_outer)).nonzero()[:, 0]
    row, inner, outer = row[kept], inner[kept], outer[kept]
    at = (x[kept] - (inner + 0.5)).abs()
    return torch.stack([inner, row], 1), torch.stack([outer, row], 1), at


def _outermost(inner: Tensor, outer: Tensor, at: Tensor, pixels: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of the crossings between the same two pixels the one farthest out."""
    key = inner * pixels + outer
    order = at.detach().argsort(stable=True)
    order = order[key[order].argsort(stable=True)]
    last = torch.ones(len(order), dtype=torch.bool, device=key.device)
    last[:-1] = key[order][1:] != key[order][:-1]
    kept = order[last]
    return inner[kept], outer[kept], at[kept]
