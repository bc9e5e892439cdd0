"""Skin textures, texel maps, eyes: laws, closed forms and slow references."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
import torch

from avatar3d.body.shape import shape_body
from avatar3d.engine.attach import Figure
from avatar3d.engine.eyes import IRIS_SHARE, TEXTURE, eye_texture, make_eyes
from avatar3d.engine.skin import make_skin, skin_material
from avatar3d.engine.skin_canvas import MASKS, RELIEF, SIZE, Canvas, body_canvas, head_canvas, head_layout
from avatar3d.engine.skin_tone import GAMMA, XYZ_TO_RGB, lab_of, skin_tone
from avatar3d.engine.texels import spots, value_noise
from avatar3d.mesh.texels import texels_of
from avatar3d.spec import AvatarSpec
from avatar3d.structures import Part

BARE = AvatarSpec(blush=0.0, moles=0.0, wrinkles=0.0, hair_style="bald", gender=0.0, age=30)


@cache
def figure() -> Figure:
    return Figure(shape_body(BARE))


def parts_of(spec: AvatarSpec) -> dict[str, Part]:
    return {p.name: p for p in make_skin(spec, figure())}


def texture(spec: AvatarSpec, canvas: Canvas, kind: str) -> np.ndarray:
    """(N, C) values at the canvas's texels."""
    image = getattr(skin_material(spec, canvas, "x"), kind)
    return image.numpy().reshape(SIZE * SIZE, -1)[canvas.texels.index]


def mean_lab(rgb: np.ndarray) -> np.ndarray:
    return lab_of(tuple(rgb.mean(0)))


def region(name: str) -> np.ndarray:
    return head_canvas().masks[:, MASKS.index(name)]


def test_texels_of_a_square_cover_it_exactly_and_interpolate_linearly():
    uv = np.array([[0.25, 0.25], [0.75, 0.25], [0.75, 0.75], [0.25, 0.75]])
    t = texels_of(uv, np.array([[0, 1, 2], [0, 2, 3]]), 64)
    inside = {y * 64 + x for y in range(16, 48) for x in range(16, 48)}
    assert set(t.index.tolist()) == inside
    x = (t.index % 64 + 0.5) / 64
    np.testing.assert_allclose(t.interpolate(uv)[:, 0], x, atol=1e-6)
    picture = t.image(np.ones((len(t.index), 2), np.float32))
    assert picture.shape == (64, 64, 2) and (picture == 1).all()


def test_gutter_repeats_the_nearest_texel():
    uv = np.array([[0.25, 0.25], [0.75, 0.25], [0.75, 0.75], [0.25, 0.75]])
    t = texels_of(uv, np.array([[0, 1, 2], [0, 2, 3]]), 64)
    picture = t.image((t.index % 64)[:, None].astype(np.float32))[..., 0]
    assert (picture[20:44, 8:16] == 16).all() and (picture[20:44, 48:56] == 47).all()


def test_slopes_of_a_plane():
    uv = np.array([[0.1, 0.1], [0.9, 0.1], [0.9, 0.9], [0.1, 0.9]])
    t = texels_of(uv, np.array([[0, 1, 2], [0, 2, 3]]), 64)
    points = t.interpolate(np.concatenate([uv * 100, np.zeros((4, 1))], 1))
    slope = t.slopes(0.3 * points[:, 0] - 0.2 * points[:, 1], points)
    np.testing.assert_allclose(slope.mean(0), [0.3, -0.2], atol=1e-4)
    np.testing.assert_allclose(slope, np.broadcast_to([0.3, -0.2], slope.shape), atol=1e-2)


def test_noise_is_continuous_centred_and_bounded():
    rng = np.random.default_rng(0)
    p = rng.uniform(-50, 50, (20000, 3)).astype(np.float32)
    n = value_noise(p, 5.0, 1)
    assert np.abs(n).max() <= 1 and abs(n.mean()) < 0.03 and n.std() > 0.2
    assert np.abs(value_noise(p + np.float32(1e-3), 5.0, 1) - n).max() < 5e-3
    assert np.abs(value_noise(p, 5.0, 2) - n).mean() > 0.1


def test_spots_are_round_and_as_many_as_asked():
    axis = np.arange(0, 100, 0.25, dtype=np.float32)
    p = (
        np.stack([*np.meshgrid(axis, axis, indexing="ij"), np.zeros((400, 400))], 2)
        .reshape(-1, 3)
        .astype(np.float32)
    )
    none, some, many = (spots(p, 4.0, 5, np.full(len(p), s, np.float32), 0.5, 1.0) for s in (0.0, 0.2, 0.8))
    assert none.max() == 0
    assert 0 < (some > 0).mean() < 0.5 * (many > 0).mean()
    assert (some[some > 0] <= 1).all()
    # a higher share keeps every spot of a lower one
    assert (many >= some).all()


def test_every_island_has_its_gutter():
    for canvas in (head_canvas(), body_canvas()):
        t = canvas.texels
        covered = np.zeros(SIZE * SIZE, bool)
        covered[t.index] = True
        covered[t.gutter] = True
        grid = covered.reshape(SIZE, SIZE)
        y, x = np.divmod(t.index, SIZE)
        for dy, dx in ((8, 0), (-8, 0), (0, 8), (0, -8)):
            yy, xx = np.clip(y + dy, 0, SIZE - 1), np.clip(x + dx, 0, SIZE - 1)
            assert grid[yy, xx].all()


def test_head_layout_is_injective_and_fine_on_the_face():
    uv, head, _ = head_layout()
    body = figure().body
    corner, old_uv, faces = body.template.surface("body")
    faces, points = faces[head], body.vertices[corner]

    def area2(p: torch.Tensor) -> torch.Tensor:
        e1, e2 = p[faces[:, 1]] - p[faces[:, 0]], p[faces[:, 2]] - p[faces[:, 0]]
        return e1[:, 0] * e2[:, 1] - e1[:, 1] * e2[:, 0]

    assert (area2(uv) < 0).all() or (area2(uv) > 0).all()
    # no two triangles share texels: the covered area is the sum of the areas
    assert len(head_canvas().texels.index) / SIZE**2 == pytest.approx(0.5 * area2(uv).abs().sum().item(), rel=0.01)
    middle = points[faces].mean(1)
    face = (middle[:, 2] > body.bone("leftEye")[2] - 0.02) & (middle[:, 0].abs() < 0.06)
    assert area2(uv)[face].abs().sum() > 6 * area2(old_uv)[face].abs().sum()


def test_the_cut_between_head_and_body_has_no_gap_and_no_crease():
    parts = parts_of(BARE)
    head, body = parts["head_skin"].mesh, parts["body"].mesh
    assert len(head.faces) + len(body.faces) == len(figure().skin_faces)
    where = {tuple(v): n for v, n in zip(head.vertices.tolist(), head.normals.tolist(), strict=True)}
    shared = [
        (where[tuple(v)], n)
        for v, n in zip(body.vertices.tolist(), body.normals.tolist(), strict=True)
        if tuple(v) in where
    ]
    assert len(shared) >= 40
    assert all(a == b for a, b in shared)


def test_the_cut_has_matching_colors():
    parts = parts_of(replace(BARE, skin_tone=0.5, age=70, wrinkles=0.5))
    colors: list[dict] = []
    for name in ("head_skin", "body"):
        mesh = parts[name].mesh
        image = mesh.material.base_color_texture.numpy()
        xy = np.clip((mesh.uv.numpy() * SIZE).astype(int), 0, SIZE - 1)
        colors.append({tuple(v): image[y, x] for v, (x, y) in zip(mesh.vertices.tolist(), xy, strict=True)})
    common = colors[0].keys() & colors[1].keys()
    difference = np.array([np.abs(colors[0][k] - colors[1][k]).max() for k in common])
    assert np.median(difference) < 0.02 and np.quantile(difference, 0.95) < 0.05


def test_hidden_faces_are_left_out():
    hidden = torch.zeros(len(figure().skin_faces), dtype=torch.bool)
    hidden[::2] = True
    parts = make_skin(BARE, figure(), hidden)
    assert sum(len(p.mesh.faces) for p in parts) == int((~hidden).sum())


def test_textures_are_in_range_and_repeatable():
    spec = replace(BARE, freckles=0.8, moles=0.8, age=80, wrinkles=1.0, lipstick=1.0, eyeshadow=1.0, seed=5)
    for canvas in (head_canvas(), body_canvas()):
        first, second = skin_material(spec, canvas, "a"), skin_material(spec, canvas, "a")
        for kind in ("base_color_texture", "normal_texture", "orm_texture"):
            image = getattr(first, kind)
            assert image.dtype == torch.float32 and image.min() >= 0 and image.max() <= 1
            assert torch.equal(image, getattr(second, kind))
        unit = (2 * first.normal_texture - 1).norm(dim=2)
        assert (unit - 1).abs().max() < 0.05 and first.normal_texture[..., 2].min() > 0.5


@pytest.mark.parametrize("canvas", [head_canvas, body_canvas])
def test_tone_darkens_evenly(canvas):
    lightness = [
        mean_lab(texture(replace(BARE, skin_tone=t), canvas(), "base_color_texture"))[0]
        for t in (0, 0.25, 0.5, 0.75, 1)
    ]
    assert all(a > b + 3 for a, b in pairwise(lightness))


def test_warm_skin_is_yellower():
    cool, warm = (skin_tone(replace(BARE, skin_warmth=w)).base for w in (0.0, 1.0))
    assert warm[2] > cool[2] and warm[1] < cool[1] and warm[0] == cool[0]


def test_lab_of_known_colors():
    np.testing.assert_allclose(lab_of((1, 1, 1)), [100, 0, 0], atol=1e-6)
    np.testing.assert_allclose(lab_of((1, 0, 0)), [53.24, 80.09, 67.20], atol=0.02)
    assert GAMMA[0] == 0 and GAMMA[-1] == pytest.approx(1)
    np.testing.assert_allclose(XYZ_TO_RGB @ np.ones(3), np.ones(3), atol=1e-9)


def changed(a: AvatarSpec, b: AvatarSpec, kind: str = "base_color_texture") -> np.ndarray:
    return np.abs(texture(a, head_canvas(), kind) - texture(b, head_canvas(), kind)).max(1)


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"lipstick": 1.0, "lipstick_color": "purple"}, "lips"),
        ({"eyeshadow": 0.4, "eyeshadow_color": "green"}, "shadow"),
        ({"blush": 1.0}, "blush"),
        ({"beard_style": "stubble"}, "beard"),
    ],
)
def test_paint_stays_in_its_region(change, where):
    bare = replace(BARE, gender=1.0, beard_style="none")
    difference = changed(bare, replace(bare, **change))
    inside = region(where) > 0.6
    assert inside.sum() > 500
    assert difference[inside].mean() > 0.03
    # strokes run out softly over a texel or two
    assert difference[region(where) < 0.004].max() < 0.02


def test_freckles_and_moles_follow_the_seed_and_darken():
    spec = replace(BARE, freckles=0.8, moles=0.8)
    one, again, other = (texture(replace(spec, seed=s), head_canvas(), "base_color_texture") for s in (1, 1, 2))
    bare = texture(BARE, head_canvas(), "base_color_texture")
    assert (one == again).all() and (one != other).any()
    assert one.mean() < bare.mean()
    half = texture(replace(spec, freckles=0.4, seed=1), head_canvas(), "base_color_texture")
    assert (np.abs(half - bare) > 0.02).sum() < (np.abs(one - bare) > 0.02).sum()


def test_wrinkles_bend_the_normals_of_the_old_only():
    flat = texture(BARE, head_canvas(), "normal_texture")
    old = texture(replace(BARE, age=80, wrinkles=1.0), head_canvas(), "normal_texture")
    child = texture(replace(BARE, age=8, wrinkles=1.0), head_canvas(), "normal_texture")
    forehead = (head_canvas().points[:, 1] > 30) & (head_canvas().points[:, 1] < 60)
    # how much of the creases' slope the normals carry: 0.5 encodes all of it
    slope = head_canvas().slopes[forehead, RELIEF.index("deep"), 1]
    carried = [((n[forehead, 1] - 0.5) * slope).sum() / (slope**2).sum() for n in (flat, old, child)]
    assert carried[1] == pytest.approx(0.5, abs=0.06)
    assert abs(carried[0]) < 0.05 and carried[2] < 0.6 * carried[1]


def test_lips_are_redder_and_the_eye_corners_symmetric():
    color = texture(BARE, head_canvas(), "base_color_texture")
    lips, cheek = region("lips") > 0.9, (region("lips") == 0) & (region("blush") > 0.5)
    assert mean_lab(color[lips])[1] > mean_lab(color[cheek])[1] + 3
    p = head_canvas().points
    left, right = (region("shadow")[s * p[:, 0] > 0].sum() for s in (1, -1))
    assert left == pytest.approx(right, rel=0.02)


def test_palms_are_lighter_on_dark_skin():
    color = texture(replace(BARE, skin_tone=0.9), body_canvas(), "base_color_texture")
    palm = body_canvas().masks[:, MASKS.index("palm")]
    assert (palm > 0.9).sum() > 3000
    assert mean_lab(color[palm > 0.9])[0] > mean_lab(color[palm == 0])[0] + 8


def test_eyes_face_forward_and_fit_their_sockets():
    (eyes, shadows) = make_eyes(BARE, figure())
    assert eyes.kind == "eyes" and 800 <= len(eyes.mesh.faces) <= 1500
    v, n = eyes.mesh.vertices, eyes.mesh.normals
    for side, sign in (("left", 1), ("right", -1)):
        center = figure().body.bone(f"{side}Eye")
        mine = v[:, 0] * sign > 0
        out = v[mine] - center
        assert (torch.nn.functional.cosine_similarity(out, n[mine], dim=1) > 0.75).all()
        old = figure().vertices[figure().body.template.surface_vertices(f"eye_{side}")]
        assert (v[mine].amax(0) - old.amax(0)).abs().max() < 1.5e-3
        joint = figure().joint(f"{side}Eye")
        assert (eyes.skin.joints[mine, 0] == joint).all()
    mirrored = v * torch.tensor([-1.0, 1.0, 1.0])
    assert torch.cdist(mirrored, v, compute_mode="donot_use_mm_for_euclid_dist").amin(1).max() < 1e-5
    assert shadows.mesh.material.alpha_mode == "BLEND"


@pytest.mark.parametrize(
    ("shape", "axis", "sign"),
    [("eyeLookUpLeft", 1, 1), ("eyeLookDownLeft", 1, -1), ("eyeLookOutLeft", 0, 1), ("eyeLookInLeft", 0, -1)],
)
def test_gaze_shapes_turn_the_iris(shape, axis, sign):
    eyes = make_eyes(BARE, figure())[0]
    center = figure().body.bone("leftEye")
    delta = eyes.morphs.deltas[eyes.morphs.names.index(shape)]
    left = eyes.mesh.vertices[:, 0] > 0
    pole = int((eyes.mesh.vertices[:, 2] - 1e3 * ~left).argmax())
    assert sign * delta[pole, axis] > 2e-3
    assert delta[~left].abs().max() == 0
    # a rotation keeps distances from the centre
    before, after = eyes.mesh.vertices[left] - center, (eyes.mesh.vertices + delta)[left] - center
    assert (before.norm(dim=1) - after.norm(dim=1)).abs().max() < 1e-5


def test_iris_colors_differ_and_the_pupil_is_black():
    axis = (np.arange(TEXTURE) + 0.5) / TEXTURE - 0.5
    rho = np.hypot(axis[None], axis[:, None]) / IRIS_SHARE
    lower = np.broadcast_to(axis[:, None] > 0.05, rho.shape)
    images = {c: eye_texture(replace(BARE, eye_color=c))[0].numpy() for c in ("blue", "dark_brown", "green")}
    for image in images.values():
        assert image[(rho < 0.25) & lower].max() < 0.1
        assert image[(rho > 1.2) & (rho < 1.4)].mean() > 0.6
    ring = (rho > 0.5) & (rho < 0.8) & lower
    blue, brown, green = (images[c][ring].mean(0) for c in ("blue", "dark_brown", "green"))
    assert blue[2] > blue[0] and brown[0] > brown[2] and green[1] > green[2] and brown.mean() < blue.mean()
