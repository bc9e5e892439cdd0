"""Train what turns planes of 64 cells into planes of 128: first the detail, then the diffusion that invents it.

    python scripts/train_upsampler.py --part detail    --autoencoder outputs/ae/dec/average.safetensors
    python scripts/train_upsampler.py --part upsampler --autoencoder outputs/ae/dec/average.safetensors
    python scripts/train_upsampler.py --part export

`detail` reads charts at full resolution, so that planes of 128 cells explain the labelled points as well as they
can: the truth of the upsampler, which sees the base planes alone. The same command resumes exactly.
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
from avatar3d.cascade.blocks import bilinear
from avatar3d.cascade.busts import Busts, load_busts
from avatar3d.cascade.charts import chart_tensor
from avatar3d.cascade.patches import draw_patches, patch_loss, surface_points
from avatar3d.cascade.points_loss import draw_points, points_loss, total_variation
from avatar3d.cascade.training import Schedule, train
from avatar3d.cascade.upsampler import DetailConfig, DetailNet, Upsampler
from avatar3d.cascade.weights import AUTOENCODER_KIND, DETAIL_KIND, UPSAMPLER_KIND, save_upsampler
from avatar3d.diffusion.draws import step_generator
from avatar3d.diffusion.levels import alpha_sigma
from avatar3d.weights import load_state, load_tensors

ARRAYS = ("points", "distance", "colors", "labels", "charts", "pictures", "bounds")
AUGMENT = 0.35
"""Most noise added to the base planes, in their standard deviations."""


@dataclass(frozen=True)
class Config:
    part: Literal["detail", "upsampler", "export"]
    data: Path = Path("outputs/bust")
    autoencoder: Path = Path("outputs/ae/dec/average.safetensors")
    autoencoder_model: AutoEncoderConfig = AutoEncoderConfig()
    out: Path = Path("outputs/up")
    """Each part has a folder of its own in it."""
    schedule: Schedule = field(default_factory=lambda: Schedule(steps=1500))
    batch: int = 2
    points: int = 8192
    patch_weight: float = 2.0
    """Of the image-space loss, against 1 for the labelled points."""
    held_out: int = 16
    seed: int = 0
    device: str = "cpu"


def main(config: Config) -> None:
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
    torch.set_flush_denormal(True)  # arithmetic on subnormal numbers is many times slower on CPUs
    sizes = DetailConfig(channels=config.autoencoder_model.field.channels)
    upsampler = Upsampler(sizes)
    if config.part == "export":
        state = load_tensors(config.out / "upsampler" / "average.safetensors", UPSAMPLER_KIND)[0]
        load_state(upsampler, state, config.out)
        path = save_upsampler(upsampler)
        print(f"wrote {path}, {path.stat().st_size / 1e6:.1f} MB")
        return
    busts = load_busts(config.data, ARRAYS)
    autoencoder = AutoEncoder(config.autoencoder_model)
    load_state(autoencoder, load_tensors(config.autoencoder, AUTOENCODER_KIND)[0], config.autoencoder)
    autoencoder.to(config.device).eval().requires_grad_(False)
    torch.manual_seed(config.seed)
    detail = DetailNet(sizes).to(config.device)
    if config.part == "detail":
        loss, remark = detail_loss(detail, autoencoder, busts, config), held_out_of(autoencoder, busts, config)
        train(detail, loss, config.schedule, config.out / "detail", DETAIL_KIND, remark)
        return
    state = load_tensors(config.out / "detail" / "average.safetensors", DETAIL_KIND)[0]
    load_state(detail, state, config.out)
    detail.eval().requires_grad_(False)
    measure(upsampler, detail, autoencoder, busts)
    upsampler.to(config.device)
    loss = upsampler_loss(upsampler, detail, autoencoder, busts, config)
    train(upsampler, loss, config.schedule, config.out / "upsampler", UPSAMPLER_KIND)


def base_planes(autoencoder: AutoEncoder, busts: Busts, rows: np.ndarray, device: str) -> tuple[Tensor, Tensor]:
    """Planes (B, 3, C, 64, 64) of the encoded avatars, and their charts."""
    charts = chart_tensor(busts["charts"][rows]).to(device)
    with torch.no_grad():
        return autoencoder.planes(autoencoder.encoder(charts)[0].float()).float(), charts


def detail_loss(detail: DetailNet, autoencoder: AutoEncoder, busts: Busts, config: Config):
    """Step -> losses of fine planes on labelled points and on patches of pictures."""

    def loss(step: int) -> dict[str, Tensor]:
        generator = step_generator(config.seed, 3, step)
        rows = torch.randperm(len(busts) - config.held_out, generator=generator)[: config.batch].numpy()
        batch = draw_points(busts, rows, config.points, generator, config.device)
        patches = draw_patches(busts, rows, generator)
        with torch.autocast(config.device.split(":")[0], torch.bfloat16):
            base, charts = base_planes(autoencoder, busts, rows, config.device)
            planes = detail(base, charts).float()
            losses = points_loss(planes, autoencoder.field, batch)
            at, seen = surface_points(planes.detach(), autoencoder.field, patches)
            losses["patch"] = config.patch_weight * patch_loss(planes, autoencoder.field, patches, at, seen)
        losses["variation"] = 1e-3 * total_variation(planes)
        return losses

    return loss


def held_out_of(autoencoder: AutoEncoder, busts: Busts, config: Config):
    """(step, model) -> losses of bilinear and of fine planes on held-out avatars."""
    rows = np.arange(len(busts) - config.held_out, len(busts))[:8]

    def remark(step: int, model: nn.Module) -> str:
        batch = draw_points(busts, rows, 8192, step_generator(config.seed, 99, 0), config.device)
        with torch.autocast(config.device.split(":")[0], torch.bfloat16):
            base, charts = base_planes(autoencoder, busts, rows, config.device)
            fine = points_loss(model(base, charts).float(), autoencoder.field, batch)
            coarse = points_loss(bilinear(base, charts.shape[-1]), autoencoder.field, batch)
        return "held out " + "  ".join(f"{k} {fine[k]:.4f} (bilinear {coarse[k]:.4f})" for k in fine)

    return remark


def measure(upsampler: Upsampler, detail: DetailNet, autoencoder: AutoEncoder, busts: Busts) -> None:
    """Set the scales: standard deviations of the detail and of the base planes, for each plane and channel."""
    rows = np.arange(0, len(busts), max(1, len(busts) // 24))[:24]
    parts = [base_planes(autoencoder, busts, np.array([row]), "cpu") for row in rows]
    with torch.no_grad():
        details = torch.cat([detail(base, charts) - bilinear(base, charts.shape[-1]) for base, charts in parts])
    upsampler.deviation.copy_(details.std(dim=(0, -2, -1)).clamp_min(1e-4)[..., None, None])
    bases = torch.cat([base for base, _ in parts])
    upsampler.spread.copy_(bases.std(dim=(0, -2, -1)).clamp_min(1e-4)[..., None, None])


def upsampler_loss(
    upsampler: Upsampler, detail: DetailNet, autoencoder: AutoEncoder, busts: Busts, config: Config
):
    """Step -> squared error of the predicted detail, and losses of the planes that it gives."""

    def loss(step: int) -> dict[str, Tensor]:
        generator = step_generator(config.seed, 4, step)
        rows = torch.randperm(len(busts) - config.held_out, generator=generator)[: config.batch].numpy()
        batch = draw_points(busts, rows, config.points, generator, config.device)
        patches = draw_patches(busts, rows, generator)
        t = 0.02 + 0.97 * torch.rand(len(rows), generator=generator)
        level = AUGMENT * torch.rand(len(rows), generator=generator)
        with torch.autocast(config.device.split(":")[0], torch.bfloat16):
            base, charts = base_planes(autoencoder, busts, rows, config.device)
            coarse = bilinear(base, charts.shape[-1])
            with torch.no_grad():
                fine = detail(base, charts).float()
            target = (fine - coarse) / upsampler.deviation
            noise = torch.randn(target.shape, generator=generator)
            alpha, sigma = (x[:, None, None, None, None] for x in alpha_sigma(t))
            blur = level[:, None, None, None, None] * upsampler.spread
            augmented = base + blur * torch.randn(base.shape, generator=generator)
            predicted = upsampler(alpha * target + sigma * noise, t, augmented, level).float()
            planes = coarse + upsampler.deviation * predicted
            on_points = points_loss(planes, autoencoder.field, batch)
            at, seen = surface_points(fine, autoencoder.field, patches)
            on_patches = patch_loss(planes, autoencoder.field, patches, at, seen)
        return {
            "detail": 0.2 * (predicted - target).square().mean(),
            **on_points,
            "patch": config.patch_weight * on_patches,
        }

    return loss


if __name__ == "__main__":
    main(tyro.cli(Config))
