"""Volume rendering of fields, differentiable with respect to all that the field is made of."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from avatar3d.fields.density import optical_depth
from avatar3d.render.distance_grid import DistanceGrid, distance_grid
from avatar3d.render.field_picture import Seen, compose
from avatar3d.render.lights import Lights
from avatar3d.render.meshes import BACKDROP
from avatar3d.render.rays import MEMORY, Field, Rays, box_span, camera_rays, evaluate, in_chunks
from avatar3d.render.walk import REACH, Nodes, walk
from avatar3d.structures import Camera, Render

BETA = 0.002
"""Scale of the density, metres: about a pixel of a head that fills 256 x 256."""


@dataclass(frozen=True)
class Light:
    """What N rays collect."""

    rgb: Float[Tensor, "N 3"]
    """Times alpha."""
    alpha: Float[Tensor, " N"]
    depth: Float[Tensor, " N"]
    """Mean t of what is seen, times alpha."""
    logits: Float[Tensor, "N K"]
    """Of the part kinds, mean times alpha."""


def render_field(
    field: Field,
    camera: Camera,
    lights: Lights | None = None,
    background: tuple[float, float, float] | Float[Tensor, "H W 3"] | None = BACKDROP,
    beta: float = BETA,
    grid: DistanceGrid | None = None,
    generator: torch.Generator | None = None,
    pace: float = 1.0,
    memory: int = MEMORY,
    normals: bool = True,
) -> Render:
    """Volume-render a field: material colors, or lit by `lights`.

    `beta` is the softness of surfaces in metres. `grid` is the field's `distance_grid`, made here when it is
    not given; give it for many views of one field, or for a field that training has moved only a little. With a
    `generator` samples differ from call to call, as training wants; a smaller `pace` takes more of them.
    `memory` is in bytes. Without `normals` those of the render are 0 unless lights need them. Depth, normals and
    labels are those where at least half of the light is stopped.

    Raises `FieldError` when the field is empty, not finite, or memory does not suffice.
    """
    grid = grid or distance_grid(field, reach=REACH * beta)
    rays, depth_per_metre = camera_rays(camera, field.bounds)

    def render(rays: Rays) -> tuple[Tensor, ...]:
        light = collect(field, rays, walk(grid, rays, beta, generator, pace), beta)
        return light.rgb, light.alpha, light.depth, light.logits

    columns = [torch.cat(column) for column in zip(*in_chunks(render, rays, memory), strict=True)]
    light = Light(*columns)
    found = light.alpha.detach() >= 0.5
    t = torch.where(found, light.depth / light.alpha.clamp_min(1e-3), torch.inf)
    labels = torch.where(found, 1 + light.logits.argmax(-1), 0)
    seen = Seen(rays, light.rgb, light.alpha, t, depth_per_metre, labels)
    return compose(field, seen, camera, lights, background, normals)


def collect(field: Field, rays: Rays, nodes: Nodes, beta: float) -> Light:
    """Light along rays: the distance runs linearly between linked nodes, the colors of both ends count half."""
    sample = evaluate(field, rays.origins[nodes.ray] + nodes.t[:, None] * rays.directions[nodes.ray])
    weights = node_weights(nodes, sample.distance, beta)
    columns = [torch.ones_like(weights)[:, None], sample.rgb, nodes.t[:, None], sample.logits]
    sums = ray_sums(torch.cat(columns, dim=-1) * weights[:, None], nodes.first)
    return Light(sums[:, 1:4], sums[:, 0], sums[:, 4], sums[:, 5:])


def node_weights(nodes: Nodes, distance: Float[Tensor, " P"], beta: float) -> Float[Tensor, " P"]:
    """Share of a ray's light that each node stops: those of a ray add up to at most 1."""
    length = torch.where(nodes.linked[:-1], nodes.t[1:] - nodes.t[:-1], 0.0)
    depth = optical_depth(distance[:-1], distance[1:], length, beta)
    depth = torch.nn.functional.pad(depth, (0, 1))[: len(distance)].double()
    total = torch.nn.functional.pad(depth.cumsum(0), (1, 0))
    before = total[:-1] - total[nodes.first[:-1]][nodes.ray]
    stopped = (torch.exp(-before) * -torch.expm1(-depth)).to(distance)
    return 0.5 * (stopped + torch.nn.functional.pad(stopped, (1, 0))[:-1])


def ray_sums(values: Float[Tensor, "P C"], first: Int[Tensor, " M"]) -> Float[Tensor, "N C"]:
    """Sums over the nodes of each ray, always in the same order."""
    return torch.segment_reduce(values, "sum", offsets=first, axis=0, initial=0)


def uniform_nodes(field: Field, rays: Rays, count: int, generator: torch.Generator | None = None) -> Nodes:
    """`count` nodes on each ray through the field's box, evenly spread; stratified with a generator.

    The slow reference: it knows nothing of where surfaces are.
    """
    enter, leave = box_span(rays, field.bounds)
    share = torch.arange(count, device=enter.device).to(enter).expand(len(rays), count)
    if generator is not None:
        share = share + torch.rand(share.shape, generator=generator, device=generator.device).to(share) - 0.5
    share = (share / (count - 1)).clamp(0, 1)
    return pad_nodes(enter[:, None] + share * (leave - enter).clamp_min(0)[:, None])


def importance_nodes(
    nodes: Nodes, weights: Float[Tensor, " P"], count: int, generator: torch.Generator | None = None
) -> Nodes:
    """`count` more nodes on each ray where the weights of evenly filled rays are large (NeRF, section 5.2)."""
    t, share = (values.view(len(nodes.first) - 1, -1) for values in (nodes.t, weights.detach()))
    mass = 0.5 * (share[:, 1:] + share[:, :-1]) + 1e-5
    total = torch.nn.functional.pad(mass.cumsum(-1), (1, 0))
    wanted = torch.arange(count, device=t.device).to(t).add(0.5).expand(len(t), count)
    if generator is not None:
        wanted = wanted + torch.rand(wanted.shape, generator=generator, device=generator.device).to(t) - 0.5
    wanted = wanted / count * total[:, -1:]
    cell = torch.searchsorted(total, wanted.contiguous(), right=True).clamp(1, t.shape[1] - 1)
    low, high = total.gather(1, cell - 1), total.gather(1, cell)
    start, stop = t.gather(1, cell - 1), t.gather(1, cell)
    more = start + (wanted - low) / (high - low).clamp_min(1e-8) * (stop - start)
    return pad_nodes(torch.cat([t, more], dim=-1).sort(dim=-1).values)


def pad_nodes(t: Float[Tensor, "N K"]) -> Nodes:
    """The same number of nodes on every ray, all linked."""
    rays, count = t.shape
    linked = torch.ones_like(t, dtype=torch.bool)
    linked[:, -1] = False
    index = torch.arange(rays, device=t.device)
    first = torch.arange(rays + 1, device=t.device) * count
    return Nodes(t.flatten(), index.repeat_interleave(count), first, linked.flatten())
