"""Godot imports the files, and what it imports moves as our own skinning does."""

from __future__ import annotations

import re

import pytest
from cases import check_clips, check_counts, check_places
from programs import run_in_godot

pytestmark = pytest.mark.xdist_group("importers")


def snake_case(name: str) -> str:
    """Godot 3 respells joint names: `leftUpperArm` is `left_upper_arm` there, `spine_01` is `spine_1`."""
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+|\d+", name)
    return "_".join(word.lstrip("0") or "0" if word.isdigit() else word.lower() for word in words)


@pytest.fixture(scope="module")
def imported(files, tmp_path_factory):
    reports = run_in_godot(tmp_path_factory.mktemp("godot"), [case.job(snake_case) for case in files])
    return list(zip(files, reports, strict=True))


def test_counts(imported):
    for case, report in imported:
        assert report["skeletons"] == 1
        check_counts(case, report, snake_case)


def test_vertices_move_as_ours(imported):
    for case, report in imported:
        check_places(case, report)


def test_clips_play_as_ours(imported):
    for case, report in imported:
        check_clips(case, report)
