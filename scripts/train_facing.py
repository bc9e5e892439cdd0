"""Train the network that tells from which side a bust is seen (`evaluation.facing`), for the Janus rate.

    python scripts/make_views.py --out outputs/views
    python scripts/train_facing.py --data outputs/views --out outputs/facing

It sees the pictures that the prior learns from, but it never sees the prior's. It writes facing.safetensors and
prints its error on held-out people.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

import torch
import tyro
from torch import Tensor
from train_prior import Config as Pictures
from train_prior import batch, read

from avatar3d.cascade.training import Schedule, train
from avatar3d.diffusion.draws import step_generator
from avatar3d.evaluation.facing import Facing, azimuths, judge_turn, save_facing


@dataclass(frozen=True)
class Config:
    data: Path = Path("outputs/views")
    out: Path = Path("outputs/facing")
    batch: int = 48
    held_out: int = 4
    seed: int = 0
    schedule: Schedule = field(default_factory=lambda: Schedule(1500, 2e-3, 50, 0.99, 250))


def main(config: Config) -> None:
    shards = sorted(config.data.glob("*.safetensors"))
    data, held = (
        {name: torch.cat(column) for name, column in read(part).items()}
        for part in (shards[: -config.held_out], shards[-config.held_out :])
    )
    pictures = Pictures(batch=config.batch)
    torch.manual_seed(config.seed)
    model = Facing()

    def loss(step: int) -> dict[str, Tensor]:
        generator = step_generator(config.seed, 8, step)
        rgb, angles, *_ = batch(data, pictures, generator)
        azimuth = angles[:, 0]
        wanted = torch.stack([azimuth.sin(), azimuth.cos()], 1)
        rgb = rgb + 0.1 * torch.rand(len(rgb), 1, 1, 1, generator=generator) * torch.randn(
            rgb.shape, generator=generator
        )
        return {"azimuth": (model(rgb) - wanted).square().mean()}

    def after(step: int, averaged: torch.nn.Module) -> str:
        rgb, angles, *_ = batch(held, Pictures(batch=512), step_generator(1, 8, 0))
        gap = azimuths(model, rgb) - angles[:, 0]
        error = torch.atan2(gap.sin(), gap.cos()).abs()
        save_facing(model, config.out / "facing.safetensors")
        wrong = judge_turn(model, rgb, angles[:, 0])
        return (
            f"held out: median {math.degrees(float(error.median())):.1f} degrees, 95 % within "
            f"{math.degrees(float(error.quantile(0.95))):.1f}; faces seen from behind {wrong.faces_behind} of 512"
        )

    train(model, loss, config.schedule, config.out, "avatar3d.facing.training", after)


if __name__ == "__main__":
    main(tyro.cli(Config))
