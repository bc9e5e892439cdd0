"""Train the refiner of head textures on pairs: what the auto-encoder's field shows of a head, and the truth.

    python scripts/train_refiner.py --data outputs/bust --held outputs/bust-held --out outputs/refiner
    python scripts/train_refiner.py --export --data outputs/bust --held outputs/bust-held --out outputs/refiner

Pairs are made from the busts of scripts/make_dataset.py and kept in the output folder. The same command resumes
exactly. At the end a table compares it with simpler fills on held-out avatars; `--export` ships the weights.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
import tyro
from safetensors.numpy import load_file, save_file
from torch import Tensor

from avatar3d.body.shape import shape_body
from avatar3d.cascade.autoencoder import AutoEncoder, AutoEncoderConfig
from avatar3d.cascade.bake import look_up
from avatar3d.cascade.busts import Busts, load_busts
from avatar3d.cascade.charts import chart_tensor
from avatar3d.cascade.refiner import (
    INPUT,
    REFINER_KIND,
    Refiner,
    RefinerConfig,
    compose,
    continued,
    head_maps,
    head_texels,
    refine,
    save_refiner,
    small_maps,
)
from avatar3d.cascade.training import Schedule, train
from avatar3d.cascade.weights import AUTOENCODER_KIND, load_autoencoder
from avatar3d.diffusion.draws import step_generator
from avatar3d.engine.attach import keep_faces, surface_part
from avatar3d.engine.bust import StillFigure
from avatar3d.engine.shoes import sole_height
from avatar3d.engine.skin import skin_material
from avatar3d.engine.skin_canvas import SIZE, head_canvas, head_layout
from avatar3d.evaluation.images import psnr
from avatar3d.fields.decoder import TriPlaneField
from avatar3d.spec import AvatarSpec, spec_from_vector
from avatar3d.structures import Material, Part, TriPlane
from avatar3d.weights import load_state, load_tensors

PAIRS_IN_FILE = 16
WINDOW, WINDOWS = 128, 2
"""Texels along each side of the pieces of textures that a step compares, and how many."""
STREAM = 4
"""Of this program's random numbers, see `cascade.training`."""


@dataclass(frozen=True)
class Config:
    data: Path = Path("outputs/bust")
    held: Path | None = None
    """Busts that are only looked at; without it the last `held_count` of `data`."""
    out: Path = Path("outputs/refiner")
    autoencoder: Path | None = None
    """An average.safetensors of scripts/train_autoencoder.py; without it the weights that ship."""
    pairs: int = 240
    held_count: int = 32
    blur: float = 0.1
    """Noise on the latents, in standard deviations over the avatars: samples are not clean either."""
    model: RefinerConfig = RefinerConfig()
    schedule: Schedule = field(default_factory=lambda: Schedule(steps=800, rate=2e-3, save_every=50, average=0.99))
    batch: int = 4
    seed: int = 0
    export: bool = False
    """Write the trained weights where they ship."""


@dataclass(frozen=True)
class Pairs:
    """N heads."""

    seen: np.ndarray
    """(N, 256, 256, 4) uint8: what the field shows, and how much of it counts."""
    truth: np.ndarray
    """(N, 1024, 1024, 3) uint8."""


def main(config: Config) -> None:
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
    torch.manual_seed(config.seed)
    model = Refiner(config.model)
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters", flush=True)
    pairs, held = make_pairs(config)
    schedule = replace(config.schedule, steps=0) if config.export else config.schedule
    average = train(model, loss_of(model, pairs, config), schedule, config.out, REFINER_KIND, remark_on(held))
    model.load_state_dict(average)
    model.eval()
    print(table(model, pairs, held))
    if config.export:
        path = save_refiner(model)
        print(f"wrote {path}, {path.stat().st_size / 1e6:.1f} MB")


def make_pairs(config: Config) -> tuple[Pairs, Pairs]:
    """Training and held-out pairs; those that are in the output folder already are read."""
    names = ("charts", "bounds", "vectors")
    if config.held:
        busts = load_busts(config.data, names, config.pairs)
        held = load_busts(config.held, names, config.held_count)
    else:
        busts = load_busts(config.data, names)
        held = _rows(busts, range(max(len(busts) - config.held_count, 1), len(busts)))
        busts = _rows(busts, range(min(config.pairs, len(busts) - len(held))))
    model = load_model(config.autoencoder)
    deviation = encoded(model, busts["charts"][:64]).std(dim=0)
    folder = config.out / "pairs"
    folder.mkdir(parents=True, exist_ok=True)
    return tuple(
        read_or_make(model, some, folder, name, deviation * noise, config.seed)
        for name, some, noise in (("train", busts, config.blur), ("held", held, 0.0))
    )  # type: ignore[return-value]


def _rows(busts: Busts, rows: range) -> Busts:
    return Busts({k: v[rows] for k, v in busts.arrays.items()}, tuple(busts.people[r] for r in rows))


def load_model(path: Path | None) -> AutoEncoder:
    """The auto-encoder that ships, or a trained average."""
    if path is None:
        return load_autoencoder()
    model = AutoEncoder(AutoEncoderConfig())
    load_state(model, load_tensors(path, AUTOENCODER_KIND)[0], path)
    return model.eval().requires_grad_(False)


def encoded(model: AutoEncoder, charts: np.ndarray) -> Tensor:
    """(N, 3, L, 16, 16) latents."""
    with torch.no_grad():
        return torch.cat(
            [model.encoder(chart_tensor(some))[0] for some in np.array_split(charts, len(charts) // 8 + 1)]
        )


def read_or_make(model: AutoEncoder, busts: Busts, folder: Path, name: str, noise: Tensor, seed: int) -> Pairs:
    """All pairs of some busts, made a file at a time."""
    files = []
    for first in range(0, len(busts), PAIRS_IN_FILE):
        end = min(first + PAIRS_IN_FILE, len(busts))
        path = folder / f"{name}-{first:05d}-{end - first:03d}.safetensors"
        if not path.exists():
            rows = [pair_of(model, busts, row, noise, seed) for row in range(first, end)]
            arrays = {
                "seen": np.stack([seen for seen, _ in rows]),
                "truth": np.stack([truth for _, truth in rows]),
            }
            temporary = path.with_name(f".{path.name}.tmp")
            save_file(arrays, temporary)
            os.replace(temporary, path)
            print(f"{name}: {end} of {len(busts)} pairs", flush=True)
        files.append(load_file(path))
    return Pairs(*(np.concatenate([file[key] for file in files]) for key in ("seen", "truth")))


def pair_of(model: AutoEncoder, busts: Busts, row: int, noise: Tensor, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """What the field of a bust shows of its head, and the head's texture."""
    generator = torch.Generator().manual_seed(seed * 100_003 + row)
    latent = encoded(model, busts["charts"][row : row + 1])
    with torch.no_grad():
        planes = model.planes(latent + noise * torch.randn(latent.shape, generator=generator))[0]
    bounds = torch.from_numpy(busts["bounds"][row])
    part = head_of(spec_of(busts, row))
    seen = look_up(TriPlaneField(TriPlane(planes, bounds, "autoencoder"), model.field), part, bounds, INPUT)
    texture = part.mesh.material.base_color_texture
    assert texture is not None
    return _bytes(torch.cat([seen.rgb, seen.weight[..., None]], dim=2)), _bytes(texture)


def spec_of(busts: Busts, row: int) -> AvatarSpec:
    """The spec that a bust was made of."""
    return spec_from_vector(busts["vectors"][row], int(busts.people[row]["spec"]["seed"]))


def head_of(spec: AvatarSpec) -> Part:
    """The part `head_skin` where it stands in the bust."""
    uv, head, _ = head_layout()
    plain = surface_part(StillFigure(shape_body(spec)), "body", "body", "body", Material("skin"))
    material = skin_material(spec, head_canvas(), "head_skin")
    lift = torch.tensor([0.0, sole_height(spec), 0.0])
    mesh = replace(plain.mesh, vertices=plain.mesh.vertices + lift, uv=uv, material=material)
    return keep_faces(replace(plain, name="head_skin", mesh=mesh), head)


def _bytes(values: Tensor) -> np.ndarray:
    return (values.clamp(0, 1) * 255).round().byte().numpy()


def _floats(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values.astype(np.float32) / 255)


def inputs_of(pairs: Pairs, rows: list[int]) -> tuple[Tensor, Tensor]:
    """(B, 3, 256, 256) without gaps and (B, 256, 256) weights."""
    seen = _floats(pairs.seen[rows])
    filled = torch.stack([continued(one[..., :3], one[..., 3]) for one in seen])
    return filled.permute(0, 3, 1, 2), seen[..., 3]


def loss_of(model: Refiner, pairs: Pairs, config: Config):
    """Step -> losses on a window of some textures."""
    maps, small, shown = head_maps(), small_maps(), head_texels()

    def loss(step: int) -> dict[str, Tensor]:
        generator = step_generator(config.seed, STREAM, step)
        rows = torch.randint(len(pairs.seen), (config.batch,), generator=generator).tolist()
        base, gains = model(*inputs_of(pairs, rows), small)
        squares, sizes, count = base.new_zeros(()), base.new_zeros(()), 0
        for _ in range(WINDOWS):
            top, left = (torch.randint(SIZE // WINDOW, (2,), generator=generator) * WINDOW).tolist()
            here = (slice(top, top + WINDOW), slice(left, left + WINDOW))
            truth = _floats(pairs.truth[rows][:, here[0], here[1]]).permute(0, 3, 1, 2)
            error = (compose(base, gains, maps, top, left, WINDOW) - truth)[:, :, shown[here]]
            squares, sizes = squares + error.square().sum(), sizes + error.abs().sum()
            count += error.numel()
        return {"absolute": sizes / max(count, 1), "square": 10 * squares / max(count, 1)}

    return loss


def remark_on(held: Pairs):
    """(step, model) -> PSNR on a few held-out heads."""

    def remark(step: int, model: Refiner) -> str:
        rows = range(min(8, len(held.seen)))
        scores = [score(refine(model, *_halves(held.seen[r])), held.truth[r], held.seen[r]) for r in rows]
        return f"held out {np.mean([s[0] for s in scores]):.2f} dB"

    return remark  # type: ignore[return-value]


def _halves(seen: np.ndarray) -> tuple[Tensor, Tensor]:
    values = _floats(seen)
    return values[..., :3], values[..., 3]


def score(texture: Tensor, truth: np.ndarray, seen: np.ndarray) -> tuple[float, float, float]:
    """PSNR in dB over all texels of the head, over those that the field shows, and over the others."""
    shown = head_texels()
    weight = torch.from_numpy(seen[..., 3]).repeat_interleave(4, dim=0).repeat_interleave(4, dim=1) > 127
    true = _floats(truth)
    return tuple(psnr(texture, true, mask) for mask in (shown, shown & weight, shown & ~weight))  # type: ignore


def table(model: Refiner, pairs: Pairs, held: Pairs) -> str:
    """PSNR of the refiner and of simpler fills on the held-out heads."""
    average = _floats(pairs.truth[:64].mean(axis=0))

    def flat(rgb: Tensor, weight: Tensor) -> Tensor:
        return _mean_color(rgb, weight).expand(SIZE, SIZE, 3)

    def raw(rgb: Tensor, weight: Tensor) -> Tensor:
        return _large(torch.where(weight[..., None] > 0.5, rgb, _mean_color(rgb, weight)))

    def inpainted(rgb: Tensor, weight: Tensor) -> Tensor:
        return _large(continued(rgb, weight))

    def moved_average(rgb: Tensor, weight: Tensor) -> Tensor:
        large = _large(weight[..., None])[..., 0] * head_texels()
        return (average + _mean_color(rgb, weight) - _mean_color(average, large)).clamp(0, 1)

    fills = {
        "flat fill of the mean color": flat,
        "field's colors, gaps flat": raw,
        "field's colors, gaps inpainted": inpainted,
        "average texture, moved to the mean color": moved_average,
        "refiner": lambda rgb, weight: refine(model, rgb, weight),
    }
    lines = [f"| {len(held.seen)} held-out heads | all | shown | hidden |", "|---|---|---|---|"]
    for name, fill in fills.items():
        scores = [
            score(fill(*_halves(seen)), truth, seen) for seen, truth in zip(held.seen, held.truth, strict=True)
        ]
        lines.append(
            f"| {name} | " + " | ".join(f"{np.nanmean(c):.2f} dB" for c in zip(*scores, strict=True)) + " |"
        )
    return "\n".join(lines)


def _mean_color(rgb: Tensor, weight: Tensor) -> Tensor:
    return (rgb * weight[..., None]).sum(dim=(0, 1)) / weight.sum().clamp_min(1.0)


def _large(image: Tensor) -> Tensor:
    planes = image.permute(2, 0, 1)[None]
    return torch.nn.functional.interpolate(planes, size=(SIZE, SIZE), mode="bilinear")[0].permute(1, 2, 0)


if __name__ == "__main__":
    main(tyro.cli(Config))
