"""glTF materials -> `Material`: metallic-roughness with textures; what else a file has is remarked upon."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from avatar3d.export.gltf_file import AvatarFileError, GltfFile
from avatar3d.render.color import linear_to_srgb
from avatar3d.structures import Material

ALPHA_MODES = ("OPAQUE", "MASK", "BLEND")


class MaterialReader:
    """Materials of a file; each image is decoded once."""

    def __init__(self, file: GltfFile, remarks: list[str]) -> None:
        self._file = file
        self._remarks = remarks
        self._materials: dict[int, Material] = {}
        self._images: dict[tuple[int, str], Tensor] = {}

    def read(self, index: int | None) -> Material:
        """The material of that index; glTF's default (white, rough) for None."""
        if index is None:
            return Material("default", roughness=1.0)
        if index not in self._materials:
            self._materials[index] = self._convert(self._file.entry("materials", index), index)
        return self._materials[index]

    def _convert(self, entry: dict, index: int) -> Material:
        name = str(entry.get("name") or f"material_{index}")
        pbr = entry.get("pbrMetallicRoughness", {})
        alpha_mode = entry.get("alphaMode", "OPAQUE")
        if alpha_mode not in ALPHA_MODES:
            raise AvatarFileError(f"material {name!r} has the unknown alpha mode {alpha_mode!r}")
        if "emissiveTexture" in entry or any(entry.get("emissiveFactor", [])):
            self._remark(f"material {name!r}: its light of its own is left out")
        other = set(entry.get("extensions", {})) - {"KHR_materials_unlit", "VRMC_materials_mtoon"}
        if other:
            self._remark(f"material {name!r}: {', '.join(sorted(other))} is left out")
        factor = [_number(v, 1.0) for v in pbr.get("baseColorFactor", [1, 1, 1, 1])]
        red, green, blue = linear_to_srgb(torch.tensor(factor[:3]).double().clamp(0, 1)).tolist()
        return Material(
            name=name,
            base_color=(red, green, blue, factor[3]),
            base_color_texture=self._texture(
                pbr.get("baseColorTexture"), "RGB" if alpha_mode == "OPAQUE" else "RGBA"
            ),
            normal_texture=self._texture(entry.get("normalTexture"), "RGB"),
            orm_texture=self._orm(pbr.get("metallicRoughnessTexture"), entry.get("occlusionTexture")),
            roughness=_number(pbr.get("roughnessFactor"), 1.0),
            metallic=_number(pbr.get("metallicFactor"), 1.0),
            alpha_mode=alpha_mode,
            alpha_cutoff=_number(entry.get("alphaCutoff"), 0.5),
            double_sided=bool(entry.get("doubleSided", False)),
        )

    def _orm(self, roughness: dict | None, occlusion: dict | None) -> Tensor | None:
        """Roughness and metallic in green and blue; red is occlusion, which may come from another image."""
        packed, light = self._texture(roughness, "RGB"), self._texture(occlusion, "RGB")
        if packed is None:
            return None
        if light is packed:
            return packed
        red = torch.ones_like(packed[..., :1])
        if light is not None and light.shape == packed.shape:
            red = light[..., :1]
        elif light is not None:
            self._remark("an occlusion texture of another size than its roughness texture is left out")
        return torch.cat([red, packed[..., 1:]], dim=-1)

    def _texture(self, reference: dict | None, mode: str) -> Tensor | None:
        if reference is None:
            return None
        if reference.get("texCoord", 0) != 0:
            self._remark("a texture with its own texture coordinates is left out")
            return None
        if "KHR_texture_transform" in reference.get("extensions", {}):
            self._remark("a texture's transform is left out")
        texture = self._file.entry("textures", reference["index"])
        extensions = texture.get("extensions", {})
        source = extensions.get("EXT_texture_webp", {}).get("source", texture.get("source"))
        if source is None:
            self._remark(
                f"a texture of the kind {', '.join(extensions) or 'unknown'} can not be read and is left out"
            )
            return None
        key = (source, mode)
        if key not in self._images:
            self._images[key] = self._file.image(source, mode)
        return self._images[key]

    def _remark(self, remark: str) -> None:
        if remark not in self._remarks:
            self._remarks.append(remark)


def _number(value: object, default: float) -> float:
    number = default if value is None else float(value)  # type: ignore[arg-type]
    return number if math.isfinite(number) else default
