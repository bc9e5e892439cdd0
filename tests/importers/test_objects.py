"""What is distilled or reconstructed, in each of its formats: Blender and trimesh open it, with its colors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import trimesh
from programs import run_in_blender

from avatar3d.distill.radiance_scene import new_field
from avatar3d.distill.stage import SceneConfig
from avatar3d.distilled import write_meshes
from avatar3d.mesh.textured import Meshing, textured_mesh
from avatar3d.render.radiance_surface import radiance_surface

pytestmark = pytest.mark.xdist_group("importers")

FORMATS = ("glb", "obj", "ply", "stl")
TEXTURED = ("glb", "obj")
Y_UP = ("glb", "obj")
"""Formats whose importer in Blender turns Y up into Z up; PLY and STL files come as they are."""


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The ball that a voxel grid starts as."""
    field = new_field(SceneConfig("voxels", (1.0, 0.8, 0.6), 24), torch.Generator().manual_seed(0))
    mesh = textured_mesh(radiance_surface(field), field.bounds, Meshing(0.08, 2000, 128)).mesh
    folder = tmp_path_factory.mktemp("objects")
    write_meshes(mesh, FORMATS, folder, {"generator": "avatar3d test", "licence": "CC0-1.0"})
    return mesh, {form: folder / f"object.{form}" for form in FORMATS}


def test_blender_opens_them(written):
    mesh, files = written
    low, high = (np.array(x) for x in (mesh.vertices.amin(0), mesh.vertices.amax(0)))
    assert np.ptp(high - low) > 0.05  # axes can be told apart
    jobs = [{"file": str(path), "poses": [], "samples": {}} for path in files.values()]
    for form, report in zip(files, run_in_blender(jobs), strict=True):
        (seen,) = report["objects"]
        assert seen["triangles"] == len(mesh.faces), form
        wanted = [low, high]
        if form in Y_UP:
            wanted = [np.array([low[0], -high[2], low[1]]), np.array([high[0], -low[2], high[1]])]
        np.testing.assert_allclose([seen["low"], seen["high"]], wanted, atol=1e-5, err_msg=form)
        assert (seen["textures"] == [[128, 128]]) == (form in TEXTURED), form
        assert (seen["colors"] > 0) == (form == "ply"), form


def test_trimesh_opens_them(written):
    mesh, files = written
    for form, path in files.items():
        seen = trimesh.load(path, force="mesh", process=False)
        assert len(seen.faces) == len(mesh.faces), form
        corners = mesh.vertices[mesh.faces].numpy()
        np.testing.assert_allclose(
            np.sort(seen.triangles.ravel()), np.sort(corners.ravel()), atol=1e-5, err_msg=form
        )
        kind = {"glb": "texture", "obj": "texture", "ply": "vertex"}.get(form)
        assert kind is None or seen.visual.kind == kind, form
