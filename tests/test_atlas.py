"""Packing and merging: nothing overlaps, every sampled color stays, and the geometry is that of the parts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from avatar3d.export.atlas import CUTOFF, AtlasError, merge_parts, merged
from avatar3d.export.packing import pack
from avatar3d.export.resample import encode_colors, resampled
from avatar3d.structures import Avatar, Material, Mesh, MorphTargets, Part, Skeleton, Skin


def square(name: str, material: Material, uv=(0.0, 0.0, 1.0, 1.0), kind: str = "top", morphs=None) -> Part:
    """A part of one square of 0.2 m with texture coordinates from (u, v) to (u, v)."""
    x = torch.tensor([[0.0, 0], [1, 0], [0, 1], [1, 1]])
    low, high = torch.tensor(uv[:2]), torch.tensor(uv[2:])
    vertices = torch.cat([0.2 * x, torch.zeros(4, 1)], dim=1)
    faces = torch.tensor([[0, 1, 2], [1, 3, 2]])
    mesh = Mesh(vertices, faces, torch.tensor([[0.0, 0, 1]]).repeat(4, 1), low + x * (high - low), material)
    skin = Skin(torch.zeros(4, 4, dtype=torch.long), torch.tensor([[1.0, 0, 0, 0]]).repeat(4, 1))
    return Part(name, kind, mesh, skin, morphs)


def avatar_of(*parts: Part) -> Avatar:
    return Avatar(None, Skeleton(("root",), (-1,), torch.zeros(1, 3)), parts)


def sampled(texture, uv):
    """Bilinear look-up with repeat wrapping, (N, C)."""
    height, width, _ = texture.shape
    x, y = uv[:, 0] * width - 0.5, uv[:, 1] * height - 0.5
    x0, y0 = x.floor().long(), y.floor().long()
    fx, fy = (x - x0)[:, None], (y - y0)[:, None]

    def at(i, j):
        return texture[j % height, i % width]

    upper = at(x0, y0) * (1 - fx) + at(x0 + 1, y0) * fx
    lower = at(x0, y0 + 1) * (1 - fx) + at(x0 + 1, y0 + 1) * fx
    return upper * (1 - fy) + lower * fy


def smooth_texture(seed: int, side: int = 64, channels: int = 3):
    """A texture that repeats and holds only long waves."""
    t = torch.arange(side) / side * 2 * torch.pi
    phase = torch.rand(channels, 2, generator=torch.Generator().manual_seed(seed)) * 6
    waves = [torch.sin(t[None] + p[0]) * torch.cos(t[:, None] + p[1]) for p in phase]
    return 0.5 + 0.3 * torch.stack(waves, dim=-1)


@pytest.mark.parametrize("seed", range(5))
def test_packed_rectangles_do_not_overlap(seed):
    generator = np.random.default_rng(seed)
    sizes = [(int(w), int(h)) for w, h in generator.integers(3, 40, (40, 2))]
    side = 180
    places = pack(sizes, side)
    assert places is not None
    taken = np.zeros((side, side), int)
    for (x, y), (w, h) in zip(places, sizes, strict=True):
        assert x >= 0 and y >= 0 and x + w <= side and y + h <= side
        taken[y : y + h, x : x + w] += 1
    assert taken.max() == 1 and taken.sum() == sum(w * h for w, h in sizes)


def test_packing_of_exact_fits_and_of_too_much():
    assert sorted(pack([(4, 4)] * 4, 8)) == [(0, 0), (0, 4), (4, 0), (4, 4)]
    assert pack([(4, 4)] * 5, 8) is None
    assert pack([(9, 1)], 8) is None
    assert pack([], 8) == []


def test_resampling_keeps_constants_and_means():
    box = np.array([[-0.7, 0.2], [2.3, 1.2]])
    flat = np.full((16, 32, 3), 0.37, np.float32)
    np.testing.assert_allclose(resampled(flat, box, (21, 9), 2), 0.37, atol=1e-6)
    noise = np.random.default_rng(0).random((16, 32, 4), np.float32)
    same = resampled(noise, np.array([[0.0, 0], [1, 1]]), (32, 16))
    np.testing.assert_allclose(same, noise, atol=1e-6)
    half = resampled(noise, np.array([[0.0, 0], [1, 1]]), (8, 4))
    np.testing.assert_allclose(half.mean(axis=(0, 1)), noise.mean(axis=(0, 1)), atol=1e-3)
    twice = resampled(noise, np.array([[0.0, 0], [2, 2]]), (32, 16))
    np.testing.assert_allclose(twice[:8, :16], twice[8:, 16:], atol=1e-6)


def test_colors_are_averaged_in_linear_light():
    checks = np.indices((8, 8)).sum(axis=0)[..., None].repeat(3, axis=2) % 2
    mean = resampled(checks.astype(np.float32), np.array([[0.0, 0], [1, 1]]), (1, 1), colors=True)
    encode_colors(mean)
    np.testing.assert_allclose(mean, 0.735, atol=2e-3)  # half the light of white


def test_plain_parts_become_exact_swatches():
    parts = [
        square("a", Material("a", base_color=(0.8, 0.2, 0.4, 1.0), roughness=0.3, metallic=1.0)),
        square("b", Material("b", base_color=(0.1, 0.6, 0.9, 1.0), roughness=0.9, metallic=0.0)),
    ]
    part = merge_parts(parts, "both", 64)
    m, uv = part.mesh.material, part.mesh.uv
    color, orm = sampled(m.base_color_texture, uv), sampled(m.orm_texture, uv)
    for rows, source in ((slice(0, 4), parts[0]), (slice(4, 8), parts[1])):
        s = source.mesh.material
        torch.testing.assert_close(color[rows], torch.tensor([s.base_color[:3]] * 4), atol=2e-4, rtol=0)
        torch.testing.assert_close(orm[rows], torch.tensor([[1.0, s.roughness, s.metallic]] * 4))
    assert (m.alpha_mode, m.base_color, m.roughness, m.metallic) == ("OPAQUE", (1.0,) * 4, 1.0, 1.0)
    assert m.normal_texture is None


@pytest.mark.parametrize("uv", [(0.0, 0.0, 1.0, 1.0), (-1.5, 0.3, 2.0, 1.1), (0.2, 0.2, 0.6, 0.9)])
def test_sampled_colors_equal_those_before(uv):
    texture, normal = smooth_texture(1), smooth_texture(2)
    normal = 0.5 + 0.5 * torch.nn.functional.normalize(normal - 0.5 + torch.tensor([0.0, 0, 1]), dim=-1)
    own = Material(
        "cloth", base_color=(0.9, 0.7, 0.8, 1.0), base_color_texture=texture, normal_texture=normal, roughness=0.6
    )
    other = square("other", Material("other", base_color=(0.0, 0.0, 0.0, 1.0)))
    before = square("cloth", own, uv)
    after = merge_parts([other, before], "both", 512)
    share = torch.rand(200, 2, generator=torch.Generator().manual_seed(0))
    share = torch.cat([share, torch.tensor([[0.0, 0], [1, 1], [0, 1], [1, 0]])])  # corners need the gutter
    old, new = (
        u[0] + share[:, :1] * (u[1] - u[0]) + share[:, 1:] * (u[2] - u[0])
        for u in (before.mesh.uv, after.mesh.uv[4:])
    )
    m = after.mesh.material

    def linear(c):
        return torch.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)

    wanted = linear(sampled(texture, old)) * linear(torch.tensor(own.base_color[:3]))
    torch.testing.assert_close(linear(sampled(m.base_color_texture, new)), wanted, atol=0.012, rtol=0)
    torch.testing.assert_close(sampled(m.normal_texture, new), sampled(normal, old), atol=0.02, rtol=0)
    torch.testing.assert_close(sampled(m.orm_texture, new)[:, 1], torch.full((204,), 0.6), atol=1e-5, rtol=0)


def test_masks_meet_one_cutoff():
    texture = smooth_texture(3, channels=4)
    texture[..., 3] = (torch.arange(64) / 63.0)[None, :]
    part = square("strands", Material("m", base_color_texture=texture, alpha_mode="MASK", alpha_cutoff=0.25))
    merged_part = merge_parts([part], "strands", 256)
    m = merged_part.mesh.material
    assert (m.alpha_mode, m.alpha_cutoff) == ("MASK", CUTOFF)
    share = torch.linspace(0.05, 0.95, 91)[:, None]
    row = merged_part.mesh.uv[0] + share * (merged_part.mesh.uv[1] - merged_part.mesh.uv[0])
    seen = sampled(m.base_color_texture, row)[:, 3] >= CUTOFF
    before = sampled(texture, torch.cat([share, torch.full_like(share, 0.5)], dim=1))[:, 3]
    assert (seen == (before >= 0.25))[(before - 0.25).abs() > 0.02].all()


def test_geometry_and_shapes_are_joined():
    shape = MorphTargets(("jawOpen",), torch.ones(1, 4, 3))
    parts = (
        square("a", Material("a"), kind="body"),
        square("b", Material("b"), morphs=shape),
        square("c", Material("c", base_color_texture=smooth_texture(0, channels=4), alpha_mode="BLEND")),
    )
    avatar = avatar_of(*parts)
    both = merged(avatar, "alpha", 256)
    assert [(p.name, p.mesh.material.alpha_mode) for p in both.parts] == [
        ("avatar_opaque", "OPAQUE"), ("avatar_blend", "BLEND"),
    ]  # fmt: skip
    solid = both.parts[0]
    assert torch.equal(solid.mesh.vertices, torch.cat([p.mesh.vertices for p in parts[:2]]))
    assert torch.equal(solid.mesh.faces[2:], parts[1].mesh.faces + 4)
    assert solid.morphs.names == ("jawOpen",)
    assert torch.equal(solid.morphs.deltas, torch.cat([torch.zeros(1, 4, 3), torch.ones(1, 4, 3)], dim=1))
    (single,) = merged(avatar, "single", 256).parts
    assert single.mesh.material.alpha_mode == "MASK" and len(single.mesh.faces) == 6
    assert merged(avatar, "none") is avatar


def test_equal_avatars_give_equal_atlases():
    def make():
        parts = [square(f"p{i}", Material(f"m{i}", base_color_texture=smooth_texture(i))) for i in range(6)]
        return merge_parts(parts, "all", 128)

    one, two = make(), make()
    assert torch.equal(one.mesh.uv, two.mesh.uv)
    assert torch.equal(one.mesh.material.base_color_texture, two.mesh.material.base_color_texture)


def test_bad_requests():
    part = square("a", Material("a"))
    with pytest.raises(AtlasError, match="no atlas mode 'both'; use none, alpha or single"):
        merged(avatar_of(part), "both")
    many = [square(f"p{i}", Material(f"m{i}", base_color=(i / 99, 0.0, 0.0, 1.0))) for i in range(99)]
    with pytest.raises(AtlasError, match="99 charts do not fit into 32 x 32 texels"):
        merged(replace(avatar_of(*many)), "single", 32)
