"""Processes that distil one scene together, as `accelerate launch` and `torchrun` start them. Door to accelerate.

Every process holds the scene and draws its own share of a step's cameras. Gradients are averaged before the
optimizer's step, so the scenes stay equal. One alone needs no accelerate, and sends nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
from torch import Tensor, nn

from avatar3d.diffusion.draws import step_generator
from avatar3d.errors import InputError

T = TypeVar("T")
STREAMS = 16
"""Streams of draws that a process has to itself: more than a method has stages."""
PATIENCE = timedelta(hours=12)
"""How long the others wait for the first one, which makes the files."""


class ProcessesError(InputError):
    """Processes that can not work together."""


@dataclass(frozen=True)
class Processes:
    """Which of how many this is; by default one alone."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """The one that writes files and reports."""
        return self.rank == 0

    def share(self, batch: int) -> int:
        """Cameras of a step that this process draws: as many as every other."""
        return -(-batch // self.count)

    def own_generator(self, shared: torch.Generator, seed: int, stream: int, step: int) -> torch.Generator:
        """The source of what only this process draws in a step. That of the first is the shared one, so that one
        alone draws all from it."""
        return shared if self.first else step_generator(seed, stream + STREAMS * self.rank, step)

    def agreed(self, fault: str | None) -> str | None:
        """The fault of the first process that has one; all must call it."""
        if self.count == 1:
            return fault
        from accelerate.utils import gather_object

        return next((found for found in gather_object([fault]) if found is not None), None)

    def mean(self, value: Tensor) -> Tensor:
        """Over all processes; all must call it."""
        if self.count == 1:
            return value
        from accelerate.utils import reduce

        return reduce(value, "mean")

    def average_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Put the mean over all processes into `grad`, in one message; all must call it.

        Where some have a gradient and others None, None counts as zeros. The mean is the gradient of the mean loss
        (data-parallel stochastic gradient descent).
        """
        if self.count == 1:
            return
        filled = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        has = torch.tensor([float(p.grad is not None) for p in parameters], device=filled[0].device)
        *means, has = self.mean(torch.cat([*(g.flatten().float() for g in filled), has])).split(
            [*(g.numel() for g in filled), len(filled)]
        )
        for parameter, mean, share in zip(parameters, means, has.tolist(), strict=True):
            parameter.grad = mean.view_as(parameter).to(parameter.dtype) if share else None

    def of_first(self, make: Callable[[], T]) -> T:
        """What `make` gives in the first process, or the error that it raises there; all must call it."""
        if self.count == 1:
            return make()
        from accelerate.utils import broadcast_object_list

        said: list = [None, None]
        if self.first:
            try:
                said[0] = make()
            except Exception as error:
                said[1] = error
        value, fault = broadcast_object_list(said)
        if fault is not None:
            raise fault
        return value


ALONE = Processes()


def launched(device: str) -> tuple[Processes, str]:
    """The processes that were started with this one, and the device of this one: `cuda` is the local rank's GPU.

    Raises `ProcessesError` for several processes on a device that they can not send from.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1 or "LOCAL_RANK" not in os.environ:
        return ALONE, device
    cpu = torch.device(device).type == "cpu"
    if not cpu and not (torch.device(device).type == "cuda" and torch.cuda.is_available()):
        raise ProcessesError(f"{count} processes can not share --device {device}: give cuda on GPUs, or cpu")
    from accelerate import PartialState

    state = PartialState(cpu=cpu, timeout=PATIENCE)
    return Processes(state.process_index, state.num_processes), device if cpu else str(state.device)
