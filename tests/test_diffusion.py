"""Diffusion: levels, guidance, samplers on Gaussians whose score is known, and the denoiser's closed forms."""

import numpy as np
import pytest
import torch

from avatar3d.diffusion.denoiser import SpecDenoiser
from avatar3d.diffusion.guidance import guide
from avatar3d.diffusion.levels import T_FIRST, alpha_sigma, steps
from avatar3d.diffusion.samplers import ddim, dpm_solver_2m, heun
from avatar3d.engine.population import sample_vectors
from avatar3d.spec import vector_layout, vector_size

MEAN, SD = torch.tensor([0.3, -0.5], dtype=torch.float64), torch.tensor([0.6, 0.15], dtype=torch.float64)


def gaussian(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """E[x_0 | x_t] for independent normal x_0: the closed form of a perfect denoiser."""
    alpha, sigma = alpha_sigma(t)
    return MEAN + alpha * SD**2 / (alpha**2 * SD**2 + sigma**2) * (x - alpha * MEAN)


def exact(x: torch.Tensor) -> torch.Tensor:
    """Where the probability flow takes noise x at T_FIRST: the map keeps each quantile."""
    alpha, sigma = alpha_sigma(torch.tensor(T_FIRST, dtype=torch.float64))
    return MEAN + SD * (x - alpha * MEAN) / (alpha**2 * SD**2 + sigma**2).sqrt()


@pytest.mark.parametrize("sampler", [ddim, heun, dpm_solver_2m])
def test_samplers_transport_a_gaussian(sampler):
    noise = torch.randn(4000, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    made = sampler(gaussian, noise, steps(400))
    torch.testing.assert_close(made, exact(noise), atol=2e-2, rtol=0)
    torch.testing.assert_close(made.mean(0), MEAN, atol=0.03, rtol=0)
    torch.testing.assert_close(made.std(0), SD, atol=0.03, rtol=0)


def test_second_order_samplers_are_of_higher_order():
    """At equal steps they are far closer than ddim, and ten times the steps make ddim about ten times closer."""
    noise = torch.randn(500, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def error(sampler, count):
        return float((sampler(gaussian, noise, steps(count)) - exact(noise)).abs().max())

    assert error(heun, 40) < 0.4 * error(ddim, 40)
    assert error(dpm_solver_2m, 40) < 0.4 * error(ddim, 40)
    assert error(dpm_solver_2m, 24) < 0.03
    assert 5 < error(ddim, 20) / error(ddim, 200) < 20


@pytest.mark.parametrize("sampler", [ddim, heun, dpm_solver_2m])
def test_a_certain_denoiser_is_obeyed(sampler):
    target = torch.tensor([[0.2, -0.7]])
    made = sampler(lambda x, t: target.expand_as(x), torch.randn(3, 2), steps(5))
    torch.testing.assert_close(made, target.expand(3, 2))


def test_levels_preserve_variance_and_run_down():
    times = steps(24)
    alpha, sigma = alpha_sigma(times)
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones_like(alpha))
    assert len(times) == 25 and bool((times[1:] < times[:-1]).all()) and times[-1] == 0
    with pytest.raises(ValueError, match="at least 2 steps"):
        steps(1)


def test_guidance():
    cond, uncond = torch.tensor([1.0]), torch.tensor([0.25])
    assert guide(cond, uncond, 1.0) == cond
    assert guide(cond, uncond, 0.0) == uncond
    assert guide(cond, uncond, 3.0) == 2.5
    assert guide(cond, cond, 7.0) == cond


@pytest.fixture(scope="module")
def fresh() -> SpecDenoiser:
    torch.manual_seed(0)
    return SpecDenoiser(7)


def test_an_untrained_denoiser_is_right_at_the_clean_end(fresh):
    """With no knowledge at all, nearly clean vectors are recovered: the evidence is in closed form."""
    target = torch.from_numpy(sample_vectors(np.random.default_rng(0), 20))
    t = torch.full((20,), 0.02)
    alpha, sigma = alpha_sigma(t)
    noise = torch.randn(target.shape, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        made = fresh(alpha[:, None] * target + sigma[:, None] * noise, t, torch.zeros(20, 7))
    assert float((made - target).abs().max()) < 0.15


def test_choices_are_posteriors(fresh):
    """Estimated one-hots of an untrained denoiser are Bayes' rule with equal priors."""
    e = next(e for e in vector_layout() if e.name == "top")
    t = torch.tensor([0.5])
    x = torch.randn(1, vector_size(), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        made = fresh(x, t, torch.zeros(1, 7))[0, e.start : e.start + e.size]
    alpha, sigma = (float(level) for level in alpha_sigma(t))
    own = x[0, e.start : e.start + e.size].double()
    log = []
    for k in range(e.size):
        clean = -torch.ones(e.size, dtype=torch.float64)
        clean[k] = 1.0
        log.append(-((own - alpha * clean) ** 2).sum() / (2 * sigma**2))
    expected = 2 * torch.stack(log).softmax(0) - 1
    torch.testing.assert_close(made.double(), expected, atol=1e-3, rtol=0)


def test_the_loss_falls_on_one_batch(fresh):
    torch.manual_seed(0)
    model = SpecDenoiser(7, width=64, depth=2, condition_width=32)
    generator = torch.Generator().manual_seed(4)
    target = torch.from_numpy(sample_vectors(np.random.default_rng(1), 32))
    noise = torch.randn(target.shape, generator=generator)
    t, said = torch.rand(32, generator=generator), torch.zeros(32, 7)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    losses = []
    for _ in range(60):
        loss = sum(model.loss(target, noise, t, said))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]


def test_numbers_are_posterior_means_of_a_mixture(fresh):
    """Estimated numbers of an untrained denoiser: Bayes' rule on a fine grid, with the flat mixture as prior."""
    age = vector_layout()[0]
    group = fresh.groups[0]
    assert age.name == "age" and group.positions[0] == age.start
    for time, value in ((0.2, 0.4), (0.6, -0.9), (0.9, 0.3)):
        x = torch.zeros(1, vector_size())
        x[0, age.start] = value
        t = torch.tensor([time])
        with torch.no_grad():
            made = float(fresh(x, t, torch.zeros(1, 7))[0, age.start])
        alpha, sigma = (float(level) for level in alpha_sigma(t))
        grid = torch.linspace(-1.6, 1.6, 20001, dtype=torch.float64)
        prior = torch.exp(-0.5 * ((grid[:, None] - group.centers.double()) / group.sd) ** 2).sum(1)
        weight = prior * torch.exp(-0.5 * ((value - alpha * grid) / sigma) ** 2)
        assert made == pytest.approx(float((weight * grid).sum() / weight.sum()), abs=2e-3)


def test_the_right_priors_give_the_right_marginals(fresh):
    """With the population's shares as priors, sampling reproduces its ages, freckles and tops."""
    people = torch.from_numpy(sample_vectors(np.random.default_rng(5), 20000))
    model = SpecDenoiser(7)
    biases = []
    for group in model.groups:
        index = group.index(people[:, group.positions])
        shares = torch.nn.functional.one_hot(index, group.options).float().mean(0)
        biases.append(torch.log(shares + 1e-6).flatten())
    with torch.no_grad():
        model.leave.bias.copy_(torch.cat(biases))
        noise = torch.randn(4000, vector_size(), generator=torch.Generator().manual_seed(6))
        made = dpm_solver_2m(
            lambda x, t: model(x, t.float().expand(len(x)), torch.zeros(len(x), 7)), noise, steps(24)
        )
    for e in vector_layout():
        if e.name in ("age", "freckles", "lipstick", "face.nose_width", "top", "hair_color"):
            a, b = made[:, e.start : e.start + e.size], people[:, e.start : e.start + e.size]
            if e.choices:
                shares = [torch.bincount(v.argmax(1), minlength=e.size) / len(v) for v in (a, b)]
            else:
                shares = [torch.histc(v.clamp(-1, 1), 10, -1, 1) / len(v) for v in (a, b)]
            assert float((shares[0] - shares[1]).abs().sum()) / 2 < 0.05, e.name
