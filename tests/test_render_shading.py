"""Colors against closed forms: light, energy, blending, gradients."""

import dataclasses
import math

import pytest
import torch
from render_scenes import quad, sphere
from torch import Tensor

from avatar3d.camera import orbit
from avatar3d.render.color import linear_to_srgb, srgb_to_linear, tone_map
from avatar3d.render.lights import Light, Lights, ambient_only, studio_lights
from avatar3d.render.meshes import render_meshes
from avatar3d.render.scene import Scene, compile_scene
from avatar3d.render.shading import Surface, shade
from avatar3d.render.textures import build_atlas, sample_atlas
from avatar3d.structures import Camera, Material

FRONT = orbit([0.0, 0.0, 0.0], 6.0, fov=0.3, width=48, height=48)
DARK = (0.0, 0.0, 0.0)


def grey(level: float, **fields) -> Material:
    """A material whose linear albedo is `level`."""
    srgb = float(linear_to_srgb(torch.tensor(level)))
    return Material(**{"name": "grey", "base_color": (srgb, srgb, srgb, 1.0), "roughness": 1.0, **fields})


def test_srgb_round_trip_and_tone_curve():
    x = torch.linspace(0, 1, 101, dtype=torch.float64)
    assert torch.allclose(srgb_to_linear(linear_to_srgb(x)), x, atol=1e-9)
    assert torch.allclose(tone_map(x[:71]), x[:71])
    light = torch.linspace(0, 20, 2001, dtype=torch.float64)
    assert (tone_map(light) <= 1).all()
    assert (tone_map(light).diff() >= 0).all()


@pytest.mark.parametrize("degrees", [0.0, 30.0, 60.0])
def test_matte_plane_brightness(degrees: float):
    """Diffuse (1 - F0) albedo cos + GGX at roughness 1, where D = 1/pi and the visibility term is elementary."""
    angle = math.radians(degrees)
    light = Light((math.sin(angle), 0.0, math.cos(angle)), (0.8, 0.8, 0.8), angle=0.0)
    render = render_meshes([quad(grey(0.5))], FRONT, Lights((light,), DARK, DARK))
    cosine = math.cos(angle)
    fresnel = 0.04 + 0.96 * (1 - math.cos(angle / 2)) ** 5
    expected = 0.8 * (0.5 * 0.96 * cosine + 0.5 * cosine / (cosine + 1) * fresnel)
    got = srgb_to_linear(render.rgb[24, 24])
    assert got.tolist() == pytest.approx([expected] * 3, rel=5e-3)


def points(count: int, normal: torch.Tensor, roughness: float, albedo: float, metallic: float = 0.0) -> Surface:
    one = torch.ones(count)
    column = normal[:, None].expand(3, count)
    return Surface(
        position=torch.zeros(3, count), normal=column, strand=torch.zeros(3, count),
        albedo=albedo * torch.ones(3, count), alpha=one, occlusion=one, roughness=roughness * one,
        metallic=metallic * one, skin=0 * one, hair=0 * one, enamel=0 * one,
    )  # fmt: skip


@pytest.mark.parametrize("roughness", [0.3, 0.6, 1.0])
@pytest.mark.parametrize("metallic", [0.0, 1.0])
@pytest.mark.parametrize("view_degrees", [0.0, 50.0])
def test_white_surfaces_do_not_make_light(roughness: float, metallic: float, view_degrees: float):
    """White furnace: light from the whole hemisphere gives back at most itself.

    Rough metal gives less, because microfacets reflect once only: 1 - ln 2 at roughness 1 seen from above.
    """
    angle = math.radians(view_degrees)
    eye = 10 * torch.tensor([math.sin(angle), 0.0, math.cos(angle)])
    surface = points(1, torch.tensor([0.0, 0.0, 1.0]), roughness, 1.0, metallic)
    count = 400
    total = 0.0
    for n in range(count):
        height = (n + 0.5) / count
        turn = n * math.pi * (3 - math.sqrt(5))
        flat = math.sqrt(1 - height * height)
        light = Light((flat * math.cos(turn), flat * math.sin(turn), height), (1.0, 1.0, 1.0), angle=0.0)
        color = shade(surface, eye, Lights((light,), DARK, DARK), torch.ones(1, 1))
        # radiance 1 over a solid angle of 2 pi / count is a light of color (2 pi / count) / pi
        total += 2 / count * float(color[0, 0])
    assert 0.3 < total < 1.06
    if roughness == metallic == 1 and view_degrees == 0:
        assert total == pytest.approx(1 - math.log(2), rel=1e-3)
    ambient = shade(surface, eye, ambient_only(1.0), torch.ones(1, 1))
    assert 0.4 < float(ambient.max()) <= 1.001


def test_creases_of_bright_matter_are_brighter():
    """Under direct light as under the sky: a white crease keeps more of its light than a dark one."""
    ahead = torch.tensor([0.0, 0.0, 1.0])
    light = Lights((Light((0.0, 0.0, 1.0), (1.0, 1.0, 1.0), angle=0.5),), DARK, DARK)
    shares = []
    for albedo in (0.9, 0.1):
        surface = points(1, ahead, 1.0, albedo, 0.0)
        crease, open_ = (shade(surface, 10 * ahead, light, torch.full((1, 1), v)) for v in (0.2, 1.0))
        shares.append(float(crease[0, 0] / open_[0, 0]))
    assert shares[0] > 1.3 * shares[1]


def test_teeth_glow_in_the_shade():
    ahead = torch.tensor([0.0, 0.0, 1.0])
    light = Lights((Light((0.0, 0.0, 1.0), (1.0, 1.0, 1.0), angle=0.1, shadow=True),), DARK, DARK)
    plain = points(1, ahead, 1.0, 0.8, 0.0)
    tooth = dataclasses.replace(plain, enamel=torch.ones(1))
    shaded, lit = torch.tensor([[1.0], [0.0]]), torch.ones(2, 1)
    assert float(shade(plain, 10 * ahead, light, shaded).max()) == 0
    in_shade, in_light = (float(shade(tooth, 10 * ahead, light, v)[0, 0]) for v in (shaded, lit))
    assert 0.2 * in_light < in_shade < 0.6 * in_light
    assert in_light == pytest.approx(float(shade(plain, 10 * ahead, light, lit)[0, 0]))


def test_colors_stay_what_the_material_says():
    """Under studio lights a red ball is red, and white paint is near white without clipping."""
    red = Material("red", base_color=(0.9, 0.05, 0.05, 1.0))
    ball = render_meshes([sphere(red)], FRONT).rgb[20, 20]
    assert ball[0] > 0.7
    assert ball[1] < 0.35 * ball[0]
    assert ball[2] < 0.35 * ball[0]
    white = Material("shirt", base_color=(0.95, 0.95, 0.95, 1.0))
    shirt = render_meshes([quad(white)], FRONT).rgb[24, 24]
    assert float(shirt.min()) > 0.85
    assert float(shirt.max()) < 0.995


def test_key_light_casts_a_shadow():
    light = Light((0.0, 0.0, 1.0), (0.6, 0.6, 0.6), angle=0.02, shadow=True)
    camera = orbit([0.0, 0.0, 0.0], 8.0, 0.6, 0.0, fov=0.4, width=96, height=96)
    meshes = [quad(grey(0.5), z=-1.0, half=1.5, label=1), quad(grey(0.5), z=0.5, half=0.4, label=2)]
    dark, lit = (
        render_meshes(meshes, camera, Lights((light,), DARK, DARK), shadows=on, occlusion=False)
        for on in (True, False)
    )
    share_lit = srgb_to_linear(dark.rgb[..., 1]) / srgb_to_linear(lit.rgb[..., 1]).clamp_min(1e-6)
    wall = lit.labels == 1
    # along the light the blocker covers (0.4 / 1.5)^2 of the wall, and it hides some of the rest from the camera
    shadow = float((share_lit[wall] < 0.5).sum())
    assert shadow / float((lit.labels > 0).sum()) == pytest.approx(0.4**2 / 1.5**2, rel=0.2)
    front = (lit.labels == 2) & (torch.nn.functional.max_pool2d((lit.labels != 2).float()[None], 5, 1, 2)[0] == 0)
    assert torch.allclose(lit.rgb[front], dark.rgb[front], atol=1e-3)


def test_creases_are_darker():
    """Where a wall meets a floor less sky is seen than on the open floor."""
    wall = quad(grey(0.6), half=1.0)
    lying = dataclasses.replace(
        wall.mesh,
        vertices=wall.mesh.vertices[:, [0, 2, 1]] * torch.tensor([1.0, 1.0, -1.0])
        + torch.tensor([0.0, -1.0, 1.0]),
        normals=wall.mesh.normals[:, [0, 2, 1]],
    )
    meshes = [wall, dataclasses.replace(wall, mesh=lying, label=2)]
    camera = orbit([0.0, -1.0, 0.0], 8.0, 0.0, 0.6, fov=0.06, width=128, height=128)
    with_it, without = (render_meshes(meshes, camera, ambient_only(0.8), occlusion=on) for on in (True, False))
    loss = (without.rgb - with_it.rgb).mean(-1)[:, 64]
    crease = int((with_it.labels[:, 64] == 2).nonzero()[0, 0])
    assert (loss[crease - 2 : crease + 2] > 0.06).all()
    assert loss[crease + 25 : crease + 40].abs().max() < 0.02
    assert loss[crease - 40 : crease - 25].abs().max() < 0.02


def test_blend_order_and_closed_form():
    front = Material("red", base_color=(0.9, 0.1, 0.1, 0.5), alpha_mode="BLEND")
    back = Material("blue", base_color=(0.1, 0.1, 0.9, 0.25), alpha_mode="BLEND")
    lights = ambient_only(0.6)

    def alone(material: Material) -> torch.Tensor:
        solid = dataclasses.replace(material, alpha_mode="OPAQUE")
        return srgb_to_linear(render_meshes([quad(solid)], FRONT, lights).rgb[24, 24])

    scene = [quad(back, z=-0.5), quad(front, z=0.5)]
    for order in (scene, scene[::-1]):
        render = render_meshes(order, FRONT, lights, background=(1.0, 1.0, 1.0))
        expected = 0.5 * alone(front) + 0.5 * (0.25 * alone(back) + 0.75)
        assert torch.allclose(srgb_to_linear(render.rgb[24, 24]), expected, atol=2e-3)
        assert render.alpha[24, 24].item() == pytest.approx(1 - 0.5 * 0.75, abs=1e-5)


def test_blended_surfaces_behind_opaque_ones_are_hidden():
    glass = Material("glass", base_color=(0.1, 0.1, 0.9, 0.5), alpha_mode="BLEND")
    wall = quad(grey(0.5), z=0.0)
    plain = render_meshes([wall], FRONT).rgb
    assert torch.equal(render_meshes([wall, quad(glass, z=-1.0, half=0.5)], FRONT).rgb, plain)
    assert not torch.allclose(render_meshes([wall, quad(glass, z=1.0, half=0.5)], FRONT).rgb, plain)


def test_transparent_background_composes_to_the_colored_one():
    ball = compile_scene([sphere(grey(0.4), radius=0.6, rings=24)])
    clear = render_meshes(ball, FRONT, background=None)
    over = render_meshes(ball, FRONT, background=(0.2, 0.5, 0.8))
    behind = srgb_to_linear(torch.tensor([0.2, 0.5, 0.8]))
    alpha = clear.alpha[..., None]
    composed = linear_to_srgb(srgb_to_linear(clear.rgb) * alpha + (1 - alpha) * behind)
    assert torch.allclose(composed, over.rgb, atol=1e-4)
    assert torch.equal(clear.alpha, over.alpha)
    assert ((clear.alpha > 0) & (clear.alpha < 1)).any()


def test_gradient_with_respect_to_the_texture():
    texture = torch.rand(4, 4, 3, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.2

    def brightness(t: torch.Tensor) -> torch.Tensor:
        ball = sphere(Material("paint", base_color_texture=t, roughness=0.5), radius=0.7, rings=16)
        return render_meshes([ball], FRONT).rgb.double().mean()

    texture.requires_grad_(True)
    brightness(texture).backward()
    assert texture.grad is not None
    step = 2e-2
    for row, column, channel in ((0, 0, 0), (1, 2, 1), (2, 1, 2), (3, 3, 0)):
        with torch.no_grad():
            high, low = texture.clone(), texture.clone()
            high[row, column, channel] += step
            low[row, column, channel] -= step
            numeric = float(brightness(high) - brightness(low)) / (2 * step)
        assert texture.grad[row, column, channel].item() == pytest.approx(numeric, rel=0.03, abs=1e-6)


def test_gradient_with_respect_to_vertices_and_normals():
    """Moving a textured quad sideways moves its texture: compare with finite differences inside it."""
    ramp = torch.linspace(0.2, 0.8, 32)[None, :, None].expand(32, 32, 3)
    item = quad(Material("ramp", base_color_texture=ramp.contiguous()), half=2.0)

    def center(vertices: torch.Tensor, normals: torch.Tensor) -> torch.Tensor:
        mesh = dataclasses.replace(item.mesh, vertices=vertices, normals=normals)
        moved = dataclasses.replace(item, mesh=mesh)
        picture = render_meshes([moved], FRONT, shadows=False, occlusion=False).rgb
        return picture[16:32, 16:32].double().mean()

    shift = torch.zeros(3, requires_grad=True)
    tilt = torch.zeros(3, requires_grad=True)
    center(item.mesh.vertices + shift, item.mesh.normals + tilt).backward()
    assert shift.grad is not None
    assert tilt.grad is not None
    step = 0.05
    for grad, axis, which in ((shift.grad, 0, "vertices"), (tilt.grad, 0, "normals"), (tilt.grad, 1, "normals")):
        offset = torch.zeros(3)
        offset[axis] = step
        values = []
        for sign in (1, -1):
            v = item.mesh.vertices + (sign * offset if which == "vertices" else 0)
            n = item.mesh.normals + (sign * offset if which == "normals" else 0)
            values.append(float(center(v, n)))
        numeric = (values[0] - values[1]) / (2 * step)
        assert abs(numeric) > 1e-3
        assert grad[axis].item() == pytest.approx(numeric, rel=0.05)


def test_normal_map_green_points_up():
    """A bump map that tilts normals up makes a wall brighter under light from above."""
    light = Lights((Light((0.0, 1.0, 0.0), (1.0, 1.0, 1.0)),), DARK, DARK)
    up = torch.tensor([0.5, 0.5 + 0.5 * 0.6, 0.5 + 0.5 * 0.8]).expand(2, 2, 3).contiguous()
    tilted = render_meshes([quad(grey(0.5, normal_texture=up))], FRONT, light).rgb[24, 24]
    expected = 0.5 * 0.96 * 0.6
    assert float(srgb_to_linear(tilted)[0]) == pytest.approx(expected, rel=0.1)
    assert float(render_meshes([quad(grey(0.5))], FRONT, light).rgb[24, 24].max()) < 0.05


def test_studio_follows_the_camera_only_when_asked():
    ball = [sphere(grey(0.5), rings=24)]
    pictures = []
    for azimuth in (0.0, 1.3):
        camera = orbit([0.0, 0.0, 0.0], 6.0, azimuth, fov=0.3, width=48, height=48)
        pictures.append((render_meshes(ball, camera).rgb, render_meshes(ball, camera, studio_lights()).rgb))
    assert (pictures[0][0] - pictures[1][0]).abs().mean() < 0.01
    assert (pictures[0][1] - pictures[1][1]).abs().mean() > 0.02


def test_texture_look_up_equals_slow_bilinear_with_wrapping():
    generator = torch.Generator().manual_seed(1)
    textures = [torch.rand(3, 5, 2, generator=generator), torch.rand(4, 4, 2, generator=generator)]
    atlas = build_atlas(textures)
    uv = torch.rand(40, 2, generator=generator) * 4 - 2
    for index, texture in enumerate(textures):
        height, width, _ = texture.shape
        got = sample_atlas(atlas.texels, atlas.levels[index, 0].expand(40, 3), uv)
        for n in range(40):
            x, y = float(uv[n, 0]) * width - 0.5, float(uv[n, 1]) * height - 0.5
            value = torch.zeros(2)
            for row in (math.floor(y), math.floor(y) + 1):
                for column in (math.floor(x), math.floor(x) + 1):
                    weight = (1 - abs(x - column)) * (1 - abs(y - row))
                    value += weight * texture[row % height, column % width]
            assert torch.allclose(got[n], value, atol=1e-5)


def test_clear_texels_do_not_tint_smaller_levels():
    texture = torch.tensor([0.0, 1.0, 0.0, 0.0]).expand(8, 8, 4).clone()
    texture[:, ::2] = torch.tensor([1.0, 0.0, 0.0, 1.0])
    atlas = build_atlas([texture])
    offset, width, height = atlas.levels[0, 2].tolist()
    level = atlas.texels[offset : offset + width * height]
    assert torch.allclose(level, torch.tensor([1.0, 0.0, 0.0, 0.5]).expand_as(level), atol=1e-3)


def test_nothing_to_draw_is_an_error():
    with pytest.raises(ValueError, match="nothing to render"):
        render_meshes([], FRONT)
    with pytest.raises(ValueError, match="alpha mode"):
        render_meshes([quad(Material("odd", alpha_mode="GLOW"))], FRONT)


def drawn_twice(scene, camera: Camera, monkeypatch: pytest.MonkeyPatch, **options) -> tuple[Tensor, Tensor]:
    """The same picture by the fused kernels and by torch."""
    fused = render_meshes(scene, camera, **options).rgb
    with monkeypatch.context() as patch:
        patch.setattr("avatar3d.render.meshes.uses_kernels", lambda scene: False)
        plain = render_meshes(scene, camera, **options).rgb
    assert not torch.equal(fused, plain)
    return fused, plain


def many_materials(glass: bool) -> Scene:
    """Skin, hair, metal, glass, all textures."""
    generator = torch.Generator().manual_seed(0)

    def texture(channels: int) -> Tensor:
        return torch.rand(16, 8, channels, generator=generator)

    bumps = torch.tensor([0.5, 0.5, 1.0]) + (texture(3) - 0.5) * torch.tensor([0.4, 0.4, 0.0])
    meshes = [
        sphere(Material("skin", base_color_texture=texture(3), normal_texture=bumps), (-0.6, 0.3, 0.0), 0.5),
        sphere(Material("hair", base_color_texture=texture(4), roughness=0.4), (0.6, 0.3, 0.1), 0.5),
        sphere(Material("metal", orm_texture=texture(3), metallic=1.0, roughness=0.9), (0.0, -0.5, 0.0), 0.5),
        quad(Material("wall", double_sided=True), z=-0.8, half=1.2),
    ]
    if glass:
        clear = Material("glass", (0.2, 0.3, 0.9, 0.4), texture(4), alpha_mode="BLEND")
        meshes.append(sphere(clear, (0.0, 0.1, 0.6), 0.4))
    return compile_scene(meshes)


def test_fused_kernels_equal_torch(monkeypatch: pytest.MonkeyPatch):
    """With one sample per pixel they do the same; blended surfaces without shadows, since torch lets some cast."""
    camera = orbit([0.0, 0.0, 0.0], 6.0, 0.3, 0.2, fov=0.4, width=64, height=64)
    for glass in (False, True):
        options = {"samples": 1, "shadows": not glass, "occlusion": not glass}
        fused, plain = drawn_twice(many_materials(glass), camera, monkeypatch, **options)
        assert (fused - plain).abs().mean() < 1e-4
        assert ((fused - plain).abs() > 4e-3).float().mean() < 0.01  # taps that round to another pixel


def test_lighting_samples_together_changes_little(monkeypatch: pytest.MonkeyPatch):
    camera = orbit([0.0, 0.0, 0.0], 6.0, 0.3, 0.2, fov=0.4, width=128, height=128)
    fused, plain = drawn_twice(many_materials(True), camera, monkeypatch, background=(0.2, 0.4, 0.6))
    assert (fused - plain).abs().mean() < 4e-3
    assert ((fused - plain).abs() > 0.05).float().mean() < 0.01
