"""From a radiance field to a distance field, of which meshes can be made: surfaces are where pictures show."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.camera import orbit
from avatar3d.fields.radiance import RadianceField
from avatar3d.fields.triplane import to_box
from avatar3d.fields.voxels import look_up
from avatar3d.render.occupancy import BLOCK
from avatar3d.render.radiance import Views, render_views
from avatar3d.render.rays import FieldError, camera_rays
from avatar3d.structures import PART_KINDS, FieldSample

VIEWS, VIEW_SIZE = 12, 48
ELEVATIONS = (-0.5, 0.1, 0.7)
FEWEST = 24
"""Rays that have to lose half of their light."""
SAFE = 0.5
"""Half of all rays lose their light in less than the median density: at that level surfaces would have holes."""
FAINT = 1e-4
"""Density that counts as none, in logarithms."""
NEAR = 2.0
"""Cells from the surface within which distances come from the field itself."""


@torch.no_grad()
def surface_density(field: RadianceField) -> float:
    """The density at which pictures show a surface: `SAFE` times the median over rays, from all around, of the
    density where half of a ray's light is gone.

    Raises `FieldError` when nearly no ray loses half of its light.
    """
    low, high = field.bounds
    center, radius = 0.5 * (low + high), 0.5 * float((high - low).norm())
    fov = math.radians(40)
    cameras = [
        orbit(
            center,
            radius / math.sin(fov / 2),
            2 * math.pi * n / VIEWS,
            ELEVATIONS[n % 3],
            fov,
            VIEW_SIZE,
            VIEW_SIZE,
        )
        for n in range(VIEWS)
    ]
    found = []
    for camera in cameras:
        views = render_views(field, [camera], nodes=96, importance=48, background=(0.0, 0.0, 0.0))
        t, stops = median_light(views)
        found.append(field(camera_rays(camera, field.bounds)[0].at(t)[stops]).density)
    density = torch.cat(found)
    if len(density) < FEWEST:
        raise FieldError(
            f"only {len(density)} of {VIEWS * VIEW_SIZE**2} rays lose half of their light in this field: it is "
            "empty or a thin fog and has no surface. Train it longer, or with a smaller weight of opacity"
        )
    return SAFE * float(density.median())


def median_light(views: Views) -> tuple[Float[Tensor, " N"], Tensor]:
    """t at which each ray has lost half of its light, and which rays do."""
    weights, edges = views.weights.flatten(0, 2), views.edges.flatten(0, 2)
    total = weights.cumsum(1)
    stops = total[:, -1] > 0.5
    bin_ = (total < 0.5).sum(1).clamp_max(weights.shape[1] - 1)[:, None]
    before = (total - weights).gather(1, bin_)
    part = ((0.5 - before) / weights.gather(1, bin_).clamp_min(1e-9)).clamp(0, 1)
    begin, end = edges.gather(1, bin_), edges.gather(1, bin_ + 1)
    return (begin + part * (end - begin))[:, 0], stops


@dataclass(frozen=True)
class RadianceSurface:
    """A radiance field as a distance field (`mesh.extract.Field`): inside, the density is above `level`.

    Near the surface the distance is log(level / density) over the length of its gradient, which is on a grid; far
    from it that of the nearest cell beyond the surface.
    """

    field: RadianceField
    level: float
    slope: Float[Tensor, "R R R 1"]
    """Length of the gradient of the log density, z first."""
    far: Float[Tensor, "R R R 1"]
    """Signed distance to the nearest vertex on the other side."""
    hollow: Float[Tensor, "R R R 1"]
    """1 at empty vertices that the surface encloses: no picture sees them, so they count as full."""
    near: float
    """Distance within which the field itself decides."""

    @property
    def bounds(self) -> Float[Tensor, "2 3"]:
        """Low and high corner of the box."""
        return self.field.bounds

    def __call__(self, points: Float[Tensor, "N 3"]) -> FieldSample:
        sample = self.field(points)
        at = to_box(points, self.bounds).to(self.far)
        value = math.log(self.level) - sample.density.clamp_min(FAINT).log()
        value = torch.where(look_up(self.hollow, at)[:, 0] > 0, -value.abs(), value)
        distance = value / look_up(self.slope, at)[:, 0]
        far = look_up(self.far, at)[:, 0]
        close = far.abs() < self.near
        inside = torch.where(close, distance, far.abs() * value.sign())
        logits = points.new_zeros(len(points), len(PART_KINDS))
        logits[:, 0] = 1
        return FieldSample(inside.clamp(-far.abs() - self.near, far.abs() + self.near), sample.rgb, logits)


@torch.no_grad()
def radiance_surface(field: RadianceField, level: float | None = None, resolution: int = 96) -> RadianceSurface:
    """The surface of a radiance field, at the density that `surface_density` finds or at `level`.

    The field is looked at on a grid of `resolution` vertices along each axis first. Raises `FieldError` when it
    has no surface, or is nowhere as dense as `level` there.
    """
    level = surface_density(field) if level is None else level
    low, high = field.bounds
    axes = [torch.linspace(float(a), float(b), resolution).to(low) for a, b in zip(low, high, strict=True)]
    z, y, x = torch.meshgrid(*axes[::-1], indexing="ij")
    points = torch.stack([x, y, z], -1).view(-1, 3)
    density = torch.cat([field(piece).density for piece in points.split(BLOCK)]).view(x.shape)
    if not bool((density > level).any()):
        raise FieldError(
            f"the field is nowhere as dense as {level:.3g} (at most {float(density.max()):.3g}): it has no "
            "surface there. Give a lower density, or train it longer"
        )
    steps = [float(axis[1] - axis[0]) for axis in axes[::-1]]
    value = density.clamp_min(FAINT).log() - math.log(level)
    slope = torch.stack(torch.gradient(value, spacing=steps)).square().sum(0).sqrt()
    cell = max(steps)
    slope = slope.clamp(0.1 / cell, 10 / cell)
    far, hollow = _insides(value, steps)
    return RadianceSurface(field, level, slope[..., None].contiguous(), far, hollow, NEAR * cell)


def _insides(
    value: Float[Tensor, "R R R"], steps: list[float]
) -> tuple[Float[Tensor, "R R R 1"], Float[Tensor, "R R R 1"]]:
    """Signed distances to vertices beyond the surface, and which vertices are cavities."""
    from scipy.ndimage import binary_fill_holes, distance_transform_edt

    dense = (value > 0).cpu().numpy()
    inside = binary_fill_holes(dense)
    outwards = distance_transform_edt(~inside, sampling=steps)
    inwards = distance_transform_edt(inside, sampling=steps)
    grids = ((outwards - inwards).astype(np.float32), (inside & ~dense).astype(np.float32))
    far, hollow = (torch.from_numpy(grid)[..., None].to(value) for grid in grids)
    return far, hollow
