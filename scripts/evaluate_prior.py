"""Measure the prior that ships on people whom its training never saw.

    python scripts/evaluate_prior.py --data outputs/views
    python scripts/evaluate_prior.py --data outputs/views --prior outputs/prior/prior

Prints, for several noise levels, the mean squared error of the velocity with six statements, with none, and with
the wrong view; then the share of what 24 prompts say that the judge sees in samples from the front, and in the
engine's own pictures. Writes samples.png.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import tyro
from evaluate_distill import PROMPTS, agreement
from torch import Tensor
from train_prior import Config as Training
from train_prior import batch, read

from avatar3d.conditioning.model import condition
from avatar3d.conditioning.prompt import default_model, sample_from, understand
from avatar3d.diffusion.guidance import guide
from avatar3d.distill.prior import add_noise, clean_from, joined, noise_from
from avatar3d.distillation import Wish, open_prior
from avatar3d.engine.bust import build_bust
from avatar3d.engine.captions import choose
from avatar3d.evaluation.judge import load_judge
from avatar3d.fields.box import bust_camera
from avatar3d.render.images import write_png
from avatar3d.render.meshes import render_albedo
from avatar3d.render.scene import compile_scene, labelled


@dataclass(frozen=True)
class Config:
    data: Path = Path("outputs/views")
    prior: str | None = None
    """Folder of another one of `train_prior.py`."""
    held_out: int = 4
    """Last shards, which training leaves out."""
    count: int = 96
    scale: float = 3.0
    steps: int = 24
    out: Path = Path("outputs/prior_samples.png")
    threads: int = 1


@torch.no_grad()
def main(config: Config) -> None:
    torch.set_num_threads(config.threads)
    prior = open_prior(Wish("a person", prior=config.prior))
    errors(prior, config)
    judge = load_judge()
    pictures = samples(prior, config)
    made, real = [], []
    for prompt, picture in zip(PROMPTS, pictures, strict=True):
        said = understand(prompt).statements
        bust = build_bust(sample_from(said, 0)[0], thin=True)
        seen = render_albedo(compile_scene(labelled(bust.parts)), bust_camera(bust.bounds, 0.0, 64)).rgb
        made.append(agreement(judge, picture[None], said))
        real.append(agreement(judge, seen.permute(2, 0, 1)[None], said))
    print(f"agreement with the prompts: samples {np.mean(made):.3f}, engine {np.mean(real):.3f}")
    rows = [torch.cat(list(pictures[k : k + 8]), dim=2) for k in range(0, len(pictures), 8)]
    write_png((torch.cat(rows, dim=1).permute(1, 2, 0) * 255 + 0.5).to(torch.uint8).numpy(), config.out)


def errors(prior, config: Config) -> None:
    shards = sorted(config.data.glob("*.safetensors"))[-config.held_out :]
    data = {name: torch.cat(column) for name, column in read(shards).items()}
    generator, numbers = torch.Generator().manual_seed(0), np.random.default_rng(0)
    pictures, angles, true = batch(data, Training(batch=config.count), generator)
    said = [list(choose(row, numbers, 6).values()) for row in true.numpy()]
    told = prior.encode_text([""] * config.count)
    facts = type(told)(pooled=condition(said, default_model().config))
    clean = prior.encode(pictures)
    away = angles + torch.tensor([math.pi, 0.0])
    print("t      six statements   nothing said   wrong view")
    for level in (0.15, 0.3, 0.5, 0.7, 0.9, 0.98):
        t = torch.full((config.count,), level)
        noise = torch.randn(clean.shape, generator=generator)
        alpha, sigma = prior.levels(t)
        noisy = add_noise(clean, noise, alpha, sigma)
        a, s = (x.view(-1, 1, 1, 1) for x in (alpha, sigma))
        wanted = a * noise - s * clean
        asked = [(facts, angles), (told, angles), (facts, away)]
        found = [float((prior.predict(noisy, t, text, view) - wanted).square().mean()) for text, view in asked]
        print(f"{level:.2f}   " + "         ".join(f"{error:.4f}" for error in found))


def samples(prior, config: Config) -> Tensor:
    """One front view of each of `PROMPTS` (24, 3, S, S) by DDIM with guidance from an unknown view."""
    count = len(PROMPTS)
    text = joined([prior.encode_text(list(PROMPTS)), prior.encode_text([""] * count)])
    view = torch.zeros(count, 2)
    angles = torch.cat([view, torch.full_like(view, math.nan)])
    x = torch.randn(count, *prior.latent, generator=torch.Generator().manual_seed(0))
    times = torch.linspace(0.99, 0.0, config.steps + 1)
    for now, then in pairwise(times):
        t, after = now.expand(count), then.expand(count)
        alpha, sigma = prior.levels(t)
        answer = prior.predict(x.repeat(2, 1, 1, 1), t.repeat(2), text, angles)
        noises = noise_from(answer, prior.answer, x.repeat(2, 1, 1, 1), alpha.repeat(2), sigma.repeat(2))
        told, untold = noises.chunk(2)
        noise = guide(told, untold, config.scale)
        clean = clean_from(noise, x, alpha, sigma).clamp(-1, 1)
        x = add_noise(clean, noise, *prior.levels(after))
    return prior.decode(clean)


if __name__ == "__main__":
    main(tyro.cli(Config))
