"""FBX through Blender, which is not a part of this package: our GLB file goes in, Blender writes the FBX file.

FBX has no open specification; Blender's writer is what engines are tested with. Blender is looked for in this
order: an argument, the environment variable AVATAR3D_BLENDER, `blender` on the PATH. It is a Blender program or a
Python interpreter that can import `bpy`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from avatar3d.export.errors import ExportError
from avatar3d.export.glb import encode_glb
from avatar3d.runs import write_bytes
from avatar3d.structures import Avatar, Clip

VARIABLE = "AVATAR3D_BLENDER"
PATIENCE = 600
"""Seconds that Blender may take."""
SCRIPT = Path(__file__).with_name("blender_fbx.py")


def write_fbx(
    avatar: Avatar,
    path: Path,
    record: dict,
    profile: str = "vrm",
    clips: Sequence[Clip] = (),
    blender: str | None = None,
) -> None:
    """Write `avatar` as FBX: armature, skin weights, face shapes, embedded textures, clips.

    Arguments as for `glb.encode_glb`; `blender` is a program (see above). Raises `ExportError` when there is no
    Blender or when it fails, and what `encode_glb` raises.
    """
    command = blender_command(blender)
    with tempfile.TemporaryDirectory() as work:
        source, target, note = (Path(work) / name for name in ("avatar.glb", "avatar.fbx", "record.json"))
        source.write_bytes(encode_glb(avatar, record, profile, clips))
        note.write_text(json.dumps(record), "utf-8")
        _run([*command, str(source), str(target), str(note)], target)
        write_bytes(path, target.read_bytes())


def blender_command(blender: str | None = None) -> list[str]:
    """The command that runs `blender_fbx.py`, without arguments. Raises `ExportError` if there is no Blender."""
    wanted = blender or os.environ.get(VARIABLE)
    program = shutil.which(wanted or "blender")
    if program is None:
        found = f"{wanted} can not be run" if wanted else "there is no `blender` on the PATH"
        raise ExportError(
            f"FBX files are written by Blender, and {found}. Install it (`apt-get install blender python3-numpy`, "
            f"blender.org/download), or set {VARIABLE} to a Blender program or to a Python with `pip install bpy`"
        )
    if "python" in Path(program).name.lower():
        return [program, str(SCRIPT)]
    options = ["--background", "--factory-startup", "--python-exit-code", "1", "--python", str(SCRIPT), "--"]
    return [program, *options]


def _run(command: list[str], target: Path) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired as error:
        raise ExportError(
            f"Blender did not finish within {PATIENCE} s; write a smaller avatar (--preset)"
        ) from error
    if done.returncode != 0 or not target.exists():
        raise ExportError(
            f"Blender could not write the FBX file ({command[0]}): {_reason(done.stdout, done.stderr)}"
        )


def _reason(*outputs: str) -> str:
    """The line that names an exception, or else the last one."""
    lines = [line.strip() for text in outputs for line in text.splitlines() if line.strip()]
    named = [line for line in lines if re.match(r"\w*(Error|Exception)\b", line) and "script failed" not in line]
    return (named or lines or ["it said nothing"])[-1]
