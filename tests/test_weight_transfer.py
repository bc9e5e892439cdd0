"""Laws of the cotangent Laplacian, of diffusion, and of weights that a garment takes from a body."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import Delaunay

from avatar3d.mesh.laplacian import cotangents, diffused
from avatar3d.mesh.weight_transfer import WeightTransferError, closest_on_triangles, inpainted, pruned, transfer


def tube(rings: int = 24, around: int = 20, radius: float = 0.1, seed: int | None = None):
    """Vertices, faces and normals of an open tube along y from 0 to 1."""
    y, turn = np.meshgrid(np.linspace(0, 1, rings), 2 * np.pi * np.arange(around) / around, indexing="ij")
    normals = np.stack([np.sin(turn), 0 * turn, np.cos(turn)], axis=-1).reshape(-1, 3)
    points = radius * normals + np.stack([0 * y, y, 0 * y], axis=-1).reshape(-1, 3)
    if seed is not None:
        points[:, 1] += (
            0.3
            / rings
            * np.random.default_rng(seed).uniform(-1, 1, len(points))
            * ((points[:, 1] > 0) & (points[:, 1] < 1))
        )
    i = (np.arange(rings - 1)[:, None] * around + np.arange(around)).reshape(-1)
    j = (np.arange(rings - 1)[:, None] * around + (np.arange(around) + 1) % around).reshape(-1)
    faces = np.concatenate([np.stack([i, j, j + around], 1), np.stack([i, j + around, i + around], 1)])
    return points, faces, normals


def ramp(points: np.ndarray) -> np.ndarray:
    """Two joints whose weights cross over along y, and a third without any."""
    share = np.clip((points[:, 1] - 0.2) / 0.6, 0, 1)
    return np.stack([1 - share, share, 0 * share], axis=1)


def test_the_laplacian_knows_planes_and_areas() -> None:
    points, faces, _ = tube(seed=1)
    laplacian, area = cotangents(points, faces)
    assert abs(laplacian - laplacian.T).max() < 1e-12
    assert np.abs(laplacian @ np.ones(len(points))).max() < 1e-12
    corners = points[faces]
    whole = (
        np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1).sum() / 2
    )
    assert area.sum() == pytest.approx(whole)
    flat = np.random.default_rng(0).random((60, 2))
    plane = np.pad(flat, ((0, 0), (0, 1)))
    mesh = Delaunay(flat)
    inside = np.setdiff1d(np.arange(60), mesh.convex_hull)
    laplacian, _ = cotangents(plane, mesh.simplices)
    linear = laplacian @ (plane @ [2.0, -3.0, 0.0])
    assert np.abs(linear[inside]).max() < 0.02  # clamped cotangents on the obtuse rim bend it a little


def test_diffusion_keeps_sums_and_ranges_and_what_is_fixed() -> None:
    points, faces, _ = tube(seed=2)
    laplacian, area = cotangents(points, faces)
    values = np.eye(3)[(points[:, 1] > 0.5).astype(int)]
    radius = np.where(np.abs(points[:, 1] - 0.5) < 0.3, 0.1, 0.0)
    smooth = diffused(values, laplacian, area, radius)
    np.testing.assert_allclose(smooth.sum(axis=1), 1.0)
    assert smooth.min() > -1e-12 and smooth.max() < 1 + 1e-12
    assert np.array_equal(smooth[radius == 0], values[radius == 0])
    middle = np.abs(points[:, 1] - 0.5) < 0.1
    assert np.abs(np.diff(np.sort(smooth[middle, 1]))).max() < 0.2 < 1.0 == np.abs(np.diff(values[:, 1])).max()


def test_closest_points_are_no_farther_than_samples() -> None:
    points, faces, _ = tube(rings=6, around=7)
    rng = np.random.default_rng(3)
    queries = rng.uniform(-0.4, 1.2, (200, 3)) * [0.5, 1, 0.5]
    face, bary = closest_on_triangles(queries, points, faces, candidates=len(faces))
    assert bary.min() > -1e-9 and np.allclose(bary.sum(axis=1), 1)
    found = np.linalg.norm((points[faces[face]] * bary[..., None]).sum(axis=1) - queries, axis=1)
    share = rng.dirichlet(np.ones(3), 400)
    samples = np.concatenate([(points[faces] * s[None, :, None]).sum(axis=1) for s in share])
    for q, d in zip(queries[::10], found[::10], strict=True):
        assert d <= np.linalg.norm(samples - q, axis=1).min() + 1e-9


def test_a_body_gives_itself_its_own_weights() -> None:
    points, faces, normals = tube()
    got = transfer(points, faces, normals, ramp(points), points, faces, normals)
    assert got.matched.all()
    np.testing.assert_allclose(got.weights, ramp(points), atol=1e-9)


def test_constant_weights_stay_constant() -> None:
    points, faces, normals = tube()
    weights = np.tile([0.25, 0.75, 0.0], (len(points), 1))
    loose, loose_faces, loose_normals = tube(rings=15, around=13, radius=0.14, seed=4)
    got = transfer(points, faces, normals, weights, loose, loose_faces, loose_normals)
    np.testing.assert_allclose(got.weights, weights[: len(loose)], atol=1e-9)


@pytest.mark.parametrize("seed", [5, 6])
def test_weights_are_smooth_across_a_gap(seed: int) -> None:
    """Only the ends of a sleeve lie on the arm: between them weights change evenly."""
    points, faces, normals = tube()
    sleeve, sleeve_faces, sleeve_normals = tube(rings=30, radius=0.11, seed=seed)
    away = np.clip(1 - np.abs(sleeve[:, 1] - 0.5) / 0.3, 0, 1)
    sleeve = sleeve + 0.3 * away[:, None] * sleeve_normals
    got = transfer(points, faces, normals, ramp(points), sleeve, sleeve_faces, sleeve_normals)
    assert 0.2 < got.matched.mean() < 0.7
    np.testing.assert_allclose(got.weights.sum(axis=1), 1.0)
    assert got.weights.min() >= 0 and ((got.weights > 0).sum(axis=1) <= 4).all()
    order = np.argsort(sleeve[:, 1])
    share = got.weights[order, 1].reshape(30, -1).mean(axis=1)
    assert (np.diff(share) > -0.01).all() and np.diff(share).max() < 0.09
    edges = np.concatenate([sleeve_faces[:, [0, 1]], sleeve_faces[:, [1, 2]]])
    assert np.abs(got.weights[edges[:, 0]] - got.weights[edges[:, 1]]).max() < 0.12


def test_inpainting_minimises_its_energy() -> None:
    points, faces, _ = tube(rings=12, around=9)
    laplacian, area = cotangents(points, faces)
    known = (points[:, 1] < 0.3) | (points[:, 1] > 0.7)
    exact = np.stack([1 - points[:, 1], points[:, 1]], axis=1)
    filled = inpainted(np.where(known[:, None], exact, 0.0), known, laplacian, area, known)
    assert np.array_equal(filled[known], exact[known])
    energy = -laplacian + laplacian @ np.diag(1 / area) @ laplacian
    slope = (energy @ filled)[~known]
    assert np.abs(slope).max() < 1e-6


def test_a_loose_piece_follows_what_is_nearest() -> None:
    """A button over the sleeve has no edge to it."""
    points, faces, normals = tube()
    button = np.array([[0.0, 0.9, 0.104], [0.01, 0.9, 0.104], [0.0, 0.91, 0.104]])
    both = np.concatenate([points, button])
    got = transfer(
        points, faces, normals, ramp(points), both, np.concatenate([faces, [[0, 1, 2]] + np.array(len(points))]),
        np.concatenate([normals, np.tile([0.0, 1.0, 0.0], (3, 1))]),
    )  # fmt: skip
    assert not got.matched[-3:].any()
    np.testing.assert_allclose(got.weights[-3:, 1], 1.0, atol=1e-6)


def test_pruning_keeps_the_four_largest() -> None:
    kept = pruned(np.array([[0.1, 0.4, 0.05, 0.2, 0.15, 0.1], [1.0, 0, 0, 0, 0, 0]]))
    assert (kept > 0).sum(axis=1).tolist() == [4, 1]
    np.testing.assert_allclose(kept.sum(axis=1), 1.0)
    assert kept[0].argmax() == 1


def test_a_garment_far_from_the_body_is_refused() -> None:
    points, faces, normals = tube()
    with pytest.raises(WeightTransferError, match="put it on the body"):
        transfer(points, faces, normals, ramp(points), points + [5.0, 0, 0], faces, normals)
