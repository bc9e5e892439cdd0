"""Measure the prior that ships on people whom its training never saw.

    python scripts/evaluate_prior.py --data outputs/views
    python scripts/evaluate_prior.py --data outputs/views --prior outputs/prior/prior

Prints, for several noise levels, the mean squared error of the velocity with six statements, with none, and with
the wrong view; then the share of what 24 prompts say that the judge sees in samples from the front, and in the
engine's own pictures; then Frechet distances of the judge's features to pictures of the held-out people: of
samples that are told six statements of each and the view, of the hints alone, and of pictures of as many other
people. Writes samples.png.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from evaluate_distill import PROMPTS, agreement
from train_prior import Config as Training
from train_prior import batch, read, sample

from avatar3d.conditioning.model import condition
from avatar3d.conditioning.prompt import default_model, sample_from, understand
from avatar3d.distill.hint import centers
from avatar3d.distill.pipelines import DiffusersPrior
from avatar3d.distill.prior import Text, add_noise
from avatar3d.distillation import Wish, open_prior
from avatar3d.engine.bust import build_bust
from avatar3d.engine.captions import choose
from avatar3d.evaluation.distributions import frechet_distance
from avatar3d.evaluation.judge import Judge, embeddings, load_judge
from avatar3d.fields.box import bust_camera
from avatar3d.render.images import write_png
from avatar3d.render.meshes import BACKDROP, render_albedo
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
    views: int = 4
    """Of each held-out person, for the Frechet distances."""
    out: Path = Path("outputs/prior_samples.png")
    threads: int = 1


@torch.no_grad()
def main(config: Config) -> None:
    torch.set_num_threads(config.threads)
    prior = open_prior(Wish("a person", prior=config.prior))
    held_out, known = (people(config, part) for part in (slice(-config.held_out, None), slice(config.held_out)))
    errors(prior, held_out, config)
    judge = load_judge()
    front = torch.zeros(len(PROMPTS), 2)
    pictures = sample(prior, prior.encode_text(list(PROMPTS)), front, config.scale, config.steps, 0)
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
    frechet(prior, judge, held_out, known, config)


def people(config: Config, part: slice) -> dict[str, Tensor]:
    """Some shards of the data set."""
    return {n: torch.cat(c) for n, c in read(sorted(config.data.glob("*.safetensors"))[part]).items()}


def errors(prior: DiffusersPrior, data: dict[str, Tensor], config: Config) -> None:
    generator, numbers = torch.Generator().manual_seed(0), np.random.default_rng(0)
    pictures, angles, true, behind = batch(data, Training(batch=config.count), generator)
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
        found = [
            float((prior.predict(noisy, t, text, view, None, behind) - wanted).square().mean())
            for text, view in asked
        ]
        print(f"{level:.2f}   " + "         ".join(f"{error:.4f}" for error in found))


def frechet(
    prior: DiffusersPrior, judge: Judge, held_out: dict[str, Tensor], known: dict[str, Tensor], config: Config
) -> None:
    """Of `config.views` views of each held-out person."""
    numbers = np.random.default_rng(1)
    shown = slice(None, None, held_out["angles"].shape[1] // config.views)
    said = [list(choose(row, numbers, 6).values()) for row in held_out["true"].numpy()]
    facts = condition(said, default_model().config).repeat_interleave(config.views, 0)
    angles = held_out["angles"][:, shown].flatten(0, 1)
    pairs = zip(facts.split(32), angles.split(32), strict=True)
    made = [sample(prior, Text(pooled=f), a, config.scale, config.steps, n) for n, (f, a) in enumerate(pairs)]
    sets = {"samples": torch.cat(made), "other people": over_backdrop(known, shown)}
    if prior.hint is not None:
        over = prior.hint.over(facts, angles, torch.tensor(BACKDROP).expand(len(facts), 3))
        sets["hints"] = prior.decode(centers(over, prior.size, prior.fold))
    real = embeddings(judge, over_backdrop(held_out, shown)).numpy()
    for name, pictures in sets.items():
        distance = frechet_distance(embeddings(judge, pictures).numpy(), real)
        print(f"Frechet distance: {name} {distance:.2f} ({len(pictures)} pictures)")


def over_backdrop(data: dict[str, Tensor], shown: slice) -> Tensor:
    """Pictures (N, 3, S, S) of some views of all people."""
    rgba = data["pictures"][:, shown].flatten(0, 1).float() / 255
    return rgba[:, :3] + (1 - rgba[:, 3:]) * torch.tensor(BACKDROP)[:, None, None]


if __name__ == "__main__":
    main(tyro.cli(Config))
