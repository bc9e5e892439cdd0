"""Texture coordinates of cloth as it is worn: around and along the trunk, an arm or a leg, in metres."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from avatar3d.engine.attach import Figure
from avatar3d.engine.garment_fields import CROTCH_Y, Fields

Array = np.ndarray


@dataclass(frozen=True)
class Chart:
    """`angle(fields)` turns once around the garment and says where it closes; `measure(points, fields, figure)`
    gives each worn point's share of a turn (continuous with that angle), its distance downwards and the length
    of a turn, in metres."""

    angle: Callable[[Fields], Array]
    measure: Callable[[Array, Fields, Figure], tuple[Array, Array, float]]


def _near(angle: Array, fixed: Array) -> Array:
    """The angle plus the whole turns that bring it next to the design's angle."""
    return angle + 2 * np.pi * np.round((fixed - angle) / (2 * np.pi))


def _equal_arc(angle: Array, width: float, depth: float) -> Array:
    """Share of an ellipse's circumference from the front for a polar angle (any number of turns)."""
    t = np.linspace(-np.pi, np.pi, 361)
    x, z = width * np.sin(t), depth * np.cos(t)
    arc = np.concatenate([[0], np.cumsum(np.hypot(np.diff(x), np.diff(z)))])
    turns = np.round(angle / (2 * np.pi))
    polar = np.unwrap(np.arctan2(x, z))
    return turns + np.interp(angle - 2 * np.pi * turns, polar, arc / arc[-1] - 0.5)


def _trunk(points: Array, f: Fields, figure: Figure) -> tuple[Array, Array, float]:
    torso = (f.arm < 0.4) & (f.y > CROTCH_Y + 0.08)
    low, high = points[torso].min(axis=0), points[torso].max(axis=0)
    middle = (low[2] + high[2]) / 2
    width, depth = (high[0] - low[0]) / 2 * 0.95, (high[2] - low[2]) / 2
    angle = _near(np.arctan2(points[:, 0], points[:, 2] - middle), f.trunk_angle)
    around = np.pi * (3 * (width + depth) - np.sqrt((3 * width + depth) * (width + 3 * depth)))
    # over the shoulders the cloth runs back and forth rather than down
    ridge = float(figure.body.bone("leftUpperArm")[2])
    over = 0.9 * np.minimum(np.abs(points[:, 2] - ridge), 0.055)
    return _equal_arc(angle, width, depth), high[1] + 0.05 - points[:, 1] + over, around


def _limb(
    points: Array, f: Fields, figure: Figure, bones: tuple[str, str, str], outer: Array
) -> tuple[Array, Array]:
    """Angle about a two-bone limb and distance along it, both sides mirrored onto the left."""
    side = np.where(f.x >= 0, 1.0, -1.0)
    p = points * np.stack([side, np.ones_like(side), np.ones_like(side)], axis=1)
    line = [figure.body.bone(f"left{n}").numpy().astype(np.float64) for n in bones]
    upper, lower = line[1] - line[0], line[2] - line[1]
    length = float(np.linalg.norm(upper))
    u, w = upper / length, lower / np.linalg.norm(lower)
    t0, t1 = (p - line[0]) @ u, (p - line[1]) @ w
    mix = np.clip((t0 - length) / 0.08 + 0.5, 0.0, 1.0)
    mix = mix * mix * (3 - 2 * mix)
    center = (1 - mix)[:, None] * (line[0] + t0[:, None] * u) + mix[:, None] * (line[1] + t1[:, None] * w)
    axis = (1 - mix)[:, None] * u + mix[:, None] * w
    axis /= np.linalg.norm(axis, axis=1, keepdims=True)
    out = outer - (axis @ outer)[:, None] * axis
    out /= np.linalg.norm(out, axis=1, keepdims=True)
    front = np.cross(out, axis)
    front *= np.where(front[:, 2:] < 0, -1.0, 1.0)
    radial = p - center
    return np.arctan2((radial * front).sum(1), (radial * out).sum(1)), (1 - mix) * t0 + mix * (length + t1)


def _sleeve(points: Array, f: Fields, figure: Figure) -> tuple[Array, Array, float]:
    bones = ("UpperArm", "LowerArm", "Hand")
    angle, along = _limb(points, f, figure, bones, np.array([0.6, 0.8, 0.0]))
    size = float((figure.body.bone("leftLowerArm") - figure.body.bone("leftUpperArm")).norm())
    return _near(angle, f.arm_angle) / (2 * np.pi), along + 0.2, 1.35 * size


def _leg(points: Array, f: Fields, figure: Figure) -> tuple[Array, Array, float]:
    angle, _ = _limb(points, f, figure, ("UpperLeg", "LowerLeg", "Foot"), np.array([1.0, 0.0, 0.0]))
    size = float((figure.body.bone("leftLowerLeg") - figure.body.bone("leftUpperLeg")).norm())
    return _near(angle, f.leg_angle) / (2 * np.pi), points[:, 1].max() + 0.05 - points[:, 1], 1.35 * size


def _skirt(points: Array, f: Fields, figure: Figure) -> tuple[Array, Array, float]:
    low, high = points.min(axis=0), points.max(axis=0)
    middle = (low[2] + high[2]) / 2
    width, depth = (high[0] - low[0]) / 2, (high[2] - low[2]) / 2
    angle = _near(np.arctan2(points[:, 0], points[:, 2] - middle), f.trunk_angle)
    around = 0.85 * np.pi * (3 * (width + depth) - np.sqrt((3 * width + depth) * (width + 3 * depth)))
    return _equal_arc(angle, width, depth), high[1] + 0.05 - points[:, 1], around


TRUNK = Chart(lambda f: f.trunk_angle, _trunk)
SLEEVE = Chart(lambda f: f.arm_angle, _sleeve)
SKIRT = Chart(lambda f: f.trunk_angle, _skirt)
LEG = Chart(lambda f: f.leg_angle, _leg)
