"""Many specs as columns: one array per entry of the spec vector, in the entry's own units.

A choice is stored as its index in the field's choices. Tests of statements and statistics work on columns.
"""

from __future__ import annotations

import numpy as np

from avatar3d.spec import vector_layout, vector_size

Columns = dict[str, np.ndarray]


def vectors_from_columns(columns: Columns) -> np.ndarray:
    """(N, D) float32 spec vectors, as `spec_to_vector` makes them, from one array per entry of the layout."""
    count = len(columns["age"])
    vectors = np.full((count, vector_size()), -1.0, dtype=np.float32)
    rows = np.arange(count)
    for e in vector_layout():
        if e.choices:
            vectors[rows, e.start + columns[e.name]] = 1.0
        else:
            vectors[:, e.start] = 2.0 * (columns[e.name] - e.low) / (e.high - e.low) - 1.0
    return vectors


def columns_from_vectors(vectors: np.ndarray) -> Columns:
    """The inverse of `vectors_from_columns`: numbers in their own units, clipped; choices as indices."""
    columns: Columns = {}
    for e in vector_layout():
        part = vectors[:, e.start : e.start + e.size]
        if e.choices:
            columns[e.name] = part.argmax(1)
        else:
            columns[e.name] = e.low + (np.clip(part[:, 0], -1.0, 1.0) + 1.0) / 2.0 * (e.high - e.low)
    return columns
