"""From a prompt and a frozen diffusion prior to files: stages in a row, then mesh, film and report.

    record = distill(Wish("old man with glasses", method="fast"), Path("outputs"), report)

The run's folder is there from the beginning and holds its checkpoints and the latest preview, so that a run that
was stopped or killed goes on where it was when the same command is given with `resume`. What it is for (mesh,
film, run.json) comes at the end, each file whole or not at all. A whole run that is there already stays
until then. Several processes may work on one run: the first one writes all files.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from avatar3d.conditioning.model import condition
from avatar3d.conditioning.prompt import check_prompt, default_model, ordinary, understand
from avatar3d.distill.avatar_scene import AvatarScene
from avatar3d.distill.binding import Prompts, encode_prompts
from avatar3d.distill.dense_pose import dense_pose
from avatar3d.distill.diffusers_door import load_prior
from avatar3d.distill.folder import STATE, begin, finish
from avatar3d.distill.loop import (
    GREY,
    SIDES,
    Outcome,
    Progress,
    Running,
    look_around,
    run_stage,
    side_cameras,
)
from avatar3d.distill.memory import plan
from avatar3d.distill.pipelines import DiffusersPrior
from avatar3d.distill.pose_bodies import avatar_poses, neutral_body
from avatar3d.distill.presets import load
from avatar3d.distill.prior import Prior, PriorError
from avatar3d.distill.processes import ALONE, Processes
from avatar3d.distill.radiance_scene import RadianceScene, new_field, refined
from avatar3d.distill.scene import DistilledScene, Poses
from avatar3d.distill.score import likelihood
from avatar3d.distill.stage import Method, Stage
from avatar3d.distill.surface_scene import SurfaceScene, surface_from_radiance
from avatar3d.distill.wish import DistillError, Wish, adapted
from avatar3d.distilled import PREVIEW, Report, scene_files, strip
from avatar3d.engine.build import build_avatar
from avatar3d.errors import InputError
from avatar3d.fields.background import Background
from avatar3d.fields.box import bust_bounds
from avatar3d.render.images import write_png
from avatar3d.render.radiance_surface import surface_density
from avatar3d.runs import passport, peak_memory_mb, run_folder
from avatar3d.source import open_avatar, told_prompt
from avatar3d.weights import weights_path

SAVE_EVERY = 100
"""Steps between two checkpoints, at most."""


@dataclass(frozen=True)
class Opened:
    """A prior that has read all that a method tells it of some prompts and has let go of its text encoders."""

    prior: DiffusersPrior
    refused: dict[str, InputError]
    """What is wrong with those that it could not read."""


def distill(
    wish: Wish, out: Path, overwrite: bool, resume: bool, report: Report,
    opened: Opened | None = None, processes: Processes = ALONE,
) -> dict:  # fmt: skip
    """Make what the prompt says in `out/<slug of the prompt>-<seed>`; returns the record of the run.

    All `processes` call this, and get the same record. When a
    stage diverges or nothing has a surface, there is what can be made of the last good state, the record says what
    is wrong, and the checkpoints stay.

    Raises `InputError` before anything is written when something is wrong with the wish.
    """
    check_prompt(wish.prompt)
    method = adapted(load(wish.method), wish)
    folder = run_folder(out, wish.prompt, wish.seed)
    opened = open_for(wish, [wish.prompt]) if opened is None else opened
    if wish.prompt in opened.refused:
        raise opened.refused[wish.prompt]
    prior = opened.prior
    memory = plan(wish.max_memory, prior, method)
    prompts = [encode_for(stage, prior, wish) for stage in method.stages]
    place = processes.of_first(lambda: begin(folder, overwrite, resume))
    began = time.perf_counter()
    scene: DistilledScene | None = None
    outcomes: list[Outcome] = []
    stopped = None
    for n, stage in enumerate(method.stages):
        try:
            scene = next_scene(scene, stage, wish, memory.renderer)
        except InputError as error:  # what there is already is delivered
            if scene is None:
                raise
            stopped = f"stage {n + 1}: {error}"
            break
        if prior.takes_poses:
            scene.poses = poses_of(scene, stage, wish)
        outcomes.append(_run(scene, prior, prompts[n], stage, n, wish, place, memory.rows, report, processes))
        if outcomes[-1].diverged:
            break
    last = len(outcomes) - 1

    def deliver_all() -> dict:
        assert scene is not None
        stage = method.stages[last]
        record = _record(wish, method, prior, outcomes, time.perf_counter() - began) | {"stopped": stopped}
        record["processes"] = processes.count
        if wish.scored:
            record["score"] = score(scene, prior, prompts[last], stage, wish.device, memory.rows)
        record |= scene_files(scene, stage, wish, place, report)
        record["seconds"]["whole"] = round(time.perf_counter() - began, 2)
        record |= {"folder": str(folder), "peak_memory_mb": peak_memory_mb(), **passport()}
        record["files"] = {f.name: f.stat().st_size for f in sorted(place.iterdir()) if f.is_file()}
        sound = not (record["diverged"] or stopped or "fault" in record.get("mesh", {}))
        finish(place, folder, record, sound)
        return record

    return processes.of_first(deliver_all)


def open_for(wish: Wish, prompts: Sequence[str]) -> Opened:
    """Open the prior of a wish for several prompts. Raises `PriorError` and `DistillError` as `open_prior`."""
    prior, refused = open_prior(wish), {}
    stages = adapted(load(wish.method), wish).stages
    for prompt in prompts:
        try:
            check_prompt(prompt)
            for stage in stages:
                encode_for(stage, prior, replace(wish, prompt=prompt))
        except InputError as error:
            refused[prompt] = error
    prior.release_text_encoder()
    return Opened(prior, refused)


def open_prior(wish: Wish) -> DiffusersPrior:
    """The prior of a wish. Raises `PriorError`, or `DistillError` for a device that is not there."""
    try:
        torch.empty(1, device=wish.device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise DistillError(f"--device {wish.device} can not be used ({reason}); cpu is always there") from error
    if wish.prior is None:
        if wish.lora is not None or wish.controlnet is not None:
            raise DistillError("--lora and --controlnet are for a text-to-image pipeline: name it with --prior")
        path = weights_path("prior")
        if not path.is_dir():
            raise PriorError(f"no prior at {path}: restore it from the repository, or name one with --prior")
        return load_prior(path, device=wish.device, encode_person=statements_of)
    return load_prior(
        wish.prior,
        device=wish.device,
        lora=wish.lora,
        controlnet=wish.controlnet,
        encode_person=statements_of,
    )


def encode_for(stage: Stage, prior: Prior, wish: Wish) -> Prompts:
    """The prompt as a stage needs it: with its negative prompt, and the words of its close-ups."""
    negative = stage.guidance.negative if wish.negative is None else wish.negative
    start = _shown_at_start(wish) if stage.guidance.loss == "dds" else None
    return encode_prompts(prior, wish.prompt, negative, [close.words for close in stage.cameras.close_ups], start)


def statements_of(prompts: Sequence[str]) -> Tensor:
    """(B, S) statements that the text model reads in prompts: what the prior that ships is told."""
    model = default_model()
    return condition([understand(prompt, model).statements for prompt in prompts], model.config)


def next_scene(before: DistilledScene | None, stage: Stage, wish: Wish, memory: int) -> DistilledScene:
    """What a stage works on: a new scene, or what came before it, made finer or into a mesh."""
    config = stage.scene
    generator = torch.Generator().manual_seed(wish.seed)
    if config.kind == "avatar":
        return before if isinstance(before, AvatarScene) else _avatar_scene(wish).to(wish.device)
    if config.kind == "mesh":
        if isinstance(before, SurfaceScene):
            return before
        if not isinstance(before, RadianceScene):
            raise DistillError("a mesh needs a stage with a field before it: put one first into the method")
        field = before.field
        return surface_from_radiance(field, surface_density(field), config.resolution)
    field = refined(before.field, config) if isinstance(before, RadianceScene) else new_field(config, generator)
    behind = Background(generator) if stage.look.background == "network" else None
    return RadianceScene(field, config, stage.penalties.wanted(), behind, memory).to(wish.device)


def poses_of(scene: DistilledScene, stage: Stage, wish: Wish) -> Poses:
    """The dense poses of the avatar itself, or of an ordinary person of whom the prompt is true."""
    if isinstance(scene, AvatarScene):
        return avatar_poses(scene, wish.pose_picture)
    body = neutral_body(ordinary(wish.prompt), stage.scene.figure).to(wish.device)
    return partial(dense_pose, body, picture=wish.pose_picture)


def _shown_at_start(wish: Wish) -> str:
    """What the avatar looks like before, as far as it is known."""
    if wish.source is not None or wish.avatar is None:
        return wish.source or ""
    return told_prompt(wish.avatar) or ""


def _avatar_scene(wish: Wish) -> AvatarScene:
    if wish.avatar is not None:
        avatar = open_avatar(wish.avatar).avatar
    else:
        from avatar3d.conditioning.prompt import sample_from

        avatar = build_avatar(sample_from(understand(wish.prompt).statements, wish.seed)[0])
    scene = AvatarScene(avatar)
    bounds = bust_bounds(avatar.skeleton)
    scene.place = (bounds.mean(0), 0.5 * float(bounds[1, 1] - bounds[0, 1]))
    return scene


def _run(
    scene: DistilledScene, prior: DiffusersPrior, prompts: Prompts, stage: Stage, number: int, wish: Wish,
    place: Path, rows: int, report: Report, processes: Processes,
) -> Outcome:  # fmt: skip
    """One stage, with its checkpoint and previews."""
    label = f"stage {number + 1}, {stage.scene.kind}"
    every = max(1, min(SAVE_EVERY, stage.steps // 8))
    checkpoint = place / STATE / f"{number}.pt"
    running = Running(wish.seed, number, checkpoint, every, 3, wish.still, rows, wish.device, processes)

    def watch(progress: Progress) -> None:
        report(label, progress.step, progress.steps)
        if progress.fault is not None:
            report(f"{label}: {progress.fault.kind} at step {progress.fault.step}, going back", 0, 1)
        if progress.pictures is not None or progress.step % wish.preview_every == 0:
            pictures = (
                look_around(scene, stage, wish.device).rgb if progress.pictures is None else progress.pictures
            )
            write_png(strip(pictures), place / PREVIEW)

    return run_stage(scene, prior, prompts, stage, running, watch if processes.first else None)


def score(
    scene: DistilledScene, prior: DiffusersPrior, prompts: Prompts, stage: Stage, device: str, rows: int
) -> float:
    """`distill.score.likelihood` of pictures from all sides, over grey."""
    pictures = look_around(scene, stage, device).rgb
    angles = torch.tensor([[azimuth, 0.0] for azimuth in SIDES], device=device)
    cameras = side_cameras(scene, stage, device, stage.size)
    pose = None if scene.poses is None else scene.poses(cameras, prior.size)
    behind = torch.tensor(GREY, device=device).expand(len(angles), 3)
    return likelihood(prior, prompts, pictures, angles, rows=rows, pose=pose, behind=behind)


def _record(
    wish: Wish, method: Method, prior: DiffusersPrior, outcomes: Sequence[Outcome], seconds: float
) -> dict:
    """What run.json says of the optimisation."""
    inside = sum(o.prior_seconds for o in outcomes)
    return {
        "prompt": wish.prompt,
        "cut_from_prompt": prior.cut(wish.prompt),
        "seed": wish.seed,
        "method": wish.method,
        "paper": method.paper,
        "deviations": list(method.deviations),
        "prior": "the prior that ships" if wish.prior is None else wish.prior,
        "controlnet": wish.controlnet,
        "pose": _pose(wish, method) if prior.takes_poses else "none: the prior has no ControlNet",
        "generated": True,
        "stages": [
            {
                "scene": stage.scene.kind,
                "loss": stage.guidance.loss,
                "steps": outcome.steps,
                "of": stage.steps,
                "seconds": round(outcome.seconds, 2),
                "outside_the_prior": round(1 - outcome.prior_seconds / max(outcome.seconds, 1e-9), 3),
                "faults": [[fault.kind, fault.step] for fault in outcome.faults],
                "diverged": outcome.diverged,
                "stopped_early": outcome.stopped_early,
            }
            for stage, outcome in zip(method.stages, outcomes, strict=False)
        ],
        "diverged": any(o.diverged for o in outcomes),
        "seconds": {"stages": round(seconds, 2), "prior": round(inside, 2)},
        "device": wish.device,
    }


def _pose(wish: Wish, method: Method) -> str:
    """What the ControlNet was shown, in words."""
    whose = {"avatar" if s.scene.kind == "avatar" else s.scene.figure for s in method.stages}
    return f"dense pose, {wish.pose_picture}, {' and '.join(sorted(whose))}"
