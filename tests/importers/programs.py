"""Where the importers are and how they are run; a test that needs one is skipped when it is missing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
PATIENCE = 600
"""Seconds that a program may take for one batch."""


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
