"""Train the tri-plane auto-encoder on a data set of busts.

    cd outputs/ae
    python scripts/train_autoencoder.py --part joint --data ../bust --out joint
    python scripts/train_autoencoder.py --part decoder --data ../bust --out dec --start joint/average.safetensors
    python scripts/train_autoencoder.py --part export --start dec/average.safetensors

`joint` trains everything end to end. `decoder` keeps the encoder, and with it the latents, and trains what reads
them: a diffusion over the latents can be trained at the same time. The same command resumes exactly.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import tyro
from torch import nn

from avatar3d.cascade.autoencoder import AutoEncoder, AutoEncoderConfig
from avatar3d.cascade.busts import Busts, load_busts
from avatar3d.cascade.charts import chart_tensor
from avatar3d.cascade.points_loss import draw_points, points_loss, total_variation
from avatar3d.cascade.training import Schedule, train
from avatar3d.cascade.weights import AUTOENCODER_KIND, save_autoencoder
from avatar3d.diffusion.draws import step_generator
from avatar3d.weights import load_state, load_tensors

ARRAYS = ("points", "distance", "colors", "labels", "charts")


@dataclass(frozen=True)
class Config:
    part: Literal["joint", "decoder", "export"]
    data: Path = Path("outputs/bust")
    out: Path = Path("outputs/ae")
    start: Path | None = None
    """Weights to begin with (an average.safetensors of this program)."""
    model: AutoEncoderConfig = AutoEncoderConfig()
    schedule: Schedule = field(default_factory=Schedule)
    batch: int = 8
    """Avatars in a step."""
    points: int = 4096
    """Points of each of them."""
    held_out: int = 16
    """Avatars at the end of the data that are only looked at."""
    divergence: float = 1e-4
    """Weight of the latent's Kullback-Leibler divergence from a normal distribution."""
    variation: float = 1e-3
    """Weight of the planes' total variation."""
    seed: int = 0
    device: str = "cpu"


def main(config: Config) -> None:
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
    torch.set_flush_denormal(True)  # arithmetic on subnormal numbers is many times slower on CPUs
    if config.part == "export":
        export(config)
        return
    busts = load_busts(config.data, ARRAYS)
    torch.manual_seed(config.seed)
    model = AutoEncoder(config.model).to(config.device)
    if config.start:
        load_state(model, load_tensors(config.start, AUTOENCODER_KIND)[0], config.start)
    if config.part == "decoder":
        model.encoder.requires_grad_(False)
    print(f"{len(busts)} avatars, {sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters", flush=True)
    train(
        model,
        loss_of(model, busts, config),
        config.schedule,
        config.out,
        AUTOENCODER_KIND,
        held_out_of(busts, config),
    )


def loss_of(model: AutoEncoder, busts: Busts, config: Config):
    """Step -> losses of a batch that the step's number draws."""
    count = len(busts) - config.held_out

    def loss(step: int) -> dict[str, torch.Tensor]:
        generator = step_generator(config.seed, 1, step)
        rows = torch.randperm(count, generator=generator)[: config.batch].numpy()
        batch = draw_points(busts, rows, config.points, generator, config.device)
        with torch.autocast(config.device.split(":")[0], torch.bfloat16):
            mean, log_variance = model.encoder(chart_tensor(busts["charts"][rows]).to(config.device))
            mean, log_variance = mean.float(), log_variance.float()
            noise = torch.randn(mean.shape, generator=generator).to(config.device)
            planes = model.planes(mean + (0.5 * log_variance).exp() * noise)
            losses = points_loss(planes.float(), model.field, batch)
        losses["variation"] = config.variation * total_variation(planes)
        if config.part == "joint":
            divergence = 0.5 * (mean.square() + log_variance.exp() - log_variance - 1.0).mean()
            losses["divergence"] = config.divergence * divergence
        return losses

    return loss


def held_out_of(busts: Busts, config: Config):
    """(step, model) -> the same losses on the held-out avatars, as a remark."""
    rows = np.arange(len(busts) - config.held_out, len(busts))

    def remark(step: int, model: nn.Module) -> str:
        batch = draw_points(busts, rows, 8192, step_generator(config.seed, 99, 0), config.device)
        with torch.autocast(config.device.split(":")[0], torch.bfloat16):
            mean, _ = model.encoder(chart_tensor(busts["charts"][rows]).to(config.device))  # type: ignore[operator]
            losses = points_loss(model.planes(mean).float(), model.field, batch)  # type: ignore[operator, arg-type]
        return "held out " + "  ".join(f"{name} {value:.4f}" for name, value in losses.items())

    return remark


def export(config: Config) -> None:
    """The weights as float16, ready to ship."""
    assert config.start, "--part export needs --start"
    tensors, _ = load_tensors(config.start, AUTOENCODER_KIND)
    path = save_autoencoder(tensors, config.model)
    print(f"wrote {path}, {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main(tyro.cli(Config))
