"""From a prompt to files with a tiny prior of random weights, and every error of the two commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from read_glb import read_glb

from avatar3d import distillation, distilled
from avatar3d.cli import main
from avatar3d.distill import loop
from avatar3d.distill.binding import encode_prompts
from avatar3d.distill.prior import Text
from avatar3d.distill.score import likelihood
from avatar3d.engine.statements import statements

PROMPT = "old man with glasses"
METHOD = """
paper: none
stages:
  - {scene: {kind: voxels, resolution: 12, nodes: 12}, steps: 8, batch: 1, size: 16, rate: 0.001}
"""


@pytest.fixture(scope="module")
def prior(tmp_path_factory) -> Path:
    """A folder as scripts/train_prior.py writes it."""
    from diffusers import DDIMScheduler, UNet2DConditionModel

    folder = tmp_path_factory.mktemp("weights") / "prior"
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8, in_channels=12, out_channels=12, down_block_types=("DownBlock2D",) * 2,
        up_block_types=("UpBlock2D",) * 2, mid_block_type="UNetMidBlock2D", block_out_channels=(16, 32),
        layers_per_block=1, norm_num_groups=8, class_embed_type="projection",
        projection_class_embeddings_input_dim=len(statements()) + 4, resnet_time_scale_shift="scale_shift",
    )  # fmt: skip
    unet.save_pretrained(folder / "unet")
    DDIMScheduler(1000, prediction_type="v_prediction", clip_sample=False).save_pretrained(folder / "scheduler")
    parts = {"unet": ["diffusers", "UNet2DConditionModel"], "scheduler": ["diffusers", "DDIMScheduler"]}
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "AvatarPrior", **parts}))
    return folder


@pytest.fixture
def command(prior: Path, tmp_path: Path, monkeypatch) -> list[str]:
    """A small run that no guard stops; text weights are the ones that ship."""
    own = distillation.weights_path
    monkeypatch.setattr(distillation, "weights_path", lambda name: prior if name == "prior" else own(name))
    monkeypatch.setattr(loop, "look", lambda *_: None)  # random weights lead to fog
    (tmp_path / "tiny.yaml").write_text(METHOD)
    return [
        "distill", "--method", str(tmp_path / "tiny.yaml"), "--out", str(tmp_path / "out"), "--frames", "0",
        "--texture", "64", "--triangles", "500", "--json",
    ]  # fmt: skip


def said(capsys) -> dict:
    return json.loads(capsys.readouterr().out)


def test_files_resume_and_errors_of_folders(command, tmp_path, capsys, monkeypatch):
    run = [*command, "--prompt", PROMPT]
    assert main(run) == 0
    (record,) = said(capsys)["runs"]
    folder = tmp_path / "out" / "old-man-with-glasses-0"
    assert record["folder"] == str(folder) and record["prompt"] == PROMPT and not record["diverged"]
    assert record["stages"][0]["steps"] == 8 and {"preview.png"} <= set(record["files"])
    assert json.loads((folder / "run.json").read_text()) == record
    if "fault" not in record["mesh"]:
        assert read_glb(folder / "object.glb").document["asset"]["extras"]["prompt"] == PROMPT
        assert not (folder / "state").exists()
        assert main([*run, "--resume"]) == 2 and "finished" in said(capsys)["error"]
    assert main(run) == 2 and "--overwrite" in said(capsys)["error"]
    first = (folder / "run.json").read_bytes()

    def no_files(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(distillation, "scene_files", no_files)
        assert main([*run, "--seed", "1"]) == 130 and "--resume" in capsys.readouterr().err
        assert main([*run, "--overwrite"]) == 130 and (folder / "run.json").read_bytes() == first
    capsys.readouterr()
    assert main([*run, "--overwrite", "--resume"]) == 0 and (folder / "run.json").read_bytes() != first
    assert said(capsys)["runs"][0]["folder"] == str(folder)
    assert not list(folder.parent.glob(".*"))
    state = tmp_path / "out" / "old-man-with-glasses-1" / "state"
    assert (state / "0.pt").is_file()
    assert main([*run, "--seed", "1"]) == 2 and "--resume" in said(capsys)["error"]
    assert main([*run, "--seed", "1", "--resume"]) == 0


def test_a_field_without_surface_is_reported_and_kept(command, tmp_path, capsys, monkeypatch):
    def no_surface(*_):
        raise distillation.InputError("there is no surface")

    monkeypatch.setattr(distilled, "_meshed", no_surface)
    assert main([*command, "--prompt", PROMPT]) == 0
    (record,) = said(capsys)["runs"]
    assert record["mesh"] == {"fault": "there is no surface"}
    assert (Path(record["folder"]) / "state" / "0.pt").is_file()


def test_the_best_of_several_and_a_prompt_that_fails(command, tmp_path, capsys):
    (tmp_path / "prompts.txt").write_text(f"{PROMPT}\n\ndragon xyzzy\n")
    assert main([*command, "--prompts", str(tmp_path / "prompts.txt"), "--best-of", "2"]) == 1
    report = said(capsys)
    assert [run["seed"] for run in report["runs"]] == [0, 1]
    assert report["best"] == [max(report["runs"], key=lambda run: run["score"])["folder"]]
    assert {failed["prompt"] for failed in report["failed"]} == {"dragon xyzzy"}


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--prompt", ""], "prompt"),
        ([], "--prompts"),
        (["--prompt", PROMPT, "--prompts", "x"], "either"),
        (["--prompts", "nowhere.txt"], "nowhere.txt"),
        (["--prompt", PROMPT, "--steps", "0"], "--steps"),
        (["--prompt", PROMPT, "--size", "100000"], "--size"),
        (["--prompt", PROMPT, "--max-memory", "lots"], "8GB"),
        (["--prompt", PROMPT, "--max-memory", "100MB"], "too little"),
        (["--prompt", PROMPT, "--prior", "./nowhere"], "nowhere"),
        (["--prompt", PROMPT, "--device", "abacus"], "--device"),
        (["--prompt", PROMPT, "--lora", "x"], "--prior"),
        (["--prompt", PROMPT, "--controlnet", "x"], "--prior"),
        (["--prompt", PROMPT, "--avatar", "x"], "--method avatar"),
        (["--prompt", PROMPT, "--source", "a man"], "--source says"),
        (["--prompt", PROMPT, "--pose-picture", "iuv"], "--controlnet"),
        (["--prompt", PROMPT, "--format", "gbl"], "glb"),
        (["--prompt", PROMPT, "--format", "vrm"], "skeleton"),
        (["--prompt", PROMPT, "--best-of", "0"], "--best-of"),
        (["--prompt", PROMPT, "--jobs", "0"], "--jobs"),
        (["--prompt", PROMPT, "--jobs", "2", "--ray"], "leave --jobs out"),
        (["--prompt", PROMPT, "--method", "fats"], "fast"),
    ],
)
def test_errors(command, arguments, word, tmp_path, capsys):
    assert main([*command, *arguments]) == 2
    assert word in said(capsys)["error"]
    assert not (tmp_path / "out").exists()


def test_reconstruct_says_what_is_wrong(tmp_path, capsys):
    assert main(["reconstruct", str(tmp_path), "--json"]) == 2 and "transforms.json" in said(capsys)["error"]
    assert main(["reconstruct", str(tmp_path), "--json", "--held-out", "1"]) == 2
    assert "--held-out" in said(capsys)["error"]


def test_likelihood_of_a_gaussian_prior():
    """Pictures are N(m, 1), m = 0.5 when told so, 0 when not, so that the noise is sigma (noisy - alpha m)."""

    class Gaussian:
        name, answer, size, latent, sees_views, device = "g", "noise", 32, (3, 32, 32), True, torch.device("cpu")

        def encode_text(self, prompts):
            return Text(pooled=torch.tensor([[0.5 * bool(p)] for p in prompts]))

        def encode(self, rgb):
            return rgb

        def decode(self, latents):
            return latents

        def levels(self, t):
            return torch.cos(t * torch.pi / 2), torch.sin(t * torch.pi / 2)

        def predict(self, noisy, t, text, angles=None, pose=None, behind=None):
            alpha, sigma = (x.view(-1, 1, 1, 1) for x in self.levels(t))
            return sigma * (noisy - alpha * text.pooled.view(-1, 1, 1, 1))

    prior = Gaussian()
    prompts = encode_prompts(prior, "half")
    for x in (0.5, 0.0):
        found = likelihood(prior, prompts, torch.full((4, 3, 32, 32), x), torch.zeros(4, 2), (0.5,), 8)
        # error(m) = sigma^2 alpha^2 (x - m)^2 + terms without m, but for noise of mean 0; sigma^2 alpha^2 = 1/4
        assert found == pytest.approx(0.25 * (x**2 - (x - 0.5) ** 2), abs=0.01)
