"""Pictures of fields: closed forms, dense references, gradients, chunks, and what is refused."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import pytest
import torch

from avatar3d.camera import orbit
from avatar3d.fields.decoder import Decoder, DecoderConfig, TriPlaneField
from avatar3d.fields.density import laplace_density
from avatar3d.fields.triplane import look_up, to_box
from avatar3d.render.distance_grid import DistanceGrid, distance_grid
from avatar3d.render.lights import studio_lights
from avatar3d.render.rays import FieldError, Rays, box_span, camera_rays
from avatar3d.render.trace import arrive, field_turntable, trace_field
from avatar3d.render.volume import (
    collect,
    importance_nodes,
    node_weights,
    pad_nodes,
    render_field,
    uniform_nodes,
)
from avatar3d.render.walk import skip, skip_torch, walk, walk_numba, walk_torch
from avatar3d.structures import PART_KINDS, FieldSample, TriPlane

BOUNDS = torch.tensor([[-0.25, 1.3, -0.25], [0.25, 1.8, 0.25]])
CENTER = torch.tensor([0.01, 1.55, -0.02])
RADIUS = 0.12
CAMERA = orbit(CENTER, 1.2, 0.4, 0.2, width=64, height=64)
SMALL = replace(CAMERA, focal=0.5 * CAMERA.focal, width=32, height=32)


@dataclass(frozen=True)
class Ball:
    """A ball with stripes and, when wanted, a wire thinner than any cell of the grid."""

    wire: float = 0.0
    scale: float = 1.0
    bounds: torch.Tensor = BOUNDS

    def __call__(self, points: torch.Tensor) -> FieldSample:
        offset = points - CENTER.to(points)
        distance = offset.norm(dim=-1) - RADIUS
        logits = points.new_zeros(len(points), len(PART_KINDS))
        logits[:, 0] = 1
        if self.wire:
            rod = (offset - offset.new_tensor([0, 0.17, 0]))[:, 1:].norm(dim=-1) - self.wire
            logits[:, 8] = 2.0 * (rod < distance)
            distance = torch.minimum(distance, rod)
        return FieldSample(self.scale * distance, 0.5 + 0.4 * torch.sin(40 * points), logits)


class Constant:
    """The same distance everywhere."""

    bounds = BOUNDS

    def __init__(self, distance: float) -> None:
        self.distance = distance

    def __call__(self, points: torch.Tensor) -> FieldSample:
        logits = points.new_ones(len(points), len(PART_KINDS))
        return FieldSample(points.new_full((len(points),), self.distance), 0.25 + 0 * points, logits)


def random_field(seed: int = 0, dtype: torch.dtype = torch.float32) -> TriPlaneField:
    """A lump of a random tri-plane and decoder."""
    torch.manual_seed(seed)
    decoder = Decoder(DecoderConfig(4, 16)).to(dtype)
    planes = torch.randn(3, 4, 8, 8).to(dtype)
    return TriPlaneField(TriPlane(planes, BOUNDS.to(dtype), "test"), decoder)


@pytest.mark.parametrize("dense", [True, False])
def test_constant_density_follows_beer_and_lambert(dense):
    """exp(-sigma L) of the light gets through a box of one density, whatever the samples."""
    beta, distance = 0.5, 0.1
    field, (rays, _) = Constant(distance), camera_rays(CAMERA, BOUNDS)
    enter, leave = box_span(rays, BOUNDS)
    grid = DistanceGrid(torch.full((5, 5, 5), distance), BOUNDS)
    nodes = uniform_nodes(field, rays, 7) if dense else walk(grid, rays, beta, torch.Generator().manual_seed(1))
    light = collect(field, rays, nodes, beta)
    density = laplace_density(torch.tensor(distance), beta)
    expected = 1 - torch.exp(-density * (leave - enter).clamp_min(0))
    assert float(expected.max()) > 0.3
    assert torch.allclose(light.alpha, expected, atol=1e-5)
    assert torch.allclose(light.rgb, 0.25 * expected[:, None].expand(-1, 3), atol=1e-5)


@torch.no_grad()
def test_weights_are_shares_and_opaque_rays_are_full():
    field = random_field()
    grid = distance_grid(field, 32)
    rays, _ = camera_rays(CAMERA, BOUNDS)
    nodes = walk(grid, rays, 0.003)
    distance = field(rays.origins[nodes.ray] + nodes.t[:, None] * rays.directions[nodes.ray]).distance
    weights = node_weights(nodes, distance, 0.003)
    total = torch.zeros(len(rays)).index_add(0, nodes.ray, weights)
    assert float(weights.min()) >= 0 and float(total.max()) <= 1 + 1e-6
    assert float(total.max()) > 0.998 and float(total.min()) < 0.01


def ball_hits(rays: Rays) -> tuple[torch.Tensor, torch.Tensor]:
    """Closed form: t where rays meet the ball (inf: never), and how near they come to its center."""
    offset = (rays.origins - CENTER).double()
    along = (offset * rays.directions).sum(-1)
    nearest = (offset.square().sum(-1) - along**2).clamp_min(0).sqrt()
    t = -along - (RADIUS**2 - nearest**2).clamp_min(0).sqrt()
    return torch.where(nearest < RADIUS, t, torch.inf), nearest


def test_a_traced_ball_is_the_closed_form():
    render = trace_field(Ball(), CAMERA)
    rays, depth_per_metre = camera_rays(CAMERA, BOUNDS)
    t, nearest = ball_hits(rays)
    clear = (nearest - RADIUS).abs() > 1e-3
    hit = torch.isfinite(t) & clear
    assert torch.equal(render.alpha.flatten()[clear], torch.isfinite(t).float()[clear])
    assert torch.equal(render.labels.flatten()[clear], torch.isfinite(t).long()[clear])
    assert torch.allclose(render.depth.flatten()[hit].double(), (t * depth_per_metre)[hit], atol=4e-4)
    points = rays.at(t.float())[hit]
    normals = (points - CENTER) / RADIUS
    assert float((render.normal.view(-1, 3)[hit] - normals).norm(dim=-1).max()) < 8e-3
    assert torch.allclose(render.rgb.view(-1, 3)[hit], 0.5 + 0.4 * torch.sin(40 * points), atol=0.01)
    assert bool(torch.isinf(render.depth.flatten()[~hit & clear]).all()) and not render.uv.any()


def test_a_rendered_ball_becomes_the_traced_one_as_it_hardens():
    rays, depth_per_metre = camera_rays(CAMERA, BOUNDS)
    t, nearest = ball_hits(rays)
    for beta in (4e-3, 1e-3):
        render = render_field(Ball(), CAMERA, beta=beta)
        off = (nearest - RADIUS).abs() > 12 * beta
        assert torch.allclose(render.alpha.flatten()[off], torch.isfinite(t).float()[off], atol=0.01)
        hit = torch.isfinite(t) & (nearest < 0.8 * RADIUS)
        assert float((render.depth.flatten() - t * depth_per_metre)[hit].abs().max()) < 2 * beta


@pytest.mark.parametrize("wire", [0.0, 8e-4])
def test_skipping_empty_space_changes_nothing(wire):
    """Against a dense reference, with a wire that no vertex of the grid is inside of."""
    field, (rays, _) = Ball(wire), camera_rays(SMALL, BOUNDS)
    beta = 2e-3
    dense = collect(field, rays, uniform_nodes(field, rays, 800), beta)
    quick = render_field(field, SMALL, beta=beta, pace=0.7, background=(0.0, 0.0, 0.0))
    assert float((quick.alpha.flatten() - dense.alpha).abs().max()) < 0.02
    assert float((quick.rgb.view(-1, 3) - dense.rgb).abs().mean()) < 1e-3
    if wire:
        drawn = render_field(field, CAMERA, beta=2e-4)
        assert float((drawn.labels == 9).float().mean()) > 0.001
        assert float((trace_field(field, CAMERA).labels == 9).float().mean()) > 0.001


def test_fields_that_overestimate_distances_are_drawn_too():
    exact, steep = trace_field(Ball(), CAMERA), trace_field(Ball(scale=1.2), CAMERA)
    both = torch.isfinite(exact.depth) & torch.isfinite(steep.depth)
    assert float((exact.alpha - steep.alpha).abs().mean()) < 0.002
    assert float((exact.depth - steep.depth)[both].abs().max()) < 1e-3


def test_importance_samples_converge_faster():
    field, (rays, _) = Ball(), camera_rays(SMALL, BOUNDS)
    beta = 4e-3
    dense = collect(field, rays, uniform_nodes(field, rays, 600), beta).rgb

    def error(nodes) -> float:
        return float((collect(field, rays, nodes, beta).rgb - dense).square().mean())

    coarse = uniform_nodes(field, rays, 48, torch.Generator().manual_seed(0))
    points = rays.origins[coarse.ray] + coarse.t[:, None] * rays.directions[coarse.ray]
    weights = node_weights(coarse, field(points).distance, beta)
    fine = importance_nodes(coarse, weights, 48)
    assert len(fine.t) == 2 * len(coarse.t) and bool((fine.t.view(len(rays), -1).diff(dim=-1) >= 0).all())
    assert error(fine) < 0.1 * error(uniform_nodes(field, rays, 96))


def test_the_numba_and_the_torch_walk_are_one():
    grid = distance_grid(Ball(8e-4))
    rays, _ = camera_rays(CAMERA, BOUNDS)
    pace = torch.linspace(0.6, 1.4, len(rays))
    kernel, plain = walk_numba(grid, rays, 2e-3, pace), walk_torch(grid, rays, 2e-3, pace)
    counts, others = kernel.first.diff(), plain.first.diff()
    same = counts == others
    assert float(same.float().mean()) > 0.98 and int(counts.max()) > 8
    here, there = same[kernel.ray], same[plain.ray]
    off = (kernel.t[here] - plain.t[there]).abs() > 1e-4
    assert float(off.float().mean()) < 0.01
    assert torch.equal(kernel.ray[here], plain.ray[there])
    assert float((kernel.linked[here] == plain.linked[there]).float().mean()) > 0.999
    enter, leave = box_span(rays, BOUNDS)
    skipped, slow = skip(grid, rays, enter, leave), skip_torch(grid, rays, enter, leave)
    assert float(((skipped < leave) != (slow < leave)).float().mean()) < 0.005
    both = (skipped < leave) & (slow < leave)
    assert float(((skipped - slow)[both].abs() > 1e-3).float().mean()) < 0.01


def test_gradients_of_volume_rendering():
    """With respect to planes and decoder, by finite differences."""
    field = random_field(1, torch.float64)
    grid = distance_grid(field, 16)
    rays, _ = camera_rays(replace(CAMERA, width=4, height=4, focal=8.0), field.bounds)
    nodes = walk(grid, rays, 0.02)
    weights = [parameter.detach().clone() for parameter in field.decoder.parameters()]
    names = [name for name, _ in field.decoder.named_parameters()]

    class Given(TriPlaneField):
        """With planes and weights as arguments."""

        def __call__(self, points: torch.Tensor) -> FieldSample:
            features = look_up(self.triplane.planes[None], to_box(points, self.bounds)[None])
            named = dict(zip(names, self.weights, strict=True))
            d, color, part = torch.func.functional_call(field.decoder, named, features)
            return FieldSample(d[0] * self.unit, color[0].T.sigmoid(), part[0].T)

    def render(planes: torch.Tensor, *weights: torch.Tensor):
        given = Given(replace(field.triplane, planes=planes), field.decoder)
        given.weights = weights  # type: ignore[attr-defined]
        light = collect(given, rays, nodes, 0.02)
        return light.rgb, light.alpha, light.depth, light.logits

    inputs = [field.triplane.planes, *weights]
    assert len(nodes.t) > 30
    assert torch.autograd.gradcheck(render, [x.requires_grad_() for x in inputs], fast_mode=True)


def test_gradients_of_traced_depth_and_color():
    """A ball that grows comes nearer: depth and color against finite differences."""

    class Grown(Ball):
        def __call__(self, points: torch.Tensor) -> FieldSample:
            sample = super().__call__(points)
            return FieldSample(sample.distance - growth, sample.rgb, sample.logits)

    growth = torch.tensor(0.0, requires_grad=True)
    small = replace(CAMERA, focal=2 * CAMERA.focal, width=24, height=24)
    render = trace_field(Grown(), small)
    grid = distance_grid(Ball())
    assert float(render.alpha.min()) == 1
    for image in (render.depth, render.rgb):
        (slope,) = torch.autograd.grad(image.sum(), growth, retain_graph=True)
        ends = []
        for step in (-1e-3, 1e-3):
            growth.data.fill_(step)
            with torch.no_grad():
                moved = trace_field(Grown(), small, grid=grid)
            ends.append(float((moved.depth if image is render.depth else moved.rgb).double().sum()))
        growth.data.fill_(0)
        assert float(slope) == pytest.approx((ends[1] - ends[0]) / 2e-3, rel=0.03)


@pytest.mark.parametrize("draw", [render_field, trace_field])
def test_chunks_change_nothing(draw):
    field = random_field()
    grid = distance_grid(field, 32)
    whole, cut = (draw(field, CAMERA, grid=grid, memory=memory) for memory in (1 << 30, 1 << 25))
    for name, tolerance in (("rgb", 1e-4), ("alpha", 1e-4), ("normal", 2e-3)):
        off = (getattr(whole, name) - getattr(cut, name)).abs() > tolerance
        assert float(off.float().mean()) < 1e-3, name
    assert float((whole.labels != cut.labels).float().mean()) < 1e-3


def test_chunks_keep_gradients():
    field, slopes = random_field(), []
    planes = field.triplane.planes.requires_grad_()
    grid = distance_grid(field, 32)
    for memory in (1 << 30, 1 << 25):
        render = render_field(field, CAMERA, grid=grid, memory=memory)
        slopes.append(torch.autograd.grad((render.rgb**2).sum(), planes)[0])
    assert float(slopes[0].abs().max()) > 0
    assert torch.allclose(*slopes, rtol=1e-3, atol=1e-3 * float(slopes[0].abs().max()))


@dataclass(frozen=True)
class Hungry(Ball):
    """Memory for at most `most` points at a time."""

    most: int = 4096

    def __call__(self, points: torch.Tensor) -> FieldSample:
        if len(points) > self.most:
            raise MemoryError
        return super().__call__(points)


@pytest.mark.parametrize("draw", [render_field, trace_field])
def test_out_of_memory_takes_smaller_chunks_and_then_says_so(draw):
    grid = distance_grid(Ball(), 32)
    expected, got = (
        draw(Ball(), CAMERA, grid=grid, normals=False),
        draw(Hungry(), CAMERA, grid=grid, normals=False),
    )
    assert torch.allclose(expected.rgb, got.rgb, atol=1e-5)
    with pytest.raises(FieldError, match=r"out of memory with \d+ rays at a time: make the picture smaller"):
        draw(Hungry(most=8), CAMERA, grid=grid, normals=False)


def test_other_errors_are_not_taken_for_a_lack_of_memory():
    class Broken(Ball):
        def __call__(self, points: torch.Tensor) -> FieldSample:
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        trace_field(Broken(), CAMERA, grid=distance_grid(Ball(), 16))


@pytest.mark.parametrize("draw", [render_field, trace_field])
def test_empty_and_broken_fields_are_refused(draw):
    with pytest.raises(FieldError, match=r"empty: .* nearest is 0\.03 m .*Train or sample it longer"):
        draw(Constant(0.03), CAMERA)
    with pytest.raises(FieldError, match="not finite"):
        draw(Constant(math.nan), CAMERA)


@pytest.mark.parametrize("draw", [render_field, trace_field])
def test_background_and_light(draw):
    grid = distance_grid(Ball(), 32)
    bare, plain = (
        draw(Ball(), CAMERA, None, None, grid=grid),
        draw(Ball(), CAMERA, None, (0.2, 0.4, 0.6), grid=grid),
    )
    image = torch.rand(64, 64, 3, generator=torch.Generator().manual_seed(0))
    behind = draw(Ball(), CAMERA, None, image, grid=grid)
    alpha = bare.alpha[..., None]
    assert torch.allclose(plain.rgb, alpha * bare.rgb + (1 - alpha) * torch.tensor([0.2, 0.4, 0.6]), atol=1e-5)
    assert torch.allclose(behind.rgb, alpha * bare.rgb + (1 - alpha) * image, atol=1e-5)
    lit = draw(Ball(), CAMERA, studio_lights(CAMERA), grid=grid)
    assert torch.equal(lit.alpha, bare.alpha) and float(lit.rgb.min()) >= 0 and float(lit.rgb.max()) <= 1
    assert float((lit.rgb - plain.rgb)[bare.alpha > 0.5].abs().mean()) > 0.05


def test_a_generator_moves_the_samples_but_hardly_the_picture():
    def draw(seed: int) -> torch.Tensor:
        return render_field(Ball(), CAMERA, generator=torch.Generator().manual_seed(seed)).rgb

    assert torch.equal(draw(0), draw(0)) and not torch.equal(draw(0), draw(1))
    assert float((draw(0) - draw(1)).square().mean()) < 1e-4


def test_a_camera_inside_the_box_and_one_that_looks_away():
    near = orbit(CENTER, 0.2, width=32, height=32)
    assert float(trace_field(Ball(), near).alpha[16, 16]) == 1
    assert float(trace_field(Ball(), near).depth[16, 16]) == pytest.approx(0.2 - RADIUS, abs=1e-3)
    away = replace(near, T_world_camera=near.T_world_camera @ torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0])))
    for draw in (render_field, trace_field):
        assert not draw(Ball(), away).alpha.any() and not draw(Ball(), away).labels.any()


def test_turntable_shows_the_whole_ball_from_all_sides():
    frames = list(field_turntable(Ball(), frames=3, width=48, height=48, samples=2, background=(1.0, 1.0, 1.0)))
    assert [f.shape for f in frames] == 3 * [(48, 48, 3)]
    for frame in frames:
        assert (frame[0] == 255).all() and (frame[:, 0] == 255).all() and (frame[24, 24] != 255).any()


def test_nothing_to_arrive_at():
    rays = Rays(torch.zeros(3, 3), -torch.eye(3))
    assert bool(torch.isinf(arrive(Ball(), distance_grid(Ball(), 16), rays)).all())
    assert len(pad_nodes(torch.zeros(0, 4)).t) == 0
