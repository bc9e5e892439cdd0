"""Dense poses: every point of a body has a part, sides mirror each other, and a ControlNet hears of it."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_priors import sd, sdxl, unet

from avatar3d import distillation
from avatar3d.body.shape import shape_body, skin_of
from avatar3d.body.template import mirror_map
from avatar3d.camera import orbit
from avatar3d.cli import main
from avatar3d.conditioning.prompt import ordinary
from avatar3d.distill import loop
from avatar3d.distill.avatar_scene import AvatarScene, Variant
from avatar3d.distill.dense_pose import (
    MIRRORED,
    PARTS,
    REGION_PARTS,
    DenseBody,
    DensePoseError,
    chart,
    dense_pose,
    evened,
    part_colors,
    region_weights,
)
from avatar3d.distill.diffusers_door import load_prior
from avatar3d.distill.pose_bodies import avatar_poses, neutral_body
from avatar3d.distill.prior import PriorError
from avatar3d.engine.build import build_avatar
from avatar3d.render.meshes import render_meshes
from avatar3d.render.scene import LabelledMesh
from avatar3d.spec import AvatarSpec
from avatar3d.structures import Camera, Material, Mesh, Skin

SIZE = 96
BACK, FRONT, HEAD_RIGHT, HEAD_LEFT = 1, 2, 23, 24
BACKS = (BACK, 7, 8, 11, 12, 17, 18)
PARTNER = {part: other for k, pair in zip(MIRRORED, REGION_PARTS, strict=True)
           for part, other in zip(pair, REGION_PARTS[k], strict=True)}  # fmt: skip


@pytest.fixture(scope="module")
def body() -> DenseBody:
    return neutral_body(AvatarSpec(), "whole")


def camera(azimuth: float, elevation: float = 0.0, size: int = SIZE) -> Camera:
    return orbit(torch.zeros(3), 4.2, azimuth, elevation, math.radians(28), size, size)


def parts_seen(body: DenseBody, azimuth: float) -> torch.Tensor:
    """Pixels of each part, 0 to 24."""
    picture = dense_pose(body, [camera(azimuth)], SIZE, "iuv")[0, 0]
    return (picture * PARTS).round().long().flatten().bincount(minlength=PARTS + 1)


def test_every_vertex_has_a_part_and_coordinates(body):
    used = body.faces.unique()
    part, uv = chart(body.charts, body.rest[used], body.weights[used])
    assert set(part.tolist()) == set(range(1, PARTS + 1))
    assert uv.isfinite().all() and (uv >= 0).all() and (uv <= 1).all()
    torch.testing.assert_close(body.weights[used].sum(1), torch.ones(len(used)))
    for number in range(1, PARTS + 1):
        low, high = uv[part == number].amin(0), uv[part == number].amax(0)
        assert (high - low > 0.5).all(), f"part {number} uses little of its chart"
    middle = body.weights[body.faces].mean(1), body.rest[body.faces].mean(1)
    assert set(chart(body.charts, middle[1], middle[0])[0].tolist()) == set(range(1, PARTS + 1))


def test_sides_mirror_each_other(body):
    used = body.faces.unique()
    other = mirror_map(shape_body(AvatarSpec()).template)[used]
    part, uv = chart(body.charts, body.rest[used], body.weights[used])
    there, uv_there = chart(body.charts, body.rest[other], body.weights[other])
    aside = body.rest[used, 0].abs() > 1e-4
    swapped = torch.tensor([PARTNER.get(n, 0) for n in range(PARTS + 1)])
    swapped[[HEAD_LEFT, HEAD_RIGHT]] = torch.tensor([HEAD_RIGHT, HEAD_LEFT])
    assert (swapped[part] == there)[aside].all()
    torso = part <= FRONT
    expected = torch.stack([torch.where(torso, 1 - uv[:, 0], uv[:, 0]), uv[:, 1]], 1)
    away = (expected - uv_there).abs()
    whole = torch.tensor([pair[0] for pair in REGION_PARTS if pair[0] == pair[1]])
    away[:, 0] = torch.where(torch.isin(part, whole), torch.minimum(away[:, 0], 1 - away[:, 0]), away[:, 0])
    assert float(away[aside].max()) < 5e-3 and float(away[aside].mean()) < 1e-4


def test_sides_front_and_back(body):
    front, back = parts_seen(body, 0.0), parts_seen(body, math.pi)
    assert front[FRONT] > 10 * max(front[BACK], 1) and back[BACK] > 10 * max(back[FRONT], 1)
    for part in BACKS:
        assert back[part] > front[part]
    left = parts_seen(body, math.pi / 2)
    assert left[HEAD_LEFT] > 50 and left[HEAD_RIGHT] == 0
    columns = (dense_pose(body, [camera(0.0)], SIZE, "iuv")[0, 0] * PARTS).round()
    assert float((columns == 4).nonzero()[:, 1].float().mean()) > SIZE / 2, "the left hand is on the right"
    assert float((columns == 3).nonzero()[:, 1].float().mean()) < SIZE / 2


def test_silhouette_is_the_renderers(body):
    flat = Mesh(body.vertices, body.faces, torch.zeros_like(body.vertices), body.vertices[:, :2], Material("m"))
    for azimuth in (0.0, 0.7):
        seen = render_meshes([LabelledMesh(flat)], camera(azimuth, 0.2), samples=1, shadows=False, occlusion=False)
        for picture in ("parts", "iuv"):
            drawn = dense_pose(body, [camera(azimuth, 0.2)], SIZE, picture)[0]
            assert torch.equal(drawn.amax(0) > 0, seen.alpha > 0.5)


def test_colors_never_mix_and_the_size_is_the_priors(body):
    cameras = [camera(0.4, size=24), camera(2.0, size=24)]
    colors = part_colors(body.rest)
    assert len(colors.unique(dim=0)) == PARTS + 1
    for picture, behind in (("parts", torch.zeros(3)), ("parts_on_violet", colors[0])):
        drawn = dense_pose(body, cameras, 80, picture)
        assert drawn.shape == (2, 3, 80, 80) and drawn.amin() >= 0 and drawn.amax() <= 1
        allowed = torch.cat([behind[None], colors[1:]])
        pixels = drawn.movedim(1, -1).reshape(-1, 1, 3)
        assert (pixels == allowed).all(-1).any(1).all()
        assert torch.equal(drawn[0, :, 0, 0], behind)
    same = dense_pose(body, [camera(0.4, size=80)], 80)
    torch.testing.assert_close(dense_pose(body, cameras, 80)[:1], same)


def test_framings_of_bust_and_whole(body):
    shown = body.vertices[body.faces.unique()]
    assert (shown.abs().amax(0) <= torch.tensor([0.6, 1.0, 0.4])).all(), "avatarverse's box holds the body"
    bust = neutral_body(AvatarSpec(), "bust")
    pixels = dense_pose(bust, [orbit(torch.zeros(3), 4.15, width=64, height=64)], 64)[0].amax(0) > 0
    assert pixels[-1].any() and not pixels[:8].any() and not pixels[:, :1][:32].any()


def test_what_the_prompt_says_shapes_the_body():
    child, man = (neutral_body(ordinary(who), "whole") for who in ("a little girl", "a tall man"))
    heads = []
    for one in (child, man):
        used = one.faces.unique()
        part, _ = chart(one.charts, one.rest[used], one.weights[used])
        high = one.vertices[used][part >= HEAD_RIGHT]
        heads.append(float(high[:, 1].max() - high[:, 1].min()))
    assert heads[0] > 1.03 * heads[1], "children have larger heads for their height"
    assert ordinary("a pineapple") == AvatarSpec()


def test_even_weights_keep_sums_and_cross_seams():
    corners = torch.tensor(
        [[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [1, 0, 0], [2, 0, 0], [2, 1, 0], [1, 1, 0]]
    )
    faces = torch.tensor([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]])
    weights = torch.zeros(9, 14)
    weights[:4, 0] = weights[4:, 1] = 1
    weights[[4, 7]] = weights[[1, 2]]
    made = evened(weights, torch.cat([0.02 * corners, torch.ones(1, 3)]), faces)
    torch.testing.assert_close(made.sum(1), torch.ones(9))
    assert torch.equal(made[1], made[4]) and torch.equal(made[8], weights[8])
    assert 0.05 < made[5, 0] < made[1, 0] < made[0, 0] < 1


def test_other_rigs():
    shaped = shape_body(AvatarSpec())
    skeleton = shaped.skeleton
    skin = Skin(*skin_of(shaped.template))
    renamed = replace(skeleton, names=tuple(n.replace("leftFoot", "fetlock") for n in skeleton.names))
    with pytest.raises(DensePoseError, match="leftFoot"):
        region_weights(skin, renamed)


def test_avatars_show_the_stance_that_was_drawn():
    scene = AvatarScene(
        build_avatar(AvatarSpec(hair_style="bald")), variants=[Variant({"leftUpperArm": _turn()})], sizes=(16,)
    )
    poses = avatar_poses(scene, "parts")
    low, high = scene.box("body")
    view = orbit((low + high) / 2, 5.0, 0.3, width=48, height=48)
    pictures = []
    for rest_share in (1.0, 0.0):
        scene.rest_share = rest_share
        with torch.no_grad():
            drawn = scene.draw([view], torch.zeros(1, 3), "textureless", torch.Generator().manual_seed(1)).alpha[0]
        pictures.append((poses([view], 48)[0].amax(0) > 0, drawn > 0.5))
    for n, (told, _) in enumerate(pictures):
        shared = [float((told & d).sum() / (told | d).sum()) for _, d in pictures]
        assert shared[n] > 0.85 and max(s for k, s in enumerate(shared) if k != n) < shared[n] - 0.02


def _turn() -> torch.Tensor:
    from avatar3d.body.pose import rotate

    return rotate("z", 70)


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory) -> Path:
    """A tiny Stable Diffusion and ControlNets beside it: one that fits and some that do not."""
    from diffusers import ControlNetModel

    folder = tmp_path_factory.mktemp("dense")
    torch.manual_seed(0)
    pipe = sd()
    pipe.save_pretrained(folder / "sd")
    small = {"conditioning_embedding_out_channels": (4, 8)}
    fits = ControlNetModel.from_unet(pipe.unet, **small)
    for parameter in fits.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    fits.save_pretrained(folder / "fits")
    ControlNetModel.from_unet(unet(cross_attention_dim=24), **small).save_pretrained(folder / "wide")
    ControlNetModel.from_unet(sdxl().unet, **small).save_pretrained(folder / "xl")
    ControlNetModel.from_unet(pipe.unet, conditioning_channels=1, **small).save_pretrained(folder / "grey")
    pipe.unet.save_pretrained(folder / "unet")
    (folder / "empty").mkdir()
    return folder


def test_the_answer_changes_with_the_pose(pipeline, body):
    prior = load_prior(pipeline / "sd", controlnet=pipeline / "fits")
    assert prior.takes_poses and not load_prior(pipeline / "sd").takes_poses
    noisy, t = torch.randn(2, *prior.latent, generator=torch.Generator().manual_seed(1)), torch.tensor([0.5, 0.5])
    pose = dense_pose(body, [camera(0.0), camera(2.0)], prior.size)
    text = prior.encode_text(["an old man", "an old man"])
    with torch.no_grad():
        told, turned, plain = (prior.predict(noisy, t, text, pose=p) for p in (pose, pose.flip(0), None))
    for other in (turned, plain):
        assert float((told - other).abs().max()) > 1e-4


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("wide", ["cross_attention_dim 24, not 16", "another model"]),
        ("xl", ["addition_embed_type text_time, not None", "another model"]),
        ("grey", ["1 channels"]),
        ("unet", ["no ControlNet", "UNet2DConditionModel"]),
        ("empty", ["config.json"]),
        ("nowhere", ["nowhere", "hub id"]),
    ],
)
def test_controlnets_that_do_not_fit(pipeline, name, words):
    with pytest.raises(PriorError) as error:
        load_prior(pipeline / "sd", controlnet=pipeline / name)
    assert all(word in str(error.value) for word in words)


METHOD = """
stages:
  - scene: {kind: voxels, resolution: 8, box: [0.6, 1.0, 0.4], nodes: 8, figure: whole}
    guidance: {perp_neg: 0.0}
    steps: 3
    batch: 1
    size: 16
    rate: 0.001
"""


def test_the_command_tells_the_pose(pipeline, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(loop, "look", lambda *_: None)
    monkeypatch.setattr(distillation, "scene_files", lambda *_: {})
    seen = []
    own = distillation.dense_pose

    def watched(*arguments, **options):
        seen.append(own(*arguments, **options))
        return seen[-1]

    monkeypatch.setattr(distillation, "dense_pose", watched)
    (tmp_path / "tiny.yaml").write_text(METHOD)
    command = [
        "distill", "--prompt", "an old man", "--method", str(tmp_path / "tiny.yaml"), "--frames", "0", "--json",
        "--prior", str(pipeline / "sd"), "--out",
    ]  # fmt: skip
    told = ["--controlnet", str(pipeline / "fits"), "--pose-picture", "iuv"]
    assert main([*command, str(tmp_path / "told"), *told]) == 0
    (record,) = json.loads(capsys.readouterr().out)["runs"]
    assert record["pose"] == "dense pose, iuv, whole" and record["controlnet"] == str(pipeline / "fits")
    assert len(seen) == 3 and seen[0].shape == (1, 3, 16, 16) and seen[0].amax() > 0.5
    assert main([*command, str(tmp_path / "untold")]) == 0
    (record,) = json.loads(capsys.readouterr().out)["runs"]
    assert record["pose"].startswith("none") and record["controlnet"] is None and len(seen) == 3
    assert main([*command, str(tmp_path / "wrong"), "--controlnet", str(pipeline / "wide")]) == 2
    assert "cross_attention_dim" in json.loads(capsys.readouterr().out)["error"]
    assert not (tmp_path / "wrong").exists()
