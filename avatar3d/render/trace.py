"""Sphere tracing of fields (Hart 1996): the first surface that each ray meets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from avatar3d.render.distance_grid import TRUST, DistanceGrid, distance_grid, surface_vertices
from avatar3d.render.field_picture import Seen, compose
from avatar3d.render.images import to_bytes
from avatar3d.render.lights import Lights
from avatar3d.render.meshes import BACKDROP
from avatar3d.render.rays import MEMORY, Field, Rays, box_span, camera_rays, evaluate, field_normals, in_chunks
from avatar3d.render.turntable import turntable_cameras
from avatar3d.render.walk import skip
from avatar3d.structures import Camera, Render

TOLERANCE = 5e-5
"""Metres from the surface at which a ray has arrived."""
LAST_TOLERANCE = 2e-3
"""The same after the last step for rays that were inside: they go back and forth around a steep surface."""
STEPS = 40


def trace_field(
    field: Field,
    camera: Camera,
    lights: Lights | None = None,
    background: tuple[float, float, float] | Float[Tensor, "H W 3"] | None = BACKDROP,
    grid: DistanceGrid | None = None,
    memory: int = MEMORY,
    normals: bool = True,
) -> Render:
    """Draw a field's surface: material colors, or lit by `lights`.

    Arguments are those of `volume.render_field`. Colors and depth are differentiable with respect to the field
    where a surface is seen; its outline is not.

    Raises `FieldError` when the field is empty, not finite, or memory does not suffice.
    """
    grid = grid or distance_grid(field)
    rays, depth_per_metre = camera_rays(camera, field.bounds)

    def render(rays: Rays) -> tuple[Tensor, Tensor, Tensor]:
        t = arrive(field, grid, rays)
        hit = torch.isfinite(t).nonzero()[:, 0]
        if torch.is_grad_enabled():
            t = t.index_copy(0, hit, _moved(field, rays[hit], t[hit]))
        sample = evaluate(field, rays[hit].at(t[hit]))
        rgb = torch.zeros_like(rays.origins).index_copy(0, hit, sample.rgb)
        labels = torch.zeros_like(t, dtype=torch.int64).index_copy(0, hit, 1 + sample.logits.argmax(-1))
        return rgb, t, labels

    rgb, t, labels = (torch.cat(column) for column in zip(*in_chunks(render, rays, memory), strict=True))
    seen = Seen(rays, rgb, (labels > 0).to(rgb), t, depth_per_metre, labels)
    return compose(field, seen, camera, lights, background, normals)


@torch.no_grad()
def arrive(field: Field, grid: DistanceGrid, rays: Rays) -> Float[Tensor, " N"]:
    """t of the first surface on each ray, inf where there is none.

    Steps are 0.95 of the distance; where that is negative they go back, so that an overestimate is mended.
    """
    t, leave = box_span(rays, grid.bounds)
    t = skip(grid, rays, t, leave)
    found = torch.full_like(t, torch.inf)
    crossed = torch.zeros_like(t, dtype=torch.bool)
    alive = (t < leave).nonzero()[:, 0]
    t, leave = t[alive], leave[alive]
    for step in range(STEPS):
        if not len(alive):
            break
        distance = evaluate(field, rays[alive].at(t)).distance
        crossed[alive] |= distance < -TOLERANCE
        arrived = distance < TOLERANCE
        if step == STEPS - 1:
            arrived = distance < torch.where(crossed[alive], LAST_TOLERANCE, 10 * TOLERANCE)
        arrived &= (distance > -TOLERANCE) | (step == STEPS - 1)
        found[alive[arrived]] = (t + distance)[arrived].clamp_min(0)
        going = (~arrived).nonzero()[:, 0]
        alive, leave = alive[going], leave[going]
        t = skip(grid, rays[alive], (t + 0.95 * distance.clamp_max(TRUST))[going].clamp_min(0), leave)
        inside = (t < leave).nonzero()[:, 0]
        alive, t, leave = alive[inside], t[inside], leave[inside]
    return found


def _moved(field: Field, rays: Rays, t: Float[Tensor, " N"]) -> Float[Tensor, " N"]:
    """The same t, but as functions of the field: a surface that grows by d comes nearer by -d / (n . ray)."""
    points = rays.at(t)
    facing = (field_normals(field, points) * rays.directions).sum(-1)
    distance = field(points).distance
    return t - (distance - distance.detach()) / torch.where(facing.abs() < 0.05, -0.05, facing)


def field_turntable(
    field: Field,
    frames: int = 72,
    width: int = 512,
    height: int = 512,
    elevation: float = 0.06,
    background: tuple[float, float, float] = BACKDROP,
    lights: Lights | None = None,
    samples: int = 2,
    cameras: Sequence[Camera] | None = None,
    on_frame: Callable[[int, int], None] | None = None,
) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    """Frames of a walk around a field's surface (or along `cameras`), as `turntable.turntable` gives of meshes.

    Without `lights` it shows material colors. Each pixel is the mean of `samples` x `samples` rays.
    """
    grid = distance_grid(field)
    path = cameras or turntable_cameras(surface_vertices(grid), frames, elevation, width=width, height=height)
    for n, camera in enumerate(path):
        with torch.no_grad():
            fine = replace(
                camera, focal=camera.focal * samples, width=camera.width * samples, height=camera.height * samples
            )
            rgb = trace_field(field, fine, lights, background, grid, normals=False).rgb
            picture = torch.nn.functional.avg_pool2d(rgb.permute(2, 0, 1), samples).permute(1, 2, 0)
        yield to_bytes(picture)
        if on_frame is not None:
            on_frame(n + 1, len(path))
