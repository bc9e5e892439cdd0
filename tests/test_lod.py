"""Levels of detail of a built avatar: what stays exact, and how far the rest may move."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from avatar3d.body.poses import test_poses as poses_of_tests
from avatar3d.engine.build import build_avatar
from avatar3d.engine.population import Population, sample
from avatar3d.export.lod import LodError, reduced
from avatar3d.export.lod_error import lod_errors
from avatar3d.export.parts import triangle_count
from avatar3d.export.strands import find_ribbons
from avatar3d.mesh.nearest import surface_of
from avatar3d.mesh.normals import weld_by_position

BLINK = {"eyeBlinkLeft": 1.0, "eyeBlinkRight": 1.0}


@pytest.fixture(scope="module")
def avatar():
    return build_avatar(sample(np.random.default_rng(0), Population()))


@pytest.fixture(scope="module")
def levels(avatar):
    return {n: reduced(avatar, n) for n in (30_000, 15_000, 2_500)}


def part(avatar, name):
    return next(p for p in avatar.parts if p.name == name)


def test_budgets_are_met(levels):
    for wanted, level in levels.items():
        assert 0.95 * wanted <= triangle_count(level.parts) <= wanted


def test_enough_is_left_alone(avatar):
    assert reduced(avatar, 10**6) is avatar
    with pytest.raises(LodError, match="can not have 0 triangles"):
        reduced(avatar, 0)


@pytest.mark.parametrize("name", ["head_skin", "body", "jacket", "lashes", "eyes"])
def test_kept_vertices_are_the_originals(avatar, levels, name):
    fine, coarse = part(avatar, name), part(levels[15_000], name)
    keys = {row.tobytes(): i for i, row in enumerate(torch.cat([fine.mesh.uv, fine.mesh.normals], 1).numpy())}
    rows = torch.cat([coarse.mesh.uv, coarse.mesh.normals], 1).numpy()
    index = torch.tensor([keys[row.tobytes()] for row in rows])  # KeyError: a vertex of another surface
    assert torch.equal(coarse.skin.weights, fine.skin.weights[index])
    assert torch.equal(coarse.skin.joints, fine.skin.joints[index])
    if fine.morphs:
        assert coarse.morphs.names == fine.morphs.names
        assert torch.equal(coarse.morphs.deltas, fine.morphs.deltas[:, index])
    moved = (coarse.mesh.vertices - fine.mesh.vertices[index]).norm(dim=1)
    assert moved.max() < 0.03 and (moved == 0).float().mean() > 0.5  # what layers cover may go below them


def test_no_crack_at_the_neck(avatar, levels):
    """Open edges of the head meet those of the body's as before."""

    def shared(one):
        head, body = part(one, "head_skin"), part(one, "body")
        weld = weld_by_position(torch.cat([head.mesh.vertices, body.mesh.vertices]))
        split = len(head.mesh.vertices)
        edges = []
        for faces in (weld[head.mesh.faces], weld[body.mesh.faces + split]):
            pairs = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).sort(dim=1).values
            unique, counts = pairs.unique(dim=0, return_counts=True)
            edges.append({tuple(p) for p in unique[counts == 1].tolist()})
        places = {g for pair in edges[0] for g in pair} & {g for pair in edges[1] for g in pair}
        on_seam = [{p for p in own if p[0] in places and p[1] in places} for own in edges]
        return on_seam, len(places)

    fine, count = shared(avatar)
    assert fine[0] == fine[1] and count > 30
    for level in (30_000, 15_000):
        coarse, left = shared(levels[level])
        assert coarse[0] == coarse[1] and left >= 8


@pytest.mark.parametrize("pose", ["rest", *poses_of_tests()])
def test_surfaces_stay_near(avatar, levels, pose):
    """In every test pose: 95 % of the visible skin and clothes within these distances, millimetres."""
    turns = poses_of_tests().get(pose, {})
    for level, near in ((30_000, 1.0), (15_000, 5.0)):
        errors = lod_errors(avatar, levels[level], turns)
        for name in ("body", "jacket", "shorts", "undershirt"):
            assert errors[name].mean < 0.3 * near and errors[name].p95 < near, (name, level, errors[name])


@pytest.mark.parametrize("expression", [BLINK, {"jawOpen": 1.0}, {"mouthPucker": 1.0}, {"mouthSmileLeft": 1.0}])
def test_faces_stay_near(avatar, levels, expression):
    for level, near in ((30_000, 0.8), (15_000, 3.0)):
        errors = lod_errors(avatar, levels[level], {}, expression)
        for name in ("eyes", "lashes", "head_skin"):
            assert errors[name].p95 < near, (name, level, errors[name])


def test_texture_does_not_swim(avatar, levels):
    for level, near in ((30_000, 1.0), (15_000, 4.0)):
        errors = lod_errors(avatar, levels[level])
        for name in ("head_skin", "body", "jacket", "shorts"):
            assert errors[name].sliding < near, (name, level, errors[name])


def test_lids_still_close_at_web_level(avatar, levels):
    """With both eyes shut, the skin lies before the middle of each eyeball's front."""
    level = levels[15_000]
    head, eyes = part(level, "head_skin"), part(level, "eyes")
    deltas = head.morphs.deltas[[head.morphs.names.index(n) for n in BLINK]].sum(dim=0)
    shut = surface_of((head.mesh.vertices + deltas).numpy(), head.mesh.faces.numpy())
    for side in ("leftEye", "rightEye"):
        center = level.skeleton.positions[level.skeleton.names.index(side)]
        own = eyes.mesh.vertices[(eyes.mesh.vertices - center).norm(dim=1) < 0.02]
        front = own[(own - center)[:, 2].argmax()].double().numpy()
        hit = shut.nearest(front[None])
        lid = hit.mixed((head.mesh.vertices + deltas).double().numpy(), head.mesh.faces.numpy())[0]
        assert hit.distance[0] < 0.004
        assert np.linalg.norm(lid - center.numpy()) > np.linalg.norm(front - center.numpy()) - 0.0015


def test_ribbons_get_fewer_and_wider(avatar, levels):
    fine, coarse = part(avatar, "hair"), part(levels[2_500], "hair")
    before, after = find_ribbons(fine), find_ribbons(coarse)
    assert sum(len(g) for g in after.grids) < sum(len(g) for g in before.grids)

    def width(p, ribbons):
        ends = np.concatenate([g[:, :, [0, -1]].reshape(-1, 2) for g in ribbons.grids])
        v = p.mesh.vertices.numpy()
        return float(np.linalg.norm(v[ends[:, 0]] - v[ends[:, 1]], axis=1).mean())

    assert 1.3 * width(fine, before) < width(coarse, after) < 3 * width(fine, before)


def test_equal_avatars_give_equal_levels(avatar, levels):
    again = reduced(avatar, 2_500)
    for one, two in zip(levels[2_500].parts, again.parts, strict=True):
        assert torch.equal(one.mesh.vertices, two.mesh.vertices) and torch.equal(one.mesh.faces, two.mesh.faces)
