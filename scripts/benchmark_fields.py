"""Volume rendering of a tri-plane beside the dense renderers that people use: speed at the same image error.

    OMP_WAIT_POLICY=PASSIVE python scripts/benchmark_fields.py

All draw the same planes with the same decoder and the same density. Peers take even and then importance samples
on every ray: one is written here as EG3D does it, one is nerfstudio's samplers and renderer, when installed.
Errors are PSNR to 768 even samples per ray. Ratios come from processor seconds, which other programs disturb less
than the clock. Without files a head-like shape is fitted first, which takes some seconds. Runs on a GPU as well.
"""

from __future__ import annotations

import importlib.util
import math
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from torch import Tensor

from avatar3d.camera import frame_points
from avatar3d.cascade.weights import load_autoencoder
from avatar3d.fields.decoder import Decoder, DecoderConfig, TriPlaneField
from avatar3d.fields.density import laplace_density
from avatar3d.fields.files import load_triplane
from avatar3d.fields.triplane import from_box, look_up, to_box
from avatar3d.render.distance_grid import distance_grid, surface_vertices
from avatar3d.render.images import contact_sheet, to_bytes, write_png
from avatar3d.render.rays import Rays, box_span, camera_rays
from avatar3d.render.trace import trace_field
from avatar3d.render.volume import BETA, collect, render_field
from avatar3d.render.walk import walk
from avatar3d.structures import PART_KINDS, TriPlane

Colors = Callable[[Rays], Tensor]
BACKGROUND = 0.8


@dataclass(frozen=True)
class FieldBenchmarkConfig:
    """What to measure."""

    planes: Path | None = None
    """A tri-plane file; without one a shape is fitted."""
    autoencoder: Path | None = None
    """Weights of the auto-encoder that it belongs to; without them the ones that ship."""
    size: int = 256
    cells: int = 64
    """Of the planes that are fitted."""
    train_rays: int = 4096
    """Of a training step."""
    repeats: int = 3
    pictures: Path | None = None
    """PNG of all pictures."""


class DenseField(TriPlaneField):
    """The same field as plain torch writes it: `grid_sample` and dense layers."""

    def dense(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Distances (N,) and colors (N, 3)."""
        features = look_up(self.triplane.planes[None], to_box(points, self.bounds)[None])
        distance, colors, _ = self.decoder.rows(features[0].flatten(0, 1).T)
        return distance * self.unit, colors.sigmoid()


def head(points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Distance, colors and labels of a skull with nose, ears, hair, neck and spectacles, roughly; metres."""

    def ball(
        x: float, y: float, z: float, radius: float, squash: tuple[float, float, float] = (1, 1, 1)
    ) -> Tensor:
        offset = (points - points.new_tensor([x, y, z])) / points.new_tensor(squash)
        return (offset.norm(dim=-1) - radius) * min(squash)

    def ring(x: float) -> Tensor:
        offset = points - points.new_tensor([x, 1.62, 0.105])
        return torch.hypot(offset[:, :2].norm(dim=-1) - 0.026, offset[:, 2]) - 0.003

    neck = torch.hypot(points[:, 0], points[:, 2] + 0.02) - 0.055
    skin = torch.stack([
        ball(0, 1.62, 0, 0.1, (0.8, 1.15, 1)), ball(0, 1.6, 0.1, 0.016), ball(0.085, 1.61, 0, 0.025),
        ball(-0.085, 1.61, 0, 0.025), torch.maximum(neck, points[:, 1] - 1.56),
        ball(0, 1.3, -0.02, 0.17, (1.3, 0.8, 0.6)),
    ]).amin(0)  # fmt: skip
    hair = torch.maximum(ball(0, 1.65, -0.02, 0.105, (0.9, 1.1, 1)), 1.62 - points[:, 1] + 0.6 * points[:, 2])
    glasses = torch.minimum(ring(0.034), ring(-0.034))
    all_parts = torch.stack([skin, hair, glasses])
    distance, part = all_parts.min(0)
    strands = 0.5 + 0.5 * torch.sin(900 * points[:, 0] + 5 * torch.sin(60 * points[:, 1]))
    colors = points.new_tensor([[0.85, 0.62, 0.5], [0.25, 0.15, 0.1], [0.1, 0.1, 0.15]])[part]
    colors = (colors * (1 + 0.3 * torch.sin(120 * points)) * torch.where(part == 1, strands, 1.0)[:, None]).clamp(
        0, 1
    )
    return distance, colors, points.new_tensor([0, 6, 8]).long()[part]


def fitted(config: FieldBenchmarkConfig, device: torch.device, steps: int = 400) -> tuple[TriPlane, Decoder]:
    """Planes and decoder of `head`."""
    torch.manual_seed(0)
    bounds = torch.tensor([[-0.25, 1.3, -0.25], [0.25, 1.8, 0.25]], device=device)
    planes = (0.02 * torch.randn(3, 16, config.cells, config.cells)).to(device).requires_grad_()
    decoder = Decoder(DecoderConfig()).to(device)
    field = TriPlaneField(TriPlane(planes, bounds, "fitted"), decoder)
    optimizer = torch.optim.Adam([{"params": [planes], "lr": 0.02}, {"params": decoder.parameters(), "lr": 4e-3}])
    pool = from_box(2 * torch.rand(400000, 3, device=device) - 1, bounds)
    near = pool[(head(pool)[0].abs() < 0.02).nonzero()[:, 0]]
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] *= 0.5 ** (1 / 120) if step > 150 else 1
        rows = torch.randint(len(near), (6144,), device=device)
        points = torch.cat(
            [
                near[rows] + 0.004 * torch.randn(6144, 3, device=device),
                pool[torch.randint(len(pool), (2048,), device=device)],
            ]
        )
        distance, colors, labels = head(points)
        sample = field(points)
        loss = 40 * (sample.distance - distance).clamp(-0.05, 0.05).abs().mean()
        loss = loss + (sample.rgb - colors).abs()[:6144].mean()
        loss = loss + 0.05 * torch.nn.functional.cross_entropy(sample.logits[:6144], labels[:6144])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return TriPlane(planes.detach(), bounds, "fitted"), decoder


def eg3d(field: DenseField, even: int, more: int, block: int = 8192) -> Colors:
    """Even samples, then importance samples, composed with the means of neighbours (EG3D's ray marcher)."""

    def march(t: Tensor, distance: Tensor, colors: Tensor) -> tuple[Tensor, Tensor]:
        density = laplace_density(distance, BETA)
        stopped = 1 - torch.exp(-0.5 * (density[:, 1:] + density[:, :-1]) * t.diff(dim=-1))
        through = torch.cumprod(torch.cat([torch.ones_like(stopped[:, :1]), 1 - stopped[:, :-1] + 1e-10], -1), -1)
        weights = stopped * through
        rgb = (weights[..., None] * 0.5 * (colors[:, 1:] + colors[:, :-1])).sum(1)
        return weights, rgb + (1 - weights.sum(-1, keepdim=True)) * BACKGROUND

    def look(rays: Rays, t: Tensor) -> tuple[Tensor, Tensor]:
        points = (rays.origins[:, None] + t[..., None] * rays.directions[:, None]).view(-1, 3)
        distance, colors = field.dense(points)
        return distance.view(t.shape), colors.view(*t.shape, 3)

    def render(rays: Rays) -> Tensor:
        enter, leave = box_span(rays, field.bounds)
        share = torch.linspace(0, 1, even, device=enter.device)
        t = enter[:, None] + share * (leave - enter).clamp_min(0)[:, None]
        distance, colors = look(rays, t)
        weights, rgb = march(t, distance, colors)
        if not more:
            return rgb
        with torch.no_grad():
            # EG3D smooths the weights before it samples them
            wide = torch.nn.functional.max_pool1d(weights[:, None], 2, 1, 1)
            wide = torch.nn.functional.avg_pool1d(wide, 2, 1)[:, 0] + 0.01
            total = torch.nn.functional.pad(wide.cumsum(-1), (1, 0))
            wanted = (torch.arange(more, device=t.device) + 0.5) / more * total[:, -1:]
            cell = torch.searchsorted(total, wanted, right=True).clamp(1, even - 1)
            low, high = total.gather(1, cell - 1), total.gather(1, cell)
            start, stop = t.gather(1, cell - 1), t.gather(1, cell)
            fine = start + (wanted - low) / (high - low).clamp_min(1e-8) * (stop - start)
        fine_distance, fine_colors = look(rays, fine)
        both, order = torch.cat([t, fine], -1).sort(-1)
        distance = torch.cat([distance, fine_distance], -1).gather(1, order)
        colors = torch.cat([colors, fine_colors], 1).gather(1, order[..., None].expand(-1, -1, 3))
        return march(both, distance, colors)[1]

    return lambda rays: torch.cat(
        [render(rays[slice(n, n + block // 8)]) for n in range(0, len(rays), block // 8)]
    )


def nerfstudio(field: DenseField) -> Colors:
    """nerfstudio's uniform and PDF samplers, weights and RGB renderer."""
    from nerfstudio.cameras.rays import RayBundle
    from nerfstudio.model_components.ray_samplers import PDFSampler, UniformSampler
    from nerfstudio.model_components.renderers import RGBRenderer

    first, second = UniformSampler(48).eval(), PDFSampler(48, include_original=True).eval()
    renderer = RGBRenderer(background_color=torch.full((3,), BACKGROUND, device=field.bounds.device)).train()

    def look(samples: object) -> tuple[Tensor, Tensor]:
        places = samples.frustums.get_positions()  # type: ignore[attr-defined]
        distance, colors = field.dense(places.reshape(-1, 3))
        shape = places.shape[:-1]
        return laplace_density(distance, BETA).view(*shape, 1), colors.view(*shape, 3)

    def render(rays: Rays) -> Tensor:
        enter, leave = box_span(rays, field.bounds)
        pixel = torch.ones_like(enter)[:, None]
        bundle = RayBundle(
            rays.origins,
            rays.directions,
            pixel,
            nears=enter[:, None],
            fars=torch.maximum(leave, enter + 1e-4)[:, None],
        )
        samples = first(bundle)
        weights = samples.get_weights(look(samples)[0])
        samples = second(bundle, samples, weights)
        density, colors = look(samples)
        return renderer(rgb=colors, weights=samples.get_weights(density))

    return lambda rays: torch.cat([render(rays[slice(n, n + 1024)]) for n in range(0, len(rays), 1024)])


def seconds(call: Callable[[], object], repeats: int, device: torch.device) -> tuple[float, float]:
    """Least processor seconds and least seconds on the clock of a call, after one to warm up."""
    best = [math.inf, math.inf]
    for n in range(repeats + 1):
        begun = time.process_time(), time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize()
        if n:
            best = [min(best[0], time.process_time() - begun[0]), min(best[1], time.perf_counter() - begun[1])]
    # a GPU's work is not in the processor's time
    return (best[1] if device.type == "cuda" else best[0]), best[1]


def psnr(image: Tensor, reference: Tensor) -> float:
    """Decibels."""
    return -10 * math.log10(max(float((image - reference).square().mean()), 1e-12))


def compare(config: FieldBenchmarkConfig, field: DenseField) -> None:
    """The table of speeds and errors."""
    device = field.bounds.device
    grid = distance_grid(field)
    camera = frame_points(surface_vertices(grid), 0.3, 0.05, width=config.size, height=config.size)
    rays, _ = camera_rays(camera, field.bounds)
    generator = torch.Generator().manual_seed(0)
    batch = rays[torch.randperm(len(rays), generator=generator)[: config.train_rays].to(device)]

    def ours(pace: float) -> Colors:
        def render(rays: Rays) -> Tensor:
            light = collect(field, rays, walk(grid, rays, BETA, pace=pace), BETA)
            return light.rgb + (1 - light.alpha)[:, None] * BACKGROUND

        return render

    rows: list[tuple[str, Colors]] = [("EG3D-like, torch, 48 + 48", eg3d(field, 48, 48))]
    rows += [(f"EG3D-like, torch, {n} + {n}", eg3d(field, n, n)) for n in (24, 16)]
    if importlib.util.find_spec("nerfstudio"):
        rows.append(("nerfstudio samplers, 48 + 48", nerfstudio(field)))
    else:
        print("nerfstudio is not installed: its row is left out")
    rows += [("ours, pace 0.65", ours(0.65)), ("ours", ours(1.0))]
    with torch.no_grad():
        truth = eg3d(field, 768, 0)(rays)
        images = {name: call(rays) for name, call in rows}
        clocks = {name: seconds(lambda call=call: call(rays), config.repeats, device) for name, call in rows}  # type: ignore[misc]
        nodes = walk(grid, rays, BETA)
        finer = walk(grid, rays, BETA, pace=0.65)
        counts = {"ours": len(nodes.t) / len(rays), "ours, pace 0.65": len(finer.t) / len(rays)}
    weights = [field.triplane.planes.requires_grad_(), *field.decoder.parameters()]

    def train(call: Colors) -> None:
        torch.autograd.grad(call(batch).square().mean(), weights)

    trained = {name: seconds(lambda call=call: train(call), config.repeats, device) for name, call in rows}  # type: ignore[misc]
    field.triplane.planes.requires_grad_(False)
    base, train_base = clocks[rows[0][0]][0], trained[rows[0][0]][0]
    print(
        f"\n{config.size} x {config.size}, beta {BETA * 1e3:.0f} mm, planes {tuple(field.triplane.planes.shape)}"
    )
    print(f"{'':32s}  PSNR dB   rays/s   ratio   rays/s fwd+bwd   ratio   samples/ray")
    for name, _ in rows:
        samples = counts.get(name) or sum(map(int, name.split(",")[-1].split("+")))
        print(
            f"{name:32s} {psnr(images[name], truth):8.1f} {len(rays) / clocks[name][1]:8.0f}"
            f" {base / clocks[name][0]:7.1f} {len(batch) / trained[name][1]:16.0f}"
            f" {train_base / trained[name][0]:7.1f} {samples:13.1f}"
        )
    with torch.no_grad():
        making = seconds(lambda: distance_grid(field), config.repeats, device)
        soft = seconds(lambda: render_field(field, camera), config.repeats, device)
        hard = seconds(lambda: trace_field(field, camera, grid=grid), config.repeats, device)
        whole = seconds(lambda: trace_field(field, camera), config.repeats, device)
    print("seconds on the processor / on the clock")
    print(f"  grid of distances, once per field                {making[0]:6.2f} / {making[1]:.2f}")
    print(f"  whole volume picture with normals and grid       {soft[0]:6.2f} / {soft[1]:.2f}")
    print(f"  surface picture with normals, grid made before   {hard[0]:6.2f} / {hard[1]:.2f}")
    print(f"  surface picture with normals and grid            {whole[0]:6.2f} / {whole[1]:.2f}")
    limits(field, device, clocks["ours"][0], len(nodes.t))
    if config.pictures:
        shape = (config.size, config.size, 3)
        shown = {"768 even": truth, **images}
        pictures = [to_bytes(image.reshape(shape)) for image in shown.values()]
        errors = [to_bytes((10 * (image - truth).abs()).reshape(shape)) for image in shown.values()]
        write_png(
            contact_sheet([*pictures, *errors], len(shown), [*shown, *("error x 10" for _ in shown)]),
            config.pictures,
        )


def limits(field: DenseField, device: torch.device, ours: float, samples: int) -> None:
    """What the machine could do at best, on paper, for the samples that ours takes."""
    config = field.decoder.config
    width, features = config.width, 3 * config.channels
    flops = 2 * (features * width + width * width + width * (4 + len(PART_KINDS)))
    gathered, written = 4 * 4 * features, 4 * (features + 2 * width + 4 + len(PART_KINDS))
    side = 2048 if device.type == "cpu" else 8192
    a, source = torch.randn(side, side, device=device), torch.randn(1 << 26, device=device)
    target = torch.empty_like(source)
    gemm = 2 * side**3 / seconds(lambda: a @ a, 4, device)[0]
    copy = 2 * 4 * len(source) / seconds(lambda: target.copy_(source), 4, device)[0]
    print("\nlimits, for one processor's time" if device.type == "cpu" else "\nlimits")
    print(f"  measured: {gemm / 1e9:.0f} GFLOP/s in a large matrix product, {copy / 1e9:.1f} GB/s in a copy")
    print(
        f"  a sample: {flops / 1e3:.1f} kFLOP, {gathered} bytes gathered (planes fit the cache), {written} written"
    )
    for name, least in (
        ("arithmetic", flops / gemm),
        ("memory, if all went there", (gathered + 2 * written) / copy),
    ):
        print(f"  {name:26s} {1e9 * least:6.0f} ns a sample, {samples * least / ours:6.1%} of what ours takes")
    print(f"  ours                       {1e9 * ours / samples:6.0f} ns a sample")


def main(config: FieldBenchmarkConfig) -> None:
    """Print machine and tables."""
    # far from surfaces gradients are so small that dense renderers would spend most of their time on subnormals
    torch.set_flush_denormal(True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name() if device.type == "cuda" else platform.processor() or platform.machine()
    print(
        f"machine   {name}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    print(f"load      {os.getloadavg()[0]:.2f} (above 0.3 rays per second are lower bounds)")
    if config.planes:
        triplane, decoder = load_triplane(config.planes), load_autoencoder(config.autoencoder).field
        triplane = TriPlane(
            triplane.planes.float().to(device), triplane.bounds.float().to(device), triplane.decoder
        )
        decoder = decoder.to(device)
    else:
        begun = time.perf_counter()
        triplane, decoder = fitted(config, device)
        print(f"fitted a head-like shape in {time.perf_counter() - begun:.1f} s")
    compare(config, DenseField(triplane, decoder))


if __name__ == "__main__":
    main(tyro.cli(FieldBenchmarkConfig))
