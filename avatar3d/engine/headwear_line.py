"""Where a hat meets the head: hair keeps close to the scalp above it."""

from __future__ import annotations

from functools import cache

import numpy as np

from avatar3d.engine.attach import Figure
from avatar3d.engine.hair_chart import CENTER, cast_rays, on_faces, unit

HAIR_CLEARANCE = 0.012
"""Hair above the hat's line stays within this distance of the scalp (metres) when a hat is worn."""

FOREHEAD, OCCIPUT = (0.0, 1.626, 0.147), (0.0, 1.590, -0.045)
"""Where the line crosses the middle of the reference head, about 1.5 cm above the brows and at the back."""


def hat_plane(figure: Figure) -> tuple[np.ndarray, np.ndarray]:
    """(point, unit normal) of the plane that a hat's rim lies in: across the forehead, over the ears and the back
    of the head. The normal points to the crown.
    """
    front, back = on_faces(figure, *_marks())[0]
    return front, unit(np.cross(np.array([1.0, 0.0, 0.0]), back - front))


@cache
def _marks() -> tuple[np.ndarray, np.ndarray]:
    faces, bary, _ = cast_rays(CENTER, np.array([FOREHEAD, OCCIPUT]) - CENTER, outermost=True)
    return faces, bary
