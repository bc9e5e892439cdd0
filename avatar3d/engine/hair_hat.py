"""Hair under a hat."""

from __future__ import annotations

import numpy as np

from avatar3d.engine.attach import Figure
from avatar3d.engine.hair_strands import Obstacle, Pieces
from avatar3d.engine.headwear_line import HAIR_CLEARANCE, hat_plane


def pressed(pieces: Pieces, figure: Figure, body: Obstacle) -> Pieces:
    """Hair above the hat's line laid within the clearance of the scalp; what no one can see is dropped."""
    point, normal = hat_plane(figure)
    above = (pieces.vertices - point) @ normal
    room = 0.8 * HAIR_CLEARANCE * np.clip((0.03 - above) / 0.03, 0.35, 1)
    vertices = pieces.vertices
    for _ in range(2):
        d, n = body.distance(vertices)
        excess = np.where(above > -0.008, np.maximum(d - room, 0), 0)
        vertices = vertices - n * excess[:, None]
    hidden = (above > 0.035)[pieces.faces].all(axis=1)
    used, faces = np.unique(pieces.faces[~hidden], return_inverse=True)
    return Pieces(vertices[used], pieces.normals[used], pieces.uv[used], faces.reshape(-1, 3), pieces.strand[used])
