"""What all training programs of the cascade share: schedule, average of the weights, exact checkpoints."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from avatar3d.weights import save_tensors


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to train."""

    steps: int = 4000
    rate: float = 2e-3
    """Peak learning rate; it warms up and falls to 2 % along a cosine."""
    warm_up: int = 100
    average: float = 0.995
    """Decay of the average of the weights that is kept for use."""
    save_every: int = 200
    minutes: float | None = None
    """Stop after so many minutes of this run, with a checkpoint; the same command goes on."""

    def at(self, step: int) -> float:
        """Learning rate of a step."""
        fall = 0.51 + 0.49 * math.cos(math.pi * min(step / self.steps, 1.0))
        return self.rate * min(1.0, (step + 1) / self.warm_up) * fall


Loss = Callable[[int], dict[str, Tensor]]
"""Step -> losses, to be added up. All draws of a step come from its number, so that resuming is exact."""


def train(
    model: nn.Module,
    loss: Loss,
    schedule: Schedule,
    folder: Path,
    kind: str,
    after: Callable[[int, nn.Module], str] | None = None,
) -> dict[str, Tensor]:
    """AdamW with clipped gradients; returns the averaged weights, which `folder/average.safetensors` holds too.

    `after`, called at every save with the step and the model under its averaged weights, may return a remark for
    the log. Parameters that want no gradient stay as they are.
    """
    folder.mkdir(parents=True, exist_ok=True)
    wanted = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(wanted, lr=schedule.rate, betas=(0.9, 0.99), weight_decay=0.01)
    average = {name: value.clone() for name, value in model.state_dict().items()}
    checkpoint, start = folder / "checkpoint.pt", 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True, map_location=next(model.parameters()).device)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        average, start = state["average"], state["step"]
        print(f"resumed at step {start}", flush=True)
    sums: dict[str, float] = {}
    began, counted = time.perf_counter(), 0
    for step in range(start, schedule.steps):
        for group in optimizer.param_groups:
            group["lr"] = schedule.at(step)
        losses = loss(step)
        optimizer.zero_grad(set_to_none=True)
        torch.stack(list(losses.values())).sum().backward()
        nn.utils.clip_grad_norm_(wanted, 1.0)
        optimizer.step()
        decay = min(schedule.average, (step + 1) / (step + 10))
        with torch.no_grad():
            for name, value in model.state_dict().items():
                average[name].lerp_(value, 1.0 - decay) if value.is_floating_point() else average[name].copy_(
                    value
                )
        for name, value in losses.items():
            sums[name] = sums.get(name, 0.0) + value.item()
        counted += 1
        out_of_time = schedule.minutes is not None and time.perf_counter() - began > 60 * schedule.minutes
        if (step + 1) % schedule.save_every == 0 or step + 1 == schedule.steps or out_of_time:
            means = "  ".join(f"{name} {value / counted:.4f}" for name, value in sums.items())
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            _save(state | {"average": average, "step": step + 1}, checkpoint)
            save_tensors(folder / "average.safetensors", average, {"type": kind, "version": "1"})
            remark = _with_average(model, average, partial(after, step + 1, model)) if after else ""
            print(f"step {step + 1}  {means}  {time.perf_counter() - began:.0f} s  {remark}", flush=True)
            sums, counted = {}, 0
        if out_of_time:
            break
    return average


def _with_average(model: nn.Module, average: dict[str, Tensor], call: Callable[[], str]) -> str:
    own = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(average)
    model.eval()
    with torch.no_grad():
        remark = call()
    model.load_state_dict(own)
    model.train()
    return remark


def _save(state: dict, path: Path) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    torch.save(state, temporary)
    os.replace(temporary, path)


"""One stream per program: auto-encoder 1, base 2, upsampler 3."""
