"""How well planes explain labelled points: the loss of auto-encoder and upsampler."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from avatar3d.cascade.busts import Busts
from avatar3d.fields.decoder import Decoder
from avatar3d.fields.triplane import look_up

CLIP = 0.1
"""Distances beyond this need no more than the right sign, in half heights of the box (25 mm)."""
NEAR = 0.03
"""Distances below this count fivefold."""
COLORED = 0.05
"""Colors and labels are asked for so near to the surface."""
COLOR_WEIGHT, LABEL_WEIGHT = 1.5, 0.1


@dataclass(frozen=True)
class PointBatch:
    """N labelled points of each of B avatars."""

    points: Float[Tensor, "B N 3"]
    """Box coordinates."""
    distance: Float[Tensor, "B N"]
    colors: Float[Tensor, "B 3 N"]
    labels: Int[Tensor, "B N"]
    """Index into `PART_KINDS`."""


def draw_points(
    busts: Busts, rows: np.ndarray, count: int, generator: torch.Generator, device: str = "cpu"
) -> PointBatch:
    """Random labelled points of the avatars `rows`."""
    total = busts["points"].shape[1]
    at = torch.randint(total, (len(rows), count), generator=generator).numpy()
    row = rows[:, None]
    points = torch.from_numpy(busts["points"][row, at].astype(np.float32) / 32767.0)
    distance = torch.from_numpy(busts["distance"][row, at].astype(np.float32))
    colors = torch.from_numpy(busts["colors"][row, at].astype(np.float32) / 255.0).transpose(1, 2)
    labels = torch.from_numpy(busts["labels"][row, at].astype(np.int64) - 1)
    return PointBatch(*(t.to(device) for t in (points, distance, colors, labels)))


def points_loss(
    planes: Float[Tensor, "B 3 C R R"], field: Decoder, batch: PointBatch
) -> dict[str, Float[Tensor, ""]]:
    """Losses of distance, color and label, each a weighted mean over the points.

    `distance` is in units of `CLIP`; the color is compared as it will be seen, in sRGB.
    """
    distance, color_logits, logits = field(look_up(planes, batch.points))
    distance, color_logits, logits = distance.float(), color_logits.float(), logits.float()
    true = batch.distance
    far = true.abs() >= CLIP
    error = (torch.where(far, distance.clamp(-CLIP, CLIP), distance) - true.clamp(-CLIP, CLIP)).abs()
    weight = 1.0 + 4.0 * (true.abs() < NEAR)
    colored = (true.abs() < COLORED).float()
    share = colored.sum().clamp_min(1.0)
    color_error = (color_logits.sigmoid() - batch.colors).abs().mean(1)
    label_error = cross_entropy(logits, batch.labels, reduction="none")
    return {
        "distance": (weight * error).mean() / CLIP,
        "color": COLOR_WEIGHT * (colored * color_error).sum() / share,
        "label": LABEL_WEIGHT * (colored * label_error).sum() / share,
    }


def total_variation(planes: Float[Tensor, "B 3 C R R"]) -> Float[Tensor, ""]:
    """Mean absolute difference of neighbouring cells."""
    return (planes.diff(dim=-1).abs().mean() + planes.diff(dim=-2).abs().mean()).float()
