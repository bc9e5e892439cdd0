"""glTF 2.0 files as checked arrays: chunks, buffers, accessors, images, the node tree.

Everything that a file claims is checked before it is used: a damaged file gives an `AvatarFileError`.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from avatar3d.errors import InputError
from avatar3d.export.binary import split_glb
from avatar3d.rotations import quaternion_to_matrix

SUFFIXES = (".glb", ".vrm", ".gltf")
LARGEST_FILE = 2**31
LARGEST_COUNT = 20_000_000
LARGEST_IMAGE = 16384 * 16384
"""Bytes, elements of an accessor, pixels: more than this is taken for damage."""
_DTYPES = {5120: np.int8, 5121: np.uint8, 5122: np.int16, 5123: np.uint16, 5125: np.uint32, 5126: np.float32}
_SHAPES = {"SCALAR": (), "VEC2": (2,), "VEC3": (3,), "VEC4": (4,), "MAT4": (4, 4)}
_PACKED = {
    "KHR_draco_mesh_compression": "Draco",
    "EXT_meshopt_compression": "meshopt",
    "KHR_meshopt_compression": "meshopt",
}
_UNDERSTOOD = {"KHR_mesh_quantization", "EXT_texture_webp", "KHR_texture_transform", "KHR_materials_unlit"}


class AvatarFileError(InputError, ValueError):
    """A file that can not be read as an avatar, with the fault and the remedy in its message."""


@contextmanager
def damage(path: Path) -> Iterator[None]:
    """Turns what broken input raises, wherever it is noticed, into an `AvatarFileError`."""
    try:
        yield
    except AvatarFileError as error:
        raise AvatarFileError(f"{path.name}: {error}") from error
    except (
        LookupError,
        TypeError,
        ValueError,
        AttributeError,
        ArithmeticError,
        RecursionError,
        MemoryError,
    ) as error:
        raise AvatarFileError(
            f"{path.name}: not a valid glTF file ({type(error).__name__}: {error}); export it again"
        ) from error


class GltfFile:
    """The JSON `document` of a file and its binary data."""

    def __init__(self, path: Path) -> None:
        if path.suffix.lower() not in SUFFIXES:
            raise AvatarFileError(f"can read {', '.join(SUFFIXES)}, not {path.suffix or 'a bare name'!r}")
        try:
            size = path.stat().st_size
            if size == 0 or size > LARGEST_FILE:
                raise AvatarFileError(f"the file has {size} bytes; export it again")
            content = path.read_bytes()
        except OSError as error:
            raise AvatarFileError(f"can not be read ({error.strerror})") from error
        self._folder = path.parent
        self._chunk = b""
        if content[:4] == b"glTF":
            try:
                self.document, self._chunk = split_glb(content)
            except ValueError as error:
                raise AvatarFileError(f"{error}; export it again") from error
        elif path.suffix.lower() == ".gltf":
            self.document = json.loads(content)
        else:
            raise AvatarFileError("not a GLB file (it does not begin with `glTF`); export it as GLB")
        if not isinstance(self.document, dict) or not isinstance(self.document.get("asset"), dict):
            raise AvatarFileError("holds no glTF document; export it again")
        if not str(self.document["asset"].get("version", "")).startswith("2."):
            raise AvatarFileError("is not glTF 2; export it as glTF 2.0")
        self._buffers: dict[int, bytes] = {}
        self._check_extensions()

    def _check_extensions(self) -> None:
        required = set(self.document.get("extensionsRequired", []))
        for name, method in _PACKED.items():
            if name in required:
                raise AvatarFileError(
                    f"its meshes are packed with {method}, which this program can not unpack; use the plain file, "
                    "or unpack it (`npx @gltf-transform/cli copy IN OUT`)"
                )
        unknown = required - _UNDERSTOOD - {n for n in required if n.startswith(("VRM", "KHR_materials_"))}
        if unknown:
            raise AvatarFileError(
                f"needs the extensions {', '.join(sorted(unknown))}, which are not supported here"
            )

    def entries(self, kind: str) -> list[dict]:
        """A list of the document, such as `nodes`; empty if it is absent."""
        entries = self.document.get(kind, [])
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise AvatarFileError(f"`{kind}` is no list of objects; export it again")
        return entries

    def entry(self, kind: str, index: object) -> dict:
        """One of `entries`; indices must be in range."""
        entries = self.entries(kind)
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(entries):
            raise AvatarFileError(f"`{kind}` has no entry {index!r}; export it again")
        return entries[index]

    def accessor(self, index: object) -> np.ndarray:
        """(count, ...) values; normalized integers as float32 in [-1, 1], sparse values filled in."""
        entry = self.entry("accessors", index)
        count, dtype, shape = self._layout(entry)
        if "bufferView" in entry:
            values = self._elements(entry["bufferView"], entry.get("byteOffset", 0), count, dtype, shape)
        else:
            values = np.zeros((count, *shape), dtype)
        if "sparse" in entry:
            values = values.copy()
            sparse = entry["sparse"]
            rows = self._sparse_part(sparse, "indices", sparse["indices"]["componentType"], ())
            if len(rows) and int(rows.max()) >= count:
                raise AvatarFileError(f"accessor {index} has sparse indices beyond its {count} elements")
            values[rows.astype(np.int64)] = self._sparse_part(sparse, "values", entry["componentType"], shape)
        if entry.get("normalized") and dtype != np.float32:
            values = np.maximum(values.astype(np.float32) / np.iinfo(dtype).max, -1.0)
        return values

    def _layout(self, entry: dict) -> tuple[int, type, tuple[int, ...]]:
        count = entry["count"]
        if isinstance(count, bool) or not isinstance(count, int) or not 0 < count <= LARGEST_COUNT:
            raise AvatarFileError(f"an accessor claims {count!r} elements; export it again")
        if entry["componentType"] not in _DTYPES or entry["type"] not in _SHAPES:
            raise AvatarFileError(f"accessor of unknown type {entry['componentType']!r} {entry['type']!r}")
        return count, _DTYPES[entry["componentType"]], _SHAPES[entry["type"]]

    def _sparse_part(self, sparse: dict, part: str, component_type: int, shape: tuple[int, ...]) -> np.ndarray:
        count, dtype, _ = self._layout(
            {"count": sparse["count"], "componentType": component_type, "type": "SCALAR"}
        )
        return self._elements(sparse[part]["bufferView"], sparse[part].get("byteOffset", 0), count, dtype, shape)

    def _elements(self, view: object, offset: int, count: int, dtype: type, shape: tuple[int, ...]) -> np.ndarray:
        data, stride = self._view(view)
        element = np.dtype((np.dtype(dtype).newbyteorder("<"), shape))
        stride = stride or element.itemsize
        needed = offset + stride * (count - 1) + element.itemsize
        if not isinstance(offset, int) or offset < 0 or stride < element.itemsize or needed > len(data):
            raise AvatarFileError(
                f"an accessor reaches beyond its buffer view {view}: the file is cut off or damaged"
            )
        raw = np.frombuffer(data, np.uint8, stride * (count - 1) + element.itemsize, offset)
        rows = np.lib.stride_tricks.as_strided(raw, (count, element.itemsize), (stride, 1), writeable=False)
        return np.ascontiguousarray(rows).view(element.base).reshape(count, *shape)

    def _view(self, index: object) -> tuple[memoryview, int]:
        entry = self.entry("bufferViews", index)
        buffer = self._buffer(entry.get("buffer", 0))
        start, length, stride = entry.get("byteOffset", 0), entry["byteLength"], entry.get("byteStride", 0)
        if not all(isinstance(n, int) and n >= 0 for n in (start, length, stride)) or start + length > len(buffer):
            raise AvatarFileError(f"buffer view {index} reaches beyond its buffer: the file is cut off or damaged")
        return memoryview(buffer)[start : start + length], stride

    def _buffer(self, index: object) -> bytes:
        entry = self.entry("buffers", index)
        assert isinstance(index, int)
        if index not in self._buffers:
            uri = entry.get("uri")
            self._buffers[index] = self._chunk if uri is None else self._external(uri)
        return self._buffers[index]

    def _external(self, uri: str) -> bytes:
        """Data that a URI holds or that lies beside the file."""
        if uri.startswith("data:"):
            try:
                return base64.b64decode(uri.partition(",")[2], validate=True)
            except binascii.Error as error:
                raise AvatarFileError(f"embedded data is damaged ({error})") from error
        path = (self._folder / unquote(uri)).resolve()
        if not path.is_relative_to(self._folder.resolve()):
            raise AvatarFileError(
                f"refers to {uri}, which is not beside the file; use a GLB, which holds everything"
            )
        try:
            return path.read_bytes()
        except OSError as error:
            raise AvatarFileError(
                f"refers to {uri}, which can not be read ({error.strerror}); put it beside the file"
            ) from error

    def image(self, index: object, mode: str) -> Tensor:
        """(H, W, C) float32 in [0, 1]; `mode` is Pillow's, such as RGB."""
        entry = self.entry("images", index)
        data = bytes(self._view(entry["bufferView"])[0]) if "bufferView" in entry else self._external(entry["uri"])
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                picture = Image.open(io.BytesIO(data))
                if picture.width * picture.height > LARGEST_IMAGE:
                    raise AvatarFileError(f"image {index} claims {picture.width} x {picture.height} pixels")
                pixels = np.asarray(picture.convert(mode), dtype=np.float32) / 255
        except AvatarFileError:
            raise
        except Exception as error:  # decoders raise anything on broken input
            raise AvatarFileError(f"image {index} is damaged or of an unknown kind ({error})") from error
        return torch.from_numpy(pixels.reshape(*pixels.shape[:2], -1).copy())


def parents_of_nodes(file: GltfFile) -> list[int]:
    """The parent of each node, -1 for roots. Raises `AvatarFileError` on cycles and nodes with two parents."""
    nodes = file.entries("nodes")
    parents = [-1] * len(nodes)
    for index, entry in enumerate(nodes):
        for child in entry.get("children", []):
            file.entry("nodes", child)
            if parents[child] >= 0:
                raise AvatarFileError(f"node {child} has two parents; export it again")
            parents[child] = index
    state = [0] * len(nodes)  # 1 on the way up from here, 2 known to end at a root
    for start in range(len(nodes)):
        trail: list[int] = []
        node = start
        while node >= 0 and state[node] == 0:
            state[node] = 1
            trail.append(node)
            node = parents[node]
        if node >= 0 and state[node] == 1:
            raise AvatarFileError(f"node {node} is its own ancestor; export it again")
        for passed in trail:
            state[passed] = 2
    return parents


def world_matrices(file: GltfFile, parents: list[int]) -> np.ndarray:
    """(N, 4, 4) float64 transforms of all nodes at rest."""
    local = [_local_matrix(node) for node in file.entries("nodes")]
    world: dict[int, np.ndarray] = {}
    for start in range(len(local)):
        trail, node = [], start
        while node >= 0 and node not in world:
            trail.append(node)
            node = parents[node]
        for passed in reversed(trail):
            above = parents[passed]
            world[passed] = local[passed] if above < 0 else world[above] @ local[passed]
    return np.stack([world[n] for n in range(len(local))]) if local else np.zeros((0, 4, 4))


def _local_matrix(node: dict) -> np.ndarray:
    if "matrix" in node:
        matrix = np.array(node["matrix"], dtype=np.float64).reshape(4, 4).T
    else:
        translation = np.array(node.get("translation", [0, 0, 0]), dtype=np.float64).reshape(3)
        x, y, z, w = np.array(node.get("rotation", [0, 0, 0, 1]), dtype=np.float64).reshape(4)
        scale = np.array(node.get("scale", [1, 1, 1]), dtype=np.float64).reshape(3)
        if x * x + y * y + z * z + w * w < 1e-12:
            raise AvatarFileError(f"node {node.get('name')!r} has no rotation: its quaternion is zero")
        matrix = np.eye(4)
        matrix[:3, :3] = quaternion_to_matrix(torch.tensor([w, x, y, z], dtype=torch.float64)).numpy() * scale
        matrix[:3, 3] = translation
    if not np.isfinite(matrix).all() or np.abs(matrix).max() > 1e9:
        raise AvatarFileError(f"node {node.get('name')!r} has a transform that is not finite")
    return matrix
