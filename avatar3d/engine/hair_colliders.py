"""What swinging hair stays outside of: spheres and capsules that fill head, neck, shoulders, chest and arms."""

from __future__ import annotations

import numpy as np
import torch

from avatar3d.engine.attach import Figure
from avatar3d.structures import Collider

CLOTH = 0.010
"""Room for clothes over the skin below the neck, metres."""
INSIDE = 0.35
"""Quantile of the distances from a capsule's axis to the skin around it that is its radius."""


def hair_colliders(
    figure: Figure, skull: np.ndarray, places: np.ndarray, radii: np.ndarray
) -> tuple[Collider, ...]:
    """Colliders of one person, clear of the swinging joints `places` (N, 3) of `radii` (N,) at rest."""
    bone = {n: figure.body.bone(n).numpy().astype(np.float64) for n in figure.body.skeleton.names}
    skin = figure.vertices.numpy()[figure.skin_vertices].astype(np.float64)
    neck, head, chest, spine = (bone[n] for n in ("neck", "head", "upperChest", "spine"))
    aside = np.array([0.45 * abs(bone["leftUpperArm"][0]), 0.0, 0.0])
    drop = np.array([0.0, 0.15 * (neck[1] - chest[1]), 0.0])
    shapes: list[tuple[str, np.ndarray, np.ndarray | None, tuple[str, ...], float]]
    shapes = [("head", skull, None, ("head",), 0.0), ("neck", neck, head, ("neck",), 0.0)]
    for side, sign in (("left", 1.0), ("right", -1.0)):
        arm, elbow = bone[f"{side}UpperArm"], bone[f"{side}LowerArm"]
        top, bottom = (_middle(skin, p + sign * aside) for p in (chest, spine))
        shapes += [
            (f"{side}Shoulder", neck - drop + 0.3 * sign * aside, arm, ("upperChest", f"{side}UpperArm"), CLOTH),
            (f"{side}UpperArm", arm, elbow, (f"{side}UpperArm",), CLOTH),
            ("upperChest", top, bottom, ("upperChest", "chest", "spine"), CLOTH),
        ]
    joints, weights = (t[figure.skin_vertices] for t in figure.skin)
    strongest = joints[torch.arange(len(joints)), weights.argmax(dim=1)].numpy()
    colliders = []
    for joint, start, tail, around, room in shapes:
        near = skin[np.isin(strongest, [figure.joint(n) for n in around])]
        colliders.append(_filling(joint, start, tail, room, bone[joint], near, places, radii))
    return tuple(colliders)


def _middle(skin: np.ndarray, point: np.ndarray) -> np.ndarray:
    """The point moved half-way between the front and the back of the trunk."""
    near = np.hypot(skin[:, 0] - point[0], skin[:, 1] - point[1]) < 0.03
    z = skin[near, 2] if near.any() else point[2:]
    return np.array([point[0], point[1], (z.min() + z.max()) / 2])


def _filling(
    joint: str, start: np.ndarray, tail: np.ndarray | None, room: float, at: np.ndarray, skin: np.ndarray,
    places: np.ndarray, radii: np.ndarray,
) -> Collider:  # fmt: skip
    """A sphere or capsule about as wide as the skin beside and above it, but clear of the hair."""
    end = start if tail is None else tail
    axis = end - start
    share, distance = _from_segment(skin, start, end)
    beside = (share > 0.15) & (share < 0.85) if tail is not None else skin[:, 1] > start[1]
    if abs(axis[0]) > abs(axis[1]):  # of a shoulder only the upper side
        beside &= skin[:, 1] > start[1] + share * axis[1]
    radius = float(np.quantile(distance[beside], INSIDE)) + room
    clear = float((_from_segment(places, start, end)[1] - radii).min(initial=np.inf))
    offset = tuple(float(x) for x in start - at)
    other = None if tail is None else tuple(float(x) for x in tail - at)
    return Collider(joint, offset, max(min(radius, clear - 0.001), 0.005), other)  # type: ignore[arg-type]


def _from_segment(points: np.ndarray, start: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N,) share along a segment, clipped to [0, 1], and distance of points from it."""
    axis = end - start
    share = np.clip((points - start) @ axis / max(float(axis @ axis), 1e-12), 0, 1)
    return share, np.linalg.norm(points - start - share[:, None] * axis, axis=1)
