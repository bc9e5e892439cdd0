"""Make the data set of the prior that ships: busts of random people, seen from all around.

    python scripts/make_views.py --shards 60 --out outputs/views

A shard has `people` of `make_people` (rare things are seen often), each in `views` pictures of 64 x 64: material
colors, coverage and normals, so that training can put any light and background behind them. Cameras are orbits
around the bust's box, evenly spread over all azimuths. A shard draws everything from its own number and is written
whole or not at all: the same command resumes, and several processes share the work (`--first`, `--stride`).
"""

from __future__ import annotations

import json
import math
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import tyro
from make_dataset import CROWD
from make_judge_pictures import mixed
from torch import Tensor

from avatar3d.camera import PORTRAIT_FOV, orbit
from avatar3d.engine.bust import Bust, build_bust
from avatar3d.engine.columns import columns_from_vectors
from avatar3d.engine.pairs import draw, make_people
from avatar3d.engine.statements import matrix, statements
from avatar3d.fields.box import BOX_HIGH, BOX_LOW, VIEW_HEIGHT
from avatar3d.render.meshes import render_albedo
from avatar3d.render.scene import compile_scene, labelled
from avatar3d.spec import spec_from_vector, spec_to_json, spec_to_vector
from avatar3d.structures import Camera, Part
from avatar3d.weights import save_tensors

VIEWS_TYPE = "avatar3d.views"


@dataclass(frozen=True)
class Config:
    out: Path = Path("outputs/views")
    shards: int = 60
    first: int = 0
    """Number of the first shard: held-out people are numbers that training does not use."""
    stride: int = 1
    """Make every so many-th shard, for several processes side by side."""
    people: int = 20
    """Per shard."""
    views: int = 12
    """Per person."""
    size: int = 64
    """Pixels."""
    mixed: float = 0.3
    """Share of choices that are drawn evenly, whatever goes with what."""
    elevation: tuple[float, float] = (-15.0, 40.0)
    """Degrees."""
    seed: int = 0


def main(config: Config) -> None:
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    config.out.mkdir(parents=True, exist_ok=True)
    for shard in range(config.first, config.first + config.shards, config.stride):
        path = config.out / f"{shard:04d}.safetensors"
        if path.exists():
            continue
        began = time.process_time()
        generator = np.random.default_rng((config.seed, 61, shard))
        rows, people = [], []
        for _ in range(config.people):
            crowd = make_people(generator, CROWD)
            row = draw(crowd, generator)[0]
            spec = mixed(
                spec_from_vector(crowd.vectors[row], int(generator.integers(2**31))), generator, config.mixed
            )
            columns = columns_from_vectors(spec_to_vector(spec)[None])
            true = torch.tensor([bool(matrix(s.said, columns)[0]) for s in statements().values()])
            rows.append(views(build_bust(spec, thin=True), generator, config) | {"true": true})
            people.append(json.loads(spec_to_json(spec)))
        metadata = {"type": VIEWS_TYPE, "version": "1", "specs": json.dumps(people)}
        save_tensors(path, {name: torch.stack([row[name] for row in rows]) for name in rows[0]}, metadata)
        print(f"{path.name}: {(time.process_time() - began) / config.people:.2f} CPU s a person", flush=True)


def views(bust: Bust, generator: np.random.Generator, config: Config) -> dict[str, Tensor]:
    """Pictures (V, 4, S, S) uint8 of color and coverage, normals (V, 3, S, S) int8, and angles (V, 2) radians."""
    scene = compile_scene(labelled([inside(part, bust.bounds) for part in bust.parts]))
    pictures, normals, angles = [], [], []
    start = generator.uniform(-math.pi, math.pi)
    for view in range(config.views):
        azimuth = start + 2 * math.pi * (view + generator.uniform(-0.4, 0.4)) / config.views
        azimuth = (azimuth + math.pi) % (2 * math.pi) - math.pi
        elevation = math.radians(generator.uniform(*config.elevation))
        camera = jittered(bust.bounds, azimuth, elevation, config.size, generator)
        seen = render_albedo(scene, camera, background=(0.0, 0.0, 0.0))
        color = torch.cat([seen.rgb, seen.alpha[..., None]], -1).permute(2, 0, 1)
        pictures.append((color.clamp(0, 1) * 255 + 0.5).to(torch.uint8))
        normals.append((seen.normal.permute(2, 0, 1) * 127).round().to(torch.int8))
        angles.append([azimuth, elevation])
    return {"pictures": torch.stack(pictures), "normals": torch.stack(normals), "angles": torch.tensor(angles)}


def inside(part: Part, bounds: Tensor) -> Part:
    """The part without arms that leave the box of the field to its sides."""
    kept = (part.mesh.vertices[:, 0] - bounds[:, 0].mean()).abs() < 0.5 * (bounds[1, 0] - bounds[0, 0])
    return replace(part, mesh=replace(part.mesh, faces=part.mesh.faces[kept[part.mesh.faces].any(dim=1)]))


def jittered(
    bounds: Tensor, azimuth: float, elevation: float, size: int, generator: np.random.Generator
) -> Camera:
    """About `bust_camera`, up to 8 % nearer or farther and 3 % of the box off its middle."""
    unit = float(bounds[1, 1] - bounds[0, 1]) / (BOX_HIGH[1] - BOX_LOW[1])
    shift = torch.tensor(generator.uniform(-0.03, 0.03, 3), dtype=torch.float32) * (bounds[1] - bounds[0])
    distance = 0.5 * VIEW_HEIGHT * unit / math.tan(0.5 * PORTRAIT_FOV) * generator.uniform(0.92, 1.08)
    return orbit(bounds.mean(0) + shift, distance, azimuth, elevation, PORTRAIT_FOV, size, size)


if __name__ == "__main__":
    main(tyro.cli(Config))
