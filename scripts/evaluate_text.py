"""Measure the text model: agreement with the prompt, variety of what it leaves open, and a baseline beside it.

    python scripts/evaluate_text.py --out outputs/text/evaluation.json

Agreement: the share of mentioned attributes that hold for the sampled person, over prompts made by the caption
grammar from people the model never saw. Variety: total variation between sampled people and those of the
population of whom the same is said, field by field. The baseline looks for the training wordings in the text and
gives a random person what it finds.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from keyword_matcher import KeywordMatcher

from avatar3d.conditioning.model import TextModel, condition, load_text_model
from avatar3d.conditioning.prompt import sample_specs, sample_vectors, understand
from avatar3d.conditioning.words import tokenize
from avatar3d.diffusion.samplers import ddim, dpm_solver_2m, heun
from avatar3d.engine.captions import choose
from avatar3d.engine.columns import columns_from_vectors
from avatar3d.engine.grammar import compose
from avatar3d.engine.pairs import People, make_people
from avatar3d.engine.population import sample_vectors as sample_people
from avatar3d.engine.statements import attributes, matrix, statements
from avatar3d.engine.wordings import Split, wordings
from avatar3d.spec import vector_layout
from avatar3d.weights import weights_path

SHORT_PROMPTS = (
    "old man with glasses", "young woman", "a smiling teenage girl", "bald man with a beard", "a person",
    "black woman with braids", "an East Asian man in a suit", "fat middle-aged man", "woman in a red dress",
    "elderly woman with a headscarf", "a boy with freckles", "a tall man wearing a hat",
    "blonde woman with earrings",
    "a muscular man with tattoos", "a person with a big nose",
)  # fmt: skip
SETS = ("train", "held_out", "all_held_out")
"""Prompts of trained wordings; of trained ones but for one, which alone is scored; of held-out wordings alone."""
SAMPLERS = {"ddim": ddim, "heun": heun, "dpm_solver_2m": dpm_solver_2m}


@dataclass(frozen=True)
class Config:
    weights: Path = weights_path("text_to_spec.safetensors")
    words: Path = weights_path("words.safetensors")
    prompts: int = 2000
    """Prompts per split."""
    people: int = 2000
    """Sampled people per short prompt."""
    population: int = 3_000_000
    """People among whom those of a short prompt are looked for."""
    guidance: float = 1.0
    step_count: int = 24
    sampler: str = "dpm_solver_2m"
    seed: int = 12345
    variety: bool = True
    out: Path = Path("outputs/text/evaluation.json")


def main(config: Config) -> None:
    torch.set_num_threads(1)
    model = load_text_model(config.weights, config.words)
    report: dict = {
        "agreement": {},
        "guidance": config.guidance,
        "steps": config.step_count,
        "sampler": config.sampler,
    }
    for name in SETS:
        report["agreement"][name] = agreement(name, model, config)
        show_agreement(name, report["agreement"][name])
    report["typos"] = agreement("train", model, config, typos=True)["model"]
    print(f"train wordings with one slip of the finger in each prompt: {report['typos']:.4f}")
    if config.variety:
        report["variety"] = variety(model, config)
    report["unused"] = unused_words(model)
    report["seconds"] = timing(config)
    config.out.parent.mkdir(parents=True, exist_ok=True)
    config.out.write_text(json.dumps(report, indent=1))
    print(f"wrote {config.out}")


# -- agreement -------------------------------------------------------------------------------------------------


def agreement(name: str, model: TextModel, config: Config, typos: bool = False) -> dict:
    """Shares of mentioned attributes that hold: in all, for each attribute, and of the reading alone."""
    generator = np.random.default_rng((config.seed, SETS.index(name)))
    split: Split = "held_out" if name == "all_held_out" else "train"
    people = make_people(generator, config.prompts)
    said: list[dict[str, str]] = []
    scored: list[dict[str, str]] = []
    texts: list[str] = []
    while len(texts) < config.prompts:
        own = choose(people.true[len(texts)], generator)
        while not own:
            own = choose(people.true[len(texts)], generator)
        focus = list(own.values())[int(generator.integers(len(own)))] if name == "held_out" else None
        text = compose(own, generator, split, held_out=focus)
        scored.append({focus.split(".")[0]: focus} if focus else own)
        said.append(own)
        texts.append(_slip(text, generator) if typos else text)
    found = [understood(text, model) for text in texts]
    sampled = sample(found, model, config, generator)
    exact = sample([list(s.values()) for s in said], model, config, generator)
    donors = make_people(generator, 40000)
    matcher = KeywordMatcher()
    matched = [matcher.read(text) for text in texts]
    keyword = _given(matched, donors, generator)
    chance = donors.vectors[generator.integers(len(donors.vectors), size=len(texts))]
    result: dict = {}
    for who, vectors in (("model", sampled), ("diffusion", exact), ("keywords", keyword), ("chance", chance)):
        result[who], result[f"{who}_by_attribute"] = _score(scored, vectors)
    hits = [n in own for own, s in zip(found, scored, strict=True) for n in s.values()]
    extra = [sum(n.split(".")[0] not in s for n in own) for own, s in zip(found, said, strict=True)]
    result |= {"reading": float(np.mean(hits)), "invented": float(np.mean(extra)), "mentions": len(hits)}
    result["prompts"] = len(texts)
    result["failures"] = [
        {
            "text": t,
            "missed": [n for n in s.values() if n not in f],
            "invented": [n for n in f if n not in s.values()],
        }
        for t, s, f in zip(texts, said, found, strict=True)
        if any(n not in f for n in s.values())
    ][:200]
    return result


def understood(text: str, model: TextModel) -> list[str]:
    """Statements as the product reads them; none where it refuses the prompt."""
    try:
        return list(understand(text, model).statements)
    except ValueError:
        return []


def sample(found: Sequence[Sequence[str]], model: TextModel, config: Config, generator: np.random.Generator):
    said = condition(found, model.config)
    noise = torch.from_numpy(
        generator.standard_normal((len(said), model.denoiser.enter.in_features), dtype=np.float32)
    )
    sampler = SAMPLERS[config.sampler]
    parts = [
        sample_vectors(a, b, model, guidance=config.guidance, step_count=config.step_count, sampler=sampler)
        for a, b in zip(said.split(500), noise.split(500), strict=True)
    ]
    return np.concatenate(parts)


def _score(said: Sequence[dict[str, str]], vectors: np.ndarray) -> tuple[float, dict[str, float]]:
    columns = columns_from_vectors(vectors)
    holds = {name: matrix(statements()[name].accepted, columns) for name in {n for s in said for n in s.values()}}
    by: dict[str, list[bool]] = defaultdict(list)
    for i, own in enumerate(said):
        for attribute, name in own.items():
            by[attribute].append(bool(holds[name][i]))
    total = [h for values in by.values() for h in values]
    return float(np.mean(total)), {a: float(np.mean(v)) for a, v in sorted(by.items())}


def _given(found: Sequence[Sequence[str]], donors: People, generator: np.random.Generator) -> np.ndarray:
    """Random people who got the fields of each found statement from somebody of whom it holds."""
    vectors = donors.vectors[generator.integers(len(donors.vectors), size=len(found))].copy()
    for vector, names in zip(vectors, found, strict=True):
        for name in names:
            fields = {test.field for test in statements()[name].said}
            giver = donors.vectors[generator.choice(donors.rows[name])]
            for e in vector_layout():
                if e.name in fields:
                    vector[e.start : e.start + e.size] = giver[e.start : e.start + e.size]
    return vectors


def _slip(text: str, generator: np.random.Generator) -> str:
    """One letter of one long word left out, doubled, or swapped with the next."""
    spots = [i for i in range(1, len(text) - 2) if text[i - 1 : i + 3].isalpha()]
    if not spots:
        return text
    i = spots[int(generator.integers(len(spots)))]
    kind = int(generator.integers(3))
    middle = ("", text[i] * 2, text[i + 1] + text[i])[kind]
    return text[:i] + middle + text[i + (2 if kind == 2 else 1) :]


def show_agreement(split: str, result: dict) -> None:
    print(f"\n{split}: {result['prompts']} prompts, {result['mentions']} mentions")
    rows = ("model", "diffusion", "keywords", "chance", "reading")
    print("  " + "  ".join(f"{name} {result[name]:.4f}" for name in rows) + f"  invented {result['invented']:.3f}")
    print(f"  {'attribute':22s} model  keywords  chance")
    for attribute, value in result["model_by_attribute"].items():
        keyword, chance = (result[f"{k}_by_attribute"][attribute] for k in ("keywords", "chance"))
        print(f"  {attribute:22s} {value:.3f}  {keyword:.3f}     {chance:.3f}")


# -- variety ---------------------------------------------------------------------------------------------------


def variety(model: TextModel, config: Config) -> dict:
    """For each short prompt: total variation of each open field, and distances between people."""
    generator = np.random.default_rng((config.seed, 7))
    prompts = {prompt: understood(prompt, model) for prompt in SHORT_PROMPTS}
    those = _matching(list(prompts.values()), 8 * config.people, config.population, generator)
    result: dict = {}
    print("\nvariety: total variation (mean and worst of the open fields), floor, distance, population's")
    for (prompt, said), same in zip(prompts.items(), those, strict=True):
        if len(same) < 2 * config.people:
            print(f"  {prompt:36s} only {len(same)} such people in the population: the floor is high")
        made = sample([said] * config.people, model, config, generator)
        touched = {test.field for name in said for test in statements()[name].said}
        count = min(config.people, len(same) // 2)
        tv = _variations(made, same, touched)
        floor = _variations(same[:count], same[count:], touched)
        worst = max(tv, key=lambda name: tv[name])
        spread, usual = _distance(made, generator), _distance(same, generator)
        result[prompt] = {
            "statements": said, "population": len(same), "mean": float(np.mean(list(tv.values()))), "worst": worst,
            "worst_value": tv[worst], "floor_mean": float(np.mean(list(floor.values()))),
            "floor_worst": max(floor.values()), "over_0.1": {k: v for k, v in tv.items() if v >= 0.1},
            "distance": spread, "population_distance": usual,
        }  # fmt: skip
        r = result[prompt]
        print(
            f"  {prompt:36s} mean {r['mean']:.3f} worst {r['worst_value']:.3f} ({worst})"
            f" floor {r['floor_mean']:.3f} {r['floor_worst']:.3f} distance {spread:.2f} {usual:.2f}"
        )
    return result


def _matching(
    said: Sequence[Sequence[str]], most: int, population: int, generator: np.random.Generator
) -> list[np.ndarray]:
    """For each list of statements, people (N, D) of whom they hold: at most so many, out of a population."""
    found: list[list[np.ndarray]] = [[] for _ in said]
    for _ in range(population // 50000):
        vectors = sample_people(generator, 50000)
        columns = columns_from_vectors(vectors)
        holds = {name: matrix(statements()[name].said, columns) for name in {n for names in said for n in names}}
        for names, people in zip(said, found, strict=True):
            if sum(map(len, people)) < most:
                true = np.logical_and.reduce([np.ones(len(vectors), dtype=bool), *(holds[n] for n in names)])
                people.append(vectors[true])
    return [np.concatenate(people)[:most] for people in found]


def _variations(made: np.ndarray, same: np.ndarray, touched: set[str]) -> dict[str, float]:
    """Total variation of every field not touched: over the choices, or over ten bins of equal mass.

    Bins narrower than 5 % of the field's range are joined: nobody sees 0.02 of lipstick.
    """
    a, b = columns_from_vectors(made), columns_from_vectors(same)
    result = {}
    for e in vector_layout():
        if e.name in touched:
            continue
        if e.choices:
            edges = np.arange(len(e.choices) + 1) - 0.5
        else:
            edges = _apart(np.quantile(b[e.name], np.linspace(0, 1, 11)), 0.05 * (e.high - e.low))
        shares = [np.histogram(x[e.name], edges)[0] / len(x[e.name]) for x in (a, b)]
        result[e.name] = float(0.5 * np.abs(shares[0] - shares[1]).sum())
    return result


def _apart(quantiles: np.ndarray, least: float) -> np.ndarray:
    """Bin edges from -inf to inf, at the inner quantiles that are at least that far from the one before."""
    edges = [-np.inf]
    start = quantiles[0]
    for q in quantiles[1:-1]:
        if q - start >= least and quantiles[-1] - q >= least:
            edges.append(q)
            start = q
    return np.array([*edges, np.inf])


def _distance(vectors: np.ndarray, generator: np.random.Generator) -> float:
    """Mean distance between two people, as spec vectors."""
    i, j = generator.integers(len(vectors), size=(2, 4000))
    return float(np.linalg.norm(vectors[i] - vectors[j], axis=1)[i != j].mean())


# -- the rest --------------------------------------------------------------------------------------------------


def unused_words(model: TextModel) -> dict:
    """Share of unrelated words that are reported as unused, and of held-out content words that are used."""
    strange = [
        "dragon",
        "spaceship",
        "castle",
        "banana",
        "guitar",
        "mountain",
        "democracy",
        "wizardry",
        "laptop",
        "river",
        "elephant",
        "algorithm",
        "pizza",
        "sword",
        "tractor",
        "violin",
        "planet",
        "yesterday",
        "philosophy",
        "invoice",
        "battery",
        "volcano",
        "piano",
        "bridge",
        "kitchen",
        "engine",
        "cloud",
        "tattoo",
        "wings",
        "tail",
        "robot",
        "horse",
    ]
    refused = [w for w in strange if w in understand(f"old man with {w} glasses", model).unused]
    known = set(model.config.vocabulary) | set(model.config.idle)
    held = {
        w
        for block, roles in wordings().items()
        if block.split(".")[0] in attributes()
        for role in roles.values()
        for phrase in role["held_out"]
        if "{" not in phrase and len(tokenize(phrase)) == 1
        for w in tokenize(phrase)
        if w not in known
    }
    used = [w for w in sorted(held) if w in _used_anywhere(w, model)]
    result: dict = {"unrelated_refused": len(refused) / len(strange), "held_out_used": len(used) / len(held)}
    result |= {"taken": sorted(set(strange) - set(refused)), "missed": sorted(held - set(used))}
    print(f"\nunrelated words refused {result['unrelated_refused']:.3f} (taken: {', '.join(result['taken'])})")
    print(f"untaught single words used {result['held_out_used']:.3f} of {len(held)}")
    return result


def _used_anywhere(word: str, model: TextModel) -> set[str]:
    return {w for text in (f"{word} man", f"woman with {word}") for w in understand(text, model).used}


def timing(config: Config) -> dict:
    start = time.perf_counter()
    model = load_text_model(config.weights, config.words)
    loaded = time.perf_counter()
    sample_specs("old man with glasses", 0, model=model)
    first = time.perf_counter()
    sample_specs("old man with glasses", 0, 10, model=model)
    last = time.perf_counter()
    result = {"load": loaded - start, "first": first - loaded, "each": (last - first) / 10}
    print("seconds: " + ", ".join(f"{k} {v:.2f}" for k, v in result.items()))
    return result


if __name__ == "__main__":
    main(tyro.cli(Config))
