"""The door to Blender, without Blender: which program is run, and what is said when it is absent or fails."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from humanoid import humanoid_avatar

from avatar3d.export.errors import ExportError
from avatar3d.export.fbx import SCRIPT, VARIABLE, blender_command, write_fbx

RECORD = {"generator": "a test"}


def program(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_where_blender_is_looked_for(tmp_path, monkeypatch):
    """An argument, then the variable, then the PATH; a Python gets the script itself."""
    on_path, by_variable = program(tmp_path, "blender", ""), program(tmp_path, "blender-5", "")
    python = program(tmp_path, "python3.11", "")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv(VARIABLE, raising=False)
    assert blender_command()[0] == on_path
    monkeypatch.setenv(VARIABLE, by_variable)
    assert blender_command()[:2] == [by_variable, "--background"]
    assert blender_command(python) == [python, str(SCRIPT)]


def test_without_blender_the_remedy_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(ExportError, match=r"apt-get install blender.*AVATAR3D_BLENDER"):
        write_fbx(humanoid_avatar(), tmp_path / "one.fbx", RECORD)
    with pytest.raises(ExportError, match="/nowhere/blender can not be run"):
        write_fbx(humanoid_avatar(), tmp_path / "one.fbx", RECORD, blender="/nowhere/blender")
    assert list(tmp_path.iterdir()) == []


def test_a_failure_names_its_reason(tmp_path):
    words = (
        "echo \"ModuleNotFoundError: No module named 'numpy'\"\necho 'Error: script failed, exiting.' >&2\nexit 1"
    )
    with pytest.raises(ExportError, match="No module named 'numpy'"):
        write_fbx(humanoid_avatar(), tmp_path / "a.fbx", RECORD, blender=program(tmp_path, "blender", words))
    with pytest.raises(ExportError, match="said nothing"):
        write_fbx(humanoid_avatar(), tmp_path / "a.fbx", RECORD, blender=program(tmp_path, "blender", "exit 0"))
    assert not (tmp_path / "a.fbx").exists()


def test_what_blender_writes_is_what_is_kept(tmp_path):
    """The stand-in copies the GLB: it comes with its arguments in order, and is a GLB file."""
    copy = program(tmp_path, "python-with-bpy", 'cp "$2" "$3"; grep -q "a test" "$4"')
    write_fbx(humanoid_avatar(), tmp_path / "one.fbx", RECORD, blender=copy)
    assert (tmp_path / "one.fbx").read_bytes()[:4] == b"glTF"
    assert os.stat(tmp_path / "one.fbx").st_size > 10_000
