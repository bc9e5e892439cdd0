"""The Khronos validator on files of random avatars in every bone profile, as VRM and in presets.

    python scripts/check_export.py                                   # 200 avatars, all profiles
    python scripts/check_export.py --people 10 --profiles vrm rpm --presets web

Each file holds one clip. A run that was broken off goes on where it was: delete OUT/rows.jsonl to begin anew.
Prints a table and writes OUT/report.json. Exit code 1 when the validator has an error or a warning.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.table import Table

from avatar3d.body.bind import in_t_pose
from avatar3d.engine.build import build_avatar
from avatar3d.engine.population import sample
from avatar3d.export import materials
from avatar3d.export.glb import encode_glb
from avatar3d.export.licences import licence_record
from avatar3d.export.presets import PRESETS, apply
from avatar3d.export.profiles import PROFILES
from avatar3d.export.vrm import encode_vrm
from avatar3d.export.vrm_check import vrm_errors
from avatar3d.motion.clips import make_clip
from avatar3d.runs import passport, peak_memory_mb, write_json
from avatar3d.structures import Avatar

ROOT = Path(__file__).resolve().parent.parent
SEVERITIES = ("errors", "warnings", "infos", "hints")
CLIPS = ("idle", "walk", "wave", "nod")


@dataclass(frozen=True)
class CheckConfig:
    """What to check."""

    people: int = 200
    """Random avatars."""
    profiles: tuple[str, ...] = tuple(PROFILES)
    presets: tuple[str, ...] = ()
    """Each in the profile vrm."""
    vrm: bool = True
    """Also as VRM files, which are checked against their own specification too."""
    jobs: int = 2
    """Processes; each takes about 1 GB."""
    seed: int = 2026
    out: Path = Path("outputs/check_export")


def check_person(number: int, config: CheckConfig) -> list[dict]:
    """One row for each file of one random avatar: seconds, bytes and what the validators say."""
    torch.set_num_threads(1)
    _encode_textures_once()
    avatar = build_avatar(sample(np.random.default_rng((config.seed, number))))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for kind, encode in _files(avatar, number, config):
            begun = time.perf_counter()
            data = encode()
            path = Path(folder) / f"{kind}.glb"
            path.write_bytes(data)
            row = {"person": number, "kind": kind, "seconds": round(time.perf_counter() - begun, 3)}
            row |= {"bytes": len(data), "vrm_errors": vrm_errors(data) if kind == "VRM" else []}
            rows.append(row)
        reports = _validate([Path(folder) / f"{row['kind']}.glb" for row in rows])
    for row, report in zip(rows, reports, strict=True):
        issues = report["issues"]
        row |= {name: issues[f"num{name.capitalize()}"] for name in SEVERITIES}
        row |= {"messages": [[m["code"], m["message"], m.get("pointer")] for m in issues["messages"][:5]]}
        row |= {"memory_mb": peak_memory_mb()}
    return rows


def _files(avatar: Avatar, number: int, config: CheckConfig) -> Iterator[tuple]:
    """Names of files, and functions without arguments that give their bytes."""
    record = licence_record(avatar)
    clip = CLIPS[number % len(CLIPS)]
    standing = in_t_pose(avatar)

    def glb(bound: Avatar, profile: str) -> bytes:
        return encode_glb(bound, record, profile, (make_clip(clip, bound),))

    for profile in config.profiles:
        bound = standing if PROFILES[profile].t_pose else avatar
        yield profile, lambda bound=bound, profile=profile: glb(bound, profile)
    if config.vrm:
        yield "VRM", lambda: encode_vrm(avatar, record)
    for preset in config.presets:
        yield preset, lambda preset=preset: glb(apply(standing, PRESETS[preset]), "vrm")


def _encode_textures_once() -> None:
    """Files of one avatar share textures: encoding them again for each file would be most of the work."""
    if hasattr(materials.encode_image, "original"):
        return
    original = materials.encode_image
    known: dict[tuple[int, bool], tuple[torch.Tensor, tuple[bytes, str]]] = {}

    def remembered(texture: torch.Tensor, drop_alpha: bool) -> tuple[bytes, str]:
        key = (id(texture), drop_alpha)
        if key not in known:
            if len(known) > 200:
                known.clear()
            known[key] = (texture, original(texture, drop_alpha))
        return known[key][1]

    remembered.original = original  # type: ignore[attr-defined]
    materials.encode_image = remembered


def _validate(paths: list[Path]) -> list[dict]:
    command = ["node", str(ROOT / "tests" / "validate_glb.mjs"), *map(str, paths)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def check(config: CheckConfig) -> list[dict]:
    """Rows of all people; those of an earlier run are kept."""
    config.out.mkdir(parents=True, exist_ok=True)
    log = config.out / "rows.jsonl"
    rows = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    done = {row["person"] for row in rows}
    wanted = [number for number in range(config.people) if number not in done]
    console = Console()
    with ProcessPoolExecutor(config.jobs, get_context("spawn"), max_tasks_per_child=50) as pool:
        futures = [pool.submit(check_person, number, config) for number in wanted]
        for count, future in enumerate(as_completed(futures), start=1):
            made = future.result()
            rows += made
            with log.open("a") as stream:
                stream.writelines(json.dumps(row) + "\n" for row in made)
            faults = sum(row["errors"] + row["warnings"] + len(row["vrm_errors"]) for row in rows)
            console.print(f"{len(done) + count}/{config.people} people, {faults} errors and warnings", end="\r")
    return [row for row in rows if row["person"] < config.people]


def summary(rows: list[dict]) -> dict:
    """Per kind of file: how many, what the validator counted, seconds, size."""
    kinds = {}
    for kind in dict.fromkeys(row["kind"] for row in rows):
        of_kind = [row for row in rows if row["kind"] == kind]
        seconds = [row["seconds"] for row in of_kind]
        kinds[kind] = {
            "files": len(of_kind),
            **{name: sum(row[name] for row in of_kind) for name in SEVERITIES},
            "vrm_errors": sum(len(row["vrm_errors"]) for row in of_kind),
            "median_seconds": round(statistics.median(seconds), 2),
            "longest_seconds": max(seconds),
            "largest_mb": round(max(row["bytes"] for row in of_kind) / 1e6, 2),
            "codes": Counter(code for row in of_kind for code, *_ in row["messages"]),
        }
    return kinds


def main(config: CheckConfig) -> int:
    if shutil.which("node") is None or not (ROOT / "node_modules" / "gltf-validator").exists():
        print("The Khronos validator is missing: install node and run `make setup`", file=sys.stderr)
        return 2
    rows = check(config)
    kinds = summary(rows)
    table = Table("file", "files", *SEVERITIES, "VRM", "s median", "s longest", "MB largest")
    for kind, of_kind in kinds.items():
        table.add_row(kind, *(str(value) for name, value in of_kind.items() if name != "codes"))
    console = Console()
    console.print(table)
    for kind, of_kind in kinds.items():
        if of_kind["codes"]:
            console.print(f"{kind}: {dict(of_kind['codes'])}")
    memory = max(row["memory_mb"] for row in rows)
    people = len({row["person"] for row in rows})
    console.print(f"{people} people, {len(rows)} files; peak memory of a process {memory} MB")
    report = {"passport": passport(), "people": people, "files": len(rows), "memory_mb": memory, "kinds": kinds}
    write_json(config.out / "report.json", report)
    return int(any(k["errors"] or k["warnings"] or k["vrm_errors"] for k in kinds.values()))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main(tyro.cli(CheckConfig, description=__doc__)))
