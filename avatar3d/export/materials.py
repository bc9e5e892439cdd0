"""Materials and embedded textures of a GLB file; textures with the same bytes are stored once."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from avatar3d.export.binary import BinaryChunk
from avatar3d.structures import Material

JPEG_QUALITY = 92
PNG_LEVEL = 4
"""Of zlib: twice as fast as its usual 6, and hardly larger."""
SMALL_IMAGE = 128 * 128
"""Up to so many pixels PNG is used: it is exact and hardly larger."""


class MaterialTable:
    """Collects materials; `materials`, `textures`, `images` and `samplers` are glTF JSON lists."""

    def __init__(self, chunk: BinaryChunk) -> None:
        self.materials: list[dict] = []
        self.textures: list[dict] = []
        self.images: list[dict] = []
        self.samplers = [{"magFilter": 9729, "minFilter": 9987, "wrapS": 10497, "wrapT": 10497}]
        self._chunk = chunk
        self._encoded: dict[tuple[int, bool], tuple[Tensor, tuple[bytes, str]]] = {}
        self._texture_of_bytes: dict[bytes, int] = {}

    def encode(self, materials: Iterable[Material]) -> None:
        """Encode the textures of materials that will be added, several at a time: encoders release the GIL."""
        wanted = {}
        for material in materials:
            for texture, drop_alpha in _textures(material):
                wanted[id(texture), drop_alpha] = (texture, drop_alpha)
        with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
            encoded = pool.map(lambda item: encode_image(*item), wanted.values())
            for (key, (texture, _)), image in zip(wanted.items(), encoded, strict=True):
                self._encoded[key] = (texture, image)  # holding the tensor keeps its id from being reused

    def add(self, material: Material) -> int:
        """Append a material unless an equal one is there; returns its index."""
        entry = self._entry(material)
        if entry not in self.materials:
            self.materials.append(entry)
        return self.materials.index(entry)

    def _entry(self, material: Material) -> dict:
        pbr: dict = {
            "baseColorFactor": [*_srgb_to_linear(material.base_color[:3]), material.base_color[3]],
            "metallicFactor": material.metallic,
            "roughnessFactor": material.roughness,
        }
        entry: dict = {"name": material.name, "pbrMetallicRoughness": pbr}
        opaque = material.alpha_mode == "OPAQUE"
        if material.base_color_texture is not None:
            pbr["baseColorTexture"] = {"index": self._texture(material.base_color_texture, opaque)}
        if material.orm_texture is not None:
            index = self._texture(material.orm_texture, True)
            pbr["metallicRoughnessTexture"] = {"index": index}
            entry["occlusionTexture"] = {"index": index}
        if material.normal_texture is not None:
            entry["normalTexture"] = {"index": self._texture(material.normal_texture, True)}
        if not opaque:
            entry["alphaMode"] = material.alpha_mode
        if material.alpha_mode == "MASK":
            entry["alphaCutoff"] = material.alpha_cutoff
        if material.double_sided:
            entry["doubleSided"] = True
        return entry

    def _texture(self, texture: Tensor, drop_alpha: bool) -> int:
        key = (id(texture), drop_alpha)
        if key not in self._encoded:
            self._encoded[key] = (texture, encode_image(texture, drop_alpha))
        data, mime_type = self._encoded[key][1]
        if data not in self._texture_of_bytes:
            self.images.append({"bufferView": self._chunk.add_view(data), "mimeType": mime_type})
            self.textures.append({"sampler": 0, "source": len(self.images) - 1})
            self._texture_of_bytes[data] = len(self.textures) - 1
        return self._texture_of_bytes[data]


def _textures(material: Material) -> list[tuple[Tensor, bool]]:
    """The textures of a material, each with whether its alpha is not wanted."""
    opaque = material.alpha_mode == "OPAQUE"
    candidates = (
        (material.base_color_texture, opaque), (material.orm_texture, True), (material.normal_texture, True)
    )  # fmt: skip
    return [(texture, drop_alpha) for texture, drop_alpha in candidates if texture is not None]


def encode_image(texture: Tensor, drop_alpha: bool) -> tuple[bytes, str]:
    """(H, W, C) floats in [0, 1] -> encoded bytes and MIME type.

    PNG if there is alpha to keep or the image is small, JPEG without chroma subsampling otherwise.
    """
    pixels = texture.detach().clamp(0, 1).mul_(255).round_().to("cpu", torch.uint8).numpy()
    height, width, channels = pixels.shape
    if channels == 4 and drop_alpha:
        pixels = pixels[..., :3]
    if channels == 1:
        pixels = np.repeat(pixels, 3, axis=2)
    stream = io.BytesIO()
    if pixels.shape[2] == 4 or height * width <= SMALL_IMAGE:
        Image.fromarray(pixels).save(stream, "PNG", compress_level=PNG_LEVEL)
        return stream.getvalue(), "image/png"
    Image.fromarray(pixels).save(stream, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return stream.getvalue(), "image/jpeg"


def _srgb_to_linear(color: tuple[float, ...]) -> list[float]:
    """IEC 61966-2-1. glTF's factors are linear, ours are sRGB."""
    return [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in color]
