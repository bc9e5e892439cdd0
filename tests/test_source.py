"""What is known of an avatar's making, without building it."""

from __future__ import annotations

import json

import pytest

from avatar3d import source
from avatar3d.source import told_prompt


def test_a_run_folder_tells_its_prompt_and_nothing_is_built(tmp_path, monkeypatch):
    monkeypatch.setattr(source, "build_avatar", lambda *_: pytest.fail("it was built"))
    (tmp_path / "spec.json").write_text("{}")
    assert told_prompt(tmp_path) is None  # no run.json
    (tmp_path / "run.json").write_text(json.dumps({"prompt": "old man with glasses"}))
    assert told_prompt(tmp_path) == "old man with glasses"
    assert told_prompt(tmp_path / "spec.json") is None
    (tmp_path / "run.json").write_text("broken")
    assert told_prompt(tmp_path) is None
    with pytest.raises(source.AvatarFileError, match=r"give a run folder"):
        told_prompt(tmp_path / "picture.png")


def test_a_file_tells_the_prompt_that_it_was_written_with(tmp_path):
    import numpy as np

    from avatar3d.engine.build import build_avatar
    from avatar3d.engine.population import sample
    from avatar3d.export.glb import write_glb
    from avatar3d.export.licences import licence_record

    avatar = build_avatar(sample(np.random.default_rng(0)))
    write_glb(avatar, tmp_path / "person.glb", licence_record(avatar, "a friend of mine"))
    assert told_prompt(tmp_path / "person.glb") == "a friend of mine"
    assert told_prompt(tmp_path) == "a friend of mine"  # the only avatar of a folder
