"""What goes wrong in distillation, seen early: scenes that are empty, foggy, opaque or not finite."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

EMPTY = 0.01
"""Less of the pictures is covered than this."""
OPAQUE = 0.9
"""More of the rims of the pictures is covered than this."""
FOG = 0.75
"""More of what is covered at all lets much light through."""
FOG_FROM = 0.7
"""Share of a stage from which fog is a fault: in the beginning it is how shapes come to be."""
STARTS = 0.05
"""Share of a stage before which only what is not finite is a fault."""


@dataclass(frozen=True)
class Fault:
    """What is wrong, and at which step it was seen."""

    kind: str
    step: int


def look(alpha: Float[Tensor, "B H W"], rgb: Float[Tensor, "B 3 H W"], share: float) -> str | None:
    """`empty`, `opaque`, `foggy` or `not finite`, or None when pictures of all sides look sane.

    `share` of the stage is done.
    """
    if not bool(torch.isfinite(alpha).all() and torch.isfinite(rgb).all()):
        return "not finite"
    if share < STARTS:
        return None
    if float(alpha.mean()) < EMPTY:
        return "empty"
    height = alpha.shape[1]
    rim = torch.cat([alpha[:, : height // 4, 0], alpha[:, : height // 4, -1], alpha[:, 0]], 1)
    if float(rim.mean()) > OPAQUE:
        return "opaque"
    seen = alpha > 0.05
    through = seen & (alpha < 0.8)
    if share > FOG_FROM and float(through.sum()) > FOG * float(seen.sum()):
        return "foggy"
    return None


def all_finite(module: nn.Module) -> bool:
    """Every parameter is a number."""
    return all(bool(torch.isfinite(p).all()) for p in module.parameters())
