"""The mean picture of what is said: the regression finds what it was made of, and a prior begins from it."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import pixel_unshuffle

from avatar3d.distill.hint import Hint, centers, features, fit, load_hint, save_hint
from avatar3d.distill.prior import about_whole, add_noise, clean_from, noise_from


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


def test_over_a_background_is_the_over_operator_with_coverage_and_light_kept_in_bounds():
    mean = torch.zeros(4, 2, 2)
    mean[:3, 0] = torch.tensor([[0.5, 0.9], [0.25, -0.1], [0.0, 0.2]])
    mean[3] = torch.tensor([[0.5, 0.8], [1.2, -0.3]])
    hint = Hint(torch.zeros(30, 1), torch.zeros(1, 16), mean.flatten())
    facts, angles = torch.zeros(1, 2), torch.zeros(1, 2)
    over = hint.over(facts, angles, torch.tensor([[1.0, 0.5, 0.0]]))
    torch.testing.assert_close(over[0, 3], torch.tensor([[0.5, 0.8], [1.0, 0.0]]))
    rgb = (over[0, :3] + 1) / 2
    torch.testing.assert_close(rgb[:, 0, 0], torch.tensor([0.5 + 0.5, 0.25 + 0.25, 0.0]))
    torch.testing.assert_close(rgb[:, 0, 1], torch.tensor([0.8 + 0.2, 0.0 + 0.1, 0.2]))  # not more than covers
    torch.testing.assert_close(rgb[:, 1, 1], torch.tensor([1.0, 0.5, 0.0]))  # nothing is there
    unknown = hint.over(facts, angles)
    torch.testing.assert_close((unknown[0, :3, 1, 1] + 1) / 2, torch.full((3,), 0.5))


def test_centers_are_folded_as_pictures_are():
    over = torch.rand(2, 4, 8, 8, generator=seeded())
    torch.testing.assert_close(centers(over, 8, 2), pixel_unshuffle(over[:, :3], 2))
    assert centers(over, 16, 4).shape == (2, 48, 4, 4)


def test_the_file_keeps_the_hint(tmp_path):
    facts, angles, pictures = made()
    hint = fit(facts, angles, pictures, components=8)
    save_hint(hint, tmp_path / "hint.safetensors")
    again = load_hint(tmp_path / "hint.safetensors")
    torch.testing.assert_close(again(facts[:4], angles[:4]), hint(facts[:4], angles[:4]), atol=0.05, rtol=0.02)


@pytest.mark.parametrize("kind", ["noise", "velocity", "clean", "flow"])
def test_an_answer_about_the_rest_becomes_one_about_the_whole(kind):
    rest, noise, center = (torch.randn(3, 2, 4, 4, generator=seeded(k), dtype=torch.float64) for k in range(3))
    t = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)
    alpha, sigma = (1 - t, t) if kind == "flow" else (torch.cos(t), torch.sin(t))
    a, s = (x.view(-1, 1, 1, 1) for x in (alpha, sigma))
    answer = {"noise": noise, "velocity": a * noise - s * rest, "clean": rest, "flow": noise - rest}[kind]
    answer = about_whole(answer, kind, center, sigma)
    noisy = add_noise(rest + center, noise, alpha, sigma)
    seen = noise_from(answer, kind, noisy, alpha, sigma)
    torch.testing.assert_close(seen, noise)
    torch.testing.assert_close(clean_from(seen, noisy, alpha, sigma), rest + center)
