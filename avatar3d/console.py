"""What the command shows: progress (bars on a terminal, plain lines elsewhere, always on stderr), errors."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from avatar3d.errors import InputError

Report = Callable[[str, int, int], None]
"""Called with a stage's name, the steps done and the steps in all."""


@contextmanager
def progress(quiet: bool) -> Iterator[Report]:
    """A `Report` to pass to the pipeline; `quiet` shows nothing."""
    if quiet:
        yield lambda stage, done, total: None
    elif sys.stderr.isatty():
        with _bars() as report:
            yield report
    else:
        yield _lines()


@contextmanager
def _bars() -> Iterator[Report]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:<20}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True)) as bars:
        tasks: dict[str, int] = {}

        def report(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total)  # type: ignore[arg-type]

        yield report


def _lines() -> Report:
    begun: set[str] = set()

    def report(stage: str, done: int, total: int) -> None:
        if stage not in begun:
            begun.add(stage)
            print(f"{stage} ...", file=sys.stderr, flush=True)

    return report


def explain(error: Exception) -> tuple[int, str]:
    """Exit code and message of an error; what the user can mend is 2, anything else is 1."""
    if isinstance(error, InputError):
        return 2, str(error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return 2, "the disk is full; free some space or choose another --out. Nothing half-written is left"
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return 2, f"{error.filename or 'the output'} is not accessible ({error.strerror}); check its permissions"
    if isinstance(error, MemoryError):
        return 1, "not enough memory; close other programs or lower --resolution"
    message = f"{type(error).__name__}: {error}"
    return 1, f"{message}. This is a fault of avatar3d: please report it with the output of --debug"


def megabytes(size: int) -> str:
    return f"{size / 1e6:.2f} MB"
