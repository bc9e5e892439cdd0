"""Hair, beards and brows: where they sit, what moves them, and how much they cost."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from avatar3d.body.shape import shape_body
from avatar3d.engine.attach import Figure
from avatar3d.engine.beard import beard_density, jaw_patch, make_beard
from avatar3d.engine.brows import make_brows
from avatar3d.engine.hair import Hair, make_hair
from avatar3d.engine.hair_chart import inside_at, reference_head, scalp_chart, scalp_of
from avatar3d.engine.hair_texture import strand_texture
from avatar3d.engine.headwear_line import HAIR_CLEARANCE, hat_plane
from avatar3d.spec import HAIR_STYLES, AvatarSpec
from avatar3d.structures import Part

GROWN = tuple(s for s in HAIR_STYLES if s != "bald")
CROPPED = ("balding", "buzz", "short", "side_part", "quiff")
PEOPLE = {
    "man": {"gender": 1.0, "age": 30.0, "weight": 0.8, "face": {"head_width": 1.0, "ear_size": 0.6}},
    "woman": {"gender": 0.0, "age": 70.0, "african": 1.0, "face": {"head_height": 0.6}},
    "child": {"gender": 0.0, "age": 6.0, "asian": 1.0},
}


@cache
def figure(person: str) -> Figure:
    return Figure(shape_body(AvatarSpec(**PEOPLE[person])))


def hair(person: str, style: str, hat: str = "none", length: float = 0.5) -> list[Part]:
    return grown(person, style, hat, length).parts


@cache
def grown(person: str, style: str, hat: str = "none", length: float = 0.5) -> Hair:
    return make_hair(AvatarSpec(hair_style=style, hat=hat, hair_length=length, **PEOPLE[person]), figure(person))


@cache
def skin_samples(person: str) -> tuple[cKDTree, np.ndarray, np.ndarray, np.ndarray]:
    """Points all over the skin of the head, millimetres apart, with their faces' normals and share of ear."""
    f = figure(person)
    v = f.vertices.numpy()
    faces = f.skin_faces.numpy()
    faces = faces[v[faces][:, :, 1].min(axis=1) > float(f.body.bone("neck")[1])]
    a, b, c = (v[faces[:, i]] for i in range(3))
    normals = np.cross(b - a, c - a)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    steps = [(i / 6, j / 6) for i in range(7) for j in range(7 - i)]
    points = np.concatenate([a + s * (b - a) + t * (c - a) for s, t in steps])
    ears = np.tile(reference_head().ears[faces].max(axis=1), len(steps))
    return cKDTree(points), points, np.tile(normals, (len(steps), 1)), ears


def heights(person: str, points: np.ndarray) -> np.ndarray:
    """Signed distance of points to the skin by its nearest sample; hair may touch the ears, which count as 0."""
    tree, samples, normals, ears = skin_samples(person)
    distance, near = tree.query(points)
    distance = np.where(ears[near] > 0.2, 0, distance)
    return np.where(((points - samples[near]) * normals[near]).sum(axis=1) < 0, -distance, distance)


def check_part(part: Part) -> None:
    m = part.mesh
    assert torch.isfinite(m.vertices).all() and torch.isfinite(m.uv).all()
    assert int(m.faces.min()) == 0 and int(m.faces.max()) == len(m.vertices) - 1
    torch.testing.assert_close(m.normals.norm(dim=1), torch.ones(len(m.normals)), atol=1e-4, rtol=0)
    torch.testing.assert_close(part.skin.weights.sum(dim=1), torch.ones(len(m.vertices)), atol=1e-5, rtol=0)
    assert (part.skin.weights >= 0).all()
    texture = m.material.base_color_texture
    assert texture is not None and torch.isfinite(texture).all() and texture.min() >= 0 and texture.max() <= 1


@pytest.mark.parametrize("person", PEOPLE)
@pytest.mark.parametrize("style", GROWN)
def test_hair_is_sound_and_within_its_budget(person: str, style: str) -> None:
    parts = hair(person, style)
    for part in parts:
        check_part(part)
    assert sum(len(p.mesh.faces) for p in parts) <= 15_000


@pytest.mark.parametrize("person", PEOPLE)
@pytest.mark.parametrize("style", CROPPED)
def test_cropped_hair_lies_on_the_head(person: str, style: str) -> None:
    for part in hair(person, style):
        h = heights(person, part.mesh.vertices.numpy())
        assert h.min() > -0.002
        assert h.max() < 0.05


@pytest.mark.parametrize("person", PEOPLE)
@pytest.mark.parametrize("style", GROWN)
def test_no_hair_hangs_before_the_eyes(person: str, style: str) -> None:
    f = figure(person)
    points = torch.cat([p.mesh.vertices for p in hair(person, style)])
    for side in ("leftEye", "rightEye"):
        away = points - f.body.bone(side)
        before = (away[:, 0].abs() < 0.014) & (away[:, 1].abs() < 0.009) & (away[:, 2] > 0)
        assert not before.any()


@pytest.mark.parametrize("style", [s for s in GROWN if s not in ("ponytail", "bun")])
def test_hair_keeps_its_clearance_under_a_hat(style: str) -> None:
    point, normal = hat_plane(figure("man"))
    for part in hair("man", style, "beanie"):
        v = part.mesh.vertices.numpy()
        above = v[(v - point) @ normal > 0]
        assert heights("man", above).max() < HAIR_CLEARANCE if len(above) else True


@pytest.mark.parametrize("person", PEOPLE)
def test_the_hat_line_crosses_the_forehead_and_faces_up(person: str) -> None:
    f = figure(person)
    point, normal = hat_plane(f)
    eyes = (f.body.bone("leftEye") + f.body.bone("rightEye")) / 2
    assert 0.02 < point[1] - float(eyes[1]) < 0.06
    assert normal[1] > 0.9
    assert abs(normal[0]) < 1e-3


def test_nothing_grows_on_bald_heads_or_under_a_headscarf() -> None:
    assert hair("man", "bald") == []
    assert hair("woman", "long_wavy", "headscarf") == []


@pytest.mark.parametrize("style", ["long_straight", "long_wavy", "ponytail", "braids", "dreadlocks", "bob"])
def test_longer_hair_reaches_lower(style: str) -> None:
    low = [hair("woman", style, "none", x)[-1].mesh.vertices[:, 1].min() for x in (0.0, 1.0)]
    assert low[1] < low[0] - 0.03


@pytest.mark.parametrize("style", ["short", "curly", "afro"])
def test_equal_specs_grow_equal_hair(style: str) -> None:
    spec = AvatarSpec(hair_style=style, beard_style="full", **PEOPLE["man"])
    f = figure("man")
    for make in (lambda s, f: make_hair(s, f).parts, make_beard, make_brows):
        for one, two in zip(make(spec, f), make(spec, f), strict=True):
            assert torch.equal(one.mesh.vertices, two.mesh.vertices)
            assert torch.equal(one.mesh.faces, two.mesh.faces)
            assert torch.equal(one.mesh.material.base_color_texture, two.mesh.material.base_color_texture)


@pytest.mark.parametrize("style", ["stubble", "moustache", "goatee", "full"])
def test_beards_sit_on_the_jaw_and_follow_it(style: str) -> None:
    f = figure("man")
    spec = AvatarSpec(beard_style=style, beard_length=0.2, **PEOPLE["man"])
    parts = make_beard(spec, f)
    assert sum(len(p.mesh.faces) for p in parts) <= 5_000
    for part in parts:
        check_part(part)
        sunk = heights("man", part.mesh.vertices.numpy()) < -0.002
        assert sunk.mean() < 0.02  # a double chin folds skin into itself
        assert part.morphs is not None and "jawOpen" in part.morphs.names
        drop = part.morphs.deltas[part.morphs.names.index("jawOpen"), :, 1]
        v = part.mesh.vertices
        chin = (v[:, 1] < f.body.bone("head")[1]) & (v[:, 2] > f.body.bone("leftEye")[2])
        if style != "moustache":
            assert (drop[chin] < -0.002).float().mean() > 0.8


def test_clean_shaven_people_have_no_beard() -> None:
    assert make_beard(AvatarSpec(), figure("man")) == []


def test_lips_stay_bare() -> None:
    reference = jaw_patch().reference
    x, y, z = reference.T
    lips = (np.abs(x) < 0.018) & (y > 1.510) & (y < 1.523) & (z > 0.14)
    assert lips.sum() > 5
    for style in ("stubble", "moustache", "goatee", "full"):
        assert beard_density(style, reference[lips]).max() < 0.05


@pytest.mark.parametrize("person", PEOPLE)
def test_brows_lie_on_the_skin_above_the_eyes_and_move(person: str) -> None:
    f = figure(person)
    (part,) = make_brows(AvatarSpec(**PEOPLE[person]), f)
    check_part(part)
    assert len(part.mesh.faces) <= 2_000
    h = heights(person, part.mesh.vertices.numpy())
    assert h.min() > -0.0005 and h.max() < 0.004
    assert (part.mesh.vertices[:, 1] > f.body.bone("leftEye")[1]).all()
    assert part.morphs is not None
    assert {"browInnerUp", "browDownLeft", "browDownRight", "browOuterUpLeft"} <= set(part.morphs.names)


def test_brow_faces_look_forward() -> None:
    (part,) = make_brows(AvatarSpec(), figure("man"))
    a, b, c = (part.mesh.vertices[part.mesh.faces[:, i]] for i in range(3))
    assert (torch.linalg.cross(b - a, c - a)[:, 2] > 0).float().mean() > 0.95


def test_the_chart_knows_scalp_from_face() -> None:
    reference = scalp_chart().reference
    rows, columns = reference.shape[:2]
    v, u = np.meshgrid(np.linspace(0, 1, rows), np.linspace(0, 1, columns), indexing="ij")
    inside = inside_at(np.stack([u.ravel(), v.ravel()], axis=1)).reshape(rows, columns)
    assert (inside[0] > 0.08).all()
    forehead = (np.abs(reference[..., 0]) < 0.03) & (reference[..., 1] < 1.652) & (reference[..., 2] > 0.1)
    assert forehead.any() and (inside[forehead] < 0).all()
    np.testing.assert_allclose(reference[:, ::-1] * [-1, 1, 1], reference, atol=2e-3)


def test_grey_hair_is_greyer() -> None:
    def saturation(grey: float) -> float:
        rgb = strand_texture(AvatarSpec(hair_color="red", hair_grey=grey))[..., :3]
        return float((rgb.amax(-1) - rgb.amin(-1)).mean())

    none, half, full = (saturation(g) for g in (0.0, 0.5, 1.0))
    assert none > 1.3 * half > 1.3 * full


def test_the_scalp_scales_with_the_head() -> None:
    assert scalp_of(Figure(shape_body(AvatarSpec()))).size == pytest.approx(1.0, abs=0.02)
    assert 0.75 < scalp_of(figure("child")).size < 0.97
