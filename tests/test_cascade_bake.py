"""A field's look on an avatar, the refiner's start and files, agreement: laws and closed forms on balls."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from avatar3d.cascade.agreement import SIDES, agreement
from avatar3d.cascade.bake import BORDER, is_shared, look_up, moved, spread, with_look_of
from avatar3d.cascade.refiner import (
    INPUT,
    Refiner,
    RefinerConfig,
    compose,
    continued,
    head_maps,
    head_texels,
    load_refiner,
    refine,
    save_refiner,
    small_maps,
)
from avatar3d.engine.bust import bust_of
from avatar3d.engine.skin_canvas import SIZE, head_canvas
from avatar3d.fields.box import bust_bounds
from avatar3d.mesh.bake import bilinear
from avatar3d.mesh.extract import extract
from avatar3d.mesh.normals import vertex_normals
from avatar3d.mesh.texels import texels_of
from avatar3d.mesh.unwrap import unwrap
from avatar3d.render.meshes import BACKDROP, render_albedo
from avatar3d.render.scene import compile_scene, labelled
from avatar3d.structures import PART_KINDS, Avatar, FieldSample, Material, Mesh, Part, Skeleton, Skin
from avatar3d.weights import WeightsError

RADIUS = 0.1
HEAD = torch.tensor([0.0, 1.6, 0.02])
SKELETON = Skeleton(("neck", "leftEye"), (-1, 0), torch.tensor([[0.0, 1.5, 0.0], [0.03, 1.62, 0.08]]))
BOUNDS = bust_bounds(SKELETON)


def colors_at(points):
    """Linear in the position, inside [0, 1] around the head."""
    x, y, z = (points - HEAD.to(points)).unbind(-1)
    return torch.stack([0.5 + 2 * x, 0.5 + y - z, 0.5 - 2 * z], dim=-1)


def ball(kind: str = "body", color=colors_at):
    """A field: the head's ball. Its part below the eyes may be of another kind than `body`."""

    def field(points):
        logits = torch.zeros(len(points), len(PART_KINDS))
        below = points[:, 1] < HEAD[1]
        logits[:, PART_KINDS.index("body")] = 1.0
        logits[below, PART_KINDS.index(kind)] = 2.0
        return FieldSample((points - HEAD).norm(dim=-1) - RADIUS, color(points), logits)

    return field


@pytest.fixture(scope="module")
def charted():
    """A ball with a texture of its own, each texel one place."""
    box = torch.stack([HEAD - 0.12, HEAD + 0.12])
    vertices, faces = extract(ball(), box, 0.008)
    charts = unwrap(vertices, faces, 256)
    normals = vertex_normals(vertices, faces)
    uv = 0.02 + 0.96 * charts.uv
    grain = 0.45 + 0.1 * torch.rand(256, 256, 3, generator=torch.Generator().manual_seed(1))
    material = Material("skin", base_color_texture=grain)
    return Mesh(vertices[charts.source], charts.faces, normals[charts.source], uv, material)


def part(mesh: Mesh, kind: str = "body", name: str = "ball") -> Part:
    count = len(mesh.vertices)
    return Part(name, kind, mesh, Skin(torch.zeros(count, 4, dtype=torch.int64), torch.eye(4)[[0] * count]))


def avatar_of(*parts: Part) -> Avatar:
    return Avatar(None, SKELETON, parts)


def texture_of(avatar: Avatar, index: int = 0):
    texture = avatar.parts[index].mesh.material.base_color_texture
    assert texture is not None
    return texture


def at_vertices(avatar: Avatar):
    return bilinear(texture_of(avatar), avatar.parts[0].mesh.uv)


def test_texture_takes_the_fields_colors_and_all_else_stays(charted):
    before = avatar_of(part(charted))
    after = with_look_of(before, ball(), BOUNDS, detail=0.0)
    error = (at_vertices(after) - colors_at(charted.vertices)).abs()
    grain = float(texture_of(before).std())
    assert error.mean() < grain and error.max() < 0.12
    old, new = before.parts[0], after.parts[0]
    assert new.skin is old.skin and new.mesh.vertices is old.mesh.vertices and new.mesh.uv is old.mesh.uv
    assert after.skeleton is before.skeleton and new.mesh.faces is old.mesh.faces


def test_own_detail_stays(charted):
    flat = ball(color=lambda points: torch.full((len(points), 3), 0.7))
    after = with_look_of(avatar_of(part(charted)), flat, BOUNDS)
    texels = texels_of(charted.uv.numpy(), charted.faces.numpy(), 256)
    before = charted.material.base_color_texture.reshape(-1, 3)[texels.index]
    change = texture_of(after).reshape(-1, 3)[texels.index] - before
    assert change.mean() == pytest.approx(0.2, abs=0.005)
    assert change.std() < 0.4 * before.std()


def test_a_field_that_agrees_changes_nothing(charted):
    smooth = replace(charted, material=Material("skin", base_color_texture=torch.full((256, 256, 3), 0.3)))
    same = ball(color=lambda points: torch.full((len(points), 3), 0.3))
    after = with_look_of(avatar_of(part(smooth)), same, BOUNDS)
    assert torch.allclose(texture_of(after), torch.tensor(0.3), atol=1e-4)


def test_other_parts_and_the_box_end_the_look(charted):
    seen = look_up(ball("hair"), part(charted), BOUNDS, 256)
    height = torch.from_numpy(seen.texels.interpolate(charted.vertices.numpy()))[:, 1] - HEAD[1]
    weight = seen.weight.reshape(-1)[seen.texels.index]
    assert (weight[height < 0] == 0).all() and (weight[height > 0.03] > 0.99).float().mean() > 0.7
    low = BOUNDS.clone()
    low[1, 1] = HEAD[1]
    after = with_look_of(avatar_of(part(charted)), ball(), low, detail=0.0)
    change = (texture_of(after) - charted.material.base_color_texture).abs().amax(dim=2)
    at = bilinear(change[..., None], charted.uv)[:, 0]
    away = charted.vertices[:, 1] - HEAD[1]
    assert at[away > 0.005].max() < 0.02 and at[away < -BORDER].median() > 0.03
    far = with_look_of(avatar_of(part(charted)), ball(), BOUNDS + 5.0)
    assert far.parts[0] is not None and torch.equal(texture_of(far), charted.material.base_color_texture)


def test_shared_textures_get_the_mean_color(charted):
    tiled = replace(charted, uv=3 * charted.uv)
    assert is_shared(tiled) and not is_shared(charted)
    blue = ball("top", lambda points: torch.tensor([0.1, 0.2, 0.8]).expand(len(points), 3))
    after = with_look_of(avatar_of(part(tiled, "top")), blue, BOUNDS)
    assert torch.allclose(texture_of(after).mean(dim=(0, 1)), torch.tensor([0.1, 0.2, 0.8]), atol=0.02)
    plain = replace(tiled, material=Material("trim", base_color=(0.5, 0.5, 0.5, 1.0)))
    changed = with_look_of(avatar_of(part(plain, "top")), blue, BOUNDS).parts[0].mesh.material
    assert changed.base_color == pytest.approx((0.1, 0.2, 0.8, 1.0), abs=1e-4)
    kept = with_look_of(avatar_of(part(tiled, "hat")), blue, BOUNDS)
    assert texture_of(kept) is tiled.material.base_color_texture


@pytest.mark.parametrize("before", [0.0, 0.02, 0.5, 1.0])
@pytest.mark.parametrize("after", [0.0, 0.3, 1.0])
def test_moved_colors_reach_their_goal_inside_the_cube(before, after):
    a, b = torch.full((3,), before), torch.full((3,), after)
    assert torch.allclose(moved(a, a, b), b, atol=2e-3)
    line = moved(torch.linspace(0, 1, 50)[:, None].expand(-1, 3), a, b)
    assert line.min() >= 0 and line.max() <= 1 and (line.diff(dim=0) >= -1e-6).all()


def test_spread_keeps_what_counts_and_continues_it():
    values, weight = torch.full((64, 64, 2), 0.7), torch.zeros(64, 64)
    values[:, 32:] = 100.0
    weight[:, :32] = 1.0
    filled = spread(values, weight, levels=5)
    assert torch.allclose(filled[:, :32], torch.tensor(0.7), atol=1e-5)
    assert (filled[:, 32:36] > 0.35).all() and (filled <= 0.7 + 1e-5).all()
    assert torch.equal(spread(values, torch.zeros(64, 64)), torch.zeros(64, 64, 2))


def test_agreement_of_an_avatar_with_itself_and_with_a_darker_one(charted):
    avatar = avatar_of(part(charted))
    scene = compile_scene(labelled(bust_of(avatar).parts))

    def itself(camera):
        return render_albedo(scene, camera, BACKDROP)

    def darker(camera):
        picture = itself(camera)
        return replace(picture, rgb=torch.where(picture.labels[..., None] > 0, picture.rgb - 0.1, picture.rgb))

    same, other = (agreement(avatar, BOUNDS, draw) for draw in (itself, darker))
    assert same["silhouette_iou"] == 1 and same["color_error"] == {"body": 0.0} and same["psnr_face"] is None
    assert other["color_error"]["body"] == pytest.approx(0.1, abs=1e-3)
    assert other["psnr_foreground"] == pytest.approx(20.0, abs=0.3)
    assert set(other["sides"]) == set(SIDES)


def test_untrained_refiner_is_plain_inpainting():
    model = Refiner(RefinerConfig(widths=(8, 8, 8)))
    generator = torch.Generator().manual_seed(0)
    rgb, weight = torch.rand(INPUT, INPUT, 3, generator=generator), torch.zeros(INPUT, INPUT)
    weight[60:200, 60:200] = 1.0
    filled = continued(rgb, weight)
    assert torch.allclose(filled[60:200, 60:200], rgb[60:200, 60:200], atol=1e-5)
    texture = refine(model, rgb, weight)
    large = torch.nn.functional.interpolate(filled.permute(2, 0, 1)[None], scale_factor=4, mode="bilinear")
    shown = head_texels()
    assert torch.allclose(texture[shown], large[0].permute(1, 2, 0)[shown].clamp(0, 1), atol=1e-4)
    texels = head_canvas().texels
    flat = texture.reshape(-1, 3)
    assert torch.equal(flat[texels.gutter], flat[texels.index[texels.source]])


def test_windows_of_a_texture_are_pieces_of_it():
    generator = torch.Generator().manual_seed(0)
    maps = head_maps()
    base = torch.rand(1, 3, INPUT, INPUT, generator=generator)
    gains = torch.rand(1, 3 * len(maps), 64, 64, generator=generator)
    wide = compose(base, gains, maps, 256, 512, 256)
    piece = compose(base, gains, maps, 320, 576, 64)
    assert torch.allclose(wide[..., 64:128, 64:128], piece, atol=1e-4)
    by_hand = torch.nn.functional.interpolate(base, size=(SIZE, SIZE), mode="bilinear")[..., 320:384, 576:640]
    assert torch.allclose(compose(base, 0 * gains, maps, 320, 576, 64), by_hand, atol=1e-5)


def test_refiner_files(tmp_path, monkeypatch):
    monkeypatch.setenv("AVATAR3D_WEIGHTS", str(tmp_path))
    model = Refiner(RefinerConfig(widths=(8, 16, 8)))
    with torch.no_grad():
        model.leave.weight.normal_(generator=torch.Generator().manual_seed(0))
    read = load_refiner(save_refiner(model))
    assert all(torch.equal(a.half(), b.half()) for a, b in zip(model.parameters(), read.parameters(), strict=True))
    assert len(small_maps()) == read.count
    (tmp_path / "refiner.safetensors").write_bytes(b"nonsense")
    with pytest.raises(WeightsError, match="damaged"):
        load_refiner()
    assert math.isfinite(float(read.place.sum()))
