"""How much memory a distillation takes, before it takes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from avatar3d.distill.stage import Method
from avatar3d.errors import InputError

GIGABYTE = 1e9
BASE = 0.9e9
"""Of Python with its packages."""
COPIES = 6
"""A parameter, its gradient, two moments of Adam, and the last good state of parameter and moments, roughly."""
POINT = 600
"""Bytes that a sample of a ray keeps for the backward pass in the smallest of the fields."""
ROW = 120
"""Bytes of activations for each number of a latent and each byte of a channel's width: measured on U-Nets to be of
this order, not exact."""
ROWS = 64
RENDERER = 1 << 30


class NotEnoughMemoryError(InputError):
    """A limit that the smallest setting does not fit."""


@dataclass(frozen=True)
class Plan:
    """What fits."""

    rows: int
    """Pictures that the prior is asked about at once."""
    renderer: int
    """Bytes that rays may keep; more is computed again in the backward pass."""
    estimate: float
    """Bytes in all."""


def plan(limit: float | None, prior: Any, method: Method) -> Plan:
    """Fewest pieces that fit into `limit` gigabytes (None: no limit); an estimate, not a promise.

    Raises `NotEnoughMemoryError` when a picture at a time and a small renderer do not fit.
    """
    network = prior.network
    models = (network.model, getattr(network, "controlnet", None), prior.vae)
    weights = sum(module_bytes(m) for m in models if isinstance(m, nn.Module))
    scene = (
        max(COPIES * 16 * stage.scene.resolution**3 for stage in method.stages if stage.scene.kind == "voxels")
        if any(stage.scene.kind == "voxels" for stage in method.stages)
        else 0.2e9
    )
    fixed = BASE + weights + scene
    _, height, width = prior.latent
    row = ROW * height * width * widest(network.model)
    rays = max(
        POINT * stage.batch * stage.size**2 * (stage.scene.nodes + stage.scene.importance)
        for stage in method.stages
    )
    rows, renderer = ROWS, min(RENDERER, int(rays) or RENDERER)
    if limit is None:
        return Plan(ROWS, RENDERER, fixed + rows * row + rays)
    room = limit * GIGABYTE - fixed
    if room < row + (RENDERER >> 4):
        need = (fixed + row + (RENDERER >> 4)) / GIGABYTE
        raise NotEnoughMemoryError(
            f"--max-memory {limit:g} GB is too little: at least about {need:.1f} GB are needed with this prior "
            "and method; take a smaller prior or --method fast"
        )
    renderer = int(min(RENDERER, max(RENDERER >> 4, 0.5 * room)))
    rows = int(max(1, min(ROWS, (room - renderer) // row)))
    return Plan(rows, renderer, fixed + rows * row + renderer)


def module_bytes(module: nn.Module) -> int:
    """Of its parameters."""
    return sum(p.numel() * p.element_size() for p in module.parameters())


def widest(network: Any) -> int:
    """Channels of a denoiser at its finest level."""
    config = network.config
    first = config.get("block_out_channels") or [
        config.get("num_attention_heads", 8) * config.get("attention_head_dim", 64)
    ]
    return int(first[0])
