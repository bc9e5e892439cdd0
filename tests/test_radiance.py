"""Radiance fields and their renderer: closed forms, slow references, gradients, and what changes nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from avatar3d.camera import orbit, project
from avatar3d.fields.background import Background
from avatar3d.fields.blob import cone_blob, gaussian_blob
from avatar3d.fields.decoder import Decoder, DecoderConfig, TriPlaneField
from avatar3d.fields.density import laplace_density
from avatar3d.fields.hash_grid import HashConfig, HashField
from avatar3d.fields.mlp import MlpConfig, MlpField, integrated_encoding
from avatar3d.fields.plane_field import PlaneConfig, PlaneField
from avatar3d.fields.radiance import RadianceSample
from avatar3d.fields.slopes import analytic_slope
from avatar3d.fields.voxels import VoxelConfig, VoxelField, look_up, look_up_torch
from avatar3d.mesh.extract import extract
from avatar3d.mesh.textured import Meshing, textured_mesh
from avatar3d.render.occupancy import Occupancy, filled_span, occupancy, wanted_nodes
from avatar3d.render.radiance import (
    Shading,
    even_edges,
    finer_edges,
    light_shares,
    lit,
    render_radiance,
    render_views,
)
from avatar3d.render.radiance_surface import best_level, radiance_surface, surface_density
from avatar3d.render.rays import FieldError, Rays, box_span, camera_rays
from avatar3d.render.regularize import (
    binary_entropy,
    distortion,
    opacity,
    orientation,
    smoothness,
    total_variation,
)
from avatar3d.structures import TriPlane

BOX = torch.tensor([[-1.0, -1, -1], [1, 1, 1]])
FOV = math.radians(40)


def view(azimuth=0.3, size=24, elevation=0.2):
    return orbit((0.0, 0.0, 0.0), 4.0, azimuth, elevation, FOV, size, size)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@dataclass(frozen=True)
class Ball:
    """A ball of one density, or one that fades over `soft`."""

    radius: float = 0.6
    density: float = 3.0
    soft: float = 0.0
    bounds: torch.Tensor = BOX

    def __call__(self, points):
        depth = self.radius - points.norm(dim=-1)
        share = torch.sigmoid(depth / self.soft) if self.soft else (depth > 0).to(depth)
        return RadianceSample(self.density * share, 0.5 + 0.4 * torch.sin(5 * points))


@dataclass(frozen=True)
class Fog:
    """One density everywhere in the box."""

    density: float
    bounds: torch.Tensor = BOX

    def __call__(self, points):
        return RadianceSample(torch.full_like(points[:, 0], self.density), torch.full_like(points, 0.25))


def small_fields():
    """One field of each kind with something to see in it."""
    g = seeded(1)
    voxels = VoxelField(VoxelConfig(8, "gaussian", density=-1.0))
    with torch.no_grad():
        voxels.grid += 0.1 * torch.randn(voxels.grid.shape, generator=g)
    hashed = HashField(HashConfig(levels=4, rows=1 << 10, finest=32, width=8), generator=g)
    with torch.no_grad():
        hashed.table.mul_(3000)
    planes = PlaneField(PlaneConfig(8, DecoderConfig(4, 8), softness=0.1), generator=g)
    return {"voxels": voxels, "hash": hashed, "planes": planes, "mlp": MlpField(MlpConfig(16, 2, 3), generator=g)}


FIELDS = tuple(small_fields())


@pytest.mark.parametrize("jitter", [False, True])
@pytest.mark.parametrize("importance", [0, 5])
def test_fog_follows_beer_and_lambert(jitter, importance):
    """1 - exp(-sigma L) of the light stops in a box of one density, wherever the nodes are."""
    camera, fog = view(), Fog(0.7)
    rays, _ = camera_rays(camera, BOX)
    enter, leave = box_span(rays, BOX)
    expected = 1 - torch.exp(-0.7 * (leave - enter).clamp_min(0))
    views = render_views(fog, [camera], 7, importance, seeded() if jitter else None, (1.0, 0.0, 0.0))
    assert torch.allclose(views.alpha.flatten(), expected, atol=1e-5) and float(expected.max()) > 0.7
    color = 0.25 * expected[:, None] + (1 - expected)[:, None] * torch.tensor([1.0, 0, 0])
    assert torch.allclose(views.rgb[0].flatten(1).T, color, atol=1e-5)


def test_a_ball_stops_what_its_chords_say():
    camera, ball = view(size=32), Ball(0.6, 3.0)
    rays, _ = camera_rays(camera, BOX)
    near = rays.origins.square().sum(-1) - (rays.origins * rays.directions).sum(-1).square()
    chord = 2 * (0.36 - near).clamp_min(0).sqrt()
    views = render_views(ball, [camera], 400)
    assert float((views.alpha.flatten() - (1 - torch.exp(-3 * chord))).abs().max()) < 0.03


def test_the_optical_depth_is_right_on_average():
    """Random nodes in four bins; middles alone are off."""
    ball, camera = Ball(0.6, 2.0, 0.1), view(size=5)

    def depth(views, nodes, generator=None):
        return -torch.log1p(-render_views(ball, [camera] * views, nodes, generator=generator).alpha).mean(0)

    truth = depth(1, 500)
    assert float((depth(2000, 3, seeded(3)) - truth).abs().max()) < 0.06
    assert float((depth(1, 3) - truth).abs().max()) > 0.12


def test_pictures_equal_a_slow_reference():
    """NumPy loops over rays and bins: colors, depth, alpha, and the orientation sum."""
    field, camera = Ball(0.7, 4.0, 0.1), view(size=6)
    shading = Shading(torch.tensor([1.0, 2.0, 3.0]), 0.2, 0.7)
    views = render_views(field, [camera], 20, background=(0.1, 0.2, 0.3), shading=shading)
    eye = camera.T_world_camera[:3, 3].double().numpy()
    axis = camera.T_world_camera[:3, 2].double().numpy()
    rays, _ = camera_rays(camera, BOX)
    enter, leave = (t.double().numpy() for t in box_span(rays, BOX))
    for n, ahead in enumerate(rays.directions.double().numpy()):
        left, color, mean, facing = 1.0, np.zeros(3), 0.0, 0.0
        width = max(0.0, leave[n] - enter[n]) / 20
        for k in range(20):
            t = enter[n] + (k + 0.5) * width
            p = eye + t * ahead
            sample = field(torch.from_numpy(p)[None])
            stop = left * (1 - math.exp(-float(sample.density) * width))
            left -= stop
            normal = p / np.linalg.norm(p) if stop > 1e-3 else np.zeros(3)
            lamp = np.array([1.0, 2, 3]) - p
            shade = 0.2 + 0.7 * max(0.0, normal @ lamp / np.linalg.norm(lamp))
            color += stop * shade * sample.rgb[0].numpy()
            mean += stop * t
            facing += stop * max(0.0, normal @ ahead) ** 2
        row, column = divmod(n, 6)
        assert float(views.alpha[0, row, column]) == pytest.approx(1 - left, abs=2e-4)
        expected = color + left * np.array([0.1, 0.2, 0.3])
        assert np.allclose(views.rgb[0, :, row, column].detach().numpy(), expected, atol=2e-3)
        assert float(views.facing[0, row, column]) == pytest.approx(facing, abs=1e-3)
        if 1 - left > 0.01:
            z = mean / (1 - left) * (ahead @ axis)
            assert float(views.depth[0, row, column]) == pytest.approx(z, rel=1e-3)


@pytest.mark.parametrize("name", FIELDS)
def test_slopes_of_pictures_are_their_differences(name):
    """Along a random direction of all parameters of each field, in double precision."""
    field = small_fields()[name].double()
    camera = view(size=5)

    def loss():
        views = render_views(field, [camera], 9, background=(0.3, 0.5, 0.7))
        return (views.rgb * torch.linspace(-1, 1, 75).double().view(1, 3, 5, 5)).sum() + views.depth.mean()

    loss().backward()
    generator, step = seeded(5), 1e-6
    slope, moves = 0.0, []
    for p in field.parameters():
        move = torch.randn(p.shape, generator=generator).double()
        slope += float((p.grad * move).sum())
        moves.append(move)
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            for p, move in zip(field.parameters(), moves, strict=True):
                p.add_(sign * step * move)
            values.append(float(loss()))
            for p, move in zip(field.parameters(), moves, strict=True):
                p.sub_(sign * step * move)
    assert abs(slope) > 1e-3
    assert (values[0] - values[1]) / (2 * step) == pytest.approx(slope, rel=2e-3)


@pytest.mark.parametrize("name", FIELDS)
def test_slopes_along_space_exist(name):
    """Density and color change with positions as their derivatives say, in single precision too."""
    field = small_fields()[name]
    points = 0.6 * (2 * torch.rand(40, 3, generator=seeded(2)) - 1)
    points.requires_grad_(True)
    sample = field(points)
    (sample.density.sum() + sample.rgb.sum()).backward()
    assert bool(torch.isfinite(points.grad).all())
    field = field.double()
    at, step = points.detach().double(), 1e-5
    for axis in range(3):
        move = torch.zeros(3).double()
        move[axis] = step
        ahead, back = field(at + move), field(at - move)
        change = (ahead.density - back.density + (ahead.rgb - back.rgb).sum(-1)) / (2 * step)
        error = (change - points.grad[:, axis]).abs() / (1 + change.abs())
        assert float(error.detach().median()) < 1e-3 and float(error.detach().quantile(0.9)) < 0.02


@pytest.mark.parametrize("name", FIELDS)
def test_normals_point_out_of_the_blob_and_carry_gradients(name):
    """Shading depends on the field through its normals alone when there is no texture."""
    field = small_fields()[name] if name != "hash" else HashField(HashConfig(levels=4, finest=32))
    shading = Shading(torch.tensor([0.0, 0.0, 4.0]), 0.0, 1.0, textureless=True)
    views = render_views(field, [view(0.0, 16, 0.0)], 32, background=(0.0, 0.0, 0.0), shading=shading)
    views.rgb.sum().backward()
    assert all(p.grad is None or bool(torch.isfinite(p.grad).all()) for p in field.parameters())
    middle = views.normal.detach()[0, :, 7:9, 7:9].mean((1, 2))
    assert float(middle[2]) > 0.7 * float(middle.norm()) > 0.05


def test_voxels_look_up_is_grid_sample():
    g = seeded(4)
    for dtype in (torch.float32, torch.float64):
        grid = torch.randn(5, 6, 7, 4, generator=g, dtype=dtype, requires_grad=True)
        points = (2.4 * torch.rand(300, 3, generator=g, dtype=dtype) - 1.2).requires_grad_(True)
        weight = torch.randn(300, 4, generator=g, dtype=dtype)
        results = []
        for function in (look_up, look_up_torch):
            out = function(grid, points)
            results.append((out.detach(), *torch.autograd.grad((out * weight).sum(), (grid, points))))
        inside = (points.abs() < 1).all(-1)
        for n, (a, b) in enumerate(zip(*results, strict=True)):
            assert torch.allclose(a[inside] if n == 2 else a, b[inside] if n == 2 else b, atol=1e-4)


def test_upsampled_voxels_are_the_same_field():
    field = small_fields()["voxels"]
    finer = field.upsampled(15)
    points = 2 * torch.rand(200, 3, generator=seeded(1)) - 1
    for a, b in zip(vars(field(points)).values(), vars(finer(points)).values(), strict=True):
        assert torch.allclose(a, b, atol=2e-5)


def test_a_plane_field_of_a_cascade_is_its_tri_plane():
    torch.manual_seed(0)
    decoder = Decoder(DecoderConfig(4, 8))
    triplane = TriPlane(torch.randn(3, 4, 8, 8), torch.tensor([[-0.2, 1.3, -0.2], [0.2, 1.7, 0.2]]), "test")
    field = PlaneField.of_triplane(triplane, decoder, softness=0.01)
    points = torch.rand(50, 3, generator=seeded()) * 0.4 + torch.tensor([-0.2, 1.3, -0.2])
    truth = TriPlaneField(triplane, decoder)(points)
    found = field(points)
    assert torch.allclose(found.rgb, truth.rgb, atol=1e-5)
    assert torch.allclose(found.density, laplace_density(truth.distance, 0.01 * 0.2), rtol=1e-3, atol=1e-2)


def test_blobs():
    points = torch.tensor([[0.0, 0, 0], [0.2, 0, 0], [0, 0.5, 0], [0, 0, 1.0]])
    assert torch.allclose(gaussian_blob(points), 5 * torch.exp(-torch.tensor([0.0, 0.5, 3.125, 12.5])))
    assert torch.allclose(cone_blob(points), torch.tensor([10.0, 6.0, 0.0, -10.0]))


def test_integrated_encoding_is_a_mean_over_normal_places():
    generator = seeded(8)
    at, variance = torch.tensor([[0.3, -0.2, 0.9]]), 0.04
    places = at + math.sqrt(variance) * torch.randn(200000, 3, generator=generator)
    mean = integrated_encoding(places, 0.0, 3).mean(0)
    assert torch.allclose(integrated_encoding(at, variance, 3)[0], mean, atol=0.01)


def test_annealing_turns_on_bands():
    hashed = HashField(HashConfig(levels=4, first=0.5))
    assert hashed.open.tolist() == [1, 1, 0, 0]
    hashed.anneal(0.25)
    assert hashed.open.tolist() == [1, 1, 1, 0]
    hashed.anneal(0.6)
    assert hashed.open.tolist() == [1, 1, 1, 1]
    network = MlpField(MlpConfig(8, 1))
    assert float(network.covariance) == pytest.approx(5e-2)
    network.anneal(1.0)
    assert float(network.covariance) == pytest.approx(2e-3)


def test_what_is_annealed_stays_so_in_another_stage():
    """Also after it went through a file: a second stage begins with all that the first has learned."""
    hashed, network = HashField(HashConfig(levels=4)), MlpField(MlpConfig(8, 1))
    for field in (hashed, network):
        field.anneal(1.0)
    again = HashField(HashConfig(levels=4))
    again.load_state_dict(hashed.state_dict())
    for field in (hashed, again):
        field.anneal(0.0)
        assert field.open.tolist() == [1, 1, 1, 1]
    network.anneal(0.0)
    assert float(network.covariance) == pytest.approx(2e-3)


def test_a_level_of_the_hash_grid_is_linear_between_vertices():
    field = HashField(HashConfig(levels=2, coarsest=4, finest=64, rows=1 << 12, first=1.0), generator=seeded())
    ends = torch.tensor([[1.0, 2, 3], [2, 2, 3]]) / 4
    middle = field.features(0.25 * ends[:1] + 0.75 * ends[1:])[0, :2]
    found = field.features(ends)[:, :2]
    assert torch.allclose(middle, 0.25 * found[0] + 0.75 * found[1], atol=1e-8)
    assert float(found.abs().max()) > 1e-5


def test_the_occupancy_changes_nothing_that_is_seen():
    field = VoxelField(VoxelConfig(24, "cone"))
    cameras = [view(0.3, 32), view(2.0, 32)]
    grid = occupancy(field, 16)
    assert 0.05 < float(grid.filled.float().mean()) < 0.5
    dense, quick = (render_views(field, cameras, 300, grid=g, normals=True) for g in (None, grid))
    for name in ("rgb", "alpha"):
        assert float((getattr(dense, name) - getattr(quick, name)).abs().max()) < 0.012
    assert float((dense.normal - quick.normal).abs().mean()) < 2e-3
    with torch.no_grad():
        field.grid[..., 0] *= 20
    hard = occupancy(field, 16)
    assert float(hard.least.max()) > 40
    dense, quick = (render_views(field, cameras, 300, grid=g) for g in (None, hard))
    assert float((dense.rgb - quick.rgb).abs().mean()) < 2e-3


def test_both_ways_through_the_occupancy_agree():
    generator = seeded(6)
    filled = torch.rand(8, 8, 8, generator=generator) < 0.05
    least = torch.rand(8, 8, 8, generator=generator) * 6
    rays, _ = camera_rays(view(size=24), BOX)
    spans, marks = [], []
    for dtype in (torch.float32, torch.float64):
        grid = Occupancy(filled, least.to(dtype), BOX.to(dtype))
        own = Rays(rays.origins.to(dtype), rays.directions.to(dtype))
        near, far = filled_span(own, grid.bounds, grid)
        spans.append(torch.stack([near, far]).float())
        edges = even_edges(near, far, 20)
        marks.append(wanted_nodes(own, 0.5 * (edges[:, 1:] + edges[:, :-1]), edges.diff(dim=1), grid))
    same = (spans[0] - spans[1]).abs().amax(0) < 1e-4
    assert float(same.float().mean()) > 0.99
    assert float((marks[0] == marks[1])[same].float().mean()) > 0.999
    assert bool(marks[0].any()) and not bool(marks[0].all())


def test_a_share_of_empty_cells_is_filled():
    grid = occupancy(Fog(0.0), 16, seeded(), share=0.25)
    assert float(grid.filled.float().mean()) == pytest.approx(0.25, abs=0.02)
    assert not occupancy(Fog(0.0), 16).filled.any() and occupancy(Fog(1.0), 16).filled.all()


def test_views_together_are_views_alone():
    field, cameras = small_fields()["voxels"], [view(0.0, 12), view(1.0, 12), view(2.5, 12)]
    lights = torch.tensor([[1.0, 0, 3], [0, 2, 0], [-3, 0, 1]])
    together = render_views(field, cameras, 16, shading=Shading(lights))
    for n, camera in enumerate(cameras):
        alone = render_views(field, [camera], 16, shading=Shading(lights[n]))
        for name, value in vars(together).items():
            assert torch.allclose(value[n], getattr(alone, name)[0], atol=1e-6), name
    with pytest.raises(FieldError, match="same width"):
        render_views(field, [view(size=8), view(size=9)], 4)


def test_chunks_change_nothing_not_even_gradients():
    results = []
    for memory in (1 << 30, 1):
        field = small_fields()["voxels"]
        views = render_views(field, [view(size=20)], 12, 4, seeded(2), memory=memory)
        views.rgb.square().sum().backward()
        results.append((views.rgb.detach(), field.grid.grad))
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(*results, strict=True))


def test_the_generator_decides():
    field, camera = small_fields()["voxels"], view(size=8)
    first, again, other = (render_views(field, [camera], 8, 4, seeded(s)).rgb for s in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_shading_is_the_equation():
    albedo = torch.tensor([[0.5, 0.4, 0.2]]).repeat(3, 1)
    normal = torch.tensor([[0.0, 0, 1]]).repeat(3, 1)
    lamp = torch.tensor([[0.0, 0, 2], [0, 3, 3], [0, 0, -1]])
    cosine = torch.tensor([1.0, math.sqrt(0.5), 0.0])[:, None]
    shading = Shading(torch.zeros(3), 0.1, 0.9)
    assert torch.allclose(lit(albedo, normal, lamp, shading), albedo * (0.1 + 0.9 * cosine))
    white = Shading(torch.zeros(3), 0.1, 0.9, textureless=True)
    assert torch.allclose(lit(albedo, normal, lamp, white), (0.1 + 0.9 * cosine).expand(3, 3))


def test_importance_sends_bins_to_the_light():
    edges = even_edges(torch.zeros(2), torch.ones(2), 10)
    weights = torch.zeros(2, 10)
    weights[0, 3], weights[1, :] = 0.9, 0.05
    finer = finer_edges(edges, weights, 20)
    assert finer.shape == (2, 31) and bool((finer.diff(dim=1) >= 0).all())
    inside = ((finer > 0.3) & (finer < 0.4)).sum(1)
    assert int(inside[0]) > 15 and int(inside[1]) == pytest.approx(2, abs=1)
    hard, camera = Ball(0.6, 200.0), view(size=24)
    truth = render_views(hard, [camera], 1000).depth
    error = [(render_views(hard, [camera], 24, more).depth - truth).abs().mean() for more in (0, 48)]
    assert float(error[1]) < 0.4 * float(error[0])


def test_backgrounds():
    g = seeded(1)
    network, camera = Background(g), view(size=6)
    views = render_views(Fog(0.0), [camera, view(1.0, 6)], 4, background=network)
    rays, _ = camera_rays(camera, BOX)
    assert torch.allclose(views.rgb[0].flatten(1).T, network(rays.directions), atol=1e-6)
    picture = torch.rand(6, 6, 3, generator=g)
    assert torch.allclose(render_radiance(Fog(0.0), camera, 4, background=picture).rgb, picture)


def test_a_picture_to_look_at():
    camera = view(0.5, 32)
    render = render_radiance(Ball(0.6, 200.0, 0.005), camera, 128, 64)
    rays, per_metre = camera_rays(camera, BOX)
    hit = render.labels.bool()
    points = rays.at((render.depth.flatten() / per_metre).nan_to_num(0, 0, 0))[hit.flatten()]
    assert float((points.norm(dim=-1) - 0.6).abs().median()) < 0.01
    normals = render.normal[hit]
    assert float((normals - torch.nn.functional.normalize(points, dim=-1)).norm(dim=-1).median()) < 0.05
    assert bool(torch.isinf(render.depth[~hit]).all()) and not bool(render.normal[~hit].any())


def test_regularisers_closed_forms():
    alpha = torch.tensor([0.0, 0.5, 1.0])
    assert float(opacity(alpha)) == pytest.approx((0.1 + math.sqrt(0.26) + math.sqrt(1.01)) / 3)
    assert float(binary_entropy(alpha)) == pytest.approx(1 / 3, abs=2e-4)
    assert float(orientation(torch.tensor([0.0, 0.5]))) == 0.25
    grid = torch.arange(5.0)[:, None, None, None].expand(5, 4, 3, 2)
    assert float(total_variation(grid, (0, 1, 2))) == 1.0
    ramp = torch.arange(6.0).expand(1, 1, 4, 6)
    assert float(smoothness(ramp, torch.ones(1, 4, 6))) == pytest.approx(1.0)
    assert float(smoothness(ramp, torch.zeros(1, 4, 6))) == 0


def test_distortion_is_the_double_sum():
    g = seeded(9)
    weights = torch.rand(3, 8, generator=g).double()
    edges = torch.rand(3, 9, generator=g).double().sort(-1).values
    middle = 0.5 * (edges[:, 1:] + edges[:, :-1])
    pairs = weights[:, :, None] * weights[:, None] * (middle[:, :, None] - middle[:, None]).abs()
    expected = pairs.sum((1, 2)) + (weights**2 * edges.diff(dim=1)).sum(1) / 3
    assert float(distortion(weights, edges)) == pytest.approx(float(expected.mean()))


def test_light_shares_are_shares():
    density = torch.tensor([[0.0, 1.0, 1e4, 5.0]])
    weights = light_shares(density, torch.full((1, 4), 0.5))
    assert torch.allclose(weights, torch.tensor([[0.0, 1 - math.exp(-0.5), math.exp(-0.5), 0.0]]))


def outline_radius(density, soft, radius=0.6):
    """Distance from a ball's middle at which rays lose half of their light: bisection of a fine sum."""
    along = torch.linspace(-2, 2, 20001).double()
    low, high = 0.0, 1.5
    for _ in range(40):
        middle = 0.5 * (low + high)
        depth = radius - torch.hypot(along, torch.tensor(middle).double())
        share = torch.sigmoid(depth / soft) if soft else (depth > 0).double()
        low, high = (middle, high) if float(density * share.sum() * 2e-4) > math.log(2) else (low, middle)
    return low


@pytest.mark.parametrize(
    ("density", "soft"),
    [
        (8.0, 0.0),
        (8.0, 0.02),
        (100.0, 0.0),
        (400.0, 0.01),
        (100.0, 0.02),
        (100.0, 0.05),
        (20.0, 0.08),
        (2000.0, 0.03),
    ],
)
def test_the_surface_of_a_ball_is_where_pictures_show_its_outline(density, soft):
    """Within 3 %, however soft the ball is and whatever its density; and it is closed."""
    surface = radiance_surface(Ball(0.6, density, soft), resolution=48)
    vertices, faces = extract(surface, BOX, 2 / 40)
    radii, outline = vertices.norm(dim=-1), outline_radius(density, soft)
    assert len(faces) > 500 and abs(float(radii.median()) - outline) < 0.03 * outline
    assert float((radii - radii.median()).abs().max()) < 0.03
    edges = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).sort(1).values
    assert bool((torch.unique(edges, dim=0, return_counts=True)[1] == 2).all())


@dataclass(frozen=True)
class Sum:
    """Several things at once."""

    parts: tuple
    bounds: torch.Tensor = BOX

    def __call__(self, points):
        density = torch.stack([part(points) for part in self.parts]).sum(0)
        return RadianceSample(density, torch.full_like(points, 0.5))


def ball(center, radius, density, soft):
    return lambda points: density * torch.sigmoid((radius - (points - torch.tensor(center)).norm(dim=-1)) / soft)


def rod(radius, density):
    """Along the y axis."""
    return lambda points: density * (points[:, [0, 2]].norm(dim=-1) < radius) * (points[:, 1].abs() < 0.9)


def plate(thickness, density):
    """Across the x axis."""
    return lambda points: density * (points[:, 0].abs() < 0.5 * thickness) * (points[:, 1:].abs().amax(1) < 0.8)


SCENES = [
    (ball((0.0, -0.3, 0.0), 0.5, 60.0, 0.04), rod(0.05, 60.0)),
    (ball((0.3, 0.0, 0.0), 0.4, 300.0, 0.005), ball((-0.5, 0.0, 0.0), 0.2, 30.0, 0.04)),
    (ball((0.5, 0.0, 0.0), 0.3, 100.0, 0.03), plate(0.08, 40.0)),
]


@pytest.mark.parametrize("parts", SCENES)
def test_surfaces_of_scenes_have_the_outlines_of_pictures(parts):
    """Soft and hard things beside each other, and thin ones: rays that meet the surface are those that pictures
    show something on."""
    field, camera = Sum(parts), view(0.8, 64)
    shown = render_views(field, [camera], 200).alpha[0] > 0.5
    level, rays = surface_density(field), camera_rays(camera, BOX)[0]
    t = torch.linspace(2.2, 5.8, 600)
    points = rays.origins[:, None] + t[:, None] * rays.directions[:, None]
    inside = (points.abs() < 1).all(-1)
    met = ((field(points.view(-1, 3)).density.view(inside.shape) > level) & inside).any(1).view(shown.shape)
    assert float((met & shown).sum() / (met | shown).sum()) > 0.96


def test_the_best_level_by_hand():
    values, wanted = torch.tensor([5.0, 1.0, 2.0, 8.0, 1.0]), torch.tensor([True, False, False, True, True])
    assert best_level(values, wanted) == 3.5
    assert best_level(torch.tensor([4.0, 4.0, 0.0]), torch.tensor([True, False, False])) == 2.0


def test_distances_near_the_surface_are_lengths():
    surface = radiance_surface(Ball(0.6, 100.0, 0.03), resolution=64)
    ahead = torch.nn.functional.normalize(torch.randn(200, 3, generator=seeded()), dim=-1)
    zero = 0.6 + 0.03 * math.log(100.0 / surface.level - 1)
    for offset in (-0.01, 0.01, 0.3):
        found = surface((zero + offset) * ahead).distance
        assert float((found - offset).abs().median()) < 0.35 * abs(offset)


def test_a_hollow_ball_has_no_inner_surface():
    """Nothing sees the inside of what is opaque, where pictures leave a field empty."""

    class Shell(Ball):
        def __call__(self, points):
            sample = super().__call__(points)
            hollow = torch.sigmoid((points.norm(dim=-1) - 0.45) / 0.01)
            return RadianceSample(sample.density * hollow, sample.rgb)

    vertices, _ = extract(radiance_surface(Shell(0.6, 300.0, 0.01), resolution=48), BOX, 2 / 40)
    assert float(vertices.norm(dim=-1).min()) > 0.57 and float(vertices.norm(dim=-1).max()) < 0.65


def test_a_field_without_a_surface_is_refused():
    with pytest.raises(FieldError, match="no surface"):
        surface_density(Fog(0.0))
    with pytest.raises(FieldError, match="nowhere as dense"):
        radiance_surface(Fog(1.0), level=2.0, resolution=16)


def test_a_field_becomes_a_textured_mesh():
    mesh = textured_mesh(radiance_surface(Ball(0.6, 200.0, 0.01)), BOX, Meshing(0.08, 4000, 64, 2))
    assert mesh.closed and mesh.seam_error < 0.1
    truth = 0.5 + 0.4 * torch.sin(5 * mesh.mesh.vertices)
    assert float((mesh.mesh.material.base_color_texture.mean((0, 1)) - truth.mean(0)).abs().max()) < 0.1


def test_projection_and_rays_agree():
    """A small dense ball off the middle shows up where the camera projects it."""
    camera = view(0.7, 48)
    place = torch.tensor([0.4, -0.3, 0.2])

    class Dot(Ball):
        def __call__(self, points):
            return super().__call__(points - place)

    alpha = render_views(Dot(0.15, 200.0, 0.005), [camera], 200).alpha[0]
    rows, columns = torch.meshgrid(torch.arange(48) + 0.5, torch.arange(48) + 0.5, indexing="ij")
    middle = torch.stack([(alpha * columns).sum(), (alpha * rows).sum()]) / alpha.sum()
    assert torch.allclose(middle, project(camera, place)[0], atol=0.3)


def test_the_analytic_slope_is_the_gradient():
    ball, points = Ball(0.6, 3.0, 0.2), 0.4 * torch.randn(20, 3, generator=seeded())
    depth = 0.6 - points.norm(dim=-1, keepdim=True)
    share = torch.sigmoid(depth / 0.2)
    expected = -3 * share * (1 - share) / 0.2 * points / points.norm(dim=-1, keepdim=True)
    assert torch.allclose(analytic_slope(ball, points), expected, atol=1e-4)
