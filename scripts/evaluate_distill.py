"""Distil avatar prompts with the prior that ships, and measure what came out.

    python scripts/evaluate_distill.py --out outputs/distill_eval            # 24 prompts, several minutes each
    python scripts/evaluate_distill.py --part 0 --parts 2 ... &              # or several processes side by side

For each prompt: the share of what it says that the judge sees in the front view (of what the judge can see at
all); the same for the scene before the first step, for the engine's picture of a training person of whom most of
it is true (nearest caption; the judge was trained on these people), for the cascade, and for the engine's own
pictures of people made for the prompt (the judge's ceiling). Divergences, the Janus rate (`evaluation.facing`)
and seconds. Writes report.json, and sheet.png of all turns.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from torch import Tensor
from train_prior import read

from avatar3d.cascade.product import sample_field
from avatar3d.conditioning.prompt import sample_from, understand
from avatar3d.distill.binding import encode_prompts
from avatar3d.distill.cameras import fixed_cameras
from avatar3d.distill.loop import Running, run_stage
from avatar3d.distill.presets import load
from avatar3d.distillation import Wish, adapted, next_scene, open_prior
from avatar3d.engine.build import build_avatar
from avatar3d.engine.bust import build_bust
from avatar3d.engine.captions import constraints
from avatar3d.engine.statements import statements
from avatar3d.evaluation.facing import AROUND, judge_turn, load_facing
from avatar3d.evaluation.judge import CHOICES, NUMBERS, Judge, load_judge, verdicts
from avatar3d.fields.box import bust_camera
from avatar3d.render.images import write_png
from avatar3d.render.meshes import BACKDROP, render_albedo
from avatar3d.render.scene import compile_scene, labelled
from avatar3d.render.trace import trace_field
from avatar3d.runs import passport, write_json
from avatar3d.spec import AvatarSpec

PROMPTS = (
    "old man with glasses",
    "woman with long red hair",
    "bald man with a full black beard",
    "girl with a blonde ponytail",
    "man in a red hoodie",
    "black woman with an afro",
    "woman with a pink bob and round glasses",
    "man with a cap",
    "old woman with a grey bun",
    "young man with short brown hair and a yellow t-shirt",
    "woman in a green jumper",
    "man with a moustache and a white shirt",
    "boy with curly black hair",
    "man in a blue suit",
    "woman with braids and a purple dress",
    "man with a beanie and a beard",
    "woman with a headscarf",
    "young woman with black hair in a bun",
    "man with dreadlocks in an orange t-shirt",
    "girl with glasses and a striped t-shirt",
    "pale man with red hair and stubble",
    "dark-skinned man in a white t-shirt",
    "woman with blue hair and sunglasses",
    "man with a fedora and a grey beard",
)
SIZE = 64
JUDGED = {*CHOICES, *NUMBERS, "hair_grey", "lenses"}
"""Fields that the judge sees; of the last two it takes the usual value, which is enough for all but `DARK`."""
DARK = "eyewear.sunglasses"
ENGINE = 4
"""People that the engine makes for a prompt: what is not said differs, and may hide what is (a hat the hair)."""


@dataclass(frozen=True)
class Config:
    out: Path = Path("outputs/distill_eval")
    data: Path = Path("outputs/views")
    """Pictures of people of known statements, for the nearest caption."""
    method: str = "fast"
    prior: str | None = None
    """Folder of another prior than the one that ships."""
    steps: float = 1.0
    seed: int = 0
    part: int = 0
    parts: int = 1
    """Only every `parts`-th prompt, from `part` on; a last run with `--gather` puts all together."""
    gather: bool = False
    cascade: bool = True
    threads: int = 1


def main(config: Config) -> None:
    torch.set_num_threads(config.threads)
    config.out.mkdir(parents=True, exist_ok=True)
    if not config.gather:
        judge, facing, people = load_judge(), load_facing(), known_people(config.data)
        for n in range(config.part, len(PROMPTS), config.parts):
            path = config.out / f"{n:02d}.json"
            if not path.exists():
                row, turn = one(PROMPTS[n], config, judge, facing, people)
                torch.save(turn, config.out / f"{n:02d}.pt")
                write_json(path, row)
                print(n, PROMPTS[n], row["agreement"], f"{row['seconds']:.0f} s", flush=True)
    rows = [json.loads(path.read_text()) for path in sorted(config.out.glob("[0-9][0-9].json"))]
    if len(rows) == len(PROMPTS):
        gather(rows, config)


def one(prompt: str, config: Config, judge: Judge, facing, people) -> tuple[dict, Tensor]:
    """Distil one prompt; its scores, and eight views around it (8, 3, S, S)."""
    said = understand(prompt).statements
    wish = Wish(prompt, config.method, config.prior, seed=config.seed, steps=config.steps)
    method, prior = adapted(load(config.method), wish), open_prior(wish)
    prompts = encode_prompts(prior, prompt)
    scene, faults, diverged, inside = None, [], False, 0.0
    first = None
    began = time.perf_counter()
    for n, stage in enumerate(method.stages):
        scene = next_scene(scene, stage, wish, 1 << 30)
        first = turn_of(scene, stage, 8)[:1] if first is None else first
        outcome = run_stage(scene, prior, prompts, stage, Running(config.seed, n))
        faults += [fault.kind for fault in outcome.faults]
        inside += outcome.prior_seconds
        diverged = diverged or outcome.diverged
    seconds = time.perf_counter() - began
    assert scene is not None and first is not None
    turn = turn_of(scene, method.stages[-1], AROUND)
    azimuth = torch.arange(AROUND) * (2 * math.pi / AROUND)
    around = judge_turn(facing, turn, azimuth)
    spec = sample_from(said, config.seed)[0]
    pictures = {"distilled": turn[:1], "start": first, "nearest caption": nearest(said, people)}
    own = [engine_picture(sample_from(said, config.seed + k)[0]) for k in range(ENGINE)]
    if config.cascade:
        field = sample_field(build_avatar(spec), config.seed).field
        with torch.no_grad():
            seen = trace_field(field, bust_camera(field.bounds, 0.0, SIZE), normals=False)
        pictures["cascade"] = seen.rgb.permute(2, 0, 1)[None]
    row = {
        "prompt": prompt,
        "said": [name for name in said if judged(name)],
        "agreement": {name: agreement(judge, picture, said) for name, picture in pictures.items()}
        | {"engine": sum(agreement(judge, picture, said) for picture in own) / ENGINE},
        "seconds": seconds,
        "outside_the_prior": 1 - inside / seconds,
        "faults": faults,
        "diverged": diverged,
        "janus": around.janus,
        "faces_behind": around.faces_behind,
        "facing_error": around.error,
    }
    return row, turn


def engine_picture(spec: AvatarSpec) -> Tensor:
    """The engine's person from the front (1, 3, S, S)."""
    bust = build_bust(spec, thin=True)
    camera = bust_camera(bust.bounds, 0.0, SIZE)
    return render_albedo(compile_scene(labelled(bust.parts)), camera, BACKDROP).rgb.permute(2, 0, 1)[None]


@torch.no_grad()
def turn_of(scene, stage, count: int) -> Tensor:
    """Material colors from all around over the judge's backdrop (count, 3, S, S)."""
    cameras = fixed_cameras(stage.cameras, [2 * math.pi * n / count for n in range(count)], SIZE)
    behind = torch.tensor(BACKDROP).expand(count, 3)
    return scene.draw(cameras, behind, "albedo", torch.Generator().manual_seed(0)).rgb.clamp(0, 1)


def judged(name: str) -> bool:
    """The judge sees everything that the statement is about."""
    tests = statements()[name].accepted
    return name != DARK and all(test.field in JUDGED for test in tests)


def agreement(judge: Judge, picture: Tensor, said: Sequence[str]) -> float:
    """Share of the statements that hold of what the judge sees, leniently read."""
    (seen,) = verdicts(judge, picture)
    wanted = constraints({name.split(".")[0]: name for name in said if judged(name)})
    holds = [constraint.holds(seen) for constraint in wanted.values()]
    return sum(holds) / len(holds) if holds else math.nan


def known_people(data: Path) -> tuple[Tensor, Tensor]:
    """Front views (N, 3, S, S) over the backdrop and what is true (N, S) of people of the data set."""
    rows = read(sorted(data.glob("*.safetensors"))[:60])
    angles, true, pictures = (torch.cat(rows[name]) for name in ("angles", "true", "pictures"))
    front = angles[..., 0].abs().argmin(1)
    rgba = pictures[torch.arange(len(true)), front].float() / 255
    rgb = rgba[:, :3] + (1 - rgba[:, 3:]) * torch.tensor(BACKDROP)[:, None, None]
    return rgb, true


def nearest(said: Sequence[str], people: tuple[Tensor, Tensor]) -> Tensor:
    """The picture of the first person of whom most statements are true (1, 3, S, S)."""
    names = list(statements())
    columns = [names.index(name) for name in said]
    return people[0][people[1][:, columns].sum(1).argmax()][None]


def gather(rows: Sequence[dict], config: Config) -> None:
    """Means, report.json and sheet.png."""

    def mean(values) -> float:
        real = [v for v in values if not math.isnan(v)]
        return round(sum(real) / max(1, len(real)), 3)

    report = {
        "agreement": {name: mean(r["agreement"][name] for r in rows) for name in rows[0]["agreement"]},
        "diverged": sum(r["diverged"] for r in rows),
        "faults": sum(len(r["faults"]) for r in rows),
        "janus": sum(r["janus"] for r in rows),
        "faces_behind": sum(r["faces_behind"] for r in rows),
        "seconds": {"mean": mean(r["seconds"] for r in rows), "most": max(r["seconds"] for r in rows)},
        "outside_the_prior": mean(r["outside_the_prior"] for r in rows),
        "facing_error": mean(r["facing_error"] for r in rows),
        "prompts": list(rows),
        **passport(),
    }
    write_json(config.out / "report.json", report)
    turns = [torch.load(path, weights_only=True) for path in sorted(config.out.glob("[0-9][0-9].pt"))]
    tiles = torch.stack([torch.cat(list(turn[[0, 2, 3, 6, 9]]), dim=2) for turn in turns])
    columns = torch.cat([torch.cat(list(tiles[k::3]), dim=1) for k in range(3)], dim=2)
    write_png((columns.permute(1, 2, 0) * 255 + 0.5).to(torch.uint8).numpy(), config.out / "sheet.png")
    print(json.dumps({k: v for k, v in report.items() if k != "prompts"}, indent=2))


if __name__ == "__main__":
    main(tyro.cli(Config))
