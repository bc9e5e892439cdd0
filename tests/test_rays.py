"""Rays through a grid hit what a loop over all triangles hits."""

from __future__ import annotations

import numpy as np
import pytest

from avatar3d.mesh.rays import first_hit, ray_grid


def slow_hit(triangles, origin, direction):
    best = np.inf
    for a, b, c in triangles:
        matrix = np.stack([b - a, c - a, -direction], axis=1)
        if abs(np.linalg.det(matrix)) < 1e-14:
            continue
        u, v, t = np.linalg.solve(matrix, origin - a)
        if u >= 0 and v >= 0 and u + v <= 1 and t >= 0:
            best = min(best, t)
    return best


@pytest.mark.parametrize(("seed", "size"), [(0, 0.05), (1, 0.3), (2, 1.5)])
def test_hits_equal_a_loop(seed: int, size: float) -> None:
    rng = np.random.default_rng(seed)
    triangles = rng.normal(size=(150, 1, 3)) + size * rng.normal(size=(150, 3, 3))
    origins = 2.0 * rng.normal(size=(60, 3))
    directions = rng.normal(size=(60, 3))
    directions[:9] = np.eye(3)[np.arange(9) % 3] * np.where(np.arange(9) < 5, 1, -1)[:, None]
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    distance, found = first_hit(ray_grid(triangles), origins, directions, np.inf)
    slow = np.array([slow_hit(triangles, o, d) for o, d in zip(origins, directions, strict=True)])
    assert np.isfinite(slow).sum() > 5 or size == 0.05
    np.testing.assert_allclose(distance, slow, rtol=1e-9)
    assert ((found >= 0) == np.isfinite(slow)).all()


def test_nothing_is_hit_beyond_the_reach() -> None:
    wall = np.array([[[-5.0, -5, 1], [5, -5, 1], [0, 9, 1]]])
    ray = np.array([[0.0, 0, 0]]), np.array([[0.0, 0, 1]])
    assert first_hit(ray_grid(wall), *ray, 1.1)[0][0] == pytest.approx(1.0)
    assert first_hit(ray_grid(wall), *ray, 0.9) == (np.inf, -1)
