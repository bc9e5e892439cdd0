"""The 52 ARKit face actions in one person's shape.

The actions were modelled on one head (the template). They are carried to another head by the local linear map
between the two (deformation transfer in the spirit of Sumner and Popovic 2004, with smooth maps fitted around
control points), and then corrected where surfaces must meet: lids on eyeballs and on each other, lips on lips.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from jaxtyping import Float
from scipy.sparse import coo_array
from torch import Tensor

from avatar3d.body import lids, lips
from avatar3d.body.shape import ShapedBody
from avatar3d.body.template import Template, symmetric_actions

CONTROL_POINTS = 40
REACH = 0.03
"""Metres: deviation of the Gaussian neighbourhood in which a control point's map is fitted."""
STIFFNESS = 0.05
"""Pull of local maps towards the head's overall scale, as a share of the neighbourhood's own spread."""

TUCK = 0.5
"""Share of its way back that the upper lip keeps in `mouthRollUpper`: farther back are the teeth."""
SMOOTHING = 5
GRAIN = 1e-9
"""Metres."""


def face_actions(body: ShapedBody) -> Float[Tensor, "A V 3"]:
    """Offsets of every welded template vertex for each of `Template.action_names`, metres.

    They are multiples of `GRAIN`, so that the last bits of sums, which depend on the number of threads, are gone.
    """
    template = body.template
    transfer = _transfer(template)
    vertices = body.vertices.numpy()
    deltas = transfer.carry(vertices)
    for side in ("left", "right"):
        _turn_eye(template, vertices, deltas, transfer.moving, side)
        lids.seat(template, vertices, deltas, transfer.moving, side)
    lips.settle(template, vertices, deltas, transfer.moving)
    actions = torch.zeros(len(template.action_names), len(vertices), 3)
    actions[:, torch.from_numpy(transfer.moving)] = torch.from_numpy(np.round(deltas / GRAIN) * GRAIN).float()
    return actions


@dataclass(frozen=True)
class _Transfer:
    """Carries the actions of the template's head to another head. M vertices move; K control points."""

    moving: np.ndarray
    """(M,) vertices that some action moves."""
    deltas: np.ndarray
    """(M, 3, A) actions on the template."""
    fit: np.ndarray
    """(3 K, M) maps positions of a head to the transposed local maps, scaled by `1 - STIFFNESS`."""
    pull: np.ndarray
    """(K, 3, 3) what a unit of overall scale adds to each local map."""
    blend: np.ndarray
    """(M, K) weights of the control points' maps at each vertex."""
    size: float

    def carry(self, vertices: np.ndarray) -> np.ndarray:
        """(A, M, 3) actions on a head with these vertices."""
        points = vertices[self.moving].astype(np.float64)
        scale = np.linalg.norm(points - points.mean(axis=0)) / self.size
        maps = (self.fit @ points).reshape(-1, 3, 3).transpose(0, 2, 1) + scale * self.pull
        local = (self.blend @ maps.reshape(len(maps), 9)).reshape(-1, 3, 3)
        return np.ascontiguousarray((local @ self.deltas).transpose(2, 0, 1))


@cache
def _transfer(template: Template) -> _Transfer:
    actions = symmetric_actions(template).numpy().astype(np.float64)
    puff = template.action_names.index("cheekPuff")
    actions[puff] = _smoothed(template, actions[puff])
    roll = actions[template.action_names.index("mouthRollUpper")]
    roll[:, 2] *= np.where(roll[:, 2] < 0, TUCK, 1.0)
    moving = np.flatnonzero(np.linalg.norm(actions, axis=2).max(axis=0) > 1e-6)
    points = template.vertices.numpy()[moving].astype(np.float64)
    controls = _spread_points(points)
    distance = np.linalg.norm(points[:, None] - controls, axis=2)
    near = np.exp(-0.5 * (distance / REACH) ** 2)
    fit, pull = [], []
    for k in range(len(controls)):
        w = near[:, k] / near[:, k].sum()
        centered = points - w @ points
        spread = (centered * w[:, None]).T @ centered
        firm = STIFFNESS * np.trace(spread) / 3 * np.eye(3)
        inverse = np.linalg.inv(spread + firm)
        rows = inverse @ (centered * w[:, None]).T
        fit.append(rows)
        pull.append((inverse @ firm).T)
    return _Transfer(
        moving,
        np.ascontiguousarray(actions[:, moving].transpose(1, 2, 0)),
        np.concatenate(fit),
        np.stack(pull),
        near / near.sum(axis=1, keepdims=True),
        float(np.linalg.norm(points - points.mean(axis=0))),
    )


def _smoothed(template: Template, offsets: np.ndarray) -> np.ndarray:
    """Offsets (V, 3) averaged with their neighbours `SMOOTHING` times, which rounds off the edge of a bulge."""
    corner, _, triangles = template.surface("body")
    faces = corner[triangles].numpy()
    ends = np.stack([faces.ravel(), np.roll(faces, 1, axis=1).ravel()])
    links = coo_array((np.ones(ends.shape[1]), ends), (len(offsets), len(offsets))).tocsr()
    links = links + links.T
    degree = links.sum(axis=1)
    smooth = offsets.copy()
    for _ in range(SMOOTHING):
        smooth[degree > 0] = ((smooth + (links @ smooth) / np.maximum(degree, 1)[:, None]) / 2)[degree > 0]
    return smooth


def _spread_points(points: np.ndarray) -> np.ndarray:
    """Evenly spread points of the left half by farthest point sampling, and their mirror images."""
    half = points[points[:, 0] >= 0]
    chosen = [int(half[:, 2].argmax())]
    distance = np.full(len(half), np.inf)
    while len(chosen) < CONTROL_POINTS // 2:
        distance = np.minimum(distance, np.linalg.norm(half - half[chosen[-1]], axis=1))
        chosen.append(int(distance.argmax()))
    return np.concatenate([half[chosen], half[chosen] * [-1.0, 1.0, 1.0]])


@cache
def _eye_turns(template: Template, side: str) -> tuple[np.ndarray, np.ndarray]:
    """Eyeball vertices (E,) and the rotation (A, 3, 3) of the eyeball in each action."""
    eye = template.surface_vertices(f"eye_{side}").numpy()
    points = template.vertices.numpy().astype(np.float64)
    points = points[eye] - lids.eye_sphere(template, points, side)[0]
    moved = points + symmetric_actions(template).numpy()[:, eye]
    u, _, vt = np.linalg.svd((moved - moved.mean(axis=1, keepdims=True)).transpose(0, 2, 1) @ points)
    sign = np.ones((len(u), 3))
    sign[:, 2] = np.linalg.det(u @ vt)
    return eye, (u * sign[:, None]) @ vt


def _turn_eye(template: Template, vertices: np.ndarray, deltas: np.ndarray, moving: np.ndarray, side: str) -> None:
    """Replace what actions do to an eyeball by a rotation about its own centre, in place."""
    eye, turns = _eye_turns(template, side)
    points = vertices[eye] - lids.eye_sphere(template, vertices, side)[0]
    deltas[:, np.searchsorted(moving, eye)] = points @ turns.transpose(0, 2, 1) - points
