"""Score distillation on Gaussian priors, whose score, inversion and optima are known in closed form."""

import math
from dataclasses import dataclass, replace
from functools import partial

import pytest
import torch

from avatar3d.distill import guidance, inversion, losses, own, schedules
from avatar3d.distill.prior import Model, Noises, add_noise, noise_from

SHAPE = (2, 3, 2, 2)


def cosine(t):
    return torch.cos(t * math.pi / 2), torch.sin(t * math.pi / 2)


def straight(t):
    return 1 - t, t


def column(x):
    return x.view(-1, 1, 1, 1)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


@dataclass(frozen=True)
class Gaussian:
    """E[noise | noisy] where clean pictures are N(mean, variance)."""

    mean: torch.Tensor
    variance: torch.Tensor | float
    levels: object = cosine

    def power(self, t):
        a, s = map(column, self.levels(t))
        return a * a * self.variance + s * s

    def noise(self, noisy, t):
        a, s = map(column, self.levels(t))
        return s * (noisy - a * self.mean) / self.power(t)

    def log_density(self, noisy, t):
        a, _ = map(column, self.levels(t))
        return -0.5 * ((noisy - a * self.mean) ** 2 / self.power(t)).sum()


M0, M1, M2 = (normal(1, *SHAPE[1:], seed=seed) for seed in (1, 2, 3))
V = 0.3 + normal(1, *SHAPE[1:], seed=4).square()
CLEAN = normal(*SHAPE, seed=5)
T = torch.tensor([0.3, 0.7], dtype=torch.float64)


def bound(text, empty, negative=None, levels=cosine):
    text, empty = replace(text, levels=levels), replace(empty, levels=levels)

    def predict(noisy, t):
        against = None if negative is None else replace(negative, levels=levels).noise(noisy, t)
        return Noises(text.noise(noisy, t), empty.noise(noisy, t), against)

    return Model(predict, levels)


def two(levels=cosine, variance=V):
    return bound(Gaussian(M1, variance), Gaussian(M0, variance), levels=levels)


def expected(loss, model, scale, count=4000):
    """Mean and standard error over the generator, at every pixel."""
    clean, t = CLEAN.repeat(count, 1, 1, 1), T.repeat(count)
    steps = loss(clean, t, model, scale, seeded(9)).view(count, *SHAPE)
    return steps.mean(0), steps.std(0) / count**0.5


@pytest.mark.parametrize("scale", [1.0, 7.5])
@pytest.mark.parametrize("loss", [losses.sds, losses.sjc, partial(losses.x0, rescale=0.0)])
def test_expected_step_of_sds(loss, scale):
    """sigma alpha / (alpha^2 V + sigma^2) * (clean - m0 - s (m1 - m0)): it vanishes at the shifted mean alone."""
    mean, error = expected(loss, two(), scale)
    a, s = map(column, cosine(T))
    closed = s * a / Gaussian(M0, V).power(T) * (CLEAN - M0 - scale * (M1 - M0))
    assert bool(((mean - closed).abs() < 5 * error).all())
    assert float(error.max()) < 0.05 * float(closed.abs().max())


def test_sds_of_a_certain_prior_is_exact():
    sure = bound(Gaussian(M1, 0.0), Gaussian(M1, 0.0))
    a, s = map(column, cosine(T))
    for loss in (losses.sds, losses.sjc, losses.sdi, partial(losses.sjc, draws=3), losses.vsd_with(pure_noise)):
        step = loss(CLEAN, T, sure, 1.0, seeded())
        wanted = a / s * (CLEAN - M1)
        if not isinstance(loss, partial) and loss.__name__ == "vsd":
            wanted = wanted + inversion.draw(CLEAN, seeded())
        torch.testing.assert_close(step, wanted)


@pytest.mark.parametrize("scale", [1.0, 7.5])
def test_dds_moves_by_what_the_prompts_differ_in_without_noise(scale):
    """sigma alpha / (alpha^2 V + sigma^2) * (clean - start - s (m1 - m2)), whatever noise is drawn."""
    start = normal(*SHAPE, seed=6)
    then = bound(Gaussian(M2, V), Gaussian(M0, V))
    loss = losses.dds_with(start, then.predict)
    a, s = map(column, cosine(T))
    closed = s * a / Gaussian(M0, V).power(T) * (CLEAN - start - scale * (M1 - M2))
    for seed in (1, 2):
        torch.testing.assert_close(loss(CLEAN, T, two(), scale, seeded(seed)), closed)
    assert float(losses.dds_with(CLEAN, two().predict)(CLEAN, T, two(), scale, seeded()).abs().max()) == 0.0


def test_more_draws_of_sjc_make_less_noise():
    (_, one), (_, four) = (expected(partial(losses.sjc, draws=n), two(), 1.0, 1000) for n in (1, 4))
    torch.testing.assert_close(four, one / 2, rtol=0.15, atol=0)


def pure_noise(noisy, t):
    zero = torch.zeros_like(noisy)
    return Noises(zero, zero)


def test_descent_finds_the_optimum():
    """SDS, SJC at s = 1 go to the mean; so do SDI and ISM, without noise exactly so."""
    prior = bound(Gaussian(M1, V), Gaussian(M1, V))
    cases = [
        (losses.sds, 0.1, 0.2),
        (losses.sjc, 0.1, 0.2),
        (partial(losses.sdi, steps=5, eta=0.0, inverse_scale=1.0), 2.0, 0.02),
        (losses.ism, 5.0, 0.02),
    ]
    for loss, rate, near in cases:
        clean = normal(64, *SHAPE[1:], seed=6).requires_grad_()
        generator, schedule = seeded(7), schedules.Uniform(0.2, 0.8)
        optimizer = torch.optim.SGD([clean], lr=64 * rate)
        for k in range(150):
            t = schedule(k / 150, 64, generator).double()
            optimizer.zero_grad()
            losses.descend(clean, loss(clean.detach(), t, prior, 1.0, generator), torch.ones(64)).backward()
            optimizer.step()
        far = clean.detach().mean(0) - M1[0]
        assert float(far.abs().max()) < near, loss


def test_csd_is_the_gradient_of_the_classifier():
    """sigma / alpha times the finite difference of log p(noisy) - log p(noisy | text)."""
    text, empty = Gaussian(M1, V), Gaussian(M0, 2 * V)
    step = losses.csd(CLEAN, T, bound(text, empty), 1.0, seeded())
    noise = inversion.draw(CLEAN, seeded())
    a, s = cosine(T)

    def energy(clean):
        noisy = add_noise(clean, noise, a, s)
        return empty.log_density(noisy, T) - text.log_density(noisy, T)

    for index in [(0, 0, 0, 0), (1, 2, 1, 0)]:
        nudge = torch.zeros_like(CLEAN)
        nudge[index] = 1e-5
        slope = (energy(CLEAN + nudge) - energy(CLEAN - nudge)) / 2e-5
        assert float(step[index]) == pytest.approx(float(s[index[0]] / a[index[0]] * slope), rel=1e-6)
    doubled = losses.csd(CLEAN, T, bound(text, empty), 2.0, seeded())
    torch.testing.assert_close(doubled, 2 * step)


def test_csd_is_sds_without_what_the_prior_alone_says():
    model, scale = two(), 7.5
    alone = losses.sds(CLEAN, T, model, 0.0, seeded())
    torch.testing.assert_close(
        losses.csd(CLEAN, T, model, scale, seeded()), losses.sds(CLEAN, T, model, scale, seeded()) - alone
    )


def test_negative_prompts_take_the_place_of_nothing():
    negative = Gaussian(M2, V)
    model = bound(Gaussian(M1, V), Gaussian(M0, V), negative)
    swapped = bound(Gaussian(M1, V), negative)
    for loss in (losses.sds, losses.csd):
        torch.testing.assert_close(loss(CLEAN, T, model, 3.0, seeded()), loss(CLEAN, T, swapped, 3.0, seeded()))


def test_nfsd_has_a_part_for_the_domain_and_one_for_the_text():
    """Early the noise without a prompt, later that beyond the negative one: with equal variances a constant."""
    model = bound(Gaussian(M1, V), Gaussian(M0, V), Gaussian(M2, V))
    t = torch.tensor([0.1, 0.6], dtype=torch.float64)
    step = losses.nfsd(CLEAN, t, model, 2.0, seeded())
    a, s = map(column, cosine(t))
    toward = -s * a / Gaussian(M0, V).power(t)
    early = Gaussian(M0, V).noise(add_noise(CLEAN, inversion.draw(CLEAN, seeded()), *cosine(t)), t)
    torch.testing.assert_close(step[0], (early + 2 * toward * (M1 - M0))[0])
    torch.testing.assert_close(step[1], (toward * (M0 - M2) + 2 * toward * (M1 - M0))[1])
    with pytest.raises(losses.LossError, match="negative prompt"):
        losses.nfsd(CLEAN, t, two(), 2.0, seeded())


def carried(mean, t):
    """Where the probability flow of N(mean, V) takes clean pictures: it keeps their quantiles."""
    a, _ = map(column, cosine(t))
    return a * mean + (CLEAN - mean) * (Gaussian(mean, V).power(t) / V).sqrt()


def test_inversion_follows_the_probability_flow():
    model = two()
    errors = []
    for steps in (50, 400):
        x = inversion.invert(CLEAN, T, 1 / steps, lambda x, t: model.predict(x, t).empty, cosine, seeded())
        errors.append(float((x - carried(M0, T)).abs().max()))
    assert errors[1] < 0.02 and errors[1] < 0.3 * errors[0]


def test_all_fresh_noise_is_the_forward_process():
    model = two()
    many = CLEAN[:1].repeat(20000, 1, 1, 1)
    t = torch.full((20000,), 0.5, dtype=torch.float64)
    x = inversion.invert(many, t, 0.1, lambda x, t: model.predict(x, t).empty, cosine, seeded(), eta=1.0)
    a, s = cosine(t[:1])
    _, s0 = cosine(torch.tensor([inversion.FIRST], dtype=torch.float64))
    torch.testing.assert_close(x.mean(0), a * CLEAN[0], atol=0.03, rtol=0)
    torch.testing.assert_close(x.std(0), s.expand(SHAPE[1:]), atol=0.02, rtol=0)
    assert float(s0) < 0.02


def test_sdi_closed_form():
    scale, inverse = 2.0, -1.0
    loss = partial(losses.sdi, steps=1000, inverse_scale=inverse, eta=0.0)
    a, s = map(column, cosine(T))
    noisy = carried(M0 + inverse * (M1 - M0), T)
    wanted = Gaussian(M0 + scale * (M1 - M0), V).noise(noisy, T) - (noisy - a * CLEAN) / s
    torch.testing.assert_close(loss(CLEAN, T, two(), scale, seeded()), wanted, atol=0.03, rtol=0.01)


def test_ism_closed_form():
    loss = partial(losses.ism, delta=0.05, stride=0.001)
    now, before = carried(M0, T), carried(M0, T - 0.05)
    wanted = Gaussian(M0 + 3 * (M1 - M0), V).noise(now, T) - Gaussian(M0, V).noise(before, T - 0.05)
    torch.testing.assert_close(loss(CLEAN, T, two(), 3.0, seeded()), wanted, atol=0.02, rtol=0.02)


def test_flow_is_noise_over_alpha():
    for levels, factor in ((straight, 1 / (1 - T)), (cosine, sum(cosine(T)) / cosine(T)[0])):
        flow = losses.sds_flow(CLEAN, T, two(levels), 4.0, seeded())
        torch.testing.assert_close(flow, column(factor) * losses.sds(CLEAN, T, two(levels), 4.0, seeded()))


def test_ucm_vanishes_where_the_flow_is_straight():
    """A certain prior's flow couples its picture to no noise, and any other picture is drawn to it."""
    sure = bound(Gaussian(M1, 0.0), Gaussian(M1, 0.0), levels=straight)
    at = M1.repeat(2, 1, 1, 1)
    torch.testing.assert_close(losses.ucm(at, T, sure, 1.0, seeded()), torch.zeros(SHAPE, dtype=torch.float64))
    torch.testing.assert_close(losses.ucm(CLEAN, T, sure, 1.0, seeded()), (CLEAN - M1) / column(T))


def test_vsd_vanishes_for_renders_of_the_prior():
    model = two()
    right = losses.vsd_with(lambda noisy, t: Noises(*[Gaussian(M1, V).noise(noisy, t)] * 2))
    assert float(right(CLEAN, T, model, 1.0, seeded()).abs().max()) < 1e-12
    shifted = losses.vsd_with(lambda noisy, t: Noises(*[Gaussian(M2, V).noise(noisy, t)] * 2))
    a, s = map(column, cosine(T))
    torch.testing.assert_close(
        shifted(CLEAN, T, model, 1.0, seeded()), (s * a * (M2 - M1) / Gaussian(M1, V).power(T)).expand(SHAPE)
    )


def test_vsd_keeps_the_spread_that_sds_loses():
    prior, count = bound(Gaussian(M1, V), Gaussian(M1, V)), 500

    def cloud(noisy, t):
        return Noises(*[Gaussian(x.mean(0), x.var(0)).noise(noisy, t)] * 2)

    spread = {}
    for name in ("vsd", "sds"):
        x, generator = normal(count, *SHAPE[1:], seed=8), seeded(3)
        loss = losses.vsd_with(cloud) if name == "vsd" else losses.sds
        for _ in range(250):
            t = schedules.Uniform(0.2, 0.8)(0.0, count, generator).double()
            x = x - (0.2 if name == "vsd" else 0.05) * loss(x, t, prior, 1.0, generator)
        spread[name] = x.var(0) / V[0]
        torch.testing.assert_close(x.mean(0), M1[0], atol=0.2, rtol=0)
    assert float((spread["vsd"] - 1).abs().max()) < 0.1
    assert float(spread["sds"].max()) < 0.6


@pytest.mark.parametrize("kind", ["noise", "velocity", "clean", "flow"])
def test_all_answers_agree(kind):
    """A prior that answers in another way gives the same step; the right answers all name the same noise."""
    a, s = cosine(T)
    noise = normal(*SHAPE, seed=11)
    noisy = add_noise(CLEAN, noise, a, s)
    torch.testing.assert_close(noise_from(own.wanted(kind, CLEAN, noise, a, s), kind, noisy, a, s), noise)

    def network(noisy, t):
        seen = Gaussian(M1, V).noise(noisy, t)
        a, s = cosine(t)
        return own.wanted(kind, (noisy - column(s) * seen) / column(a), seen, a, s)

    model = Model(own.OwnModel(network, kind, cosine).predict, cosine)
    prior = bound(Gaussian(M1, V), Gaussian(M1, V))
    torch.testing.assert_close(
        losses.sds(CLEAN, T, model, 1.0, seeded()), losses.sds(CLEAN, T, prior, 1.0, seeded())
    )


ALL = [losses.sds, losses.x0, losses.sjc, losses.csd, losses.nfsd, losses.ism, losses.sdi, losses.sds_flow]
ALL += [losses.ucm, losses.vsd_with(lambda noisy, t: Noises(noisy, noisy))]


@pytest.mark.parametrize("loss", ALL, ids=lambda loss: loss.__name__)
def test_generators_decide_and_nothing_is_differentiated(loss):
    model = bound(Gaussian(M1, V), Gaussian(M0, 2 * V), Gaussian(M2, V))
    clean, before = CLEAN.clone().requires_grad_(), torch.random.get_rng_state()
    step = loss(clean, T, model, 5.0, seeded(1))
    assert torch.equal(step, loss(clean, T, model, 5.0, seeded(1))) and not step.requires_grad
    assert torch.equal(before, torch.random.get_rng_state())
    inverted = loss.__name__ in ("ism", "ucm")
    assert torch.equal(step, loss(clean, T, model, 5.0, seeded(2))) == inverted
    if inverted:
        noisy = [loss(clean, T, model, 5.0, seeded(seed), eta=0.5) for seed in (1, 2)]
        assert not torch.equal(*noisy)


def test_rescaling():
    noises = two().predict(CLEAN, T)
    levels = (CLEAN, *cosine(T))
    torch.testing.assert_close(guidance.guided(noises, 9.0, 0.0, *levels), guidance.guided(noises, 9.0))
    a, s = map(column, cosine(T))
    clean = [(CLEAN - s * noise) / a for noise in (guidance.guided(noises, 9.0, 1.0, *levels), noises.text)]
    torch.testing.assert_close(*(x.flatten(1).std(1) for x in clean))
    with pytest.raises(guidance.GuidanceError, match="noisy"):
        guidance.guided(noises, 9.0, 0.5)


def test_perp_neg_leaves_the_text_direction_alone():
    text, empty, view = (normal(*SHAPE, seed=seed) for seed in (20, 21, 22))
    weights = torch.tensor([0.0, 1.5])
    plain = guidance.guided(Noises(text, empty), 3.0)
    turned = guidance.guided(Noises(text, empty, away=((weights, view),)), 3.0)
    ahead = text - empty
    along = ((turned - plain) * ahead).flatten(1).sum(1)
    torch.testing.assert_close(along, torch.zeros_like(along), atol=1e-10, rtol=0)
    torch.testing.assert_close(turned[0], plain[0])
    assert float(((turned - plain)[1] * (view - empty)[1]).sum()) < -0.1
    same = guidance.guided(Noises(text, empty, away=((weights, text),)), 3.0)
    torch.testing.assert_close(same, plain)


def test_view_weights():
    azimuth = torch.linspace(-7, 7, 2001, dtype=torch.float64)
    for elevation in (0.0, 0.9, 1.05, 1.2):
        for weigh in (guidance.view_weights, guidance.away_weights):
            weights = weigh(azimuth, torch.full_like(azimuth, elevation))
            assert float(weights.min()) >= -1e-12
            assert float(weights.diff(dim=0).abs().max()) < 0.03
        total = guidance.view_weights(azimuth, torch.full_like(azimuth, elevation)).sum(1)
        torch.testing.assert_close(total, torch.ones_like(total))
    quarter = math.pi / 2
    centers = guidance.view_weights(
        torch.tensor([0, quarter, -quarter, 2 * quarter, 0.3], dtype=torch.float64),
        torch.tensor([0, 0, 0, 0, quarter], dtype=torch.float64),
    )
    torch.testing.assert_close(centers, torch.eye(4, dtype=torch.float64)[[0, 1, 1, 2, 3]])
    half = guidance.view_weights(torch.tensor([quarter / 2, 0.0]), torch.tensor([0.0, math.radians(60)]))
    torch.testing.assert_close(half, torch.tensor([[0.5, 0.5, 0, 0], [0.5, 0, 0, 0.5]]))
    up = torch.linspace(0, 1.5, 500)
    assert bool((guidance.view_weights(torch.zeros_like(up), up)[:, 3].diff() >= 0).all())
    away = guidance.away_weights(torch.tensor([0.0, quarter, 2 * quarter]), torch.zeros(3))
    assert away[0, 0] == 0 and float(away[1, 1]) == pytest.approx(0, abs=1e-6)
    assert bool((away[:, 0].diff() > 0).all()), "the face is kept off the back the most"
    assert guidance.view_prompts("a man")[2] == "a man, back view" and len(guidance.view_prompts("")) == 4


def test_descend():
    clean = CLEAN.clone().requires_grad_()
    gradient, weights = normal(*SHAPE, seed=30), torch.tensor([0.5, 2.0])
    losses.descend(clean, gradient, weights).backward()
    torch.testing.assert_close(clean.grad, column(weights.double()) * gradient / 2)
    clipped = losses.clip_pixels(gradient, 0.5)
    lengths = gradient.norm(dim=1)
    torch.testing.assert_close(clipped.norm(dim=1), lengths.clamp_max(0.5))
    torch.testing.assert_close(clipped / clipped.norm(dim=1, keepdim=True), gradient / lengths[:, None])
    gradient[0, 0, 0, 0] = torch.nan
    assert not losses.finite(gradient)
    with pytest.raises(losses.GradientError, match="not finite"):
        losses.descend(clean, gradient, weights)


@pytest.mark.parametrize("schedule", [schedules.Linear(), schedules.SquareRoot()])
def test_annealing_falls_between_its_limits(schedule):
    times = torch.cat([schedule(k / 50, 3, seeded())[:1] for k in range(51)])
    assert bool((times.diff() < 0).all()) and schedule(0.5, 3, seeded()).shape == (3,)
    torch.testing.assert_close(times[[0, -1]], torch.tensor([schedule.high, schedule.low]))
    middle = 0.5 if isinstance(schedule, schedules.Linear) else 0.5**0.5
    assert float(times[25]) == pytest.approx(schedule.high + (schedule.low - schedule.high) * middle)


def test_uniform_times_stay_within_moving_limits():
    schedule = schedules.Uniform(0.02, schedules.Ramp(0.2, 0.98, 0.5, 0.6))
    for share, high in ((0.0, 0.98), (0.4, 0.74), (1.0, 0.5)):
        times = schedule(share, 4000, seeded())
        assert 0.02 <= float(times.min()) < 0.03 and high - 0.01 < float(times.max()) <= high
        assert float(times.mean()) == pytest.approx((0.02 + high) / 2, abs=0.02)
    for wrong in ((0.5, 0.2), (-0.1, 0.5), (0.6, schedules.Ramp(0, 0.98, 0.5, 1))):
        with pytest.raises(schedules.ScheduleError, match="lower limit"):
            schedules.Uniform(*wrong)
    with pytest.raises(schedules.ScheduleError, match="ramp"):
        schedules.Ramp(1, 0, 0, 1)
    assert schedules.value(3.0, 0.5) == 3.0 and schedules.value(schedules.Ramp(0, 1, 2, 10), 5) == 1.5


def test_weightings():
    alpha, sigma = cosine(T)
    assert bool((schedules.uniform(alpha, sigma) == 1).all())
    torch.testing.assert_close(schedules.noise_power(alpha, sigma), 1 - alpha**2)
    torch.testing.assert_close(schedules.both_powers(alpha, sigma), alpha * (1 - alpha**2))
    product = schedules.noise_to_signal(alpha, sigma) * schedules.signal_to_noise(alpha, sigma)
    torch.testing.assert_close(product, torch.ones_like(T))
    sure = bound(Gaussian(M1, 0.0), Gaussian(M1, 0.0))
    step = losses.sds(CLEAN, T, sure, 1.0, seeded())
    torch.testing.assert_close(column(schedules.noise_to_signal(alpha, sigma)) * step, CLEAN - M1)


def test_own_model_learns_the_renders_score():
    """Trained on renders of one Gaussian, a linear network becomes its best noise prediction."""
    weight = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    model = own.OwnModel(lambda noisy, t: weight[0] * noisy + weight[1], "noise", cosine)
    optimizer, generator = torch.optim.Adam([weight], lr=0.05), seeded(4)
    mean, sd = 0.7, 0.5
    t = torch.full((512,), 0.5, dtype=torch.float64)
    for k in range(200):
        renders = mean + sd * normal(512, 1, 2, 2, seed=100 + k)
        optimizer.zero_grad()
        own.own_loss(model, renders.requires_grad_(), t, generator).backward()
        assert renders.grad is None
        optimizer.step()
    x = torch.linspace(-1, 1, 4, dtype=torch.float64).view(1, 1, 2, 2)
    best = Gaussian(torch.tensor(mean), sd**2).noise(x, t[:1])
    torch.testing.assert_close(model.predict(x, t[:1]).text.detach(), best, atol=0.05, rtol=0)


def test_low_rank_layers_are_off_for_the_prior():
    pytest.importorskip("peft")
    network = torch.nn.Sequential()
    network.add_module("to_q", torch.nn.Linear(4, 4))
    x = torch.randn(3, 4, generator=seeded())
    plain, before = network(x), torch.random.get_rng_state()
    parameters = own.add_lora(network, 2, seeded(), ["to_q"])
    assert torch.equal(before, torch.random.get_rng_state()) and len(parameters) == 2
    with own.lora(network):
        torch.testing.assert_close(network(x), plain)
        error = (network(x) - 1).square().mean()
    error.backward()
    assert network.to_q.base_layer.weight.grad is None
    optimizer = torch.optim.SGD(parameters, lr=0.5)
    optimizer.step()
    torch.testing.assert_close(network(x), plain)
    with own.lora(network):
        assert float((network(x) - plain).detach().abs().max()) > 1e-3
