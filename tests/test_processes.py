"""Two processes on one scene, with a prior that is known in closed form: N(m, s^2) pixels."""

from __future__ import annotations

import os
import socket
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_distill_loop import STAGE, BallPrior, scene
from torch import Tensor

from avatar3d.distill.binding import encode_prompts
from avatar3d.distill.loop import Running, run_stage, step_loss
from avatar3d.distill.processes import ALONE, Processes, ProcessesError, launched

SHORT = replace(STAGE, steps=10)
SPREAD = 0.2


class Gaussian(BallPrior):
    """Pixels are N(mean, SPREAD^2), so the noise is sigma (noisy - alpha mean) / (alpha^2 SPREAD^2 + sigma^2)."""

    def __init__(self, breaks: int = 0) -> None:
        super().__init__()
        self.calls, self.breaks = 0, breaks

    def predict(self, noisy: Tensor, t: Tensor, text, angles=None, pose=None, behind=None) -> Tensor:
        self.calls += 1
        alpha, sigma = (x.view(-1, 1, 1, 1) for x in self.levels(t))
        noise = sigma * (noisy - alpha * self.mean) / ((alpha * SPREAD).square() + sigma.square())
        return noise * torch.nan if self.calls == self.breaks else noise


def run(settings: Running, prior: Gaussian | None = None, watch=None):
    made, prior = scene(SHORT), prior or Gaussian()
    outcome = run_stage(made, prior, encode_prompts(prior, "a ball"), SHORT, settings, watch)
    return made.state_dict(), outcome


def gradients(processes: Processes) -> tuple[torch.nn.Module, list[Tensor | None]]:
    """Of the first step, of what this process draws."""
    made, prior = scene(SHORT), Gaussian()
    stage = replace(SHORT, batch=processes.share(SHORT.batch))
    settings = Running(seed=5, processes=processes)
    total, _ = step_loss(made, prior, encode_prompts(prior, "a ball"), stage, settings, 0)
    total.backward()
    return made, [p.grad for p in made.parameters()]


class KilledError(Exception):
    pass


def kill(progress) -> None:
    if progress.step == 7:
        raise KilledError


def one_of_two(rank: int, port: int, folder: str) -> None:
    """What each process does; the answers go to a file."""
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    processes, device = launched("cpu")
    assert (processes, device) == (Processes(rank, 2), "cpu")
    said: dict = {"agreed": [processes.agreed(None), processes.agreed("foggy" if rank == 1 else None)]}
    said["of_first"] = processes.of_first(lambda: {"rank": rank})
    try:
        processes.of_first(lambda: int("x") if rank == 0 else 1)
    except ValueError as error:
        said["error"] = str(error)
    made, _ = gradients(processes)
    idle = torch.nn.Parameter(torch.ones(2))
    busy = torch.nn.Parameter(torch.ones(2))
    busy.grad = torch.full((2,), 6.0) if rank == 1 else None
    processes.average_gradients([*made.parameters(), idle, busy])
    said |= {"gradients": [p.grad for p in made.parameters()], "idle": idle.grad, "busy": busy.grad}
    said["straight"] = run(Running(seed=5, processes=processes))[0]
    path = Path(folder) / f"{rank}-checkpoint.pt"
    settings = Running(seed=5, checkpoint=path, save_every=4, processes=processes)
    try:
        run(settings, watch=kill)
    except KilledError:
        said["has_checkpoint"] = path.exists()
    said["resumed"] = run(settings)[0]
    broken, outcome = run(Running(seed=5, processes=processes), Gaussian(breaks=3 if rank == 1 else 0))
    said |= {"broken": broken, "faults": [[fault.kind, fault.step] for fault in outcome.faults]}
    torch.save(said, Path(folder) / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> list[dict]:
    folder = tmp_path_factory.mktemp("two")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(one_of_two, (port, str(folder)), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_what_is_said_to_all(two):
    for said in two:
        assert said["agreed"] == [None, "foggy"] and said["of_first"] == {"rank": 0}
        assert "invalid literal" in said["error"]


def test_gradients_are_the_mean_of_both(two):
    parts = [gradients(Processes(rank, 2))[1] for rank in (0, 1)]
    assert not torch.equal(parts[0][0], parts[1][0])  # each draws its own cameras
    for one, other, *found in zip(*parts, two[0]["gradients"], two[1]["gradients"], strict=True):
        for mean in found:  # the processes may add in another order, with other numbers of threads
            expected = (one + other) / 2
            assert torch.allclose(mean, expected, rtol=1e-3, atol=1e-5 * float(expected.abs().max()))
    for said in two:
        assert said["idle"] is None and torch.equal(said["busy"], torch.full((2,), 3.0))


def test_scenes_stay_equal_and_resume_from_the_checkpoint_of_the_first(two):
    assert equal(two[0]["straight"], two[1]["straight"])
    assert not equal(two[0]["straight"], scene(SHORT).state_dict())
    assert [said["has_checkpoint"] for said in two] == [True, False]
    for said in two:
        assert equal(said["resumed"], two[0]["straight"])


def test_a_fault_in_one_process_is_a_fault_of_all(two):
    assert equal(two[0]["broken"], two[1]["broken"])
    assert two[0]["faults"] == two[1]["faults"] == [["not finite", 3]]


def test_one_alone_runs_the_plain_loop_to_the_bit():
    stage, prior, made = SHORT, Gaussian(), scene(SHORT)
    prompts = encode_prompts(prior, "a ball")
    optimizer = torch.optim.Adam(list(made.parameters()), stage.rate, betas=(0.9, 0.99), eps=1e-15)
    for step in range(stage.steps):
        total, _ = step_loss(made, prior, prompts, stage, Running(seed=5), step)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    found, outcome = run(Running(seed=5))
    assert outcome.faults == [] and equal(found, made.state_dict())
    alone = torch.Generator().manual_seed(1)
    assert ALONE.own_generator(alone, 5, 0, 0) is alone and ALONE.share(3) == 3


def test_only_launched_processes_use_accelerate(monkeypatch):
    monkeypatch.setitem(sys.modules, "accelerate", None)
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert launched("cpu") == (ALONE, "cpu")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "0")
    with pytest.raises(ProcessesError, match="meta"):
        launched("meta")


def test_shares_are_equal_and_enough():
    for batch in range(1, 9):
        for count in range(1, 6):
            share = Processes(0, count).share(batch)
            assert share * count >= batch > (share - 1) * count
