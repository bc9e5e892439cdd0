"""Other rasterizers with the signature of `sight.rasterize_faces`, for comparison and for speed on a GPU.

The one door to pytorch3d and nvdiffrast, neither of which has wheels that plain pip finds.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from avatar3d.camera import project, world_to_camera
from avatar3d.errors import InputError
from avatar3d.render.rasterize import Fragments
from avatar3d.render.sight import homogeneous_pixels
from avatar3d.structures import Camera

FAR = 1e3
"""Far plane, in the units of the vertices."""
NEAR = 1e-2


class PeerError(InputError, ImportError):
    """A rasterizer that is not installed or can not run here."""


def rasterize_pytorch3d(vertices: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"], camera: Camera) -> Fragments:
    """The nearest front face behind each pixel's center, by pytorch3d (Ravi et al. 2020), on any device.

    Raises `PeerError` where pytorch3d is missing.
    """
    try:
        from pytorch3d.renderer.mesh.rasterize_meshes import rasterize_meshes
        from pytorch3d.structures import Meshes
    except ImportError as error:
        raise PeerError(
            "pytorch3d is not installed, and PyPI has no wheels of it. Build it for the torch you have: "
            "pip install --no-build-isolation 'git+https://github.com/facebookresearch/pytorch3d.git@stable'"
        ) from error
    short = min(camera.width, camera.height)
    pixels, depth = project(camera, vertices.detach())
    # its x grows to the left, its y upwards, and the shorter side spans [-1, 1]
    x = (camera.width - 2 * pixels[:, 0]) / short
    y = (camera.height - 2 * pixels[:, 1]) / short
    mesh = Meshes([torch.stack([x, y, depth], 1)], [faces])
    face, z, _, _ = rasterize_meshes(
        mesh,
        image_size=(camera.height, camera.width),
        blur_radius=0.0,
        faces_per_pixel=1,
        perspective_correct=True,
        cull_backfaces=True,
    )
    found = face[0, ..., 0]
    return Fragments(found.int()[None], torch.where(found >= 0, z[0, ..., 0], torch.inf)[None])


def rasterize_nvdiffrast(vertices: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"], camera: Camera) -> Fragments:
    """The nearest face behind each pixel's center, front or back, by nvdiffrast (Laine et al. 2020); CUDA only.

    Mind its licence: it is not for commercial use. Raises `PeerError` where nvdiffrast is missing or the vertices
    are not on a CUDA device.
    """
    try:
        import nvdiffrast.torch as nvdiffrast
    except ImportError as error:
        raise PeerError(
            "nvdiffrast is not installed. With a CUDA compiler at hand: "
            "pip install --no-build-isolation 'git+https://github.com/NVlabs/nvdiffrast.git'"
        ) from error
    if vertices.device.type != "cuda":
        raise PeerError(f"nvdiffrast needs a CUDA device, got {vertices.device}; use rasterize_faces here")
    x, y, z = homogeneous_pixels(vertices.detach(), camera).unbind(-1)
    clip = torch.stack(
        [
            2 * x / camera.width - z,
            2 * y / camera.height - z,
            (z * (FAR + NEAR) - 2 * FAR * NEAR) / (FAR - NEAR),
            z,
        ],
        dim=-1,
    )
    context = nvdiffrast.RasterizeCudaContext(device=vertices.device)
    out, _ = nvdiffrast.rasterize(
        context,
        clip[None].float().contiguous(),
        faces.int(),
        resolution=[camera.height, camera.width],
        grad_db=False,
    )
    face = out[0, ..., 3].int() - 1
    corners = faces[face.clamp_min(0).long()]
    u, v = out[0, ..., 0], out[0, ..., 1]
    depth = world_to_camera(camera, vertices.detach())[:, 2][corners]
    z_pixel = u * depth[..., 0] + v * depth[..., 1] + (1 - u - v) * depth[..., 2]
    return Fragments(face[None], torch.where(face >= 0, z_pixel, torch.inf)[None])
