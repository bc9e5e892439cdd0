"""Train the prior that ships: a small diffusion model of pictures of busts, told what is said of them and the
view.

    python scripts/make_views.py --out outputs/views
    python scripts/train_prior.py --data outputs/views --out outputs/prior
    cp -r outputs/prior/prior assets/weights/

The network is diffusers' `UNet2DConditionModel` without cross-attention: what is said (a vector of statements,
as the text model reads it from a prompt) and the camera's angles enter with the time. Pictures are 64 x 64,
folded into 12 channels of 32 x 32. The mean picture of what is said (`distill.hint`) over the background, which
the network sees in four more channels, is taken away before noise is added: it learns what is beyond. The same
command resumes exactly; `--start` begins with the weights of another prior. `--compile` makes it twice as fast
after some minutes.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import tyro
from diffusers import DDIMScheduler, UNet2DConditionModel
from PIL import Image
from torch import Tensor
from torch.nn.functional import avg_pool2d, pixel_unshuffle

from avatar3d.cascade.training import Schedule, train
from avatar3d.conditioning.model import condition
from avatar3d.conditioning.prompt import default_model
from avatar3d.diffusion.draws import step_generator
from avatar3d.diffusion.guidance import guide
from avatar3d.distill.diffusers_door import load_prior
from avatar3d.distill.hint import Hint, centers, fit, load_hint, save_hint
from avatar3d.distill.pipelines import DiffusersPrior
from avatar3d.distill.prior import Text, add_noise, clean_from, joined, noise_from
from avatar3d.distillation import statements_of
from avatar3d.engine.captions import choose
from avatar3d.engine.statements import statements
from avatar3d.render.meshes import BACKDROP
from avatar3d.weights import load_tensors

STREAM = 7
FOLD = 2
LOUD = 0.3
"""Deviation of the first weights of what is said and of the view."""


@dataclass(frozen=True)
class Config:
    data: Path = Path("outputs/views")
    out: Path = Path("outputs/prior")
    batch: int = 32
    channels: tuple[int, ...] = (96, 160, 224)
    unsaid: float = 0.12
    """Share of pictures of which nothing is said."""
    untold: float = 0.1
    """Share of pictures of which the background is not told."""
    high: float = 0.75
    """Share of noise levels that are drawn from t = 0.4 to 1, where distillation asks most."""
    start: Path | None = None
    """Folder of a prior whose network training begins with."""
    lit: float = 0.25
    """Share of pictures in light; the others show material colors."""
    held_out: int = 4
    """Last shards that are not trained on."""
    seed: int = 0
    device: str = "cpu"
    threads: int = 1
    compile: bool = False
    schedule: Schedule = field(default_factory=lambda: Schedule(5000, 8e-4, 200, 0.998, 250))


def main(config: Config) -> None:
    torch.set_num_threads(config.threads)
    shards = sorted(config.data.glob("*.safetensors"))[: -config.held_out or None]
    data = {name: torch.cat(column) for name, column in read(shards).items()}
    print(f"{len(data['true'])} people in {data['angles'].shape[1]} views", flush=True)
    torch.manual_seed(config.seed)
    model = build(config).to(config.device, memory_format=torch.channels_last)
    hint = prepare_hint(data, config).to(next(model.parameters()))
    if config.compile:
        model.compile(dynamic=False)
    scheduler = make_scheduler()
    text = default_model().config

    def loss(step: int) -> dict[str, Tensor]:
        generator = step_generator(config.seed, STREAM, step)
        numbers = np.random.default_rng((config.seed, STREAM, step))
        pictures, angles, true, behind = batch(data, config, generator)
        said = [choose(row, numbers) for row in true.numpy()]
        silent = torch.from_numpy(numbers.random(config.batch) < config.unsaid)
        said = [{} if nothing else s for s, nothing in zip(said, silent, strict=True)]
        facts = condition([list(s.values()) for s in said], text)
        secret = torch.from_numpy(numbers.random(config.batch) < config.untold)
        behind = torch.where(secret[:, None], 0.5, behind)
        times = draw_times(config, len(scheduler.alphas_cumprod), generator)
        noise = torch.randn(config.batch, 3 * FOLD**2, 64 // FOLD, 64 // FOLD, generator=generator)
        arguments = (values.to(config.device) for values in (pictures, angles, facts, behind, times, noise))
        pictures, angles, facts, behind, times, noise = arguments
        over = hint.over(facts, angles, behind)
        rest = pixel_unshuffle(2 * pictures - 1, FOLD) - centers(over, 64, FOLD)
        noisy = torch.cat([scheduler.add_noise(rest, noise, times), over], 1)
        noisy = noisy.contiguous(memory_format=torch.channels_last)
        with torch.autocast(config.device, dtype=torch.bfloat16):
            answer = model(noisy, times, None, class_labels=facts_and_view(facts, angles)).sample
        wanted = scheduler.get_velocity(rest, noise, times)
        return {"velocity": (answer.float() - wanted).square().mean()}

    def after(step: int, averaged: torch.nn.Module) -> str:
        save_prior(averaged, scheduler, hint, text.statements, config.out / "prior")
        sheet(load_prior(config.out / "prior", encode_person=statements_of), data, config.out / "samples.png")
        return ""

    config.out.mkdir(parents=True, exist_ok=True)
    train(model, loss, config.schedule, config.out, "avatar3d.prior", after)


def draw_times(config: Config, count: int, generator: torch.Generator) -> Tensor:
    """Steps of the scheduler (B,) from 0 to `count` - 1."""
    low = torch.rand(config.batch, generator=generator) >= config.high
    t = torch.rand(config.batch, generator=generator)
    return (torch.where(low, 0.4 * t, 0.4 + 0.6 * t) * (count - 1)).round().long()


def build(config: Config) -> UNet2DConditionModel:
    """The network; only a handful of the many statements are said at a time, so their embedding begins larger than
    layers do by default, about as loud as the time's.
    """
    depth = len(config.channels)
    model = UNet2DConditionModel(
        sample_size=64 // FOLD,
        in_channels=3 * FOLD**2 + 4,
        out_channels=3 * FOLD**2,
        down_block_types=("DownBlock2D",) * depth,
        up_block_types=("UpBlock2D",) * depth,
        mid_block_type="UNetMidBlock2D",
        block_out_channels=config.channels,
        layers_per_block=1,
        norm_num_groups=8,
        class_embed_type="projection",
        projection_class_embeddings_input_dim=len(statements()) + 4,
        resnet_time_scale_shift="scale_shift",
    )
    torch.nn.init.normal_(model.class_embedding.linear_1.weight, std=LOUD)
    if config.start is not None:
        model.load_state_dict(UNet2DConditionModel.from_pretrained(config.start / "unet").float().state_dict())
    return model


def make_scheduler() -> DDIMScheduler:
    return DDIMScheduler(
        1000, beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction", clip_sample=False
    )


def read(shards: list[Path]) -> dict[str, list[Tensor]]:
    rows = [load_tensors(path, "avatar3d.views")[0] for path in shards]
    return {name: [row[name] for row in rows] for name in rows[0]}


def prepare_hint(data: dict[str, Tensor], config: Config, times: int = 3) -> Hint:
    """Fitted to people of whom some of what is true is said; made once and kept in `hint.safetensors`."""
    path = config.out / "hint.safetensors"
    if path.exists():
        return load_hint(path)
    numbers, text = np.random.default_rng((config.seed, STREAM)), default_model().config
    people, views = data["angles"].shape[:2]
    facts, angles, pictures = [], [], []
    small = avg_pool2d(data["pictures"].flatten(0, 1).float() / 255, FOLD).unflatten(0, (people, views))
    for _ in range(times):
        said = [list(choose(row, numbers).values()) for row in data["true"].numpy()]
        told = condition(said, text).repeat_interleave(views, 0)
        mirrored = torch.from_numpy(numbers.random(people) < 0.5)
        turned = data["angles"] * torch.where(mirrored[:, None, None], torch.tensor([-1.0, 1.0]), 1.0)
        shown = torch.where(mirrored[:, None, None, None, None], small.flip(-1), small)
        facts.append(told)
        angles.append(turned.flatten(0, 1))
        pictures.append(shown.flatten(0, 1))
    hint = fit(torch.cat(facts), torch.cat(angles), torch.cat(pictures))
    save_hint(hint, path)
    return hint


def batch(
    data: dict[str, Tensor], config: Config, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Pictures (B, 3, S, S) in [0, 1] over random backgrounds, angles (B, 2), what is true (B, S), and the colors
    of the backgrounds (B, 3)."""
    people, views = data["angles"].shape[:2]

    def draw(*shape: int) -> Tensor:
        return torch.rand(config.batch, *shape, generator=generator)

    who = torch.randint(people, (config.batch,), generator=generator)
    view = torch.randint(views, (config.batch,), generator=generator)
    picture = data["pictures"][who, view].float() / 255
    normal = data["normals"][who, view].float() / 127
    angles = data["angles"][who, view].clone()
    color, alpha = picture[:, :3], picture[:, 3:]
    color = torch.where(draw(1, 1, 1) < config.lit, lit(color, normal, angles, draw), color)
    plain = color.new_tensor(BACKDROP)[:, None, None]
    background = torch.where(draw(1, 1, 1) < 0.25, plain, draw(3, 1, 1))
    color = (color + (1 - alpha) * background).clamp(0, 1)  # colors are stored times alpha
    mirrored = draw() < 0.5
    angles[:, 0] = torch.where(mirrored, -angles[:, 0], angles[:, 0])
    shown = torch.where(mirrored[:, None, None, None], color.flip(-1), color)
    return shown, angles, data["true"][who], background[:, :, 0, 0]


def lit(color: Tensor, normal: Tensor, angles: Tensor, draw) -> Tensor:
    """Colors under a lamp somewhere near the camera, lambertian (Poole et al. 2022, DreamFusion, equation 7)."""
    azimuth, elevation = angles.unbind(-1)
    towards = torch.stack([azimuth.sin() * elevation.cos(), elevation.sin(), azimuth.cos() * elevation.cos()], -1)
    lamp = torch.nn.functional.normalize(towards + 1.2 * (draw(3) - 0.5), dim=-1)
    ambient = 0.2 + 0.5 * draw(1, 1, 1)
    facing = (normal * lamp[..., None, None]).sum(1, keepdim=True).clamp_min(0)
    return color * (ambient + (1 - ambient) * facing)


def facts_and_view(facts: Tensor, angles: Tensor) -> Tensor:
    """What the network is told: (B, S) statements, then sine and cosine of azimuth and elevation."""
    azimuth, elevation = angles.unbind(-1)
    view = torch.stack([azimuth.sin(), azimuth.cos(), elevation.sin(), elevation.cos()], -1)
    return torch.cat([facts, view.to(facts)], -1)


@torch.no_grad()
def sample(prior: DiffusersPrior, text: Text, angles: Tensor, scale: float, steps: int, seed: int) -> Tensor:
    """One picture of each row (B, 3, S, S) over the backdrop, by DDIM with guidance."""
    count = len(angles)
    told = joined([text, prior.encode_text([""] * count)])
    behind = torch.tensor(BACKDROP).expand(2 * count, 3)
    x = torch.randn(count, *prior.latent, generator=torch.Generator().manual_seed(seed))
    clean = x
    for now, then in pairwise(torch.linspace(0.99, 0.0, steps + 1)):
        t, after = now.expand(count), then.expand(count)
        alpha, sigma = prior.levels(t)
        answer = prior.predict(x.repeat(2, 1, 1, 1), t.repeat(2), told, angles.repeat(2, 1), None, behind)
        noises = noise_from(answer, prior.answer, x.repeat(2, 1, 1, 1), alpha.repeat(2), sigma.repeat(2))
        with_words, without = noises.chunk(2)
        noise = guide(with_words, without, scale)
        clean = clean_from(noise, x, alpha, sigma).clamp(-1, 1)
        x = add_noise(clean, noise, *prior.levels(after))
    return prior.decode(clean)


def sheet(prior: DiffusersPrior, data: dict[str, Tensor], path: Path) -> None:
    """Three people in eight views, one seed for all."""
    numbers = np.random.default_rng(3)
    rows = numbers.integers(len(data["true"]), size=3)
    said = [list(choose(data["true"][row].numpy(), numbers, 6).values()) for row in rows]
    facts = condition(said, default_model().config).repeat_interleave(8, 0)
    azimuth = torch.arange(8).repeat(3) * (2 * math.pi / 8)
    pictures = sample(prior, Text(pooled=facts), torch.stack([azimuth, 0 * azimuth], -1), 2.0, 16, 5)
    grid = pictures.view(3, 8, 3, 64, 64).permute(0, 3, 1, 4, 2).reshape(192, 512, 3)
    Image.fromarray((grid * 255 + 0.5).to(torch.uint8).numpy()).save(path)
    path.with_suffix(".txt").write_text("\n".join(map(str, said)))


def save_prior(model, scheduler: DDIMScheduler, hint: Hint, names: tuple[str, ...], folder: Path) -> None:
    """In diffusers' folder layout, float16."""
    own = build_like(model)
    own.load_state_dict(model.state_dict())
    own.half().save_pretrained(folder / "unet")
    scheduler.save_pretrained(folder / "scheduler")
    save_hint(hint, folder / "hint.safetensors")
    index = {
        "_class_name": "AvatarPrior",
        "unet": ["diffusers", "UNet2DConditionModel"],
        "scheduler": ["diffusers", "DDIMScheduler"],
    }
    (folder / "model_index.json").write_text(json.dumps(index, indent=2))
    (folder / "statements.json").write_text(json.dumps(names))


def build_like(model) -> UNet2DConditionModel:
    return UNet2DConditionModel.from_config(model.config)


if __name__ == "__main__":
    main(tyro.cli(Config))
