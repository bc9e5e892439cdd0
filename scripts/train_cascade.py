"""The whole cascade from nothing, one command: data, auto-encoder, base, upsampler, weights.

    python scripts/train_cascade.py --size tiny       # minutes: does everything run here?
    python scripts/train_cascade.py --size cpu        # two to three hours on two cores
    python scripts/train_cascade.py --size gpu        # half an hour on a data-centre GPU with 16 cores

Each stage is a program of its own, shown before it runs; what is already done is not done again. Shipped weights
are replaced only with --export.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Size:
    """How much of everything."""

    avatars: int
    held_out: int
    batch: int
    joint: int
    decoder: int
    base: int
    detail: int
    upsampler: int
    base_batch: int = 16


SIZES = {
    "tiny": Size(avatars=24, held_out=8, batch=2, joint=20, decoder=10, base=20, detail=6, upsampler=6),
    "cpu": Size(
        avatars=560, held_out=208, batch=4, joint=5000, decoder=2000, base=1500, detail=700, upsampler=900
    ),
    "gpu": Size(
        avatars=4000, held_out=256, batch=32, joint=12000, decoder=4000, base=12000, detail=4000, upsampler=6000,
        base_batch=128,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Config:
    size: Literal["tiny", "cpu", "gpu"] = "tiny"
    out: Path = Path("outputs/cascade")
    device: str = "cpu"
    jobs: int = os.cpu_count() or 1
    """Processes that make the data."""
    export: bool = False
    """Put the weights into assets/weights."""


def main(config: Config) -> None:
    size, out = SIZES[config.size], config.out / config.size
    data, held_out = out / "bust", out / "held"
    autoencoder, decoder = out / "joint", out / "decoder"
    held = min(16, size.avatars // 3)
    trained = decoder / "average.safetensors"
    common = ["--data", data, "--device", config.device, "--held-out", held]
    for name, avatars, first in ((data, size.avatars, 0), (held_out, size.held_out, 100_000)):
        run("make_dataset", "--count", avatars, "--start", first, "--out", name, "--jobs", config.jobs)
    encoder = ["train_autoencoder", *common, "--batch", size.batch]
    run(*encoder, "--part", "joint", "--out", autoencoder, "--schedule.steps", size.joint)
    run(
        *encoder, "--part", "decoder", "--out", decoder, "--start", autoencoder / "average.safetensors",
        "--schedule.steps", size.decoder, "--schedule.rate", 1e-3,
    )  # fmt: skip
    base = ["train_base", *common, "--autoencoder", trained, "--out", out / "base", "--batch", size.base_batch]
    run(*base, "--schedule.steps", size.base)
    fine = ["train_upsampler", *common, "--autoencoder", trained, "--out", out / "up"]
    run(*fine, "--part", "detail", "--schedule.steps", size.detail)
    run(*fine, "--part", "upsampler", "--schedule.steps", size.upsampler)
    if config.export:
        run(*encoder, "--part", "export", "--start", trained)
        run(*base, "--part", "export")
        run(*fine, "--part", "export")
    print(f"done; the weights are in {out}, held-out avatars in {held_out}")


def run(*command_words: object) -> None:
    """Run one of the programs beside this one, named first, with its options; stops when it fails."""
    program, *options = map(str, command_words)
    command = [sys.executable, str(HERE / f"{program}.py"), *options]
    print("\n$", " ".join(command[1:]), flush=True)
    began = time.perf_counter()
    if code := subprocess.run(command, env=os.environ | {"OMP_WAIT_POLICY": "PASSIVE"}).returncode:
        raise SystemExit(f"{program} failed with exit code {code}; the same command goes on where it stopped")
    print(f"  {time.perf_counter() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Config))
