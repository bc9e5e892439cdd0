"""Cuts of triangle meshes against a slow reference and closed forms."""

import numpy as np
import pytest

from avatar3d.mesh.intersections import buried_depths, segment_crossings, self_intersections

CUBE_FACES = np.array([
    (0, 2, 1), (1, 2, 3), (4, 5, 6), (5, 7, 6), (0, 1, 4), (1, 5, 4),
    (2, 6, 3), (3, 6, 7), (0, 4, 2), (2, 4, 6), (1, 3, 5), (3, 7, 5),
])[:, ::-1]  # fmt: skip


def cube(center, half) -> np.ndarray:
    signs = np.array([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=float)
    return np.array(center, dtype=float) + half * signs


def passes(p, q, triangle) -> bool:
    """Whether the segment p q meets the triangle, by solving for where."""
    a, b, c = triangle
    u, v, t = np.linalg.solve(np.stack([b - a, c - a, p - q], axis=1), p - a)
    return u >= 0 and v >= 0 and u + v <= 1 and 0 <= t <= 1


def test_self_intersections_are_those_of_all_pairs():
    rng = np.random.default_rng(3)
    corners = rng.uniform(-1, 1, (60, 1, 3)) + 0.5 * rng.normal(size=(60, 3, 3))
    vertices, faces = corners.reshape(-1, 3), np.arange(180).reshape(60, 3)
    edges = ((0, 1), (1, 2), (2, 0))
    expected = [
        (i, j)
        for i in range(60)
        for j in range(i + 1, 60)
        if any(passes(*corners[i, list(e)], corners[j]) or passes(*corners[j, list(e)], corners[i]) for e in edges)
    ]
    assert len(expected) > 20
    assert self_intersections(vertices, faces).tolist() == [list(pair) for pair in expected]


def test_triangles_with_a_common_vertex_do_not_count():
    assert len(self_intersections(cube((0, 0, 0), 1.0), CUBE_FACES)) == 0
    assert len(self_intersections(np.zeros((0, 3)), np.zeros((0, 3), dtype=np.int64))) == 0


def test_a_segment_out_of_a_cube_crosses_it_once():
    rng = np.random.default_rng(4)
    way = rng.normal(size=(50, 3))
    way /= np.abs(way).max(axis=1, keepdims=True)
    count, share = segment_crossings(np.zeros((50, 3)), 4 * way, cube((0, 0, 0), 1.0), CUBE_FACES)
    assert (count == 1).all()
    assert share == pytest.approx(0.25)
    count, share = segment_crossings(np.zeros((50, 3)), 0.5 * way, cube((0, 0, 0), 1.0), CUBE_FACES)
    assert (count == 0).all() and np.isinf(share).all()


def test_buried_corners_of_two_cubes():
    """A corner inside the other cube is as deep as its nearest face is far; no other corner is buried."""
    vertices = np.concatenate([cube((0, 0, 0), 1.0), cube((1.5, 1.6, 1.7), 1.0)])
    faces = np.concatenate([CUBE_FACES, CUBE_FACES + 8])
    depths = buried_depths(vertices, faces, reach=5.0)
    assert depths[8] == pytest.approx(0.3) and depths[7] == pytest.approx(0.3)
    assert np.flatnonzero(depths).tolist() == [7, 8]
    apart = np.concatenate([cube((0, 0, 0), 1.0), cube((4, 0, 0), 1.0)])
    assert not buried_depths(apart, faces, reach=5.0).any()
