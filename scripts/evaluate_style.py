"""Restyle one avatar by five prompts with the prior that ships, and measure what is left of it.

    python scripts/evaluate_style.py --out outputs/style_eval        # five prompts, some minutes each

For each prompt: whether skeleton, face shapes and texture coordinates are the same to the bit in the file that
came out, and weights to rounding; what the Khronos validator says of it (needs node and `make setup`); the share
of the prompt that the judge sees, before and after; who it looks like: the place of the avatar among `others`
people and itself, by the judge's features of the face without its colors (1 is the best; a stranger's would be the
middle); and how far off a network finds the azimuth of twelve views, before and after. Writes report.json, and
sheet.png: the avatar and its styles in three views each.
"""

from __future__ import annotations

import json
import math
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from evaluate_distill import agreement
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from avatar3d.conditioning.prompt import sample_from, understand
from avatar3d.distillation import Wish, distill
from avatar3d.engine.build import build_avatar
from avatar3d.engine.population import sample
from avatar3d.evaluation.facing import AROUND, judge_turn, load_facing
from avatar3d.evaluation.judge import Judge, embeddings, load_judge
from avatar3d.export.glb import write_glb
from avatar3d.export.licences import licence_record
from avatar3d.export.read import read_avatar
from avatar3d.fields.box import bust_bounds, bust_camera
from avatar3d.render.images import write_png
from avatar3d.render.meshes import BACKDROP, render_albedo
from avatar3d.render.scene import compile_scene, labelled
from avatar3d.runs import passport, write_json
from avatar3d.structures import Avatar, MorphTargets

PERSON = "man with short brown hair and a white t-shirt"
STYLES = (
    "man with short blue hair and a white t-shirt",
    "man with short brown hair and a red t-shirt",
    "dark-skinned man with short brown hair and a white t-shirt",
    "old man with short white hair and a white t-shirt",
    "man with short blonde hair and a green t-shirt",
)
SIZE = 128
FACE = (0.34, 0.62, 0.36, 0.64)
"""Top, bottom, left and right of the face in a picture of a bust, as shares."""
ROUNDING = 1e-7
"""Weights are made to add up to one again when a file is read."""
ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Config:
    out: Path = Path("outputs/style_eval")
    method: str = "avatar"
    prior: str | None = None
    """Folder of another prior than the one that ships."""
    steps: float = 1.0
    seed: int = 1
    others: int = 40
    """People among whom the avatar has to be recognised."""
    first: int = 0
    count: int = len(STYLES)
    """Only some of the styles."""
    threads: int = 1


def main(config: Config) -> None:
    torch.set_num_threads(config.threads)
    config.out.mkdir(parents=True, exist_ok=True)
    judge, facing = load_judge(), load_facing()
    source = config.out / "source.glb"
    avatar = build_avatar(sample_from(understand(PERSON).statements, config.seed)[0])
    write_glb(avatar, source, licence_record(avatar, PERSON, None, ()))
    before = read_avatar(source)
    turn = around(before)
    crowd = people(config, judge)
    own = face_features(judge, turn[:1])
    tiles, rows = [strip(turn)], []
    for prompt in STYLES[config.first : config.first + config.count]:
        wish = Wish(
            prompt,
            config.method,
            config.prior,
            avatar=source,
            seed=config.seed,
            steps=config.steps,
            frames=0,
        )
        record = distill(wish, config.out, True, False, lambda *_: None)
        made = Path(record["folder"]) / "avatar.glb"
        after = read_avatar(made)
        seen, said = around(after), understand(prompt).statements
        rows.append(
            {
                "prompt": prompt,
                "same": same(before, after),
                "validator": validated(made),
                "agreement": {
                    "before": agreement(judge, turn[:1], said),
                    "after": agreement(judge, seen[:1], said),
                },
                "place": place(face_features(judge, seen[:1]), own, crowd),
                "facing_error": {name: turned(facing, t) for name, t in (("before", turn), ("after", seen))},
                "seconds": record["seconds"]["stages"],
                "diverged": record["diverged"],
            }
        )
        tiles.append(strip(seen))
        print(json.dumps(rows[-1]), flush=True)
    strangers = [place(features[None], own, crowd) for features in crowd]
    report = {"styles": rows, "people": len(crowd) + 1, "place_of_strangers": sum(strangers) / len(strangers)}
    write_json(config.out / "report.json", report | passport())
    write_png((torch.cat(tiles, 1).permute(1, 2, 0) * 255 + 0.5).to(torch.uint8).numpy(), config.out / "sheet.png")


def around(avatar: Avatar, count: int = AROUND) -> Float[Tensor, "V 3 S S"]:
    """Material colors of head and shoulders from all around; the first is from the front."""
    scene, bounds = compile_scene(labelled(avatar.parts)), bust_bounds(avatar.skeleton)
    cameras = [bust_camera(bounds, 2 * math.pi * k / count, SIZE) for k in range(count)]
    return torch.stack([render_albedo(scene, c, BACKDROP).rgb.permute(2, 0, 1) for c in cameras]).clamp(0, 1)


def people(config: Config, judge: Judge) -> Float[Tensor, "P D"]:
    """Features of the faces of random people."""
    found = []
    for number in range(config.others):
        avatar = build_avatar(sample(np.random.default_rng((config.seed, 71, number))))
        found.append(face_features(judge, around(avatar, 1)))
    return torch.cat(found)


def face_features(judge: Judge, pictures: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B D"]:
    """Of the face alone, in grey of the same mean and contrast for all."""
    top, bottom, left, right = (round(share * pictures.shape[-1]) for share in FACE)
    grey = pictures[:, :, top:bottom, left:right].mean(1, keepdim=True)
    low, high = (grey.flatten(1).quantile(q, dim=1).view(-1, 1, 1, 1) for q in (0.02, 0.98))
    even = ((grey - low) / (high - low).clamp_min(1e-3)).clamp(0, 1).expand(-1, 3, -1, -1)
    return embeddings(judge, interpolate(even, (64, 64), mode="bilinear", antialias=True))


def place(seen: Float[Tensor, "1 D"], own: Float[Tensor, "1 D"], crowd: Float[Tensor, "P D"]) -> int:
    """1 when nobody of the crowd is nearer to what is seen than the avatar itself."""
    return 1 + int(((crowd - seen).norm(dim=1) < (own - seen).norm(dim=1)).sum())


def turned(facing, pictures: Float[Tensor, "V 3 S S"]) -> float:
    """Median error of the azimuth, degrees."""
    return judge_turn(facing, pictures, torch.arange(len(pictures)) * (2 * math.pi / len(pictures))).error


def same(before: Avatar, after: Avatar) -> dict[str, bool]:
    """What has to be untouched, part by part."""
    pairs = list(zip(before.parts, after.parts, strict=True))
    bones = before.skeleton, after.skeleton
    return {
        "skeleton": bones[0].names == bones[1].names
        and bones[0].parents == bones[1].parents
        and torch.equal(bones[0].positions, bones[1].positions),
        "weights": all(
            torch.equal(p.skin.joints, q.skin.joints)
            and torch.allclose(p.skin.weights, q.skin.weights, rtol=0, atol=ROUNDING)
            for p, q in pairs
        ),
        "face shapes": all(same_shapes(p.morphs, q.morphs) for p, q in pairs),
        "texture coordinates": all(torch.equal(p.mesh.uv, q.mesh.uv) for p, q in pairs if p.mesh.uv is not None),
    }


def same_shapes(a: MorphTargets | None, b: MorphTargets | None) -> bool:
    """Of one part."""
    if a is None or b is None:
        return a is b
    return a.names == b.names and torch.equal(a.deltas, b.deltas)


def validated(path: Path) -> dict[str, int] | str:
    """What the Khronos validator counts."""
    if shutil.which("node") is None or not (ROOT / "node_modules" / "gltf-validator").exists():
        return "not there: install node and run `make setup`"
    command = ["node", str(ROOT / "tests" / "validate_glb.mjs"), str(path)]
    (report,) = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return {name: report["issues"][f"num{name.capitalize()}"] for name in ("errors", "warnings")}


def strip(turn: Float[Tensor, "V 3 S S"]) -> Float[Tensor, "3 S W"]:
    """Front, a quarter to the side, and back."""
    return torch.cat([turn[0], turn[2], turn[len(turn) // 2]], dim=2)


if __name__ == "__main__":
    main(tyro.cli(Config))
