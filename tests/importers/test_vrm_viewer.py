"""three-vrm, the reference VRM viewer, loads the files; they pose, emote, look and swing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cases import CLOSE, POSES, Case, check_places, people, sampled_vertices
from programs import results, run_in_browser

from avatar3d.body.bind import in_t_pose
from avatar3d.body.pose import pose_avatar
from avatar3d.body.visemes import ARKIT, VRM_PRESETS
from avatar3d.export.licences import licence_record
from avatar3d.export.profiles import PROFILES
from avatar3d.export.vrm import write_vrm

pytestmark = pytest.mark.xdist_group("importers")
FRAMES = 60
SHOWN = ("happy", "angry", "surprised", "aa", "ou", "blink", "lookLeft", "neutral")
"""Presets that are compared vertex by vertex."""


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vrm")
    written = []
    for number, avatar in enumerate(people()):
        path = folder / f"person{number}.vrm"
        write_vrm(avatar, path, licence_record(avatar))
        written.append(Case(path, in_t_pose(avatar), PROFILES["vrm"]))
    return written


@pytest.fixture(scope="module")
def answers(cases):
    calls = []
    for case in cases:
        job = case.job()
        presets = [{"rotations": {}, "expression": {name: 1.0}} for name in SHOWN]
        calls.append({"function": "inspect", "argument": job | {"poses": [*job["poses"], *presets]}})
    swinging = cases[0]
    calls.append({"function": "shake", "argument": {"file": str(swinging.path), "frames": FRAMES}})
    eyes = eye_middle(swinging)
    targets = [(eyes + np.array(offset)).tolist() for offset in TARGETS]
    calls.append({"function": "look", "argument": {"file": str(swinging.path), "targets": targets}})
    answers = run_in_browser("vrm_page.js", calls)
    assert [answer["warnings"] for answer in answers] == [[]] * len(answers)
    return results(answers)


@pytest.fixture(scope="module")
def inspected(cases, answers):
    return list(zip(cases, answers[: len(cases)], strict=True))


def test_what_it_says_of_itself(inspected):
    for case, report in inspected:
        assert report["metaVersion"] == "1"
        assert report["meta"]["name"] and report["meta"]["authors"]
        assert report["meta"]["licenseUrl"] == "https://vrm.dev/licenses/1.0/"
        bones = {name for name in case.avatar.skeleton.names if name != "root" and not name.startswith("hair_")}
        assert report["bones"] == {bone: bone for bone in bones}
        assert sorted(report["presets"]) == sorted(VRM_PRESETS)
        assert set(ARKIT) <= set(report["custom"])
        assert report["firstPerson"]["head_skin"] != "both"


def test_posed_vertices_are_ours(inspected):
    """Through three-vrm's normalized bones, whose turns are about the avatar's axes as ours, and custom shapes."""
    for case, report in inspected:
        check_places(case, report | {"posed": report["posed"][: len(POSES)]})


def test_presets_are_sums_of_our_shapes(inspected):
    for case, report in inspected:
        for preset, seen in zip(SHOWN, report["posed"][len(POSES) :], strict=True):
            weights = case.avatar.expression if preset == "neutral" else VRM_PRESETS[preset]
            for part, mesh in pose_avatar(case.avatar, {}, weights):
                expected = mesh.vertices[sampled_vertices(len(mesh.vertices))].numpy()
                np.testing.assert_allclose(seen[part.name], expected, atol=CLOSE, err_msg=f"{preset}: {part.name}")


def test_hair_swings(cases, answers):
    """Springs move the chains when the head shakes, keep their lengths and come to rest again."""
    report = answers[len(cases)]
    avatar = cases[0].avatar
    chained = [joint for spring in avatar.springs for joint in spring.joints]
    assert set(report["joints"]) == {joint for spring in avatar.springs for joint in spring.joints[:-1]}
    assert chained
    seen = np.array(report["seen"])  # (frames, joints, 3)
    assert np.isfinite(seen).all()
    rest = np.array([avatar.skeleton.positions[avatar.skeleton.names.index(j)].numpy() for j in report["joints"]])
    assert np.abs(seen[: FRAMES // 2] - rest).max() > 0.02
    assert np.abs(seen[-1] - rest).max() < 0.05
    place = {joint: index for index, joint in enumerate(report["joints"])}
    for spring in avatar.springs:
        links = [place[joint] for joint in spring.joints[:-1]]
        lengths = np.linalg.norm(np.diff(seen[:, links], axis=1), axis=2)
        expected = np.linalg.norm(np.diff(rest[links], axis=0), axis=1)
        np.testing.assert_allclose(lengths, np.broadcast_to(expected, lengths.shape), atol=1e-3)


TARGETS = ((0.0, 0.0, 2.0), (0.4, 0.0, 2.0), (-0.4, 0.0, 2.0), (0.0, 0.3, 2.0), (0.0, -0.3, 2.0))
"""Metres from the middle of the eyes."""


def eye_middle(case: Case) -> np.ndarray:
    skeleton = case.avatar.skeleton
    eyes = [skeleton.positions[skeleton.names.index(name)] for name in ("leftEye", "rightEye")]
    return torch.stack(eyes).mean(dim=0).double().numpy()


def test_eyes_follow_a_target(cases, answers):
    """Both eyes turn to the direction from their middle to the target, to half a degree."""
    for offset, eyes in zip(TARGETS, answers[len(cases) + 1], strict=True):
        wanted = np.array(offset) / np.linalg.norm(offset)
        for eye in eyes:
            assert np.degrees(np.arccos(np.clip(wanted @ eye["ahead"], -1, 1))) < 0.5, (offset, eye)
