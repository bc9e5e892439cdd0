"""Lips that meet."""

from __future__ import annotations

import numpy as np

from avatar3d.body.template import Template


def close(template: Template, vertices: np.ndarray, deltas: np.ndarray, moving: np.ndarray) -> None:
    """Correct `mouthClose` so that with `jawOpen` the lips touch as at rest, in place."""
