"""Train the base of the cascade: regression from specs to latents, and diffusion of what it leaves open.

    python scripts/train_base.py --autoencoder outputs/ae/joint/average.safetensors
    python scripts/train_base.py --autoencoder outputs/ae/joint/average.safetensors --part export

The residuals are those of leave-one-out predictions, so the network learns the regression's errors on people
whom it did not see, not on those it was fitted to. The same command resumes exactly.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import tyro
from torch import Tensor, nn

from avatar3d.cascade.autoencoder import AutoEncoder, AutoEncoderConfig
from avatar3d.cascade.base import Base, BaseConfig, BaseDenoiser, given, velocity
from avatar3d.cascade.busts import load_busts
from avatar3d.cascade.charts import chart_tensor
from avatar3d.cascade.regression import fit, relevance_of
from avatar3d.cascade.training import Schedule, train
from avatar3d.cascade.weights import AUTOENCODER_KIND, BASE_KIND, save_base
from avatar3d.diffusion.draws import step_generator
from avatar3d.diffusion.levels import T_MAX, T_MIN
from avatar3d.weights import load_state, load_tensors


@dataclass(frozen=True)
class Config:
    part: Literal["train", "export"] = "train"
    data: Path = Path("outputs/bust")
    autoencoder: Path = Path("outputs/ae/joint/average.safetensors")
    out: Path = Path("outputs/base")
    autoencoder_model: AutoEncoderConfig = AutoEncoderConfig()
    widths: tuple[int, int] = (96, 160)
    """Channels of the network at 16 and 8 cells."""
    schedule: Schedule = field(default_factory=lambda: Schedule(steps=2000, rate=1e-3))
    batch: int = 32
    drop: float = 0.1
    """Share of the conditions that are left out, for guidance."""
    held_out: int = 16
    """Avatars at the end of the data that are only looked at."""
    seed: int = 0
    device: str = "cpu"


def main(config: Config) -> None:
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
    torch.set_flush_denormal(True)  # arithmetic on subnormal numbers is many times slower on CPUs
    latents, vectors = encoded(config)
    seen = len(latents) - config.held_out
    base, left_out = fit_base(latents[:seen], vectors[:seen], config)
    variance = (latents[:seen] - latents[:seen].mean(0)).square().mean()
    one_out = 1 - (latents[:seen] - left_out).square().mean() / variance
    unseen = 1 - (latents[seen:] - base.mean(vectors[seen:])).square().mean() / variance
    size = sum(p.numel() for p in base.denoiser.parameters()) / 1e6
    print(f"{seen} avatars, {size:.2f} M parameters", flush=True)
    print(f"variance that the regression explains: left out {one_out:.3f}, held out {unseen:.3f}", flush=True)
    if config.part == "export":
        state = load_tensors(config.out / "average.safetensors", BASE_KIND + "_denoiser")[0]
        load_state(base.denoiser, state, config.out)
        export(base)
        return
    seen_part = (latents[:seen], left_out, vectors[:seen])
    held_part = (latents[seen:], base.mean(vectors[seen:]), vectors[seen:])
    loss = loss_of(base, *seen_part, config)
    remark = held_out_of(base, *held_part)
    train(base.denoiser, loss, config.schedule, config.out, BASE_KIND + "_denoiser", remark)


def encoded(config: Config) -> tuple[Tensor, Tensor]:
    """Latents (N, 3, L, 16, 16) and spec vectors (N, D) of the data."""
    busts = load_busts(config.data, ("charts", "vectors"))
    model = AutoEncoder(config.autoencoder_model)
    load_state(model, load_tensors(config.autoencoder, AUTOENCODER_KIND)[0], config.autoencoder)
    rows = np.array_split(np.arange(len(busts)), max(1, len(busts) // 16))
    with torch.no_grad():
        latents = torch.cat([model.encoder(chart_tensor(busts["charts"][r]))[0] for r in rows])
    return latents, torch.from_numpy(busts["vectors"])


def fit_base(latents: Tensor, vectors: Tensor, config: Config) -> tuple[Base, Tensor]:
    """A base with an untrained network, and the leave-one-out means (N, 3, L, 16, 16)."""
    flat = latents.flatten(1)
    regression, left_out = fit(vectors, flat, relevance=relevance_of(vectors, flat))
    left_out = left_out.view_as(latents)
    torch.manual_seed(config.seed)
    sizes = BaseConfig(latent=latents.shape[2], condition=vectors.shape[1], widths=config.widths)
    denoiser = BaseDenoiser(sizes).to(config.device)
    base = Base(
        regression,
        deviation=(latents - left_out).square().mean(0).sqrt(),
        spread=latents.std(0),
        center=latents.mean(0),
        denoiser=denoiser,
    )
    return base, left_out


def loss_of(base: Base, latents: Tensor, means: Tensor, vectors: Tensor, config: Config):
    """Step -> mean squared error of v-predictions."""
    residuals = ((latents - means) / base.deviation).clamp(-5.0, 5.0)
    normalized = (means - base.center) / base.spread

    def loss(step: int) -> dict[str, Tensor]:
        generator = step_generator(config.seed, 2, step)
        rows = torch.randint(len(residuals), (config.batch,), generator=generator)
        noise = torch.randn(residuals[rows].shape, generator=generator)
        even = (torch.arange(config.batch) + torch.rand(1, generator=generator)) / config.batch
        t = T_MIN + (T_MAX - T_MIN) * even
        kept = (torch.rand(config.batch, 1, generator=generator) >= config.drop).float()
        x, v = velocity(residuals[rows], noise, t)
        inputs = (x, t, normalized[rows], vectors[rows])
        x, t, mean, vector, kept, v = (tensor.to(config.device) for tensor in (*inputs, kept, v))
        return {"v": _error(base.denoiser, x, t, mean, vector, kept, v)}

    return loss


def _error(
    model: nn.Module, x: Tensor, t: Tensor, mean: Tensor, vector: Tensor, kept: Tensor, v: Tensor
) -> Tensor:
    with torch.autocast(x.device.type, torch.bfloat16):
        predicted = model(x, t, mean, given(vector, kept))
    return (predicted.float() - v).square().mean()


def held_out_of(base: Base, latents: Tensor, means: Tensor, vectors: Tensor):
    """(step, model) -> the loss on held-out avatars, beside that of a Gaussian, as a remark."""
    residuals = ((latents - means) / base.deviation).clamp(-5.0, 5.0)
    normalized = (means - base.center) / base.spread
    generator = step_generator(0, 98, 0)
    times = torch.linspace(0.05, 0.95, 10)
    draws = []
    for t in times:
        noise = torch.randn(residuals.shape, generator=generator)
        draws.append(velocity(residuals, noise, t.expand(len(latents))))

    def remark(step: int, model: nn.Module) -> str:
        ones = torch.ones(len(latents), 1)
        errors, plain = [], []
        for t, (x, v) in zip(times, draws, strict=True):
            errors.append(_error(model, x, t.expand(len(x)), normalized, vectors, ones, v))
            plain.append(v.square().mean())
        return f"held out {torch.stack(errors).mean():.4f}, a Gaussian {torch.stack(plain).mean():.4f}"

    return remark


def export(base: Base) -> None:
    """Regression, scales and network as float16, ready to ship."""
    path = save_base(base)
    print(f"wrote {path}, {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main(tyro.cli(Config))
