"""Volume rendering of radiance fields (Mildenhall et al. 2020, NeRF, section 4), many views at once.

Each ray is cut into bins, and the field is looked at in one place of each. With a generator places are random in
their bins, so that the optical depth of a ray is right on average; without one they are the middles.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.fields.radiance import RadianceField
from avatar3d.fields.slopes import analytic_slope
from avatar3d.render.meshes import BACKDROP
from avatar3d.render.occupancy import Occupancy, filled_span, wanted_nodes
from avatar3d.render.rays import POINTS_PER_RAY, FieldError, Rays, camera_rays, in_chunks
from avatar3d.render.volume import ray_sums
from avatar3d.structures import Camera, Render

MEMORY = 1 << 31
"""Bytes that pictures may take besides their pixels: enough for four of 64 x 64 with 48 nodes on a ray."""
VISIBLE = 1e-3
"""Share of a ray's light below which a node's normal is not asked for."""
BLUR = 0.01
"""Share of the mean weight that importance sampling gives to every bin (NeRF, section 5.2)."""

Behind = tuple[float, float, float] | Float[Tensor, "..."] | Callable[[Float[Tensor, "N 3"]], Float[Tensor, "N 3"]]
"""One color; colors that broadcast to (B, H, W, 3); or a network from directions to colors."""


@dataclass(frozen=True)
class Shading:
    """One lamp and light from everywhere (DreamFusion, section 3.1). Without a `Shading` there is only albedo."""

    light: Float[Tensor, "*B 3"]
    """Where the lamp is: one for all views, or one for each."""
    ambient: float = 0.1
    diffuse: float = 0.9
    textureless: bool = False
    """Of white material."""


@dataclass(frozen=True)
class Views:
    """Pictures of B cameras, and what regularisers need of their rays."""

    rgb: Float[Tensor, "B 3 H W"]
    """sRGB, composed over the background."""
    alpha: Float[Tensor, "B H W"]
    depth: Float[Tensor, "B H W"]
    """Mean distance along the camera's z axis of what stops the light; 0 where nothing does."""
    normal: Float[Tensor, "B 3 H W"]
    """Mean over the light, times alpha, world frame; 0 when it was not asked for."""
    facing: Float[Tensor, "B H W"]
    """`regularize.orientation`'s sum over each ray; 0 when normals were not asked for."""
    weights: Float[Tensor, "B H W K"]
    """Share of the light that each bin stops."""
    edges: Float[Tensor, "B H W E"]
    """Of the K = E - 1 bins, t along each ray."""


@dataclass(frozen=True)
class _Aim(Rays):
    """Rays with the random shares of their nodes, and their lamps."""

    shift: Float[Tensor, "N S"]
    light: Float[Tensor, "N 3"]

    def __getitem__(self, index: Tensor | slice) -> _Aim:
        return _Aim(self.origins[index], self.directions[index], self.shift[index], self.light[index])


def render_views(
    field: RadianceField,
    cameras: Sequence[Camera],
    nodes: int = 48,
    importance: int = 0,
    generator: torch.Generator | None = None,
    background: Behind = BACKDROP,
    shading: Shading | None = None,
    normals: bool = False,
    grid: Occupancy | None = None,
    memory: int = MEMORY,
) -> Views:
    """Pictures of cameras of one size, differentiable with respect to all that the field is made of.

    `nodes` bins are spread evenly over each ray's way through the box, or through the filled cells of `grid`;
    `importance` more go where those find weight. Normals are made when `shading` or `normals` ask for them.
    `memory` is in bytes; more than fits it is done piece by piece, also in the backward pass.

    Raises `FieldError` when cameras differ in size or memory does not suffice.
    """
    if len({(camera.width, camera.height) for camera in cameras}) != 1:
        raise FieldError("views are rendered together only at one size: give cameras of the same width and height")
    pairs = [camera_rays(camera, field.bounds) for camera in cameras]
    rays = Rays(*(torch.cat([getattr(r, name) for r, _ in pairs]) for name in ("origins", "directions")))
    lamps = rays.origins.new_zeros(1, 3) if shading is None else shading.light.to(rays.origins).view(-1, 3)
    light = lamps.expand(len(cameras), 3).repeat_interleave(len(rays) // len(cameras), 0)
    aim = _Aim(rays.origins, rays.directions, _shifts(len(rays), nodes + importance, generator, light), light)
    asked = normals or shading is not None
    rgb, alpha, t, normal, facing, weights, edges = _collect(
        field, aim, nodes, importance, shading, asked, grid, memory
    )
    size = (len(cameras), cameras[0].height, cameras[0].width)
    behind = _behind(background, rays, size)
    rgb = rgb.view(*size, 3) + (1 - alpha).view(*size, 1) * behind
    z = torch.cat([per_metre for _, per_metre in pairs])
    return Views(
        rgb=rgb.permute(0, 3, 1, 2), alpha=alpha.view(size), depth=(z * t / alpha.clamp_min(1e-6)).view(size),
        normal=normal.view(*size, 3).permute(0, 3, 1, 2), facing=facing.view(size),
        weights=weights.view(*size, -1), edges=edges.view(*size, -1),
    )  # fmt: skip


def light_of_rays(
    field: RadianceField,
    rays: Rays,
    nodes: int = 48,
    importance: int = 0,
    generator: torch.Generator | None = None,
    grid: Occupancy | None = None,
    memory: int = MEMORY,
) -> tuple[Float[Tensor, "N 3"], Float[Tensor, " N"]]:
    """Colors (times alpha) and alpha of any rays, as `render_views` makes them."""
    shift = _shifts(len(rays), nodes + importance, generator, rays.origins)
    aim = _Aim(rays.origins, rays.directions, shift, torch.zeros_like(rays.origins))
    rgb, alpha, *_ = _collect(field, aim, nodes, importance, None, False, grid, memory)
    return rgb, alpha


def render_radiance(
    field: RadianceField,
    camera: Camera,
    nodes: int = 96,
    importance: int = 0,
    background: Behind = BACKDROP,
    shading: Shading | None = None,
    grid: Occupancy | None = None,
    memory: int = MEMORY,
) -> Render:
    """One picture to look at, as pictures of meshes are. Labels are 1 where at least half of the light stops."""
    views = render_views(field, [camera], nodes, importance, None, background, shading, True, grid, memory)
    alpha = views.alpha[0]
    found = alpha >= 0.5
    normal = torch.nn.functional.normalize(views.normal[0].permute(1, 2, 0), dim=-1)
    return Render(
        rgb=views.rgb[0].permute(1, 2, 0), alpha=alpha,
        depth=torch.where(found, views.depth[0], torch.inf),
        normal=torch.where(found[..., None], normal, 0.0),
        labels=found.long(), uv=alpha.new_zeros(*alpha.shape, 2),
    )  # fmt: skip


def _shifts(rays: int, count: int, generator: torch.Generator | None, like: Tensor) -> Float[Tensor, "N S"]:
    """Shares of bins at which nodes are: random ones, or the middles."""
    if generator is None:
        return like.new_full((1, 1), 0.5).expand(rays, count)
    return torch.rand(rays, count, generator=generator, device=generator.device).to(like)


def _behind(background: Behind, rays: Rays, size: tuple[int, int, int]) -> Float[Tensor, "B H W 3"]:
    if callable(background) and not isinstance(background, Tensor):
        return background(rays.directions).view(*size, 3)
    return torch.as_tensor(background).to(rays.origins).expand(*size, 3)


def _collect(
    field: RadianceField, aim: _Aim, nodes: int, importance: int, shading: Shading | None, normals: bool,
    grid: Occupancy | None, memory: int,
) -> tuple[Tensor, ...]:  # fmt: skip
    """`_march` in pieces that fit the memory."""

    def render(aim: Rays) -> tuple[Tensor, ...]:
        assert isinstance(aim, _Aim)
        return _march(field, aim, nodes, importance, shading, normals, grid)

    budget = max(1, memory * POINTS_PER_RAY // (nodes + importance))
    return tuple(torch.cat(column) for column in zip(*in_chunks(render, aim, budget), strict=True))


def _march(
    field: RadianceField, aim: _Aim, nodes: int, importance: int, shading: Shading | None, normals: bool,
    grid: Occupancy | None,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Colors, alpha, t (times alpha), normals, facing, weights and edges of rays."""
    near, far = filled_span(aim, field.bounds, grid)
    edges = even_edges(near, far, nodes)
    if importance:
        with torch.no_grad():
            density = _look(field, aim, edges, aim.shift[:, :nodes], grid).density
        weights = light_shares(density, edges.diff(dim=1))
        edges = finer_edges(edges, weights, importance)
    seen = _look(field, aim, edges, aim.shift, grid)
    weights = light_shares(seen.density, edges.diff(dim=1))
    own = weights.flatten().index_select(0, seen.index)
    rgb = seen.rgb
    normal, facing = torch.zeros_like(rgb[:, :1]).expand(-1, 3), torch.zeros_like(own)
    if normals:
        normal = _normals(field, seen.points, own)
        facing = (normal * aim.directions[seen.ray]).sum(-1).clamp_min(0).square() * own.detach()
    if shading is not None:
        rgb = lit(rgb, normal, aim.light[seen.ray] - seen.points, shading)
    columns = [rgb * own[:, None], (seen.t * own)[:, None], facing[:, None]]
    if normals:
        columns.append(normal * own[:, None])
    sums = ray_sums(torch.cat(columns, 1), seen.first)
    normal = sums[:, 5:] if normals else sums.new_zeros(1, 3).expand(len(aim), 3)
    return sums[:, :3], weights.sum(1), sums[:, 3], normal, sums[:, 4], weights, edges


@dataclass(frozen=True)
class _Seen:
    """The field at the P wanted nodes of N rays, and its density at all N x K."""

    density: Float[Tensor, "N K"]
    """0 at nodes that were not wanted."""
    rgb: Float[Tensor, "P 3"]
    points: Float[Tensor, "P 3"]
    t: Float[Tensor, " P"]
    ray: Tensor
    index: Tensor
    """In the N * K."""
    first: Tensor
    """Of each ray among the P, and P at last."""


def _look(field: RadianceField, aim: _Aim, edges: Tensor, shift: Tensor, grid: Occupancy | None) -> _Seen:
    widths = edges.diff(dim=1)
    t = edges[:, :-1] + shift * widths
    wanted = widths > 0 if grid is None else wanted_nodes(aim, t, widths, grid)
    index = wanted.flatten().nonzero()[:, 0]
    counts = wanted.sum(1)
    ray = torch.arange(len(aim), device=t.device).repeat_interleave(counts)
    first = torch.nn.functional.pad(counts.cumsum(0), (1, 0))
    along = t.flatten().index_select(0, index)
    points = torch.addcmul(aim.origins.index_select(0, ray), along[:, None], aim.directions.index_select(0, ray))
    sample = field(points)
    density = torch.zeros_like(t).flatten().index_copy(0, index, sample.density).view(t.shape)
    return _Seen(density, sample.rgb, points, along, ray, index, first)


def even_edges(near: Float[Tensor, " N"], far: Float[Tensor, " N"], count: int) -> Float[Tensor, "N E"]:
    """Edges of `count` bins of equal width."""
    share = torch.arange(count + 1, device=near.device).to(near) / count
    return near[:, None] + share * (far - near)[:, None]


def finer_edges(edges: Float[Tensor, "N E"], weights: Float[Tensor, "N K"], count: int) -> Float[Tensor, "N F"]:
    """The same edges and `count` more, evenly spread over the light that the bins stop (NeRF, section 5.2)."""
    mass = weights + BLUR * weights.mean(1, keepdim=True) + 1e-6
    total = torch.nn.functional.pad(mass.cumsum(1), (1, 0))
    share = (torch.arange(count, device=edges.device).to(edges) + 0.5) / count
    wanted = share * total[:, -1:]
    bin_ = torch.searchsorted(total, wanted, right=True).clamp(1, weights.shape[1]) - 1
    begin, end = edges.gather(1, bin_), edges.gather(1, bin_ + 1)
    part = (wanted - total.gather(1, bin_)) / mass.gather(1, bin_)
    return torch.cat([edges, begin + part.clamp(0, 1) * (end - begin)], 1).sort(1).values


def light_shares(density: Float[Tensor, "N K"], widths: Float[Tensor, "N K"]) -> Float[Tensor, "N K"]:
    """T_i (1 - exp(-sigma_i delta_i)), T_i = exp(-sum of sigma_j delta_j over j < i) (NeRF, equation 3)."""
    depth = density * widths
    through = torch.exp(-torch.nn.functional.pad(depth.cumsum(1), (1, 0)))
    return through[:, :-1] - through[:, 1:]


def lit(
    albedo: Float[Tensor, "P 3"], normal: Float[Tensor, "P 3"], to_light: Float[Tensor, "P 3"], shading: Shading
) -> Float[Tensor, "P 3"]:
    """albedo (ambient + diffuse max(0, n . l)), l towards the lamp (DreamFusion, equation 7); white material when
    textureless."""
    cosine = (normal * torch.nn.functional.normalize(to_light, dim=-1)).sum(-1, keepdim=True).clamp_min(0)
    light = shading.ambient + shading.diffuse * cosine
    return light.expand(-1, 3) if shading.textureless else albedo * light


def _normals(field: RadianceField, points: Float[Tensor, "P 3"], weights: Float[Tensor, " P"]) -> Tensor:
    """-grad density / |grad density| where there is light to see it, 0 elsewhere."""
    index = (weights.detach() > VISIBLE).nonzero()[:, 0]
    slope = getattr(field, "slope", None)
    found = slope(points[index]) if slope is not None else analytic_slope(field, points[index])
    length = found.square().sum(-1, keepdim=True).add(1e-12).sqrt()
    return torch.zeros_like(points).index_copy(0, index, -found / length)
