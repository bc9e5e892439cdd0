"""A minimal GLB reader, written apart from the writer so that the round-trip tests mean something."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

DTYPES = {5121: "<u1", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}


@dataclass(frozen=True)
class Glb:
    """The JSON document and the binary chunk of a file."""

    document: dict
    data: bytes

    def accessor(self, index: int) -> np.ndarray:
        """(count, width) values of an accessor, sparse substitution applied."""
        entry = self.document["accessors"][index]
        width = WIDTHS[entry["type"]]
        if "bufferView" in entry:
            values = (
                self._read(entry["bufferView"], entry["componentType"]).reshape(-1, width)[: entry["count"]].copy()
            )
        else:
            values = np.zeros((entry["count"], width), DTYPES[entry["componentType"]])
        if "sparse" in entry:
            sparse = entry["sparse"]
            rows = self._read(sparse["indices"]["bufferView"], sparse["indices"]["componentType"])
            new = self._read(sparse["values"]["bufferView"], entry["componentType"])
            values[rows] = new.reshape(sparse["count"], width)
        assert len(values) == entry["count"], (len(values), entry["count"])
        return values

    def view_bytes(self, index: int) -> bytes:
        view = self.document["bufferViews"][index]
        return self.data[view["byteOffset"] : view["byteOffset"] + view["byteLength"]]

    def _read(self, view: int, component_type: int) -> np.ndarray:
        return np.frombuffer(self.view_bytes(view), DTYPES[component_type])

    def mesh(self, name: str) -> dict:
        return next(m for m in self.document["meshes"] if m["name"] == name)

    def attribute(self, mesh: str, name: str) -> np.ndarray:
        return self.accessor(self.mesh(mesh)["primitives"][0]["attributes"][name])

    def morphs(self, mesh: str) -> dict[str, np.ndarray]:
        """Target name -> (V, 3) offsets; empty if the mesh has none."""
        entry = self.mesh(mesh)
        targets = entry["primitives"][0].get("targets", [])
        names = entry.get("extras", {}).get("targetNames", [])
        return {n: self.accessor(t["POSITION"]) for n, t in zip(names, targets, strict=True)}


def read_glb(path: Path) -> Glb:
    """Parse a GLB file; checks the magic number and that the lengths add up."""
    content = path.read_bytes()
    magic, version, length = struct.unpack_from("<4sII", content)
    assert (magic, version, length) == (b"glTF", 2, len(content))
    json_length, json_kind = struct.unpack_from("<I4s", content, 12)
    assert json_kind == b"JSON"
    document = json.loads(content[20 : 20 + json_length])
    start = 20 + json_length
    data_length, data_kind = struct.unpack_from("<I4s", content, start)
    assert data_kind == b"BIN\0"
    assert start + 8 + data_length == len(content)
    return Glb(document, content[start + 8 :])
