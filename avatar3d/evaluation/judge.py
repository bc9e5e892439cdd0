"""The judge: a small network that says what a picture of a bust shows. Trained on renders of the engine alone.

It never takes part in making avatars; it only measures them. Its features also serve as the image encoder of
Frechet and perceptual distances. Pictures are material colors from about the front, over `BACKDROP`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from avatar3d.spec import AvatarSpec, vector_layout
from avatar3d.weights import WeightsError, load_state, load_tensors, save_tensors, weights_path

JUDGE_TYPE = "avatar3d.judge"
SIZE = 64
"""Pixels a side of the pictures that the network takes."""
CHOICES = ("hair_style", "hair_color", "beard_style", "hat", "top", "top_color", "top_pattern", "glasses")
"""Choices of a spec that a bust shows."""
NUMBERS = {"skin_tone": 0.10, "age": 12.0, "gender": 0.30}
"""Numbers of a spec that a bust shows, and how far off a verdict may be to be right."""
GREY = 0.35
"""With a larger share of grey strands the color of the others is hardly seen."""


@dataclass(frozen=True)
class JudgeConfig:
    widths: tuple[int, ...] = (32, 64, 96, 128)
    """Channels of each stage; each halves the picture."""
    embedding: int = 128


class Residual(nn.Module):
    """Two convolutions beside an identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(2))

    def forward(self, h: Tensor) -> Tensor:
        inner = self.first(nn.functional.relu(self.norms[0](h)))
        return h + self.second(nn.functional.relu(self.norms[1](inner)))


class Judge(nn.Module):
    """(B, 3, 64, 64) sRGB in [0, 1] -> logits of each choice and the numbers, scaled to [0, 1]."""

    def __init__(self, config: JudgeConfig) -> None:
        super().__init__()
        self.config = config
        widths = config.widths
        self.stages = nn.ModuleList()
        for depth, (before, width) in enumerate(zip((3, *widths[:-1]), widths, strict=True)):
            down = nn.Conv2d(before, width, 5 if depth == 0 else 3, 2, 2 if depth == 0 else 1, bias=False)
            self.stages.append(nn.Sequential(down, *(Residual(width) for _ in range(min(depth, 2)))))
        self.norm = nn.BatchNorm2d(widths[-1])
        self.embed_layer = nn.Linear(2 * widths[-1], config.embedding)
        self.answer = nn.Linear(config.embedding, sum(_sizes()) + len(NUMBERS))

    def features(self, pictures: Float[Tensor, "B 3 S S"]) -> list[Tensor]:
        """What each stage gives, (B, C, H, W)."""
        h, found = 4 * (pictures - 0.5), []
        for stage in self.stages:
            h = stage(h)
            found.append(h)
            h = nn.functional.relu(h)
        return found

    def embed(self, pictures: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B D"]:
        """The features that the answers are read from."""
        h = nn.functional.relu(self.norm(self.features(pictures)[-1]))
        return self.embed_layer(torch.cat([h.mean((2, 3)), h.amax((2, 3))], 1))

    def forward(self, pictures: Float[Tensor, "B 3 S S"]) -> tuple[list[Tensor], Float[Tensor, "B N"]]:
        out = self.answer(nn.functional.relu(self.embed(pictures)))
        logits = out[:, : -len(NUMBERS)].split(_sizes(), 1)
        return list(logits), out[:, -len(NUMBERS) :]


@dataclass(frozen=True)
class Targets:
    """What is to be seen of each of B specs."""

    choices: Int[Tensor, "B A"]
    """Index of each of `CHOICES`; -1 where it can not be seen."""
    numbers: Float[Tensor, "B N"]
    """`NUMBERS`, scaled to [0, 1]."""


def targets(specs: Sequence[AvatarSpec], thin: bool) -> Targets:
    """`thin` tells whether the pictures show glasses; without them nobody has any."""
    rows = []
    for spec in specs:
        seen = {name: _options()[name].index(getattr(spec, name)) for name in CHOICES}
        if spec.hat != "none":
            seen["hair_style"] = -1
        hairless = spec.hair_style == "bald" and spec.beard_style == "none"
        greying = spec.hair_grey > GREY and spec.hair_color not in ("grey", "white")
        if hairless or greying or spec.hat == "headscarf":
            seen["hair_color"] = -1
        if not thin:
            seen["glasses"] = _options()["glasses"].index("none")
        rows.append([seen[name] for name in CHOICES])
    scales = [_range(name) for name in NUMBERS]
    numbers = [
        [(getattr(s, n) - low) / (high - low) for n, (low, high) in zip(NUMBERS, scales, strict=True)]
        for s in specs
    ]
    return Targets(torch.tensor(rows), torch.tensor(numbers, dtype=torch.float32))


def judge_loss(logits: Sequence[Tensor], numbers: Tensor, wanted: Targets) -> Tensor:
    """Cross-entropies of the choices that can be seen, averaged, and absolute errors of the numbers."""
    losses = [
        nn.functional.cross_entropy(own, index, ignore_index=-1, reduction="sum") / (index >= 0).sum().clamp_min(1)
        for own, index in zip(logits, wanted.choices.unbind(1), strict=True)
    ]
    return torch.stack(losses).mean() + 2.0 * (numbers - wanted.numbers).abs().mean()


@torch.no_grad()
def accuracy(judge: Judge, pictures: Float[Tensor, "B 3 H W"], specs: Sequence[AvatarSpec], thin: bool) -> dict:
    """Share of pictures about which the judge agrees with the spec, for each attribute that can be seen.

    With pictures that something made for the specs this is the agreement of the pictures with what was asked for;
    with the engine's own pictures of them it is its ceiling, the accuracy of the judge.
    """
    wanted = targets(specs, thin)
    parts = [judge(part) for part in as_input(pictures).split(64)]
    numbers = torch.cat([n for _, n in parts])
    agreed: dict[str, float] = {}
    for a, name in enumerate(CHOICES):
        answers, index = torch.cat([logits[a].argmax(1) for logits, _ in parts]), wanted.choices[:, a]
        seen = index >= 0
        agreed[name] = float((answers == index)[seen].float().mean()) if bool(seen.any()) else float("nan")
    for n, (name, tolerance) in enumerate(NUMBERS.items()):
        low, high = _range(name)
        error = (numbers[:, n] - wanted.numbers[:, n]).abs() * (high - low)
        agreed[name] = float((error <= tolerance).float().mean())
    return agreed


@torch.no_grad()
def verdicts(judge: Judge, pictures: Float[Tensor, "B 3 H W"]) -> list[AvatarSpec]:
    """What the judge sees: specs of which `CHOICES` and `NUMBERS` mean something, the rest is default."""
    found = []
    for part in as_input(pictures).split(64):
        logits, numbers = judge(part)
        answers = torch.stack([own.argmax(1) for own in logits], 1).tolist()
        for row, shares in zip(answers, numbers.clamp(0, 1).tolist(), strict=True):
            values: dict = {name: _options()[name][k] for name, k in zip(CHOICES, row, strict=True)}
            for name, share in zip(NUMBERS, shares, strict=True):
                low, high = _range(name)
                values[name] = low + share * (high - low)
            found.append(AvatarSpec(**values))
    return found


@torch.no_grad()
def embeddings(judge: Judge, pictures: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B D"]:
    """Features of pictures of any size for Frechet distance, diversity and nearest neighbors."""
    return torch.cat([judge.embed(part) for part in as_input(pictures).split(64)])


def perceptual_distance(
    judge: Judge, a: Float[Tensor, "B 3 H W"], b: Float[Tensor, "B 3 H W"]
) -> Float[Tensor, " B"]:
    """Squared distance of unit-length channel features, meaned over places and stages (Zhang et al. 2018, LPIPS,
    equation 1, with equal weights). The pictures are not shrunk; their sides must be multiples of 16 pixels.
    """
    total = a.new_zeros(len(a))
    for own, other in zip(judge.features(a), judge.features(b), strict=True):
        gap = nn.functional.normalize(own, dim=1, eps=1e-6) - nn.functional.normalize(other, dim=1, eps=1e-6)
        total = total + gap.square().sum(1).mean((1, 2))
    return total / len(judge.stages)


def as_input(pictures: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 S S"]:
    """Pictures shrunk (with averaging) to the size that the network takes."""
    if pictures.shape[-2:] == (SIZE, SIZE):
        return pictures
    return nn.functional.interpolate(pictures, (SIZE, SIZE), mode="bilinear", antialias=True)


def save_judge(judge: Judge, path: Path) -> None:
    """Weights as float16 with all that is needed to load them."""
    metadata = {"type": JUDGE_TYPE, "version": "1", "config": json.dumps(asdict(judge.config))}
    metadata["answers"] = json.dumps(_answers())
    save_tensors(
        path, {k: t.half() if t.is_floating_point() else t for k, t in judge.state_dict().items()}, metadata
    )


def load_judge(path: Path | None = None) -> Judge:
    """The judge that ships, or another. Raises `WeightsError` if the file is missing, broken or of old choices."""
    path = path or weights_path("judge.safetensors")
    tensors, metadata = load_tensors(path, JUDGE_TYPE)
    try:
        values = json.loads(metadata["config"])
        config = JudgeConfig(tuple(values["widths"]), int(values["embedding"]))
        answers = json.loads(metadata["answers"])
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{path} has damaged metadata ({error}): restore the file") from error
    if answers != _answers():
        raise WeightsError(f"{path} was trained for other choices than avatars have now: train the judge again")
    judge = Judge(config)
    load_state(judge, tensors, path)
    return judge.eval()


def _options() -> dict[str, tuple[str, ...]]:
    return {e.name: e.choices for e in vector_layout() if e.name in CHOICES}


def _sizes() -> list[int]:
    return [len(_options()[name]) for name in CHOICES]


def _range(name: str) -> tuple[float, float]:
    return next((e.low, e.high) for e in vector_layout() if e.name == name)


def _answers() -> dict[str, list[str]]:
    return {**{name: list(_options()[name]) for name in CHOICES}, **{name: [] for name in NUMBERS}}
