"""Classifier-free guidance (Ho and Salimans 2022), with this project's one definition of the scale."""

from __future__ import annotations

from torch import Tensor


def guide(conditional: Tensor, unconditional: Tensor, scale: float) -> Tensor:
    """uncond + scale * (cond - uncond): scale 1 is the plain conditional model, 0 the unconditional one."""
    return unconditional + scale * (conditional - unconditional)
