"""Materials and embedded textures of a GLB file; textures with the same bytes are stored once."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image
from torch import Tensor

from avatar3d.export.binary import BinaryChunk
from avatar3d.structures import Material

JPEG_QUALITY = 92
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
        self._texture_of_tensor: dict[tuple[int, bool], tuple[Tensor, int]] = {}
        self._texture_of_bytes: dict[bytes, int] = {}

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
        if key in self._texture_of_tensor:
            return self._texture_of_tensor[key][1]
        data, mime_type = encode_image(texture, drop_alpha)
        if data not in self._texture_of_bytes:
            self.images.append({"bufferView": self._chunk.add_view(data), "mimeType": mime_type})
            self.textures.append({"sampler": 0, "source": len(self.images) - 1})
            self._texture_of_bytes[data] = len(self.textures) - 1
        index = self._texture_of_bytes[data]
        self._texture_of_tensor[key] = (texture, index)  # holding the tensor keeps its id from being reused
        return index


def encode_image(texture: Tensor, drop_alpha: bool) -> tuple[bytes, str]:
    """(H, W, C) floats in [0, 1] -> encoded bytes and MIME type.

    PNG if there is alpha to keep or the image is small, JPEG without chroma subsampling otherwise.
    """
    pixels = np.rint(texture.detach().clamp(0, 1).cpu().numpy() * 255).astype(np.uint8)
    height, width, channels = pixels.shape
    if channels == 4 and drop_alpha:
        pixels = pixels[..., :3]
    if channels == 1:
        pixels = np.repeat(pixels, 3, axis=2)
    stream = io.BytesIO()
    if pixels.shape[2] == 4 or height * width <= SMALL_IMAGE:
        Image.fromarray(pixels).save(stream, "PNG", compress_level=6)
        return stream.getvalue(), "image/png"
    Image.fromarray(pixels).save(stream, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return stream.getvalue(), "image/jpeg"


def _srgb_to_linear(color: tuple[float, ...]) -> list[float]:
    """IEC 61966-2-1. glTF's factors are linear, ours are sRGB."""
    return [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in color]
