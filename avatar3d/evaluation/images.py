"""How near one picture is to another: error, colors of parts, outlines. Pictures are (H, W, 3) sRGB in [0, 1]."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from avatar3d.camera import project
from avatar3d.fields.triplane import WARP_CENTER, from_box
from avatar3d.structures import PART_KINDS, Camera, Render

FACE_REACH = (0.30, 0.36, 0.10)
"""Half the size of the face window around the center of the tri-plane's warp, in box coordinates."""


def psnr(
    picture: Float[Tensor, "H W C"], truth: Float[Tensor, "H W C"], mask: Bool[Tensor, "H W"] | None = None
) -> float:
    """Peak signal-to-noise ratio in dB, 10 log10(1 / MSE), over all pixels or those of a mask.

    Infinite for equal pictures, nan for an empty mask.
    """
    squares = (picture - truth).double().square()
    if mask is not None:
        squares = squares[mask]
    if squares.numel() == 0:
        return math.nan
    error = float(squares.mean())
    return -10 * math.log10(error) if error > 0 else math.inf


def iou(a: Bool[Tensor, "*B"], b: Bool[Tensor, "*B"]) -> float:
    """Intersection over union; 1 when both are empty."""
    union = int((a | b).sum())
    return int((a & b).sum()) / union if union else 1.0


def color_error(
    picture: Float[Tensor, "H W 3"], truth: Float[Tensor, "H W 3"], mask: Bool[Tensor, "H W"]
) -> float:
    """Median over the mask's pixels of the mean absolute difference of the channels; nan for an empty mask."""
    differences = (picture - truth)[mask].abs().mean(-1)
    return float(differences.median()) if len(differences) else math.nan


def kind_mask(labels: Int[Tensor, "H W"], kind: str) -> Bool[Tensor, "H W"]:
    """Pixels of the parts of a kind."""
    return labels == 1 + PART_KINDS.index(kind)


def face_window(camera: Camera, bounds: Float[Tensor, "2 3"]) -> Bool[Tensor, "H W"]:
    """Pixels of the upright rectangle around the face of a tri-plane in the box `bounds`."""
    center, reach = torch.tensor(WARP_CENTER), torch.tensor(FACE_REACH)
    corners = center + reach * torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 3)
    pixels = project(camera, from_box(corners, bounds.float()))[0]
    (left, top), (right, bottom) = pixels.amin(0).tolist(), pixels.amax(0).tolist()
    x, y = torch.arange(camera.width) + 0.5, torch.arange(camera.height) + 0.5
    return ((y > top) & (y < bottom))[:, None] & ((x > left) & (x < right))[None]


@dataclass(frozen=True)
class PictureScores:
    """One render against the true one; nan where a part is in neither or not in both."""

    psnr: float
    """dB, whole picture."""
    psnr_foreground: float
    """dB, where either picture shows the avatar."""
    psnr_face: float
    """dB, in the face window."""
    top_error: float
    """Median color difference of the top where both have it."""
    hair_error: float
    skin_error: float
    hair_iou: float
    top_iou: float
    silhouette_iou: float


def score_picture(picture: Render, truth: Render, face: Bool[Tensor, "H W"]) -> PictureScores:
    """Compare two renders of one camera over the same background; `face` is `face_window`'s."""
    shown, true = picture.alpha >= 0.5, truth.alpha >= 0.5
    pairs = {kind: (kind_mask(picture.labels, kind), kind_mask(truth.labels, kind)) for kind in PART_KINDS}

    def error(kind: str) -> float:
        own, other = pairs[kind]
        return color_error(picture.rgb, truth.rgb, own & other)

    def overlap(kind: str) -> float:
        own, other = pairs[kind]
        return iou(own, other) if bool(own.any() | other.any()) else math.nan

    return PictureScores(
        psnr=psnr(picture.rgb, truth.rgb),
        psnr_foreground=psnr(picture.rgb, truth.rgb, shown | true),
        psnr_face=psnr(picture.rgb, truth.rgb, face),
        top_error=error("top"),
        hair_error=error("hair"),
        skin_error=error("body"),
        hair_iou=overlap("hair"),
        top_iou=overlap("top"),
        silhouette_iou=iou(shown, true),
    )


def mean_scores(scores: list[PictureScores]) -> dict[str, float]:
    """Mean of each score over the pictures that have it."""
    table = {name: [asdict(s)[name] for s in scores] for name in PictureScores.__dataclass_fields__}
    known = {name: [v for v in values if not math.isnan(v)] for name, values in table.items()}
    return {name: sum(values) / len(values) if values else math.nan for name, values in known.items()}
