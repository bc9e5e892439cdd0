"""The commands export, dress and animate: what they write, and a clear error with exit code 2 for bad input."""

from __future__ import annotations

import json
import os
import struct
import wave
from pathlib import Path

import numpy as np
import pytest
import trimesh
from read_glb import read_glb
from test_cli import fails

from avatar3d import pipeline
from avatar3d.cli import main
from avatar3d.export.profiles import PROFILES
from avatar3d.export.vrm_check import vrm_errors
from avatar3d.spec import spec_from_json


@pytest.fixture(scope="module", autouse=True)
def small_previews():
    """Previews of 192 pixels, to be quick."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "PREVIEW_HEIGHT", 192)
        patch.setattr(pipeline, "THUMBNAIL", 128)
        yield


@pytest.fixture(scope="module")
def spec_file(tmp_path_factory) -> Path:
    """The spec of somebody with glasses."""
    path = tmp_path_factory.mktemp("spec") / "ann.json"
    path.write_text('{"seed": 5, "age": 30, "gender": 0.1, "glasses": "round", "hair_style": "ponytail"}')
    return path


@pytest.fixture(scope="module")
def glb(spec_file, tmp_path_factory) -> Path:
    """Her GLB."""
    out = tmp_path_factory.mktemp("glb") / "ann"
    assert main(["export", str(spec_file), "--out", str(out)]) == 0
    return out / "avatar.glb"


def last_run(folder: Path) -> dict:
    return json.loads((folder / "run.json").read_text())


# export


def test_export_writes_what_is_asked(spec_file, tmp_path):
    out = tmp_path / "all"
    assert main(["export", str(spec_file), "--format", "glb,vrm,stl", "--lod", "2", "--out", str(out)]) == 0
    files = ["avatar.glb", "avatar.stl", "avatar.vrm", "avatar_LOD1.glb", "avatar_LOD1.stl", "avatar_LOD1.vrm"]
    assert sorted(os.listdir(out)) == [*files, "run.json"]
    assert vrm_errors((out / "avatar.vrm").read_bytes()) == []

    def triangles(name: str) -> int:
        glb = read_glb(out / name)
        indices = [m["primitives"][0]["indices"] for m in glb.document["meshes"]]
        return sum(glb.document["accessors"][i]["count"] for i in indices) // 3

    assert triangles("avatar_LOD1.glb") == pytest.approx(triangles("avatar.glb") / 2, rel=0.1)
    report = last_run(out)["report"]
    assert report["avatar"]["cost"]["triangles"] == triangles("avatar.glb")


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_names_its_bones(profile, glb, tmp_path):
    out = tmp_path / profile
    assert main(["export", str(glb), "--profile", profile, "--out", str(out)]) == 0
    written = read_glb(out / "avatar.glb").document
    names = {written["nodes"][joint]["name"] for joint in written["skins"][0]["joints"]}
    hand = {
        "vrm": "leftHand", "unity": "LeftHand", "unreal": "hand_l", "godot": "LeftHand",
        "mixamo": "mixamorig:LeftHand", "rpm": "LeftHand", "makehuman": "wrist.L",
    }  # fmt: skip
    assert hand[profile] in names


def test_a_file_that_was_exported_can_be_exported_again(glb, tmp_path):
    """Through three namings and a T-pose and back: the same skeleton, shapes and triangles."""
    path = glb
    for profile in ("mixamo", "makehuman", "vrm"):
        out = tmp_path / profile
        assert main(["export", str(path), "--profile", profile, "--bind", "a", "--out", str(out)]) == 0
        path = out / "avatar.glb"
    before, after = read_glb(glb), read_glb(path)
    assert [m["name"] for m in after.document["meshes"]] == [m["name"] for m in before.document["meshes"]]
    for mesh in before.document["meshes"]:
        name = mesh["name"]
        np.testing.assert_allclose(
            after.attribute(name, "POSITION"), before.attribute(name, "POSITION"), atol=1e-5
        )
        assert list(after.morphs(name)) == list(before.morphs(name))


def test_the_record_of_the_making_is_in_the_file(glb):
    extras = read_glb(glb).document["asset"]["extras"]
    assert extras["generated"] is True and extras["licence"] == "CC0-1.0"
    assert extras["generator"].startswith("avatar3d ") and extras["spec"]["glasses"] == "round"
    assert any("MakeHuman" in asset["name"] + asset["author"] for asset in extras["assets"])


@pytest.mark.parametrize(("preset", "limit"), [("web", 15_000), ("quest", 9_000), ("crowd", 2_500)])
def test_presets_keep_their_budget(preset, limit, spec_file, tmp_path):
    out = tmp_path / preset
    assert main(["export", str(spec_file), "--preset", preset, "--out", str(out)]) == 0
    report = last_run(out)["report"]
    assert report["avatar"]["cost"]["triangles"] <= limit * 1.02
    if preset == "web":
        assert (out / "avatar.glb").stat().st_size < 3e6


def test_export_refuses_what_is_there(glb, tmp_path, capsys):
    (tmp_path / "taken").mkdir()
    fails(capsys, ["export", str(glb), "--out", str(tmp_path / "taken")], "exists", "--overwrite")
    fails(capsys, ["export", str(glb), "--format", "glb,objj", "--out", str(tmp_path / "x")], "objj", "obj")
    fails(capsys, ["export", str(glb), "--lod", "0", "--out", str(tmp_path / "x")], "--lod")
    for option in ("--profile", "--preset", "--bind"):
        assert main(["export", str(glb), option, "unitty", "--out", str(tmp_path / "x")]) == 2
        assert "unitty" in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["taken"]


def changed(glb: Path, path: Path, change) -> Path:
    """A copy of a GLB whose JSON document went through `change`."""
    read = read_glb(glb)
    change(read.document)
    text = json.dumps(read.document).encode()
    text += b" " * (-len(text) % 4)
    size = 12 + 8 + len(text) + 8 + len(read.data)
    head = struct.pack("<4sIII4s", b"glTF", 2, size, len(text), b"JSON")
    path.write_bytes(head + text + struct.pack("<I4s", len(read.data), b"BIN\0") + read.data)
    return path


def test_broken_avatars(glb, tmp_path, capsys):
    def without_skin(document):
        document.pop("skins")
        for node in document["nodes"]:
            node.pop("skin", None)

    def with_a_far_view(document):
        document["bufferViews"][0]["byteOffset"] = 10**9

    nan = bytearray(glb.read_bytes())
    read = read_glb(glb)
    accessor = read.document["accessors"][read.document["meshes"][0]["primitives"][0]["attributes"]["POSITION"]]
    start = len(nan) - read.document["buffers"][0]["byteLength"]
    start += read.document["bufferViews"][accessor["bufferView"]]["byteOffset"]
    nan[start : start + 4] = np.float32(np.nan).tobytes()
    (tmp_path / "nan.glb").write_bytes(nan)
    (tmp_path / "half.glb").write_bytes(glb.read_bytes()[: len(nan) // 2])
    (tmp_path / "empty.glb").touch()
    (tmp_path / "text.glb").write_text("<html>404</html>")
    trimesh.creation.box().export(tmp_path / "box.glb")
    changed(glb, tmp_path / "unskinned.glb", without_skin)
    changed(glb, tmp_path / "far.glb", with_a_far_view)
    before = sorted(os.listdir(tmp_path))
    for name, word in {
        "nan.glb": "", "half.glb": "", "empty.glb": "", "text.glb": "", "box.glb": "skeleton",
        "unskinned.glb": "skeleton", "far.glb": "", "none.glb": "",
    }.items():  # fmt: skip
        fails(capsys, ["export", str(tmp_path / name), "--out", str(tmp_path / "out")], name, word)
    (tmp_path / "folder").mkdir()
    fails(capsys, ["export", str(tmp_path / "folder")], "folder", "spec.json")
    fails(capsys, ["export", str(tmp_path / "half.fbx")], "half.fbx", ".glb")
    assert sorted(os.listdir(tmp_path)) == sorted([*before, "folder"])


# dress


def test_dress_changes_the_clothes_and_nothing_else(glb, tmp_path):
    run = ["dress", str(glb), "--top", "hoodie", "--colour", "red", "--glasses", "none", "--out", str(tmp_path)]
    assert main(run) == 0
    (folder,) = tmp_path.iterdir()
    spec = spec_from_json((folder / "spec.json").read_text())
    assert (spec.top, spec.top_color, spec.glasses, spec.hair_style) == ("hoodie", "red", "none", "ponytail")
    before, after = read_glb(glb), read_glb(folder / "avatar.glb")
    names = {m["name"] for m in after.document["meshes"]}
    assert "hoodie" in names and "glasses_frame" not in names
    for name in ("head_skin", "eyes", "lashes", "hair"):
        np.testing.assert_array_equal(after.attribute(name, "POSITION"), before.attribute(name, "POSITION"))


def test_dress_says_what_there_is(glb, tmp_path, capsys):
    run = ["dress", str(glb), "--out", str(tmp_path)]
    fails(capsys, run, "nothing to change")
    fails(capsys, [*run, "--top", "hoodle"], "hoodle", "hoodie")
    fails(capsys, [*run, "--top", "hoodie", "--colour", "crimsn"], "crimsn")
    fails(capsys, [*run, "--set", "hat"], "name=value")
    fails(capsys, [*run, "--set", "hatt=cap"], "hatt")
    foreign = changed(glb, tmp_path / "foreign.glb", lambda document: document["asset"].pop("extras"))
    fails(capsys, ["dress", str(foreign), "--top", "hoodie", "--out", str(tmp_path)], "foreign.glb")
    assert os.listdir(tmp_path) == ["foreign.glb"]


# animate


def test_animate_writes_a_moving_glb_and_a_clip(glb, tmp_path):
    out = tmp_path / "wave"
    run = ["animate", str(glb), "--clip", "wave", "--seconds", "1", "--fps", "10", "--resolution", "64"]
    assert main([*run, "--out", str(out)]) == 0
    assert sorted(os.listdir(out)) == ["avatar.glb", "run.json", "wave.mp4"]
    (animation,) = read_glb(out / "avatar.glb").document["animations"]
    nodes = read_glb(out / "avatar.glb").document["nodes"]
    moved = {nodes[c["target"]["node"]]["name"] for c in animation["channels"]}
    assert {"rightUpperArm", "rightLowerArm"} <= moved or {"leftUpperArm", "leftLowerArm"} <= moved


def speech(path: Path, seconds: float, loudness: float) -> Path:
    """A buzz that swells and fades three times a second."""
    t = np.arange(int(16000 * seconds)) / 16000
    buzz = np.sign(np.sin(2 * np.pi * 140 * t)) * np.maximum(np.sin(2 * np.pi * 3 * t), 0) * loudness
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes((buzz * 32000).astype("<i2").tobytes())
    return path


def test_speech_opens_the_mouth(spec_file, tmp_path):
    out = tmp_path / "talk"
    audio = speech(tmp_path / "speech.wav", 1.0, 0.5)
    run = ["animate", str(spec_file), "--audio", str(audio), "--expression", "happy", "--no-video"]
    assert main([*run, "--out", str(out)]) == 0
    (animation,) = read_glb(out / "avatar.glb").document["animations"]
    assert any(c["target"]["path"] == "weights" for c in animation["channels"])


def test_silence_is_said(spec_file, tmp_path):
    out = tmp_path / "talk"
    audio = speech(tmp_path / "silent.wav", 1.0, 0.0)
    assert main(["animate", str(spec_file), "--audio", str(audio), "--no-video", "--out", str(out)]) == 0
    assert any("silent" in remark for remark in last_run(out)["remarks"])


def test_bad_motions(glb, tmp_path, capsys):
    (tmp_path / "noise.wav").write_bytes(bytes(range(256)) * 40)
    (tmp_path / "empty.wav").touch()
    (tmp_path / "names.bvh").write_text(
        "HIERARCHY\nROOT Alpha\n{\nOFFSET 0 0 0\nCHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation "
        "Yrotation\nJOINT Beta\n{\nOFFSET 0 10 0\nCHANNELS 3 Zrotation Xrotation Yrotation\nEnd Site\n{\n"
        "OFFSET 0 10 0\n}\n}\n}\nMOTION\nFrames: 1\nFrame Time: 0.033\n0 0 0 0 0 0 0 0 0\n"
    )
    (tmp_path / "cut.bvh").write_text("HIERARCHY\nROOT Hips\n{\nOFFSET 0 0 0\n")
    before = sorted(os.listdir(tmp_path))
    run = ["animate", str(glb), "--no-video", "--out", str(tmp_path / "out")]
    for arguments, words in {
        ("--audio", "noise.wav"): ("noise.wav",),
        ("--audio", "empty.wav"): ("empty.wav",),
        ("--audio", "none.wav"): ("none.wav",),
        ("--bvh", "names.bvh"): ("Alpha", "leftUpperLeg"),
        ("--bvh", "cut.bvh"): ("cut.bvh",),
        ("--bvh", "none.bvh"): ("none.bvh",),
    }.items():
        fails(capsys, [*run, arguments[0], str(tmp_path / arguments[1])], *words)
    fails(capsys, [*run, "--clip", "wave", "--seconds", "0"], "seconds")
    fails(capsys, [*run, "--clip", "wave", "--expression", "happpy"], "happpy")
    fails(capsys, [*run, "--clip", "walk", "--audio", str(tmp_path / "noise.wav")], "clip and audio")
    fails(capsys, [*run, "--bones", str(tmp_path / "names.bvh")], "BVH")
    assert main([*run, "--clip", "wawe"]) == 2 and "wawe" in capsys.readouterr().err
    assert sorted(os.listdir(tmp_path)) == before
