"""Methods in YAML: those that ship can be read, and what is wrong is named."""

from __future__ import annotations

import math
import typing
from pathlib import Path

import pytest
import torch

from avatar3d.distill import losses, presets, schedules
from avatar3d.distill.presets import PresetError, load
from avatar3d.distill.stage import LossName, WeightName


@pytest.mark.parametrize("name", presets.names())
def test_presets_that_ship(name: str):
    method = load(name)
    assert "arXiv" in method.paper and method.deviations and method.stages
    for stage in method.stages:
        times = stage.times.schedule()
        assert callable(times) and stage.guidance.scale > 0 and stage.rate > 0
        assert sum(close.share for close in stage.cameras.close_ups) < 1
    kinds = [stage.scene.kind for stage in method.stages]
    assert "mesh" not in kinds[:1], "a mesh needs a field before it"
    for kind, stage in zip(kinds, method.stages, strict=True):
        wanted = stage.penalties.wanted()
        surface = {"normal_consistency", "laplacian", "sign_entropy"}
        avatar = {"identity", "texture_variation", "relief_laplacian"}
        others = {"mesh": surface, "avatar": avatar}
        allowed = others.get(kind)
        assert wanted <= allowed if allowed else not wanted & (surface | avatar), f"{kind} has no such penalty"


def test_the_methods_are_there():
    assert {"fast", "sdi", "dreamfusion", "magic3d", "avatarverse", "prolificdreamer", "avatar"} <= set(
        presets.names()
    )


def test_penalties_of_sdi_weigh_as_much_as_in_threestudio():
    """There they stand beside half a mean square over the numbers of a latent."""
    clean, target = torch.ones(1, 4, 64, 64, requires_grad=True), torch.zeros(1, 4, 64, 64)
    there = torch.autograd.grad(0.5 * (clean - target).square().mean(), clean)[0]
    here = torch.autograd.grad(losses.descend(clean, (clean - target).detach(), torch.ones(1)), clean)[0]
    times = float(here.norm() / there.norm())
    penalties = load("sdi").stages[0].penalties
    assert penalties.orientation == pytest.approx(0.1 * times, rel=1e-3)
    assert penalties.entropy == pytest.approx(0.1 * times * math.log(2), rel=1e-3)
    assert penalties.opacity == pytest.approx((0.0, 0.15 * times, 0.0, 0.3), rel=1e-3)


def test_names_of_losses_and_weights_are_functions():
    for name in typing.get_args(LossName):
        made = f"{name}_with" if name in ("vsd", "dds") else name
        assert callable(getattr(losses, made))
    for name in typing.get_args(WeightName):
        assert callable(getattr(schedules, name))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("stagse: []", ["'stagse'", "stages"]),
        ("stages:\n  - stepps: 3", ["stages[0]", "'stepps'", "steps"]),
        ("stages:\n  - steps: many", ["steps", "'many'", "int"]),
        ("stages:\n  - steps: 3.5", ["steps", "3.5"]),
        ("stages:\n  - steps: true", ["steps", "True"]),
        ("stages:\n  - rate: fast", ["rate", "float"]),
        ("stages:\n  - guidance: {loss: sdss}", ["loss", "'sdss'", "sds", "sdi"]),
        ("stages:\n  - own: {ranks: 4}", ["own", "'ranks'", "rank"]),
        ("stages:\n  - scene: {kind: splats}", ["kind", "voxels"]),
        ("stages:\n  - cameras: {fov: [20.0]}", ["fov", "2 numbers", "not 1"]),
        ("stages:\n  - cameras: {fov: 20.0}", ["fov", "list"]),
        ("stages:\n  - cameras: {close_ups: [{share: 0.5}]}", ["close_ups[0]", "target"]),
        ("stages:\n  - penalties: {entropy: [0.0, 1.0, 2.0]}", ["entropy"]),
        ("stages: 3", ["list"]),
        ("- 3", ["mapping"]),
        ("stages: [", ["YAML"]),
    ],
)
def test_what_is_wrong_is_named(text: str, words: list[str], tmp_path: Path):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(PresetError) as caught:
        load(path)
    for word in ["mine.yaml", *words]:
        assert word in str(caught.value)


def test_unknown_methods_and_near_names():
    with pytest.raises(PresetError, match=r"did you mean dreamfusion\?"):
        load("dreamfuson")
    with pytest.raises(PresetError, match=r"there are: .*fast"):
        load("nothing.yaml")
