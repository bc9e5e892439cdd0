"""Speed and memory of the product, printed with the machine, its versions and its load.

    python scripts/benchmark.py            # the command, engine, export, and the rasterizer beside its peers
    python scripts/benchmark.py --quick    # a short turntable, fewer repeats

Nothing here is a test: figures depend on the machine. Goals are those of the README (two cores).
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import tyro

COMMAND = [sys.executable, "-m", "avatar3d.cli"]


@dataclass(frozen=True)
class BenchmarkConfig:
    """What to measure."""

    prompt: str = "old man with glasses"
    frames: int = 72
    resolution: int = 512
    people: int = 12
    """Random avatars to build."""
    repeats: int = 3
    quick: bool = False
    """8 frames and one repeat."""


def machine() -> None:
    """One line each about processor, versions and load."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":")[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    print(f"machine   {model}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print("versions  " + ", ".join(f"{p} {version(p)}" for p in ("avatar3d", "torch", "numpy", "numba")))
    print(f"load      {os.getloadavg()[0]:.2f} (a load above 0.3 makes the figures upper bounds)\n")


def help_time(repeats: int) -> None:
    """Wall time of `avatar3d --help`, goal 0.6 s."""
    seconds = []
    for _ in range(repeats):
        begun = time.perf_counter()
        subprocess.run([*COMMAND, "--help"], check=True, capture_output=True)
        seconds.append(time.perf_counter() - begun)
    print(f"--help                                {min(seconds):6.2f} s      goal 0.6")


def whole_command(config: BenchmarkConfig) -> None:
    """The whole command in a process of its own: wall time, stages and peak memory."""
    frames = 8 if config.quick else config.frames
    runs = []
    for repeat in range(1 if config.quick else config.repeats):
        with tempfile.TemporaryDirectory() as folder:
            begun = time.perf_counter()
            subprocess.run(
                [*COMMAND, "generate", "--prompt", config.prompt, "--seed", str(repeat), "--out", folder,
                 "--frames", str(frames), "--resolution", str(config.resolution)],
                check=True, capture_output=True,
            )  # fmt: skip
            wall = time.perf_counter() - begun
            record = json.loads(next(Path(folder).glob("*/run.json")).read_text())
            runs.append((wall, record))
    wall, record = min(runs, key=lambda run: run[0])
    stages = record["seconds"]
    to_glb = wall - sum(stages.get(s, 0.0) for s in ("preview", "turntable"))
    print(f"prompt to GLB, start-up included      {to_glb:6.2f} s      goal 8")
    print(f"whole command, {frames} frames at {config.resolution:<5d}     {wall:6.2f} s      goal 30")
    print(f"peak memory                           {record['peak_memory_mb'] / 1024:6.2f} GB     goal 2.5")
    for stage, seconds in stages.items():
        print(f"    {stage:33s} {seconds:6.2f} s")


def engine(config: BenchmarkConfig) -> None:
    """Time of `build_avatar` over random people, caches warm; goal 1 s each."""
    from avatar3d.engine.build import build_avatar
    from avatar3d.engine.population import Population, sample

    generator = np.random.default_rng(0)
    specs = [sample(generator, Population()) for _ in range(config.people)]
    build_avatar(specs[0])
    seconds, triangles = [], []
    for spec in specs:
        begun = time.perf_counter()
        avatar = build_avatar(spec)
        seconds.append(time.perf_counter() - begun)
        triangles.append(sum(len(part.mesh.faces) for part in avatar.parts))
    print(
        f"engine, per avatar: median            {statistics.median(seconds):6.2f} s      goal 1"
        f"   (slowest {max(seconds):.2f} s, {statistics.median(triangles):.0f} triangles)"
    )


EXPORTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("as it is", {}),
    ("unity, T-pose", {"profile": "unity"}),
    ("rpm, 72 shapes", {"profile": "rpm"}),
    ("vrm", {"formats": ("vrm",)}),
    ("desktop", {"preset": "desktop"}),
    ("web", {"preset": "web"}),
    ("quest", {"preset": "quest"}),
    ("crowd", {"preset": "crowd"}),
    ("three levels of detail", {"lod": 3}),
)


def export(config: BenchmarkConfig) -> None:
    """Files of a few people: wall time of `deliver`, warm, size and triangles; goals 2 s, 3 MB for web, 1 GB."""
    from avatar3d.delivery import Wanted, deliver
    from avatar3d.engine.build import build_avatar
    from avatar3d.engine.population import Population, sample
    from avatar3d.export.licences import licence_record
    from avatar3d.pictures import pose_for_pictures, thumbnail
    from avatar3d.runs import peak_memory_mb

    generator = np.random.default_rng(1)
    avatars = [build_avatar(sample(generator, Population())) for _ in range(2 if config.quick else 5)]
    print(f"{'export':<24}  median s  slowest s   MB  triangles   (goals: 2 s, web under 3 MB)")
    for name, options in EXPORTS:
        seconds, sizes, triangles = [], [], []
        for avatar in (avatars[0], *avatars):  # the first time is not counted
            with tempfile.TemporaryDirectory() as folder:
                icon = thumbnail(avatar, pose_for_pictures(avatar))
                begun = time.perf_counter()
                report = deliver(
                    avatar, Path(folder), Wanted(**options), licence_record(avatar), partial(bytes, icon)
                )
                seconds.append(time.perf_counter() - begun)
                sizes.append(max(file.stat().st_size for file in Path(folder).glob("avatar.*")) / 1e6)
                triangles.append(report["avatar"]["cost"]["triangles"])
        print(
            f"{name:<24}  {statistics.median(seconds[1:]):8.2f}  {max(seconds[1:]):9.2f}"
            f" {max(sizes[1:]):5.2f} {max(triangles[1:]):9d}"
        )
    print(f"peak memory of building and exporting {peak_memory_mb() / 1024:.2f} GB      goal 1")


def main(config: BenchmarkConfig) -> None:
    """Print every figure."""
    machine()
    help_time(config.repeats)
    whole_command(config)
    engine(config)
    export(config)
    print(flush=True)
    subprocess.run([sys.executable, str(Path(__file__).with_name("benchmark_render.py"))], check=True)


if __name__ == "__main__":
    main(tyro.cli(BenchmarkConfig))
