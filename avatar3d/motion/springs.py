"""Hair that swings along: spring bones simulated over a clip and written into it as rotations.

The integration is that of VRM's `VRMC_springBone` 1.0: each bone's tip keeps its speed but for the drag, is pulled
towards where the parent's turn would have it and downwards, keeps its distance, and is pushed out of colliders.
Programs that simulate springs themselves may leave these rotations out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.motion.kinematics import continuous, joint_frames
from avatar3d.motion.play import duration
from avatar3d.rotations import matrix_to_quaternion, quaternion_multiply, slerp
from avatar3d.structures import Avatar, Clip, Skeleton

Array = np.ndarray

RATE = 60
"""Steps per second; the drag of the specification is per step of about this length."""
WARM_UP = 2.0
"""Seconds that springs settle in the first pose before the clip begins."""
PUSHES = 4
"""Rounds of pushing out of colliders and back to the bone's length, at most."""
TOUCH = 1e-5
"""Metres that a joint may be inside of a collider."""
SEAM = 0.4
"""Seconds before the end of a loop over which what is left of a difference to its start is spread."""


@dataclass(frozen=True)
class _Level:
    """The bones of all chains at the same depth, N of them."""

    joints: Array
    """Index of each bone's joint."""
    axes: Float[np.ndarray, "N 3"]
    """From the joint to the tip at rest, metres."""
    lengths: Float[np.ndarray, " N"]
    stiffness: Float[np.ndarray, " N"]
    gravity: Float[np.ndarray, " N"]
    drag: Float[np.ndarray, " N"]
    radius: Float[np.ndarray, " N"]


def with_springs(clip: Clip, avatar: Avatar) -> Clip:
    """The clip with the turns of all spring joints; as it is for avatars without springs.

    Springs settle before the clip begins; in a loop they swing in as if it had gone on for ever. Where the root
    travels they take no notice of it, as with VRM's `center`.
    """
    levels = _levels(avatar)
    if not levels:
        return clip
    steps = max(1, round(duration(clip) * RATE))
    fine = torch.linspace(0.0, duration(clip), steps + 1, dtype=torch.float64)
    rotations, translations = _resampled(clip, fine, without=("root",))
    turns, places = joint_frames(avatar.skeleton, rotations, translations, len(fine))
    lead = round(WARM_UP * RATE)
    before = torch.arange(-lead, 0) % steps if clip.loops else torch.zeros(lead, dtype=torch.long)
    order = torch.cat([before, torch.arange(len(fine))])
    settled = turns[order], places[order]
    swung = _simulate(avatar, levels, *(t.numpy() for t in settled))
    keys = torch.round(clip.times.double() * RATE).long().clamp(max=steps) + lead
    baked = {}
    for name, local in _local(avatar.skeleton, levels, settled[0][keys], swung[keys.numpy()]).items():
        baked[name] = (_closed(local, clip.times) if clip.loops else local).to(clip.times)
    return replace(clip, rotations={**clip.rotations, **baked})


def _resampled(
    clip: Clip, times: Float[Tensor, " S"], without: tuple[str, ...]
) -> tuple[dict[str, Float[Tensor, "S 4"]], dict[str, Float[Tensor, "S 3"]]]:
    """The clip's turns and offsets at other times."""
    own = clip.times.double()
    after = torch.searchsorted(own, times).clamp(1, max(len(own) - 1, 1)).clamp(max=len(own) - 1)
    before = (after - 1).clamp_min(0)
    span = (own[after] - own[before]).clamp_min(1e-9)
    share = ((times - own[before]) / span).clamp(0, 1)
    rotations = {j: slerp(q.double()[before], q.double()[after], share) for j, q in clip.rotations.items()}
    translations = {
        j: torch.lerp(v.double()[before], v.double()[after], share[:, None])
        for j, v in clip.translations.items()
        if j not in without
    }
    return rotations, translations


def _levels(avatar: Avatar) -> list[_Level]:
    """Bones by their depth in their chains."""
    index = {name: n for n, name in enumerate(avatar.skeleton.names)}
    rest = avatar.skeleton.positions.double().numpy()
    levels = []
    for depth in range(max((len(chain.joints) for chain in avatar.springs), default=1) - 1):
        chains = [chain for chain in avatar.springs if len(chain.joints) > depth + 1]
        joints = np.array([index[chain.joints[depth]] for chain in chains])
        axes = rest[[index[chain.joints[depth + 1]] for chain in chains]] - rest[joints]
        numbers = np.array([[c.stiffness, c.gravity, c.drag, c.radius] for c in chains], dtype=np.float64)
        levels.append(_Level(joints, axes, np.linalg.norm(axes, axis=1), *numbers.T))
    return levels


def _simulate(
    avatar: Avatar, levels: list[_Level], turns: Float[np.ndarray, "S J 3 3"], places: Float[np.ndarray, "S J 3"]
) -> Float[np.ndarray, "S J 3 3"]:
    """World turns of all joints in every step, springs included.

    `turns` and `places` are those of joints that no spring moves.
    """
    parents = np.array(avatar.skeleton.parents)
    result = turns.copy()
    tips = [
        places[0][level.joints] + np.einsum("nij,nj->ni", turns[0][level.joints], level.axes) for level in levels
    ]
    before = [tip.copy() for tip in tips]
    for step in range(len(turns)):
        solids = _solids(avatar, turns[step], places[step])
        now, at = result[step], places[step].copy()
        for n, level in enumerate(levels):
            above = parents[level.joints]
            start = at[level.joints] if n == 0 else _moved(avatar, level, now, at)
            at[level.joints] = start
            pull = np.einsum("nij,nj->ni", now[above], level.axes / level.lengths[:, None])
            speed = (tips[n] - before[n]) * (1 - level.drag[:, None])
            down = np.array([0.0, -1.0, 0.0]) * level.gravity[:, None]
            tip = tips[n] + speed + (pull * level.stiffness[:, None] + down) / RATE
            tip = _stretched(start, tip, level)
            for _ in range(PUSHES):
                pushed = _pushed(tip, solids, level.radius)
                if pushed is tip:
                    break
                tip = _stretched(start, pushed, level)
            before[n], tips[n] = tips[n], tip
            now[level.joints] = _onto(np.einsum("nij,nj->ni", now[above], level.axes), tip - start) @ now[above]
    return result


def _moved(avatar: Avatar, level: _Level, turns: Array, at: Array) -> Array:
    """Where the joints of deeper bones are after the turns of those above."""
    parents = np.array(avatar.skeleton.parents)[level.joints]
    rest = avatar.skeleton.positions.double().numpy()
    return at[parents] + np.einsum("nij,nj->ni", turns[parents], rest[level.joints] - rest[parents])


def _stretched(start: Array, tip: Array, level: _Level) -> Array:
    """Tips at their bones' lengths."""
    way = tip - start
    return start + way * (level.lengths / np.maximum(np.linalg.norm(way, axis=1), 1e-9))[:, None]


def _solids(avatar: Avatar, turns: Array, places: Array) -> tuple[Array, Array, Array]:
    """Both ends (C, 3) of the colliders' axes in space, and their radii (C,)."""
    joints = [avatar.skeleton.names.index(c.joint) for c in avatar.colliders]
    ends = np.array([(c.offset, c.offset if c.tail is None else c.tail) for c in avatar.colliders])
    if not joints:
        return np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(0)
    a, b = (places[joints] + np.einsum("cij,cj->ci", turns[joints], ends[:, n]) for n in (0, 1))
    return a, b, np.array([c.radius for c in avatar.colliders])


def _pushed(tips: Array, solids: tuple[Array, Array, Array], radius: Array) -> Array:
    """Tips (N, 3) pushed out of every capsule grown by their own radius; `tips` itself if all are."""
    a, b, size = solids
    axis = b - a
    share = np.einsum("nci,ci->nc", tips[:, None] - a, axis) / np.maximum((axis * axis).sum(axis=1), 1e-12)
    nearest = a + share.clip(0, 1)[:, :, None] * axis
    away = tips[:, None] - nearest
    distance = np.linalg.norm(away, axis=2)
    inside = distance < size + radius[:, None] - TOUCH
    if not inside.any():
        return tips
    out = tips.copy()
    for n, c in np.argwhere(inside):
        way = out[n] - nearest[n, c]
        out[n] = nearest[n, c] + way * max(1.0, (size[c] + radius[n]) / max(float(np.linalg.norm(way)), 1e-9))
    return out


def _onto(a: Array, b: Array) -> Float[np.ndarray, "N 3 3"]:
    """Smallest turns from directions to directions (Rodrigues)."""
    a = a / np.linalg.norm(a, axis=1, keepdims=True)
    b = b / np.maximum(np.linalg.norm(b, axis=1, keepdims=True), 1e-12)
    v, c = np.cross(a, b), (a * b).sum(axis=1)
    zero = np.zeros(len(a))
    K = np.stack([zero, -v[:, 2], v[:, 1], v[:, 2], zero, -v[:, 0], -v[:, 1], v[:, 0], zero], axis=1).reshape(
        -1, 3, 3
    )
    return np.eye(3) + K + K @ K / np.maximum(1 + c, 1e-6)[:, None, None]


def _local(
    skeleton: Skeleton, levels: list[_Level], turns: Float[Tensor, "T J 3 3"], swung: Float[np.ndarray, "T J 3 3"]
) -> dict[str, Float[Tensor, "T 4"]]:
    """Local turns of the spring joints."""
    moved = {int(j) for level in levels for j in level.joints}
    world = torch.from_numpy(swung)
    local = {}
    for joint in moved:
        parent = skeleton.parents[joint]
        above = world[:, parent] if parent in moved else turns[:, parent]
        local[skeleton.names[joint]] = continuous(matrix_to_quaternion(above.transpose(-1, -2) @ world[:, joint]))
    return local


def _closed(q: Float[Tensor, "T 4"], times: Float[Tensor, " T"]) -> Float[Tensor, "T 4"]:
    """A loop whose last seconds lead to its first turn."""
    conjugate = q[-1] * torch.tensor([1.0, -1.0, -1.0, -1.0], dtype=q.dtype)
    rest = quaternion_multiply(q[:1], conjugate[None])  # what is missing at the end
    share = ((times.double() - float(times[-1]) + SEAM) / SEAM).clamp(0, 1)
    still = torch.tensor([[1.0, 0, 0, 0]], dtype=q.dtype)
    closed = quaternion_multiply(slerp(still.expand(len(q), 4), rest.expand(len(q), 4), share), q)
    closed[-1] = q[0]
    return continuous(closed)
