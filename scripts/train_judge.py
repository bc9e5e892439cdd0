"""Train the judge that says what an avatar's picture shows; it is used to measure avatars, never to make them.

    python scripts/make_judge_pictures.py --out outputs/judge/pictures --shards 40
    python scripts/make_views.py --shards 125 --out outputs/views
    python scripts/train_judge.py --pictures outputs/judge/pictures --busts outputs/bust --views outputs/views \
        --out outputs/judge

The same command resumes after any interruption, with the same result: every step draws its pictures and how they
are blurred from its own number. At the end the averaged weights are measured on the last shards, which training
never saw, and written with a card to `judge.safetensors` and `judge.md` in the output folder; copy both to
`assets/weights`.
"""

from __future__ import annotations

import json
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from make_judge_pictures import PICTURES_TYPE
from torch import Tensor, nn

from avatar3d.evaluation.judge import (
    SIZE,
    Judge,
    JudgeConfig,
    Targets,
    accuracy,
    as_input,
    judge_loss,
    load_judge,
    save_judge,
    targets,
)
from avatar3d.render.meshes import BACKDROP
from avatar3d.runs import write_json, write_text
from avatar3d.spec import AvatarSpec, spec_from_json
from avatar3d.weights import load_tensors

BUSTS_TYPE, VIEWS_TYPE = "avatar3d.busts", "avatar3d.views"
FRONT = 0.7
"""Radians of azimuth up to which a view counts as about from the front."""
BLURS = (0.0, 0.7, 1.4)
"""Deviations of the Gaussian blur, in pixels of the network's 64, at which the judge is measured."""


@dataclass(frozen=True)
class Config:
    pictures: Path = Path("outputs/judge/pictures")
    """Of `make_judge_pictures.py`."""
    busts: Path | None = None
    """Also the pictures of a data set of `make_dataset.py`."""
    views: Path | None = None
    """Also those pictures of a data set of `make_views.py` that are about from the front."""
    out: Path = Path("outputs/judge")
    held_out: int = 3
    """Shards of each that are kept for measuring."""
    steps: int = 1500
    batch: int = 48
    rate: float = 3e-3
    """Peak learning rate; it warms up for 100 steps and falls to 2 % along a cosine."""
    seed: int = 0
    save_every: int = 100
    device: str = "cpu"


@dataclass(frozen=True)
class Pool:
    """Pictures of one kind."""

    name: str
    pictures: Tensor
    """(N, 3, S, S) bytes."""
    specs: list[AvatarSpec]
    thin: bool
    """Glasses are shown."""
    zoom: tuple[float, float]
    """Shares of the pictures' height that the network may be shown."""
    weight: int = 1
    """How much of every batch it fills, beside the others."""


def main(config: Config) -> None:
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    config.out.mkdir(parents=True, exist_ok=True)
    training, measured = pools(config)
    torch.manual_seed(config.seed)
    judge = Judge(JudgeConfig())
    size = sum(p.numel() for p in judge.parameters()) / 1e6
    print(f"{size:.2f} M parameters; " + ", ".join(f"{len(p.specs)} {p.name}" for p in training), flush=True)
    judge = train(judge, training, config)
    save_judge(judge, config.out / "judge.safetensors")
    report = measure(load_judge(config.out / "judge.safetensors"), measured)
    write_json(config.out / "accuracy.json", report)
    write_text(config.out / "judge.md", card(training, report, config))
    show(report)


def pools(config: Config) -> tuple[list[Pool], list[Pool]]:
    """For training and for measuring: people by lot without and with thin parts, and the data sets'."""
    found: tuple[list[Pool], list[Pool]] = ([], [])
    for folder, kind in ((config.pictures, PICTURES_TYPE), (config.busts, BUSTS_TYPE), (config.views, VIEWS_TYPE)):
        if folder is None:
            continue
        shards = sorted(folder.glob("*.safetensors"))
        if len(shards) <= config.held_out:
            raise SystemExit(f"{folder} has {len(shards)} shards, {config.held_out} are kept back: make more")
        for side, paths in zip(found, (shards[: -config.held_out], shards[-config.held_out :]), strict=True):
            side += read(paths, kind)
    return found


def read(paths: list[Path], kind: str) -> list[Pool]:
    """All pictures of some shards."""
    pictures, specs = [], []
    for path in paths:
        tensors, metadata = load_tensors(path, kind)
        if kind == PICTURES_TYPE:
            pictures.append(tensors["pictures"])
            specs += [spec_from_json(json.dumps(values)) for values in json.loads(metadata["specs"])]
        elif kind == VIEWS_TYPE:
            people = [spec_from_json(json.dumps(values)) for values in json.loads(metadata["specs"])]
            who, view = (tensors["angles"][..., 0].abs() < FRONT).nonzero(as_tuple=True)
            pictures.append(over_backdrop(tensors["pictures"][who, view]))
            specs += [people[k] for k in who.tolist()]
        else:
            rgba = tensors["pictures"][:, 0].float().permute(0, 3, 1, 2) / 255
            backdrop = torch.tensor(BACKDROP).view(3, 1, 1)
            shown = nn.functional.avg_pool2d(backdrop + rgba[:, 3:] * (rgba[:, :3] - backdrop), 2)
            pictures.append((255 * shown + 0.5).to(torch.uint8))
            specs += [spec_from_json(json.dumps(p["spec"])) for p in json.loads(metadata["people"])]
    every = torch.cat(pictures)
    if kind == VIEWS_TYPE:
        return [Pool("views about from the front", every, specs, True, (0.85, 1.03), 4)]
    if kind == BUSTS_TYPE:
        return [Pool("of the data set", every, specs, False, (0.9, 1.03))]
    names = "by lot", "by lot with thin parts"
    return [Pool(name, every[:, k], specs, bool(k), (0.65, 1.02)) for k, name in enumerate(names)]


def over_backdrop(pictures: Tensor) -> Tensor:
    """Bytes (N, 3, S, S) of bytes of color times coverage, and coverage, (N, 4, S, S)."""
    rgba = pictures.float() / 255
    shown = rgba[:, :3] + (1 - rgba[:, 3:]) * torch.tensor(BACKDROP).view(3, 1, 1)
    return (255 * shown.clamp(0, 1) + 0.5).to(torch.uint8)


def train(judge: Judge, sources: list[Pool], config: Config) -> Judge:
    """AdamW with a cosine schedule and an average of the weights, which is what is returned."""
    wanted = [targets(pool.specs, pool.thin) for pool in sources]
    judge.to(config.device).train()
    optimizer = torch.optim.AdamW(judge.parameters(), lr=config.rate, weight_decay=0.05)
    average = {k: v.clone() for k, v in judge.state_dict().items()}
    checkpoint, start = config.out / "checkpoint.pt", 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True, map_location=config.device)
        judge.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        average, start = state["average"], state["step"]
        print(f"resumed at step {start}", flush=True)
    began, total, count = time.process_time(), 0.0, 0
    for step in range(start, config.steps):
        pictures, asked = batch(sources, wanted, config, np.random.default_rng((config.seed, 43, step)))
        rate = min(1.0, (step + 1) / 100) * (0.51 + 0.49 * math.cos(math.pi * step / config.steps))
        for group in optimizer.param_groups:
            group["lr"] = config.rate * rate
        with torch.autocast(config.device, torch.bfloat16):
            choices, numbers = judge(pictures.to(config.device))
        loss = judge_loss([logits.float() for logits in choices], numbers.float(), asked)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(judge.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            for name, value in judge.state_dict().items():
                if value.is_floating_point():
                    average[name].lerp_(value, 1.0 - min(0.99, (step + 1) / (step + 10)))
        total, count = total + loss.item(), count + 1
        if (step + 1) % config.save_every == 0 or step + 1 == config.steps:
            print(f"step {step + 1} loss {total / count:.4f} cpu {time.process_time() - began:.0f} s", flush=True)
            total, count = 0.0, 0
            state = {"model": judge.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save(state | {"average": average, "step": step + 1}, checkpoint.with_suffix(".tmp"))
            checkpoint.with_suffix(".tmp").replace(checkpoint)
    judge.load_state_dict(average)
    return judge.cpu().eval()


def batch(
    sources: list[Pool], wanted: list[Targets], config: Config, generator: np.random.Generator
) -> tuple[Tensor, Targets]:
    """A part from every source, each picture varied, and what there is to see."""
    pictures, choices, numbers = [], [], []
    for pool, known in zip(sources, wanted, strict=True):
        count = config.batch * pool.weight // sum(p.weight for p in sources)
        rows = torch.from_numpy(generator.integers(len(pool.specs), size=count))
        pictures.append(varied(pool.pictures[rows].float() / 255, pool.zoom, generator))
        choices.append(known.choices[rows])
        numbers.append(known.numbers[rows])
    asked = Targets(torch.cat(choices).to(config.device), torch.cat(numbers).to(config.device))
    return torch.cat(pictures), asked


def varied(pictures: Tensor, zoom: tuple[float, float], generator: np.random.Generator) -> Tensor:
    """(B, 3, 64, 64): mirrored, shifted, magnified, tinted, blurred and noisy copies of (B, 3, S, S) pictures."""
    count = len(pictures)

    def draw(low: float, high: float) -> Tensor:
        return torch.from_numpy(generator.uniform(low, high, count)).float()

    scale, mirror = draw(*zoom), torch.where(draw(0, 1) < 0.5, -1.0, 1.0)
    room = (1.0 - scale).clamp_min(0.0)
    shift = torch.stack([draw(-1, 1) * (0.3 * room + 0.04), draw(-1, 0.6) * room + draw(-0.04, 0.04)], 1)
    turn = torch.zeros(count, 2, 3)
    turn[:, 0, 0], turn[:, 1, 1], turn[:, :, 2] = scale * mirror, scale, shift
    # twice the size, then means of 2 x 2: sampling alone would alias
    grid = nn.functional.affine_grid(turn, [count, 3, 2 * SIZE, 2 * SIZE], align_corners=False)
    seen = nn.functional.grid_sample(pictures, grid, padding_mode="border", align_corners=False)
    seen = nn.functional.avg_pool2d(seen, 2)
    for k, sigma in enumerate(generator.uniform(0.0, 1.5, 4)):  # one blur for each quarter of the batch
        seen[k::4] = blurred(seen[k::4], float(sigma) if k else 0.0)
    tint = torch.from_numpy(generator.normal(1.0, 0.02, (count, 3, 1, 1))).float()
    noise = torch.from_numpy(generator.standard_normal(seen.shape, dtype=np.float32))
    return (seen * tint + draw(0.0, 0.02)[:, None, None, None] * noise).clamp(0, 1)


def blurred(pictures: Tensor, sigma: float) -> Tensor:
    """Gaussian blur, `sigma` in pixels."""
    if sigma < 0.1:
        return pictures
    reach = math.ceil(2.5 * sigma)
    weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
    weights = (weights / weights.sum()).expand(3, 1, 1, -1)
    for kernel, pad in ((weights, (reach, reach, 0, 0)), (weights.transpose(2, 3), (0, 0, reach, reach))):
        pictures = nn.functional.conv2d(nn.functional.pad(pictures, pad, mode="replicate"), kernel, groups=3)
    return pictures


def measure(judge: Judge, sources: list[Pool]) -> dict:
    """Accuracy on people whom the training never saw, plain and blurred."""
    report: dict = {}
    for pool in sources:
        shown = as_input(pool.pictures.float() / 255)
        for sigma in BLURS:
            agreed = accuracy(judge, blurred(shown, sigma), pool.specs, pool.thin)
            report[f"{len(pool.specs)} {pool.name}, blur {sigma:g}"] = agreed
    return report


def show(report: dict) -> None:
    """A line for each attribute."""
    print("held-out people: " + "; ".join(report))
    for attribute in next(iter(report.values())):
        print(f"  {attribute:12s} " + "  ".join(f"{column[attribute]:6.3f}" for column in report.values()))


def card(training: list[Pool], report: dict, config: Config) -> str:
    """What a reader of the weights should know."""
    sources = ", ".join(f"{len(pool.specs)} {pool.name}" for pool in training)
    columns = list(report)
    lines = [f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for attribute in report[columns[0]]:
        cells = (f"{100 * report[c][attribute]:.0f} %" for c in columns)
        lines.append(f"| {attribute} | {' | '.join(cells)} |")
    return CARD.format(sources=sources, steps=config.steps, batch=config.batch, table="\n".join(lines))


CARD = """# judge.safetensors

The judge: a small convolutional network that says what a picture of a bust shows, and whose features serve as the
image encoder of Frechet and perceptual distances. It only measures; nothing is made with it. float16, CC0.

* **Data**: pictures of this project's engine alone, in material colors from about the front: {sources}. No photo.
* **Training**: {steps} steps of {batch} mirrored, shifted, magnified, blurred and noisy pictures, on a CPU.
* **Commands**: `python scripts/make_judge_pictures.py --out outputs/judge/pictures --shards 16`,
  `python scripts/make_views.py --shards 125 --out outputs/views`, then `python scripts/train_judge.py --pictures
  outputs/judge/pictures --busts outputs/bust --views outputs/views --out outputs/judge --steps {steps}
  --batch {batch}`.

Accuracy on people whom the training never saw (blur: standard deviation in pixels of 64; numbers count as right
within 0.10 of skin tone, 12 years, 0.30 of gender):

{table}
"""


if __name__ == "__main__":
    main(tyro.cli(Config))
