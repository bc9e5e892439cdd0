"""How far the structured avatar and a tri-plane show the same person, from all sides."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from avatar3d.camera import pixel_centers, unproject
from avatar3d.engine.bust import FIELD_KINDS, bust_of
from avatar3d.evaluation.images import face_window, kind_mask, mean_scores, score_picture
from avatar3d.fields.box import bust_camera
from avatar3d.render.meshes import BACKDROP, render_albedo
from avatar3d.render.scene import compile_scene, labelled
from avatar3d.structures import Avatar, Camera, Render

SIDES = {"front": 0.0, "three_quarter": math.radians(40.0), "side": math.radians(90.0), "back": math.pi}
"""Azimuths that are compared."""
SIZE = 256


def agreement(avatar: Avatar, bounds: Float[Tensor, "2 3"], draw: Callable[[Camera], Render]) -> dict:
    """Albedo pictures of the avatar at rest against those that `draw` makes of the field; numbers for JSON.

    `draw` must use `render.meshes.BACKDROP`. Parts that a field does not carry (glasses, lashes) are left out of
    the avatar's pictures, and pixels in which the avatar is first met outside of the box (arms) out of both.
    Keys: `psnr_foreground` and `psnr_face` (front only) in dB, `silhouette_iou`, `color_error` (label -> mean
    absolute difference of its mean colors), all as means over the sides, and `sides` with the first and third
    of each. None stands for no difference at all or nothing to compare.
    """
    scene = compile_scene(labelled(bust_of(avatar).parts))
    scores, sides = [], {}
    errors: dict[str, list[float]] = {kind: [] for kind in FIELD_KINDS}
    for side, azimuth in SIDES.items():
        camera = bust_camera(bounds, azimuth, SIZE)
        mesh, field = render_albedo(scene, camera, BACKDROP), draw(camera)
        beyond = _beyond(mesh, camera, bounds)
        mesh, field = _blanked(mesh, beyond), _blanked(field, beyond)
        score = score_picture(field, mesh, face_window(camera, bounds))
        if side != "front":
            score = replace(score, psnr_face=math.nan)
        scores.append(score)
        sides[side] = {
            "psnr_foreground": _rounded(score.psnr_foreground),
            "silhouette_iou": _rounded(score.silhouette_iou),
        }
        for kind in FIELD_KINDS:
            masks = [kind_mask(picture.labels, kind) for picture in (field, mesh)]
            if min(int(mask.sum()) for mask in masks) >= 20:
                means = [p.rgb[m].mean(dim=0) for p, m in zip((field, mesh), masks, strict=True)]
                errors[kind].append(float((means[0] - means[1]).abs().mean()))
    mean = mean_scores(scores)
    return {
        "psnr_foreground": _rounded(mean["psnr_foreground"]),
        "psnr_face": _rounded(mean["psnr_face"]),
        "silhouette_iou": _rounded(mean["silhouette_iou"]),
        "color_error": {k: _rounded(sum(v) / len(v)) for k, v in errors.items() if v},
        "sides": sides,
    }


def _beyond(picture: Render, camera: Camera, bounds: Float[Tensor, "2 3"]) -> Bool[Tensor, "H W"]:
    """Pixels that show a surface outside of the box."""
    depth = torch.where(picture.labels > 0, picture.depth, 1.0)
    points = unproject(camera, pixel_centers(camera), depth)
    inside = ((points >= bounds[0]) & (points <= bounds[1])).all(dim=-1)
    return (picture.labels > 0) & ~inside


def _blanked(picture: Render, mask: Bool[Tensor, "H W"]) -> Render:
    """With background where the mask says so."""
    rgb = torch.where(mask[..., None], picture.rgb.new_tensor(BACKDROP), picture.rgb)
    return replace(picture, rgb=rgb, alpha=picture.alpha * ~mask, labels=picture.labels * ~mask)


def _rounded(value: float) -> float | None:
    return round(value, 4) if math.isfinite(value) else None
