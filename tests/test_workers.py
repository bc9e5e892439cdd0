"""Jobs side by side: in two real processes, and through a stand-in for Ray's few functions."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
import types
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing

import pytest

from avatar3d import workers
from avatar3d.workers import WorkersError, in_processes, on_ray


def quarter(number: int) -> tuple[float, str]:
    """8 lasts for long."""
    if number == 8:
        time.sleep(600)
    return 4 / number, os.environ.get(workers.VISIBLE, "")


def test_processes_give_results_and_errors_as_they_come_and_end_when_closed(monkeypatch):
    monkeypatch.setenv(workers.VISIBLE, "5,7")
    before = set(multiprocessing.active_children())
    with closing(in_processes(quarter, [8, 2, 0, 1], 2)) as results:
        found = dict(next(results) for _ in range(3))
    assert set(multiprocessing.active_children()) == before
    assert found[1][0] == 2.0 and found[3][0] == 4.0 and isinstance(found[2], ZeroDivisionError)
    assert found[1][1] == found[3][1] and found[1][1] in ("5", "7")  # a process keeps its GPU


def test_a_worker_that_dies_is_an_error_with_a_remedy():
    future: Future = Future()
    future.set_exception(BrokenProcessPool())
    assert isinstance(found := workers._result(future), WorkersError) and "--resume" in str(found)


def test_ray_that_is_not_there(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(WorkersError, match=r"pip install 'avatar3d\[ray\]'"):
        next(on_ray(quarter, [1]))


class RayTaskError(Exception):
    """As Ray wraps what a job raises."""

    def __init__(self, cause: Exception) -> None:
        super().__init__("a remote traceback")
        self.cause = cause


@pytest.fixture
def ray(monkeypatch) -> types.SimpleNamespace:
    """Runs a job when it is asked for; the last one given is ready first."""
    said = types.SimpleNamespace(options={}, cancelled=[], started=0)

    def init(ignore_reinit_error: bool) -> None:
        said.started += 1

    def remote(**options):
        said.options = options
        return lambda work: types.SimpleNamespace(remote=lambda job: (work, job))

    def get(reference):
        work, job = reference
        try:
            return work(job)
        except Exception as error:
            raise RayTaskError(error) from error

    def wait(pending):
        return pending[-1:], pending[:-1]

    def cancel(reference, force: bool) -> None:
        said.cancelled.append(reference[1])

    module = types.ModuleType("ray")
    module.__dict__.update(init=init, remote=remote, get=get, wait=wait, cancel=cancel)
    monkeypatch.setitem(sys.modules, "ray", module)
    return said


def test_ray_gives_results_and_the_jobs_own_errors(ray):
    found = list(on_ray(quarter, [4, 0, 1], gpus=1))
    assert [number for number, _ in found] == [2, 1, 0]
    assert found[0][1][0] == 4.0 and found[2][1][0] == 1.0
    assert isinstance(found[1][1], ZeroDivisionError)
    assert ray.options["num_gpus"] == 1 and ray.started == 1 and ray.cancelled == []


def test_ray_jobs_are_cancelled_when_closed(ray):
    with closing(on_ray(quarter, [4, 2, 1])) as results:
        next(results)
    assert ray.cancelled == [4, 2]
