"""What `generate --representation` adds to a run: the tri-plane of the avatar, its pictures and its mesh."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8

from avatar3d.cascade.agreement import agreement
from avatar3d.cascade.bake import with_look_of
from avatar3d.cascade.composed import render_composed
from avatar3d.cascade.sampling import Cascade, default_cascade, sample_triplane
from avatar3d.export.static_glb import write_static_glb
from avatar3d.fields.box import bust_bounds, bust_camera
from avatar3d.fields.decoder import TriPlaneField
from avatar3d.fields.files import save_triplane
from avatar3d.mesh.textured import Meshing, textured_mesh
from avatar3d.pictures import PREVIEW_AZIMUTH, TURN_SECONDS, Step
from avatar3d.render.clips import write_mp4
from avatar3d.render.distance_grid import distance_grid
from avatar3d.render.images import to_bytes, write_png
from avatar3d.render.lights import studio_lights
from avatar3d.render.meshes import render_meshes
from avatar3d.render.scene import Scene, compile_scene, labelled
from avatar3d.render.trace import trace_field
from avatar3d.structures import Avatar

PREVIEW = 384
"""Pixels of each picture of the preview."""

FILM = 256
"""Most pixels along each side of the film: a field of 128 cells has no more to show, and each takes time."""
MESHING = Meshing(cell=0.003, triangles=12000)
"""Of triplane.glb: unwrapping takes most of its time."""


@dataclass(frozen=True)
class Sampled:
    """An avatar's field."""

    field: TriPlaneField
    avatar: Avatar
    """The structured avatar that it belongs to, at rest."""


def sample_field(avatar: Avatar, seed: int, cascade: Cascade | None = None) -> Sampled:
    """The tri-plane of an avatar of ours through the whole cascade.

    Raises `WeightsError` when the cascade's weights are missing.
    """
    assert avatar.spec is not None, "the cascade starts from a spec"
    cascade = cascade or default_cascade()
    triplane = sample_triplane(cascade, avatar.spec, seed, bust_bounds(avatar.skeleton))
    return Sampled(cascade.field(triplane), avatar)


def write_field_files(
    sampled: Sampled, delivered: Avatar, folder: Path, frames: int, resolution: int, step: Step
) -> dict:
    """triplane.safetensors, .glb, .png and .mp4 (none with 0 frames) in a folder; returns what run.json says.

    `delivered` is the avatar whose GLB ships with them: its agreement with the field is measured.
    """
    field, avatar = sampled.field, sampled.avatar
    save_triplane(folder / "triplane.safetensors", field.triplane)
    made = textured_mesh(field, field.bounds, MESHING)
    write_static_glb({"bust": made.mesh}, folder / "triplane.glb", {"generated": True, "generator": "avatar3d"})
    scene = compile_scene(labelled(avatar.parts))
    write_png(_preview(field, scene), folder / "triplane.png")
    if frames:
        pictures = _turntable(field, scene, frames, min(resolution, FILM), step)
        write_mp4(folder / "triplane.mp4", pictures, fps=max(12.0, frames / TURN_SECONDS))
    return {
        "planes": list(field.triplane.planes.shape),
        "composed_from_meshes": "eyes, brows, lashes, glasses and earrings in pictures",
        "mesh": {
            "triangles": len(made.mesh.faces),
            "closed": made.closed,
            "seam_error": round(made.seam_error, 4),
        },
        "agreement": agreement(delivered, field.bounds, lambda camera: trace_field(field, camera)),
    }


def with_baked_look(sampled: Sampled) -> Avatar:
    """The structured avatar in the field's colors: same skeleton, weights, face shapes and texture coordinates."""
    return with_look_of(sampled.avatar, sampled.field, sampled.field.bounds)


def _preview(field: TriPlaneField, scene: Scene) -> UInt8[np.ndarray, "H W 3"]:
    """The field, the field with the thin parts of the meshes, and the meshes, from three-quarter and in front."""
    grid = distance_grid(field)
    rows = []
    for azimuth in (PREVIEW_AZIMUTH, 0.0):
        camera = bust_camera(field.bounds, azimuth, PREVIEW)
        lights = studio_lights(camera)
        with torch.no_grad():
            alone = trace_field(field, camera, lights, grid=grid, normals=False).rgb
            meshes = render_meshes(scene, camera, lights).rgb
        rows.append(torch.cat([alone, render_composed(field, scene, camera, lights, grid), meshes], dim=1))
    return to_bytes(torch.cat(rows))


def _turntable(
    field: TriPlaneField, scene: Scene, frames: int, resolution: int, step: Step
) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    grid = distance_grid(field)
    for frame in range(frames):
        camera = bust_camera(field.bounds, 2 * math.pi * frame / frames, resolution)
        yield to_bytes(render_composed(field, scene, camera, studio_lights(camera), grid, samples=1))
        step(frame + 1, frames)
