"""Several distillations one after the other: the prompts of a file, and seeds of which the best is named."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from avatar3d.distill.presets import load
from avatar3d.distill.prior import PriorError
from avatar3d.distillation import RECORD, STATE, DistillError, Report, Wish, adapted, distill
from avatar3d.errors import InputError
from avatar3d.runs import run_folder

Failed = Callable[[Wish, Exception], None]
"""Called at once when one of several fails."""


class PromptsError(InputError):
    """A file of prompts that can not be used."""


@dataclass
class Trials:
    """What several distillations came to."""

    runs: list[dict] = field(default_factory=list)
    """Their records."""
    best: list[str] = field(default_factory=list)
    """With several seeds: the folder of each prompt's best."""
    failed: list[tuple[Wish, Exception]] = field(default_factory=list)


def read_prompts(file: Path) -> list[str]:
    """The lines of a file that are not blank. Raises `PromptsError`."""
    try:
        lines = file.read_text("utf-8-sig").splitlines()
    except OSError as error:
        raise PromptsError(f"{file} can not be read ({error.strerror}); check the path of --prompts") from error
    except UnicodeDecodeError as error:
        raise PromptsError(f"{file} is not UTF-8 text; save it as such") from error
    prompts = [line.strip() for line in lines if line.strip()]
    if not prompts:
        raise PromptsError(f"{file} has no prompt: write one on each line")
    if twice := {p for p in prompts if prompts.count(p) > 1}:
        raise PromptsError(f"{file} has {sorted(twice)[0]!r} more than once; their folders would be the same")
    return prompts


def distill_all(
    wish: Wish, prompts: Sequence[str], seeds: Sequence[int], out: Path, overwrite: bool, resume: bool,
    report: Report, failed: Failed,
) -> Trials:  # fmt: skip
    """`distill` for each prompt and seed. One alone raises what it raises; of several those that fail are
    collected and the others go on. With `resume` those that are finished are not made again.

    Raises `InputError` at once for a method or a prior that none of them could work with.
    """
    adapted(load(wish.method), wish)
    wishes = [replace(wish, prompt=p, seed=s, scored=len(seeds) > 1) for p in prompts for s in seeds]
    if len(wishes) == 1:
        return Trials([distill(wishes[0], out, overwrite, resume, report)])
    trials = Trials()
    for n, one in enumerate(wishes):

        def labelled(stage: str, done: int, total: int, label: str = f"{n + 1}/{len(wishes)}") -> None:
            report(f"{label} {stage}", done, total)

        try:
            finished = _finished(one, out) if resume else None
            trials.runs.append(finished or distill(one, out, overwrite, resume, labelled))
        except (PriorError, DistillError):
            raise
        except Exception as error:
            trials.failed.append((one, error))
            failed(one, error)
    if len(seeds) > 1:
        trials.best = best(trials.runs)
    return trials


def best(runs: Sequence[dict]) -> list[str]:
    """The folder of each prompt's best run, in the order of the prompts: highest score, before those that diverged
    or have no surface."""

    def rank(run: dict) -> tuple[bool, float]:
        sound = not run["diverged"] and "fault" not in run.get("mesh", {})
        return sound, run.get("score", float("-inf"))

    prompts = dict.fromkeys(run["prompt"] for run in runs)
    return [max((run for run in runs if run["prompt"] == p), key=rank)["folder"] for p in prompts]


def _finished(wish: Wish, out: Path) -> dict | None:
    """The record of a run that is finished already."""
    folder = run_folder(out, wish.prompt, wish.seed)
    if (folder / STATE).exists() or not (folder / RECORD).is_file():
        return None
    return json.loads((folder / RECORD).read_text("utf-8"))
