"""assimp, behind many small engines and viewers, and trimesh see what was written."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from cases import written_people
from programs import assimp_info

pytestmark = pytest.mark.xdist_group("importers")


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    return written_people(tmp_path_factory.mktemp("assimp"))


def test_assimp_counts(cases):
    """One mesh per part means that every triangle has an area: assimp makes lines and points of the others."""
    for case in cases:
        seen = assimp_info(case.path)
        parts = case.avatar.parts
        assert seen["Meshes"] == len(parts)
        as_read = assimp_info(case.path, "--raw")  # without joining equal vertices
        assert as_read["Vertices"] == sum(len(part.mesh.vertices) for part in parts)
        assert seen["Faces"] == sum(len(part.mesh.faces) for part in parts)
        used = sum(len(part.skin.joints[part.skin.weights > 0].unique()) for part in parts)
        assert seen["Bones"] >= used


def test_assimp_bounds(cases):
    for case in cases:
        seen = assimp_info(case.path)
        vertices = np.concatenate([part.mesh.vertices.numpy() for part in case.avatar.parts])
        np.testing.assert_allclose(seen["Minimum point"], vertices.min(axis=0), atol=1e-5)
        np.testing.assert_allclose(seen["Maximum point"], vertices.max(axis=0), atol=1e-5)


def test_trimesh_geometry(cases):
    for case in cases:
        scene = trimesh.load(case.path, process=False)
        assert sorted(scene.geometry) == sorted(part.name for part in case.avatar.parts)
        for part in case.avatar.parts:
            np.testing.assert_allclose(scene.geometry[part.name].vertices, part.mesh.vertices, atol=1e-6)
            np.testing.assert_array_equal(scene.geometry[part.name].faces, part.mesh.faces)
