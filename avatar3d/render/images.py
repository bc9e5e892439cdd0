"""Pictures as files: PNG, contact sheets."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from avatar3d.structures import Render


def to_bytes(rgb: Float[Tensor, "H W C"]) -> UInt8[np.ndarray, "H W C"]:
    """Colors in [0, 1] as rounded 8-bit numbers."""
    return (rgb.detach().cpu().clamp(0, 1) * 255 + 0.5).to(torch.uint8).numpy()


def with_alpha(render: Render) -> Float[Tensor, "H W 4"]:
    """RGBA of a render that was made with `background=None`."""
    return torch.cat([render.rgb, render.alpha[..., None]], dim=-1)


def write_png(image: Float[Tensor, "H W C"] | UInt8[np.ndarray, "H W C"], path: Path | str) -> None:
    """Write an RGB or RGBA picture; the file appears whole or not at all."""
    pixels = to_bytes(image) if isinstance(image, Tensor) else image
    path = Path(path)
    partial = path.with_name(path.name + ".partial")
    Image.fromarray(pixels).save(partial, format="PNG")
    os.replace(partial, path)


def contact_sheet(
    images: Sequence[UInt8[np.ndarray, "_ _ 3"]], columns: int, labels: Sequence[str] | None = None, gap: int = 4
) -> UInt8[np.ndarray, "H W 3"]:
    """Pictures in rows of `columns` on white, each with its label below. Cells are as large as the largest."""
    if not images or columns < 1:
        raise ValueError("a contact sheet needs at least one picture and one column")
    if labels is not None and len(labels) != len(images):
        raise ValueError(f"{len(images)} pictures but {len(labels)} labels: pass one label per picture")
    height = max(image.shape[0] for image in images)
    width = max(image.shape[1] for image in images)
    font = ImageFont.load_default(size=max(10, width // 18))
    text_height = 0 if labels is None else max(10, width // 18) + 6
    rows = -(-len(images) // columns)
    columns = min(columns, len(images))
    sheet = Image.new("RGB", (columns * (width + gap) + gap, rows * (height + text_height + gap) + gap), "white")
    draw = ImageDraw.Draw(sheet)
    for n, image in enumerate(images):
        x = gap + n % columns * (width + gap)
        y = gap + n // columns * (height + text_height + gap)
        sheet.paste(Image.fromarray(np.ascontiguousarray(image)), (x, y))
        if labels is not None:
            draw.text((x + 2, y + height + 1), labels[n], fill="black", font=font)
    return np.asarray(sheet).copy()
