"""A radiance field from pictures of all sides (Mildenhall et al. 2020, NeRF; Sun et al. 2022, DirectVoxGO)."""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from avatar3d.camera import PORTRAIT_FOV, orbit
from avatar3d.errors import InputError
from avatar3d.evaluation.images import psnr
from avatar3d.export.static_glb import write_static_glb
from avatar3d.fields.hash_grid import HashConfig, HashField
from avatar3d.fields.mlp import MlpConfig, MlpField
from avatar3d.fields.plane_field import PlaneConfig, PlaneField
from avatar3d.fields.voxels import VoxelConfig, VoxelField
from avatar3d.mesh.textured import Meshing, textured_mesh
from avatar3d.reconstruct.transforms import Pictures, TransformsError, pixel_rays, read_transforms
from avatar3d.render.clips import write_mp4
from avatar3d.render.images import to_bytes
from avatar3d.render.occupancy import Occupancy, occupancy
from avatar3d.render.radiance import light_of_rays, render_radiance
from avatar3d.render.radiance_surface import radiance_surface
from avatar3d.render.rays import Rays
from avatar3d.render.regularize import binary_entropy, total_variation
from avatar3d.runs import require_parent, write_bytes, write_json

Trained = VoxelField | HashField | PlaneField | MlpField
FieldName = Literal["voxels", "hash", "planes", "mlp"]
RATES = {"voxels": 0.05, "hash": 1e-2, "planes": 5e-3, "mlp": 1e-3}
"""Of Adam, at the beginning; a tenth of it at the end."""
REFRESH = 16
"""Steps after which the occupancy is found again."""
WARM_UP = 64
"""Steps before which all of the box is looked at."""
KEPT = 0.02
"""Random share of empty cells that is looked at all the same."""
CHECKPOINT, REPORT = "checkpoint.pt", "report.json"
Step = Callable[[str, int, int], None]
"""Called with a stage's name, the steps done and the steps in all."""


@dataclass(frozen=True)
class Settings:
    """How pictures become a field and its files."""

    field: FieldName = "voxels"
    steps: int = 1500
    rays: int = 4096
    """Of each step, from all pictures at random."""
    nodes: int = 64
    """On each ray."""
    resolutions: tuple[int, ...] = (32, 64, 128)
    """Of voxels, one after the other in equal shares of the steps."""
    variation: float = 1e-4
    """Weight of the voxels' total variation."""
    entropy: float = 1e-3
    """Weight of the binary entropy of alpha, in the second half."""
    background: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Behind pictures without alpha, sRGB."""
    held_out: int = 8
    """Every so many pictures one is not trained on, but measured."""
    largest: int = 400
    """Pixels of a picture's longer side, at most."""
    radius: float | None = None
    """Half the side of the box around what the cameras look at; by default as much as they see."""
    seed: int = 0
    save_every: int = 200
    triangles: int = 20000
    texture: int = 1024
    cells: int = 128
    """Marching cubes along each side of the box."""
    frames: int = 48
    """Of the turntable; 0 for none."""
    film_size: int = 256


@dataclass(frozen=True)
class Box:
    """Where the field's box [-1, 1]^3 is in the world of the cameras."""

    center: Float[Tensor, " 3"]
    scale: float


def reconstruct(
    folder: Path, out: Path, settings: Settings | None = None, step: Step = lambda stage, done, total: None
) -> dict:
    """Pictures with cameras -> a field, and in `out`: mesh.glb, turntable.mp4, report.json and a checkpoint.

    A run that was stopped goes on where its checkpoint is, exactly. Returns the report: PSNR (dB) of held-out
    views, also of a picture of the mean color for comparison. A field without a surface gives no mesh and the
    report says why. Raises `TransformsError` for faults of the folder, or a checkpoint of other settings.
    """
    s = settings or Settings()
    pictures = read_transforms(folder, s.largest)
    train, test = split(pictures, s.held_out)
    box = looked_at(pictures, s.radius)
    require_parent(out)
    out.mkdir(exist_ok=True)
    field, grid = fit(boxed(train, box), s, out / CHECKPOINT, step)
    scores = [view_psnr(field, boxed(test, box), n, s, grid) for n in range(len(test.names))]
    report = {
        "pictures": len(pictures.names),
        "held_out": dict(zip(test.names, scores, strict=True)),
        "psnr": sum(scores) / len(scores),
        "psnr_mean_color": mean_color_psnr(train, test, s),
        "center": box.center.tolist(),
        "scale": box.scale,
        "settings": asdict(s),
    }
    report |= _files(field, grid, box, s, out, step)
    write_json(out / REPORT, report)
    return report


def split(pictures: Pictures, every: int) -> tuple[Pictures, Pictures]:
    """Pictures to train on and every `every`-th one to measure. Raises `TransformsError` for fewer than three."""
    count = len(pictures.names)
    if count < 3 or every < 2:
        raise TransformsError(
            f"{count} pictures with every {every}-th held out leave none to learn from: give more"
        )
    held = list(range(0, count, every))
    return pictures.subset([n for n in range(count) if n not in held]), pictures.subset(held)


def looked_at(pictures: Pictures, radius: float | None = None) -> Box:
    """The box around the point that is nearest to all optical axes, as large as what cameras see there.

    Raises `TransformsError` when the axes are parallel, or the point is behind the cameras.
    """
    poses = torch.stack([camera.T_world_camera for camera in pictures.cameras]).double()
    eyes, ahead = poses[:, :3, 3], poses[:, :3, 2]
    across = torch.eye(3) - ahead[:, :, None] * ahead[:, None]
    total = across.sum(0)
    if float(torch.linalg.eigvalsh(total)[0]) < 1e-3 * len(poses):
        raise TransformsError("all cameras look the same way: a field needs pictures from around")
    center = torch.linalg.solve(total, (across @ eyes[..., None]).sum(0))[:, 0]
    depth = ((center - eyes) * ahead).sum(-1)
    if float(depth.median()) <= 0:
        raise TransformsError("the cameras look away from each other: check the axes of the transform_matrix")
    camera = pictures.cameras[0]
    seen = 0.5 * min(camera.width, camera.height) / camera.focal * float(depth.median())
    return Box(center.float(), radius or seen)


def boxed(pictures: Pictures, box: Box) -> Pictures:
    """The same with cameras in coordinates of the box."""
    moved = []
    for camera in pictures.cameras:
        pose = camera.T_world_camera.clone()
        pose[:3, 3] = (pose[:3, 3] - box.center) / box.scale
        moved.append(replace(camera, T_world_camera=pose))
    return replace(pictures, cameras=tuple(moved))


def new_field(s: Settings, generator: torch.Generator) -> Trained:
    """The field that is trained, as it begins: nearly empty."""
    if s.field == "voxels":
        return VoxelField(VoxelConfig(s.resolutions[0], "none", density=-3.0))
    if s.field == "hash":
        return HashField(HashConfig(blob="none"), generator=generator)
    if s.field == "planes":
        return PlaneField(PlaneConfig(), generator=generator)
    return MlpField(MlpConfig(blob="none"), generator=generator)


def fit(pictures: Pictures, s: Settings, checkpoint: Path, step: Step) -> tuple[Trained, Occupancy]:
    """Train a field on pictures of its box. All draws of a step come from its number: resuming is exact."""
    field = new_field(s, torch.Generator().manual_seed(s.seed))
    said = _said(pictures, s)
    start, state = 0, _load(checkpoint, said)
    grid: Occupancy | None = None
    if state is not None:
        if isinstance(field, VoxelField):
            field = field.upsampled(state["model"]["grid"].shape[0])
        field.load_state_dict(state["model"])
        start = state["step"]
        if state["grid"]:
            filled, least = state["grid"]
            grid = Occupancy(filled, least, field.bounds)
    optimizer = _optimizer(field)
    if state is not None:
        optimizer.load_state_dict(state["optimizer"])
    for n in range(start, s.steps):
        generator = torch.Generator().manual_seed((s.seed * 1_000_003 + n) & 0x7FFFFFFF)
        if isinstance(field, VoxelField) and (size := resolution_at(s, n)) != field.config.resolution:
            field = field.upsampled(size)
            optimizer = _optimizer(field)
        field.anneal(n / s.steps)
        if n % REFRESH == 0 and n >= WARM_UP:
            grid = occupancy(field, generator=generator, share=KEPT)
        for group in optimizer.param_groups:
            group["lr"] = RATES[s.field] * 0.1 ** (n / s.steps)
        loss = loss_at(field, pictures, s, n, grid, generator)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if (n + 1) % s.save_every == 0 or n + 1 == s.steps:
            _save(checkpoint, said, n + 1, field, optimizer, grid)
        step("fit", n + 1, s.steps)
    return field, occupancy(field)


def resolution_at(s: Settings, step: int) -> int:
    """Voxels along a side at a step."""
    return s.resolutions[min(step * len(s.resolutions) // s.steps, len(s.resolutions) - 1)]


def loss_at(
    field: Trained,
    pictures: Pictures,
    s: Settings,
    step: int,
    grid: Occupancy | None,
    generator: torch.Generator,
) -> Float[Tensor, ""]:
    """Mean squared error of random pixels over random backgrounds (over `background` without alpha), and
    regularisers."""
    views, height, width = pictures.pixels.shape[:3]
    view = torch.randint(views, (s.rays,), generator=generator)
    pixel = torch.randint(height * width, (s.rays,), generator=generator)
    truth = pictures.pixels.view(views, height * width, 4)[view, pixel]
    behind = torch.tensor(s.background).expand(s.rays, 3)
    if pictures.has_alpha:
        behind = torch.rand(s.rays, 3, generator=generator)
    rays = pixel_rays(pictures, view, pixel)
    rgb, alpha = light_of_rays(field, rays, s.nodes, generator=generator, grid=grid)
    error = rgb + (1 - alpha)[:, None] * behind - over(truth, behind)
    loss = error.square().mean()
    if 2 * step >= s.steps:
        loss = loss + s.entropy * binary_entropy(alpha)
    if isinstance(field, VoxelField):
        loss = loss + s.variation * total_variation(field.grid, (0, 1, 2))
    return loss


def over(rgba: Float[Tensor, "*B 4"], behind: Float[Tensor, "*C 3"]) -> Float[Tensor, "*B 3"]:
    """Colors with alpha over a background."""
    return rgba[..., :3] * rgba[..., 3:] + (1 - rgba[..., 3:]) * behind


@torch.no_grad()
def view_picture(
    field: Trained, pictures: Pictures, view: int, s: Settings, grid: Occupancy
) -> Float[Tensor, "H W 3"]:
    """The field's picture of a view, over `background`."""
    height, width = pictures.pixels.shape[1:3]
    pixel = torch.arange(height * width)
    rays: Rays = pixel_rays(pictures, torch.full_like(pixel, view), pixel)
    rgb, alpha = light_of_rays(field, rays, 2 * s.nodes, grid=grid)
    return (rgb + (1 - alpha)[:, None] * torch.tensor(s.background)).view(height, width, 3)


def view_psnr(field: Trained, pictures: Pictures, view: int, s: Settings, grid: Occupancy) -> float:
    """PSNR (dB) of `view_picture` against the true one, also over `background`."""
    truth = over(pictures.pixels[view], torch.tensor(s.background))
    return psnr(view_picture(field, pictures, view, s, grid), truth)


def mean_color_psnr(train: Pictures, test: Pictures, s: Settings) -> float:
    """PSNR (dB) of held-out views against the mean color of the training views: what knowing nothing gives."""
    behind = torch.tensor(s.background)
    mean = over(train.pixels, behind).mean((0, 1, 2))
    truths = over(test.pixels, behind)
    return sum(psnr(mean.expand_as(truth), truth) for truth in truths) / len(truths)


def _optimizer(field: Trained) -> torch.optim.Adam:
    return torch.optim.Adam(field.parameters(), lr=1e-3, betas=(0.9, 0.99), eps=1e-12)


AFTERWARDS = ("save_every", "triangles", "texture", "cells", "frames", "film_size")
"""Settings that training does not depend on."""


def _said(pictures: Pictures, s: Settings) -> str:
    """What a checkpoint belongs to."""
    training = {name: value for name, value in asdict(s).items() if name not in AFTERWARDS}
    digest = hashlib.sha256(pictures.pixels.numpy().tobytes())
    for camera in pictures.cameras:
        digest.update(camera.T_world_camera.numpy().tobytes())
    return json.dumps({**training, "pictures": digest.hexdigest()}, sort_keys=True)


def _save(
    path: Path, said: str, step: int, field: Trained, optimizer: torch.optim.Optimizer, grid: Occupancy | None
) -> None:
    stream = io.BytesIO()
    state = {
        "settings": said, "step": step, "model": field.state_dict(), "optimizer": optimizer.state_dict(),
        "grid": [] if grid is None else [grid.filled, grid.least],
    }  # fmt: skip
    torch.save(state, stream)
    write_bytes(path, stream.getvalue())


def _load(path: Path, said: str) -> dict | None:
    if not path.exists():
        return None
    try:
        state = torch.load(path, weights_only=True)
    except Exception as error:  # readers raise anything on broken input
        raise TransformsError(f"{path} is damaged: delete it to begin anew") from error
    if state.get("settings") != said:
        raise TransformsError(f"{path} is of other settings or pictures: delete it, or choose another --out")
    return state


def _files(field: Trained, grid: Occupancy, box: Box, s: Settings, out: Path, step: Step) -> dict:
    """mesh.glb and turntable.mp4; what the report says of them."""
    facts: dict = {}
    try:
        made = textured_mesh(radiance_surface(field), field.bounds, Meshing(2 / s.cells, s.triangles, s.texture))
        mesh = replace(made.mesh, vertices=made.mesh.vertices * box.scale + box.center)
        write_static_glb({"reconstruction": mesh}, out / "mesh.glb", {})
        facts["mesh"] = {"triangles": len(mesh.faces), "closed": made.closed, "seam_error": made.seam_error}
    except InputError as error:
        facts["mesh"] = {"fault": str(error)}
    if s.frames:
        write_mp4(out / "turntable.mp4", _film(field, grid, s, step), fps=24)
    return facts


def _film(field: Trained, grid: Occupancy, s: Settings, step: Step) -> Iterator[UInt8[np.ndarray, "_ _ 3"]]:
    """Frames of a turn around the box."""
    distance = 1.25 / math.sin(0.5 * PORTRAIT_FOV)
    for n in range(s.frames):
        camera = orbit((0.0, 0.0, 0.0), distance, 2 * math.pi * n / s.frames, 0.15, width=s.film_size,
                       height=s.film_size)  # fmt: skip
        with torch.no_grad():
            frame = to_bytes(render_radiance(field, camera, 2 * s.nodes, grid=grid).rgb)
        step("turntable", n + 1, s.frames)
        yield frame
