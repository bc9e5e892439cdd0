"""Laws of clothes: they cover, they follow, they fit, they are the same twice."""

from __future__ import annotations

from dataclasses import replace

import numba
import numpy as np
import pytest
import torch

from avatar3d.body.pose import joint_transforms, skin_points
from avatar3d.body.poses import test_poses as stretching_poses
from avatar3d.body.shape import shape_body
from avatar3d.engine.attach import Figure
from avatar3d.engine.bottoms import DESIGNS as BOTTOM_DESIGNS
from avatar3d.engine.bottoms import DRESS_SKIRT, PLAIN_SKIRT
from avatar3d.engine.colors import PALETTE, color_rgb
from avatar3d.engine.fabrics import cloth_material, pattern_mask, weave_normals
from avatar3d.engine.garment_cut import cut_cloth, draw_line
from avatar3d.engine.garment_fields import template_fields
from avatar3d.engine.garment_sites import front_site, rectangle
from avatar3d.engine.headwear_line import hat_plane
from avatar3d.engine.outfit import Outfit, make_outfit
from avatar3d.engine.shoes import lifted, sole_height
from avatar3d.engine.tops import DESIGNS as TOP_DESIGNS
from avatar3d.engine.tops import T_SHIRT
from avatar3d.mesh.normals import vertex_normals
from avatar3d.spec import BOTTOMS, COLORS, HATS, PATTERNS, SHOES, TOPS, AvatarSpec
from avatar3d.structures import Avatar, Part

BODIES = {
    "man": {"gender": 1.0, "height": 0.6},
    "heavy woman": {"gender": 0.0, "weight": 1.0, "bust": 0.9, "age": 50.0},
    "child": {"gender": 0.5, "age": 5.0},
    "muscular man": {"gender": 1.0, "muscle": 1.0},
    "thin woman": {"gender": 0.0, "weight": 0.0},
    "round belly": {"gender": 0.0, "body": {"belly": 1.0}},
}
WORN = [
    ("t_shirt", "jeans", "trainers", "none"), ("shirt", "shorts", "sandals", "cap"),
    ("jumper", "trousers", "boots", "headscarf"), ("hoodie", "jeans", "boots", "beanie"),
    ("jacket", "skirt", "boots", "none"), ("suit", "trousers", "dress_shoes", "fedora"),
    ("dress", "jeans", "sandals", "none"), ("tank_top", "skirt", "trainers", "none"),
]  # fmt: skip
"""Every top, bottom, shoe and hat at least once."""


TOLERANCE = 0.0005


def _spec(body: str, worn: tuple[str, str, str, str], **more) -> AvatarSpec:
    top, bottom, shoes, hat = worn
    return AvatarSpec(**BODIES[body], top=top, bottom=bottom, shoes=shoes, hat=hat, **more)


def _dressed(spec: AvatarSpec) -> tuple[Figure, Outfit]:
    figure = Figure(shape_body(spec))
    return figure, make_outfit(spec, figure)


@numba.njit(cache=True)
def _first_hit(origins, directions, triangles, far, reach=0.15):
    """Distance to the nearest triangle within `reach` along each ray, else `far` (Moeller and Trumbore 1997)."""
    nearest = np.full(len(origins), far)
    for i in range(len(origins)):
        ox, oy, oz = origins[i]
        dx, dy, dz = directions[i]
        for k in range(len(triangles)):
            ax, ay, az = triangles[k, 0]
            sx, sy, sz = ox - ax, oy - ay, oz - az
            if abs(sx) > reach or abs(sy) > reach or abs(sz) > reach:
                continue
            ux, uy, uz = triangles[k, 1, 0] - ax, triangles[k, 1, 1] - ay, triangles[k, 1, 2] - az
            vx, vy, vz = triangles[k, 2, 0] - ax, triangles[k, 2, 1] - ay, triangles[k, 2, 2] - az
            px, py, pz = dy * vz - dz * vy, dz * vx - dx * vz, dx * vy - dy * vx
            det = ux * px + uy * py + uz * pz
            if abs(det) < 1e-14:
                continue
            a = (sx * px + sy * py + sz * pz) / det
            qx, qy, qz = sy * uz - sz * uy, sz * ux - sx * uz, sx * uy - sy * ux
            b = (dx * qx + dy * qy + dz * qz) / det
            t = (vx * qx + vy * qy + vz * qz) / det
            if a >= 0 and b >= 0 and a + b <= 1 and 0 <= t < nearest[i]:
                nearest[i] = t
    return nearest


def _triangles(parts: list[Part], transforms=None) -> np.ndarray:
    out = []
    for p in parts:
        v = p.mesh.vertices
        if transforms is not None:
            v = skin_points(v, p.skin.joints, p.skin.weights, transforms)
        out.append(v[p.mesh.faces])
    return torch.cat(out).numpy().astype(np.float64)


def _under_cloth(spec: AvatarSpec, inside: float) -> np.ndarray:
    """(V,) template vertices that the designs say lie under top or bottom, `inside` metres from every edge."""
    f = template_fields()
    designs = [TOP_DESIGNS[spec.top]]
    if spec.top != "dress" and spec.bottom != "skirt":
        designs.append(BOTTOM_DESIGNS[spec.bottom])
    depth = np.max([np.min([cut(f) for cut in d.cuts], axis=0) for d in designs], axis=0)
    if spec.top == "dress" or spec.bottom == "skirt":
        hem = (DRESS_SKIRT if spec.top == "dress" else PLAIN_SKIRT).hem
        depth = np.maximum(depth, np.minimum(np.minimum(f.y - hem, 1.0 - f.y), 0.1 - f.arm))
    return depth > inside


def _poking(spec: AvatarSpec, poses: dict, pull: float = 0.0) -> tuple[int, int, float]:
    """Visible skin vertices that should be under cloth and are not, of how many, and the greatest depth in metres.

    A vertex pokes through when no cloth lies within 8 cm outwards but some lies 0.5 to 20 mm inwards. `pull` moves
    the cloth inwards, to show that the test can fail.
    """
    figure, outfit = _dressed(spec)
    visible = torch.unique(figure.skin_faces[~outfit.hidden]).numpy()
    chosen = visible[_under_cloth(spec, 0.006)[visible]]
    cloth = [p for p in outfit.parts if p.kind in ("top", "bottom")]
    bad, worst = 0, 0.0
    for pose in poses.values():
        transforms = joint_transforms(figure.body.skeleton, pose)
        body = skin_points(figure.vertices, *figure.skin, transforms)
        normals = vertex_normals(body, figure.skin_faces)[chosen].numpy().astype(np.float64)
        origins = body[chosen].numpy().astype(np.float64) + pull * normals
        triangles = _triangles(cloth, transforms)
        outwards = _first_hit(origins, normals, triangles, 1.0)
        inwards = _first_hit(origins, -normals, triangles, 1.0)
        through = (outwards > 0.08) & (inwards < 0.02) & (inwards > TOLERANCE)
        bad += int(through.sum())
        worst = max(worst, float(inwards[through].max()) if through.any() else 0.0)
    return bad, len(chosen) * len(poses), worst


@pytest.mark.parametrize("worn", WORN, ids=lambda w: f"{w[0]}+{w[1]}")
def test_no_skin_through_cloth_in_any_pose(worn):
    bad, tested, worst = _poking(_spec("man", worn), {"rest": {}, **stretching_poses()})
    assert tested > 500
    assert bad == 0, f"{bad} of {tested} vertices, up to {1000 * worst:.1f} mm"


@pytest.mark.parametrize("body", [b for b in BODIES if b != "man"])
def test_no_skin_through_cloth_on_any_body(body):
    poses = {"rest": {}, "sit": stretching_poses()["sit"], "arms_up": stretching_poses()["arms_up"]}
    for worn in WORN:
        bad, tested, worst = _poking(_spec(body, worn), poses)
        assert bad == 0, f"{worn}: {bad} of {tested} vertices, up to {1000 * worst:.1f} mm"


def test_the_poke_test_sees_cloth_that_is_too_tight():
    bad, tested, _ = _poking(_spec("man", WORN[0]), {"rest": {}}, pull=0.02)
    assert bad > 0.1 * tested


@pytest.mark.parametrize("worn", [WORN[0], WORN[2], WORN[5], WORN[6]], ids=lambda w: w[0])
def test_nobody_sees_where_skin_was_left_out(worn):
    """Straight out from a hidden face there is cloth (in a skirt, perhaps the other leg)."""
    for body in ("man", "heavy woman", "child"):
        figure, outfit = _dressed(_spec(body, worn))
        faces = figure.skin_faces[outfit.hidden][::9]
        centers = figure.vertices[faces].mean(dim=1).numpy().astype(np.float64)
        normals = (
            torch.nn.functional.normalize(figure.normals[faces].mean(dim=1), dim=-1).numpy().astype(np.float64)
        )
        cloth = _triangles(outfit.parts)
        around = cloth if worn[0] != "dress" else np.concatenate([cloth, _body_triangles(figure)])
        inside = _first_hit(centers, normals, around, 1.0, 0.5) < 1.0
        beneath = (
            _first_hit(centers, -normals, cloth, 1.0, 0.15) < 0.03
        )  # cloth smoother than the skin it replaces
        bare = ~(inside | beneath)
        assert bare.mean() < 0.01, f"{body}: {int(bare.sum())} of {len(bare)} hidden faces lie open"


def _body_triangles(figure: Figure) -> np.ndarray:
    return figure.vertices[figure.skin_faces].numpy().astype(np.float64)


@pytest.mark.parametrize("body", BODIES)
def test_parts_are_sound(body):
    for worn in WORN:
        figure, outfit = _dressed(_spec(body, worn, top_pattern="checks"))
        assert len({p.name for p in outfit.parts}) == len(outfit.parts)
        assert sum(len(p.mesh.faces) for p in outfit.parts) <= 25_000, worn
        for p in outfit.parts:
            m = p.mesh
            assert torch.isfinite(m.vertices).all() and torch.isfinite(m.uv).all(), p.name
            assert float((m.normals.norm(dim=-1) - 1).abs().max()) < 1e-4, p.name
            assert float((p.skin.weights.sum(dim=1) - 1).abs().max()) < 1e-5, p.name
            assert (p.skin.weights >= 0).all() and int(p.skin.joints.max()) < len(figure.body.skeleton.names)
            assert int(m.faces.max()) < len(m.vertices)


def test_same_spec_same_bytes():
    spec = _spec("heavy woman", WORN[5], top_pattern="stripes")
    first, second = _dressed(spec)[1], _dressed(spec)[1]
    assert torch.equal(first.hidden, second.hidden)
    for a, b in zip(first.parts, second.parts, strict=True):
        assert torch.equal(a.mesh.vertices, b.mesh.vertices) and torch.equal(a.mesh.uv, b.mesh.uv)
        assert torch.equal(a.mesh.faces, b.mesh.faces) and torch.equal(a.skin.weights, b.skin.weights)


@pytest.mark.parametrize("shoes", SHOES)
def test_soles_stand_on_the_ground(shoes):
    for body in ("man", "child", "heavy woman"):
        spec = AvatarSpec(**BODIES[body], shoes=shoes)
        figure, outfit = _dressed(spec)
        avatar = lifted(Avatar(spec, figure.body.skeleton, tuple(outfit.parts)), sole_height(spec))
        lowest = min(float(p.mesh.vertices[:, 1].min()) for p in avatar.parts)
        assert abs(lowest) < 2e-4
        assert torch.equal(avatar.skeleton.positions[0], torch.zeros(3))
        hips = avatar.skeleton.names.index("hips")
        raised = avatar.skeleton.positions[hips, 1] - figure.body.skeleton.positions[hips, 1]
        assert abs(float(raised) - sole_height(spec)) < 1e-6


def test_everything_that_can_be_worn_is_tested():
    for k, names in enumerate((TOPS, BOTTOMS, SHOES, HATS)):
        assert {w[k] for w in WORN} | ({"none"} & set(names)) == set(names)


@pytest.mark.parametrize("hat", [h for h in HATS if h != "none"])
@pytest.mark.parametrize("body", ["man", "child", "heavy woman"])
def test_a_hat_encloses_the_skull_and_does_not_float(body, hat):
    figure, outfit = _dressed(AvatarSpec(**BODIES[body], hat=hat, hair_style="short"))
    point, up = (np.asarray(a, np.float64) for a in hat_plane(figure))
    body_vertices = figure.skin_vertices
    p = figure.vertices.numpy().astype(np.float64)[body_vertices]
    height = (p - point) @ up
    crown = p[height > 0.012] + np.array([2e-4, 0.0, 0.0])  # off the seam in the middle
    center = np.array([0.0, point[1], crown[:, 2].mean()]) + 0.0 * up
    d = crown - center
    distance = np.linalg.norm(d, axis=1, keepdims=True)
    hit = _first_hit(crown, d / distance, _triangles([q for q in outfit.parts if q.kind == "hat"]), 1.0)
    assert (hit < 0.09).mean() > 0.999, "skin of the crown is outside of the hat"
    near_rim = (height[height > 0.012] < 0.03) & (np.abs(d[:, 0]) < 0.04)
    assert np.median(hit[near_rim]) < 0.035, "the hat floats"


def test_cutting_keeps_area_and_puts_points_on_the_line():
    whole = cut_cloth((lambda f: f.y - 0.9, lambda f: 1.25 - f.y, lambda f: 0.2 - f.arm), (), 0.03)
    line = lambda f: f.y - 1.0 - 0.3 * f.x  # noqa: E731
    split, values = draw_line(whole, line)
    tested = np.abs(values) < 1e-12
    assert tested.sum() > 20
    assert np.abs(line(split.fields)[tested]).max() < 1e-9
    sides = np.sign(values)[split.faces]
    assert not ((sides.max(axis=1) > 0) & (sides.min(axis=1) < 0)).any()

    def area(sheet) -> float:
        a, b, c = (sheet.points[sheet.faces[:, i]] for i in range(3))
        return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2)

    assert area(split) == pytest.approx(area(whole), rel=2e-3)
    assert len(split.rim_edges) == pytest.approx(len(whole.rim_edges), abs=6)


def test_a_site_is_where_the_design_says():
    sheet = T_SHIRT.cloth.sheet
    grid = rectangle(-0.08, 0.08, 0.95, 1.3, 7, 5)
    site = front_site(sheet, grid)
    found = np.stack([site.rows @ sheet.fields.x, site.rows @ sheet.fields.y], axis=-1).reshape(grid.shape)
    assert np.abs(found - grid).max() < 1e-9
    assert np.allclose(site.skin[1].sum(axis=1), 1, atol=1e-6)


def test_the_top_lies_over_the_bottom():
    for body in BODIES:
        figure, outfit = _dressed(_spec(body, ("t_shirt", "jeans", "trainers", "none")))
        jeans = next(p for p in outfit.parts if p.name == "jeans")
        f = template_fields()
        hem = figure.vertices[torch.from_numpy(np.flatnonzero((np.abs(f.y - 0.92) < 0.006) & (f.arm < 0.1))), 1]
        near = (jeans.mesh.vertices[:, 1] - hem.mean()).abs() < 0.01
        origins = jeans.mesh.vertices[near].numpy().astype(np.float64)
        normals = (origins - origins.mean(axis=0)) * np.array([1.0, 0.0, 1.0])
        normals /= np.linalg.norm(normals, axis=1, keepdims=True)
        hit = _first_hit(origins, normals, _triangles([p for p in outfit.parts if p.kind == "top"]), 1.0)
        assert (hit < 0.10).mean() > 0.99, body


def test_cloth_tiles():
    for name in ("jersey", "knit", "denim", "leather"):
        normals = weave_normals(name)
        for axis in (0, 1):
            inner = (normals - normals.roll(1, axis)).abs()
            seam = inner.select(axis, 0).mean()
            rest = inner.narrow(axis, 1, inner.shape[axis] - 1).mean(dim=(1 - axis, 2))
            assert float(seam) <= float(rest.max()) * 1.05, name
    for pattern in PATTERNS:
        share = pattern_mask(pattern).mean()
        assert share == 0 if pattern == "plain" else 0.05 < share < 0.6


@pytest.mark.parametrize("pattern", ["plain", "stripes"])
def test_trousers_of_a_suit_match_its_jacket(pattern):
    spec = _spec("man", ("suit", "trousers", "dress_shoes", "none"), top_color="grey", bottom_color="red")
    parts = {p.name: p.mesh.material for p in _dressed(replace(spec, top_pattern=pattern))[1].parts}
    assert parts["trousers"].base_color == parts["suit"].base_color
    assert torch.equal(parts["trousers"].base_color_texture, parts["suit"].base_color_texture)
    other = {p.name: p.mesh.material for p in _dressed(replace(spec, top="shirt", top_pattern=pattern))[1].parts}
    assert other["trousers"].base_color[:3] == color_rgb("red")


def test_colors_are_what_they_are_called():
    assert set(PALETTE) == set(COLORS)
    for name, channel in (("red", 0), ("green", 1), ("blue", 2), ("navy", 2)):
        rgb = color_rgb(name)
        assert max(range(3), key=lambda i: rgb[i]) == channel
        assert rgb[channel] > 1.6 * sorted(rgb)[1]
    material = cloth_material("x", "jersey", color_rgb("red"), "stripes", color_rgb("white"))
    mean = material.base_color_texture.mean(dim=(0, 1))
    assert mean[0] > mean[1]
