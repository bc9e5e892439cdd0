"""Blender imports the files, what it imports moves as our own skinning does, and what it writes is the same."""

from __future__ import annotations

import pytest
from cases import check_counts, check_places, written_people
from programs import run_in_blender

pytestmark = pytest.mark.xdist_group("importers")


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("blender")
    cases = written_people(folder)
    jobs = [case.job() | {"export": str(folder / f"again{n}.glb")} for n, case in enumerate(cases)]
    return list(zip(cases, run_in_blender(jobs), jobs, strict=True))


def test_counts(imported):
    for case, report, _ in imported:
        check_counts(case, report)


def test_vertices_move_as_ours(imported):
    for case, report, _ in imported:
        check_places(case, report)
