"""Make the data set of the cascade: avatars as labelled points, charts, pictures, specs and captions.

    python scripts/make_dataset.py --count 1000 --out outputs/bust

Shards are written whole or not at all, so the same command goes on after any interruption. An avatar depends on
the seed and its own number alone: the same command gives the same bytes, with any number of processes.
`--ray` spreads the shards over the machines of a running Ray cluster that share the folder `--out`.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from safetensors.numpy import save_file

from avatar3d.cascade.example import POINTS, make_example
from avatar3d.engine.captions import choose
from avatar3d.engine.grammar import compose
from avatar3d.engine.pairs import draw, make_people
from avatar3d.engine.statements import statements
from avatar3d.spec import spec_from_vector, spec_to_json, spec_to_vector
from avatar3d.workers import in_processes, on_ray

CROWD = 48
"""People of whom one is chosen for an avatar, every second time one with a certain thing to say about."""


@dataclass(frozen=True)
class Config:
    count: int = 1000
    """Avatars."""
    out: Path = Path("outputs/bust")
    seed: int = 0
    start: int = 0
    """Number of the first avatar: held-out data are numbers that training does not use."""
    shard: int = 16
    """Avatars in a file."""
    jobs: int = os.cpu_count() or 1
    """Processes."""
    ray: bool = False
    """Spread over a Ray cluster instead (needs ray: pip install 'avatar3d[ray]')."""


def main(config: Config) -> None:
    config.out.mkdir(parents=True, exist_ok=True)
    ranges = [
        (first, min(first + config.shard, config.start + config.count))
        for first in range(config.start, config.start + config.count, config.shard)
    ]
    todo = [r for r in ranges if not shard_path(config.out, *r).exists()]
    print(f"{len(ranges) - len(todo)} of {len(ranges)} shards are there, {len(todo)} to make", flush=True)
    began = time.perf_counter()
    for done, path in enumerate(run_all(config, todo), 1):
        rate = (time.perf_counter() - began) / done
        print(f"{path.name}  {done}/{len(todo)}  {rate * (len(todo) - done):.0f} s left", flush=True)
    write_card(config)


def run_all(config: Config, todo: list[tuple[int, int]]) -> Iterator[Path]:
    """Make shards in processes or on a cluster; yields the path of each as it is done."""
    jobs = [(config.out.resolve(), config.seed, first, end) for first, end in todo]
    if config.jobs == 1 and not config.ray:
        yield from map(make_shard, jobs)
        return
    for _, path in on_ray(make_shard, jobs) if config.ray else in_processes(make_shard, jobs, config.jobs):
        if isinstance(path, Exception):
            raise path
        yield path


def shard_path(folder: Path, first: int, end: int) -> Path:
    """File of the avatars `first` to `end` - 1."""
    return folder / f"bust-{first:06d}-{end - first:03d}.safetensors"


def make_shard(job: tuple[Path, int, int, int]) -> Path:
    """Make the avatars of a shard (folder, seed, first, end) and write it; returns its path."""
    folder, seed, first, end = job
    torch.set_num_threads(1)
    rows, people = [], []
    for number in range(first, end):
        generator = np.random.default_rng([seed, 41, number])
        spec, text, said, true = choose_person(generator)
        rows.append(make_example(spec, generator) | {"vectors": spec_to_vector(spec), "true": true})
        people.append({"spec": json.loads(spec_to_json(spec)), "caption": text, "said": list(said.values())})
    arrays = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    path = shard_path(folder, first, end)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    save_file(arrays, temporary, {"type": "avatar3d.busts", "version": "1", "people": json.dumps(people)})
    os.replace(temporary, path)
    return path


def choose_person(generator: np.random.Generator):
    """A spec, a caption, what it says, and all that could be said (S,) uint8.

    Every second person is one of whom some statement holds that was chosen first, so that rare things are seen.
    """
    people = make_people(generator, CROWD)
    row = draw(people, generator)[0] if generator.random() < 0.5 else 0
    said = choose(people.true[row], generator)
    spec = spec_from_vector(people.vectors[row], int(generator.integers(2**31)))
    return spec, compose(said, generator, "train"), said, people.true[row].astype(np.uint8)


def write_card(config: Config) -> None:
    """README.md beside the data: what is in it and how it was made."""
    (config.out / "README.md").write_text(CARD.format(
        seed=config.seed, first=config.start, last=config.start + config.count - 1, shard=config.shard,
        points=POINTS, statements=len(statements()),
    ))  # fmt: skip


CARD = """# Busts: avatars as labelled points

Procedural people of this project's engine, CC0. Avatars {first} to {last}, seed {seed}, {shard} in a file, made by
`scripts/make_dataset.py`. Specs come from the engine's population; every second one was drawn so that a statement
chosen first holds for it, so rare things are more frequent than in the population.

Per avatar: {points} labelled points (signed distance, material color, part) of what can be seen from outside,
mouth filled; charts that the auto-encoder reads; points on the surface; two albedo pictures of 256 x 256 with
coverage and labels; the spec as a vector and JSON; a caption, what it says, and which of {statements} statements
hold.
Glasses, lashes and jewellery are left out: they are too thin for a field. Not real people; no photo was used.
"""


if __name__ == "__main__":
    main(tyro.cli(Config))
