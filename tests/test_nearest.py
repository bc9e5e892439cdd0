"""Nearest points on meshes, against a slow search and closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from avatar3d.mesh.nearest import surface_of


def closest_slow(point, triangles):
    """Least distance over a fine grid of each triangle's barycentrics, never less than the true one."""
    n = 40
    grid = np.array([(i, j, n - i - j) for i in range(n + 1) for j in range(n + 1 - i)]) / n
    return min(np.linalg.norm(grid @ t - point, axis=1).min() for t in triangles)


def test_random_triangles_against_a_slow_search():
    generator = np.random.default_rng(0)
    vertices, faces = generator.random((60, 3)), generator.integers(0, 60, (90, 3))
    points = generator.random((60, 3)) * 1.6 - 0.3
    hit = surface_of(vertices, faces).nearest(points)
    slow = np.array([closest_slow(p, vertices[faces]) for p in points])
    assert (hit.distance <= slow + 1e-12).all() and (slow - hit.distance).max() < 0.02
    own = np.linalg.norm(hit.mixed(vertices, faces) - points, axis=1)
    np.testing.assert_allclose(own, hit.distance, atol=1e-12)
    assert (hit.weights >= 0).all()
    np.testing.assert_allclose(hit.weights.sum(axis=1), 1)


@pytest.mark.parametrize(
    ("point", "wanted"),
    [((0.2, 0.3, 0.5), (0.2, 0.3, 0)), ((-1, -1, 0), (0, 0, 0)), ((0.5, -2, 1), (0.5, 0, 0)),
     ((1, 1, 0), (0.5, 0.5, 0)), ((3, -1, 0), (1, 0, 0)), ((-1, 0.5, 2), (0, 0.5, 0))],
)  # fmt: skip
def test_faces_sides_and_corners_of_one_triangle(point, wanted):
    vertices, faces = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]), np.array([[0, 1, 2]])
    hit = surface_of(vertices, faces).nearest(np.array([point], float))
    np.testing.assert_allclose(hit.mixed(vertices, faces)[0], wanted, atol=1e-12)


def test_reach():
    vertices, faces = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]), np.array([[0, 1, 2]])
    hit = surface_of(vertices, faces).nearest(np.array([[0.2, 0.2, 0.3], [0.2, 0.2, 0.1]]), reach=0.2)
    assert hit.face.tolist() == [-1, 0] and hit.distance[0] == np.inf
    with pytest.raises(ValueError, match="without faces"):
        surface_of(vertices, faces[:0])
