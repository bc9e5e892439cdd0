"""Where the importers are and how they are run; a test that needs one is skipped when it is missing."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
PATIENCE = 600
"""Seconds that a program may take for one batch."""

GODOT_PROJECT = """
[application]
config/name="avatars"
[importer_defaults]
scene={"animation/fps": 30.0, "animation/optimizer/enabled": false}
"""
"""Animations are sampled at the frame rate of our clips and not thinned out."""


def _require(found: bool, name: str, remedy: str) -> None:
    if not found:
        pytest.skip(f"{name} is not installed; {remedy}")


def run_in_browser(module: str, calls: list[dict], width: int = 512, height: int = 512) -> list[dict]:
    """Call functions of `tests/importers/<module>` in one page of headless Chromium, one after the other.

    A call is {"function", "argument", "screenshot" (path of a PNG, optional)}; an answer is {"result" or
    "error", "warnings"}, where warnings are all that went to the page's console.
    """
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    _require(chromium is not None, "Chromium", "`apt-get install chromium` or another Chrome on the PATH")
    _require(
        shutil.which("node") is not None and (ROOT / "node_modules" / "playwright-core").exists(),
        "playwright-core",
        "run `npm install` (with node 20 or newer)",
    )
    job = {
        "root": str(ROOT),
        "module": f"/tests/importers/{module}",
        "chromium": chromium,
        "calls": calls,
        "width": width,
        "height": height,
    }
    done = _run(["node", str(HERE / "browser.mjs")], json.dumps(job))
    return json.loads(done)


def run_in_blender(jobs: list[dict]) -> list[dict]:
    """Reports of `blender_program.py` on files, all in one process."""
    python = Path(os.environ.get("AVATAR3D_BLENDER", ROOT / ".venv-blender" / "bin" / "python"))
    _require(python.exists(), "Blender", "run `make importers` with Python 3.11")
    return json.loads(_run([str(python), str(HERE / "blender_program.py")], json.dumps(jobs)).splitlines()[-1])


def run_in_godot(project: Path, jobs: list[dict]) -> list[dict]:
    """Reports of `godot_program.gd` on files, which are copied into `project` (an empty folder) and imported.

    The editor imports at its start but never ends by itself: its files are waited for, then it is stopped.
    """
    godot = shutil.which("godot3-server")
    _require(godot is not None, "Godot 3", "`apt-get install godot3-server`")
    (project / "project.godot").write_text(GODOT_PROJECT)
    copies = [project / f"file{n}{Path(job['file']).suffix}" for n, job in enumerate(jobs)]
    for job, copy in zip(jobs, copies, strict=True):
        shutil.copy(job["file"], copy)
    with (project / "editor.log").open("w") as log:
        editor = subprocess.Popen([godot, "--path", str(project), "--editor", "--quit"], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + PATIENCE
        while len(list((project / ".import").glob("*.md5"))) < len(jobs):
            assert time.monotonic() < deadline and editor.poll() is None, (project / "editor.log").read_text()[
                -2000:
            ]
            time.sleep(0.2)
    finally:
        editor.kill()
        editor.wait()
    jobs = [job | {"file": copy.name} for job, copy in zip(jobs, copies, strict=True)]
    (project / "jobs.json").write_text(json.dumps(jobs))
    _run([godot, "--path", str(project), "-s", str(HERE / "godot_program.gd")], "")
    return json.loads((project / "reports.json").read_text())


def assimp_info(path: Path, *options: str) -> dict[str, int | list[float]]:
    """What `assimp info` counts in a file, and the bounds of its vertices."""
    assimp = shutil.which("assimp")
    _require(assimp is not None, "assimp", "`apt-get install assimp-utils`")
    text = _run([assimp, "info", str(path), *options], "")
    counts = {key: int(value) for key, value in re.findall(r"^([A-Z][a-z ]+): +(\d+)$", text, re.MULTILINE)}
    points = re.findall(r"^(\w+ point) +\(([-. \d]+)\)", text, re.MULTILINE)
    return counts | {key: [float(x) for x in value.split()] for key, value in points}


def results(answers: list[dict]) -> list[dict]:
    """The results of calls that must not fail."""
    for answer in answers:
        assert "error" not in answer, answer["error"]
    return [answer["result"] for answer in answers]


def _run(command: list[str], text: str, **options) -> str:
    done = subprocess.run(
        command, input=text, capture_output=True, text=True, timeout=PATIENCE, check=False, **options
    )
    assert done.returncode == 0, f"{command[0]} ended with {done.returncode}: {done.stderr[-2000:]}"
    return done.stdout
