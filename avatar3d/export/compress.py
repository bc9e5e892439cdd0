"""A smaller variant of a GLB file, for the web: meshopt-compressed geometry and WebP pictures.

EXT_meshopt_compression and KHR_mesh_quantization come from gltfpack (MIT, npm package `gltfpack`), which keeps
skins, names and face shapes. EXT_texture_webp is written here. Loaders need these extensions, so the plain file
stays the one to ship; three.js (with its MeshoptDecoder), Babylon and Godot 4 read this one.
"""

from __future__ import annotations

import io
import json
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path

from PIL import Image

from avatar3d.errors import InputError

COLOR_QUALITY = 88
DATA_QUALITY = 92
"""WebP qualities of colors, and of normals, roughness and other numbers."""
SECONDS = 120


class CompressionError(InputError, RuntimeError):
    """The tool is not there, or it could not read the file."""


def compressed(glb: bytes, webp: bool = True) -> bytes:
    """A GLB file with the same nodes, skins, names and shapes in less space.

    Positions and texture coordinates stay floats, normals get 10 bits; `webp` encodes the pictures again. Raises
    `CompressionError` when gltfpack is missing or refuses the file.
    """
    command = gltfpack_command()
    with tempfile.TemporaryDirectory() as folder:
        plain, small = Path(folder) / "plain.glb", Path(folder) / "small.glb"
        plain.write_bytes(with_webp(glb) if webp else glb)
        options = ["-cc", "-kn", "-km", "-ke", "-kv", "-ac", "-vpf", "-vtf", "-vn", "10"]
        try:
            run = subprocess.run(
                [*command, "-i", str(plain), "-o", str(small), *options],
                capture_output=True, text=True, check=False, timeout=SECONDS,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            raise CompressionError(f"gltfpack did not run: {error}") from error
        if run.returncode or not small.exists():
            raise CompressionError(f"gltfpack could not compress the file: {(run.stderr or run.stdout).strip()}")
        return small.read_bytes()


def gltfpack_command() -> list[str]:
    """How to start gltfpack: one on the PATH, or the checkout's with node. Raises `CompressionError`."""
    native = shutil.which("gltfpack")
    if native:
        return [native]
    script = Path(__file__).resolve().parents[2] / "node_modules" / "gltfpack" / "cli.js"
    node = shutil.which("node")
    if node and script.exists():
        return [node, str(script)]
    raise CompressionError(
        "compressed files are made by gltfpack, which is not installed: run `npm install` in the checkout, "
        "or `npm install --global gltfpack`"
    )


def with_webp(glb: bytes) -> bytes:
    """The file with its pictures as WebP (EXT_texture_webp). Raises `CompressionError` for what is no GLB file."""
    document, binary = read_chunks(glb)
    color_images = _color_images(document)
    replaced: dict[int, bytes] = {}
    for index, image in enumerate(document.get("images", [])):
        if "bufferView" not in image:
            continue
        view = document["bufferViews"][image["bufferView"]]
        start = view.get("byteOffset", 0)
        quality = COLOR_QUALITY if index in color_images else DATA_QUALITY
        stream = io.BytesIO()
        Image.open(io.BytesIO(binary[start : start + view["byteLength"]])).save(
            stream, "WEBP", quality=quality, method=4, alpha_quality=100
        )
        if len(stream.getvalue()) < view["byteLength"]:
            replaced[image["bufferView"]] = stream.getvalue()
            image["mimeType"] = "image/webp"
    for texture in document.get("textures", []):
        source = texture.get("source")
        if source is not None and document["images"][source].get("mimeType") == "image/webp":
            texture["extensions"] = {"EXT_texture_webp": {"source": texture.pop("source")}}
    if replaced:
        for key in ("extensionsUsed", "extensionsRequired"):
            document[key] = sorted({*document.get(key, []), "EXT_texture_webp"})
    return _with_views(document, binary, replaced)


def read_chunks(glb: bytes) -> tuple[dict, bytes]:
    """JSON and binary chunk of a GLB file (glTF 2.0, section 4.4). Raises `CompressionError`."""
    try:
        magic, version, _ = struct.unpack_from("<4sII", glb)
        length = struct.unpack_from("<I", glb, 12)[0]
        document = json.loads(glb[20 : 20 + length])
    except (struct.error, ValueError) as error:
        raise CompressionError("this is not a GLB file, or it is cut short") from error
    if (magic, version) != (b"glTF", 2):
        raise CompressionError("this is not a GLB file of glTF 2.0")
    return document, glb[28 + length :]


def _color_images(document: dict) -> set[int]:
    """Indices of the images that hold base colors."""
    textures = document.get("textures", [])
    slots = [m.get("pbrMetallicRoughness", {}).get("baseColorTexture") for m in document.get("materials", [])]
    return {textures[slot["index"]]["source"] for slot in slots if slot}


def _with_views(document: dict, binary: bytes, replaced: dict[int, bytes]) -> bytes:
    """The file with other contents in some buffer views."""
    data = bytearray()
    for index, view in enumerate(document.get("bufferViews", [])):
        start = view.get("byteOffset", 0)
        content = replaced.get(index, binary[start : start + view["byteLength"]])
        data += b"\0" * (-len(data) % 4)
        view["byteOffset"], view["byteLength"] = len(data), len(content)
        data += content
    data += b"\0" * (-len(data) % 4)
    document["buffers"] = [{"byteLength": len(data)}]
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    header = struct.pack("<4sIIII", b"glTF", 2, 28 + len(text) + len(data), len(text), 0x4E4F534A)
    return header + text + struct.pack("<II", len(data), 0x004E4942) + bytes(data)
