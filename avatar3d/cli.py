"""The `avatar3d` command: generate, build, export, dress, animate, distill, reconstruct, render, doctor.

Exit codes: 0 done, 1 a failure of the program or of one of several prompts, 2 something wrong with what it was
given (arguments, prompt, files, folders, disk, weights), 130 stopped by Ctrl-C. Heavy modules are imported when a
command runs, so that `--help` is quick.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import sys
import traceback
from pathlib import Path

import tyro

from avatar3d import __version__
from avatar3d.arguments import MAX_COUNT, MAX_LODS, MAX_SEED, UsageError, check_pictures, check_range, formats_of
from avatar3d.cli_distill import distill, reconstruct
from avatar3d.commands import (
    COMMANDS,
    Animate,
    Build,
    Command,
    Distill,
    Dress,
    Export,
    Files,
    Generate,
    Reconstruct,
    Render,
    Turntable,
)
from avatar3d.console import explain, megabytes, progress

DESCRIPTION = "Text to rigged, game-ready 3D avatars. `avatar3d --version` prints the version."


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads make torch crawl on a busy machine
    argv = sys.argv[1:] if argv is None else argv
    if argv == ["--version"]:
        print(f"avatar3d {__version__}")
        return 0
    try:
        command: Command = tyro.cli(
            COMMANDS,
            prog="avatar3d",
            description=DESCRIPTION,
            args=argv,
            config=(tyro.conf.FlagCreatePairsOff, tyro.conf.OmitArgPrefixes),
        )
    except SystemExit as stop:  # tyro has printed help or what is wrong with the arguments
        return stop.code if isinstance(stop.code, int) else 2
    try:
        return _run(command)
    except KeyboardInterrupt:
        print(f"Stopped; {_left(command)}.", file=sys.stderr)
        return 130
    except Exception as error:
        if command.output.debug or os.environ.get("AVATAR3D_DEBUG"):
            traceback.print_exc()
        code, message = explain(error)
        print(f"error: {message}", file=sys.stderr)
        if command.output.json and os.environ.get("RANK", "0") == "0":  # of several processes one speaks
            print(json.dumps({"error": message, "exit_code": code}))
        return code


def _run(command: Command) -> int:
    signal.signal(signal.SIGTERM, _stop)
    if isinstance(command, Generate):
        return _generate(command)
    if isinstance(command, Build):
        return _build(command)
    if isinstance(command, Export):
        return _export(command)
    if isinstance(command, Dress):
        return _dress(command)
    if isinstance(command, Animate):
        return _animate(command)
    if isinstance(command, Distill):
        return distill(command)
    if isinstance(command, Reconstruct):
        return reconstruct(command)
    if isinstance(command, Render):
        return _render(command)
    return _doctor(command.output.json)


def _left(command: Command) -> str:
    """What is there after Ctrl-C."""
    if isinstance(command, Distill):
        return "the checkpoints stay: give the same command with --resume to go on"
    if isinstance(command, Reconstruct):
        return "the checkpoint stays: give the same command again to go on"
    return "nothing half-written is left"


def _stop(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _generate(command: Generate) -> int:
    check_pictures(command.turntable.frames, command.turntable.resolution, least_frames=0)
    _check_files(command.files)
    check_range("--count", command.count, 1, MAX_COUNT)
    seed = secrets.randbelow(2**31) if command.seed is None else command.seed
    check_range("--seed", seed, 0, MAX_SEED - command.count + 1)
    from avatar3d import pipeline

    with progress(quiet=command.output.json) as report:
        runs = pipeline.generate(
            command.prompt, seed, command.count, command.out, _pictures(command.turntable), _wanted(command.files),
            command.representation, command.output.overwrite, report,
        )  # fmt: skip
    _show(runs, command.output.json)
    return 0


def _build(command: Build) -> int:
    check_pictures(command.turntable.frames, command.turntable.resolution, least_frames=0)
    _check_files(command.files)
    from avatar3d import pipeline

    with progress(quiet=command.output.json) as report:
        run = pipeline.build(
            command.spec, command.out, _pictures(command.turntable), _wanted(command.files),
            command.representation, command.output.overwrite, report,
        )  # fmt: skip
    _show([run], command.output.json)
    return 0


def _export(command: Export) -> int:
    _check_files(command.files)
    from avatar3d import pipeline

    with progress(quiet=command.output.json) as report:
        run = pipeline.export(
            command.avatar, command.out, _wanted(command.files), command.output.overwrite, report
        )
    _show([run], command.output.json)
    return 0


def _dress(command: Dress) -> int:
    check_pictures(command.turntable.frames, command.turntable.resolution, least_frames=0)
    _check_files(command.files)
    from avatar3d import pipeline

    with progress(quiet=command.output.json) as report:
        run = pipeline.dress(
            command.avatar, _changes(command), command.out, _pictures(command.turntable),
            _wanted(command.files), command.output.overwrite, report,
        )  # fmt: skip
    _show([run], command.output.json)
    return 0


def _changes(command: Dress) -> dict[str, str]:
    """What to change, as typed; `engine.dress` knows the names."""
    options = (
        "top", "bottom", "shoes", "hat", "glasses", "lenses", "earrings", "hair", "beard", "pattern", "color",
        "hair_color",
    )  # fmt: skip
    said = {name: getattr(command, name) for name in options}
    changes = {name: value for name, value in said.items() if value is not None}
    for assignment in command.set:
        name, equals, value = assignment.partition("=")
        if not equals or not name:
            raise UsageError(f"--set takes name=value, got {assignment!r}; for example --set hat_color=navy")
        changes[name.strip()] = value.strip()
    return changes


def _animate(command: Animate) -> int:
    film = command.film
    check_pictures(1, film.resolution, least_frames=0)
    check_range("--fps", film.fps, 1, 120)
    check_range("--seed", command.seed, 0, MAX_SEED)
    _check_files(command.files)
    from avatar3d import pipeline

    clip = command.clip or (None if command.bvh or command.audio else "idle")
    wish = pipeline.Wish(
        clip, command.bvh, command.bones, command.audio, command.expression, command.seconds, command.travel
    )
    wanted = _wanted(command.files)
    video = pipeline.Film(film.fps, film.resolution, film.view) if film.video else None
    with progress(quiet=command.output.json) as report:
        run = pipeline.animate(
            command.avatar, wish, command.seed, command.out, video, wanted, command.output.overwrite, report
        )
    _show([run], command.output.json)
    return 0


def _render(command: Render) -> int:
    check_pictures(command.frames, command.resolution, least_frames=1)
    from avatar3d import pipeline

    out = command.out or command.file.with_name(f"{command.file.stem}-turntable.mp4")
    with progress(quiet=command.output.json) as report:
        record = pipeline.render_file(
            command.file, out, command.frames, command.resolution, command.output.overwrite, report
        )
    print(json.dumps(record) if command.output.json else f"{out}  ({record['seconds']:.1f} s)")
    return 0


def _doctor(as_json: bool) -> int:
    from avatar3d import doctor

    findings = doctor.examine()
    print(json.dumps(doctor.as_json(findings)) if as_json else doctor.as_text(findings))
    return 0 if all(finding.fine for finding in findings if finding.required) else 1


def _pictures(turntable: Turntable):
    from avatar3d import pipeline

    return pipeline.Pictures(turntable.frames, turntable.resolution, turntable.view)


def _wanted(files: Files):
    from avatar3d.delivery import Wanted

    return Wanted(
        formats_of(files.format), files.profile, files.bind, files.preset, files.lod, files.twist, files.compressed
    )


def _check_files(files: Files) -> None:
    check_range("--lod", files.lod, 1, MAX_LODS)
    formats_of(files.format)


def _show(runs: list[dict], as_json: bool) -> None:
    if as_json:
        print(json.dumps({"runs": runs}))
        return
    for run in runs:
        if run.get("understood"):
            print(f"understood   {', '.join(run['understood'])}")
        for typed, read in run.get("corrected", {}).items():
            print(f"read as      {typed} -> {read}")
        if run.get("not_used"):
            print(f"not used     {', '.join(run['not_used'])}")
        if run.get("seed") is not None:
            print(f"seed         {run['seed']}")
        for remark in run.get("remarks", ()):
            print(f"note         {remark}")
        for level, report in run["report"].items():
            print(f"{level:<12} {_platforms(report)}")
        for file, size in run["files"].items():
            print(f"{megabytes(size):>12} {Path(run['folder']) / file}")
        stages = ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in run["seconds"].items())
        print(f"{sum(run['seconds'].values()):>10.1f} s ({stages})")


def _platforms(report: dict) -> str:
    """One line of a platform report."""
    cost, pc, mobile = report["cost"], report["vrchat_pc"]["rank"], report["vrchat_mobile"]["rank"]
    return (
        f"{cost['triangles']:,} triangles, {cost['joints']} joints, {cost['materials']} materials, "
        f"{cost['face_shapes']} face shapes, {cost['texture_mb']:.0f} MB of textures; VRChat {pc}, mobile {mobile}"
    )


if __name__ == "__main__":
    sys.exit(main())
