"""The loop of score distillation: draw, ask the prior, descend. One stage at a time, exactly resumable.

All draws of a step come from its number and, when several processes work together, from that of the process. A
checkpoint holds the scene, the optimizer and the last state that the guard found sane. When the guard finds a
fault, the scene goes back there, and rate and guidance are lowered.
"""

from __future__ import annotations

import copy
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from avatar3d.diffusion.draws import step_generator
from avatar3d.distill import losses, schedules
from avatar3d.distill.binding import Prompts, bind, text_of_views
from avatar3d.distill.cameras import draw_cameras, fixed_cameras
from avatar3d.distill.guard import STARTS, Fault, all_finite, look
from avatar3d.distill.losses import GradientError, dds_with, descend, vsd_with
from avatar3d.distill.own import LowRank, low_rank, own_loss
from avatar3d.distill.prior import Loss, Prior
from avatar3d.distill.processes import ALONE, Processes
from avatar3d.distill.scene import DistilledScene, Pictures
from avatar3d.distill.scene import Shading as ShadingName
from avatar3d.distill.stage import Look, Stage, at
from avatar3d.distill.surface_scene import SurfaceError
from avatar3d.errors import InputError
from avatar3d.structures import Camera

SIDES = (0.0, math.pi / 2, math.pi, -math.pi / 2)
"""Azimuths of the pictures that guard and previews look at."""
GREY = (0.80, 0.81, 0.83)
SLOWER, WEAKER = 0.5, 0.7
"""Factors of rate and guidance after a fault."""
CHECKS = 40
"""Looks of the guard in a stage."""
FEWEST = 5
"""Steps between them."""


class CheckpointError(InputError):
    """A checkpoint that can not be gone on with."""


class DivergedError(InputError):
    """A distillation that fails again and again; its last good state is kept."""


@dataclass(frozen=True)
class Running:
    """How a stage is run, which does not change what comes out (but for early stops)."""

    seed: int = 0
    stream: int = 0
    """Number of the stage."""
    checkpoint: Path | None = None
    save_every: int = 100
    restarts: int = 3
    still: float = 0.0
    """Stop when pictures change less than this (root mean square) between three looks of the guard; 0: never."""
    rows: int = 64
    """Most pictures that the prior is asked about at once."""
    device: str = "cpu"
    processes: Processes = ALONE
    """Those that work on this scene; the checkpoint is the first one's."""


@dataclass
class Progress:
    """What a watcher is told."""

    step: int
    steps: int
    seconds: float
    direction: float
    """Root mean square of the direction that the prior gave."""
    pictures: Float[Tensor, "B 3 H W"] | None = None
    """From all sides, at each look of the guard."""
    fault: Fault | None = None


@dataclass
class Outcome:
    """What a stage came to."""

    steps: int
    seconds: float
    prior_seconds: float
    """Of them inside the prior."""
    faults: list[Fault] = field(default_factory=list)
    diverged: bool = False
    stopped_early: bool = False


Watch = Callable[[Progress], None]


def run_stage(
    scene: DistilledScene,
    prior: Prior,
    prompts: Prompts,
    stage: Stage,
    running: Running,
    watch: Watch | None = None,
) -> Outcome:
    """Distil a scene in place.

    Raises `CheckpointError` for a checkpoint of another stage. When the guard gives up, the scene is as it last
    was sane, and the outcome says `diverged`.
    """
    timed = _Timed(prior)
    own = _own_model(timed, stage, running)
    start = copy.deepcopy(scene) if stage.guidance.loss == "dds" else None
    groups = [{"params": [p for p in scene.parameters() if p.requires_grad], "full": stage.rate}]
    if own is not None:
        groups.append({"params": list(own.parameters), "full": stage.own.rate})
    optimizer = torch.optim.Adam(groups, stage.rate, betas=(0.9, 0.99), eps=1e-15)
    state = _State(scene, optimizer, own)
    saved = running.processes.of_first(lambda: read_checkpoint(running.checkpoint, stage))
    if saved is not None:
        state.restore(saved)
    every = max(FEWEST, stage.steps // CHECKS)
    began = time.perf_counter()
    while state.step < stage.steps:
        step, share = state.step, state.step / stage.steps
        for group in optimizer.param_groups:
            group["lr"] = group["full"] * state.slower
        size, fault = _step(scene, timed, prompts, stage, running, step, state.weaker, optimizer, own, start)
        state.step += 1
        report = Progress(state.step, stage.steps, time.perf_counter() - began, size)
        if fault or state.step % every == 0 or state.step == stage.steps:
            try:
                seen = look_around(scene, stage, running.device)
                fault, report.pictures = fault or look(seen.alpha, seen.rgb, share), seen.rgb
            except SurfaceError:
                fault = "empty"
            fault = running.processes.agreed(fault)
            if fault is None:
                if running.processes.agreed(look(seen.alpha, seen.rgb, max(share, STARTS))) is None:
                    state.keep()
                state.changes.append(float(running.processes.mean(_change(state.last_seen, seen.rgb))))
                state.last_seen = seen.rgb
            else:
                report.fault = Fault(fault, state.step)
                state.faults.append(report.fault)
                state.back()
        if watch is not None:
            watch(report)
        at_save = state.step % running.save_every == 0 or state.step == stage.steps
        if running.checkpoint is not None and running.processes.first and at_save:
            state.save(running.checkpoint, stage)
        if len(state.faults) > running.restarts:
            return Outcome(state.step, time.perf_counter() - began, timed.seconds, state.faults, diverged=True)
        if running.still and len(state.changes) >= 3 and max(state.changes[-3:]) < running.still:
            return Outcome(
                state.step, time.perf_counter() - began, timed.seconds, state.faults, stopped_early=True
            )
    return Outcome(state.step, time.perf_counter() - began, timed.seconds, state.faults)


def _step(
    scene: DistilledScene, prior: _Timed, prompts: Prompts, stage: Stage, running: Running, step: int,
    weaker: float, optimizer: torch.optim.Optimizer, own: LowRank | None, start: DistilledScene | None,
) -> tuple[float, str | None]:  # fmt: skip
    """One step; returns the size of the prior's direction, and what went wrong in any process."""
    optimizer.zero_grad(set_to_none=True)
    size, fault = math.nan, None
    share = replace(stage, batch=running.processes.share(stage.batch))
    try:
        total, size = step_loss(scene, prior, prompts, share, running, step, weaker, own, start)
        total.backward()
    except GradientError:
        fault = "not finite"
    except SurfaceError:
        fault = "empty"
    fault = running.processes.agreed(fault)
    if fault is None:
        running.processes.average_gradients([p for group in optimizer.param_groups for p in group["params"]])
        optimizer.step()
        fault = None if all_finite(scene) else "not finite"
    return size, fault


def step_loss(
    scene: DistilledScene,
    prior: Prior,
    prompts: Prompts,
    stage: Stage,
    running: Running,
    step: int,
    weaker: float = 1.0,
    own: LowRank | None = None,
    start: DistilledScene | None = None,
) -> tuple[Float[Tensor, ""], float]:
    """What a step descends, and the root mean square of the prior's direction. `weaker` lowers the guidance, `own`
    is the model of the renders that "vsd" needs; it descends its own loss in the same step. `start` is the scene
    as it was, for "dds".

    Raises `GradientError` when the direction is not finite.
    """
    generator = step_generator(running.seed, running.stream, step)
    share = step / stage.steps
    if start is not None:
        start.prepare(step, share, step_generator(running.seed, running.stream, step))
    scene.prepare(step, share, generator)
    generator = running.processes.own_generator(generator, running.seed, running.stream, step)
    cameras, angles, parts = draw_cameras(stage.cameras, share, stage.batch, stage.size, generator)
    cameras = [placed(camera, scene, running.device) for camera in cameras]
    behind = _backgrounds(stage.look, stage.batch, generator).to(running.device)
    shading = _shading(stage.look, share, generator)
    drawing = generator.get_state()
    pictures: Pictures = scene.draw(cameras, behind, shading, generator)
    latents = prior.encode(pictures.rgb)
    t = stage.times.schedule()(share, stage.batch, generator).to(latents.device)
    pose = None if scene.poses is None else scene.poses(cameras, prior.size)
    told = None if stage.look.background == "network" else behind
    model = bind(prior, prompts, angles, parts, stage.guidance.perp_neg, pose, told, rows=running.rows)
    if start is not None:
        same = torch.Generator(generator.device).manual_seed(0)
        same.set_state(drawing)
        with torch.no_grad():
            before = prior.encode(start.draw(cameras, behind, shading, same).rgb)
        shown = prompts if prompts.start is None else prompts.start
        then = bind(prior, shown, angles, parts, stage.guidance.perp_neg, pose, told, rows=running.rows)
        loss: Loss = dds_with(before, then.predict)
    elif own is None:
        loss = getattr(losses, stage.guidance.loss)
    else:
        angles = angles.to(latents.device)
        renders = own.bound(text_of_views(prompts, angles, parts), angles, pose, told)
        loss = vsd_with(renders.predict)
    direction = loss(latents.detach(), t, model, 1 + (stage.guidance.scale - 1) * weaker, generator)
    weights = getattr(schedules, stage.guidance.weight)(*prior.levels(t))
    total = descend(latents, direction, weights, stage.guidance.limit)
    if own is not None:
        any_t = torch.rand(stage.batch, generator=generator).to(latents.device)
        total = total + own_loss(renders, latents, any_t, generator)
    for name, penalty in pictures.penalties.items():
        total = total + at(getattr(stage.penalties, name), share) * penalty
    return total, float(direction.square().mean().sqrt())


@torch.no_grad()
def look_around(scene: DistilledScene, stage: Stage, device: str = "cpu", size: int | None = None) -> Pictures:
    """Material colors from front, left, back and right over grey."""
    cameras = side_cameras(scene, stage, device, size or stage.size)
    behind = torch.tensor(GREY, device=device).expand(len(cameras), 3)
    return scene.draw(cameras, behind, "albedo", torch.Generator().manual_seed(0))


def side_cameras(scene: DistilledScene, stage: Stage, device: str, size: int) -> list[Camera]:
    """In the scene's world, one for each of `SIDES`."""
    return [placed(camera, scene, device) for camera in fixed_cameras(stage.cameras, SIDES, size)]


def placed(camera: Camera, scene: DistilledScene, device: str) -> Camera:
    """A camera of the box [-1, 1]^3 where the scene has it in its world."""
    center, scale = scene.place
    pose = camera.T_world_camera.clone()
    pose[:3, 3] = center + scale * pose[:3, 3]
    return replace(camera, T_world_camera=pose.to(device))


def _own_model(prior: _Timed, stage: Stage, running: Running) -> LowRank | None:
    if stage.guidance.loss != "vsd":
        return None
    generator = torch.Generator().manual_seed(running.seed)
    return low_rank(prior, stage.own.rank, generator)


def _shading(config: Look, share: float, generator: torch.Generator) -> ShadingName:
    plain, bare = torch.rand(2, generator=generator).tolist()
    if share < config.albedo_until or plain < config.plain:
        return "albedo"
    return "textureless" if bare < config.textureless else "lambertian"


def _backgrounds(config: Look, count: int, generator: torch.Generator) -> Float[Tensor, "B 3"]:
    colors = torch.rand(count, 3, generator=generator)
    return torch.tensor(GREY).expand(count, 3) if config.background == "grey" else colors


def _change(before: Tensor | None, now: Tensor) -> Float[Tensor, ""]:
    return now.new_tensor(math.inf) if before is None else (now - before.to(now)).square().mean().sqrt()


class _Timed:
    """A prior, and how long it took."""

    def __init__(self, prior: Prior) -> None:
        self.prior, self.seconds = prior, 0.0
        self.levels, self.answer, self.sees_views = prior.levels, prior.answer, prior.sees_views
        self.device, self.name, self.size, self.latent = prior.device, prior.name, prior.size, prior.latent
        self.encode_text, self.decode = prior.encode_text, prior.decode
        self.network = getattr(prior, "network", None)

    def encode(self, rgb: Tensor) -> Tensor:
        began = time.perf_counter()
        latents = self.prior.encode(rgb)
        self.seconds += time.perf_counter() - began
        return latents

    def predict(self, *arguments) -> Tensor:
        began = time.perf_counter()
        answer = self.prior.predict(*arguments)
        if answer.is_cuda:
            torch.cuda.synchronize()
        self.seconds += time.perf_counter() - began
        return answer


class _State:
    """Where a stage is, and where it was when all was well."""

    def __init__(self, scene: nn.Module, optimizer: torch.optim.Optimizer, own: LowRank | None) -> None:
        self.scene, self.optimizer, self.step = scene, optimizer, 0
        self.own = [] if own is None else [p.data for p in own.parameters]
        self.faults: list[Fault] = []
        self.changes: list[float] = []
        self.last_seen: Tensor | None = None
        self.keep()

    @property
    def slower(self) -> float:
        return SLOWER ** len(self.faults)

    @property
    def weaker(self) -> float:
        return WEAKER ** len(self.faults)

    def keep(self) -> None:
        self.good = copy.deepcopy(self.scene.state_dict())
        self.good_optimizer = copy.deepcopy(self.optimizer.state_dict())

    def back(self) -> None:
        self.scene.load_state_dict(self.good)
        self.optimizer.load_state_dict(copy.deepcopy(self.good_optimizer))

    def save(self, path: Path, stage: Stage) -> None:
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        faults = [[fault.kind, fault.step] for fault in self.faults]
        torch.save(
            {
                "stage": repr(stage), "step": self.step, "scene": self.scene.state_dict(),
                "optimizer": self.optimizer.state_dict(), "good": self.good,
                "good_optimizer": self.good_optimizer, "faults": faults, "changes": self.changes,
                "last_seen": self.last_seen, "own": self.own,
            },
            temporary,
        )  # fmt: skip
        os.replace(temporary, path)

    def restore(self, saved: dict) -> None:
        """What `read_checkpoint` gives."""
        self.scene.load_state_dict(saved["scene"])
        for mine, values in zip(self.own, saved["own"], strict=True):
            mine.copy_(values)
        self.optimizer.load_state_dict(saved["optimizer"])
        self.good, self.good_optimizer = saved["good"], saved["good_optimizer"]
        self.faults = [Fault(kind, step) for kind, step in saved["faults"]]
        self.changes, self.last_seen, self.step = saved["changes"], saved["last_seen"], saved["step"]


def read_checkpoint(path: Path | None, stage: Stage) -> dict | None:
    """What a stage's checkpoint holds, if there is one. Raises `CheckpointError`."""
    if path is None or not path.exists():
        return None
    try:
        saved = torch.load(path, weights_only=True, map_location="cpu")
        same = saved["stage"] == repr(stage)
    except Exception as error:  # torch raises many kinds for a damaged file
        raise CheckpointError(f"{path} is damaged ({type(error).__name__}); delete it to begin again") from error
    if not same:
        raise CheckpointError(f"{path} belongs to other settings; run with those, or begin again with --overwrite")
    return saved
