"""Bounded offsets of an avatar's surface that keep it whole: skin moves, and what lies on it moves along.

Vertices at one place move as one. Skin, and the largest part of each kind of clothes and hair, move along their
normals by smoothed amounts of their own; everything else (stitches, brows, glasses) goes with what is nearest.
Eyes, teeth, tongue and lashes stay, and so does the skin at lids and lips, which have to meet.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import sparse
from scipy.spatial import cKDTree
from torch import Tensor, nn

from avatar3d.errors import InputError
from avatar3d.mesh.normals import weld_by_position
from avatar3d.structures import Part

SKIN_REACH = 0.006
"""Metres that skin may move, in or out."""
OUTER_REACH = 0.015
"""Metres that clothes and hair may move out, beyond the skin that carries them."""
OUTER_DEPTH = 0.001
"""And in, where the skin is."""
FIXED = ("eyes", "teeth", "tongue", "lashes")
OUTER = ("hair", "hat", "top", "bottom", "shoes")
STILL = 0.004
"""Skin nearer than this to something fixed, metres, stays;"""
FADE = 0.010
"""and so much farther away it moves freely."""
HINGE = 0.006
"""Skin so near to skin that the jaw parts it from is a lip."""
SHARE_OF_GAP = 0.3
"""Skin moves at most this share of the way to skin that faces it, or that lies behind it."""
NEIGHBORS = 8
ROUNDS = 4
"""Times that amounts are averaged with their neighbors'."""
CARRIERS = 4


class ReliefError(InputError, ValueError):
    """An avatar without skin."""


class Relief(nn.Module):
    """Offsets of the V vertices of parts, in their order.

    Raises `ReliefError` when no part is skin.
    """

    weld: Tensor
    """(V,) place of each vertex."""
    reach: Tensor
    depth: Tensor
    free: Tensor
    normals: Tensor
    smoothing_index: Tensor
    smoothing_weight: Tensor
    carry_index: Tensor
    carry_weight: Tensor

    def __init__(self, parts: Sequence[Part]) -> None:
        super().__init__()
        points = torch.cat([part.mesh.vertices for part in parts])
        self.register_buffer("weld", weld_by_position(points))
        groups = _Groups(parts, points, self.weld)
        self.amounts = nn.Parameter(points.new_zeros(len(groups.driven)))
        reach, depth = groups.limits()
        self.register_buffer("reach", torch.from_numpy(reach).to(points))
        self.register_buffer("depth", torch.from_numpy(depth).to(points))
        self.register_buffer("free", torch.from_numpy(groups.freedom()).to(points))
        self.register_buffer("normals", torch.from_numpy(groups.normals[groups.driven]).to(points))
        for name, matrix in (("smoothing", groups.smoothing()), ("carry", groups.carry())):
            index, weight = _rows(matrix)
            self.register_buffer(f"{name}_index", index.to(points.device))
            self.register_buffer(f"{name}_weight", weight.to(points))

    def heights(self) -> Float[Tensor, " D"]:
        """Metres that the vertices which move by themselves move along their normals."""
        smooth = torch.tanh(self._smoothed())
        return self.free * torch.where(smooth > 0, self.reach, self.depth) * smooth

    def forward(self) -> Float[Tensor, "V 3"]:
        own = self.normals * self.heights()[:, None]
        return _weighted(own, self.carry_index, self.carry_weight)[self.weld]

    def roughness(self) -> Float[Tensor, ""]:
        """Mean squared difference of amounts from their neighbors' mean."""
        smooth = self._smoothed()
        return ((self._averaged(smooth) - smooth) ** 2).mean()

    def _smoothed(self) -> Float[Tensor, " D"]:
        values: Tensor = self.amounts
        for _ in range(ROUNDS):
            values = self._averaged(values)
        return values

    def _averaged(self, values: Float[Tensor, " D"]) -> Float[Tensor, " D"]:
        return _weighted(values[:, None], self.smoothing_index, self.smoothing_weight)[:, 0]


class _Groups:
    """Places (U of them, each one or more vertices) and what moves each."""

    def __init__(self, parts: Sequence[Part], points: Tensor, weld: Int[Tensor, " V"]) -> None:
        self.parts, self.weld = parts, weld.cpu().numpy()
        count = int(self.weld.max()) + 1
        kinds = sorted({part.kind for part in parts})
        counts = [len(part.mesh.vertices) for part in parts]
        rank = self._ranks(parts)
        kind = np.repeat([kinds.index(part.kind) for part in parts], counts)
        order = np.lexsort((rank, self.weld))
        last = np.r_[np.flatnonzero(np.diff(self.weld[order])), len(order) - 1]
        self.rank, self.kind = rank[order[last]], kind[order[last]]
        self.points = points.detach().cpu().double().numpy()[order[last]]
        normals = np.zeros((count, 3))
        np.add.at(normals, self.weld, torch.cat([part.mesh.normals for part in parts]).cpu().double().numpy())
        self.normals = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
        self.skin, self.outer = np.flatnonzero(self.rank == 2), np.flatnonzero(self.rank == 1)
        self.driven = np.concatenate([self.skin, self.outer])
        if len(self.skin) == 0:
            raise ReliefError("the avatar has no part of kind 'body': give the part that is skin this kind")

    def _ranks(self, parts: Sequence[Part]) -> np.ndarray:
        """(V,) 3 fixed, 2 skin, 1 outer and moving by itself, 0 carried."""
        largest: dict[str, Part] = {}
        for part in parts:
            if part.kind in OUTER and part.mesh.material.alpha_mode != "BLEND":
                other = largest.get(part.kind)
                if other is None or len(part.mesh.faces) > len(other.mesh.faces):
                    largest[part.kind] = part
        ranks = []
        for part in parts:
            rank = 3 if part.kind in FIXED else 2 if part.kind == "body" else int(largest.get(part.kind) is part)
            ranks.append(np.full(len(part.mesh.vertices), rank))
        return np.concatenate(ranks)

    def limits(self) -> tuple[Float[np.ndarray, " D"], Float[np.ndarray, " D"]]:
        """Metres that each may move out and in; less in thin places (ears, nostrils) and in narrow gaps."""
        is_skin = self.rank[self.driven] == 2
        reach = np.where(is_skin, SKIN_REACH, OUTER_REACH)
        depth = np.where(is_skin, SKIN_REACH, OUTER_DEPTH)
        points, normals = self.points[self.skin], self.normals[self.skin]
        i, j = cKDTree(points).query_pairs(SKIN_REACH / SHARE_OF_GAP, output_type="ndarray").T
        opposed = (normals[i] * normals[j]).sum(1) < 0
        i, j = np.r_[i[opposed], j[opposed]], np.r_[j[opposed], i[opposed]]
        between = points[j] - points[i]
        room = SHARE_OF_GAP * np.linalg.norm(between, axis=1)
        ahead = (between * normals[i]).sum(1) > 0
        np.minimum.at(reach, i[ahead], room[ahead])
        np.minimum.at(depth, i[~ahead], room[~ahead])
        smoothing = self.smoothing()
        return np.minimum(reach, smoothing @ reach), np.minimum(depth, smoothing @ depth)

    def freedom(self) -> Float[np.ndarray, " D"]:
        """0 at lids and lips, 1 elsewhere, smoothly in between."""
        still = np.concatenate([self.points[self.rank == 3], self.points[self._hinges()]])
        free = np.ones(len(self.driven))
        if len(still):
            away, _ = cKDTree(still).query(self.points[self.skin])
            share = np.clip((away - STILL) / FADE, 0, 1)
            free[: len(self.skin)] = share * share * (3 - 2 * share)
        return free

    def _hinges(self) -> np.ndarray:
        """Skin that a blink moves, and that lies beside skin which the jaw moves otherwise."""
        jaw = self._moved(("jawOpen",))
        hinges = [
            np.flatnonzero(self._size(self._moved((f"eyeBlink{side}",))) > 0.25) for side in ("Left", "Right")
        ]
        if jaw.any():
            pairs = cKDTree(self.points[self.skin]).query_pairs(HINGE, output_type="ndarray")
            a, b = self.skin[pairs[:, 0]], self.skin[pairs[:, 1]]
            largest = np.linalg.norm(jaw, axis=1).max()
            apart = np.linalg.norm(jaw[a] - jaw[b], axis=1) > 0.4 * largest
            hinges += [a[apart], b[apart]]
        found = np.unique(np.concatenate(hinges))
        return found[self.rank[found] == 2]

    def _moved(self, names: tuple[str, ...]) -> Float[np.ndarray, "U 3"]:
        """What a face shape adds."""
        total, start = np.zeros((len(self.points), 3)), 0
        for part in self.parts:
            end = start + len(part.mesh.vertices)
            for n, name in enumerate(part.morphs.names if part.morphs else ()):
                if name in names and part.kind == "body":
                    total[self.weld[start:end]] = part.morphs.deltas[n].cpu().numpy()  # type: ignore[union-attr]
            start = end
        return total

    @staticmethod
    def _size(moved: np.ndarray) -> np.ndarray:
        size = np.linalg.norm(moved, axis=1)
        return size / max(size.max(), 1e-12)

    def smoothing(self) -> sparse.csr_matrix:
        """(D, D) rows that average a place with its neighbors of the same kind that face the same way."""
        blocks, order = [], []
        kind = self.kind[self.driven]
        for k in np.unique(kind):
            own = np.flatnonzero(kind == k)
            places = self.driven[own]
            near = min(NEIGHBORS + 1, len(own))
            _, index = cKDTree(self.points[places]).query(self.points[places], k=[*range(1, near + 1)])
            agree = (self.normals[places][:, None] * self.normals[places][index]).sum(-1)
            weight = np.maximum(agree, 0.0) + 1e-3 * (index == np.arange(len(own))[:, None])
            weight /= weight.sum(axis=1, keepdims=True)
            row = np.repeat(np.arange(len(own)), near)
            blocks.append(sparse.coo_matrix((weight.ravel(), (row, index.ravel())), (len(own),) * 2))
            order.append(own)
        matrix = sparse.block_diag(blocks).tocsr()
        back = np.argsort(np.concatenate(order))
        return matrix[back][:, back]

    def carry(self) -> sparse.csr_matrix:
        """(U, D) how the offsets of all places follow from those that move by themselves."""
        count, driven = len(self.points), len(self.driven)
        own = sparse.csr_matrix((np.ones(driven), (self.driven, np.arange(driven))), (count, driven))
        loose = np.flatnonzero((self.rank == 0) | (self.rank == 1))
        on_skin = self._nearest(loose, self.skin)
        first = (own + on_skin @ own).tocsr()
        for k in np.unique(self.kind[self.outer]):
            drivers = self.outer[self.kind[self.outer] == k]
            riders = np.flatnonzero((self.rank == 0) & (self.kind == k))
            if len(riders):
                keep = sparse.diags((~np.isin(np.arange(count), riders)).astype(float))
                first = (keep @ first + self._nearest(riders, drivers) @ first).tocsr()
        return first

    def _nearest(self, rows: np.ndarray, carriers: np.ndarray) -> sparse.csr_matrix:
        """(U, U) inverse-square-distance weights of each row's nearest carriers."""
        near = min(CARRIERS, len(carriers))
        away, index = cKDTree(self.points[carriers]).query(self.points[rows], k=[*range(1, near + 1)])
        weight = 1 / np.maximum(away, 1e-4) ** 2
        weight /= weight.sum(axis=1, keepdims=True)
        entries = (weight.ravel(), (np.repeat(rows, near), carriers[index].ravel()))
        return sparse.csr_matrix(entries, (len(self.points),) * 2)


def _weighted(
    values: Float[Tensor, "M C"], index: Int[Tensor, "N K"], weight: Float[Tensor, "N K"]
) -> Float[Tensor, "N C"]:
    """Weighted sums of rows of values; quicker than `textures.weighted_rows` where nearly all rows are named."""
    rows = values.index_select(0, index.reshape(-1)).view(*index.shape, -1)
    return (weight[:, :, None] * rows).sum(1)


def _rows(matrix: sparse.csr_matrix) -> tuple[Int[Tensor, "N K"], Float[Tensor, "N K"]]:
    """Columns and values of each row's entries, filled up with zeros to the longest."""
    counts = np.diff(matrix.indptr)
    row = np.repeat(np.arange(len(counts)), counts)
    place = np.arange(len(matrix.data)) - matrix.indptr[row]
    index, weight = np.zeros((len(counts), counts.max()), np.int64), np.zeros((len(counts), counts.max()))
    index[row, place], weight[row, place] = matrix.indices, matrix.data
    return torch.from_numpy(index), torch.from_numpy(weight)
