"""Patches of the face tied to the template: grids over which brows and beards grow."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from avatar3d.engine.attach import Anchor, Figure
from avatar3d.engine.hair_chart import cast_rays, on_faces


@dataclass(frozen=True)
class Patch:
    """N places on the template's skin."""

    faces: np.ndarray
    """(N, 3) welded vertices of the face under each place."""
    bary: np.ndarray
    """(N, 3)."""
    reference: np.ndarray
    """(N, 3) positions on the reference head."""

    def on(self, figure: Figure) -> tuple[np.ndarray, np.ndarray]:
        """Points and unit normals (N, 3) on a person's skin."""
        return on_faces(figure, self.faces, self.bary)

    def anchor(self, rows: np.ndarray) -> Anchor:
        """The anchor of vertices that move with the skin at places `rows`."""
        return Anchor(
            torch.from_numpy(self.faces[rows].astype(np.int64)), torch.from_numpy(self.bary[rows]).float()
        )


def lay_patch(origin: np.ndarray, targets: np.ndarray) -> Patch:
    """The outermost skin of the reference head in the directions of `targets` (N, 3) from `origin`."""
    return Patch(*cast_rays(origin, targets - origin, outermost=True))
