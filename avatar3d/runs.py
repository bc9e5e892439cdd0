"""Run folders and files that are written whole or not at all.

A run folder is built under a hidden sibling name, `.<name>.<pid>.partial`, and renamed when it is complete.
So an exception, Ctrl-C or a full disk leaves nothing behind, and a killed process leaves at most a hidden
folder, which the next run with the same name sweeps away.

A run that resumes (score distillation) is not swept away. It is made in its place or, when a whole one is there
that it shall replace, under the hidden name of `unfinished_folder` until it is whole too.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from avatar3d import __version__
from avatar3d.errors import InputError

SLUG_LENGTH = 60


class OutputError(InputError):
    """A place that can not be written to, with the fault and the remedy in its message."""


def slug(text: str) -> str:
    """A file name of `text`: lower-case ASCII words joined by hyphens, at most `SLUG_LENGTH` characters."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower().replace("'", "")
    words = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")
    if len(words) > SLUG_LENGTH:
        words = words[: SLUG_LENGTH + 1].rsplit("-", 1)[0][:SLUG_LENGTH]
    return words or "avatar"


def run_folder(out: Path, prompt: str, seed: int) -> Path:
    """`out/<slug of the prompt>-<seed>`."""
    return out / f"{slug(prompt)}-{seed}"


def require_parent(path: Path) -> None:
    """Make the folder that will hold `path`, one level deep. Raises `OutputError` if that can not be done."""
    parent = path.parent
    try:
        parent.mkdir(exist_ok=True)
    except FileNotFoundError:
        above = parent.parent
        raise OutputError(f"the folder {above} does not exist; make it or choose another --out") from None
    except FileExistsError:
        raise OutputError(f"{parent} is a file, not a folder; choose another --out") from None
    except OSError as error:
        raise OutputError(f"can not make {parent} ({error.strerror}); choose another --out") from error
    try:
        with tempfile.TemporaryFile(dir=parent):
            pass
    except OSError as error:  # permissions say too little: nobody can write into /proc
        raise OutputError(
            f"{parent} is not writable ({error.strerror}); change its permissions or choose another --out"
        ) from error


def require_free(path: Path, overwrite: bool) -> None:
    """Raise `OutputError` if `path` is taken and may not be replaced."""
    if not path.exists():
        return
    if not overwrite:
        raise OutputError(f"{path} exists; add --overwrite to replace it, or choose another --seed or --out")
    if not path.is_dir():
        raise OutputError(f"{path} is a file and will not be replaced by a folder; move it away")


def require_free_file(path: Path, overwrite: bool) -> None:
    """Raise `OutputError` if a file can not be written at `path`, or one is there and may not be replaced."""
    if path.is_dir():
        raise OutputError(f"{path} is a folder; add the name of a file to --out")
    if not path.exists():
        return
    if not path.is_file():
        raise OutputError(f"{path} is not an ordinary file and will not be replaced; choose another --out")
    if not overwrite:
        raise OutputError(f"{path} exists; add --overwrite to replace it, or choose another --out")


@contextmanager
def whole_folder(path: Path, overwrite: bool = False) -> Iterator[Path]:
    """A temporary folder that becomes `path` if the block ends well, and vanishes if it does not.

    With `overwrite` an existing folder stays as it is until the new one is complete.
    Raises `OutputError` if `path` exists (without `overwrite`) or its parent is missing or not writable.
    """
    require_parent(path)
    sweep(path)
    require_free(path, overwrite)
    partial = _sibling(path, "partial")
    partial.mkdir()
    try:
        yield partial
        replace_folder(partial, path, overwrite)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _sibling(path: Path, state: str) -> Path:
    return path.parent / f".{path.name}.{os.getpid()}.{state}"


def unfinished_folder(path: Path) -> Path:
    """Where a run that resumes is made while `path` holds the one that it will replace."""
    return path.parent / f".{path.name}.unfinished"


def replace_folder(partial: Path, path: Path, overwrite: bool) -> None:
    """Rename a whole folder to `path`; what was there is removed after that.

    Raises `OutputError` if `path` exists (without `overwrite`) or is a file.
    """
    require_free(path, overwrite)
    old = _sibling(path, "old")
    if path.exists():
        path.rename(old)
    try:
        partial.rename(path)
    except OSError:
        if old.exists():
            old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def sweep(path: Path) -> None:
    """Remove what killed runs of the same name left; a folder that was about to be replaced comes back."""
    for leftover in path.parent.glob(f".{_glob_escape(path.name)}.*"):
        match = re.fullmatch(r"\.(\d+)\.(partial|old)", leftover.name[len(path.name) + 1 :])
        if match is None or _is_running(int(match[1])):
            continue
        if match[2] == "old" and not path.exists():
            leftover.rename(path)
        else:
            shutil.rmtree(leftover, ignore_errors=True)


def _glob_escape(name: str) -> str:
    return re.sub(r"([*?\[])", r"[\1]", name)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file whole or not at all: to a temporary sibling, flushed to disk, then renamed."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """`write_bytes` of UTF-8 text."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: object) -> None:
    """`write_bytes` of indented JSON."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def passport() -> dict:
    """What a run must know to be repeated: versions, commit, machine; JSON values."""
    return {
        "version": __version__,
        "commit": _git_commit(),
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in ("torch", "numpy", "numba")},
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
    }


def peak_memory_mb() -> float:
    """Largest resident size of this process so far, in megabytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1e6 if sys.platform == "darwin" else 1e3), 1)


def _git_commit() -> str | None:
    """The commit of the checkout that runs, with `+` when it has changes; None outside a checkout."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    try:
        describe = ["git", "-C", str(root), "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+"]
        done = subprocess.run(describe, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
