"""Score distillation as a method of nerfstudio: its trainer, checkpoints and viewer, our field, prior and losses.

    ns-train avatar3d-distill --prompt "old man with glasses" --pipeline.model.method fast

The first stage of a method is trained, without the guard of `avatar3d distill`. nerfstudio's random cameras are
only for its viewer; steps draw their own. Our fields are y up; nerfstudio's rays are z up and are turned.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float
from nerfstudio.data.datamanagers.random_cameras_datamanager import RandomCamerasDataManagerConfig
from nerfstudio.engine.optimizers import AdamOptimizerConfig
from nerfstudio.engine.trainer import TrainerConfig
from nerfstudio.models.base_model import Model, ModelConfig
from nerfstudio.pipelines.base_pipeline import VanillaPipeline, VanillaPipelineConfig
from nerfstudio.plugins.types import MethodSpecification
from torch import Tensor

from avatar3d import distillation
from avatar3d.distill.binding import Prompts
from avatar3d.distill.loop import GREY, Running, step_loss
from avatar3d.distill.presets import load
from avatar3d.distill.prior import Prior
from avatar3d.distill.radiance_scene import RadianceScene
from avatar3d.distillation import DistillError, Wish
from avatar3d.fields.radiance import RadianceField
from avatar3d.render.occupancy import filled_span
from avatar3d.render.radiance import even_edges, light_shares
from avatar3d.render.rays import Rays

RENDERER = 1 << 30
"""Bytes that rays may keep in a step."""
METHOD = "fast"


@dataclass
class DistillModelConfig(ModelConfig):
    """What to distil, and how."""

    _target: type = field(default_factory=lambda: DistillModel)
    enable_collider: bool = False
    prompt: str | None = "old man with glasses"
    """Who or what it is, in English."""
    method: str = METHOD
    """A preset of avatar3d, or a YAML file; its first stage is trained and needs a field."""
    prior: str | None = None
    """Folder or hub id of a diffusers pipeline; by default the prior that ships with avatar3d."""
    negative: str | None = None
    """What is not wanted, in words; by default the method's."""
    seed: int = 0
    """Of all that is random."""


class DistillModel(Model):
    """A radiance field that becomes what a prompt says; the prior is loaded at the first step only."""

    config: DistillModelConfig

    def populate_modules(self) -> None:
        """Raises `DistillError` when the method does not begin with a field, or with a loss that needs more."""
        super().populate_modules()
        c = self.config
        self.wish = Wish(c.prompt or "", c.method, c.prior, c.seed, c.negative)
        self.stage = load(c.method).stages[0]
        if self.stage.scene.kind in ("mesh", "avatar"):
            raise DistillError(f"{c.method} does not begin with a field; choose another --pipeline.model.method")
        if self.stage.guidance.loss in ("vsd", "dds"):
            raise DistillError(
                f"{c.method} has the loss {self.stage.guidance.loss}, which needs more than a field and runs in "
                "`avatar3d distill` alone; choose another --pipeline.model.method"
            )
        scene = distillation.next_scene(None, self.stage, self.wish, RENDERER)
        assert isinstance(scene, RadianceScene)
        self.scene = scene
        self.teacher: tuple[Prior, Prompts] | None = None

    @property
    def field(self) -> RadianceField:
        """What is distilled, y up."""
        return self.scene.field

    def get_param_groups(self) -> dict[str, list[torch.nn.Parameter]]:
        """One group, for one optimizer."""
        return {"scene": list(self.scene.parameters())}

    def get_training_callbacks(self, training_callback_attributes: Any) -> list:
        """None; the stage learns how long this training is."""
        trainer = training_callback_attributes.trainer
        self.stage = replace(self.stage, steps=trainer._start_step + trainer.config.max_num_iterations)
        return []

    def get_loss_dict(self, outputs: dict, batch: dict, metrics_dict: dict | None = None) -> dict[str, Tensor]:
        """Nothing is compared with pictures; see `distilled`."""
        return {}

    def distilled(self, step: int) -> tuple[dict[str, Tensor], dict[str, float]]:
        """The loss of a step, and the root mean square of the prior's direction."""
        if self.teacher is None:
            wish = replace(self.wish, device=str(self.device))
            prior = distillation.open_prior(wish)
            self.teacher = prior, distillation.encode_for(self.stage, prior, wish)
        running = Running(self.wish.seed, device=str(self.device))
        loss, size = step_loss(self.scene, *self.teacher, self.stage, running, step)
        return {"distillation": loss}, {"direction": size}

    def get_outputs(self, ray_bundle: Any) -> dict[str, Tensor]:
        """Material colors over grey, alpha, and distance along each ray, for the viewer; (..., 3) and (..., 1)."""
        origins, directions = (y_up(x.reshape(-1, 3)) for x in (ray_bundle.origins, ray_bundle.directions))
        return marched(self.field, Rays(origins, torch.nn.functional.normalize(directions, dim=1)), self.nodes)

    @property
    def nodes(self) -> int:
        """Samples along each ray."""
        return self.stage.scene.nodes + self.stage.scene.importance


@dataclass
class DistillPipelineConfig(VanillaPipelineConfig):
    """The pair of cameras for the viewer and the model."""

    _target: type = field(default_factory=lambda: DistillPipeline)
    datamanager: RandomCamerasDataManagerConfig = field(
        default_factory=lambda: RandomCamerasDataManagerConfig(num_eval_angles=8, radius_mean=4.1)
    )
    model: DistillModelConfig = field(default_factory=DistillModelConfig)


class DistillPipeline(VanillaPipeline):
    """nerfstudio's pipeline, but for its steps."""

    def get_train_loss_dict(self, step: int) -> tuple[dict, dict[str, Tensor], dict[str, float]]:
        """No pictures, the losses, and what is worth plotting."""
        return {}, *self.model.distilled(step)


def y_up(vectors: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
    """Vectors of nerfstudio's frame, z up, in ours."""
    x, y, z = vectors.unbind(1)
    return torch.stack([x, z, -y], 1)


def marched(scene: RadianceField, rays: Rays, nodes: int) -> dict[str, Tensor]:
    """What rays see with evenly spread samples (Mildenhall et al. 2020, NeRF, equation 3)."""
    edges = even_edges(*filled_span(rays, scene.bounds, None), nodes)
    t = 0.5 * (edges[:, 1:] + edges[:, :-1])
    points = rays.origins[:, None] + t[..., None] * rays.directions[:, None]
    seen = scene(points.view(-1, 3))
    weights = light_shares(seen.density.view(t.shape), edges.diff(dim=1))
    alpha = weights.sum(1, keepdim=True)
    rgb = (weights[..., None] * seen.rgb.view(*t.shape, 3)).sum(1) + (1 - alpha) * alpha.new_tensor(GREY)
    depth = (weights * t).sum(1, keepdim=True) / alpha.clamp_min(1e-6)
    return {"rgb": rgb, "accumulation": alpha, "depth": depth}


def specification() -> MethodSpecification:
    """What `nerfstudio_plugin` gives to nerfstudio."""
    first = load(METHOD).stages[0]
    adam = {"optimizer": AdamOptimizerConfig(lr=first.rate, eps=1e-15), "scheduler": None}
    config = TrainerConfig(
        method_name="avatar3d-distill",
        max_num_iterations=first.steps,
        steps_per_save=500,
        steps_per_eval_batch=0,
        steps_per_eval_image=0,
        steps_per_eval_all_images=0,
        pipeline=DistillPipelineConfig(),
        optimizers={"scene": adam},
        vis="viewer",
    )
    return MethodSpecification(config, "Score distillation from a prompt, by avatar3d.")
