"""Independent jobs side by side: in processes of this machine, or on a Ray cluster; the door to Ray.

Both are generators that give (number of the job, what it gave or the error that it raised) as jobs are done, and
stop what is still running when they are closed. Work is a function of a module, jobs and results can be pickled.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

import torch

from avatar3d.errors import InputError

J = TypeVar("J")
R = TypeVar("R")
Done = Generator[tuple[int, R | Exception], None, None]
Spread = Callable[[Callable[[Any], Any], Sequence[Any]], Done]
"""`in_processes` or `on_ray` with its settings."""
VISIBLE = "CUDA_VISIBLE_DEVICES"


class WorkersError(InputError):
    """Workers that are not there, or died."""


def in_processes(work: Callable[[J], R], jobs: Sequence[J], count: int) -> Done[R]:
    """In `count` new processes of this machine, which share its threads; each sees one GPU, in turn, if there are
    any."""
    context = multiprocessing.get_context("spawn")
    places = context.SimpleQueue()
    gpus = os.environ.get(VISIBLE, ",".join(map(str, range(torch.cuda.device_count())))).split(",")
    for number in range(count):
        places.put(gpus[number % len(gpus)])
    before = set(multiprocessing.active_children())
    threads = max(1, torch.get_num_threads() // count)
    pool = ProcessPoolExecutor(count, context, _start, (places, threads))
    try:
        numbers = {pool.submit(work, job): n for n, job in enumerate(jobs)}
        for future in as_completed(numbers):
            yield numbers[future], _result(future)
    except BaseException:  # closed early, or interrupted
        for child in set(multiprocessing.active_children()) - before:
            child.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def on_ray(work: Callable[[J], R], jobs: Sequence[J], gpus: float = 0) -> Done[R]:
    """On the running Ray cluster, or on this machine if there is none; a job takes one CPU and so many GPUs.

    Raises `WorkersError` without Ray.
    """
    try:
        import ray
    except ImportError:
        raise WorkersError("--ray needs ray: `pip install 'avatar3d[ray]'`, or leave --ray out") from None
    ray.init(ignore_reinit_error=True)
    # max_calls: workers with a GPU too go on to the next job. A job that died is for the caller to give again.
    remote = ray.remote(num_cpus=1, num_gpus=gpus, max_calls=0, max_retries=0)(work)
    numbers = {remote.remote(job): n for n, job in enumerate(jobs)}
    pending = list(numbers)
    try:
        while pending:
            (ready, *_), pending = ray.wait(pending)
            result: R | Exception
            try:
                result = ray.get(ready)
            except Exception as error:
                cause = getattr(error, "cause", None)  # of what was raised in the job itself
                result = cause if isinstance(cause, Exception) else error
            yield numbers[ready], result
    finally:
        for reference in pending:
            ray.cancel(reference, force=True)


def _start(places: Any, threads: int) -> None:
    """A worker takes its place, and leaves Ctrl-C to the process that started it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if gpu := places.get():
        os.environ[VISIBLE] = gpu
    torch.set_num_threads(threads)


def _result(future: Future[Any]) -> Any:
    """What a job gave, or its error."""
    try:
        return future.result()
    except BrokenProcessPool:
        return WorkersError(
            "a worker process died, perhaps for want of memory; give the same command again with --resume, and "
            "with fewer --jobs"
        )
    except Exception as error:
        return error
