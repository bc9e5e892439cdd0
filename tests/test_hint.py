"""The mean picture of what is said: the regression finds what it was made of, and gains are least squares."""

from __future__ import annotations

import math

import pytest
import torch

from avatar3d.distill.hint import Hint, features, fit, fit_gains, load_hint, save_hint
from avatar3d.distill.prior import add_noise, clean_from, moved, noise_from


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def made(count: int = 600, statements: int = 3, side: int = 4):
    """Facts, angles and pictures that are linear in the features."""
    facts = (torch.rand(count, statements, generator=seeded(1)) < 0.5).float()
    angles = torch.stack([7 * torch.rand(count, generator=seeded(2)), torch.rand(count, generator=seeded(3))], 1)
    truth = torch.randn((1 + statements) * 10, 4 * side * side, generator=seeded(4))
    return facts, angles, (features(facts, angles) @ truth).view(count, 4, side, side)


def test_the_regression_finds_a_linear_truth():
    facts, angles, pictures = made()
    hint = fit(facts[:500], angles[:500], pictures[:500], components=40, ridge=1e-4)
    missed = (hint(facts[500:], angles[500:]) - pictures[500:]).square().mean()
    assert missed < 1e-3 * pictures.var()


def test_a_large_penalty_leaves_the_views_alone():
    facts, angles, pictures = made()
    hint = fit(facts, angles, pictures, components=40, ridge=1e7)
    torch.testing.assert_close(hint(facts[:5], angles[:5]), hint(0 * facts[:5], angles[:5]), atol=0.05, rtol=0)


def test_an_unknown_view_is_the_mean_over_a_turn():
    facts, angles, pictures = made()
    hint = fit(facts, angles, pictures, components=40, ridge=1e-2)
    turn = torch.stack([torch.arange(16) * (2 * math.pi / 16), torch.zeros(16)], 1)
    around = hint(facts[:1].expand(16, -1), turn).mean(0, keepdim=True)
    unknown = hint(facts[:1], torch.full((1, 2), math.nan))
    torch.testing.assert_close(unknown, around, atol=1e-4, rtol=1e-4)
    nobody = torch.zeros_like(facts[:1])
    beyond = hint.beyond(nobody, torch.full((1, 2), math.nan), 8)
    assert beyond.shape == (1, 3, 8, 8) and float(beyond.abs().max()) == 0.0


def test_gains_are_those_that_were_missing():
    beyond = torch.randn(6, 3, 8, 8, generator=seeded())
    across = torch.randn(beyond.shape, generator=seeded(1))
    across -= (across * beyond).sum() / beyond.square().sum() * beyond
    wanted = torch.tensor([0.0, 0.3, 1.2])
    missing = torch.stack([w * beyond + across for w in wanted])
    torch.testing.assert_close(fit_gains(missing, beyond), wanted, atol=1e-5, rtol=1e-4)
    assert float(fit_gains(-beyond[None], beyond)) == 0.0


def test_gains_are_linear_between_their_times_and_kept_in_the_file(tmp_path):
    hint = Hint(torch.zeros(40, 2), torch.zeros(2, 64), torch.zeros(64), gains=torch.tensor([0.0, 0.5, 1.5]))
    torch.testing.assert_close(
        hint.gain(torch.tensor([0.0, 0.25, 0.5, 0.9, 1.0])), torch.tensor([0.0, 0.25, 0.5, 1.3, 1.5])
    )
    save_hint(hint, tmp_path / "hint.safetensors")
    again = load_hint(tmp_path / "hint.safetensors")
    assert again.gains is not None and again.gains.tolist() == [0.0, 0.5, 1.5]


@pytest.mark.parametrize("kind", ["noise", "velocity", "clean", "flow"])
def test_a_moved_answer_has_more_in_its_clean_picture(kind):
    clean, noise, more = (torch.randn(3, 2, 4, 4, generator=seeded(k), dtype=torch.float64) for k in range(3))
    t = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)
    alpha, sigma = (1 - t, t) if kind == "flow" else (torch.cos(t), torch.sin(t))
    noisy = add_noise(clean, noise, alpha, sigma)
    a, s = (x.view(-1, 1, 1, 1) for x in (alpha, sigma))
    answer = {"noise": noise, "velocity": a * noise - s * clean, "clean": clean, "flow": noise - clean}[kind]
    answer = moved(answer, kind, more, alpha, sigma)
    seen = clean_from(noise_from(answer, kind, noisy, alpha, sigma), noisy, alpha, sigma)
    torch.testing.assert_close(seen, clean + more)
