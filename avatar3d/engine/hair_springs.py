"""What hangs and swings: chains of joints through long hair, tails and plaits, and how the hair follows them.

The first joint of a chain sits where the hair leaves the head, the last one marks its end. A curtain of hair has
five chains side by side; a lock lies between two of them by its direction from the neck.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from avatar3d.engine.attach import Figure
from avatar3d.engine.hair_roots import HeadOfHair, blend
from avatar3d.engine.hair_strands import Pieces
from avatar3d.structures import Skeleton, Skin, SpringChain

CURTAIN = ("frontRight", "right", "back", "left", "frontLeft")
SPREAD = (0.0, 0.55, 0.90)
"""Shares of a curtain's locks that hang further back than its middle, side and front chains."""
BELOW_EARS = 0.01
"""A curtain leaves the head this far below the middle of the ears, metres."""
ENDS = 0.03
"""Share of the hair that reaches below a chain's end."""
SEGMENT = 0.08
"""Bones of chains are about so long or longer, metres."""
LYING = 0.5
"""Share of the chest in the hair that lies on it: half of what the head turns, where nothing simulates springs."""


@dataclass(frozen=True)
class Hang:
    """A part of a style that swings. Forces are those of `SpringChain`."""

    pieces: tuple[int, ...]
    """Which of the style's pieces."""
    chains: tuple[str, ...]
    bones: int
    """Of each chain, at most."""
    stiffness: float
    gravity: float
    drag: float
    radius: float
    from_roots: bool = False
    """It leaves the head at its roots (a tie), not at the ears."""


HANGS: dict[str, tuple[Hang, ...]] = {
    "bob": (Hang((0,), CURTAIN, 1, 1.0, 0.10, 0.5, 0.015),),
    "long_straight": (Hang((0,), CURTAIN, 3, 0.30, 0.30, 0.4, 0.018),),
    "long_wavy": (Hang((0,), CURTAIN, 3, 0.36, 0.28, 0.4, 0.020),),
    "dreadlocks": (Hang((0,), CURTAIN, 3, 0.45, 0.45, 0.5, 0.018),),
    "ponytail": (Hang((1,), ("tail",), 4, 0.25, 0.25, 0.35, 0.020, True),),
    "braids": (
        Hang((1, 2, 3), ("braidRight",), 4, 0.20, 0.40, 0.4, 0.012, True),
        Hang((4, 5, 6), ("braidLeft",), 4, 0.20, 0.40, 0.4, 0.012, True),
    ),
}
"""By style; other hair keeps its shape."""


@dataclass(frozen=True)
class Swing:
    """Hair's skin over a skeleton that has its joints, and how they swing."""

    skeleton: Skeleton
    skin: Skin
    springs: tuple[SpringChain, ...]


def swinging(hair: HeadOfHair, pieces: Pieces, owner: np.ndarray) -> Swing | None:
    """Chains for hair; None for a style that does not swing.

    `owner` (S,) is the style's piece of each strand of `pieces`.
    """
    figure = hair.figure
    skeleton = figure.body.skeleton
    of_vertex = owner[pieces.strand]
    weights = np.zeros((len(pieces.vertices), len(skeleton.names)))
    weights[:, figure.joint("head")] = 1.0
    springs: list[SpringChain] = []
    for hang in HANGS.get(hair.spec.hair_style, ()):
        mine = np.flatnonzero(np.isin(of_vertex, hang.pieces))
        levels = _levels(hair, hang, pieces, mine)
        beside = _beside(figure, pieces, mine, levels[0], len(hang.chains))
        path = _paths(pieces.vertices[mine], beside, levels, len(hang.chains))
        first = len(skeleton.names)
        skeleton, found = _grown(skeleton, hang, path, hair.size)
        springs += found
        weights = np.pad(weights, ((0, 0), (0, len(skeleton.names) - first)))
        weights[mine] = _shares(figure, pieces.vertices[mine, 1], beside, levels, first, weights.shape[1])
    if not springs:
        return None
    order = np.argsort(-weights, axis=1, kind="stable")[:, :4]
    shares = np.take_along_axis(weights, order, axis=1).astype(np.float32)
    joints = torch.from_numpy(np.where(shares > 0, order, 0))
    return Swing(skeleton, Skin(joints, torch.from_numpy(shares)), tuple(springs))


def _levels(hair: HeadOfHair, hang: Hang, pieces: Pieces, mine: np.ndarray) -> np.ndarray:
    """(bones + 1,) heights of a chain's joints, from the first to the end."""
    y = pieces.vertices[mine, 1]
    top = hair.body.ears[0][0][1] - BELOW_EARS * hair.size
    if hang.from_roots:
        roots = mine[pieces.uv[mine, 1] <= pieces.uv[mine, 1].min() + 1e-6]
        top = float(pieces.vertices[roots, 1].mean())
    end = min(float(np.quantile(y[y < top], ENDS)), top - 0.03 * hair.size) if (y < top).any() else top - 0.03
    bones = int(np.clip(round((top - end) / (SEGMENT * hair.size)), 1, hang.bones))
    return np.linspace(top, end, bones + 1)


def _beside(figure: Figure, pieces: Pieces, mine: np.ndarray, top: float, chains: int) -> np.ndarray:
    """(N,) place of each vertex among the chains, from 0 to chains - 1; the same all along a strand."""
    if chains == 1:
        return np.zeros(len(mine))
    p, strand = pieces.vertices[mine], pieces.strand[mine]
    low = np.maximum(top - p[:, 1], 1e-4)  # lower points count more
    neck = figure.body.bone("neck").numpy()
    sums = [np.bincount(strand, low * v, strand.max() + 1) for v in (p[:, 0], neck[2] - p[:, 2])]
    turn = np.arctan2(*sums)
    angles = np.quantile(np.abs(turn[np.unique(strand)]), SPREAD)
    angles[0] = 0.0
    middle = chains // 2
    return (middle + np.sign(turn) * np.interp(np.abs(turn), angles, np.arange(middle + 1)))[strand]


def _paths(points: np.ndarray, beside: np.ndarray, levels: np.ndarray, chains: int) -> np.ndarray:
    """(chains, bones + 1, 3) joints: the middle of each chain's own hair at each level."""
    window = 0.25 * (levels[0] - levels[-1]) / (len(levels) - 1)
    paths = np.empty((chains, len(levels), 3))
    for c in range(chains):
        near = np.clip(1 - np.abs(beside - c) / 0.5, 0, 1) + 1e-9
        for k, y in enumerate(levels):
            weight = near * np.exp(-(((points[:, 1] - y) / window) ** 2)) + 1e-30
            paths[c, k] = weight @ points / weight.sum()
    paths[:, :, 1] = levels
    return paths


def _grown(skeleton: Skeleton, hang: Hang, paths: np.ndarray, size: float) -> tuple[Skeleton, list[SpringChain]]:
    """The skeleton with a hang's joints added to the head, and its chains."""
    names, parents = list(skeleton.names), list(skeleton.parents)
    springs = []
    for chain, path in zip(hang.chains, paths, strict=True):
        joints = tuple(f"hair_{chain}_{n}" for n in range(len(path)))
        parents += [names.index("head"), *range(len(names), len(names) + len(path) - 1)]
        names += joints
        springs.append(
            SpringChain(
                f"hair_{chain}", joints, hang.radius * size, hang.stiffness, hang.gravity, hang.drag
            )
        )  # fmt: skip
    positions = torch.from_numpy(paths.reshape(-1, 3)).to(skeleton.positions)
    return Skeleton(tuple(names), tuple(parents), torch.cat([skeleton.positions, positions])), springs


def _shares(
    figure: Figure, y: np.ndarray, beside: np.ndarray, levels: np.ndarray, first: int, count: int
) -> np.ndarray:
    """(N, count) weights: three joints of the chains around a vertex, or the head, and the chest where hair lies.

    Vertices in the middle of a bone follow it alone; between bones and between chains, weights are barycentric in
    triangles that mirror about the middle chain, so they are continuous and never more than three.
    """
    bones = len(levels) - 1
    along = np.interp(-y, -levels, np.arange(bones + 1.0)) - 0.5
    above = (levels[0] - y) / (levels[0] - levels[1])  # negative above the first joint
    along = np.clip(np.where(above < 0, above - 0.5, along), -1.0, bones - 1.0) + 1.0  # row 0 is the head
    middle = (np.round(beside.max()) if beside.max() > 0 else 0) / 2
    away = np.abs(beside - middle)
    side = np.where(beside >= middle, 1, -1)
    i, j = np.floor(away).astype(int), np.floor(along).astype(int)
    a, b = away - i, along - j
    rows = np.arange(len(y))
    weights = np.zeros((len(y), count))
    head, chest = figure.joint("head"), figure.joint("upperChest")

    def add(out: np.ndarray, down: np.ndarray, share: np.ndarray) -> None:
        chain = np.round(middle + side * out).astype(int)
        joint = np.where(down == 0, head, first + chain * (bones + 1) + down - 1)
        np.add.at(weights, (rows, np.where(share > 0, joint, head)), share)

    add(i, j, 1 - np.maximum(a, b))
    add(i + (a >= b), j + (a < b), np.abs(a - b))
    add(i + 1, j + 1, np.minimum(a, b))
    neck, upper = float(figure.body.bone("neck")[1]), float(figure.body.bone("upperChest")[1])
    lying = LYING * blend(y, neck, (neck + upper) / 2)
    weights *= 1 - lying[:, None]
    weights[:, chest] += lying
    return weights


def collided(springs: Sequence[SpringChain], skeleton: Skeleton) -> tuple[np.ndarray, np.ndarray]:
    """Places (N, 3) and radii (N,) of the joints that colliders push, all but the first of each chain."""
    index = {name: i for i, name in enumerate(skeleton.names)}
    places = [skeleton.positions[index[j]].numpy() for s in springs for j in s.joints[1:]]
    radii = [s.radius for s in springs for _ in s.joints[1:]]
    return np.array(places, dtype=np.float64), np.array(radii)
