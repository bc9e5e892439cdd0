"""The command: what it writes, and a clear error with exit code 2 for every bad input."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
import torch
from PIL import Image
from read_glb import read_glb

from avatar3d import __version__, pipeline, runs
from avatar3d.cli import main
from avatar3d.conditioning.prompt import default_model
from avatar3d.spec import spec_from_json
from avatar3d.weights import ASSETS, save_tensors

PROMPT = "old man with glasses"
QUICK = ["--frames", "2", "--resolution", "64"]


def fails(capsys, arguments: list[str], *words: str) -> str:
    """Run the command; it must exit with 2, name the words on stderr and show no traceback."""
    assert main(arguments) == 2
    captured = capsys.readouterr()
    message = captured.err.split("error: ", 1)[-1]
    assert captured.out == "" and "Traceback" not in captured.err
    for word in words:
        assert word in message, message
    return message


@pytest.fixture(scope="module", autouse=True)
def small_previews():
    """Previews of 192 pixels, to be quick."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "PREVIEW_HEIGHT", 192)
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """The folder of one finished run."""
    out = tmp_path_factory.mktemp("made")
    assert main(["generate", "--prompt", PROMPT, "--seed", "7", "--out", str(out), *QUICK]) == 0
    return out / "old-man-with-glasses-7"


def test_a_run_has_everything(made):
    files = ["avatar.glb", "preview.png", "run.json", "spec.json", "turntable.mp4"]
    assert sorted(os.listdir(made)) == files
    assert os.listdir(made.parent) == [made.name]
    record = json.loads((made / "run.json").read_text())
    spec = spec_from_json((made / "spec.json").read_text())
    assert record["prompt"] == PROMPT and record["seed"] == spec.seed == 7 and record["generated"] is True
    assert record["files"] == {f: (made / f).stat().st_size for f in files if f != "run.json"}
    assert record["version"] == __version__ and record["packages"]["torch"] == torch.__version__
    assert sum(record["seconds"].values()) > 0 and record["peak_memory_mb"] > 100
    extras = read_glb(made / "avatar.glb").document["asset"]["extras"]
    assert extras["generated"] is True and extras["prompt"] == PROMPT and extras["seed"] == 7
    assert spec_from_json(json.dumps(extras["spec"])) == spec


def test_the_prompt_is_heeded_and_reported(made):
    record = json.loads((made / "run.json").read_text())
    spec = spec_from_json((made / "spec.json").read_text())
    assert spec.glasses != "none" and spec.age >= 55 and spec.gender >= 0.5
    assert {"old", "man", "glasses"} <= set(" ".join(record["understood"]).split())


def test_pictures_show_somebody(made):
    preview = np.asarray(Image.open(made / "preview.png")).astype(float)
    assert preview.shape[0] == 192 and 192 + 8 + 72 <= preview.shape[1] < 400
    middle, corner = preview[60:130, 60:130], preview[:10, :10]
    assert np.abs(middle.mean((0, 1)) - corner.mean((0, 1))).max() > 20
    frames = imageio_ffmpeg.read_frames(str(made / "turntable.mp4"))
    assert next(frames)["size"] == (64, 64)
    first, second = (np.frombuffer(f, np.uint8).astype(float) for f in frames)
    assert np.abs(first - second).mean() > 5, "front and back look the same"


def test_the_same_seed_gives_the_same_bytes_and_build_gives_the_same_avatar(made, tmp_path):
    assert (
        main(
            [
                "generate",
                "--prompt",
                PROMPT,
                "--seed",
                "6",
                "--count",
                "2",
                "--out",
                str(tmp_path),
                "--frames",
                "0",
            ]
        )
        == 0
    )
    twin = tmp_path / made.name
    assert (twin / "avatar.glb").read_bytes() == (made / "avatar.glb").read_bytes()
    assert (twin / "spec.json").read_bytes() == (made / "spec.json").read_bytes()
    other = tmp_path / "old-man-with-glasses-6"
    assert (other / "avatar.glb").read_bytes() != (made / "avatar.glb").read_bytes()
    assert not (twin / "turntable.mp4").exists()
    assert main(["build", str(made / "spec.json"), "--out", str(tmp_path), "--frames", "0"]) == 0
    built, original = read_glb(tmp_path / "spec-7" / "avatar.glb"), read_glb(made / "avatar.glb")
    assert built.data == original.data


def test_json_mode_prints_one_object(tmp_path, capsys):
    assert main(["generate", "--prompt", PROMPT, "--out", str(tmp_path), "--frames", "0", "--json"]) == 0
    captured = capsys.readouterr()
    (run,) = json.loads(captured.out)["runs"]
    assert captured.err == "" and Path(run["folder"]).is_dir() and run["seed"] >= 0
    assert main(["generate", "--prompt", "", "--out", str(tmp_path), "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["exit_code"] == 2


def test_summary_names_paths_and_seed(made, capsys, tmp_path):
    assert main(["build", str(made / "spec.json"), "--out", str(tmp_path), "--frames", "0"]) == 0
    captured = capsys.readouterr()
    assert str(tmp_path / "spec-7" / "avatar.glb") in captured.out and "7" in captured.out
    assert "building the avatar" in captured.err


def test_render_makes_turntables_of_glb_and_obj(made, tmp_path):
    shutil.copy(made / "avatar.glb", tmp_path / "copy.glb")
    assert main(["render", str(tmp_path / "copy.glb"), *QUICK]) == 0
    (tmp_path / "tent.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nf 1 2 3\nf 1 3 4\nf 1 4 2\nf 2 4 3\n")
    assert main(["render", str(tmp_path / "tent.obj"), "--out", str(tmp_path / "tent.mp4"), *QUICK]) == 0
    for name in ("copy-turntable.mp4", "tent.mp4"):
        assert len(list(imageio_ffmpeg.read_frames(str(tmp_path / name)))) == 1 + 2


def test_doctor_finds_everything(capsys):
    assert main(["doctor", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["fine"] and {"torch", "body template", "text model"} <= {f["name"] for f in report["findings"]}
    assert main(["doctor"]) == 0
    assert "Everything needed is here" in capsys.readouterr().out


def test_version_and_help(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"avatar3d {__version__}\n"
    assert main(["--help"]) == 0
    assert "generate" in capsys.readouterr().out
    assert main([]) == 2


# Bad input


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        " \t\n ",
        "word " * 2000,
        "old man\0\x01\x02",
        "\ud800\udcff",
        "老人戴眼镜",
        "старик в очках",
        "dragon xyzzy",
        "12345 !!!",
    ],
    ids=["empty", "blank", "long", "binary", "undecodable", "chinese", "cyrillic", "unusable", "no words"],
)
def test_bad_prompts(prompt, tmp_path, capsys):
    fails(capsys, ["generate", "--prompt", prompt, "--out", str(tmp_path)], "prompt")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("option", "values"),
    {
        "--seed": ["-1", str(2**63), "1.5", "seven", ""],
        "--count": ["0", "-3", "1001", "two"],
        "--frames": ["-1", "3601", "many"],
        "--resolution": ["0", "63", "-512", "513", "4096", "big"],
        "--view": ["back"],
    }.items(),
)
def test_bad_numbers(option, values, tmp_path, capsys):
    for value in values:
        assert main(["generate", "--prompt", PROMPT, "--out", str(tmp_path), option, value]) == 2
        captured = capsys.readouterr()
        assert option in captured.err and "Traceback" not in captured.err
    assert os.listdir(tmp_path) == []


def test_bad_folders(tmp_path, capsys):
    run = ["generate", "--prompt", PROMPT, *QUICK, "--seed", "7", "--out"]
    fails(capsys, [*run, str(tmp_path / "not" / "there")], "does not exist", "--out")
    (tmp_path / "file").touch()
    fails(capsys, [*run, str(tmp_path / "file")], "is a file", "--out")
    fails(capsys, [*run, "/proc/avatars"], "/proc", "--out")
    fails(capsys, [*run, "/proc"], "/proc", "--out")
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folder_without_permission(tmp_path, capsys):
    tmp_path.chmod(0o500)
    fails(capsys, ["generate", "--prompt", PROMPT, "--out", str(tmp_path)], "not writable", "permissions")


def test_an_existing_run_is_kept_unless_told_otherwise(made, tmp_path, capsys):
    folder = tmp_path / made.name
    folder.mkdir()
    (folder / "notes.txt").touch()
    run = ["generate", "--prompt", PROMPT, "--seed", "7", "--out", str(tmp_path), "--frames", "0"]
    fails(capsys, run, "exists", "--overwrite")
    assert os.listdir(folder) == ["notes.txt"]
    assert main([*run, "--overwrite"]) == 0
    assert sorted(os.listdir(folder)) == ["avatar.glb", "preview.png", "run.json", "spec.json"]
    assert os.listdir(tmp_path) == [folder.name]


def test_a_full_disk_leaves_nothing(tmp_path, capsys, monkeypatch):
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(runs.os, "fsync", full)
    fails(capsys, ["generate", "--prompt", PROMPT, "--out", str(tmp_path), *QUICK], "disk is full", "--out")
    assert os.listdir(tmp_path) == []


def test_ctrl_c_leaves_nothing(tmp_path, capsys, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "write_preview", interrupted)
    assert main(["generate", "--prompt", PROMPT, "--out", str(tmp_path), *QUICK]) == 130
    assert "Stopped" in capsys.readouterr().err and os.listdir(tmp_path) == []


def test_a_terminated_process_leaves_nothing(tmp_path):
    """A real signal while the turntable is being encoded."""
    command = [sys.executable, "-m", "avatar3d.cli", "generate", "--prompt", PROMPT, "--out", str(tmp_path)]
    process = subprocess.Popen([*command, "--frames", "3600"], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("turntable"):
            break
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 130
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("damage", ["missing", "truncated", "foreign", "empty", "text"])
def test_broken_weights(damage, tmp_path, capsys, monkeypatch, request):
    folder = tmp_path / "weights"
    shutil.copytree(ASSETS / "weights", folder)
    for file in folder.glob("*.safetensors"):
        if damage == "missing":
            file.unlink()
        elif damage == "truncated":
            os.truncate(file, file.stat().st_size // 2)
        elif damage == "foreign":
            save_tensors(file, {"weight": torch.zeros(3)}, {"type": "something else"})
        elif damage == "empty":
            os.truncate(file, 0)
        else:
            file.write_text("<html>404</html>")
    monkeypatch.setenv("AVATAR3D_WEIGHTS", str(folder))
    default_model.cache_clear()
    request.addfinalizer(default_model.cache_clear)
    fails(capsys, ["generate", "--prompt", PROMPT, "--out", str(tmp_path / "out")], str(folder))
    assert os.listdir(tmp_path / "out") == []


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "JSON"),
        ("[1, 2", "JSON"),
        ("[]", "object"),
        ('{"agee": 3}', "'age'"),
        ('{"age": 300}', "outside 5 to 95"),
        ('{"age": "old"}', "number"),
        ('{"hair_style": "bobb"}', "'bob'"),
        ('{"face": {"nose": 1}}', "nose"),
        ('{"seed": -1}', "seed"),
        ('{"age": NaN}', "age"),
        ('{"glasses": ["round"]}', "glasses"),
    ],
)
def test_broken_specs(text, word, tmp_path, capsys):
    (tmp_path / "my.json").write_text(text)
    fails(capsys, ["build", str(tmp_path / "my.json"), "--out", str(tmp_path / "out")], "my.json", word)
    assert os.listdir(tmp_path) == ["my.json"]


def test_unreadable_specs(tmp_path, capsys):
    fails(capsys, ["build", str(tmp_path / "none.json")], "none.json", "check the path")
    fails(capsys, ["build", str(tmp_path)], str(tmp_path), "check the path")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    fails(capsys, ["build", str(tmp_path / "binary.json")], "UTF-8")


def test_a_spec_may_begin_with_a_byte_order_mark(tmp_path, capsys):
    (tmp_path / "mark.json").write_bytes(b'\xef\xbb\xbf{"agee": 40}')
    fails(capsys, ["build", str(tmp_path / "mark.json")], "unknown field 'agee'")


def test_broken_mesh_files(made, tmp_path, capsys):
    fails(capsys, ["render", str(tmp_path / "none.glb")], "none.glb", "no such file")
    (tmp_path / "notes.txt").touch()
    fails(capsys, ["render", str(tmp_path / "notes.txt")], "can read", ".glb")
    for name, content in {
        "half.glb": (made / "avatar.glb").read_bytes()[:50_000],
        "empty.glb": b"",
        "empty.obj": b"",
        "noise.glb": bytes(range(256)) * 20,
        "point.obj": b"v 0 0 0\nv 0 0 0\nv 0 0 0\nf 1 2 3\n",
        "nan.obj": b"v nan 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n",
    }.items():
        (tmp_path / name).write_bytes(content)
        fails(capsys, ["render", str(tmp_path / name), *QUICK], name)
        assert not (tmp_path / name.replace(".", "-turntable.")).exists()


def test_bad_places_for_a_clip(tmp_path, capsys):
    (tmp_path / "tent.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    (tmp_path / "taken.mp4").touch()
    (tmp_path / "folder.mp4").mkdir()
    os.mkfifo(tmp_path / "pipe.mp4")
    before = sorted(os.listdir(tmp_path))
    run = ["render", str(tmp_path / "tent.obj"), *QUICK, "--out"]
    fails(capsys, [*run, str(tmp_path / "taken.mp4")], "--overwrite")
    fails(capsys, [*run, str(tmp_path / "folder.mp4"), "--overwrite"], "is a folder")
    fails(capsys, [*run, str(tmp_path / "pipe.mp4"), "--overwrite"], "not an ordinary file")
    fails(capsys, [*run, str(tmp_path / "clip.gif")], ".mp4")
    fails(capsys, [*run, str(tmp_path / "not" / "there" / "clip.mp4")], "does not exist")
    fails(capsys, [*run, "/proc/clip.mp4"], "/proc")
    assert sorted(os.listdir(tmp_path)) == before


def test_a_fault_of_the_program_is_exit_1_and_shows_its_traceback_on_demand(tmp_path, capsys, monkeypatch):
    def broken(spec):
        raise ValueError("an unforeseen fault")

    monkeypatch.setattr(pipeline, "build_avatar", broken)
    run = ["generate", "--prompt", PROMPT, "--out", str(tmp_path)]
    assert main(run) == 1
    error = capsys.readouterr().err
    assert "an unforeseen fault" in error and "--debug" in error and "Traceback" not in error
    assert main([*run, "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err
    assert os.listdir(tmp_path) == []
