"""assimp, behind many small engines and viewers, and trimesh see what was written."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from programs import assimp_info

pytestmark = pytest.mark.xdist_group("importers")


def test_assimp_counts(files):
    """One mesh per part means that every triangle has an area: assimp makes lines and points of the others."""
    for case in files:
        seen = assimp_info(case.path)
        parts = case.avatar.parts
        assert seen["Meshes"] == len(parts)
        as_read = assimp_info(case.path, "--raw")  # without joining equal vertices
        assert as_read["Vertices"] == sum(len(part.mesh.vertices) for part in parts)
        assert seen["Faces"] == sum(len(part.mesh.faces) for part in parts)
        used = sum(len(part.skin.joints[part.skin.weights > 0].unique()) for part in parts)
        assert seen["Bones"] >= used
        assert seen["Animations"] == len(case.clips)


def test_assimp_bounds(files):
    for case in files:
        seen = assimp_info(case.path)
        vertices = np.concatenate([part.mesh.vertices.numpy() for part in case.avatar.parts])
        np.testing.assert_allclose(seen["Minimum point"], vertices.min(axis=0), atol=1e-5)
        np.testing.assert_allclose(seen["Maximum point"], vertices.max(axis=0), atol=1e-5)


def test_trimesh_geometry(files):
    for case in files:
        scene = trimesh.load(case.path, process=False)
        assert sorted(scene.geometry) == sorted(part.name for part in case.avatar.parts)
        for part in case.avatar.parts:
            np.testing.assert_allclose(scene.geometry[part.name].vertices, part.mesh.vertices, atol=1e-6)
            np.testing.assert_array_equal(scene.geometry[part.name].faces, part.mesh.faces)
