"""Laplace density: its closed forms and its integral along segments."""

import pytest
import torch

from avatar3d.fields.density import laplace_density, optical_depth

BETA = 0.01


def test_half_at_the_surface_and_full_inside():
    distance = torch.tensor([0.0, -10 * BETA, 10 * BETA, BETA, -BETA], dtype=torch.float64)
    tail = 0.5 * torch.exp(torch.tensor([-10.0, -1.0], dtype=torch.float64))
    expected = torch.stack([torch.tensor(0.5).double(), 1 - tail[0], tail[0], tail[1], 1 - tail[1]])
    assert torch.allclose(laplace_density(distance, BETA) * BETA, expected)


def test_it_never_grows_outwards():
    density = laplace_density(torch.linspace(-0.1, 0.1, 1001), BETA)
    assert bool((density[1:] <= density[:-1]).all()) and bool((density > 0).all())


@pytest.mark.parametrize(
    "ends",
    [(0.05, -0.05), (-0.05, 0.05), (0.03, 0.01), (-0.01, -0.04), (0.004, 0.004), (0.004, 0.00405), (0.0, 0.0)],
)
def test_optical_depth_is_the_integral_of_the_density(ends):
    first, last = (torch.tensor(end, dtype=torch.float64) for end in ends)
    length = torch.tensor(0.3, dtype=torch.float64)
    steps = 20000
    share = (torch.arange(steps, dtype=torch.float64) + 0.5) / steps
    numeric = laplace_density(first + (last - first) * share, BETA).mean() * length
    assert torch.allclose(optical_depth(first, last, length, BETA), numeric, rtol=1e-5)


def test_optical_depth_in_single_precision():
    generator = torch.Generator().manual_seed(0)
    first, last = (0.2 * torch.rand(2, 10000, generator=generator, dtype=torch.float64) - 0.1).unbind()
    last = torch.where(torch.arange(10000) % 2 == 0, last, first + 0.02 * BETA * (last - first))
    length = torch.full_like(first, 0.01)
    exact = optical_depth(first, last, length, BETA)
    single = optical_depth(first.float(), last.float(), length.float(), BETA).double()
    assert float((torch.exp(-single) - torch.exp(-exact)).abs().max()) < 1e-4


def test_gradients_of_optical_depth():
    first = torch.tensor([0.02, -0.01, 0.003, 0.003, 0.0], dtype=torch.float64, requires_grad=True)
    last = torch.tensor([-0.03, 0.01, 0.003, 0.00301, 0.0005], dtype=torch.float64, requires_grad=True)
    length = torch.full((5,), 0.05, dtype=torch.float64)
    beta = torch.tensor(BETA, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *x: optical_depth(*x[:2], length, x[2]), (first, last, beta), atol=1e-3)
