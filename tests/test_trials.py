"""Several distillations: order, failures, what is opened, and folders that a new run replaces when it is whole."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from avatar3d import trials
from avatar3d.distill.folder import RECORD, STATE, begin, finish, finished_record
from avatar3d.distill.pipelines import DiffusersPrior
from avatar3d.distill.prior import PriorError
from avatar3d.distillation import Opened, Wish
from avatar3d.runs import OutputError, run_folder
from avatar3d.trials import PromptsError, distill_all, read_prompts

WISH = Wish("", method="fast")


@pytest.fixture
def opened(monkeypatch) -> list[tuple[str, ...]]:
    """Distillation that makes a score of the seed, and fails for dragons; returns what priors were opened for."""
    calls: list[tuple[str, ...]] = []

    def open_for(wish, prompts):
        calls.append(tuple(prompts))
        if wish.prior == "broken":
            raise PriorError("broken prior")
        return Opened(object.__new__(DiffusersPrior), {"dragon": OutputError("no person")})

    def distill(wish, out, overwrite, resume, report, opened, processes=None):
        if wish.prompt in opened.refused:
            raise opened.refused[wish.prompt]
        folder = run_folder(out, wish.prompt, wish.seed)
        record = {"prompt": wish.prompt, "seed": wish.seed, "score": -wish.seed, "folder": str(folder)}
        return record | {"diverged": False}

    monkeypatch.setattr(trials, "open_for", open_for)
    monkeypatch.setattr(trials, "distill", distill)
    trials._opened.cache_clear()
    return calls


def backwards(work, jobs):
    """A stand-in for workers: one, and the last job first."""
    for n, job in reversed(list(enumerate(jobs))):
        try:
            yield n, work(job)
        except Exception as error:
            yield n, error


@pytest.mark.parametrize("spread", [None, backwards])
def test_order_failures_and_best(opened, tmp_path, spread):
    seen, told = [], []
    prompts = ["a man", "dragon", "a woman"]
    found = distill_all(
        WISH, prompts, range(2), tmp_path, False, False, lambda *said: told.append(said),
        lambda wish, error: seen.append(wish.seed), spread,
    )  # fmt: skip
    made = [(run["prompt"], run["seed"]) for run in found.runs]
    assert made == [("a man", 0), ("a man", 1), ("a woman", 0), ("a woman", 1)]
    assert [(wish.prompt, wish.seed) for wish, _ in found.failed] == [("dragon", 0), ("dragon", 1)]
    assert sorted(seen) == [0, 1] and seen == ([0, 1] if spread is None else [1, 0])
    assert [Path(folder).name for folder in found.best] == ["a-man-0", "a-woman-0"]
    assert opened == [tuple(prompts)]  # once, for all
    if spread is not None:
        assert told[-1] == ("runs", 6, 6)


@pytest.mark.parametrize("spread", [None, backwards])
def test_what_no_run_could_work_with_is_raised_at_once(opened, tmp_path, spread):
    with pytest.raises(PriorError, match="broken"):
        wish = replace(WISH, prior="broken")
        distill_all(wish, ["a man", "a woman"], [0], tmp_path, False, False, print, print, spread)
    with pytest.raises(OutputError, match="no person"):
        distill_all(WISH, ["dragon"], [0], tmp_path, False, False, print, print, spread)


def test_what_is_finished_is_not_made_again(opened, tmp_path):
    whole = run_folder(tmp_path, "a man", 0)
    whole.mkdir()
    (whole / RECORD).write_text(json.dumps({"prompt": "a man", "seed": 0, "diverged": False, "old": True}))
    found = distill_all(WISH, ["a man", "a woman"], [0], tmp_path, False, True, lambda *_: None, print)
    assert [run.get("old") for run in found.runs] == [True, None] and opened == [("a woman",)]


def test_prompts_whose_folders_would_be_the_same(tmp_path):
    file = tmp_path / "prompts.txt"
    for twice in ("a man\na man\n", "Old man!\nold man\n"):
        file.write_text(twice)
        with pytest.raises(PromptsError, match="same"):
            read_prompts(file)
    file.write_text("a man\n\n a woman \n")
    assert read_prompts(file) == ["a man", "a woman"]


def test_a_whole_run_stays_until_the_new_one_is_whole(tmp_path):
    folder = tmp_path / "out" / "man-0"
    place = begin(folder, False, False)
    assert place == folder and (place / STATE).is_dir()
    with pytest.raises(OutputError, match="--resume"):
        begin(folder, False, False)
    assert begin(folder, False, True) == folder
    finish(folder, folder, {"run": 1}, sound=True)
    assert finished_record(folder) == {"run": 1} and not (folder / STATE).exists()
    with pytest.raises(OutputError, match="finished"):
        begin(folder, False, True)
    with pytest.raises(OutputError, match="--overwrite"):
        begin(folder, False, False)

    place = begin(folder, True, False)  # and killed
    (place / "preview.png").write_text("new")
    assert place != folder and json.loads((folder / RECORD).read_text()) == {"run": 1}
    assert finished_record(folder) is None
    with pytest.raises(OutputError, match="--resume"):
        begin(folder, False, False)
    assert begin(folder, True, True) == begin(folder, False, True) == place
    assert begin(folder, True, False) == place and not (place / "preview.png").exists()
    finish(place, folder, {"run": 2}, sound=True)
    assert finished_record(folder) == {"run": 2} and [f.name for f in folder.parent.iterdir()] == ["man-0"]


def test_an_unsound_run_keeps_its_checkpoints_and_an_unfinished_one_is_replaced_in_place(tmp_path):
    folder = tmp_path / "out" / "man-0"
    finish(begin(folder, False, False), folder, {"run": 1}, sound=False)
    assert finished_record(folder) is None and begin(folder, False, True) == folder
    (folder / RECORD).unlink()
    (folder / "old").touch()
    assert begin(folder, True, False) == folder and not (folder / "old").exists()


def test_folders_of_others_are_not_replaced(tmp_path):
    folder = tmp_path / "man-0"
    folder.mkdir()
    with pytest.raises(OutputError, match="not of an earlier run"):
        begin(folder, True, False)
    folder.rmdir()
    folder.touch()
    with pytest.raises(OutputError, match="is a file"):
        begin(folder, True, False)
