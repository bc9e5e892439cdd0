"""The cascade's parts: 3D-aware convolution, regression, diffusion of residuals, surfaces as data, training."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from avatar3d.cascade.base import Base, BaseConfig, BaseDenoiser, expected, given, velocity
from avatar3d.cascade.blocks import PlaneBlock, PlaneConv, bilinear, doubled, halved
from avatar3d.cascade.busts import DataError, load_busts
from avatar3d.cascade.charts import CHART, SIDE_CHANNELS, chart_tensor, draw_charts
from avatar3d.cascade.regression import fit, relevance_of
from avatar3d.cascade.surface import label_points, see_surface
from avatar3d.cascade.training import Schedule, train
from avatar3d.diffusion.draws import step_generator
from avatar3d.diffusion.levels import alpha_sigma
from avatar3d.fields.triplane import PLANE_AXES, from_box, warp
from avatar3d.render.scene import LabelledMesh, compile_scene
from avatar3d.structures import PART_KINDS, Material, Mesh


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def naive_aware(planes: torch.Tensor) -> torch.Tensor:
    """Rodin's input of a 3D-aware convolution, cell by cell: own features, then the two others' means."""
    batch, _, channels, size, _ = planes.shape
    out = torch.zeros(batch, 3, 3 * channels, size, size)
    for plane, (column_axis, row_axis) in enumerate(PLANE_AXES):
        for row in range(size):
            for column in range(size):
                parts = [planes[:, plane, :, row, column]]
                for axis, cell in ((column_axis, column), (row_axis, row)):
                    (other,) = (p for p, axes in enumerate(PLANE_AXES) if p != plane and axis in axes)
                    along_columns = PLANE_AXES[other][0] == axis
                    line = planes[:, other, :, :, cell] if along_columns else planes[:, other, :, cell, :]
                    parts.append(line.mean(-1))
                out[:, plane, :, row, column] = torch.cat(parts, 1)
    return out


def test_3d_aware_convolution_equals_the_plain_one_on_concatenated_planes():
    size, inputs, outputs = 6, 2, 3
    layer = PlaneConv(inputs, outputs, mixing=True)
    planes = torch.randn(2, 3, inputs, size, size)
    own = layer.conv.weight.view(3, outputs, inputs, 3, 3)
    lines = layer.line_conv.weight.view(3, 2, outputs, inputs, 3)
    # a line repeated along an axis, under a kernel that looks at the middle of that axis alone
    along_columns = torch.zeros(3, outputs, inputs, 3, 3)
    along_columns[..., 1, :] = lines[:, 0]
    along_rows = torch.zeros(3, outputs, inputs, 3, 3)
    along_rows[..., :, 1] = lines[:, 1]
    weight = torch.cat([own, along_columns, along_rows], dim=2)
    stacked = naive_aware(planes).flatten(1, 2)
    plain = nn.functional.conv2d(stacked, weight.flatten(0, 1), layer.conv.bias, padding=1, groups=3)
    torch.testing.assert_close(layer(planes).flatten(1, 2), plain, atol=1e-5, rtol=1e-5)


def test_mixing_reaches_the_cells_that_share_a_coordinate_and_no_others():
    layer = PlaneConv(1, 1, mixing=True)
    planes = torch.zeros(1, 3, 1, 8, 8)
    poked = planes.clone()
    poked[0, 1, 0, 5, 2] = 1.0  # XZ at x = 2, z = 5
    moved = (layer(poked) - layer(planes)).abs()[0, :, 0].detach() > 0
    assert moved[0].any(0).nonzero().flatten().tolist() == [1, 2, 3]  # XY: columns are x
    assert moved[0].any(1).all()
    assert moved[2].any(1).nonzero().flatten().tolist() == [4, 5, 6]  # YZ: rows are z
    assert moved[2].any(0).all()


def test_a_new_block_is_the_identity():
    planes = torch.randn(2, 3, 16, 4, 4)
    torch.testing.assert_close(PlaneBlock(16, 16, mixing=True, condition=5)(planes, torch.randn(2, 5)), planes)


def test_halved_undoes_doubled_and_bilinear_keeps_linear_planes():
    planes = torch.randn(1, 3, 2, 4, 4)
    torch.testing.assert_close(halved(doubled(planes)), planes)
    ramp = torch.arange(8.0).expand(1, 3, 1, 8, 8)
    fine = bilinear(ramp, 16)[0, 0, 0, 0]
    torch.testing.assert_close(fine[1:-1].diff(), torch.full((13,), 0.5))


def test_regression_leaves_out_what_the_closed_form_says():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(30, 4, generator=generator)
    y = torch.stack([x[:, 0] * x[:, 1], x[:, 2], 0.5 * x[:, 3] ** 2], 1) + 0.05 * torch.randn(
        30, 3, generator=generator
    )
    x, y = x - x.mean(0), y - y.mean(0)
    regression, left_out = fit(x, y, components=3, penalties=(0.03,))
    kernel = (1 + x @ x.T / regression.scale) ** 2 - 1
    for i in (0, 7, 29):
        rest = [k for k in range(30) if k != i]
        weights = torch.linalg.solve(kernel[rest][:, rest] + 0.03 * torch.eye(29), y[rest])
        torch.testing.assert_close(left_out[i], kernel[i, rest] @ weights, atol=2e-4, rtol=1e-3)


def test_degree_two_knows_products_and_degree_one_does_not():
    x = torch.randn(200, 3)
    y = (x[:, 0] * x[:, 1])[:, None].expand(-1, 2) * torch.tensor([1.0, -2.0])
    new = torch.randn(50, 3)
    true = (new[:, 0] * new[:, 1])[:, None] * torch.tensor([1.0, -2.0])
    errors = [
        float((fit(x, y, degree, 2)[0](new) - true).square().mean() / true.square().mean()) for degree in (1, 2)
    ]
    assert errors[1] < 0.02 < 0.7 < errors[0]


def test_relevance_is_that_of_the_numbers_that_matter():
    x = torch.randn(300, 6) * torch.tensor([1.0, 1, 5, 1, 1, 1])
    y = torch.stack([x[:, 0] + 0.2 * x[:, 2], x[:, 1]], 1)
    relevance = relevance_of(x, y) * x.std(0)
    assert (relevance[[0, 1, 2]] > 1).all()
    assert (relevance[[3, 4, 5]] < 0.2).all()


def test_velocity_and_noise_give_the_clean_latents_back():
    clean, noise, t = torch.randn(4, 3, 2, 5, 5), torch.randn(4, 3, 2, 5, 5), torch.rand(4)
    x, v = velocity(clean, noise, t)
    torch.testing.assert_close(expected(v, x, t), clean, atol=1e-5, rtol=1e-5)


def untrained_base(count: int = 12, size: int = 4) -> Base:
    vectors, latents = torch.randn(count, 5), torch.randn(count, 3, 2, 16, 16)
    regression, left_out = fit(vectors, latents.flatten(1))
    denoiser = BaseDenoiser(BaseConfig(latent=2, condition=5, widths=(16, 16), embedding=16))
    deviation = (latents - left_out.view_as(latents)).square().mean(0).sqrt()
    return Base(regression, deviation, latents.std(0), latents.mean(0), denoiser.eval())


def test_an_untrained_base_samples_a_gaussian_around_the_regression():
    base = untrained_base()
    vectors = torch.randn(1, 5).expand(64, -1)
    noise = torch.randn(64, 3, 2, 16, 16)
    z = (base.sample(vectors, noise, 20) - base.mean(vectors)) / base.deviation
    assert abs(float(z.mean())) < 0.02
    # v = 0 is the Gaussian denoiser; the last time of the sampler leaves a little noise unsaid
    assert abs(float(z.std()) - 1) < 0.03
    again = base.sample(vectors, noise, 20)
    assert torch.equal(again, base.sample(vectors, noise, 20))


def test_guidance_of_one_needs_no_unconditional_model_and_more_moves_away_from_it():
    base = untrained_base()
    nn.init.normal_(base.denoiser.leave.conv.weight, std=0.05)
    for block in (base.denoiser.down, base.denoiser.up):
        nn.init.normal_(block.second.conv.weight, std=0.05)
        nn.init.normal_(block.modulate.weight, std=0.5)
    vectors, noise = torch.randn(2, 5), torch.randn(2, 3, 2, 16, 16)
    plain, guided = (base.sample(vectors, noise, 8, guidance=g) for g in (1.0, 3.0))
    assert float((plain - guided).abs().max()) > 1e-4
    dropped = given(vectors, torch.zeros(2, 1))
    assert not dropped.any()


def ball_mesh(radius: float, center: tuple[float, float, float]) -> LabelledMesh:
    lat, lon = 40, 80
    theta = torch.linspace(0, math.pi, lat + 1)[:, None]
    phi = torch.linspace(0, 2 * math.pi, lon + 1)[None]
    unit = torch.stack([theta.sin() * phi.sin(), theta.cos().expand(-1, lon + 1), theta.sin() * phi.cos()], -1)
    unit = unit.reshape(-1, 3)
    index = torch.arange((lat + 1) * (lon + 1)).view(lat + 1, lon + 1)
    a, b, c, d = index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]
    faces = torch.cat([torch.stack([a, b, c], -1).view(-1, 3), torch.stack([a, c, d], -1).view(-1, 3)])
    material = Material("ball", base_color=(0.8, 0.3, 0.1, 1.0))
    mesh = Mesh(torch.tensor(center) + radius * unit, faces, unit, torch.zeros(len(unit), 2), material)
    return LabelledMesh(mesh, 1 + PART_KINDS.index("top"))


BOX = torch.tensor([[-0.25, 1.2, -0.2], [0.25, 1.7, 0.22]])
CENTER = (0.02, 1.44, 0.03)


@pytest.fixture(scope="module")
def ball():
    return see_surface(compile_scene([ball_mesh(0.12, CENTER)]), BOX)


def test_seen_surface_of_a_ball_is_the_ball(ball):
    radius = np.linalg.norm(ball.positions - np.array(CENTER), axis=1)
    assert abs(radius - 0.12).max() < 4e-4
    np.testing.assert_allclose(ball.colors.mean(0), [0.8, 0.3, 0.1], atol=4e-3)
    outward = ((ball.positions - CENTER) / 0.12 * ball.normals).sum(1)
    assert outward.min() > 0.99


def test_labels_of_a_ball_are_its_closed_form(ball):
    generator = np.random.default_rng(0)
    direction = generator.standard_normal((4000, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    radius = generator.uniform(0.02, 0.19, 4000)
    points = np.array(CENTER) + radius[:, None] * direction
    truth = label_points(ball, points)
    error = np.abs(truth.distance - (radius - 0.12))
    assert np.median(error) < 5e-4
    assert np.quantile(error, 0.99) < 2.5e-3
    assert (truth.labels == 1 + PART_KINDS.index("top")).all()


def test_charts_of_a_ball_show_its_disc_height_and_color(ball):
    charts = draw_charts(ball)
    cells = (torch.arange(CHART) + 0.5) / (0.5 * CHART) - 1
    # the centers of the cells in the box, axis by axis: invert the warp numerically
    grid = torch.linspace(-1, 1, 20001)[:, None].expand(-1, 3)
    axes = [torch.from_numpy(np.interp(cells, warp(grid)[:, k], grid[:, k])).float() for k in range(3)]
    world = from_box(torch.stack(axes, -1), BOX)
    x, y = torch.meshgrid(world[:, 0] - CENTER[0], world[:, 1] - CENTER[1], indexing="xy")
    inside = (x**2 + y**2).sqrt()
    shown = torch.from_numpy(charts[0, 0] > 127)
    assert shown[inside < 0.112].float().mean() > 0.99
    assert not shown[inside > 0.13].any()
    middle = (inside < 0.06) & shown
    height = torch.from_numpy(charts[0, 1].astype(np.float32)) / 255 * 2 - 1
    z = CENTER[2] + (0.12**2 - inside.square()).clamp_min(0).sqrt()
    expected_height = (z - BOX[0, 2]) / (BOX[1, 2] - BOX[0, 2]) * 2 - 1
    assert float((height - expected_height)[middle].abs().max()) < 0.03
    numbers = chart_tensor(charts)
    assert numbers.shape == (3, 2 * SIDE_CHANNELS, CHART, CHART)
    assert not numbers[:, :, 0, 0].any()  # nothing in the corner


class Line(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.zeros(3))


def line_loss(model):
    def loss(step: int):
        x = torch.randn(16, 3, generator=step_generator(0, 7, step))
        return {"square": (x @ (model.slope - torch.tensor([1.0, -2.0, 0.5]))).square().mean()}

    return loss


def test_training_goes_on_exactly_where_it_was_cut_off(tmp_path):
    schedule = Schedule(steps=60, rate=0.1, warm_up=5, save_every=20)
    whole = Line()
    average = train(whole, line_loss(whole), schedule, tmp_path / "whole", "test")

    class Cut(Exception):
        pass

    part = Line()

    def cut(step: int):
        if step == 47:
            raise Cut
        return line_loss(part)(step)

    with pytest.raises(Cut):
        train(part, cut, schedule, tmp_path / "part", "test")
    resumed = Line()
    again = train(resumed, line_loss(resumed), schedule, tmp_path / "part", "test")
    assert torch.equal(resumed.slope, whole.slope)
    assert torch.equal(again["slope"], average["slope"])
    assert float((average["slope"] - torch.tensor([1.0, -2.0, 0.5])).abs().max()) < 0.2


def test_time_limit_stops_with_a_checkpoint(tmp_path):
    model = Line()
    schedule = Schedule(steps=60, save_every=20, minutes=0.0)
    train(model, line_loss(model), schedule, tmp_path, "test")
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == 1
    train(model, line_loss(model), replace(schedule, minutes=None), tmp_path, "test")
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == 60


def test_missing_and_broken_data_say_what_to_do(tmp_path):
    with pytest.raises(DataError, match="make_dataset"):
        load_busts(tmp_path, ("charts",))
    (tmp_path / "bust-000000-016.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(DataError, match="delete it"):
        load_busts(tmp_path, ("charts",))


def test_levels_are_those_of_the_samplers():
    alpha, sigma = alpha_sigma(torch.rand(5))
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones(5))
