"""What a distilled scene is delivered as: a mesh in several formats or an avatar, preview and film."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from avatar3d.delivery import Wanted, deliver
from avatar3d.distill.avatar_scene import AvatarScene
from avatar3d.distill.loop import GREY, look_around, placed
from avatar3d.distill.radiance_scene import RadianceScene
from avatar3d.distill.scene import DistilledScene
from avatar3d.distill.stage import Stage
from avatar3d.distill.surface_scene import SurfaceScene
from avatar3d.distill.wish import Wish
from avatar3d.errors import InputError
from avatar3d.export.licences import licence_record
from avatar3d.export.mesh_formats import write_obj, write_ply, write_stl
from avatar3d.export.static_glb import write_static_glb
from avatar3d.mesh.textured import Meshing, TexturedMesh, textured_mesh
from avatar3d.pictures import pose_for_pictures, thumbnail, write_preview, write_turntable
from avatar3d.render.clips import write_mp4
from avatar3d.render.images import to_bytes, write_png
from avatar3d.render.radiance_surface import radiance_surface
from avatar3d.structures import Avatar, Mesh, Part, Skeleton, Skin

Report = Callable[[str, int, int], None]
"""Called with a stage's name, the steps done and the steps in all."""
PREVIEW, PREVIEW_SIZE = "preview.png", 192
FILM_NODES = 96
BUST_UNIT = 0.185
"""Metres of one unit of a scene that the prior that ships makes: half the height of a bust's box."""


def scene_files(scene: DistilledScene, stage: Stage, wish: Wish, folder: Path, report: Report) -> dict:
    """Mesh or avatar, film, preview; what run.json says of them."""
    scene.requires_grad_(False)
    if isinstance(scene, AvatarScene):
        return _avatar_files(scene.to_avatar(), wish, folder, report)
    scale = BUST_UNIT if wish.prior is None else 1.0
    said: dict = {}
    try:
        report("mesh", 0, 1)
        made = _meshed(scene, wish)
        said["mesh"] = {
            "triangles": len(made.mesh.faces), "closed": made.closed, "seam_error": round(made.seam_error, 4)
        }  # fmt: skip
        meant = {
            "generated": True,
            "generator": "avatar3d",
            "prompt": wish.prompt,
            "prior": wish.prior or "avatar3d",
        }
        write_meshes(replace(made.mesh, vertices=scale * made.mesh.vertices), wish.formats, folder, meant)
    except InputError as error:
        said["mesh"] = {"fault": str(error)}
    write_png(strip(look_around(scene, stage, wish.device, PREVIEW_SIZE).rgb), folder / PREVIEW)
    if wish.frames:
        write_mp4(folder / "turntable.mp4", _film(scene, stage, wish, report), fps=max(12.0, wish.frames / 3))
    return said


def _meshed(scene: DistilledScene, wish: Wish) -> TexturedMesh:
    if isinstance(scene, SurfaceScene):
        return scene.textured(Meshing(triangles=wish.triangles, texture=wish.texture))
    assert isinstance(scene, RadianceScene)
    low, high = scene.field.bounds
    cell = float((high - low).max()) / 128
    return textured_mesh(
        radiance_surface(scene.field), scene.field.bounds, Meshing(cell, wish.triangles, wish.texture)
    )


def write_meshes(mesh: Mesh, formats: Sequence[str], folder: Path, record: dict) -> None:
    """`object.glb` and the other formats that are wanted, with a record (JSON values) of where it comes from."""
    writers = {"obj": write_obj, "ply": write_ply, "stl": write_stl}
    for form in formats:
        if form == "glb":
            write_static_glb({"object": mesh}, folder / "object.glb", record)
        else:
            writers[form](_unrigged(mesh), folder / f"object.{form}", record)


def _unrigged(mesh: Mesh) -> Avatar:
    """A mesh as something with one joint that never moves, as the writers of posed surfaces want it."""
    count = len(mesh.vertices)
    weights = mesh.vertices.new_zeros(count, 4)
    weights[:, 0] = 1
    skin = Skin(torch.zeros(count, 4, dtype=torch.long), weights)
    return Avatar(None, Skeleton(("root",), (-1,), torch.zeros(1, 3)), (Part("object", "body", mesh, skin),))


def _film(scene: DistilledScene, stage: Stage, wish: Wish, report: Report) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    from avatar3d.distill.cameras import fixed_cameras

    generator = torch.Generator().manual_seed(0)
    if isinstance(scene, RadianceScene):
        scene.config = replace(scene.config, nodes=FILM_NODES)
    behind = torch.tensor([GREY], device=wish.device)
    for n in range(wish.frames):
        (camera,) = fixed_cameras(stage.cameras, [2 * math.pi * n / wish.frames], wish.resolution)
        camera = placed(camera, scene, wish.device)
        with torch.no_grad():
            picture = scene.draw([camera], behind, "albedo", generator).rgb[0]
        report("turntable", n + 1, wish.frames)
        yield to_bytes(picture.permute(1, 2, 0).cpu())


def _avatar_files(avatar: Avatar, wish: Wish, folder: Path, report: Report) -> dict:
    """The restyled avatar as `generate` delivers avatars."""
    posed = pose_for_pictures(avatar)
    licences = licence_record(avatar, wish.prompt, None, ())
    platforms = deliver(avatar, folder, Wanted(wish.formats), licences, lambda: thumbnail(avatar, posed))
    write_preview(avatar, posed, folder / PREVIEW, 2 * PREVIEW_SIZE)
    if wish.frames:
        write_turntable(
            posed, avatar, folder / "turntable.mp4", wish.frames, wish.resolution, "bust",
            lambda done, total: report("turntable", done, total),
        )  # fmt: skip
    return {"licences": licences, "report": platforms}


def strip(pictures: Tensor) -> UInt8[np.ndarray, "H W 3"]:
    """(B, 3, S, S) pictures side by side."""
    return to_bytes(torch.cat(list(pictures.detach().cpu().permute(0, 2, 3, 1)), dim=1))
