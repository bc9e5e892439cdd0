"""Pictures of a field with the structured avatar's thin and crisp parts: eyes, brows, lashes, glasses, earrings.

A field of 128 cells can not carry them. They are drawn from the meshes, where the meshes' own picture shows them
and the field's surface is not far in front.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Float

from avatar3d.render.distance_grid import DistanceGrid
from avatar3d.render.lights import Lights
from avatar3d.render.meshes import BACKDROP, render_albedo, render_meshes
from avatar3d.render.rays import Field
from avatar3d.render.scene import Scene
from avatar3d.render.trace import trace_field
from avatar3d.structures import PART_KINDS, Camera, Render

THIN_KINDS = ("eyes", "brows", "lashes", "glasses", "jewellery")
IN_FRONT = 0.012
"""A field's surface so much nearer than a part hides it, metres: hair over brows."""


def compose_thin_parts(field: Render, meshes: Render) -> Render:
    """The field's picture with the thin parts of the meshes' picture of the same camera."""
    kinds = meshes.labels.new_tensor([1 + PART_KINDS.index(kind) for kind in THIN_KINDS])
    thin = torch.isin(meshes.labels, kinds) & (meshes.depth < field.depth + IN_FRONT)

    def chosen(theirs, own):
        return torch.where(thin.view(*thin.shape, *[1] * (own.ndim - 2)), theirs.to(own.dtype), own)

    pairs = {
        name: chosen(getattr(meshes, name), getattr(field, name)) for name in ("rgb", "alpha", "depth", "normal")
    }
    return replace(field, **pairs, labels=chosen(meshes.labels, field.labels))


def render_composed(
    field: Field,
    scene: Scene,
    camera: Camera,
    lights: Lights | None = None,
    grid: DistanceGrid | None = None,
    samples: int = 2,
    background: tuple[float, float, float] = BACKDROP,
) -> Float[torch.Tensor, "H W 3"]:
    """sRGB picture of a field with the thin parts of `scene`; without `lights` in material colors.

    `scene` is the structured avatar at rest, where the field is. Each pixel is the mean of `samples`^2 rays.
    """
    fine = replace(
        camera, focal=camera.focal * samples, width=camera.width * samples, height=camera.height * samples
    )
    with torch.no_grad():
        own = trace_field(field, fine, lights, background, grid, normals=False)
        if lights is None:
            meshes = render_albedo(scene, fine, background, samples=1)
        else:
            meshes = render_meshes(scene, fine, lights, background, samples=1)
        rgb = compose_thin_parts(own, meshes).rgb
        return torch.nn.functional.avg_pool2d(rgb.permute(2, 0, 1), samples).permute(1, 2, 0)
