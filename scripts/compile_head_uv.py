"""Lay the head's texture coordinates out anew, so that the face fills a texture of its own.

MakeHuman's layout gives the face about a sixth of the texture's width. The head keeps its islands and seams (so
no new cut is visible) but its largest island is flattened again with little distortion and a chosen density:
fine around eyes and mouth, coarse on scalp and neck. The result is `assets/body/head_uv.safetensors`:
`corner_uv` (R, 2) over the corners of the body surface (rows off the head keep the template's values),
`head_faces` (F,), true for faces that use them, and `sky` (V,), the share of the sky that each welded vertex
sees past the head itself.

Method: scalable locally injective mappings with the symmetric Dirichlet energy (Rabinovich et al., 2017).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import scipy.sparse as sp
import torch
import tyro
from numba import njit
from safetensors.torch import save_file
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import spsolve

from avatar3d.body.shape import ShapedBody, shape_body
from avatar3d.body.template import ASSETS
from avatar3d.mesh.normals import vertex_normals
from avatar3d.spec import AvatarSpec

ITERATIONS = 60
OCCLUDERS = ("body", "eye_left", "eye_right", "teeth_upper", "teeth_lower")


def islands(faces: np.ndarray, count: int) -> np.ndarray:
    """(R,) island number of each corner."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]]])
    graph = sp.coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(count, count))
    return connected_components(graph, directed=False)[1]


def flat_triangles(points: np.ndarray) -> np.ndarray:
    """(F, 2, 2) columns: each triangle's two edges in a right-handed frame of its own plane."""
    e1, e2 = points[:, 1] - points[:, 0], points[:, 2] - points[:, 0]
    length = np.linalg.norm(e1, axis=1)
    x = (e1 * e2).sum(1) / length
    y = np.linalg.norm(np.cross(e1, e2), axis=1) / length
    return np.stack([np.stack([length, x], 1), np.stack([np.zeros_like(y), y], 1)], 1)


def jacobians(uv: np.ndarray, faces: np.ndarray, inverse: np.ndarray) -> np.ndarray:
    edges = np.stack([uv[faces[:, 1]] - uv[faces[:, 0]], uv[faces[:, 2]] - uv[faces[:, 0]]], axis=2)
    return edges @ inverse


def energy(J: np.ndarray, area: np.ndarray) -> float:
    """Symmetric Dirichlet energy; infinite when a triangle is flipped."""
    det = np.linalg.det(J)
    if (det <= 0).any():
        return np.inf
    square = (J**2).sum((1, 2))
    return float((area * (square + square / det**2)).sum())


def boundary_loops(faces: np.ndarray) -> list[list[int]]:
    """Closed loops of boundary vertices, against the direction of the faces along them."""
    edges = {(int(f[i]), int(f[(i + 1) % 3])) for f in faces for i in range(3)}
    follow = {b: a for a, b in edges if (b, a) not in edges}
    loops = []
    while follow:
        start, vertex = next(iter(follow.items()))
        loop = [start]
        while vertex != start:
            loop.append(vertex)
            vertex = follow.pop(vertex)
        follow.pop(start)
        loops.append(loop)
    return loops


def fill_holes(faces: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """Faces and the ears clipped off every loop but the longest: a hole that can not turn inside out."""
    filled = [faces]
    for loop in sorted(boundary_loops(faces), key=len)[:-1]:
        loop = list(loop)
        if area_of(uv[loop]) < 0:
            loop.reverse()
        while len(loop) > 3:
            loop = clip_ear(loop, uv, filled)
        filled.append(np.array([loop]))
    return np.concatenate(filled)


def area_of(polygon: np.ndarray) -> float:
    x, y = polygon[:, 0], polygon[:, 1]
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)


def clip_ear(loop: list[int], uv: np.ndarray, filled: list[np.ndarray]) -> list[int]:
    """The loop without its roundest ear, which is appended to `filled`."""
    best, best_quality = -1, 0.0
    for i in range(len(loop)):
        ear = [loop[i - 1], loop[i], loop[(i + 1) % len(loop)]]
        t = uv[ear]
        area = area_of(t)
        if area <= 0:
            continue
        others = uv[[v for v in loop if v not in ear]]
        inside = np.ones(len(others), bool)
        for k in range(3):
            a, b = t[k], t[(k + 1) % 3]
            inside &= (b[0] - a[0]) * (others[:, 1] - a[1]) - (b[1] - a[1]) * (others[:, 0] - a[0]) >= 0
        quality = area / ((t - np.roll(t, 1, 0)) ** 2).sum()
        if not inside.any() and quality > best_quality:
            best, best_quality = i, quality
    if best < 0:
        raise ValueError("a hole of the start layout is not a simple polygon")
    filled.append(np.array([[loop[best - 1], loop[best], loop[(best + 1) % len(loop)]]]))
    return loop[:best] + loop[best + 1 :]


def flatten(points: np.ndarray, faces: np.ndarray, uv: np.ndarray, density: np.ndarray) -> np.ndarray:
    """(N, 2) coordinates whose scale is near `density` (F,) times the surface's, started from injective `uv`."""
    rest = flat_triangles(points[faces]) * density[:, None, None]
    solid = len(faces)
    faces = fill_holes(faces, uv)
    if (np.linalg.det(uv[faces[:, 1:]] - uv[faces[:, :1]]) <= 0).any():
        raise ValueError("the start layout is not injective")
    uv = uv * np.sqrt(
        np.linalg.det(rest).sum() / np.linalg.det(uv[faces[:solid, 1:]] - uv[faces[:solid, :1]]).sum()
    )
    rest = np.concatenate([rest, (uv[faces[solid:, 1:]] - uv[faces[solid:, :1]]).transpose(0, 2, 1)])
    area = np.maximum(np.linalg.det(rest) / 2, 1e-12)
    area[solid:] *= 0.02
    inverse = np.linalg.inv(rest)
    count = len(points)
    rows = np.arange(len(faces))
    # d J[:, :, d] / d uv is the same for both coordinates: D_k (F, N), k = 0, 1
    columns = []
    for k in range(2):
        second, third = inverse[:, 0, k], inverse[:, 1, k]
        values = np.concatenate([-second - third, second, third])
        columns.append(
            sp.csr_matrix((values, (np.tile(rows, 3), faces.T.ravel())), shape=(len(faces), count)),
        )
    for step in range(ITERATIONS):
        J = jacobians(uv, faces, inverse)
        U, s, Vt = np.linalg.svd(J)
        weight = np.sqrt(np.abs((s - s**-3) / np.where(np.abs(s - 1) < 1e-6, 1, s - 1)))
        weight = np.where(np.abs(s - 1) < 1e-6, 2.0, weight)  # the limit at s = 1
        W = U @ (weight[:, :, None] * U.transpose(0, 2, 1))
        R = U @ Vt
        root = np.sqrt(area)[:, None]
        blocks, target = [], []
        for i in range(2):
            for k in range(2):
                parts = [sp.diags(root[:, 0] * W[:, i, d]) @ columns[k] for d in range(2)]
                blocks.append(sp.hstack(parts))
                target.append(root[:, 0] * (W[:, i, 0] * R[:, 0, k] + W[:, i, 1] * R[:, 1, k]))
        A = sp.vstack(blocks).tocsc()
        b = np.concatenate(target)
        keep = 1e-4 * area.mean()
        normal = A.T @ A + keep * sp.eye(2 * count)
        new = spsolve(normal.tocsc(), A.T @ b + keep * uv.T.ravel()).reshape(2, count).T
        before, alpha = energy(J, area), 1.0
        while alpha > 1e-8:
            after = energy(jacobians(uv + alpha * (new - uv), faces, inverse), area)
            if after < before:
                break
            alpha *= 0.6
        uv = uv + alpha * (new - uv)
        if step % 5 == 0:
            print(f"step {step}: energy {after / area.sum():.4f}, step size {alpha:.2g}")
        if before - after < 1e-5 * before:
            break
    return uv


def face_density(middle: np.ndarray, eyes: np.ndarray, mouth: np.ndarray) -> np.ndarray:
    """Texels wanted per metre, relative to the front of the face, at triangle centres (F, 3)."""

    def ramp(x: np.ndarray, low: float, high: float) -> np.ndarray:
        t = np.clip((x - low) / (high - low), 0, 1)
        return t * t * (3 - 2 * t)

    front = ramp(middle[:, 2], 0.01, 0.10)
    density = 0.42 + 0.58 * front
    density *= 0.6 + 0.4 * ramp(middle[:, 1], 1.475, 1.50)
    for center, radius in [(eyes, 0.03), (eyes * [-1, 1, 1], 0.03), (mouth, 0.04)]:
        distance = np.linalg.norm((middle - center) * [0.8, 1, 1], axis=1)
        density *= 1 + 0.45 * (1 - ramp(distance, 0.4 * radius, 1.2 * radius))
    return density


def place(uv: np.ndarray, box: tuple[float, float, float, float], stretch: float = 1.0) -> np.ndarray:
    """Scale and centre into (left, top, right, bottom); v may grow by `stretch` more than u to fill the box."""
    low, high = uv.min(0), uv.max(0)
    corner, size = np.array(box[:2]), np.array(box[2:]) - np.array(box[:2])
    scale = size / (high - low)
    scale = np.minimum(scale, scale[::-1] * [1 / stretch, stretch])
    return corner + size / 2 + (uv - (low + high) / 2) * scale


@njit(cache=True)
def clear_share(origins, directions, triangles, reach):
    """(N,) share of the rays (K directions per origin) that meet no triangle within `reach`."""
    share = np.zeros(len(origins), dtype=np.float32)
    for i in range(len(origins)):
        o = origins[i]
        close = []
        for t in range(len(triangles)):
            if np.abs(triangles[t, 0] - o).max() < reach:
                close.append(t)
        for k in range(directions.shape[1]):
            d = directions[i, k]
            hit = False
            for t in close:
                a = triangles[t, 0]
                e1, e2 = triangles[t, 1] - a, triangles[t, 2] - a
                h = np.cross(d, e2)
                det = e1 @ h
                if abs(det) < 1e-14:
                    continue
                s = o - a
                u = (s @ h) / det
                if u < 0 or u > 1:
                    continue
                q = np.cross(s, e1)
                v = (d @ q) / det
                if v < 0 or u + v > 1:
                    continue
                if 1e-5 < (e2 @ q) / det < reach:
                    hit = True
                    break
            share[i] += 0.0 if hit else 1.0 / directions.shape[1]
    return share


def sky_share(body: ShapedBody, chosen: np.ndarray, rays: int = 96, reach: float = 0.03) -> np.ndarray:
    """(V,) cosine-weighted share of clear sky within `reach` metres at the chosen vertices; 1 elsewhere."""
    vertex, _, faces = body.template.surface("body")
    normals = vertex_normals(body.vertices, vertex[faces]).numpy()[chosen].astype(np.float64)
    points = body.vertices.numpy().astype(np.float64)
    rng = np.random.default_rng(0)
    ball = rng.normal(size=(len(chosen), rays, 3))
    directions = ball / np.linalg.norm(ball, axis=2, keepdims=True) + normals[:, None]
    directions /= np.linalg.norm(directions, axis=2, keepdims=True)
    triangles = [points[v.numpy()[f.numpy()]] for v, _, f in map(body.template.surface, OCCLUDERS)]
    solid = np.concatenate(triangles)
    solid = solid[solid[:, :, 1].min(1) > points[chosen, 1].min() - reach]
    share = np.ones(len(points), dtype=np.float32)
    share[chosen] = clear_share(points[chosen] + 2e-4 * normals, directions, solid, reach)
    return share


def main(out: Path = ASSETS / "head_uv.safetensors") -> None:
    body = shape_body(AvatarSpec())
    vertex, uv, faces = (x.numpy() for x in body.template.surface("body"))
    points = body.vertices.numpy().astype(np.float64)[vertex]
    uv = uv.astype(np.float64)
    label = islands(faces, len(vertex))
    head = label[int(points[:, 1].argmax())]
    small = [i for i in np.unique(label) if i != head and points[label == i, 1].min() > 1.45]
    small.sort(key=lambda i: -(label == i).sum())

    corners = np.flatnonzero(label == head)
    local = np.full(len(vertex), -1)
    local[corners] = np.arange(len(corners))
    head_faces = local[faces[label[faces[:, 0]] == head]]
    # turned so that the face is upright, and mirrored while the energy wants positive areas (v points down)
    start = np.stack([-uv[corners, 1], uv[corners, 0]], 1) * [1, -1]
    middle = points[corners][head_faces].mean(1)
    eye = body.bone("leftEye").numpy() + np.array([0, 0, 0.015])
    mouth = points[points[:, 2] > 0.13][:, :].mean(0) * [0, 0, 0] + np.array([0, 1.5215, 0.15])
    flat = flatten(points[corners], head_faces, start, face_density(middle, eye, mouth)) * [1, -1]

    new = uv.copy()
    new[corners] = place(flat, (0.012, 0.012, 0.988, 0.988), stretch=1.3)
    boxes = ((0.012, 0.86, 0.14, 0.988), (0.87, 0.90, 0.92, 0.988), (0.94, 0.90, 0.988, 0.988))
    for island, box in zip(small, boxes, strict=True):
        new[label == island] = place(uv[label == island], box)
    mine = np.isin(label, [head, *small])
    tensors = {
        "corner_uv": torch.from_numpy(new.astype(np.float32)),
        "head_faces": torch.from_numpy(mine[faces[:, 0]]),
        "sky": torch.from_numpy(sky_share(body, np.unique(vertex[mine]))),
    }
    save_file(tensors, out, {"format": "avatar3d-head-uv-1", "source": "the body template; CC0 1.0"})
    print(f"wrote {out}: {int(mine.sum())} corners, {int(tensors['head_faces'].sum())} faces")


if __name__ == "__main__":
    tyro.cli(main)
