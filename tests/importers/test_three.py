"""three.js in headless Chromium loads the files, and what it loads moves as our own skinning does."""

from __future__ import annotations

import pytest
from cases import check_clips, check_counts, check_places
from programs import results, run_in_browser

pytestmark = pytest.mark.xdist_group("importers")


@pytest.fixture(scope="module")
def imported(files):
    answers = run_in_browser("three_page.js", [{"function": "inspect", "argument": case.job()} for case in files])
    assert [answer["warnings"] for answer in answers] == [[]] * len(files)
    return list(zip(files, results(answers), strict=True))


def test_counts(imported):
    for case, report in imported:
        check_counts(case, report)


def test_vertices_move_as_ours(imported):
    for case, report in imported:
        check_places(case, report)


def test_clips_play_as_ours(imported):
    for case, report in imported:
        check_clips(case, report)


def test_the_face_it_wears(imported):
    """Default weights of the morph targets are the avatar's own expression."""
    for case, report in imported:
        for name, seen in report["meshes"].items():
            worn = {shape: w for shape, w in zip(seen["shapes"], seen["weights"], strict=True) if w}
            expected = {shape: w for shape, w in case.avatar.expression.items() if shape in seen["shapes"] and w}
            assert worn == pytest.approx(expected, abs=1e-6), name
