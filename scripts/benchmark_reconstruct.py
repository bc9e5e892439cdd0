"""PSNR of held-out views: `avatar3d reconstruct` beside nerfstudio's nerfacto, on one CPU in the same time.

    python scripts/make_capture.py --out outputs/capture
    OMP_WAIT_POLICY=PASSIVE python scripts/benchmark_reconstruct.py outputs/capture --nerfstudio PYTHON

PYTHON is the interpreter of an environment with nerfstudio 1.1.5 (an environment of its own is best):
`python -m venv peer && peer/bin/pip install torch==2.13.0 torchvision==0.28.0 nerfstudio==1.1.5`.
All train on the same views for the same seconds, reading files and setting up not counted, and are measured on
the same held-out views over white by the same function. Our number of steps is found by trying, since schedules
depend on it. `nerfstudio_peer.py` tells what the peer's two ways are.
"""

from __future__ import annotations

import json
import math
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import tyro
from torch import Tensor

from avatar3d.evaluation.images import psnr
from avatar3d.reconstruct.photometric import (
    Settings,
    boxed,
    fit,
    looked_at,
    mean_color_psnr,
    over,
    split,
    view_picture,
)
from avatar3d.reconstruct.transforms import Pictures, read_transforms
from avatar3d.render.images import contact_sheet, to_bytes, write_png

FIRST_TRY = 300
"""Steps."""
PEER = Path(__file__).with_name("nerfstudio_peer.py")
MISSING = """nerfstudio is not measured: give --nerfstudio the interpreter of an environment with it:
    python -m venv peer && peer/bin/pip install torch==2.13.0 torchvision==0.28.0 nerfstudio==1.1.5"""


@dataclass(frozen=True)
class Config:
    capture: tyro.conf.Positional[Path]
    """Folder of `make_capture.py`."""
    nerfstudio: Path | None = None
    """Interpreter of an environment with nerfstudio."""
    seconds: float = 180.0
    """Of training, each."""
    fields: tuple[Literal["voxels", "hash", "planes", "mlp"], ...] = ("voxels", "hash", "planes")
    variants: tuple[Literal["default", "small"], ...] = ("default", "small")
    """Of the peer."""
    clock: Literal["wall", "processor"] = "wall"
    """Seconds of the clock, or of the processors divided by the threads, when other programs run."""
    threads: int = 2
    pictures: Path | None = None
    """PNG of held-out views: the truth in the first row, then each method in the table's order."""
    report: Path | None = None
    """JSON of the table."""


@dataclass(frozen=True)
class Row:
    method: str
    psnr: float
    steps: int
    seconds: float
    pictures: Tensor
    """(V, H, W, 3)."""


def main(config: Config) -> None:
    torch.set_num_threads(config.threads)
    seconds = time.perf_counter if config.clock == "wall" else lambda: time.process_time() / config.threads
    settings = Settings()
    pictures = read_transforms(config.capture, settings.largest)
    train, test = split(pictures, settings.held_out)
    truths = over(test.pixels, torch.tensor(settings.background))
    blank = mean_color_psnr(train, test, settings)
    print(f"{len(train.names)} views of {truths.shape[2]} x {truths.shape[1]}, {len(truths)} held out")
    print(f"{'method':32} {'PSNR dB':>8} {'steps':>6} {'seconds':>8}")
    print(f"{'mean color':32} {blank:8.2f} {'':>6} {'':>8}", flush=True)
    rows = []
    for field in config.fields:
        rows.append(ours(replace(settings, field=field), train, test, truths, config.seconds, seconds))
        show(rows[-1])
    for variant in config.variants if config.nerfstudio else ():
        rows.append(peer(config, variant, pictures, test, truths))
        show(rows[-1])
    if config.nerfstudio is None:
        print(MISSING)
    if config.pictures:
        columns = torch.linspace(0, len(truths) - 1, min(6, len(truths))).round().long()
        sheet = [to_bytes(picture) for row in (truths, *(r.pictures for r in rows)) for picture in row[columns]]
        write_png(contact_sheet(sheet, len(columns)), config.pictures)
    if config.report:
        table = [{"method": r.method, "psnr": r.psnr, "steps": r.steps, "seconds": r.seconds} for r in rows]
        config.report.write_text(json.dumps({"mean_color": blank, "rows": table}, indent=1))


def ours(
    settings: Settings,
    train: Pictures,
    test: Pictures,
    truths: Tensor,
    wanted: float,
    seconds: Callable[[], float],
) -> Row:
    """The training of as many steps as the time suffices for, within a tenth."""
    box, steps = looked_at(train, settings.radius), FIRST_TRY
    for _ in range(4):
        tried = replace(settings, steps=steps, save_every=steps)
        with tempfile.TemporaryDirectory() as folder:
            began = seconds()
            field, grid = fit(boxed(train, box), tried, Path(folder) / "checkpoint.pt", lambda *_: None)
            taken = seconds() - began
        if 0.9 * wanted <= taken <= 1.01 * wanted:
            break
        steps = max(30, math.floor(steps * 0.96 * wanted / taken))
    views = boxed(test, box)
    pictures = torch.stack([view_picture(field, views, n, tried, grid) for n in range(len(truths))])
    return Row(
        f"avatar3d reconstruct, {settings.field}", mean_psnr(pictures, truths), tried.steps, taken, pictures
    )


def peer(config: Config, variant: str, pictures: Pictures, test: Pictures, truths: Tensor) -> Row:
    """The peer's training in its own process."""
    box = looked_at(pictures)
    distance = float((pictures.cameras[0].T_world_camera[:3, 3] - box.center).norm()) / box.scale
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        command = [
            str(config.nerfstudio), str(PEER), "--data", str(config.capture.resolve()), "--out", str(out),
            "--seconds", str(config.seconds), "--scale", str(1 / box.scale), "--variant", variant,
            "--near", str(max(0.05, distance - math.sqrt(3))), "--far", str(distance + math.sqrt(3)),
            "--threads", str(config.threads), "--clock", config.clock, "--every", str(Settings().held_out),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
        report = json.loads((out / "report.json").read_text())
        made = torch.from_numpy(np.load(out / "held_out.npy"))
    names = [Path(name).name for name in test.names]
    if report["names"] != names:
        raise SystemExit(f"the peer held out {report['names']}, not {names}")
    return Row(f"nerfacto, {variant}", mean_psnr(made, truths), report["steps"], report["seconds"], made)


def mean_psnr(pictures: Tensor, truths: Tensor) -> float:
    """Mean over the views, dB."""
    return sum(psnr(p, t) for p, t in zip(pictures, truths, strict=True)) / len(truths)


def show(row: Row) -> None:
    print(f"{row.method:32} {row.psnr:8.2f} {row.steps:6d} {row.seconds:8.1f}", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Config))
