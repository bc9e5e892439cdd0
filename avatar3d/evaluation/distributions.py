"""Sets of pictures against sets of pictures, by their features: likeness, diversity, copying."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.spatial import cKDTree

Features = Float[np.ndarray, "_ D"]
"""A row for each picture."""


def frechet_distance(a: Features, b: Features, ridge: float = 1e-6) -> float:
    """Squared Frechet distance of two normal distributions fitted to features (Heusel et al. 2017, equation 6).

    |mean_a - mean_b|^2 + tr(A + B - 2 (A B)^(1/2)); `ridge` times the mean variance is added to both covariances'
    diagonals. Few samples inflate it: compare with the distance of two real sets of the same sizes. Raises
    ValueError for less than two samples.
    """
    if min(len(a), len(b)) < 2:
        raise ValueError(f"a Frechet distance needs at least two samples of each, got {len(a)} and {len(b)}")
    a, b = a.astype(np.float64), b.astype(np.float64)
    covariances = [np.cov(x, rowvar=False).reshape(x.shape[1], x.shape[1]) for x in (a, b)]
    level = ridge * float(np.mean([np.trace(c) / len(c) for c in covariances]))
    first, second = (c + level * np.eye(len(c)) for c in covariances)
    root = _root(first)
    # A B and its symmetric form have the same eigenvalues, of which the second's are real to the last digit
    eigenvalues = np.linalg.eigvalsh(root @ second @ root)
    cross = float(np.sqrt(np.maximum(eigenvalues, 0.0)).sum())
    shift = float(((a.mean(0) - b.mean(0)) ** 2).sum())
    return max(shift + float(np.trace(first) + np.trace(second)) - 2 * cross, 0.0)


def _root(matrix: Float[np.ndarray, "D D"]) -> Float[np.ndarray, "D D"]:
    """The symmetric square root of a symmetric matrix without negative eigenvalues."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T


def mean_pairwise_distance(features: Features) -> float:
    """Mean distance between two different members of a set: its diversity."""
    if len(features) < 2:
        raise ValueError("the diversity of a set needs at least two members")
    x = features.astype(np.float64)
    distances = np.sqrt(np.maximum(_squared_distances(x, x), 0.0))
    return float(distances.sum() / (len(x) * (len(x) - 1)))


def spread_ratio(samples: Features, reference: Features) -> float:
    """Diversity of samples of one condition over that of the engine's own people of the same condition."""
    return mean_pairwise_distance(samples) / mean_pairwise_distance(reference)


def _squared_distances(a: Features, b: Features) -> Float[np.ndarray, "N M"]:
    center = b.mean(0)
    a, b = a - center, b - center
    squares = (a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * a @ b.T
    if a.shape == b.shape and np.array_equal(a, b):
        np.fill_diagonal(squares, 0.0)
    return squares


@dataclass(frozen=True)
class Copying:
    """How near samples come to the training set, with held-out members as the yardstick."""

    ratio: float
    """Median distance to the nearest training member: samples' over held-out members'. Well below 1 is copying."""
    near: float
    """Share of samples that are nearer to a training member than all but one in twenty held-out members."""
    nearest: np.ndarray
    """(N,) row of each sample's nearest training member."""


def copying(samples: Features, training: Features, held_out: Features) -> Copying:
    """Distances from samples and from held-out members to their nearest neighbors in the training set."""
    tree = cKDTree(training)
    own, nearest = tree.query(samples)
    usual, _ = tree.query(held_out)
    near = float((own < np.quantile(usual, 0.05)).mean())
    ratio = float(np.median(own) / max(np.median(usual), 1e-12))
    return Copying(ratio, near, nearest)
