"""Blender imports the files, what it imports moves as our own skinning does, and what it writes is the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cases import CLOSE, POSES, check_clips, check_counts, check_places, moving_shapes
from programs import run_in_blender
from scipy.spatial import cKDTree

from avatar3d.body.pose import pose_avatar
from avatar3d.export.read import read_avatar
from avatar3d.structures import Avatar, Part, Skin

pytestmark = pytest.mark.xdist_group("importers")


@pytest.fixture(scope="module")
def imported(files, tmp_path_factory):
    folder = tmp_path_factory.mktemp("blender")
    jobs = [case.job() | {"export": str(folder / case.path.name)} for case in files]
    return list(zip(files, run_in_blender(jobs), jobs, strict=True))


def test_counts(imported):
    for case, report, _ in imported:
        assert report["armatures"] == 1
        check_counts(case, report)


def test_vertices_move_as_ours(imported):
    for case, report, _ in imported:
        check_places(case, report)


def test_clips_play_as_ours(imported):
    for case, report, _ in imported:
        check_clips(case, report)


def test_round_trip(imported):
    """Written, read by Blender, written by Blender, read: the same places, weights, shapes and movements.

    Blender numbers objects of which the name is taken, here by empties that carry animated weights.
    """
    for case, _, job in imported:
        again = read_avatar(Path(job["export"]))
        again = replace(again, parts=tuple(replace(p, name=p.name.removesuffix(".001")) for p in again.parts))
        back = {part.name: part for part in again.parts}
        assert set(case.avatar.skeleton.names) - {"root"} <= set(again.skeleton.names)
        for part in case.avatar.parts:
            nearest = same_places(part, back[part.name], case.path.name)
            ours, theirs = (joint_weights(p.skin, a) for p, a in ((part, case.avatar), (back[part.name], again)))
            for joint, weights in ours.items():
                seen = theirs[joint][nearest] if joint in theirs else np.zeros(len(nearest))
                np.testing.assert_allclose(
                    seen, weights, atol=1e-2, err_msg=f"{case.path.name}: {part.name}, {joint}"
                )
            assert set(moving_shapes(part)) <= set(back[part.name].morphs.names if back[part.name].morphs else ())
        for turns, expression in POSES:
            posed = {part.name: mesh for part, mesh in pose_avatar(again, turns, expression)}
            for part, mesh in pose_avatar(case.avatar, turns, expression):
                tree = cKDTree(posed[part.name].vertices)
                assert tree.query(mesh.vertices)[0].max() < CLOSE, (case.path.name, part.name)


def same_places(ours: Part, theirs: Part, message: str) -> np.ndarray:
    """Index of the vertex of `theirs` at each vertex of `ours`; Blender splits and joins vertices as it likes."""
    distances, nearest = cKDTree(theirs.mesh.vertices).query(ours.mesh.vertices)
    assert distances.max() < CLOSE, (message, ours.name)
    assert len(theirs.mesh.faces) == len(ours.mesh.faces), (message, ours.name)
    return nearest


def joint_weights(skin: Skin, avatar: Avatar) -> dict[str, np.ndarray]:
    """Joint -> weight of each vertex, for the joints that have any."""
    dense = np.zeros((len(skin.joints), len(avatar.skeleton.names)))
    np.add.at(dense, (np.arange(len(dense))[:, None], skin.joints.numpy()), skin.weights.numpy())
    return {avatar.skeleton.names[j]: dense[:, j] for j in np.flatnonzero(dense.any(axis=0))}
