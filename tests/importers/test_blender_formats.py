"""FBX files, which Blender writes for us, and USD files: Blender reads the same avatar from them, and it moves."""

from __future__ import annotations

import os

import pytest
from cases import Case, check_clips, check_counts, check_places, people
from programs import ROOT, run_in_blender

from avatar3d.export.fbx import VARIABLE, write_fbx
from avatar3d.export.licences import licence_record
from avatar3d.export.profiles import PROFILES
from avatar3d.export.usd import write_usd
from avatar3d.motion.clips import make_clip

pytestmark = pytest.mark.xdist_group("importers")


@pytest.fixture(scope="module", params=["fbx", "usdz"])
def imported(request, tmp_path_factory):
    avatar = people()[0]
    path = tmp_path_factory.mktemp(request.param) / f"person.{request.param}"
    record = licence_record(avatar)
    if request.param == "usdz":
        pytest.importorskip("pxr", reason="needs usd-core: pip install 'avatar3d[usd]'")
        clips = (make_clip("wave", avatar),)
        write_usd(avatar, path, record, clips)
    else:
        blender = os.environ.get(VARIABLE, str(ROOT / ".venv-blender" / "bin" / "python"))
        if not os.path.exists(blender):
            pytest.skip("Blender is not installed; run `make importers` with Python 3.11")
        clips = (make_clip("nod", avatar), make_clip("wave", avatar))
        write_fbx(avatar, path, record, clips=clips, blender=blender)
    case = Case(path, avatar, PROFILES["vrm"], clips)
    return case, run_in_blender([case.job()])[0]


def test_counts(imported):
    check_counts(*imported)


def test_vertices_move_as_ours(imported):
    check_places(*imported)


def test_clips_play_as_ours(imported):
    check_clips(*imported)
