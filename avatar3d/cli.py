"""The `avatar3d` command: generate, build, render, doctor.

Exit codes: 0 done, 1 a failure of the program, 2 something wrong with what it was given (arguments, prompt,
files, folders, disk, weights), 130 stopped by Ctrl-C. Heavy modules are imported when a command runs, so that
`--help` is quick.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import signal
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from avatar3d import __version__
from avatar3d.console import progress

MAX_SEED = 2**63 - 1
MAX_COUNT = 1000
MAX_FRAMES = 3600
RESOLUTIONS = (64, 2048)

DESCRIPTION = "Text to rigged, game-ready 3D avatars. `avatar3d --version` prints the version."

View = Literal["bust", "head", "full"]


class UsageError(Exception):
    """An argument out of range, with the range in its message."""


@dataclass(frozen=True)
class Generate:
    """Make rigged avatars from a prompt: avatar.glb, turntable.mp4, preview.png, spec.json and run.json."""

    prompt: str
    """Who it is, in English, for example "old man with glasses"."""
    seed: int | None = None
    """0 or more; the same seed gives the same avatar. Without it a random one is chosen, printed and stored."""
    count: int = 1
    """How many avatars, with the seeds seed, seed + 1, ...; each gets its own folder."""
    out: Path = Path("outputs")
    """Folder of the run folders."""
    frames: int = 72
    """Frames of the turntable; 0 for none."""
    resolution: int = 512
    """Width and height of the turntable in pixels, even, from 64 to 2048."""
    view: View = "bust"
    """What the turntable shows."""
    overwrite: bool = False
    """Replace a run folder of the same name."""
    json: bool = False
    """Print one JSON object on stdout and nothing else there."""
    debug: bool = False
    """Show the traceback of an error."""


@dataclass(frozen=True)
class Build:
    """Make an avatar from a spec.json, for example one of `generate` that was edited by hand."""

    spec: tyro.conf.Positional[Path]
    """JSON file with the fields to set; absent fields take their defaults."""
    out: Path = Path("outputs")
    """Folder of the run folder."""
    frames: int = 72
    """Frames of the turntable; 0 for none."""
    resolution: int = 512
    """Width and height of the turntable in pixels, even, from 64 to 2048."""
    view: View = "bust"
    """What the turntable shows."""
    overwrite: bool = False
    """Replace a run folder of the same name."""
    json: bool = False
    """Print one JSON object on stdout and nothing else there."""
    debug: bool = False
    """Show the traceback of an error."""


@dataclass(frozen=True)
class Render:
    """Make a turntable of any GLB, glTF or OBJ file in its rest pose."""

    file: tyro.conf.Positional[Path]
    """The mesh file."""
    out: Path | None = None
    """The clip to write; by default <name>-turntable.mp4 beside the file."""
    frames: int = 72
    """Frames of the turntable."""
    resolution: int = 512
    """Width and height in pixels, even, from 64 to 2048."""
    overwrite: bool = False
    """Replace an existing clip."""
    json: bool = False
    """Print one JSON object on stdout and nothing else there."""
    debug: bool = False
    """Show the traceback of an error."""


@dataclass(frozen=True)
class Doctor:
    """Show what is installed, whether the shipped data is intact and which optional doors are open."""

    json: bool = False
    """Print one JSON object on stdout and nothing else there."""
    debug: bool = False
    """Show the traceback of an error."""


Command = Generate | Build | Render | Doctor
_COMMANDS = (
    Annotated[Generate, tyro.conf.subcommand("generate")]
    | Annotated[Build, tyro.conf.subcommand("build")]
    | Annotated[Render, tyro.conf.subcommand("render")]
    | Annotated[Doctor, tyro.conf.subcommand("doctor")]
)


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads make torch crawl on a busy machine
    argv = sys.argv[1:] if argv is None else argv
    if argv == ["--version"]:
        print(f"avatar3d {__version__}")
        return 0
    try:
        command: Command = tyro.cli(
            _COMMANDS, prog="avatar3d", description=DESCRIPTION, args=argv, config=(tyro.conf.FlagCreatePairsOff,)
        )
    except SystemExit as stop:  # tyro has printed help or what is wrong with the arguments
        return stop.code if isinstance(stop.code, int) else 2
    try:
        return _run(command)
    except KeyboardInterrupt:
        print("Stopped; nothing half-written is left.", file=sys.stderr)
        return 130
    except Exception as error:
        if command.debug or os.environ.get("AVATAR3D_DEBUG"):
            traceback.print_exc()
        code, message = _explain(error)
        print(f"error: {message}", file=sys.stderr)
        if command.json:
            print(json.dumps({"error": message, "exit_code": code}))
        return code


def _run(command: Command) -> int:
    signal.signal(signal.SIGTERM, _stop)
    if isinstance(command, Generate):
        return _generate(command)
    if isinstance(command, Build):
        return _build(command)
    if isinstance(command, Render):
        return _render(command)
    return _doctor(command)


def _stop(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _generate(command: Generate) -> int:
    _check_pictures(command.frames, command.resolution, least_frames=0)
    _check_range("--count", command.count, 1, MAX_COUNT)
    seed = secrets.randbelow(2**31) if command.seed is None else command.seed
    _check_range("--seed", seed, 0, MAX_SEED - command.count + 1)
    from avatar3d import pipeline

    pictures = pipeline.Pictures(command.frames, command.resolution, command.view)
    with progress(quiet=command.json) as report:
        runs = pipeline.generate(
            command.prompt, seed, command.count, command.out, pictures, command.overwrite, report
        )
    _show({"runs": runs}, command.json)
    return 0


def _build(command: Build) -> int:
    _check_pictures(command.frames, command.resolution, least_frames=0)
    from avatar3d import pipeline

    pictures = pipeline.Pictures(command.frames, command.resolution, command.view)
    with progress(quiet=command.json) as report:
        run = pipeline.build(command.spec, command.out, pictures, command.overwrite, report)
    _show({"runs": [run]}, command.json)
    return 0


def _render(command: Render) -> int:
    _check_pictures(command.frames, command.resolution, least_frames=1)
    from avatar3d import pipeline

    out = command.out or command.file.with_name(f"{command.file.stem}-turntable.mp4")
    with progress(quiet=command.json) as report:
        record = pipeline.render_file(
            command.file, out, command.frames, command.resolution, command.overwrite, report
        )
    print(json.dumps(record) if command.json else f"{out}  ({record['seconds']:.1f} s)")
    return 0


def _doctor(command: Doctor) -> int:
    from avatar3d import doctor

    findings = doctor.examine()
    print(json.dumps(doctor.as_json(findings)) if command.json else doctor.as_text(findings))
    return 0 if all(finding.fine for finding in findings if finding.required) else 1


def _check_pictures(frames: int, resolution: int, least_frames: int) -> None:
    _check_range("--frames", frames, least_frames, MAX_FRAMES)
    _check_range("--resolution", resolution, *RESOLUTIONS)
    if resolution % 2:
        raise UsageError(f"--resolution must be even for video, got {resolution}; use {resolution + 1}")


def _check_range(option: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise UsageError(f"{option} must be from {low} to {high}, got {value}")


def _show(result: dict, as_json: bool) -> None:
    if as_json:
        print(json.dumps(result))
        return
    for run in result["runs"]:
        if run.get("understood"):
            print(f"understood   {', '.join(run['understood'])}")
        for typed, read in run.get("corrected", {}).items():
            print(f"read as      {typed} -> {read}")
        if run.get("not_used"):
            print(f"not used     {', '.join(run['not_used'])}")
        print(f"seed         {run['seed']}")
        for file, size in run["files"].items():
            print(f"{_megabytes(size):>12} {Path(run['folder']) / file}")
        stages = ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in run["seconds"].items())
        print(f"{sum(run['seconds'].values()):>10.1f} s ({stages})")


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.2f} MB"


def _explain(error: Exception) -> tuple[int, str]:
    """Exit code and message of an error; what the user can mend is 2, anything else is 1."""
    from avatar3d.runs import OutputError
    from avatar3d.spec import SpecError

    known: list[type[Exception]] = [UsageError, OutputError, SpecError]
    if "avatar3d.pipeline" in sys.modules:
        from avatar3d.pipeline import INPUT_ERRORS

        known += INPUT_ERRORS
    if isinstance(error, tuple(known)):
        return 2, str(error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return 2, "the disk is full; free some space or choose another --out. Nothing half-written is left"
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return 2, f"{error.filename or 'the output'} is not accessible ({error.strerror}); check its permissions"
    if isinstance(error, MemoryError):
        return 1, "not enough memory; close other programs or lower --resolution"
    message = f"{type(error).__name__}: {error}"
    return 1, f"{message}. This is a fault of avatar3d: please report it with the output of --debug"


if __name__ == "__main__":
    sys.exit(main())
