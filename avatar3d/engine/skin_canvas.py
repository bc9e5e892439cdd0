"""What never changes about skin textures: texels, region masks and relief on the reference body, computed once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from avatar3d.body.shape import ShapedBody, shape_body
from avatar3d.body.template import ASSETS, TemplateError, load_masks
from avatar3d.engine import skin_face
from avatar3d.engine.skin_face import ramp
from avatar3d.engine.texels import value_noise
from avatar3d.mesh.normals import vertex_normals
from avatar3d.mesh.texels import Texels, texels_of
from avatar3d.spec import AvatarSpec

SIZE = 1024

MASKS = (
    "lips", "mouth_line", "red", "blush", "socket", "lid", "shadow", "liner", "rim", "beard", "goatee", "scalp",
    "oil", "freckles", "palm", "nail", "underwear", "bandeau", "aureola", "vein", "inside", "cavity", "mottle",
    "patch", "grain",
)  # fmt: skip
"""Columns of `Canvas.masks`."""

RELIEF = ("pores", "deep", "fine", "lips")
"""Layers of `Canvas.slopes`."""


@dataclass(frozen=True)
class Canvas:
    """One texture of the body: N texels with what the reference body has there."""

    texels: Texels
    points: np.ndarray
    """(N, 3) millimetres from the middle between the reference's eyes."""
    masks: np.ndarray
    """(N, len(MASKS)) float32."""
    slopes: np.ndarray
    """(N, len(RELIEF), 2) slope along u and v of each relief at full strength."""
    dents: np.ndarray
    """(N,) depth in mm of the deep creases at full strength, for color."""


@cache
def head_layout() -> tuple[Tensor, Tensor, Tensor]:
    """Texture coordinates (R, 2) over the body surface's corners, which faces (F,) are the head's, and sky (V,).

    Sky is the share of it that each welded vertex of the reference head sees. Raises `TemplateError` when the file
    is missing or damaged.
    """
    path = ASSETS / "head_uv.safetensors"
    try:
        arrays = load_file(path)
        return arrays["corner_uv"], arrays["head_faces"], arrays["sky"]
    except (OSError, SafetensorError, KeyError) as error:
        raise TemplateError(
            f"can not read the head's texture layout {path}: {error}. Restore it from the repository, or make it "
            "again with scripts/compile_head_uv.py"
        ) from error


@cache
def reference() -> ShapedBody:
    """The body on which masks are drawn."""
    return shape_body(AvatarSpec())


def to_millimetres(points: np.ndarray) -> np.ndarray:
    """(N, 3) points of the reference body as the drawing's coordinates."""
    eyes = (reference().bone("leftEye") + reference().bone("rightEye")).numpy() / 2
    return ((points - eyes) * 1000).astype(np.float32)


@cache
def head_canvas() -> Canvas:
    """The head's texture."""
    uv, head, sky = head_layout()
    corner, old_uv, faces = (x.numpy() for x in reference().template.surface("body"))
    texels = texels_of(uv.numpy(), faces[head.numpy()], SIZE)
    p = to_millimetres(texels.interpolate(reference().vertices.numpy()[corner]))
    image = uv.numpy()
    inner = ((image[:, 1] > 0.85) & ((image[:, 0] < 0.145) | (image[:, 0] > 0.865))).astype(np.float32)[:, None]
    at = texels.interpolate(np.concatenate([inner, sky.numpy()[corner][:, None], sample("ears", old_uv)], axis=1))
    masks = skin_face.face_masks(p)
    masks["inside"] = at[:, 0]
    masks["cavity"] = ramp(at[:, 1], 0.55, 0.10)
    masks["red"] = np.maximum(masks["red"], 0.75 * at[:, 2])
    outside = 1 - at[:, 0]
    for name in ("lips", "mouth_line", "shadow", "liner", "rim", "beard", "goatee"):
        masks[name] = masks[name] * outside
    lips = masks["lips"]
    relief = {
        "pores": skin_face.pores(p) * (1 - 0.8 * lips),
        "deep": skin_face.deep_creases(p) * (1 - lips),
        "fine": skin_face.fine_creases(p) * (1 - lips),
        "lips": skin_face.lip_lines(p, lips),
    }
    return _canvas(texels, p, masks, relief)


@cache
def body_canvas() -> Canvas:
    """Everything below the head, on the template's own layout."""
    _, head, _ = head_layout()
    body = reference()
    corner, uv, faces = (x.numpy() for x in body.template.surface("body"))
    texels = texels_of(uv, faces[~head.numpy()], SIZE)
    welded = torch.from_numpy(corner)[torch.from_numpy(faces)]
    normals = vertex_normals(body.vertices, welded).numpy()[corner]
    points = body.vertices.numpy()[corner]
    columns = [sample(name, uv) for name in ("fingernails", "toenails", "aureolae")]
    at = texels.interpolate(
        np.concatenate([_palms(points, normals)[:, None], _joints(points, normals)[:, None], *columns], 1)
    )
    p = to_millimetres(texels.interpolate(points))
    veins = 1 - np.abs(value_noise(p * np.array([0.5, 0.5, 1.0], np.float32), 16.0, 41))
    briefs, bandeau = _underwear(p)
    masks = {
        "palm": at[:, 0],
        "red": np.minimum(at[:, 1], 1),
        "nail": ramp(np.maximum(at[:, 2], at[:, 3]), 0.2, 0.7),
        "aureola": at[:, 4],
        "vein": ramp(veins, 0.90, 1.0) * (1 - at[:, 0]),
        "freckles": 0.8 * ramp(p[:, 1], -420.0, -200.0) * ramp(np.abs(p[:, 0]), 40.0, 110.0),
        "underwear": briefs,
        "bandeau": bandeau,
        "beard": skin_face.beard_region(p),
    }
    flat = 1 - briefs
    relief = {
        "pores": skin_face.pores(p) * flat,
        "deep": skin_face.deep_creases(p) * flat,
        "fine": skin_face.fine_creases(p) * flat,
        "lips": np.zeros(len(p), np.float32),
    }
    return _canvas(texels, p, masks, relief)


def _canvas(texels: Texels, p: np.ndarray, masks: dict, relief: dict) -> Canvas:
    masks["mottle"] = 0.6 * value_noise(p, 22.0, 11) + 0.4 * value_noise(p, 9.0, 12)
    masks["patch"] = 0.6 * value_noise(p, 4.0, 13) + 0.4 * value_noise(p, 1.9, 14)
    masks["grain"] = value_noise(p, 0.8, 15)
    zero = np.zeros(len(p), np.float32)
    return Canvas(
        texels,
        p,
        np.ascontiguousarray(np.stack([masks.get(name, zero) for name in MASKS], axis=1), dtype=np.float32),
        np.stack([texels.slopes(relief[name], p) for name in RELIEF], axis=1),
        np.maximum(-(relief["deep"] + relief["fine"]), 0.0),
    )


def sample(mask: str, uv: np.ndarray) -> np.ndarray:
    """(R, 1) value of a shipped region mask at the template's texture coordinates."""
    image = load_masks()[mask].numpy()
    size = len(image)
    x = np.clip((uv[:, 0] * size).astype(int), 0, size - 1)
    y = np.clip((uv[:, 1] * size).astype(int), 0, size - 1)
    return image[y, x][:, None]


def _palms(points: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """(R,) palms, undersides of fingers and soles."""
    body = reference()
    palm = ((points[:, 1] < 0.07) * ramp(normals[:, 1], -0.25, -0.7)).astype(np.float32)
    for side in ("left", "right"):
        wrist, middle, index, little, thumb = (
            body.bone(side + bone).numpy()
            for bone in ("Hand", "MiddleDistal", "IndexProximal", "LittleProximal", "ThumbDistal")
        )
        along = (middle - wrist) / np.linalg.norm(middle - wrist)
        inward = np.cross(along, little - index)
        inward /= np.linalg.norm(inward)
        inward *= np.sign((thumb - wrist) @ inward)
        beyond = (points - wrist) @ along
        near = np.linalg.norm(points - wrist, axis=1) < 0.3
        palm += near * ramp(beyond, -0.02, 0.005) * ramp(normals @ inward, -0.05, 0.35)
    return np.minimum(palm, 1)


def _joints(points: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """(R,) knuckles, elbows and knees, on the outer side of the bend."""
    body = reference()
    total = np.zeros(len(points), np.float32)
    sides = [(n, 0.011, -1.0) for n in body.skeleton.names if n.endswith(("Proximal", "Intermediate", "Distal"))]
    sides += [(s + "LowerArm", 0.035, -1.0) for s in ("left", "right")]
    sides += [(s + "LowerLeg", 0.05, 1.0) for s in ("left", "right")]
    palm = _palms(points, normals)
    for name, radius, forward in sides:
        distance = np.linalg.norm(points - body.bone(name).numpy(), axis=1)
        outer = 1 - palm if radius < 0.02 else ramp(forward * normals[:, 2], 0.0, 0.6)
        total += outer * np.exp(-((distance / radius) ** 2) + 0.3)
    return total.astype(np.float32)


def _underwear(p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N,) plain briefs, and (N,) a plain bandeau around the chest."""
    x, y = np.abs(p[:, 0]), p[:, 1]
    torso = ramp(x, 205.0, 195.0)
    leg = -815.0 + 0.55 * x
    briefs = ramp(y, -585.0, -590.0) * ramp(y - leg, -3.0, 3.0) * torso
    band = ramp(y, -292.0, -297.0) * ramp(y, -425.0, -420.0) * ramp(x, 165.0, 160.0)
    return briefs.astype(np.float32), band.astype(np.float32)
