"""Several distillations, in turn or side by side: the prompts of a file, and seeds of which the best is named."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

from avatar3d.distill.folder import finished_record
from avatar3d.distill.presets import load
from avatar3d.distill.prior import PriorError
from avatar3d.distill.processes import ALONE, Processes
from avatar3d.distillation import DistillError, Opened, Report, Wish, adapted, distill, open_for
from avatar3d.errors import InputError
from avatar3d.runs import run_folder, slug
from avatar3d.workers import Done, Spread

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


@dataclass(frozen=True)
class Job:
    """One distillation of several, for a worker."""

    wish: Wish
    prompts: tuple[str, ...]
    """Of all jobs: a worker's prior reads them once, whichever it will be given."""
    out: Path
    overwrite: bool
    resume: bool


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
    by_slug: dict[str, str] = {}
    for prompt in prompts:
        if (other := by_slug.setdefault(slug(prompt), prompt)) != prompt or prompts.count(prompt) > 1:
            raise PromptsError(f"{file} has {other!r} and {prompt!r}; their folders would be the same")
    return prompts


def distill_all(
    wish: Wish, prompts: Sequence[str], seeds: Sequence[int], out: Path, overwrite: bool, resume: bool,
    report: Report, failed: Failed, spread: Spread | None = None, processes: Processes = ALONE,
) -> Trials:  # fmt: skip
    """`distill` for each prompt and seed, in the order of the prompts. One alone raises what it raises; of several
    those that fail are collected and the others go on. With `resume` those that are finished are not made again.

    `spread` has them made side by side by workers, which must see `out` and the files of the wish under the same
    paths. Without it all `processes` make one after the other together.

    Raises `InputError` at once for a method or a prior that none of them could work with.
    """
    adapted(load(wish.method), wish)
    wishes = [replace(wish, prompt=p, seed=s, scored=len(seeds) > 1) for p in prompts for s in seeds]
    alone = len(wishes) == 1
    done: list[dict | Exception | None] = processes.of_first(
        lambda: [
            finished_record(run_folder(out, one.prompt, one.seed)) if resume and not alone else None
            for one in wishes
        ]
    )
    todo = [n for n, found in enumerate(done) if found is None]
    told = tuple(dict.fromkeys(wishes[n].prompt for n in todo))
    if spread is None:
        jobs = [Job(wishes[n], told, out, overwrite, resume) for n in todo]
        results = _in_turn(jobs, report, processes)
    else:
        jobs = [Job(_absolute(wishes[n]), told, out.resolve(), overwrite, resume) for n in todo]
        results = spread(work, jobs)
    with closing(results):
        for count, (number, result) in enumerate(results, 1):
            n = todo[number]
            done[n] = result
            if isinstance(result, Exception):
                if alone or isinstance(result, (PriorError, DistillError)):
                    raise result
                failed(wishes[n], result)
            if spread is not None:
                report("runs", count, len(todo))
    trials = Trials(runs=[found for found in done if isinstance(found, dict)])
    trials.failed = [(w, found) for w, found in zip(wishes, done, strict=True) if isinstance(found, Exception)]
    if len(seeds) > 1:
        trials.best = best(trials.runs)
    return trials


def work(job: Job) -> dict:
    """What a worker does with a job; it opens the prior once for all that it is given."""
    opened = _opened(replace(job.wish, prompt="", seed=0, scored=False), job.prompts)
    return distill(job.wish, job.out, job.overwrite, job.resume, lambda *_: None, opened)


def _in_turn(jobs: Sequence[Job], report: Report, processes: Processes) -> Done[dict]:
    opened = open_for(jobs[0].wish, jobs[0].prompts) if jobs else None
    for n, job in enumerate(jobs):

        def labelled(stage: str, done: int, total: int, label: str = f"{n + 1}/{len(jobs)} ") -> None:
            report(f"{label if len(jobs) > 1 else ''}{stage}", done, total)

        assert opened is not None
        result: dict | Exception
        try:
            result = distill(job.wish, job.out, job.overwrite, job.resume, labelled, opened, processes)
        except Exception as error:
            if processes.count > 1 and not isinstance(error, InputError):
                raise  # the others may not have met it, and would wait
            result = error
        yield n, result


@lru_cache(maxsize=1)
def _opened(wish: Wish, prompts: tuple[str, ...]) -> Opened:
    return open_for(wish, prompts)


def _absolute(wish: Wish) -> Wish:
    """A wish for workers that are in another folder."""

    def resolved(name: str) -> str:
        return str(Path(name).resolve()) if Path(name).exists() else name

    method = resolved(wish.method) if wish.method.endswith((".yaml", ".yml")) else wish.method
    return replace(
        wish,
        method=method,
        prior=wish.prior and resolved(wish.prior),
        lora=wish.lora and resolved(wish.lora),
        avatar=wish.avatar and wish.avatar.resolve(),
    )


def best(runs: Sequence[dict]) -> list[str]:
    """The folder of each prompt's best run, in the order of the prompts: highest score, before those that diverged
    or have no surface."""

    def rank(run: dict) -> tuple[bool, float]:
        sound = not run["diverged"] and "fault" not in run.get("mesh", {})
        return sound, run.get("score", float("-inf"))

    prompts = dict.fromkeys(run["prompt"] for run in runs)
    return [max((run for run in runs if run["prompt"] == p), key=rank)["folder"] for p in prompts]
