"""Bare triangles in a picture: which face each pixel sees, and where in it, as a function of the vertices."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from avatar3d.camera import world_to_camera
from avatar3d.render.rasterize import Fragments, Triangles, rasterize
from avatar3d.structures import Camera


@dataclass(frozen=True)
class Sight:
    """The S covered pixels of an image."""

    pixel: Int[Tensor, " S"]
    """Row-major index."""
    face: Int[Tensor, " S"]
    barycentric: Float[Tensor, "S 3"]
    """Of the pixel's center in its face; differentiable in the vertices."""
    depth: Float[Tensor, "H W"]
    """Along the camera's z axis; inf where nothing is."""


def homogeneous_pixels(vertices: Float[Tensor, "V 3"], camera: Camera) -> Float[Tensor, "V 3"]:
    """(x z, y z, z) of points, x and y in pixels: defined behind the camera too."""
    x, y, z = world_to_camera(camera, vertices).unbind(-1)
    return torch.stack(
        [camera.focal * x + 0.5 * camera.width * z, camera.focal * y + 0.5 * camera.height * z, z], -1
    )


def rasterize_faces(vertices: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"], camera: Camera) -> Fragments:
    """The nearest front face behind each pixel's center, without gradients."""
    points = homogeneous_pixels(vertices.detach().double(), camera)
    count, device = len(faces), faces.device
    triangles = Triangles(
        homogeneous=points,
        depth=points[:, 2],
        faces=faces,
        two_sided=torch.zeros(count, dtype=torch.bool, device=device),
        uv=points.new_zeros(len(points), 2),
        alpha_texels=torch.ones(1, device=device),
        alpha_rows=torch.tensor([[0, 1, 1]], device=device).expand(count, 3),
        alpha_factor=torch.ones(count, device=device),
        alpha_cutoff=torch.zeros(count, device=device),
    )
    return rasterize(triangles, camera.width, camera.height)


def sight(vertices: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"], camera: Camera) -> Sight:
    """What the camera sees of the front faces. Visibility is a constant, barycentrics are not."""
    fragments = rasterize_faces(vertices, faces, camera)
    flat = fragments.face[0].reshape(-1)
    pixel = (flat >= 0).nonzero()[:, 0]
    face = flat[pixel].long()
    return Sight(pixel, face, barycentrics(vertices, faces[face], camera, pixel), fragments.depth[0])


def barycentrics(
    vertices: Float[Tensor, "V 3"], corners: Int[Tensor, "S 3"], camera: Camera, pixel: Int[Tensor, " S"]
) -> Float[Tensor, "S 3"]:
    """Where the rays through pixel centers meet the planes of triangles with these corners (Cramer's rule)."""
    points = world_to_camera(camera, vertices[corners.reshape(-1)].double()).view(-1, 3, 3)
    i, j, k = points.unbind(1)
    x = (pixel % camera.width + 0.5 - 0.5 * camera.width) / camera.focal
    y = (pixel // camera.width + 0.5 - 0.5 * camera.height) / camera.focal
    ray = torch.stack([x, y, torch.ones_like(x)], dim=-1).to(points)
    areas = [(torch.linalg.cross(a, b) * ray).sum(-1) for a, b in ((j, k), (k, i), (i, j))]
    unnormalized = torch.stack(areas, dim=-1)
    return (unnormalized / unnormalized.sum(-1, keepdim=True)).to(vertices)


def interpolated(
    values: Float[Tensor, "V C"], corners: Int[Tensor, "S 3"], barycentric: Float[Tensor, "S 3"]
) -> Float[Tensor, "S C"]:
    """Vertex values inside triangles."""
    return (values[corners.reshape(-1)].view(-1, 3, values.shape[1]) * barycentric[:, :, None]).sum(1)
