"""The binary chunk of a GLB file: buffer views and accessors (glTF 2.0, sections 3.6 and 4.4)."""

from __future__ import annotations

import json
import struct

import numpy as np

ARRAY_BUFFER = 34962
ELEMENT_ARRAY_BUFFER = 34963
_COMPONENT_TYPES = {"uint8": 5121, "uint16": 5123, "uint32": 5125, "float32": 5126}
_ELEMENT_TYPES = {(): "SCALAR", (2,): "VEC2", (3,): "VEC3", (4,): "VEC4", (4, 4): "MAT4"}


class BinaryChunk:
    """Collects arrays; `views` and `accessors` are the matching glTF JSON lists."""

    def __init__(self) -> None:
        self.views: list[dict] = []
        self.accessors: list[dict] = []
        self._data = bytearray()
        self._zeros: int | None = None

    def add_view(self, data: bytes, target: int | None = None) -> int:
        """Append bytes on a 4-byte boundary; returns the index of their buffer view."""
        self._data += b"\0" * (-len(self._data) % 4)
        view = {"buffer": 0, "byteOffset": len(self._data), "byteLength": len(data)}
        if target is not None:
            view["target"] = target
        self._data += data
        self.views.append(view)
        return len(self.views) - 1

    def add_array(self, array: np.ndarray, target: int | None = None, bounds: bool = False) -> int:
        """Append an array (count, ...) as an accessor, with min and max if `bounds`; returns its index."""
        accessor = {"bufferView": self.add_view(np.ascontiguousarray(array).tobytes(), target)}
        return self._add_accessor(accessor, array, bounds)

    def add_sparse(self, array: np.ndarray, moved: np.ndarray) -> int:
        """Append a float32 array (count, 3) of which only the rows `moved` (sorted indices) are not zero.

        The rows that stay are read from a view of zeros that all sparse accessors share: the specification
        lets it be left out, but Godot before 4.1 then reads view 0 instead, and SharpGLTF refuses the file.
        """
        if self._zeros is None:
            self._zeros = self.add_view(b"", ARRAY_BUFFER)
            self.views[self._zeros]["byteStride"] = 12
        needed = max(self.views[self._zeros]["byteLength"], 12 * len(array))
        self.views[self._zeros]["byteLength"] = needed
        accessor: dict = {"bufferView": self._zeros}
        if len(moved):
            index_dtype = np.uint16 if len(array) <= 65536 else np.uint32
            accessor["sparse"] = {
                "count": len(moved),
                "indices": {
                    "bufferView": self.add_view(moved.astype(index_dtype).tobytes()),
                    "componentType": _COMPONENT_TYPES[np.dtype(index_dtype).name],
                },
                "values": {"bufferView": self.add_view(np.ascontiguousarray(array[moved]).tobytes())},
            }
        return self._add_accessor(accessor, array, bounds=True)

    def _add_accessor(self, accessor: dict, array: np.ndarray, bounds: bool) -> int:
        accessor |= {
            "componentType": _COMPONENT_TYPES[array.dtype.name],
            "count": len(array),
            "type": _ELEMENT_TYPES[array.shape[1:]],
        }
        if bounds:
            columns = np.ascontiguousarray(array.reshape(len(array), -1).T)
            accessor |= {"min": columns.min(axis=1).tolist(), "max": columns.max(axis=1).tolist()}
        self.accessors.append(accessor)
        return len(self.accessors) - 1

    def to_glb(self, document: dict) -> bytes:
        """The whole file: 12-byte header, JSON chunk padded with spaces, binary chunk padded with zeros."""
        if self._zeros is not None:
            self._data += b"\0" * (-len(self._data) % 4)
            self.views[self._zeros]["byteOffset"] = len(self._data)
            self._data += bytes(self.views[self._zeros]["byteLength"])
        document = document | {
            "accessors": self.accessors,
            "bufferViews": self.views,
            "buffers": [{"byteLength": len(self._data)}],
        }
        text = json.dumps(document, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 4)
        data = bytes(self._data) + b"\0" * (-len(self._data) % 4)
        length = 12 + 8 + len(text) + 8 + len(data)
        return b"".join(
            [
                struct.pack("<4sII", b"glTF", 2, length),
                struct.pack("<I4s", len(text), b"JSON"),
                text,
                struct.pack("<I4s", len(data), b"BIN\0"),
                data,
            ]
        )


def split_glb(data: bytes) -> tuple[dict, bytes]:
    """The JSON document and the binary chunk (empty if there is none) of a GLB file.

    Raises ValueError when the bytes are no GLB, are cut off or hold no JSON object.
    """
    if len(data) < 20 or data[:4] != b"glTF":
        raise ValueError("not a GLB file: it does not begin with glTF")
    version, length = struct.unpack_from("<II", data, 4)
    if version != 2:
        raise ValueError(f"GLB version {version}, can read version 2")
    if length > len(data):
        raise ValueError(f"the file is cut off: {len(data)} bytes of {length}")
    chunks: dict[bytes, bytes] = {}
    start = 12
    while start + 8 <= length:
        size, kind = struct.unpack_from("<I4s", data, start)
        if start + 8 + size > length:
            raise ValueError("a chunk is longer than the file")
        chunks.setdefault(kind, data[start + 8 : start + 8 + size])
        start += 8 + size
    try:
        document = json.loads(chunks.get(b"JSON", b""))
    except ValueError as error:
        raise ValueError(f"the JSON chunk is broken ({error})") from error
    if not isinstance(document, dict):
        raise ValueError("the JSON chunk holds no object")
    return document, chunks.get(b"BIN\0", b"")
