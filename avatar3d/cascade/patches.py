"""Small pieces of a field's pictures, for losses in image space."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from avatar3d.camera import pixel_centers, unproject
from avatar3d.cascade.busts import Busts
from avatar3d.cascade.example import PICTURE, PICTURES
from avatar3d.fields.box import bust_camera
from avatar3d.fields.decoder import Decoder
from avatar3d.fields.triplane import look_up, to_box

PATCH = 32
"""Pixels along each side."""
TRACE_STEPS = 24
ON_SURFACE = 0.01
"""A ray has arrived when it is so near, in half heights of the box."""


@dataclass(frozen=True)
class Patches:
    """Rays of one patch for each of B avatars, with the colors that their pictures show."""

    origins: Float[Tensor, "B N 3"]
    """Box coordinates, half way to the box's middle."""
    steps: Float[Tensor, "B N 3"]
    """In box coordinates, of one unit of distance (half the box's height)."""
    colors: Float[Tensor, "B 3 N"]
    covered: Bool[Tensor, "B N"]


def draw_patches(busts: Busts, rows, generator: torch.Generator) -> Patches:
    """A random patch of a random picture of each avatar, mostly of the head."""
    columns = []
    for row in rows:
        view = int(torch.randint(len(PICTURES), (1,), generator=generator))
        top, left = torch.randint(PICTURE // 4, PICTURE - PICTURE // 4 - PATCH, (2,), generator=generator).tolist()
        bounds = torch.from_numpy(busts["bounds"][row])
        camera = bust_camera(bounds, PICTURES[view], PICTURE)
        pixels = pixel_centers(camera)[top : top + PATCH, left : left + PATCH].reshape(-1, 2)
        eye = camera.T_world_camera[:3, 3]
        aim = unproject(camera, pixels, torch.ones(len(pixels))) - eye
        direction = torch.nn.functional.normalize(aim, dim=-1)
        unit = 0.5 * (bounds[1, 1] - bounds[0, 1])
        start = eye + direction * ((eye - bounds.mean(0)).norm() - 1.2 * unit)
        box = to_box(torch.stack([start, start + direction * unit]), bounds)
        picture = (
            torch.from_numpy(busts["pictures"][row, view, top : top + PATCH, left : left + PATCH]).float() / 255
        )
        flat = picture.reshape(-1, 4)
        columns.append((box[0], box[1] - box[0], flat[:, :3].T, flat[:, 3] > 0.99))
    return Patches(*(torch.stack(column) for column in zip(*columns, strict=True)))


def surface_points(
    planes: Float[Tensor, "B 3 C R R"], field: Decoder, patches: Patches
) -> tuple[Float[Tensor, "B N 3"], Bool[Tensor, "B N"]]:
    """Where the patches' rays meet the field's surface (sphere tracing, Hart 1996), and which do."""
    at, distance = patches.origins, torch.zeros(())
    with torch.no_grad():
        for _ in range(TRACE_STEPS):
            distance = field(look_up(planes, at))[0].float()
            at = at + 0.9 * distance[..., None] * patches.steps
    return at, (distance.abs() < ON_SURFACE) & patches.covered


def patch_loss(
    planes: Float[Tensor, "B 3 C R R"],
    field: Decoder,
    patches: Patches,
    points: Float[Tensor, "B N 3"],
    seen: Bool[Tensor, "B N"],
) -> Float[Tensor, ""]:
    """Mean absolute error of the colors that planes show at surface points, and of their pixel differences."""
    _, logits, _ = field(look_up(planes, points))
    error = (logits.float().sigmoid() - patches.colors) * seen[:, None]
    image = error.unflatten(-1, (PATCH, PATCH))
    edges = image.diff(dim=-1).abs().mean() + image.diff(dim=-2).abs().mean()
    return error.abs().mean() + edges
