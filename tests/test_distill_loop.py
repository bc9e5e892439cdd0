"""The loop on a prior that is known in closed form: all pictures it knows are of a red ball."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from avatar3d.distill.binding import bind, encode_prompts
from avatar3d.distill.guard import look
from avatar3d.distill.loop import CheckpointError, Running, look_around, run_stage
from avatar3d.distill.prior import Text
from avatar3d.distill.radiance_scene import RadianceScene, new_field
from avatar3d.distill.stage import Cameras, Guidance, Look, Penalties, SceneConfig, Stage, Times

SIZE = 24
BEHIND = (0.80, 0.81, 0.83)
RED = (0.9, 0.1, 0.1)


class BallPrior:
    """Clean pictures are a red disc on grey, and nothing else: p(x) is one point."""

    name, answer, size, latent, sees_views = "ball", "noise", SIZE, (3, SIZE, SIZE), True
    device = torch.device("cpu")

    def __init__(self, radius: float = 0.55) -> None:
        axis = (torch.arange(SIZE) + 0.5) / SIZE * 2 - 1
        inside = (axis[:, None].square() + axis.square()).sqrt() < radius
        picture = torch.where(inside[..., None], torch.tensor(RED), torch.tensor(BEHIND))
        self.mean = (2 * picture - 1).permute(2, 0, 1)
        self.asked: list[str] = []

    def encode_text(self, prompts: Sequence[str]) -> Text:
        self.asked += prompts
        return Text(pooled=torch.tensor([[float(bool(prompt))] for prompt in prompts]))

    def encode(self, rgb: Tensor) -> Tensor:
        return 2 * rgb - 1

    def decode(self, latents: Tensor) -> Tensor:
        return latents * 0.5 + 0.5

    def levels(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return torch.cos(t * torch.pi / 2), torch.sin(t * torch.pi / 2)

    def predict(self, noisy: Tensor, t: Tensor, text: Text, angles=None, pose=None, behind=None) -> Tensor:
        alpha, sigma = (x.view(-1, 1, 1, 1) for x in self.levels(t))
        return (noisy - alpha * self.mean) / sigma.clamp_min(1e-4)


STAGE = Stage(
    scene=SceneConfig("voxels", resolution=20, nodes=24),
    guidance=Guidance("sds", scale=1.0, weight="noise_power"),
    times=Times(low=0.1, high=0.9),
    cameras=Cameras(radius=(4.0, 4.0), elevation=(-40, 40), jitter=0.0),
    look=Look(background="grey"),
    penalties=Penalties(variation=0.1),
    steps=60,
    batch=3,
    size=SIZE,
    rate=0.1,
)


def scene(stage: Stage = STAGE) -> RadianceScene:
    field = new_field(stage.scene, torch.Generator().manual_seed(0))
    return RadianceScene(
        field, stage.scene, frozenset({"variation", "opacity"} if stage is STAGE else {"variation"})
    )


def run(checkpoint: Path | None = None, stage: Stage = STAGE, prior: BallPrior | None = None, **settings):
    made, prior = scene(stage), prior or BallPrior()
    outcome = run_stage(
        made, prior, encode_prompts(prior, "a ball"), stage, Running(checkpoint=checkpoint, **settings)
    )
    return made, outcome


def test_a_ball_comes_out():
    made, outcome = run()
    start = look_around(scene(), STAGE).rgb
    end = look_around(made, STAGE).rgb
    wanted = BallPrior().mean * 0.5 + 0.5
    before, after = ((pictures - wanted).square().mean() for pictures in (start, end))
    assert outcome.faults == [] and not outcome.diverged
    assert after < 0.25 * before and after < 0.01


def test_going_on_after_a_kill_is_exact(tmp_path: Path):
    straight, _ = run(seed=3)
    path = tmp_path / "checkpoint.pt"

    class KilledError(Exception):
        pass

    def kill(progress):
        if progress.step == 37:
            raise KilledError

    made, prior = scene(), BallPrior()
    settings = Running(seed=3, checkpoint=path, save_every=10)
    with pytest.raises(KilledError):
        run_stage(made, prior, encode_prompts(prior, "a ball"), STAGE, settings, kill)
    resumed, outcome = run(path, seed=3)
    assert outcome.steps == STAGE.steps
    for a, b in zip(straight.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_checkpoints_of_other_settings_or_damaged_ones_are_refused(tmp_path: Path):
    path = tmp_path / "checkpoint.pt"
    run(path, replace(STAGE, steps=2))
    with pytest.raises(CheckpointError, match="other settings"):
        run(path, replace(STAGE, steps=3))
    path.write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="damaged"):
        run(path)


def test_a_prior_that_breaks_is_survived():
    """Now and then its answer is not a number: the scene goes back, and ends sane, slower and weaker."""

    class Breaking(BallPrior):
        calls = 0

        def predict(self, noisy: Tensor, *rest, **more) -> Tensor:
            self.calls += 1
            answer = super().predict(noisy, *rest, **more)
            return answer * torch.nan if self.calls == 20 else answer

    made, outcome = run(prior=Breaking())
    assert [fault.kind for fault in outcome.faults] == ["not finite"] and not outcome.diverged
    assert all(bool(torch.isfinite(p).all()) for p in made.parameters())


def test_a_prior_that_wants_nothing_there_is_reported():
    prior = BallPrior(radius=0.0)
    made, outcome = run(prior=prior, stage=replace(STAGE, steps=200, rate=0.5), restarts=1)
    assert outcome.diverged and {fault.kind for fault in outcome.faults} <= {"empty", "foggy"}
    assert float(look_around(made, STAGE).alpha.mean()) > 0.01


def test_early_stop():
    _, outcome = run(stage=replace(STAGE, rate=1e-6), still=1e-3)
    assert outcome.stopped_early and outcome.steps < STAGE.steps


@pytest.mark.parametrize(
    ("kind", "alpha"),
    [
        ("empty", torch.zeros(4, 16, 16)),
        ("opaque", torch.ones(4, 16, 16)),
        ("foggy", torch.full((4, 16, 16), 0.4)),
    ],
)
def test_guard_names_the_fault(kind: str, alpha: Tensor):
    assert look(alpha, alpha[:, None].expand(-1, 3, -1, -1), 0.8) == kind


def test_guard_knows_what_is_well_and_what_is_not_a_number():
    alpha = torch.zeros(4, 16, 16)
    alpha[:, 4:, 4:12] = 1
    rgb = alpha[:, None].expand(-1, 3, -1, -1)
    assert look(alpha, rgb, 0.8) is None
    assert look(alpha, rgb * torch.nan, 0.0) == "not finite"


def test_views_mix_smoothly_and_away_prompts_follow_the_azimuth():
    """A prior whose noise is its text: what is asked shows in the answer."""

    class Telling(BallPrior):
        sees_views = False

        def encode_text(self, prompts: Sequence[str]) -> Text:
            names = ("front", "side", "back", "overhead")
            return Text(pooled=torch.tensor([[float(name in prompt) for name in names] for prompt in prompts]))

        def predict(self, noisy: Tensor, t: Tensor, text: Text, angles=None, pose=None, behind=None) -> Tensor:
            assert text.pooled is not None
            return text.pooled[:, :3, None, None].expand(-1, 3, SIZE, SIZE)

    prior = Telling()
    prompts = encode_prompts(prior, "a ball")
    angles = torch.tensor([[0.0, 0.0], [torch.pi / 2, 0.0], [torch.pi / 4, 0.0]])
    noises = bind(prior, prompts, angles, perp_neg=1.0, rows=2).predict(
        torch.zeros(3, 3, SIZE, SIZE), torch.ones(3)
    )
    said = noises.text[:, :, 0, 0]
    assert torch.allclose(said, torch.tensor([[1.0, 0, 0], [0, 1, 0], [0.5, 0.5, 0]]), atol=1e-6)
    assert float(noises.empty.abs().max()) == 0
    weights = torch.stack([weight for weight, _ in noises.away])
    assert float(weights[0, 1]) > 0 and float(weights[:, 2].sum()) > 0


def test_all_that_is_asked_is_seen_from_the_camera_over_its_background():
    class Recorded(BallPrior):
        def predict(self, noisy, t, text, angles=None, pose=None, behind=None):
            rows = zip(text.pooled[:, 0].tolist(), angles[:, 0].tolist(), behind[:, 0].tolist(), strict=True)
            self.told = [(bool(said), round(azimuth, 2), round(red, 2)) for said, azimuth, red in rows]
            return super().predict(noisy, t, text)

    prior, behind = Recorded(), torch.tensor([[0.1, 0.0, 0.0], [0.9, 0.0, 0.0]])
    angles = torch.tensor([[0.5, 0.0], [-1.0, 0.0]])
    model = bind(prior, encode_prompts(prior, "a ball", "a cube"), angles, behind=behind)
    model.predict(torch.zeros(2, 3, SIZE, SIZE), torch.full((2,), 0.5))
    assert prior.told == [(said, *row) for said in (True, False, True) for row in ((0.5, 0.1), (-1.0, 0.9))]


def test_dds_leaves_a_scene_that_already_shows_what_is_said():
    """What the prior finds wrong with the scene (it is no ball) is wrong with its start too."""
    stage = replace(STAGE, guidance=replace(STAGE.guidance, loss="dds"), penalties=Penalties(), steps=5)
    made, prior = RadianceScene(new_field(stage.scene, torch.Generator().manual_seed(0)), stage.scene), BallPrior()
    before = {name: value.clone() for name, value in made.field.state_dict().items()}
    run_stage(made, prior, encode_prompts(prior, "a ball", start="a ball"), stage, Running())
    for name, value in made.field.state_dict().items():
        assert torch.equal(value, before[name])


def test_dds_tells_the_prior_what_the_start_shows():
    """A prior for which words change the picture's mean by a shift: the scene moves by that shift."""

    class Shifted(BallPrior):
        def predict(self, noisy: Tensor, t: Tensor, text: Text, angles=None, pose=None, behind=None) -> Tensor:
            alpha, sigma = (x.view(-1, 1, 1, 1) for x in self.levels(t))
            shift = 0.5 * text.pooled.view(-1, 1, 1, 1)
            return (noisy - alpha * (self.mean - shift)) / sigma.clamp_min(1e-4)

    stage = replace(STAGE, guidance=replace(STAGE.guidance, loss="dds"), penalties=Penalties(), steps=30)
    made, prior = RadianceScene(new_field(stage.scene, torch.Generator().manual_seed(0)), stage.scene), Shifted()
    before = look_around(made, stage)
    run_stage(made, prior, encode_prompts(prior, "a ball", start=""), stage, Running())
    after = look_around(made, stage)
    covered = (before.alpha > 0.5).float()[:, None]
    gap = ((after.rgb - before.rgb) * covered).sum() / (3 * covered.sum())
    assert -0.35 < gap < -0.15  # 0.25 of [0, 1]
