"""Godot imports the files, and what it imports moves as our own skinning does."""

from __future__ import annotations

import re

import pytest
from cases import check_counts, check_places, written_people
from programs import run_in_godot

pytestmark = pytest.mark.xdist_group("importers")


def snake_case(name: str) -> str:
    """Godot 3 respells joint names: `leftUpperArm` becomes `left_upper_arm`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    cases = written_people(tmp_path_factory.mktemp("godot_files"))
    reports = run_in_godot(tmp_path_factory.mktemp("godot"), [case.job(snake_case) for case in cases])
    return list(zip(cases, reports, strict=True))


def test_counts(imported):
    for case, report in imported:
        assert report["skeletons"] == 1
        check_counts(case, report, snake_case)


def test_vertices_move_as_ours(imported):
    for case, report in imported:
        check_places(case, report)
