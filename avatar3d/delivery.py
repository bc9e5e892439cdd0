"""An avatar into files: what a format, a bone profile and a platform ask for, in the order in which it is done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from avatar3d.body.bind import rebound, rebound_clip, t_pose
from avatar3d.body.twist import with_twist_joints
from avatar3d.body.visemes import COMPOSED, with_composed
from avatar3d.export.compress import compressed
from avatar3d.export.errors import ExportError
from avatar3d.export.fbx import write_fbx
from avatar3d.export.glb import encode_glb
from avatar3d.export.mesh_formats import write_obj, write_ply, write_stl
from avatar3d.export.platforms import cost_of
from avatar3d.export.platforms import report as platform_report
from avatar3d.export.presets import apply, levels, preset_named
from avatar3d.export.profiles import find_profile
from avatar3d.export.rpm import with_ready_player_me_names
from avatar3d.export.usd import write_usd
from avatar3d.export.vrm import encode_vrm
from avatar3d.export.vrm_check import vrm_errors
from avatar3d.runs import write_bytes
from avatar3d.structures import Avatar, Clip

Step = Callable[[int, int], None]
"""Called with the files done and the files in all."""
NAME = "avatar"
"""Stem of all files."""


@dataclass(frozen=True)
class Wanted:
    """Which files, and for whom; as in `commands.Files`."""

    formats: tuple[str, ...] = ("glb",)
    profile: str = "vrm"
    bind: str = "auto"
    preset: str | None = None
    lod: int = 1
    twist: bool = False
    compressed: bool = False


def fitted(avatar: Avatar, wanted: Wanted) -> Avatar:
    """The avatar with the size, shapes and joints that are wanted."""
    if wanted.profile == "rpm":
        avatar = with_composed(avatar, tuple(COMPOSED))
    if wanted.preset:
        avatar = apply(avatar, preset_named(wanted.preset))
    if wanted.twist:
        avatar = with_twist_joints(avatar)
    return avatar


def bound(avatar: Avatar, wanted: Wanted, clips: Sequence[Clip]) -> tuple[Avatar, list[Clip]]:
    """The avatar in the rest pose that is wanted, and clips that look the same from there."""
    expected = find_profile(wanted.profile).t_pose and wanted.profile != "vrm"
    if wanted.bind == "t" or (wanted.bind == "auto" and expected):
        pose, before = t_pose(avatar.skeleton), avatar.skeleton
        avatar = rebound(avatar, pose)
        clips = [rebound_clip(clip, before, pose, avatar.skeleton) for clip in clips]
    return avatar, list(clips)


def deliver(
    avatar: Avatar,
    folder: Path,
    wanted: Wanted,
    record: dict,
    icon: Callable[[], bytes],
    clips: Sequence[Clip] = (),
    step: Step | None = None,
) -> dict:
    """Write the files that are wanted into `folder`; returns the platform report of each level of detail.

    `record` is the licence record that goes into every file (`export.licences`); `icon` draws the VRM's.
    Clips are those of `avatar` as it comes. Raises `ExportError` when a format needs a program that is missing.
    """
    whole, moves = bound(fitted(avatar, wanted), wanted, clips)
    if wanted.profile == "rpm":
        whole = with_ready_player_me_names(whole)
    chain = levels(whole, wanted.lod)
    costs = {}
    for level, one in enumerate(chain):
        stem = folder / (NAME if level == 0 else f"{NAME}_LOD{level}")
        for done, form in enumerate(wanted.formats):
            if step is not None:
                step(level * len(wanted.formats) + done, len(chain) * len(wanted.formats))
            _write(form, one, stem, wanted, record, icon, moves)
        glb = stem.with_suffix(".glb")
        costs[stem.name] = cost_of(one, glb.stat().st_size if glb.exists() else None)
    return {name: platform_report(cost) for name, cost in costs.items()}


def _write(
    form: str, avatar: Avatar, stem: Path, wanted: Wanted, record: dict, icon: Callable[[], bytes],
    clips: Sequence[Clip],
) -> None:  # fmt: skip
    """One level of detail in one format (OBJ: with its materials and textures)."""
    path = stem.with_suffix(f".{form}")
    if form == "glb":
        data = encode_glb(avatar, record, wanted.profile, clips)
        write_bytes(path, data)
        if wanted.compressed:
            write_bytes(stem.with_suffix(".compressed.glb"), compressed(data))
    elif form == "vrm":
        data = encode_vrm(avatar, record, icon())
        if errors := vrm_errors(data):
            raise ExportError(f"this avatar makes no valid VRM file: {errors[0]}; write another --format")
        write_bytes(path, data)
    elif form == "obj":
        write_obj(avatar, path, record)
    elif form == "ply":
        write_ply(avatar, path, record)
    elif form == "stl":
        write_stl(avatar, path, record)
    elif form == "usd":
        write_usd(avatar, stem.with_suffix(".usdz"), record, clips)
    else:
        write_fbx(avatar, path, record, wanted.profile, clips)
