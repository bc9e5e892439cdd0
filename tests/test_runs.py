"""Run folders and files: whole or not at all."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avatar3d.runs import (
    SLUG_LENGTH,
    OutputError,
    passport,
    run_folder,
    slug,
    whole_folder,
    write_bytes,
    write_json,
)


def test_slug_of_the_demo_prompt(tmp_path):
    assert slug("old man with glasses") == "old-man-with-glasses"
    assert slug("  A granddad's  café!! ") == "a-granddads-cafe"
    assert run_folder(tmp_path, "old man with glasses", 7) == tmp_path / "old-man-with-glasses-7"


@given(st.text(max_size=300))
def test_any_text_makes_a_safe_file_name(text):
    name = slug(text)
    assert 0 < len(name) <= SLUG_LENGTH
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert not name.startswith("-") and not name.endswith("-")


def test_folder_appears_when_the_block_ends(tmp_path):
    target = tmp_path / "run"
    with whole_folder(target) as partial:
        (partial / "file").write_text("new")
        assert not target.exists()
    assert (target / "file").read_text() == "new"
    assert os.listdir(tmp_path) == ["run"]


@pytest.mark.parametrize("error", [RuntimeError("broken"), KeyboardInterrupt(), OSError(28, "No space left")])
@pytest.mark.parametrize("overwrite", [False, True])
def test_an_interrupted_run_changes_nothing(tmp_path, error, overwrite):
    target = tmp_path / "run"
    if overwrite:
        target.mkdir()
        (target / "file").write_text("old")
    with pytest.raises(type(error)), whole_folder(target, overwrite) as partial:
        (partial / "file").write_text("half")
        raise error
    assert os.listdir(tmp_path) == (["run"] if overwrite else [])
    assert not overwrite or (target / "file").read_text() == "old"


def test_an_existing_folder_is_refused_and_replaced_on_demand(tmp_path):
    target = tmp_path / "run"
    target.mkdir()
    (target / "old file").touch()
    with pytest.raises(OutputError, match="--overwrite"), whole_folder(target):
        pytest.fail("the block must not run")
    with whole_folder(target, overwrite=True) as partial:
        (partial / "new file").touch()
        assert (target / "old file").exists()
    assert os.listdir(target) == ["new file"]
    assert os.listdir(tmp_path) == ["run"]


def test_a_folder_that_appeared_meanwhile_is_not_replaced(tmp_path):
    target = tmp_path / "run"
    with pytest.raises(OutputError, match="exists"), whole_folder(target):
        target.mkdir()
    assert os.listdir(tmp_path) == ["run"] and os.listdir(target) == []


def test_what_a_killed_run_left_is_swept(tmp_path):
    code = (
        "import os, signal, sys; from pathlib import Path; from avatar3d.runs import whole_folder\n"
        "with whole_folder(Path(sys.argv[1])) as partial:\n"
        "    (partial / 'file').touch(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "run")], check=False)
    assert done.returncode == -signal.SIGKILL
    (left,) = os.listdir(tmp_path)
    assert left.startswith(".run.") and left.endswith(".partial")
    (tmp_path / ".run.notes").touch()
    with whole_folder(tmp_path / "run"):
        pass
    assert sorted(os.listdir(tmp_path)) == [".run.notes", "run"]


def test_a_folder_lost_between_the_two_renames_comes_back(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    old = tmp_path / f".run.{ended.pid}.old"
    old.mkdir()
    (old / "file").touch()
    with pytest.raises(OutputError, match="exists"), whole_folder(tmp_path / "run"):
        pytest.fail("the block must not run")
    assert os.listdir(tmp_path / "run") == ["file"]


def test_bad_parents(tmp_path):
    with pytest.raises(OutputError, match="does not exist"), whole_folder(tmp_path / "a" / "b" / "run"):
        pytest.fail("the block must not run")
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="is a file"), whole_folder(tmp_path / "file" / "run"):
        pytest.fail("the block must not run")
    with pytest.raises(OutputError, match="is a file"), whole_folder(tmp_path / "file", overwrite=True):
        pytest.fail("the block must not run")


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_bytes(path, b"old")

    def full_disk(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["file"]


def test_json_round_trip_and_passport(tmp_path):
    write_json(tmp_path / "run.json", passport())
    read = json.loads((tmp_path / "run.json").read_text())
    assert read["version"] == "0.1.0" and set(read["packages"]) == {"torch", "numpy", "numba"}
