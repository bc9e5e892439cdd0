"""What is wanted of a distillation."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

from avatar3d.distill.dense_pose import Picture
from avatar3d.distill.stage import Method
from avatar3d.errors import InputError

FORMATS = ("glb", "obj", "ply", "stl")


class DistillError(InputError):
    """A wish that can not be met; the message says why and what to do."""


@dataclass(frozen=True)
class Wish:
    """What to distil, and how."""

    prompt: str
    method: str = "fast"
    """A preset of `configs/distill`, or a YAML file."""
    prior: str | None = None
    """Folder or hub id of a diffusers pipeline; None for the one that ships."""
    seed: int = 0
    negative: str | None = None
    avatar: Path | None = None
    """For methods that restyle an avatar: a run folder, a spec or a GLB."""
    steps: float = 1.0
    """Times the preset's steps."""
    size: int | None = None
    """Pixels a side, instead of the preset's."""
    max_memory: float | None = None
    """Gigabytes."""
    device: str = "cpu"
    lora: str | None = None
    controlnet: str | None = None
    """Folder or hub id of a ControlNet that was made for dense poses."""
    still: float = 0.0
    """Stop a stage when its pictures change less than this."""
    preview_every: int = 50
    formats: tuple[str, ...] = ("glb",)
    triangles: int = 20000
    texture: int = 1024
    frames: int = 48
    resolution: int = 256
    scored: bool = False
    """Say how well the prior finds that the result shows the prompt (`distill.score`)."""
    pose_picture: Picture = "parts"
    """What the ControlNet is shown, see `dense_pose.Picture`."""
    source: str | None = None
    """What `avatar` looks like, in words; None: the prompt that its file tells, or nothing."""


def adapted(method: Method, wish: Wish) -> Method:
    """The preset with what the wish changes. Raises `DistillError` for impossible sizes and steps."""
    if not (math.isfinite(wish.steps) and wish.steps > 0):
        raise DistillError(f"--steps is a factor above 0 of the method's own steps, got {wish.steps}")
    stages = []
    for stage in method.stages:
        size = wish.size or stage.size
        if not 16 <= size <= 1024:
            raise DistillError(f"--size must be from 16 to 1024 pixels, got {size}")
        stages.append(replace(stage, size=size, steps=max(1, round(stage.steps * wish.steps))))
    kinds = {stage.scene.kind for stage in stages}
    if wish.avatar is not None and "avatar" not in kinds:
        raise DistillError(
            f"--avatar is for methods that restyle one; {wish.method} does not: use --method avatar"
        )
    if wish.source is not None and (wish.avatar is None or all(s.guidance.loss != "dds" for s in method.stages)):
        raise DistillError(
            "--source says what the --avatar of a method with the loss dds looks like; name one, or leave it out"
        )
    if wish.pose_picture != "parts" and wish.controlnet is None:
        raise DistillError("--pose-picture is what a ControlNet is shown: name one with --controlnet")
    for name in wish.formats:
        if name not in FORMATS and "avatar" not in kinds:
            raise DistillError(f"--format has no {name!r} for meshes without a skeleton: {', '.join(FORMATS)}")
    return replace(method, stages=tuple(stages))
