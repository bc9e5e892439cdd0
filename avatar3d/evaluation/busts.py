"""Busts that some method made for held-out avatars, scored against the engine's own pictures of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from avatar3d.camera import pixel_centers, unproject
from avatar3d.evaluation.distributions import copying, frechet_distance
from avatar3d.evaluation.images import PictureScores, face_window, mean_scores, score_picture
from avatar3d.evaluation.judge import Judge, accuracy, embeddings, perceptual_distance
from avatar3d.fields.box import bust_camera
from avatar3d.render.images import to_bytes
from avatar3d.render.meshes import BACKDROP
from avatar3d.render.rays import Field
from avatar3d.render.trace import trace_field
from avatar3d.spec import AvatarSpec, spec_from_json
from avatar3d.structures import Camera, Render
from avatar3d.weights import load_tensors

BUSTS_TYPE = "avatar3d.busts"


@dataclass(frozen=True)
class Subject:
    """One avatar of the data set that `scripts/make_dataset.py` writes."""

    spec: AvatarSpec
    prompt: str
    said: tuple[str, ...]
    """Statements of the prompt."""
    bounds: Float[Tensor, "2 3"]
    camera: Camera
    """In front."""
    truth: Render
    """Material colors over `BACKDROP`; its depth, normals and uv are empty."""
    face: Bool[Tensor, "H W"]
    """The face window."""
    row: dict[str, Tensor]
    """All that the data set says of it."""


Method = Callable[[Sequence[Subject]], Sequence[Field]]
"""Something that makes a field for each avatar: from its charts, its prompt, or both."""


def read_subjects(paths: Sequence[Path], size: int = 256) -> list[Subject]:
    """Avatars of some shards, with their pictures shrunk to `size`; raises `WeightsError` for a broken file."""
    found = []
    for path in paths:
        tensors, metadata = load_tensors(path, BUSTS_TYPE)
        for n, person in enumerate(json.loads(metadata["people"])):
            row = {name: tensor[n] for name, tensor in tensors.items()}
            spec = spec_from_json(json.dumps(person["spec"]))
            camera = bust_camera(row["bounds"], 0.0, size)
            truth = true_render(row["pictures"][0], row["picture_labels"][0], size)
            face = face_window(camera, row["bounds"])
            said = tuple(person["said"])
            found.append(Subject(spec, person["caption"], said, row["bounds"], camera, truth, face, row))
    return found


def true_render(rgba: UInt8[Tensor, "H W 4"], labels: UInt8[Tensor, "H W"], size: int) -> Render:
    """A picture of the data set as a render over `BACKDROP`; colors are averaged, labels sampled."""
    step = len(rgba) // size
    if step * size != len(rgba):
        raise ValueError(f"pictures of {len(rgba)} pixels can not be shrunk to {size}: choose a divisor")
    planes = rgba.float().permute(2, 0, 1)[None] / 255
    alpha = planes[:, 3:]
    backdrop = torch.tensor(BACKDROP).view(1, 3, 1, 1)
    shown = backdrop + alpha * (planes[:, :3] - backdrop)
    shown, alpha = (torch.nn.functional.avg_pool2d(x, step)[0] for x in (shown, alpha))
    start = step // 2
    nothing = torch.full((size, size), torch.inf)
    return Render(
        shown.permute(1, 2, 0), alpha[0], nothing, torch.zeros(size, size, 3),
        labels[start::step, start::step].long(), torch.zeros(size, size, 2),
    )  # fmt: skip


@dataclass(frozen=True)
class Drawn:
    """The pictures of one method, and their scores."""

    pictures: UInt8[Tensor, "N 3 H W"]
    scores: list[PictureScores]
    control: list[PictureScores]
    """The same pictures scored against the next avatar: what a wrong answer gets."""


@torch.no_grad()
def draw(method: Method, subjects: Sequence[Subject], portion: int = 16) -> Drawn:
    """Make the fields, a few at a time, and look at them from the front."""
    pictures, scores, control = [], [], []
    for first in range(0, len(subjects), portion):
        some = subjects[first : first + portion]
        for n, (subject, field) in enumerate(zip(some, method(some), strict=True), first):
            seen = trace_field(field, subject.camera, normals=False)
            other = subjects[(n + 1) % len(subjects)]
            pictures.append(torch.from_numpy(to_bytes(seen.rgb)).permute(2, 0, 1))
            scores.append(score_picture(seen, subject.truth, subject.face))
            control.append(score_picture(seen, other.truth, other.face))
    return Drawn(torch.stack(pictures), scores, control)


def draw_truth(subjects: Sequence[Subject]) -> Drawn:
    """The engine's own pictures: the ceiling of everything that the judge says."""
    renders = [s.truth for s in subjects]
    shifted = [*subjects[1:], subjects[0]]
    return Drawn(
        as_bytes(renders),
        [score_picture(r, s.truth, s.face) for r, s in zip(renders, subjects, strict=True)],
        [score_picture(r, s.truth, s.face) for r, s in zip(renders, shifted, strict=True)],
    )


def as_bytes(renders: Sequence[Render]) -> UInt8[Tensor, "N 3 H W"]:
    """Their colors, channels first."""
    return torch.stack([torch.from_numpy(to_bytes(r.rgb)).permute(2, 0, 1) for r in renders])


@dataclass(frozen=True)
class Yardsticks:
    """What all rows of a table are measured with."""

    judge: Judge
    subjects: Sequence[Subject]
    truth: Float[Tensor, "N D"]
    """Embeddings of the subjects' true pictures."""
    training: Float[Tensor, "M D"]
    """Embeddings of the training set's pictures."""


def yardsticks(judge: Judge, subjects: Sequence[Subject], training: Sequence[Subject]) -> Yardsticks:
    """Embed the true pictures once."""
    embedded = [
        torch.cat([embeddings(judge, as_bytes([s.truth for s in some[i : i + 64]]).float() / 255)
                   for i in range(0, len(some), 64)])
        for some in (subjects, training)
    ]  # fmt: skip
    return Yardsticks(judge, subjects, *embedded)


@torch.no_grad()
def table_row(drawn: Drawn, measure: Yardsticks) -> dict:
    """Mean scores of a method, their control, what the judge says, and how the set of pictures is as a set."""
    shown = drawn.pictures.float() / 255
    true = as_bytes([s.truth for s in measure.subjects]).float() / 255
    gaps = [perceptual_distance(measure.judge, a, b) for a, b in zip(shown.split(32), true.split(32), strict=True)]
    embedded = embeddings(measure.judge, shown)
    copies = copying(embedded.numpy(), measure.training.numpy(), measure.truth.numpy())
    agreed = accuracy(measure.judge, shown, [s.spec for s in measure.subjects], thin=False)
    del agreed["glasses"]  # a field has none
    return {
        **mean_scores(drawn.scores),
        "perceptual": float(torch.cat(gaps).mean()),
        "control": mean_scores(drawn.control),
        "judge": agreed,
        "judge_mean": sum(agreed.values()) / len(agreed),
        "frechet": frechet_distance(embedded.numpy(), measure.truth.numpy()),
        "nearest_ratio": copies.ratio,
        "nearer_than_usual": copies.near,
        "nearest_training": copies.nearest.tolist(),
    }


def inside(render: Render, camera: Camera, bounds: Float[Tensor, "2 3"]) -> Render:
    """The render with the depth of only what lies in the box."""
    shown = torch.isfinite(render.depth)
    points = unproject(camera, pixel_centers(camera), torch.where(shown, render.depth, 0.0))
    kept = shown & ((points > bounds[0]) & (points < bounds[1])).all(-1)
    return replace(render, depth=torch.where(kept, render.depth, torch.inf))
