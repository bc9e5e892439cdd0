"""The nerfstudio plugin and the export of its checkpoints: on stand-ins for nerfstudio, and on it where it is."""

from __future__ import annotations

import logging
import math
import re
import sys
import types
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch
from test_distill_loop import BallPrior
from torch import Tensor, nn

from avatar3d import distillation, pipeline
from avatar3d.delivery import Wanted
from avatar3d.distill.binding import encode_prompts
from avatar3d.distill.loop import GREY, Running, step_loss
from avatar3d.nerfstudio_export import (
    NerfstudioError,
    Settings,
    export_checkpoint,
    open_run,
    radiance_of,
)
from avatar3d.render.load import mesh_from_file
from avatar3d.source import nerfstudio_run

ROOT = Path(__file__).parent.parent
POINT = EntryPoint("avatar3d-distill", "avatar3d.nerfstudio_plugin:distill_method", "nerfstudio.method_configs")
CENTER, RADIUS = (0.1, 0.2, -0.3), 0.5
METHOD = """
stages:
  - scene: {kind: voxels, resolution: 12, nodes: 16}
    guidance: {loss: sds, scale: 1.0}
    look: {background: grey}
    cameras: {radius: [4.0, 4.0], jitter: 0.0}
    times: {low: 0.1, high: 0.9}
    steps: 40
    batch: 2
    size: 24
"""


class Named(types.SimpleNamespace):
    """Takes what it is given, as nerfstudio's configs do."""


@dataclass
class ModelConfig:
    enable_collider: bool = True
    prompt: str | None = None


class Model(nn.Module):
    device = "cpu"

    def __init__(self, config, **known):
        super().__init__()
        self.config = config
        self.populate_modules()

    def populate_modules(self):
        pass


@dataclass
class VanillaPipelineConfig:
    datamanager: object = None
    model: object = None


class VanillaPipeline:
    model: Model


@dataclass
class MethodSpecification:
    config: object
    description: str


@dataclass
class Frustums:
    origins: Tensor
    directions: Tensor
    starts: Tensor
    ends: Tensor
    pixel_area: Tensor

    def get_positions(self):
        return self.origins + self.directions * (self.starts + self.ends) / 2


@dataclass
class RaySamples:
    frustums: Frustums
    camera_indices: Tensor | None = None


def install(monkeypatch, **modules):
    """Stand-ins for modules of nerfstudio; `__` in names stands for a dot."""
    for name, contents in modules.items():
        parts = ["nerfstudio", *name.split("__")]
        for depth in range(1, len(parts) + 1):
            path = ".".join(parts[:depth])
            if depth == len(parts) or path not in STARTED:
                module = types.ModuleType(path)
                module.__path__ = []
                monkeypatch.setitem(sys.modules, path, module)
                STARTED.add(path)
        vars(sys.modules[".".join(parts)]).update(contents)


STARTED: set[str] = set()


@pytest.fixture
def stand_ins(monkeypatch):
    """The parts of nerfstudio that we import, as far as we use them."""
    STARTED.clear()
    sys.modules.pop("avatar3d.nerfstudio_model", None)
    install(
        monkeypatch,
        data__datamanagers__random_cameras_datamanager={"RandomCamerasDataManagerConfig": Named},
        engine__optimizers={"AdamOptimizerConfig": Named},
        engine__trainer={"TrainerConfig": Named},
        models__base_model={"Model": Model, "ModelConfig": ModelConfig},
        pipelines__base_pipeline={
            "VanillaPipeline": VanillaPipeline,
            "VanillaPipelineConfig": VanillaPipelineConfig,
        },
        plugins__types={"MethodSpecification": MethodSpecification},
        cameras__rays={"Frustums": Frustums, "RaySamples": RaySamples},
        field_components__field_heads={"FieldHeadNames": Named(RGB="rgb")},
    )
    yield monkeypatch
    sys.modules.pop("avatar3d.nerfstudio_model", None)


@pytest.fixture
def absent(monkeypatch):
    """No nerfstudio."""
    sys.modules.pop("avatar3d.nerfstudio_model", None)
    for name in [n for n in sys.modules if n.split(".")[0] == "nerfstudio"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "nerfstudio", None)


def discovered(points):
    """What nerfstudio's registry makes of entry points: nothing is caught, and other things are left out."""
    specs = [point.load() for point in points]
    return {s.config.method_name: s.config for s in specs if isinstance(s, MethodSpecification)}


class SoftBall(nn.Module):
    """nerfacto's interface around a ball that fades over `soft`, whose colors are the view direction."""

    def __init__(self, peak=200.0, soft=0.02):
        super().__init__()
        self.peak, self.soft = peak, soft

    def get_density(self, samples):
        positions = samples.frustums.get_positions()
        depth = RADIUS - (positions - positions.new_tensor(CENTER)).norm(dim=-1, keepdim=True)
        return self.peak * torch.sigmoid(depth / self.soft), positions

    def get_outputs(self, samples, density_embedding=None):
        assert len(density_embedding) == len(samples.camera_indices)
        return {"rgb": 0.5 + 0.5 * samples.frustums.directions}


def ball_model(**known):
    model = nn.Module()
    model.field, model.weight = SoftBall(), nn.Parameter(torch.zeros(1))
    model.scene_box = Named(aabb=torch.tensor([[-1.0, -1, -1], [1, 1, 1]]))
    model.config = Named(prompt=None)
    for name, value in known.items():
        setattr(model, name, value)
    return model.eval()


def a_run(tmp_path):
    run = tmp_path / "2026-01-31_120000"
    (run / "nerfstudio_models").mkdir(parents=True)
    (run / "config.yml").write_text("!!python/object:nothing.that.we.read {}")
    return run


def opens(monkeypatch, answer):
    """nerfstudio's `eval_setup` answers with a model, or fails."""

    def eval_setup(config_path, test_mode, update_config_callback):
        print("Loading latest checkpoint from load_dir")
        config = update_config_callback(Named(method_name="nerfacto", output_dir=Path("gone")))
        base = Path(f"{config.output_dir}/{config.experiment_name}/{config.method_name}/{config.timestamp}")
        assert base.resolve() == config_path.parent.resolve(), "the run is looked for where it was"
        if isinstance(answer, BaseException):
            raise answer
        return config, Named(model=answer), base, 29999

    install(monkeypatch, utils__eval_utils={"eval_setup": eval_setup})


def test_the_entry_point_is_declared():
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    section = text.split(f'[project.entry-points."{POINT.group}"]')[1].split("\n[")[0]
    assert re.search(rf'^{POINT.name} = "{POINT.value}"$', section, re.MULTILINE)


def test_without_nerfstudio_loading_gives_nothing_and_says_why(absent, caplog):
    with caplog.at_level(logging.WARNING):
        assert discovered([POINT]) == {}
    assert "nerfstudio" in caplog.text and "pip install 'avatar3d[nerfstudio]'" in caplog.text


@pytest.mark.parametrize("part", ["engine.trainer", "plugins.types", "pipelines.base_pipeline"])
def test_a_broken_part_leaves_the_other_methods_alone(stand_ins, part):
    class Broken(types.ModuleType):
        def __getattr__(self, name):
            raise RuntimeError("operator torchvision::nms does not exist")

    stand_ins.setitem(sys.modules, f"nerfstudio.{part}", Broken(f"nerfstudio.{part}"))
    assert discovered([POINT]) == {}


def test_only_the_method_is_there():
    from avatar3d import nerfstudio_plugin

    with pytest.raises(AttributeError, match="no attribute 'other'"):
        _ = nerfstudio_plugin.other


def test_the_method_is_registered_under_its_name(stand_ins):
    config = discovered([POINT])["avatar3d-distill"]
    assert config.steps_per_eval_image == config.steps_per_eval_batch == config.steps_per_eval_all_images == 0
    assert set(config.optimizers) == {"scene"} and config.max_num_iterations > 0
    assert config.pipeline.model.prompt and not config.pipeline.model.enable_collider


@pytest.fixture
def trained(stand_ins, tmp_path):
    """The pipeline of a small method, told how long the training is."""
    (tmp_path / "small.yaml").write_text(METHOD)
    stand_ins.setattr(distillation, "open_prior", lambda wish: BallPrior())
    from avatar3d import nerfstudio_model

    model = nerfstudio_model.DistillModel(
        nerfstudio_model.DistillModelConfig(prompt="a red ball", method=str(tmp_path / "small.yaml"))
    )
    made = nerfstudio_model.DistillPipeline()
    made.model = model
    trainer = Named(_start_step=0, config=Named(max_num_iterations=25))
    assert model.get_training_callbacks(Named(trainer=trainer)) == []
    return made


def test_steps_are_those_of_our_loop(trained):
    model = trained.model
    _, losses, metrics = trained.get_train_loss_dict(3)
    prior = BallPrior()
    prompts = encode_prompts(prior, "a red ball")
    assert model.stage.steps == 25
    expected, size = step_loss(model.scene, prior, prompts, model.stage, Running(0), 3)
    assert torch.equal(losses["distillation"], expected) and metrics["direction"] == size > 0


def test_training_makes_a_red_ball(trained):
    model = trained.model
    (parameters,) = model.get_param_groups().values()
    optimizer = torch.optim.Adam(parameters, 0.1, eps=1e-15)
    for step in range(25):
        _, losses, _ = trained.get_train_loss_dict(step)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
    at = torch.tensor([[0.0, -4.0, 0.0]])
    rays = Named(origins=at[None], directions=-at[None] / 4)
    seen = model.get_outputs(rays)
    r, g, b = seen["rgb"][0].tolist()
    assert r > 0.6 and max(g, b) < 0.4
    assert float(seen["accumulation"]) > 0.7 and 2.5 < float(seen["depth"]) < 4.5
    assert radiance_of(model) is model.scene.field


def test_the_viewers_z_is_our_y(trained):
    from avatar3d.nerfstudio_model import y_up

    turned = y_up(torch.eye(3))
    assert turned.tolist() == [[1, 0, 0], [0, 0, -1], [0, 1, 0]] and torch.det(turned) == 1


def test_a_march_through_fog(trained):
    """1 - exp(-sigma L) of the light stops, and depths lie inside."""
    from avatar3d.fields.radiance import RadianceSample
    from avatar3d.nerfstudio_model import marched
    from avatar3d.render.rays import Rays

    class Fog:
        bounds = torch.tensor([[-1.0, -1, -1], [1, 1, 1]])

        def __call__(self, points):
            return RadianceSample(torch.full_like(points[:, 0], 0.7), torch.full_like(points, 0.25))

    origins = torch.tensor([[0.0, 0.0, 3.0], [5.0, 0.0, 3.0]])
    seen = marched(Fog(), Rays(origins, torch.tensor([[0.0, 0.0, -1.0]]).expand(2, 3)), 64)
    assert seen["accumulation"][:, 0].tolist() == pytest.approx([1 - math.exp(-1.4), 0.0], abs=1e-5)
    assert 2.5 < float(seen["depth"][0]) < 3.0 and seen["rgb"][1].tolist() == pytest.approx(GREY)


@pytest.mark.parametrize(
    ("stage", "word"),
    [("{scene: {kind: mesh}}", "does not begin with a field"), ("{guidance: {loss: vsd}}", "more than a field")],
)
def test_a_method_that_needs_more_than_a_field_is_refused(stand_ins, tmp_path, stage, word):
    from avatar3d.nerfstudio_model import DistillModel, DistillModelConfig

    (tmp_path / "method.yaml").write_text(f"stages: [{stage}]")
    with pytest.raises(distillation.DistillError, match=word):
        DistillModel(DistillModelConfig(method=str(tmp_path / "method.yaml")))


def test_a_model_as_a_field_is_y_up_and_seen_from_outside(stand_ins):
    made = radiance_of(ball_model(), torch.tensor([[-1.0, -0.9, -0.8], [0.7, 0.6, 0.5]]))
    low, high = made.bounds
    assert low.tolist() == pytest.approx([-1, -0.8, -0.6]) and high.tolist() == pytest.approx([0.7, 0.5, 0.9])
    x, y, z = CENTER
    sample = made(torch.tensor([[x, z, -y], [x, z + RADIUS, -y], [x, z, y]]))
    assert sample.density.tolist() == pytest.approx(
        [200, 100, 200 / (1 + math.exp(-(0.5 - 0.4) / 0.02))], rel=1e-3
    )
    inwards = torch.nn.functional.normalize(torch.tensor([-0.15 - x, -0.15 - y, -0.15 - z]), dim=0)
    assert sample.rgb[0].tolist() == pytest.approx((0.5 + 0.5 * inwards).tolist(), abs=1e-5)


def test_outside_of_a_models_sphere_is_nothing(stand_ins):
    model = ball_model(collider=Named(center=torch.zeros(3), radius=0.5))
    density = radiance_of(model)(torch.tensor([[0.0, 0.0, 0.0], [0.0, -0.6, 0.0]])).density
    assert density[0] > 100 and density[1] == 0


def test_models_without_density_are_refused():
    with pytest.raises(NerfstudioError, match="ns-export"):
        radiance_of(nn.Linear(2, 2))


def outline() -> float:
    """Radius of the soft ball in pictures: the largest distance of a ray that loses half of its light."""
    distance, along = torch.linspace(RADIUS, 2 * RADIUS, 500)[:, None], torch.linspace(-2, 2, 4000)
    density = 200 * torch.sigmoid((RADIUS - (distance.square() + along.square()).sqrt()) / 0.02)
    return float(distance[torch.trapezoid(density, along) > math.log(2)].max())


def test_a_run_becomes_a_mesh_of_the_right_size(stand_ins, tmp_path, capsys):
    """The CLI's way: the folder of a run, or its config.yml."""
    run = a_run(tmp_path)
    opens(stand_ins, ball_model())
    settings = Settings(("glb", "obj"), cells=40, triangles=3000, texture=128)
    record = export_checkpoint(run / "config.yml", tmp_path / "made", settings)
    assert capsys.readouterr().out == "", "only our JSON goes to stdout"
    mesh = mesh_from_file(tmp_path / "made" / "object.glb")[0].mesh
    x, y, z = CENTER
    corners = mesh.vertices
    radii = (corners - torch.tensor([x, z, -y])).norm(dim=1)
    # the ball is soft: it has the outline of its pictures, where rays lose half of their light
    assert float(radii.std()) < 0.005 and float(radii.mean()) == pytest.approx(outline(), abs=0.02)
    assert record["mesh"]["closed"]
    assert record["nerfstudio"] == {"method": "nerfacto", "step": 29999} and record["generated"] is False
    assert {"object.glb", "object.obj"} <= set(record["files"])
    assert (tmp_path / "made" / "run.json").is_file()


def test_export_recognizes_runs(stand_ins, tmp_path):
    run = a_run(tmp_path)
    opens(stand_ins, SystemExit(1))
    assert nerfstudio_run(run) == nerfstudio_run(run / "config.yml") == run
    assert nerfstudio_run(tmp_path) is None and nerfstudio_run(tmp_path / "config.yml") is None
    told: list[str] = []

    def report(stage, done, total):
        told.append(stage)

    with pytest.raises(NerfstudioError, match=r"can not open .*data set"):
        pipeline.export(run, None, Wanted(), False, report)
    with pytest.raises(NerfstudioError, match="only --format"):
        pipeline.export(run, None, Wanted(profile="unity"), False, report)
    with pytest.raises(NerfstudioError, match="no 'vrm'"):
        pipeline.export(run, None, Wanted(("vrm",)), False, report)
    assert told == ["reading the checkpoint"] and sorted(p.name for p in tmp_path.iterdir()) == [run.name]


def test_a_missing_nerfstudio_is_said_with_its_remedy(absent, tmp_path):
    with pytest.raises(NerfstudioError, match=r"pip install 'avatar3d\[nerfstudio\]'.*nerfstudio==1\.1\.5"):
        open_run(a_run(tmp_path))
    with pytest.raises(NerfstudioError, match=r"no run of nerfstudio.*config\.yml"):
        open_run(tmp_path)


@pytest.fixture(scope="module")
def nerfacto():
    """A small nerfacto without its perceptual metric, which wants weights from the network."""
    pytest.importorskip("nerfstudio.models.nerfacto", reason="nerfstudio is not installed")
    from nerfstudio.data.scene_box import SceneBox
    from nerfstudio.models import nerfacto as module
    from torchmetrics.image import lpip

    patch = pytest.MonkeyPatch()
    patch.setattr(lpip, "LearnedPerceptualImagePatchSimilarity", lambda **known: nn.Identity())
    config = module.NerfactoModelConfig(
        implementation="torch", num_levels=6, log2_hashmap_size=13, max_res=64, hidden_dim=16,
        hidden_dim_color=16, appearance_embed_dim=4, num_proposal_iterations=1, disable_scene_contraction=True,
        proposal_net_args_list=[{"hidden_dim": 8, "log2_hashmap_size": 10, "num_levels": 2, "max_res": 16}],
    )  # fmt: skip
    torch.manual_seed(0)
    model = config.setup(scene_box=SceneBox(aabb=torch.tensor([[-1.0] * 3, [1.0] * 3])), num_train_data=3)
    patch.undo()
    return model


def test_a_real_nerfacto_has_its_own_densities(nerfacto):
    made = radiance_of(nerfacto.eval())
    points = torch.rand(50, 3, generator=torch.Generator().manual_seed(1)) * 1.8 - 0.9
    x, y, z = points.unbind(1)
    expected = nerfacto.field.density_fn(torch.stack([x, -z, y], 1))[:, 0]
    sample = made(points)
    assert torch.allclose(sample.density, expected, atol=1e-6)
    assert float(sample.rgb.min()) >= 0 and float(sample.rgb.std()) > 0
    assert sample.density.requires_grad is False


def test_a_real_nerfacto_that_is_a_ball_becomes_one(nerfacto):
    """Its field is taught a ball's density; the mesh has the ball's radius."""
    from avatar3d.mesh.extract import extract
    from avatar3d.render.radiance_surface import radiance_surface

    field = nerfacto.train().field
    optimizer = torch.optim.Adam(field.parameters(), 0.02)
    generator = torch.Generator().manual_seed(2)
    for _ in range(120):
        points = torch.rand(2048, 3, generator=generator) * 2 - 1
        depth = RADIUS - (points - torch.tensor(CENTER)).norm(dim=1)
        loss = (field.density_fn(points)[:, 0].clamp_min(1e-4).log() - (20 * depth).clamp(-4, 4)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    made = radiance_of(nerfacto.eval())
    vertices, _ = extract(radiance_surface(made, level=1.0, resolution=32), made.bounds, 2 / 32)
    x, y, z = CENTER
    radii = (vertices - torch.tensor([x, z, -y])).norm(dim=1)
    assert float(radii.mean()) == pytest.approx(RADIUS, abs=0.03) and float(radii.std()) < 0.06


def test_the_real_registry_takes_the_method(monkeypatch):
    pytest.importorskip("nerfstudio", reason="nerfstudio is not installed")
    try:
        from nerfstudio.plugins import registry
    except Exception as error:
        pytest.skip(f"nerfstudio is not whole: {error}")
    from importlib.metadata import EntryPoints

    monkeypatch.setattr(registry, "entry_points", lambda group: EntryPoints([POINT]))
    methods, descriptions = registry.discover_methods()
    assert set(methods) == set(descriptions) == {"avatar3d-distill"}
