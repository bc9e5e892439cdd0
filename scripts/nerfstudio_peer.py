"""nerfstudio's nerfacto on a CPU for some seconds: the peer of `benchmark_reconstruct.py`, which calls it.

Runs in an environment with nerfstudio 1.1.5; it needs nothing of avatar3d. Two ways:

default  nerfacto as it is, with the options of nerfstudio's own benchmark on Blender's scenes
         (`launch_train_blender.sh`: white background, no camera optimizer, no contraction, uniform first samples).
small    the same for a small scene on a CPU: smaller tables and networks, fewer samples, and schedules that are
         as long as the training will be.

Writes `held_out.npy` (V, H, W, 3) and `report.json`.
"""

from __future__ import annotations

import json
import time
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro

PILOT = 8
"""Steps that tell how many there is time for; the first two are not counted."""


@dataclass(frozen=True)
class Config:
    data: Path
    out: Path
    seconds: float
    scale: float
    """Of the world, so that the object is in [-1, 1]^3."""
    near: float
    far: float
    """Of what rays can meet, in that scale."""
    variant: Literal["default", "small"] = "default"
    every: int = 8
    """Of the views, one of so many is held out."""
    threads: int = 2
    clock: Literal["wall", "processor"] = "wall"
    """Seconds of the clock, or of the processors divided by the threads."""
    seed: int = 0


def main(config: Config) -> None:
    torch.set_num_threads(config.threads)
    complete_torchvision()
    without_downloads()
    seconds = counter(config.clock, config.threads)
    steps = 30000
    if config.variant == "small":
        _, _, pace = trained(config, settings(config, 1000), seconds, PILOT)
        steps = max(50, int(config.seconds / pace))
    began = seconds()
    trainer, done, _ = trained(config, settings(config, steps), seconds)
    taken = seconds() - began
    model, held = trainer.pipeline.model.eval(), trainer.pipeline.datamanager.eval_dataset
    pictures = []
    for n in range(len(held)):
        with torch.no_grad():
            outputs = model.get_outputs_for_camera(held.cameras[n : n + 1])
        pictures.append(outputs["rgb"].clamp(0, 1).numpy())
    config.out.mkdir(parents=True, exist_ok=True)
    np.save(config.out / "held_out.npy", np.stack(pictures))
    names = [Path(name).name for name in held.image_filenames]
    report = {"steps": done, "seconds": taken, "names": names}
    (config.out / "report.json").write_text(json.dumps(report))


def settings(config: Config, steps: int) -> Any:
    """nerfstudio's config of a training that has `steps` steps before it."""
    from nerfstudio.configs.method_configs import method_configs
    from nerfstudio.data.datamanagers.base_datamanager import VanillaDataManagerConfig
    from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig

    made = deepcopy(method_configs["nerfacto"])
    made.vis, made.mixed_precision, made.machine.device_type = "tensorboard", False, "cpu"
    made.data, made.output_dir, made.machine.seed = config.data, config.out, config.seed
    parser = NerfstudioDataParserConfig(
        data=config.data, eval_mode="interval", eval_interval=config.every, orientation_method="none",
        center_method="focus", auto_scale_poses=False, scale_factor=config.scale, scene_scale=1.0,
    )  # fmt: skip
    model = made.pipeline.model
    model.implementation, model.background_color = "torch", "white"
    model.near_plane, model.far_plane = config.near, config.far
    model.proposal_initial_sampler, model.disable_scene_contraction = "uniform", True
    model.use_average_appearance_embedding, model.distortion_loss_mult = False, 0.0
    model.camera_optimizer.mode, model.eval_num_rays_per_chunk = "off", 4096
    rays = 4096
    if config.variant == "small":
        rays = 1024
        model.num_levels, model.max_res, model.log2_hashmap_size = 8, 256, 16
        model.hidden_dim = model.hidden_dim_color = 32
        model.use_appearance_embedding = False
        model.num_proposal_iterations, model.num_proposal_samples_per_ray = 1, (64,)
        model.num_nerf_samples_per_ray = 24
        model.proposal_net_args_list = [
            {"hidden_dim": 16, "log2_hashmap_size": 15, "num_levels": 4, "max_res": 64, "use_linear": False}
        ]
        model.proposal_weights_anneal_max_num_iters, model.proposal_warmup = steps // 20, steps // 6
        for group in made.optimizers.values():
            group["scheduler"].lr_final, group["scheduler"].max_steps = 1e-3, steps
    made.pipeline.datamanager = VanillaDataManagerConfig(
        data=config.data, dataparser=parser, train_num_rays_per_batch=rays, eval_num_rays_per_batch=rays
    )
    return made


def trained(config: Config, made: Any, seconds: Any, most: int | None = None) -> tuple[Any, int, float]:
    """nerfstudio's trainer after its time (or `most` steps), the steps, and the seconds of each but the first two.

    Setting up is not counted.
    """
    from nerfstudio.engine.callbacks import TrainingCallbackLocation

    torch.manual_seed(config.seed)
    made.set_timestamp()
    trainer = made.setup(local_rank=0, world_size=1)
    trainer.setup()
    marks = [seconds()]
    while len(marks) - 1 < (most or 10**9) and (most or marks[-1] - marks[0] < config.seconds):
        step = len(marks) - 1
        trainer.pipeline.train()
        for callback in trainer.callbacks:
            callback.run_callback_at_location(step, TrainingCallbackLocation.BEFORE_TRAIN_ITERATION)
        trainer.train_iteration(step)
        for callback in trainer.callbacks:
            callback.run_callback_at_location(step, TrainingCallbackLocation.AFTER_TRAIN_ITERATION)
        marks.append(seconds())
    first = min(2, len(marks) - 2)
    return trainer, len(marks) - 1, (marks[-1] - marks[first]) / (len(marks) - 1 - first)


def counter(clock: str, threads: int) -> Any:
    """A function that tells seconds."""
    return time.perf_counter if clock == "wall" else lambda: time.process_time() / threads


def complete_torchvision() -> None:
    """Declare the operators that torchvision's wheels from PyPI lack beside a torch without CUDA; without them
    it can not be imported. nerfacto does not use them."""
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    HELD.append(library)


HELD: list[object] = []
"""Libraries live as long as someone holds them."""


def without_downloads() -> None:
    """LPIPS, which is not asked for here, would load a network from the internet."""
    import torchmetrics.image.lpip

    class Nothing(torch.nn.Module):
        def __init__(self, normalize: bool = True) -> None:
            super().__init__()

    torchmetrics.image.lpip.LearnedPerceptualImagePatchSimilarity = Nothing


if __name__ == "__main__":
    main(tyro.cli(Config))
