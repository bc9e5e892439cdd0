"""Rays through pixels, and what a field has to be so that they can look at it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from avatar3d.camera import pixel_centers, unproject
from avatar3d.errors import InputError
from avatar3d.structures import Camera, FieldSample

MEMORY = 1 << 30
"""Bytes that a picture of a field may take besides its pixels."""
POINT_BYTES = 2048
"""Roughly what a tri-plane's features and hidden layers take for a point."""
POINTS_PER_RAY = 16
FEWEST_RAYS = 64

Piece = TypeVar("Piece", bound=tuple[Tensor, ...])


class FieldError(InputError):
    """A field of which no picture can be made; the message says why and what to do."""


@runtime_checkable
class Field(Protocol):
    """Distance, color and part at (N, 3) points in metres, inside a box."""

    @property
    def bounds(self) -> Float[Tensor, "2 3"]:
        """Low and high corner of the box, metres; nothing is outside."""

    def __call__(self, points: Float[Tensor, "N 3"]) -> FieldSample: ...


@dataclass(frozen=True)
class Rays:
    """N half lines: points are origins + t * directions with t >= 0 in metres."""

    origins: Float[Tensor, "N 3"]
    directions: Float[Tensor, "N 3"]
    """Unit length."""

    def __len__(self) -> int:
        return len(self.origins)

    def __getitem__(self, index: Tensor | slice) -> Rays:
        return Rays(self.origins[index], self.directions[index])

    def at(self, t: Float[Tensor, " N"]) -> Float[Tensor, "N 3"]:
        """Points on each ray."""
        return self.origins + t[:, None] * self.directions


def camera_rays(camera: Camera, like: Tensor) -> tuple[Rays, Float[Tensor, " N"]]:
    """Rays through the pixels' centers, row by row, and the depth along the camera's z axis of a metre on each."""
    camera = Camera(camera.T_world_camera.to(like), camera.focal, camera.width, camera.height)
    pixels = pixel_centers(camera).view(-1, 2)
    eye = camera.T_world_camera[:3, 3]
    ahead = unproject(camera, pixels, torch.ones_like(pixels[:, 0])) - eye
    length = ahead.norm(dim=-1)
    return Rays(eye.expand_as(ahead), ahead / length[:, None]), 1 / length


def box_span(rays: Rays, bounds: Float[Tensor, "2 3"]) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"]]:
    """t where each ray enters and leaves a box; a ray that misses it leaves before it enters."""
    low, high = bounds.to(rays.origins)
    inverse = 1 / torch.where(rays.directions.abs() < 1e-12, 1e-12, rays.directions)
    first, second = (low - rays.origins) * inverse, (high - rays.origins) * inverse
    enter = torch.minimum(first, second).amax(-1).clamp_min(0)
    return enter, torch.maximum(first, second).amin(-1)


def in_chunks(render: Callable[[Rays], Piece], rays: Rays, memory: int) -> list[Piece]:
    """`render` of as many rays at a time as fit the memory, and of fewer when that was too much.

    With gradients on, what a chunk needs for them is thrown away and found again in the backward pass, so that
    the budget holds there too.
    """
    size = max(FEWEST_RAYS, memory // (POINT_BYTES * POINTS_PER_RAY))
    keep = not torch.is_grad_enabled() or len(rays) <= size
    pieces: list[Piece] = []
    begin = 0
    while begin < len(rays) or not pieces:
        chunk = rays[slice(begin, begin + size)]
        try:
            pieces.append(render(chunk) if keep else checkpoint(render, chunk, use_reentrant=False))
        except (RuntimeError, MemoryError) as error:
            if not _out_of_memory(error):
                raise
            if size <= FEWEST_RAYS:
                raise FieldError(
                    f"out of memory with {size} rays at a time: make the picture smaller or free some memory"
                ) from error
            size //= 2
            continue
        begin += size
    return pieces


def _out_of_memory(error: BaseException) -> bool:
    allocator = "DefaultCPUAllocator" in str(error)
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or allocator


def evaluate(field: Field, points: Float[Tensor, "N 3"], block: int = 16384) -> FieldSample:
    """The field at many points; without gradients in blocks that stay in a processor's cache."""
    if torch.is_grad_enabled() or points.device.type != "cpu" or len(points) <= block:
        return field(points)
    samples = [field(part) for part in points.split(block)]
    columns = ([getattr(sample, f.name) for sample in samples] for f in fields(FieldSample))
    return FieldSample(*(torch.cat(column) for column in columns))


def field_normals(field: Field, points: Float[Tensor, "N 3"], step: float = 1e-3) -> Float[Tensor, "N 3"]:
    """Unit gradients of the distance, by differences over the corners of a tetrahedron of half size `step` metres.

    These see the surface and not the kinks between a tri-plane's cells. Without gradients.
    """
    corners = points.new_tensor([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    with torch.no_grad():
        around = points.detach()[:, None] + step * corners
        distances = evaluate(field, around.view(-1, 3)).distance.view(-1, 4)
        return torch.nn.functional.normalize(distances @ corners, dim=-1)
