"""Avatars that are restyled keep their skeleton, weights, face shapes and texture coordinates, and stay whole."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from avatar3d.camera import framing
from avatar3d.distill.avatar_paint import Paint, turned
from avatar3d.distill.avatar_relief import FIXED, OUTER_REACH, SKIN_REACH, Relief, ReliefError
from avatar3d.distill.avatar_scene import AvatarScene, Variant
from avatar3d.distill.scene import DistilledScene
from avatar3d.engine.build import build_avatar
from avatar3d.engine.population import sample
from avatar3d.export.glb import write_glb
from avatar3d.export.read import read_avatar
from avatar3d.mesh.normals import weld_by_position
from avatar3d.render.layers import _by_torch, see_layers
from avatar3d.render.meshes import render_albedo
from avatar3d.render.scene import labelled
from avatar3d.structures import Avatar

SIZE = 40
RED = torch.tensor([1.0, 0.0, 0.0])


@pytest.fixture(scope="module")
def avatar() -> Avatar:
    return build_avatar(sample(np.random.default_rng(3)))


@pytest.fixture(scope="module")
def scene(avatar) -> AvatarScene:
    """At rest only, with textures of 16 and 64 texels."""
    return AvatarScene(avatar, variants=[], sizes=(16, 64))


def views(scene: AvatarScene, count: int, kind: str = "head", size: int = SIZE) -> list:
    return [framing(*scene.box(kind), azimuth=0.6 + 2.1 * k, width=size, height=size) for k in range(count)]


def draw(scene, cameras, shading="albedo", seed: int = 0):
    return scene.draw(cameras, torch.full((len(cameras), 3), 0.5), shading, torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def red(avatar) -> tuple[Avatar, list[float], Tensor]:
    """Restyled towards red pictures with much of the avatar in them: the avatar, losses and last picture."""
    scene = AvatarScene(avatar, variants=[], sizes=(16, 64))
    optimizer = torch.optim.Adam(
        [{"params": scene.paint.parameters(), "lr": 0.1}, {"params": scene.relief.parameters(), "lr": 0.2}]
    )
    cameras = views(scene, 2)
    losses = []
    for _ in range(14):
        pictures = draw(scene, cameras)
        loss = ((pictures.rgb - RED.view(3, 1, 1)) ** 2).mean() - 0.5 * pictures.alpha.mean()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        return scene.to_avatar(), losses, draw(scene, cameras[:1]).rgb


def test_starts_as_the_avatar(avatar, scene):
    """Untouched, its pictures are those of the renderer, and so is the avatar that it gives."""
    assert isinstance(scene, DistilledScene)
    camera = views(scene, 1, size=96)[0]
    ours = draw(scene, [camera])
    resting = replace(avatar, expression={})
    drawn = AvatarScene(resting, variants=[], sizes=(16,)).draw(
        [camera], torch.full((1, 3), 0.5), "albedo", torch.Generator().manual_seed(0)
    )
    theirs = render_albedo(labelled(avatar.parts), camera, (0.5, 0.5, 0.5), samples=2)
    difference = (drawn.rgb[0].permute(1, 2, 0) - theirs.rgb).abs().mean(-1)
    assert difference.median() < 0.01
    assert difference.mean() < 0.03
    assert (drawn.alpha[0] - theirs.alpha).abs().mean() < 0.01
    assert not torch.equal(ours.rgb, drawn.rgb), "the scene wears the avatar's expression"
    same = scene.to_avatar()
    for a, b in zip(avatar.parts, same.parts, strict=True):
        assert torch.equal(a.mesh.vertices, b.mesh.vertices)
        assert torch.allclose(a.mesh.normals, b.mesh.normals, atol=1e-5)
    face = avatar.parts[0].mesh.material.base_color_texture
    assert torch.allclose(face, same.parts[0].mesh.material.base_color_texture, atol=1.1 / 255)


def test_turns_red(avatar, red):
    restyled, losses, picture = red
    assert losses[-1] < losses[0] - 0.1
    head = restyled.parts[0].mesh.material.base_color_texture.mean((0, 1))
    before = avatar.parts[0].mesh.material.base_color_texture.mean((0, 1))
    assert head[0] - head[1] > before[0] - before[1] + 0.3
    middle = picture[0, :, SIZE // 2, SIZE // 2]
    assert middle[0] > 0.8
    assert middle[1] < 0.2
    assert all(
        part.mesh.material.base_color_texture is None
        or (
            (part.mesh.material.base_color_texture >= 0).all()
            and (part.mesh.material.base_color_texture <= 1).all()
        )
        for part in restyled.parts
    )


def test_keeps_what_moves_it(avatar, red):
    restyled = red[0]
    assert restyled.skeleton is avatar.skeleton
    for a, b in zip(avatar.parts, restyled.parts, strict=True):
        assert (a.name, a.kind) == (b.name, b.kind)
        assert a.skin is b.skin
        assert a.morphs is b.morphs
        assert torch.equal(a.mesh.uv, b.mesh.uv)
        assert torch.equal(a.mesh.faces, b.mesh.faces)
        assert torch.allclose(b.mesh.normals.norm(dim=1), torch.ones(len(b.mesh.normals)), atol=1e-4)


def test_stays_whole_and_inside_its_bounds(avatar, red):
    moved = torch.cat([b.mesh.vertices - a.mesh.vertices for a, b in zip(avatar.parts, red[0].parts, strict=True)])
    weld = weld_by_position(torch.cat([part.mesh.vertices for part in avatar.parts]))
    any_of = torch.zeros(int(weld.max()) + 1, 3).index_copy(0, weld, moved)
    assert torch.allclose(moved, any_of[weld], atol=4e-7)
    start, largest = 0, 0.0
    for part in avatar.parts:
        size = moved[start : start + len(part.mesh.vertices)].norm(dim=1).max()
        start += len(part.mesh.vertices)
        bound = 0.0 if part.kind in FIXED else SKIN_REACH if part.kind == "body" else SKIN_REACH + OUTER_REACH
        assert size <= bound + 1e-6, part.name
        largest = max(largest, float(size))
    assert largest > 0.001, "it did move"


def test_lids_and_lips_stay(avatar, scene):
    """What a blink moves most, and both lips where they meet, even under the largest offsets."""
    relief = Relief(scene.parts)
    with torch.no_grad():
        relief.amounts.fill_(9.0)
        moved = relief()[: len(avatar.parts[0].mesh.vertices)].norm(dim=1)
    morphs, points = avatar.parts[0].morphs, avatar.parts[0].mesh.vertices
    blink = morphs.deltas[morphs.names.index("eyeBlinkLeft")].norm(dim=1)
    assert moved[blink > 0.5 * blink.max()].max() < 1e-6
    jaw = morphs.deltas[morphs.names.index("jawOpen")]
    lower = (jaw.norm(dim=1) > 0.6 * jaw.norm(dim=1).max()).nonzero()[:, 0]
    upper = (jaw.norm(dim=1) < 0.1 * jaw.norm(dim=1).max()).nonzero()[:, 0]
    touching = torch.cdist(points[lower], points[upper]).amin(1) < 0.004
    assert touching.sum() > 5
    assert moved[lower[touching]].max() < 1e-6
    assert moved.max() > 0.9 * SKIN_REACH


def test_gradients_and_penalties(scene):
    start = draw(scene, views(scene, 1)).penalties
    assert all(value.item() == 0 for value in start.values())
    moved = AvatarScene(scene.avatar, variants=[], sizes=(16, 64))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in moved.parameters():
            p.copy_(0.1 * torch.randn(p.shape, generator=generator))
    pictures = draw(moved, views(moved, 2), "lambertian")
    assert all(value.item() > 0 for value in pictures.penalties.values())
    pictures.rgb.square().mean().backward()
    assert all(p.grad.abs().sum() > 0 and torch.isfinite(p.grad).all() for p in moved.parameters())


def test_the_relief_has_the_gradient_of_finite_differences(scene):
    """Coverage of the whole body when all of the skin swells."""
    moved = AvatarScene(scene.avatar, variants=[], sizes=(16,))
    camera = views(moved, 1, size=128)

    def cover(amount: float) -> Tensor:
        with torch.no_grad():
            moved.relief.amounts.fill_(amount)
        return draw(moved, camera, "textureless").alpha.mean()

    (slope,) = torch.autograd.grad(cover(0.25), moved.relief.amounts)
    with torch.no_grad():
        expected = float(cover(0.5) - cover(0.0)) / 0.5
    assert float(slope.sum()) > 0.2 * expected > 0


def test_same_generator_same_pictures_and_variants_differ(avatar):
    scene = AvatarScene(avatar, variants=[Variant(expression={"jawOpen": 1.0})], sizes=(16,))
    cameras = views(scene, 1)
    with torch.no_grad():
        pictures = [draw(scene, cameras, "lambertian", seed).rgb for seed in (0, 0, 1, 2, 3, 4)]
        faces = {float(draw(scene, cameras, "albedo", seed).rgb.sum()) for seed in range(6)}
    assert torch.equal(pictures[0], pictures[1])
    assert not torch.equal(pictures[0], pictures[2])
    assert len(faces) == 2


def test_layers_of_kernels_are_those_of_torch(scene):
    camera = views(scene, 1)[0]
    a, b = see_layers(scene.scene, camera, 3), _by_torch(scene.scene, camera, 3)
    assert a.counts == b.counts
    assert (a.face == b.face).float().mean() > 0.995
    assert torch.equal(a.side, b.side)


def test_exports_and_reads_back(red, tmp_path):
    path = tmp_path / "red.glb"
    write_glb(red[0], path, {})
    again = read_avatar(path)
    assert [p.name for p in again.parts] == [p.name for p in red[0].parts]
    for a, b in zip(red[0].parts, again.parts, strict=True):
        assert torch.equal(a.mesh.vertices, b.mesh.vertices)
    texture = again.parts[0].mesh.material.base_color_texture
    difference = texture[..., :3] - red[0].parts[0].mesh.material.base_color_texture
    assert difference.abs().mean() < 0.02, "but for what the file's compression loses"


def test_turned_colors():
    start = torch.rand(50, 3, generator=torch.Generator().manual_seed(0)) * 0.98 + 0.01
    assert torch.allclose(turned(start, torch.zeros(50, 3)), start, atol=1e-5)
    assert torch.allclose(
        turned(start, torch.full((50, 3), 1.3)), turned(start, torch.full((50, 3), 1.3 - torch.pi))
    )


def test_a_tinted_texture_is_painted_in_one(avatar):
    """The material's factor is taken into the texture: any color can be reached."""
    number = next(n for n, part in enumerate(avatar.parts) if part.name == "trousers")
    part = avatar.parts[number]
    painted = Paint(avatar.parts, ("bottom",), (8,)).painted(number, part.mesh)
    assert painted.base_color[:3] == (1.0, 1.0, 1.0)
    blue = painted.base_color_texture.mean((0, 1))
    assert blue[2] > 2 * blue[0]
    assert Paint(avatar.parts, ("hair",), (8,)).painted(number, part.mesh) is part.mesh.material


def test_an_avatar_without_skin_is_refused(avatar):
    with pytest.raises(ReliefError, match="body"):
        Relief([part for part in avatar.parts if part.kind != "body"])
