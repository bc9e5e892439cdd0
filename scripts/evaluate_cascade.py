"""Measure the cascade on held-out avatars, each part beside its ceiling and its baseline.

    python scripts/make_dataset.py --start 100000 --count 208 --out outputs/held
    python scripts/evaluate_cascade.py --data outputs/bust --held-out outputs/held --out outputs/evaluation

Writes `report.json`, `methods.png` (a row for each method, a column for each of eight prompts) and `seeds.png`
(eight people for one prompt, beside the engine's), and prints the tables. Every picture shows material colors from
the front, 256 x 256 unless `--size` says otherwise, and is compared with the engine's own picture of the avatar by
the same camera.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from cascade_methods import Sampler, build_methods, build_sampler, load_parts

from avatar3d.engine.bust import build_bust
from avatar3d.engine.captions import constraints
from avatar3d.engine.statements import statements
from avatar3d.evaluation.busts import (
    Drawn,
    Method,
    Subject,
    Yardsticks,
    as_bytes,
    draw,
    draw_truth,
    inside,
    read_subjects,
    table_row,
    yardsticks,
)
from avatar3d.evaluation.distributions import frechet_distance, mean_pairwise_distance
from avatar3d.evaluation.judge import CHOICES, NUMBERS, embeddings, load_judge, verdicts
from avatar3d.evaluation.surfaces import surface_distance
from avatar3d.fields.box import bust_camera
from avatar3d.render.images import contact_sheet, write_png
from avatar3d.render.meshes import render_albedo
from avatar3d.render.scene import compile_scene, labelled
from avatar3d.render.trace import trace_field
from avatar3d.runs import passport, write_json
from avatar3d.spec import AvatarSpec
from avatar3d.weights import weights_path

COLUMNS = {
    "psnr": "PSNR", "psnr_foreground": "fg", "psnr_face": "face", "top_error": "top err", "hair_error": "hair err",
    "skin_error": "skin err", "hair_iou": "hair IoU", "silhouette_iou": "sil IoU", "perceptual": "percept",
    "judge_mean": "judge", "said": "said", "frechet": "Frechet", "nearest_ratio": "nearest",
}  # fmt: skip
"""Scores that the printed table has, and their headings."""
COMPARED = {
    "top_error": -1, "hair_error": -1, "skin_error": -1, "hair_iou": 1, "silhouette_iou": 1, "perceptual": -1,
    "judge_mean": 1, "said": 1, "frechet": -1,
}  # fmt: skip
"""Scores of the gate, and whether more (1) or less (-1) is better."""
ROUND_ABOUT = (0.0, 90.0, 180.0, 270.0)
"""Azimuths of the cameras between whose surfaces distances are measured, degrees."""
CROWDS = (
    ("gender.man", "age.old"), ("gender.woman", "hair_style.long"), ("gender.man", "beard_style.full"),
    ("ancestry.african", "gender.woman"), ("age.child",), ("top.hoodie",),
)  # fmt: skip
"""Conditions under which the diversity of samples is compared with that of the engine's own people."""


@dataclass(frozen=True)
class Config:
    data: Path = Path("outputs/bust")
    """What the cascade was trained on."""
    held_out: Path = Path("outputs/held")
    """Avatars that nothing was trained on."""
    weights: Path = weights_path("")
    """Folder with the parts of the cascade; those that ship by default."""
    out: Path = Path("outputs/evaluation")
    count: int = 200
    """At most so many held-out avatars."""
    size: int = 256
    """Pixels a side."""
    methods: tuple[str, ...] = ()
    """All that there are by default."""
    surfaces: int = 8
    """Avatars whose surfaces are compared from all around."""
    seeds: int = 8
    judge: Path | None = None
    """Weights of the judge; those that ship by default."""


def main(config: Config) -> None:
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    config.out.mkdir(parents=True, exist_ok=True)
    training, subjects = (
        read_subjects(sorted(folder.glob("bust-*.safetensors")), config.size)
        for folder in (config.data, config.held_out)
    )
    if min(len(training), len(subjects)) < 2:
        raise SystemExit(f"no avatars in {config.data} or {config.held_out}: make them with make_dataset.py")
    subjects = subjects[: config.count]
    measure = yardsticks(load_judge(config.judge), subjects, training)
    autoencoder, base, upsampler = load_parts(config.weights)
    methods = build_methods(autoencoder, base, upsampler, training)
    methods = {name: m for name, m in methods.items() if not config.methods or name in config.methods}
    report: dict = {
        "passport": passport(), "held_out": len(subjects), "training": len(training), "size": config.size,
        "frechet_floor": frechet_floor(measure), "methods": {}, "surfaces": {}, "seconds": {}, "diversity": {},
    }  # fmt: skip
    drawn = {"engine": draw_truth(subjects)}
    for name, method in methods.items():
        began = time.perf_counter()
        drawn[name] = draw(method, subjects)
        report["seconds"][name] = (time.perf_counter() - began) / len(subjects)
        print(f"{name}: {report['seconds'][name]:.2f} s for an avatar and its picture", flush=True)
    for name, pictures in drawn.items():
        report["methods"][name] = table_row(pictures, measure) | said_right(pictures, measure)
    show_table(report)
    write_png(methods_sheet(drawn, subjects), config.out / "methods.png")
    write_json(config.out / "report.json", plain(report))  # an interruption of what follows loses no table
    for name, method in methods.items():
        report["surfaces"][name] = surfaces(method, subjects[: config.surfaces])
    show_surfaces(report)
    if base is not None:
        sampler = build_sampler(autoencoder, base, subjects[0])
        report["diversity"] = diversity(sampler, measure, training, config)
    report["passed"] = gate(report)
    for name, passed in report["passed"].items():
        print(f"{'passed' if passed else 'MISSED'}  {name}")
    write_json(config.out / "report.json", plain(report))
    print(f"wrote {config.out / 'report.json'}")


def frechet_floor(measure: Yardsticks) -> float:
    """Frechet distance of as many training pictures to the held-out ones: what a perfect generator would get."""
    count = min(len(measure.training), len(measure.truth))
    chosen = np.random.default_rng(0).permutation(len(measure.training))[:count]
    return frechet_distance(measure.training[chosen].numpy(), measure.truth.numpy())


def said_right(drawn: Drawn, measure: Yardsticks) -> dict:
    """Share of the prompts' statements that the judge sees fulfilled, among those that it can judge."""
    seen = verdicts(measure.judge, drawn.pictures.float() / 255)
    return {
        "said": agreement(seen, measure.subjects),
        "said_control": agreement([*seen[1:], seen[0]], measure.subjects),
    }


def agreement(seen: Sequence[AvatarSpec], subjects: Sequence[Subject]) -> float:
    """Share of the statements about each subject that hold for what was seen of it."""
    judged = {*CHOICES, *NUMBERS} - {"glasses"}
    holds = []
    for spec, subject in zip(seen, subjects, strict=True):
        for asked in constraints({name.split(".")[0]: name for name in subject.said}).values():
            if {test.field for test in asked.tests} <= judged and visible(asked.statement, subject.spec):
                holds.append(asked.holds(spec))
    return float(np.mean(holds)) if holds else math.nan


def visible(statement: str, spec: AvatarSpec) -> bool:
    """Hats hide what is said about hair."""
    return spec.hat == "none" or not statement.startswith("hair")


# -- surfaces --------------------------------------------------------------------------------------------------


@torch.no_grad()
def surfaces(method: Method, subjects: Sequence[Subject], size: int = 160) -> dict:
    """Symmetric point-to-surface distances in millimetres, means over avatars."""
    found = []
    for subject, field in zip(subjects, method(subjects), strict=True):
        cameras = [bust_camera(subject.bounds, math.radians(a), size) for a in ROUND_ABOUT]
        scene = compile_scene(labelled(build_bust(subject.spec).parts))
        truth = [inside(render_albedo(scene, c), c, subject.bounds) for c in cameras]
        made = [inside(trace_field(field, c, normals=False), c, subject.bounds) for c in cameras]
        found.append(asdict(surface_distance(made, truth, cameras)))
    return {name: 1000 * float(np.mean([f[name] for f in found])) for name in found[0]}


# -- diversity -------------------------------------------------------------------------------------------------


@torch.no_grad()
def diversity(sampler: Sampler, measure: Yardsticks, training: Sequence[Subject], config: Config) -> dict:
    """Spread of the samples of a condition over that of the engine's people of whom it holds; a sheet of seeds."""
    everyone = [*training, *measure.subjects]
    table, cells, labels = {}, [], []
    print(f"\n{'spread of ' + str(config.seeds) + ' seeds':44s} samples  engine  ratio  fulfilled")
    for condition in CROWDS:
        own = [s for s in everyone if all(holds(s, name) for name in condition)]
        if len(own) < 2:
            continue
        fields = sampler(condition, range(config.seeds))
        renders = [trace_field(f, bust_camera(f.bounds, 0.0, config.size), normals=False) for f in fields]
        pictures = as_bytes(renders)
        samples, usual = (
            mean_pairwise_distance(embeddings(measure.judge, p.float() / 255).numpy())
            for p in (pictures, as_bytes([s.truth for s in own]))
        )
        right = fulfilled(condition, verdicts(measure.judge, pictures.float() / 255))
        name = ", ".join(condition)
        table[name] = {"samples": samples, "engine": usual, "ratio": samples / usual, "fulfilled": right}
        print(f"{name:44s} {samples:7.2f} {usual:7.2f}  {samples / usual:5.2f}  {right:5.2f}  ({len(own)} people)")
        for pictures_of, who in ((pictures, name), (as_bytes([s.truth for s in own[: config.seeds]]), "engine")):
            some = [p.permute(1, 2, 0).numpy() for p in pictures_of]
            some += [np.full_like(some[0], 255)] * (config.seeds - len(some))
            cells += some
            labels += [who, *[""] * (config.seeds - 1)]
    if cells:
        write_png(contact_sheet(cells, config.seeds, labels), config.out / "seeds.png")
    return table


def holds(subject: Subject, statement: str) -> bool:
    """The data set says of every avatar which statements hold."""
    return bool(subject.row["true"][list(statements()).index(statement)])


def fulfilled(condition: Sequence[str], seen: Sequence[AvatarSpec]) -> float:
    """Share of the condition's statements that the judge sees, among those that it can judge."""
    asked = [c for c in constraints({n.split(".")[0]: n for n in condition}).values()
             if {t.field for t in c.tests} <= {*CHOICES, *NUMBERS}]  # fmt: skip
    return float(np.mean([c.holds(spec) for spec in seen for c in asked])) if asked else math.nan


# -- tables and sheets -----------------------------------------------------------------------------------------


def show_table(report: dict) -> None:
    """A line for each method, and one for its wrong answers."""
    people, size, floor = report["held_out"], report["size"], report["frechet_floor"]
    print(f"\n{people} held-out avatars, {size} pixels; Frechet distance of real pictures {floor:.2f}")
    print(f"{'':26s}" + " ".join(f"{heading:>8s}" for heading in COLUMNS.values()))
    for name, row in report["methods"].items():
        print(f"{name:26s}" + " ".join(f"{row[column]:8.3f}" for column in COLUMNS))
        control = row["control"] | {"said": row["said_control"]}
        print(f"{'  wrong avatar':26s}" + " ".join(f"{control.get(c, math.nan):8.3f}" for c in COLUMNS))
    attributes = list(next(iter(report["methods"].values()))["judge"])
    print(f"\n{'judge agrees':26s}" + " ".join(f"{a:>11s}" for a in attributes))
    for name, row in report["methods"].items():
        print(f"{name:26s}" + " ".join(f"{row['judge'][a]:11.3f}" for a in attributes))


def show_surfaces(report: dict) -> None:
    """Millimetres."""
    print("\npoint to surface, mm          mean   median      p95")
    for name, row in report["surfaces"].items():
        print(f"{name:26s}" + " ".join(f"{row[c]:8.2f}" for c in ("mean", "median", "p95")))


def methods_sheet(drawn: dict[str, Drawn], subjects: Sequence[Subject], columns: int = 8) -> np.ndarray:
    """Rows are methods; each column is a prompt, written below the engine's picture."""
    cells, labels = [], []
    for name, own in drawn.items():
        cells += [p.permute(1, 2, 0).numpy() for p in own.pictures[:columns]]
        if name == "engine":
            letters = own.pictures.shape[-1] // 6
            labels += [s.prompt[:letters] for s in subjects[:columns]]
        else:
            labels += [name, *[""] * (min(columns, len(subjects)) - 1)]
    return contact_sheet(cells, min(columns, len(subjects)), labels)


def gate(report: dict) -> dict[str, bool]:
    """What the base must reach: better than regressions on the same latents, near the ceiling, diverse, new."""
    rows = report["methods"]
    if not {"encoded", "ridge", "cascade"} <= set(rows):
        return {}
    names = [name for name in ("cascade", "cascade, guidance 2") if name in rows]
    best = max(names, key=lambda name: rows[name]["judge_mean"])
    own, passed = rows[best], {}
    for baseline in ("ridge", "ridge + Gaussian"):
        for score, better in COMPARED.items():
            if baseline in rows:
                gain = better * (own[score] - rows[baseline][score])
                passed[f"{best}: {score} better than of {baseline}"] = gain > 0
    ratios = [row["ratio"] for row in report["diversity"].values()]
    passed[f"{best}: judge at 90 % of the ceiling"] = own["judge_mean"] >= 0.9 * rows["encoded"]["judge_mean"]
    passed["spread at least 80 % of the engine's"] = bool(ratios) and float(np.mean(ratios)) >= 0.8
    passed[f"{best}: nearest training avatar as far as usual"] = own["nearest_ratio"] >= 0.8
    if "encoded, upsampled x 2" in rows:
        fine, plain_ = rows["encoded, upsampled x 2"], rows["encoded, bilinear x 2"]
        passed["upsampler: PSNR above bilinear's"] = fine["psnr_foreground"] > plain_["psnr_foreground"]
        passed["upsampler: perceptual distance below bilinear's"] = fine["perceptual"] < plain_["perceptual"]
    return passed


def plain(value):
    """Numbers that JSON has: nan and infinity become None."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


if __name__ == "__main__":
    main(tyro.cli(Config))
