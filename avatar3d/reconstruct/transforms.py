"""Folders of pictures with their cameras: `transforms.json`, as Blender's NeRF scenes and nerfstudio have them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from avatar3d.camera import from_transform, to_transform, unproject
from avatar3d.errors import InputError
from avatar3d.render.images import write_png
from avatar3d.render.rays import Rays
from avatar3d.runs import write_json
from avatar3d.structures import Camera

NAME = "transforms.json"
SUFFIXES = (".png", ".jpg", ".jpeg")
BENT = ("k1", "k2", "k3", "k4", "p1", "p2")
ORTHONORMAL = 1e-2


class TransformsError(InputError):
    """A folder of pictures that can not be used; the message names the file, the fault and the remedy."""


@dataclass(frozen=True)
class Pictures:
    """V pictures of one size with their cameras."""

    names: tuple[str, ...]
    pixels: Float[Tensor, "V H W 4"]
    """sRGB, not premultiplied, and alpha."""
    cameras: tuple[Camera, ...]
    """As if the principal point were in the middle and pixels were square; see `pixel_rays`."""
    center: tuple[float, float]
    """Principal point, pixels."""
    stretch: float
    """Vertical over horizontal focal length."""
    has_alpha: bool

    def subset(self, index: Sequence[int]) -> Pictures:
        """Some of the pictures."""
        names, cameras = tuple(self.names[i] for i in index), tuple(self.cameras[i] for i in index)
        pixels = self.pixels[torch.tensor(list(index), dtype=torch.long)]
        return Pictures(names, pixels, cameras, self.center, self.stretch, self.has_alpha)


def read_transforms(folder: Path, largest: int = 800) -> Pictures:
    """Pictures and cameras of `folder/transforms.json`.

    Pictures wider or higher than `largest` pixels are made smaller by a whole factor. Raises `TransformsError`
    when something is missing, damaged, of another size than the rest, or no camera.
    """
    path = folder / NAME
    document = _document(path)
    frames = document["frames"]
    pixels: list[Tensor] = []
    alphas, names = [], []
    for n, frame in enumerate(frames):
        picture, alpha = _picture(_picture_path(folder, path, n, frame), largest)
        if pixels and picture.shape != pixels[0].shape:
            raise TransformsError(
                f"{frame['file_path']} is {picture.shape[1]} x {picture.shape[0]}, the pictures before it "
                f"{pixels[0].shape[1]} x {pixels[0].shape[0]}: bring all to one size"
            )
        pixels.append(picture)
        alphas.append(alpha)
        names.append(str(frame["file_path"]))
    height, width = pixels[0].shape[:2]
    focal, focal_y, center = _lens(path, document, width, height)
    poses = [_pose(path, frame) for frame in frames]
    cameras = tuple(Camera(pose, focal, width, height) for pose in poses)
    return Pictures(tuple(names), torch.stack(pixels), cameras, center, focal_y / focal, any(alphas))


def write_transforms(folder: Path, cameras: Sequence[Camera], pictures: Sequence[Float[Tensor, "H W C"]]) -> None:
    """Write pictures (RGB or RGBA, sRGB) and their cameras so that `read_transforms` and nerfstudio read them.

    Raises ValueError when there are none, or cameras and pictures do not belong together.
    """
    if not cameras or len(cameras) != len(pictures):
        raise ValueError(f"{len(cameras)} cameras and {len(pictures)} pictures: give one camera for each picture")
    first = cameras[0]
    if any((c.focal, c.width, c.height) != (first.focal, first.width, first.height) for c in cameras):
        raise ValueError("cameras of one file have one size and one focal length")
    (folder / "images").mkdir(parents=True, exist_ok=True)
    frames = []
    for n, (camera, picture) in enumerate(zip(cameras, pictures, strict=True)):
        if picture.shape[:2] != (camera.height, camera.width):
            raise ValueError(f"picture {n} is not of its camera's size {camera.width} x {camera.height}")
        name = f"images/{n:04d}.png"
        write_png(picture, folder / name)
        matrix = to_transform(camera.T_world_camera.detach().cpu().double()).tolist()
        frames.append({"file_path": name, "transform_matrix": matrix})
    document = {
        "camera_model": "OPENCV", "camera_angle_x": 2 * math.atan(0.5 * first.width / first.focal),
        "fl_x": first.focal, "fl_y": first.focal, "cx": 0.5 * first.width, "cy": 0.5 * first.height,
        "w": first.width, "h": first.height, "frames": frames,
    }  # fmt: skip
    write_json(folder / NAME, document)


def pixel_rays(pictures: Pictures, view: Int[Tensor, " N"], pixel: Int[Tensor, " N"]) -> Rays:
    """Rays through the centers of pixels, counted row by row, of some of the pictures."""
    width, height = pictures.cameras[0].width, pictures.cameras[0].height
    x = pixel % width + 0.5 - pictures.center[0] + 0.5 * width
    y = (pixel // width + 0.5 - pictures.center[1]) / pictures.stretch + 0.5 * height
    places = torch.stack([x, y], -1).float()
    like = pictures.cameras[0]
    upright = Camera(torch.eye(4), like.focal, width, height)
    ahead = torch.nn.functional.normalize(unproject(upright, places, torch.ones_like(places[:, 0])), dim=-1)
    poses = torch.stack([camera.T_world_camera for camera in pictures.cameras])[view]
    return Rays(poses[:, :3, 3], torch.einsum("nij,nj->ni", poses[:, :3, :3], ahead))


def _document(path: Path) -> dict:
    if not path.is_file():
        raise TransformsError(f"{path} does not exist: give a folder with pictures and a {NAME}")
    try:
        document = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise TransformsError(f"{path} is not JSON ({error}): write it again") from error
    frames = document.get("frames") if isinstance(document, dict) else None
    if not isinstance(frames, list) or not frames:
        raise TransformsError(f"{path} has no frames: it needs a list of file_path and transform_matrix")
    bent = [key for key in BENT if _number(path, document, key, 0.0)]
    if bent or document.get("camera_model", "OPENCV") not in ("OPENCV", "PINHOLE", "SIMPLE_PINHOLE"):
        what = ", ".join(bent) or document["camera_model"]
        raise TransformsError(f"{path} has a lens that bends lines ({what}): undistort the pictures first")
    return document


def _picture_path(folder: Path, path: Path, n: int, frame: object) -> Path:
    if not isinstance(frame, dict) or not isinstance(frame.get("file_path"), str):
        raise TransformsError(f"{path}: frame {n} has no file_path")
    place = folder / frame["file_path"]
    for candidate in (place, *(place.with_name(place.name + suffix) for suffix in SUFFIXES)):
        if candidate.is_file():
            return candidate
    raise TransformsError(f"{place} does not exist: put the picture there, or take frame {n} out of {path}")


def _picture(path: Path, largest: int) -> tuple[Float[Tensor, "H W 4"], bool]:
    try:
        with Image.open(path) as image:
            alpha = "A" in image.getbands() or "transparency" in image.info
            pixels = np.asarray(image.convert("RGBA"), np.float32) / 255
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise TransformsError(f"{path} can not be read as a picture ({error}): save it again as PNG") from error
    picture = torch.from_numpy(pixels)
    factor = -(-max(picture.shape[:2]) // largest)
    if factor > 1:
        height, width = (n // factor * factor for n in picture.shape[:2])
        cut = picture[:height, :width]
        cut = torch.cat([cut[..., :3] * cut[..., 3:], cut[..., 3:]], -1)
        small = cut.view(height // factor, factor, width // factor, factor, 4).mean((1, 3))
        picture = torch.cat([small[..., :3] / small[..., 3:].clamp_min(1e-6), small[..., 3:]], -1).clamp(0, 1)
    return picture, alpha


def _lens(path: Path, document: dict, width: int, height: int) -> tuple[float, float, tuple[float, float]]:
    """Focal lengths along x and y and the principal point, in pixels of the pictures as they were read."""
    said = _number(path, document, "w", 0.0) or None
    angle = _number(path, document, "camera_angle_x", 0.0)
    if document.get("fl_x") is not None:
        if said is None:
            raise TransformsError(f"{path} has fl_x without w: say for which width, in pixels, it is")
        scale = width / said
        focal = _number(path, document, "fl_x", 0.0) * scale
        focal_y = _number(path, document, "fl_y", focal / scale) * scale
    elif 0 < angle < math.pi:
        scale = width / (said or width)
        focal = focal_y = 0.5 * width / math.tan(0.5 * angle)
    else:
        raise TransformsError(f"{path} needs camera_angle_x (radians, below pi), or fl_x and w")
    if not (focal > 0 and focal_y > 0):
        raise TransformsError(f"{path}: focal lengths are above 0, got {focal:g} and {focal_y:g}")
    if said is not None and "h" in document:
        shape = _number(path, document, "h", 1.0) / said
        if abs(shape - height / width) > 0.02 * shape:
            raise TransformsError(
                f"{path} says {document['w']} x {document['h']}, which is not the pictures' shape"
            )
    center = (
        _number(path, document, "cx", 0.5 * width / scale) * scale,
        _number(path, document, "cy", 0.5 * height / scale) * scale,
    )
    return focal, focal_y, center


def _number(path: Path, document: dict, key: str, default: float) -> float:
    value = document.get(key, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise TransformsError(f"{path}: {key} is a number, got {value!r}")
    return float(value)


def _pose(path: Path, frame: dict) -> Float[Tensor, "4 4"]:
    name = frame["file_path"]
    try:
        matrix = torch.tensor(frame.get("transform_matrix"), dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TransformsError(f"{path}: the transform_matrix of {name} is not 4 x 4 numbers") from error
    if matrix.shape != (4, 4) or not bool(torch.isfinite(matrix).all()):
        raise TransformsError(f"{path}: the transform_matrix of {name} is not 4 x 4 finite numbers")
    turn = matrix[:3, :3]
    off = float((turn.T @ turn - torch.eye(3)).abs().max())
    if off > ORTHONORMAL or float(torch.linalg.det(turn)) < 0:
        raise TransformsError(
            f"{path}: the transform_matrix of {name} is no rotation with a place: it is scaled, mirrored or "
            "singular. Write camera-to-world matrices without scale"
        )
    if float((matrix[3] - torch.tensor([0.0, 0, 0, 1])).abs().max()) > 1e-6:
        raise TransformsError(f"{path}: the last row of the transform_matrix of {name} is not 0 0 0 1")
    return from_transform(matrix).float()
