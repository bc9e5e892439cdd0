"""What moves with the lower jaw as a rigid body."""

from __future__ import annotations

import numpy as np

from avatar3d.engine.attach import Figure

JAW_ACTIONS = ("jawOpen", "jawLeft", "jawRight", "jawForward")


def jaw_deltas(figure: Figure, points: np.ndarray) -> np.ndarray:
    """(A, N, 3) rigid motions of points that fit what each jaw action does to the lower helper teeth."""
    template = figure.body.template
    helper = template.surface_vertices("teeth_lower").numpy()
    rest = figure.vertices[helper].numpy().astype(np.float64)
    middle = rest.mean(axis=0)
    deltas = np.zeros((len(template.action_names), len(points), 3))
    for name in JAW_ACTIONS:
        a = template.action_names.index(name)
        moved = rest + figure.actions[a, helper].numpy()
        center = moved.mean(axis=0)
        u, _, vt = np.linalg.svd((moved - center).T @ (rest - middle))
        rotation = u @ np.diag([1, 1, np.linalg.det(u @ vt)]) @ vt
        deltas[a] = (points - middle) @ rotation.T + center - points
    return deltas
