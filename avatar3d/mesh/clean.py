"""Triangle soups made presentable: pieces, holes, and the numbers that say whether a surface is closed."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor


def volume(vertices: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"]) -> float:
    """Signed volume in cubic metres that a closed surface encloses; positive when its faces look outwards."""
    a, b, c = vertices.double()[faces].unbind(dim=1)
    return float((torch.linalg.cross(a, b) * c).sum() / 6)


def euler_number(faces: Int[Tensor, "F 3"]) -> int:
    """Vertices - edges + faces: 2 for each closed piece, less 2 for each handle."""
    edges = _sides(faces.cpu().numpy())
    count = len(np.unique(np.sort(edges, axis=1), axis=0))
    return len(faces.unique()) - count + len(faces)


def is_closed(faces: Int[Tensor, "F 3"]) -> bool:
    """Every edge has two faces, which walk along it in opposite directions."""
    return len(faces) > 0 and len(_open_sides(faces.cpu().numpy())) == 0


def largest_pieces(
    vertices: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"], least: float = 0.02
) -> tuple[Float[Tensor, "W 3"], Int[Tensor, "G 3"]]:
    """The connected piece with the largest area, and those with at least `least` of its area.

    Closed pieces that enclose a hollow (of negative volume) are dropped whatever their size: nobody sees them.
    """
    f = faces.cpu().numpy()
    if len(f) == 0:
        return vertices, faces
    count = len(vertices)
    side = _sides(f)
    graph = coo_matrix((np.ones(len(side), np.int8), (side[:, 0], side[:, 1])), shape=(count, count))
    pieces, of_vertex = connected_components(graph, directed=False)
    of_face = of_vertex[f[:, 0]]
    corners = vertices.detach().cpu().double().numpy()[f]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = np.bincount(of_face, np.linalg.norm(normal, axis=1), pieces)
    signed = np.bincount(of_face, (normal * corners[:, 0]).sum(axis=1), pieces)
    gaps = np.bincount(of_vertex[_open_sides(f)[:, 0]], minlength=pieces)
    kept = (area >= least * area.max()) & ((signed >= 0) | (gaps > 0) | (area == area.max()))
    return compact(vertices, faces[torch.from_numpy(kept[of_face]).to(faces.device)])


def filled_holes(
    vertices: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"], most: int = 200
) -> tuple[Float[Tensor, "W 3"], Int[Tensor, "G 3"]]:
    """Holes of up to `most` edges closed by a fan around their middle; larger ones stay open.

    A vertex where two holes touch is passed through twice, as its faces' order says.
    """
    loops = [loop for loop in _loops(_open_sides(faces.cpu().numpy())) if 3 <= len(loop) <= most]
    middles: list[Tensor] = []
    fans: list[tuple[int, int, int]] = []
    for loop in loops:
        center = len(vertices) + len(middles)
        middles.append(vertices[loop].mean(dim=0))
        fans += [(b, a, center) for a, b in zip(loop, loop[1:] + loop[:1], strict=True)]
    if not loops:
        return vertices, faces
    return torch.cat([vertices, torch.stack(middles)]), torch.cat([faces, torch.tensor(fans).to(faces)])


def compact(
    vertices: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"]
) -> tuple[Float[Tensor, "W 3"], Int[Tensor, "F 3"]]:
    """Without the vertices that no face names."""
    used, inverse = torch.unique(faces, return_inverse=True)
    return vertices[used], inverse.reshape(-1, 3)


def _sides(faces: np.ndarray) -> np.ndarray:
    """(3F, 2) directed edges."""
    return np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])


def _open_sides(faces: np.ndarray) -> np.ndarray:
    """(E, 2) directed edges that not exactly one face walks against, or that several walk along."""
    side = _sides(faces).astype(np.int64)
    base = int(side.max()) + 1 if len(side) else 1
    along, against = side[:, 0] * base + side[:, 1], side[:, 1] * base + side[:, 0]
    keys, counts = np.unique(along, return_counts=True)
    place = np.searchsorted(keys, against).clip(max=len(keys) - 1)
    met = np.where(keys[place] == against, counts[place], 0)
    own = counts[np.searchsorted(keys, along)]
    return side[(met != 1) | (own != 1)]


def _loops(sides: np.ndarray) -> list[list[int]]:
    """Closed walks along directed edges, each edge once."""
    following: dict[int, list[int]] = {}
    for a, b in sides.tolist():
        following.setdefault(a, []).append(b)
    loops = []
    for start in sorted(following):
        while following[start]:
            loop, here = [start], following[start].pop()
            while here != start and following.get(here):
                loop.append(here)
                here = following[here].pop()
            if here == start:
                loops.append(loop)
    return loops
