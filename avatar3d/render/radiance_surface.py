"""From a radiance field to a distance field, of which meshes can be made: surfaces are where pictures show."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from avatar3d.camera import orbit
from avatar3d.fields.radiance import RadianceField
from avatar3d.fields.triplane import to_box
from avatar3d.fields.voxels import look_up
from avatar3d.render.occupancy import BLOCK
from avatar3d.render.radiance import Views, render_views
from avatar3d.render.rays import FieldError
from avatar3d.structures import PART_KINDS, FieldSample

VIEWS, VIEW_SIZE = 12, 48
ELEVATIONS = (-0.5, 0.1, 0.7)
FEWEST = 24
"""Rays that have to lose half of their light."""
DARK = 1e-5
"""Share of a ray's light below which nothing shows."""
FAINT = 1e-4
"""Density that counts as none, in logarithms."""
NEAR = 2.0
"""Cells from the surface within which distances come from the field itself."""


@torch.no_grad()
def surface_density(field: RadianceField) -> float:
    """The density at which a surface has the outlines that pictures have.

    A ray meets the surface of a level when the field is as dense somewhere on it; in a picture there is something
    when the ray loses half of its light. The level is that at which the fewest rays, from all around, differ.

    Raises `FieldError` when nearly no ray loses half of its light.
    """
    low, high = field.bounds
    center, radius = 0.5 * (low + high), 0.5 * float((high - low).norm())
    fov = math.radians(40)
    most, stops = [], []
    for n in range(VIEWS):
        azimuth, elevation = 2 * math.pi * n / VIEWS, ELEVATIONS[n % 3]
        camera = orbit(center, radius / math.sin(fov / 2), azimuth, elevation, fov, VIEW_SIZE, VIEW_SIZE)
        views = render_views(field, [camera], nodes=96, importance=48, background=(0.0, 0.0, 0.0))
        most.append(most_dense(views))
        stops.append(views.alpha.flatten() > 0.5)
    found = torch.cat(stops)
    if int(found.sum()) < FEWEST:
        raise FieldError(
            f"only {int(found.sum())} of {len(found)} rays lose half of their light in this field: it is "
            "empty or a thin fog and has no surface. Train it longer, or with a smaller weight of opacity"
        )
    return best_level(torch.cat(most), found)


def most_dense(views: Views) -> Float[Tensor, " N"]:
    """The largest density on each ray, as far as its light goes: from what the bins stop (NeRF, equation 3)."""
    weights, edges = views.weights.flatten(0, 2), views.edges.flatten(0, 2)
    left = (1 - torch.nn.functional.pad(weights.cumsum(1), (1, 0))).clamp_min(DARK)
    depth = left[:, :-1].log() - left[:, 1:].log()
    return (depth / edges.diff(dim=1).clamp_min(1e-9)).amax(1)


def best_level(values: Float[Tensor, " N"], wanted: Bool[Tensor, " N"]) -> float:
    """The level that the fewest values are on the wrong side of: those `wanted` should be above it.

    It is in the middle between the values next to it.
    """
    values, order = values.sort()
    below = torch.nn.functional.pad(wanted[order].cumsum(0), (1, 0))
    above = torch.nn.functional.pad((~wanted[order]).flip(0).cumsum(0), (1, 0)).flip(0)
    wrong = (below + above)[1:-1]
    wrong = torch.where(values[1:] > values[:-1], wrong, len(values))
    n = int(wrong.argmin())
    return 0.5 * float(values[n] + values[n + 1])


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
