"""FBX files that Blender wrote for us: Blender reads the same avatar back, and it moves."""

from __future__ import annotations

import os

import pytest
from cases import Case, check_counts, check_places, people
from programs import ROOT, run_in_blender

from avatar3d.export.fbx import VARIABLE, write_fbx
from avatar3d.export.licences import licence_record
from avatar3d.motion.clips import make_clip

CLIPS = ("nod", "wave")
pytestmark = pytest.mark.xdist_group("importers")


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    blender = os.environ.get(VARIABLE, str(ROOT / ".venv-blender" / "bin" / "python"))
    if not os.path.exists(blender):
        pytest.skip("Blender is not installed; run `make importers` with Python 3.11")
    avatar = people()[0]
    path = tmp_path_factory.mktemp("fbx") / "person.fbx"
    clips = [make_clip(name, avatar) for name in CLIPS]
    write_fbx(avatar, path, licence_record(avatar), clips=clips, blender=blender)
    case = Case(path, avatar)
    return case, run_in_blender([case.job()])[0]


def test_counts(imported):
    check_counts(*imported)


def test_every_clip_moves_joints_and_face(imported):
    case, report = imported
    faces = [p for p in case.avatar.parts if p.morphs is not None]
    for clip in CLIPS:
        seen = [name for name in report["animations"] if name.partition("|")[2] == clip]
        assert f"Armature|{clip}" in seen and 1 < len(seen) <= 1 + len(faces), report["animations"]


def test_vertices_move_as_ours(imported):
    check_places(*imported)
