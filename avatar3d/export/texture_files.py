"""Textures that lie beside a file, as pictures of their own."""

from __future__ import annotations

from collections.abc import Container

from jaxtyping import Float
from torch import Tensor

from avatar3d.export.materials import encode_image

SUFFIXES = {"image/png": ".png", "image/jpeg": ".jpg"}


class TextureFiles:
    """Collects encoded textures, equal ones once; `files` maps file names to bytes."""

    def __init__(self, prefix: str = "") -> None:
        self.files: dict[str, bytes] = {}
        self._prefix = prefix

    def add(self, texture: Float[Tensor, "H W C"], name: str, drop_alpha: bool) -> str:
        """Name of the texture's file: that of an equal one, else made of the prefix and `name`."""
        data, mime_type = encode_image(texture, drop_alpha)
        for file, other in self.files.items():
            if other == data:
                return file
        stem = free_name(f"{self._prefix}{name}", {file.rpartition(".")[0] for file in self.files})
        self.files[f"{stem}{SUFFIXES[mime_type]}"] = data
        return f"{stem}{SUFFIXES[mime_type]}"


def free_name(name: str, taken: Container[str]) -> str:
    """`name`, with a number behind it if it is taken; without spaces, which text formats split at."""
    name = "_".join(name.split())
    free, number = name, 2
    while free in taken:
        free, number = f"{name}_{number}", number + 1
    return free
