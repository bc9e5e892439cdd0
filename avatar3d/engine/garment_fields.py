"""Where things are on a body: smooth scalar fields over the template from which garments are cut.

All fields live on one neutral reference body (1.63 m, between woman and man), so that a cut is the same curve on
the skin of every person. Distances are metres on the reference.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import laplacian
from scipy.sparse.linalg import splu

from avatar3d.body.shape import shape_body
from avatar3d.engine.attach import Figure
from avatar3d.spec import AvatarSpec

Array = np.ndarray

CROTCH_Y = 0.80
NAVEL_Y = 1.03
WAIST_Y = 1.08
CHEST_Y = 1.24
ARMPIT_Y = 1.26
KNEE_Y = 0.505
ANKLE_Y = 0.085
NECK_BASE = np.array([0.0, 1.445, 0.03])
"""Center of the ball that a neckline is cut with."""


@dataclass(frozen=True)
class Fields:
    """Reference position and limb coordinates of N points."""

    x: Array
    y: Array
    z: Array
    arm: Array
    """0 on the trunk, 1 on an arm, smooth; the armhole is where it is 0.5."""
    sleeve: Array
    """Distance from the shoulder along an arm; 0 on the trunk."""
    arm_angle: Array
    """Turn about the arm's axis, radians: 0 on the outer (upper) side, positive to the front."""
    leg_angle: Array
    """Turn about the leg's axis, radians: 0 on the outer side, positive to the front."""
    trunk_angle: Array
    """Turn about the trunk's axis: 0 in front, pi/2 on the left, +-pi at the back."""
    hand: Array
    """0 up to the wrist, 1 on a hand or a finger, smooth."""

    def neck(self, down: float = 0.0, back: float = 0.0) -> Array:
        """Distance from the center of the neck's base, lowered and moved back by so much; negative on the head."""
        ball = np.sqrt(self.x**2 + (self.y - NECK_BASE[1] + down) ** 2 + (self.z - NECK_BASE[2] + back) ** 2)
        chin = 2.0 * np.maximum(self.z - 0.09, 0.0)
        return ball - 10.0 * np.maximum(self.y + chin - NECK_BASE[1] - 0.03, 0.0)


@cache
def reference() -> Figure:
    """The neutral body on which garments are designed."""
    return Figure(shape_body(AvatarSpec(gender=0.5, bust=0.4)))


@cache
def skin_matrix() -> Array:
    """(V, J) skin weights of the template, dense."""
    joints, weights = (t.numpy() for t in reference().skin)
    dense = np.zeros((len(joints), len(reference().body.skeleton.names)), np.float32)
    np.add.at(dense, (np.arange(len(joints))[:, None], joints), weights)
    return dense


def joint_weight(*parts: str) -> Array:
    """(V,) summed skin weight of all joints whose name contains one of `parts`."""
    names = reference().body.skeleton.names
    chosen = [i for i, n in enumerate(names) if any(p in n for p in parts)]
    return skin_matrix()[:, chosen].sum(axis=1)


HAND_JOINTS = ("Hand", "Index", "Middle", "Ring", "Little", "Thumb")


@cache
def template_fields() -> Fields:
    """The fields at all template vertices."""
    figure = reference()
    p = figure.vertices.numpy().astype(np.float64)
    arm = _diffused(joint_weight("UpperArm", "LowerArm", *HAND_JOINTS), 6.0)
    side = np.where(p[:, 0] >= 0, 1.0, -1.0)
    mirrored = p * np.stack([side, np.ones_like(side), np.ones_like(side)], axis=1)
    arm_line = _joints("leftUpperArm", "leftLowerArm", "leftHand")
    along, arm_angle = _limb(mirrored, arm_line, outer=np.array([0.6, 0.8, 0.0]))
    leg_line = _joints("leftUpperLeg", "leftLowerLeg", "leftFoot")
    leg_line[0] += (0.0, 0.12, 0.0)
    _, leg_angle = _limb(mirrored, leg_line, outer=np.array([1.0, 0.0, 0.0]))
    gate = np.clip((arm - 0.3) / 0.35, 0.0, 1.0)
    return Fields(
        x=p[:, 0],
        y=p[:, 1],
        z=p[:, 2],
        arm=arm,
        sleeve=np.maximum(along, 0.0) * gate,
        arm_angle=arm_angle,
        leg_angle=leg_angle,
        trunk_angle=np.arctan2(p[:, 0], p[:, 2] - trunk_center(p[:, 1])),
        hand=_diffused(joint_weight(*HAND_JOINTS), 2.0),
    )


def trunk_center(y: Array) -> Array:
    """z of the trunk's axis at a height."""
    return np.interp(y, [0.8, 0.95, 1.1, 1.25, 1.42], [0.015, 0.03, 0.045, 0.035, 0.02])


def _joints(*names: str) -> Array:
    return np.stack([reference().body.bone(n).numpy().astype(np.float64) for n in names])


def _limb(p: Array, line: Array, outer: Array) -> tuple[Array, Array]:
    """Distance along a polyline of joints (unbounded at both ends), and turn about it."""
    upper, lower = line[1] - line[0], line[2] - line[1]
    lengths = np.linalg.norm(upper), np.linalg.norm(lower)
    u, w = upper / lengths[0], lower / lengths[1]
    t0, t1 = (p - line[0]) @ u, (p - line[1]) @ w
    # blend the two bones' coordinates across the joint so that cuts near it stay smooth
    mix = _smoothstep((t0 - lengths[0]) / 0.06 + 0.5)
    along = (1 - mix) * t0 + mix * (lengths[0] + t1)
    axis_point = np.where(
        (mix < 0.5)[:, None], line[0] + np.minimum(t0, lengths[0])[:, None] * u, line[1] + t1[:, None] * w
    )
    direction = (1 - mix)[:, None] * u + mix[:, None] * w
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    radial = p - axis_point
    out = outer - (direction @ outer)[:, None] * direction
    out /= np.linalg.norm(out, axis=1, keepdims=True)
    front = np.cross(out, direction)
    front *= np.where(front[:, 2:] < 0, -1.0, 1.0)
    return along, np.arctan2((radial * front).sum(1), (radial * out).sum(1))


def _smoothstep(t: Array) -> Array:
    t = np.clip(t, 0.0, 1.0)
    return t * t * (3 - 2 * t)


def _diffused(values: Array, amount: float) -> Array:
    """Implicit diffusion over the mesh edges: (I + amount L) result = values."""
    edges = np.concatenate([body_faces()[:, [0, 1]], body_faces()[:, [1, 2]], body_faces()[:, [2, 0]]])
    count = len(reference().vertices)
    graph = sparse.coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), (count, count)).tocsr()
    graph = graph.maximum(graph.T)
    matrix = sparse.identity(count) + amount * laplacian(graph)
    return splu(matrix.tocsc()).solve(values.astype(np.float64))


@cache
def body_faces() -> Array:
    """(F, 3) triangles of the body over welded template vertices, in the order of the body part's faces."""
    return reference().skin_faces.numpy()


def fields_at(rows: sparse.csr_matrix) -> Fields:
    """Fields at points that are weighted template vertices; angles are interpolated on the circle."""
    f = template_fields()

    def straight(values: Array) -> Array:
        return rows @ values

    def turning(values: Array) -> Array:
        return np.arctan2(rows @ np.sin(values), rows @ np.cos(values))

    return Fields(
        x=straight(f.x),
        y=straight(f.y),
        z=straight(f.z),
        arm=straight(f.arm),
        sleeve=straight(f.sleeve),
        arm_angle=turning(f.arm_angle),
        leg_angle=turning(f.leg_angle),
        trunk_angle=turning(f.trunk_angle),
        hand=straight(f.hand),
    )
