"""Garments that users bring: they follow the body, hide what they cover, and change nothing else."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from avatar3d.body.pose import joint_transforms, pose_avatar, skin_points
from avatar3d.body.poses import test_poses as stretching_poses
from avatar3d.body.shape import shape_body
from avatar3d.engine.attach import Figure
from avatar3d.engine.build import build_avatar
from avatar3d.engine.shoes import sole_height
from avatar3d.engine.skin import make_skin
from avatar3d.engine.wear import wear
from avatar3d.evaluation.skinning import holes, stretch
from avatar3d.mesh.weight_transfer import WeightTransferError
from avatar3d.spec import AvatarSpec, SpecError
from avatar3d.structures import Avatar, Mesh

SPEC = AvatarSpec(gender=1.0, top="jumper", hair_style="bald")


@cache
def naked() -> Avatar:
    """The whole skin and nothing else, on the ground that the shoes would give."""
    built, figure = build_avatar(SPEC), Figure(shape_body(SPEC))
    up = torch.tensor([0.0, sole_height(SPEC), 0.0])
    parts = tuple(replace(p, mesh=replace(p.mesh, vertices=p.mesh.vertices + up)) for p in make_skin(SPEC, figure))
    return replace(built, parts=parts)


def jumper() -> tuple[Mesh, torch.Tensor, torch.Tensor]:
    """Our jumper as a stranger's mesh, with the weights it had."""
    part = next(p for p in build_avatar(SPEC).parts if p.name == "jumper")
    return part.mesh, part.skin.joints, part.skin.weights


@cache
def clad() -> Avatar:
    return wear(naked(), [jumper()[0]])


def test_a_strange_garment_moves_like_our_own() -> None:
    mesh, joints, weights = jumper()
    part = clad().parts[-1]
    assert part.name == "garment" and torch.equal(part.mesh.vertices, mesh.vertices)
    torch.testing.assert_close(part.skin.weights.sum(dim=1), torch.ones(len(mesh.vertices)))
    for name in ("t_pose", "arms_up", "sit", "twist"):
        transforms = joint_transforms(naked().skeleton, stretching_poses()[name])
        ours, theirs = (
            skin_points(mesh.vertices, *w, transforms)
            for w in ((joints, weights), (part.skin.joints, part.skin.weights))
        )
        away = (ours - theirs).norm(dim=1)
        assert away.median() < 0.003 and away.quantile(0.99) < 0.05, name
        posed = next(m for p, m in pose_avatar(clad(), stretching_poses()[name], {}) if p.name == "garment")
        assert np.quantile(stretch(mesh, posed), 0.99) < 4, name


def test_covered_skin_is_left_out_and_nothing_is_seen_through_it() -> None:
    figure = Figure(shape_body(SPEC))
    full = figure.vertices.numpy().astype(np.float64) + [0.0, sole_height(SPEC), 0.0]
    count = {
        a: sum(len(p.mesh.faces) for p in x.parts if p.kind == "body") for a, x in (("n", naked()), ("c", clad()))
    }
    assert 1000 < count["n"] - count["c"] < 0.6 * count["n"]
    kept = np.concatenate(
        [p.mesh.vertices[p.mesh.faces].mean(dim=1).numpy() for p in clad().parts if p.kind == "body"]
    )
    middles = full[figure.skin_faces.numpy()].mean(axis=1)
    keys = {tuple(np.round(k, 4)) for k in kept}
    hidden = figure.skin_faces.numpy()[[tuple(np.round(m.astype(np.float32), 4)) not in keys for m in middles]]
    assert abs(len(hidden) - (count["n"] - count["c"])) < 20
    seen = holes([(p, p.mesh) for p in clad().parts], full, hidden) > 0
    assert seen.mean() < 0.002


def test_what_can_not_be_worn_is_refused() -> None:
    mesh = jumper()[0]
    with pytest.raises(SpecError, match="not made by avatar3d"):
        wear(replace(naked(), spec=None), [mesh])
    with pytest.raises(WeightTransferError, match="put it on the body"):
        wear(naked(), [replace(mesh, vertices=mesh.vertices + 3)])
    with pytest.raises(WeightTransferError, match="not numbers"):
        wear(naked(), [replace(mesh, vertices=mesh.vertices / 0)])
    with pytest.raises(ValueError, match="kind is 'coat'"):
        wear(naked(), [mesh], kind="coat")
