"""Blender imports the files, what it imports moves as our own skinning does, and what it writes is the same."""

from __future__ import annotations

import pytest
from cases import check_clips, check_counts, check_places
from programs import run_in_blender

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
