"""Arguments of commands: ranges, and messages that say what would be right."""

from __future__ import annotations

import difflib

from avatar3d.errors import InputError

MAX_SEED = 2**63 - 1
MAX_COUNT = 1000
MAX_FRAMES = 3600
MAX_LODS = 5
FORMATS = ("glb", "vrm", "obj", "ply", "stl", "usd", "fbx")
RESOLUTIONS = (64, 2048)
TRIANGLES = (100, 2_000_000)
TEXELS = (64, 8192)


class UsageError(InputError):
    """An argument out of range, with the range in its message."""


def check_range(option: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise UsageError(f"{option} must be from {low} to {high}, got {value}")


def check_pictures(frames: int, resolution: int, least_frames: int) -> None:
    check_range("--frames", frames, least_frames, MAX_FRAMES)
    check_range("--resolution", resolution, *RESOLUTIONS)
    if resolution % 2:
        raise UsageError(f"--resolution must be even for video, got {resolution}; use {resolution + 1}")


def formats_of(typed: str) -> tuple[str, ...]:
    formats = tuple(dict.fromkeys(typed.lower().replace(" ", "").split(",")))
    for name in formats:
        if name not in FORMATS:
            near = difflib.get_close_matches(name, FORMATS, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise UsageError(f"--format has no {name!r}; {hint}choose from {', '.join(FORMATS)}")
    return formats
