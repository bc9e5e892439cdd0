"""Variational score distillation in the loop: the model of the renders learns beside the scene, in the prior."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_distill_loop import STAGE, BallPrior, scene
from test_priors import sd

from avatar3d.distill.binding import encode_prompts
from avatar3d.distill.diffusers_door import prior_from_pipeline
from avatar3d.distill.loop import Running, run_stage, step_loss
from avatar3d.distill.own import low_rank
from avatar3d.distill.prior import PriorError
from avatar3d.distill.stage import Guidance, Own

pytest.importorskip("peft")
VSD = replace(
    STAGE, guidance=Guidance("vsd", scale=2.0, perp_neg=0.0), own=Own(2, 1e-2), steps=6, batch=2, size=16
)


@pytest.fixture(scope="module")
def pipeline():
    torch.manual_seed(0)
    return sd()


def new_prior(pipeline):
    return prior_from_pipeline(pipeline)


def asked(prior) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    noisy = torch.randn(2, *prior.latent, generator=generator)
    return prior.predict(noisy, torch.tensor([0.3, 0.8]), prior.encode_text(["a red hat", ""]))


def test_only_the_model_of_the_renders_learns(pipeline):
    prior = new_prior(pipeline)
    before = asked(prior)
    run_stage(scene(VSD), prior, encode_prompts(prior, "a red hat"), VSD, Running())
    layers = {name: p for name, p in prior.network.model.named_parameters() if "lora_B" in name}
    assert layers and all(float(p.detach().abs().max()) > 0 for p in layers.values())
    torch.testing.assert_close(asked(prior), before, rtol=0, atol=0)


def test_a_fresh_model_of_the_renders_agrees_with_the_prior(pipeline):
    """Before it learns, guided less unguided noise: nothing at scale 1."""
    prior = new_prior(pipeline)
    own = low_rank(prior, 2, torch.Generator().manual_seed(0))
    prompts, stage = encode_prompts(prior, "a red hat"), replace(VSD, guidance=replace(VSD.guidance, scale=1.0))
    _, size = step_loss(scene(stage), prior, prompts, stage, Running(), 0, 1.0, own)
    assert size < 1e-5
    _, size = step_loss(scene(VSD), prior, prompts, VSD, Running(), 0, 1.0, own)
    assert size > 1e-3


def test_its_loss_does_not_pull_at_the_scene(pipeline):
    """At scale 1 a fresh model gives no direction: a scene without penalties gets no gradient, the model does."""
    prior = new_prior(pipeline)
    own = low_rank(prior, 2, torch.Generator().manual_seed(0))
    stage = replace(
        VSD, guidance=replace(VSD.guidance, scale=1.0), penalties=replace(VSD.penalties, variation=0.0)
    )
    made = scene(stage)
    total, _ = step_loss(made, prior, encode_prompts(prior, "a red hat"), stage, Running(), 0, 1.0, own)
    total.backward()
    assert all(p.grad is None or float(p.grad.abs().max()) < 1e-5 for p in made.parameters())
    assert any(float(p.grad.abs().max()) > 1e-4 for p in own.parameters if p.grad is not None)


def test_going_on_is_exact_with_what_was_learned(pipeline, tmp_path: Path):
    path = tmp_path / "checkpoint.pt"

    class KilledError(Exception):
        pass

    def kill(progress):
        if progress.step == 5:
            raise KilledError

    prior = new_prior(pipeline)
    prompts = encode_prompts(prior, "a red hat")
    straight, gone_on = scene(VSD), scene(VSD)
    run_stage(straight, prior, prompts, VSD, Running(seed=3))
    with pytest.raises(KilledError):
        run_stage(scene(VSD), prior, prompts, VSD, Running(seed=3, checkpoint=path, save_every=3), kill)
    run_stage(gone_on, prior, prompts, VSD, Running(seed=3, checkpoint=path))
    for a, b in zip(straight.state_dict().values(), gone_on.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_a_prior_without_a_network_is_refused():
    prior = BallPrior()
    with pytest.raises(PriorError, match="another loss"):
        run_stage(scene(VSD), prior, encode_prompts(prior, "a ball"), VSD, Running())
