"""The commands that make meshes of prompts and of pictures: distill, reconstruct."""

from __future__ import annotations

import json
import re
import sys
import traceback
from pathlib import Path

from avatar3d.arguments import (
    MAX_COUNT,
    MAX_SEED,
    TEXELS,
    TRIANGLES,
    UsageError,
    check_pictures,
    check_range,
    formats_of,
)
from avatar3d.commands import Distill, Reconstruct
from avatar3d.console import explain, megabytes, progress


def distill(command: Distill) -> int:
    check_pictures(command.object.frames, command.object.resolution, least_frames=0)
    formats = formats_of(command.object.format)
    for option, value, low, high in (
        ("--best-of", command.best_of, 1, MAX_COUNT),
        ("--jobs", command.jobs, 1, MAX_COUNT),
        ("--seed", command.seed, 0, MAX_SEED - command.best_of + 1),
        ("--preview-every", command.preview_every, 1, 10**9),
        ("--triangles", command.object.triangles, *TRIANGLES),
        ("--texture", command.object.texture, *TEXELS),
    ):
        check_range(option, value, low, high)
    if (command.prompt is None) == (command.prompts is None):
        raise UsageError("give either --prompt, what to make, or --prompts, a file with one prompt on each line")
    memory = None if command.method.max_memory is None else _gigabytes(command.method.max_memory)
    from avatar3d import trials
    from avatar3d.distill.processes import launched

    processes, device = launched(command.method.device)
    spread = _spread(command, processes.count)
    method, made = command.method, command.object
    wish = trials.Wish(
        command.prompt or "", method.method, method.prior, command.seed, method.negative, method.avatar,
        method.steps, method.size, memory, device, method.lora, method.controlnet, method.still,
        command.preview_every, formats, made.triangles, made.texture, made.frames, made.resolution,
        pose_picture=method.pose_picture, source=method.source,
    )  # fmt: skip
    prompts = [wish.prompt] if command.prompts is None else trials.read_prompts(command.prompts)
    seeds = range(command.seed, command.seed + command.best_of)

    def failed(one: trials.Wish, error: Exception) -> None:
        if command.output.debug:
            traceback.print_exception(error)
        print(f"error: {one.prompt!r}, seed {one.seed}: {explain(error)[1]}", file=sys.stderr)

    with progress(quiet=command.output.json or not processes.first) as report:
        done = trials.distill_all(
            wish, prompts, seeds, command.out, command.output.overwrite, command.resume, report, failed, spread,
            processes,
        )  # fmt: skip
    errors = [{"prompt": w.prompt, "seed": w.seed, "error": explain(error)[1]} for w, error in done.failed]
    if not processes.first:
        pass  # one speaks for all
    elif command.output.json:
        print(json.dumps({"runs": done.runs, "best": done.best, "failed": errors}))
    else:
        _show_distilled(done.runs, done.best)
    return 1 if errors else 0


def _spread(command: Distill, processes: int):
    """What makes several runs side by side, if anything is to."""
    if command.jobs == 1 and not command.ray:
        return None
    if command.jobs > 1 and command.ray:
        raise UsageError("--ray takes as many workers as the cluster has: leave --jobs out")
    if processes > 1:
        raise UsageError("accelerate launch has all processes work on one run: leave --jobs and --ray out")
    from functools import partial

    from avatar3d.workers import in_processes, on_ray

    if command.ray:
        return partial(on_ray, gpus=1 if command.method.device.startswith("cuda") else 0)
    return partial(in_processes, count=command.jobs)


def reconstruct(command: Reconstruct) -> int:
    check_pictures(command.frames, command.resolution, least_frames=0)
    for option, value, low, high in (
        ("--steps", command.steps, 1, 10**7),
        ("--rays", command.rays, 1, 10**6),
        ("--held-out", command.held_out, 2, 10**6),
        ("--largest", command.largest, 16, 4096),
        ("--seed", command.seed, 0, MAX_SEED),
        ("--triangles", command.triangles, *TRIANGLES),
        ("--texture", command.texture, *TEXELS),
    ):
        check_range(option, value, low, high)
    if command.radius is not None and not 0 < command.radius < float("inf"):
        raise UsageError(f"--radius must be above 0, got {command.radius}")
    from avatar3d.reconstruct import photometric

    settings = photometric.Settings(
        command.field, command.steps, command.rays, held_out=command.held_out, largest=command.largest,
        radius=command.radius, seed=command.seed, triangles=command.triangles, texture=command.texture,
        frames=command.frames, film_size=command.resolution,
    )  # fmt: skip
    folder = command.folder.resolve()
    out = command.out or folder.with_name(f"{folder.name}-reconstruction")
    with progress(quiet=command.output.json) as report:
        record = photometric.reconstruct(command.folder, out, settings, report)
    if command.output.json:
        print(json.dumps({"folder": str(out), **record}))
        return 0
    print(f"held-out     {record['psnr']:.2f} dB (the mean color: {record['psnr_mean_color']:.2f} dB)")
    print(f"mesh         {_mesh(record['mesh'])}")
    print(f"files        {out}")
    return 0


def _gigabytes(typed: str) -> float:
    """Of "8", "8GB" or "512 MB"."""
    found = re.fullmatch(r"(\d+(?:\.\d*)?)\s*(GB|G|MB|M)?", typed.strip(), re.IGNORECASE)
    if found is None or float(found[1]) <= 0:
        raise UsageError(f"--max-memory takes gigabytes, for example 8GB, got {typed!r}")
    return float(found[1]) / (1000 if (found[2] or "G").upper().startswith("M") else 1)


def _show_distilled(runs: list[dict], best: list[str]) -> None:
    for run in runs:
        print(f"prompt       {run['prompt']}, seed {run['seed']}")
        if run["cut_from_prompt"]:
            print(f"not read     {run['cut_from_prompt']}")
        if run["diverged"]:
            print("note         it went wrong again and again; this is its last good state")
        if "mesh" in run:
            print(f"mesh         {_mesh(run['mesh'])}")
        if "score" in run:
            print(f"score        {run['score']:.5f}")
        for file, size in run["files"].items():
            print(f"{megabytes(size):>12} {Path(run['folder']) / file}")
        print(f"{run['seconds']['whole']:>10.1f} s ({run['seconds']['prior']:.1f} in the prior)")
    for folder in best:
        print(f"best         {folder}")


def _mesh(facts: dict) -> str:
    """One line of what is said of a mesh."""
    if "fault" in facts:
        return f"none: {facts['fault']}"
    return f"{facts['triangles']:,} triangles, {'closed' if facts['closed'] else 'open'}"
