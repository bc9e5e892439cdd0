"""What a camera sees of a compiled scene, surface by surface, without colors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from avatar3d.render.fused import scene_arrays, see
from avatar3d.render.rasterize import rasterize
from avatar3d.render.scene import BARELY_SEEN, Scene, camera_view, draw_order, view_triangles
from avatar3d.structures import Camera


@dataclass(frozen=True)
class Layers:
    """S fragments, layer by layer from the nearest: blended surfaces, then the solid one behind them."""

    counts: list[int]
    """Fragments of each layer."""
    pixel: Int[Tensor, " S"]
    face: Int[Tensor, " S"]
    rows: Int[Tensor, "S 3"]
    """Mip level to sample in the scene's base atlas."""
    side: Float[Tensor, " S"]
    """-1 where a back is seen."""
    depth: Float[Tensor, "H W"]
    """Of the solid surface; inf where there is none."""


def see_layers(scene: Scene, camera: Camera, blend_layers: int) -> Layers:
    """Fragments at pixel centers. No gradients; on any device, by kernels on a CPU."""
    with torch.no_grad():
        if scene.attributes.device.type == "cpu":
            seen = see(scene_arrays(scene), camera, 1, blend_layers, 1)
            faces = [torch.from_numpy(f).long() for f in (*seen.layer_face, seen.solid_face)]
            rows, side = torch.from_numpy(seen.rows[:, 0]), torch.from_numpy(seen.side)
            return _layers(faces, rows, side, torch.from_numpy(seen.solid_depth))
        return _by_torch(scene, camera, blend_layers)


def _by_torch(scene: Scene, camera: Camera, blend_layers: int) -> Layers:
    view, width, height = camera_view(scene, camera), camera.width, camera.height
    solid, glassy = draw_order(scene), (scene.alpha_mode[scene.face_mesh] == 2).nonzero()[:, 0]
    cutoffs = torch.where(scene.alpha_mode == 1, scene.alpha_cutoff, 0.0)
    opaque = rasterize(view_triangles(scene, view, solid, cutoffs), width, height)
    faces = []
    if len(glassy) and blend_layers:
        barely = torch.full_like(scene.alpha_cutoff, BARELY_SEEN)
        triangles = view_triangles(scene, view, glassy, barely)
        found = rasterize(triangles, width, height, blend_layers, opaque.depth[0]).face.long()
        faces += list(torch.where(found >= 0, glassy[found.clamp_min(0)], -1))
    found = opaque.face[0].long()
    faces.append(torch.where(found >= 0, solid[found.clamp_min(0)], -1))
    return _layers(faces, view.rows[0], view.side, opaque.depth[0])


def _layers(faces: list[Tensor], rows: Tensor, side: Tensor, depth: Tensor) -> Layers:
    pixels = [(face.reshape(-1) >= 0).nonzero()[:, 0] for face in faces]
    face = torch.cat([f.reshape(-1)[p] for f, p in zip(faces, pixels, strict=True)])
    return Layers([len(p) for p in pixels], torch.cat(pixels), face, rows[face], side[face], depth)
