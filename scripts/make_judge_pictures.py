"""Pictures of random people with their specs, to train and measure the judge with.

    python scripts/make_judge_pictures.py --out outputs/judge/pictures --shards 30

Material colors from the front, everybody with and without what a small field can not hold (glasses, earrings,
lashes). Most people of a shard get many things by lot, so that rare ones are seen often and nothing can be guessed
from anything else. A shard draws everything from its own number and is written whole or not at all: the same
command resumes.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import tyro
from torch import Tensor

from avatar3d.engine.build import build_avatar
from avatar3d.engine.population import sample
from avatar3d.pictures import view_camera
from avatar3d.render.lights import ambient_only
from avatar3d.render.meshes import render_meshes
from avatar3d.render.scene import compile_scene, labelled
from avatar3d.spec import AvatarSpec, spec_to_json, vector_layout
from avatar3d.structures import Avatar, Material, Part
from avatar3d.weights import save_tensors

PICTURES_TYPE = "avatar3d.judge_pictures"
THIN = ("glasses", "jewellery", "lashes")
"""Kinds of parts that a small field has not."""
OUT_OF_SIGHT = ("bottom", "shoes")
BY_LOT = ("hair_style", "hair_color", "hat", "hat_color", "top", "top_color", "top_pattern", "glasses")
"""Choices that are drawn evenly, each with probability `Config.mixed`."""
TEXTURE = 256
"""Opaque textures are drawn from copies of at most this many texels a side."""


@dataclass(frozen=True)
class Config:
    out: Path = Path("outputs/judge/pictures")
    shards: int = 30
    people: int = 20
    """Per shard."""
    size: int = 144
    """Pixels."""
    mixed: float = 0.6
    """0 follows the population."""
    turn: float = 0.15
    """Largest azimuth, radians."""
    seed: int = 0


def main(config: Config) -> None:
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    config.out.mkdir(parents=True, exist_ok=True)
    for shard in range(config.shards):
        path = config.out / f"{shard:04d}.safetensors"
        if path.exists():
            continue
        began = time.process_time()
        generator = np.random.default_rng((config.seed, 41, shard))
        pictures, specs = [], []
        for _ in range(config.people):
            spec = mixed(sample(generator), generator, config.mixed)
            turn = float(generator.uniform(-config.turn, config.turn))
            pictures.append(drawn(build_avatar(spec), turn, config.size))
            specs.append(json.loads(spec_to_json(spec)))
        metadata = {"type": PICTURES_TYPE, "version": "1", "specs": json.dumps(specs)}
        save_tensors(path, {"pictures": torch.stack(pictures)}, metadata)
        print(f"{path.name}: {(time.process_time() - began) / config.people:.2f} CPU s a person", flush=True)


def mixed(spec: AvatarSpec, generator: np.random.Generator, share: float) -> AvatarSpec:
    """The person with some choices drawn evenly, whatever goes with what in the population."""
    choices = {e.name: e.choices for e in vector_layout() if e.choices}
    changes: dict = {"expression": "neutral", "lenses": "clear"}
    for name in BY_LOT:
        if generator.random() < share:
            options = choices[name]
            changes[name] = options[int(generator.integers(len(options)))]
    if changes.get("hat") and generator.random() < 0.6:
        changes["hat"] = "none"  # hats hide hair
    if "hair_color" in changes:
        changes["hair_grey"] = 0.02
    if generator.random() < share * (spec.gender if spec.age > 16 else 0.1):
        options = choices["beard_style"]
        changes["beard_style"] = options[int(generator.integers(len(options)))]
    return replace(spec, **changes)


def drawn(avatar: Avatar, turn: float, size: int) -> Tensor:
    """(2, 3, size, size) bytes: the bust without and with thin parts."""
    parts = [plain(part) for part in avatar.parts if part.kind not in OUT_OF_SIGHT]
    solid = compile_scene(labelled([part for part in parts if part.kind not in THIN]))
    camera = view_camera(solid, avatar, "bust", turn, size, size)
    scenes = solid, compile_scene(labelled(parts))
    renders = [render_meshes(s, camera, ambient_only(), shadows=False, occlusion=False).rgb for s in scenes]
    return (torch.stack(renders).permute(0, 3, 1, 2).clamp(0, 1) * 255 + 0.5).to(torch.uint8)


def plain(part: Part) -> Part:
    """The part with its color alone."""
    m = part.mesh.material
    texture = m.base_color_texture
    if texture is not None and m.alpha_mode == "OPAQUE":
        factor = max(texture.shape[:2]) // TEXTURE
        if factor > 1:
            texture = torch.nn.functional.avg_pool2d(texture.permute(2, 0, 1)[None], factor)[0].permute(1, 2, 0)
    material = Material(
        m.name, m.base_color, texture, roughness=1.0,
        alpha_mode=m.alpha_mode, alpha_cutoff=m.alpha_cutoff, double_sided=m.double_sided,
    )  # fmt: skip
    return replace(part, mesh=replace(part.mesh, material=material))


if __name__ == "__main__":
    main(tyro.cli(Config))
