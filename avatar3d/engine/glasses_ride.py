"""Face shapes of glasses: brows and nose that rise against the frame push it off the face."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from avatar3d.body.template import opposite
from avatar3d.engine.attach import Figure, moving_morphs
from avatar3d.mesh.intersections import segment_crossings
from avatar3d.structures import Part

PUSHING = ("browDownLeft", "noseSneerLeft", "browInnerUp")
"""Actions that move skin against glasses (cheeks do not reach them); those of the right side push as the left."""
REACH = 0.010
"""Deepest that skin comes through a frame, metres."""
AIR = 0.0002
"""Metres between the skin and a frame that it pushes."""


def riding(figure: Figure, parts: list[Part]) -> list[Part]:
    """The parts of a pair of glasses (frame first) with the actions that push them forward.

    A one-sided action turns the frame about its other hinge, so that both sides together push it straight.
    """
    frame = parts[0].mesh.vertices.numpy().astype(np.float64)
    half = np.abs(frame[:, 0]).max()
    front = np.unique(frame[frame[:, 2] > frame[:, 2].max() - 0.35 * half].round(4), axis=0)
    names = figure.body.template.action_names
    pushes = {name: _push(figure, front, name, half) for name in PUSHING}
    ridden = []
    for part in parts:
        x = part.mesh.vertices[:, 0].numpy()
        deltas = torch.zeros(len(names), *part.mesh.vertices.shape)
        for name, push in pushes.items():
            for own in {name, opposite(name)}:
                deltas[names.index(own), :, 2] = torch.from_numpy(push * _side(x, own, half))
        ridden.append(replace(part, morphs=moving_morphs(figure, deltas)))
    return ridden


def _side(x: np.ndarray, name: str, half: float) -> np.ndarray:
    """(N,) share of a push that reaches points at `x`."""
    if name.endswith("Left"):
        return np.clip(0.5 + 0.5 * x / half, 0, 1)
    if name.endswith("Right"):
        return np.clip(0.5 - 0.5 * x / half, 0, 1)
    return np.ones_like(x)


def _push(figure: Figure, front: np.ndarray, name: str, half: float) -> float:
    """Metres by which a full action pushes the front (N, 3) of a frame."""
    moved = figure.actions[figure.body.template.action_names.index(name)].numpy()
    faces = figure.skin_faces.numpy()
    faces = faces[(np.abs(moved).max(axis=1) > 1e-4)[faces].any(axis=1)]
    rest = figure.vertices.numpy()
    near = np.abs(rest - front.mean(axis=0)).max(axis=1) < 1.5 * half
    faces = faces[near[faces].all(axis=1)]

    def depth(vertices: np.ndarray) -> np.ndarray:
        _, share = segment_crossings(front + [0.0, 0.0, REACH], front, vertices, faces)
        return np.where(np.isfinite(share), (1 - np.minimum(share, 1.0)) * REACH + AIR, 0.0)

    after = depth(rest + moved)
    if not after.any():
        return 0.0
    need = after - depth(rest)
    side = _side(front[:, 0], name, half)
    return float((need / np.maximum(side, 0.3)).max().clip(min=0.0))
