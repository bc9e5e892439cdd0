"""What score distillation knows of a frozen diffusion model: texts in, noisy pictures in, an answer out.

Times t run from 0 (clean) to 1 (noise). A noisy picture is `alpha(t) * clean + sigma(t) * noise`. Models answer in
one of four ways, which are the same thing in other words:

    noise     the noise                              (Ho et al. 2020, DDPM)
    velocity  alpha * noise - sigma * clean          (Salimans and Ho 2022, section 4)
    clean     the picture
    flow      noise - clean, alpha = 1 - t, sigma = t   (Liu et al. 2023, rectified flow)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from avatar3d.errors import InputError

Answer = Literal["noise", "velocity", "clean", "flow"]
Levels = Callable[[Float[Tensor, " B"]], tuple[Float[Tensor, " B"], Float[Tensor, " B"]]]
"""t -> alpha, sigma."""


class PriorError(InputError):
    """A prior that can not be used; the message says why and what to do."""


@dataclass(frozen=True)
class Text:
    """B encoded prompts. What a model has no use for is None."""

    tokens: Float[Tensor, "B L D"] | None = None
    """For cross-attention."""
    pooled: Float[Tensor, "B P"] | None = None
    """The whole prompt as one vector."""
    mask: Bool[Tensor, "B L"] | None = None
    """Which tokens are real."""

    def rows(self, index: Tensor | slice) -> Text:
        """Some of the prompts, or one of them several times."""
        return Text(*(None if part is None else part[index] for part in (self.tokens, self.pooled, self.mask)))


def joined(texts: Sequence[Text]) -> Text:
    """The prompts of all texts one after the other."""
    columns = zip(*((text.tokens, text.pooled, text.mask) for text in texts), strict=True)
    return Text(*(None if column[0] is None else torch.cat(column) for column in columns))


def mixed(texts: Sequence[Text], weights: Float[Tensor, "K B"]) -> Text:
    """Weighted sums of K texts of B prompts: what lies between two view prompts."""

    def add(parts: Sequence[Tensor | None]) -> Tensor | None:
        if parts[0] is None:
            return None
        stacked = torch.stack([part for part in parts if part is not None])
        return (stacked * weights.to(stacked).view(*weights.shape, *[1] * (stacked.ndim - 2))).sum(0)

    masks = [text.mask for text in texts]
    mask = None if masks[0] is None else torch.stack([m for m in masks if m is not None]).any(0)
    return Text(add([text.tokens for text in texts]), add([text.pooled for text in texts]), mask)


@runtime_checkable
class Prior(Protocol):
    """A frozen text-to-image diffusion model, in latent or pixel space. It never draws random numbers."""

    name: str
    answer: Answer
    size: int
    """Pixels a side of the pictures that it was made for."""
    latent: tuple[int, int, int]
    """Channels, height, width of what it denoises."""
    sees_views: bool
    """It takes the camera's angles itself, so that prompts need no words for the view."""
    device: torch.device

    def encode_text(self, prompts: Sequence[str]) -> Text:
        """Raises `PriorError` for prompts that it can not read."""
        ...

    def encode(self, rgb: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B C h w"]:
        """sRGB pictures in [0, 1] of any size to (clean) latents; differentiable."""
        ...

    def decode(self, latents: Float[Tensor, "B C h w"]) -> Float[Tensor, "B 3 S S"]:
        """The way back, for samples and previews; never called in the loop."""
        ...

    def levels(self, t: Float[Tensor, " B"]) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"]]:
        """alpha and sigma at times in [0, 1]."""
        ...

    def predict(
        self,
        noisy: Float[Tensor, "B C h w"],
        t: Float[Tensor, " B"],
        text: Text,
        angles: Float[Tensor, "B 2"] | None = None,
        pose: Float[Tensor, "B 3 S S"] | None = None,
        behind: Float[Tensor, "B 3"] | None = None,
    ) -> Float[Tensor, "B C h w"]:
        """The model's answer. `angles` (azimuth, elevation; radians) are for priors that see views; `pose` are
        pictures for a ControlNet, where there is one; `behind` (sRGB in [0, 1]) is the color of the background
        for a prior that can be told it. No gradients are kept unless they are turned on outside.
        """
        ...


def noise_from(
    answer: Float[Tensor, "B C h w"],
    kind: Answer,
    noisy: Float[Tensor, "B C h w"],
    alpha: Float[Tensor, " B"],
    sigma: Float[Tensor, " B"],
) -> Float[Tensor, "B C h w"]:
    """The noise that an answer says is in a noisy picture."""
    a, s = (level.to(noisy).view(-1, 1, 1, 1) for level in (alpha, sigma))
    if kind == "noise":
        return answer
    if kind == "velocity":
        return (a * answer + s * noisy) / (a * a + s * s)
    if kind == "clean":
        return (noisy - a * answer) / s.clamp_min(1e-6)
    return (noisy + a * answer) / (a + s)


def clean_from(
    noise: Float[Tensor, "B C h w"],
    noisy: Float[Tensor, "B C h w"],
    alpha: Float[Tensor, " B"],
    sigma: Float[Tensor, " B"],
) -> Float[Tensor, "B C h w"]:
    """The clean picture that a noisy one is, if that is its noise."""
    a, s = (level.to(noisy).view(-1, 1, 1, 1) for level in (alpha, sigma))
    return (noisy - s * noise) / a.clamp_min(1e-6)


def about_whole(
    answer: Float[Tensor, "B C h w"], kind: Answer, center: Float[Tensor, "B C h w"], sigma: Float[Tensor, " B"]
) -> Float[Tensor, "B C h w"]:
    """The answer about a noisy picture, from that about what it has beyond `center`: the noise is the same."""
    if kind == "noise":
        return answer
    if kind == "velocity":
        return answer - sigma.to(answer).view(-1, 1, 1, 1) * center
    return answer + center if kind == "clean" else answer - center


def add_noise(
    clean: Float[Tensor, "B C h w"], noise: Float[Tensor, "B C h w"], alpha: Tensor, sigma: Tensor
) -> Float[Tensor, "B C h w"]:
    """alpha * clean + sigma * noise."""
    a, s = (level.to(clean).view(-1, 1, 1, 1) for level in (alpha, sigma))
    return a * clean + s * noise


@dataclass(frozen=True)
class Noises:
    """The noise that a prior sees in one noisy batch when it is told different things."""

    text: Float[Tensor, "B C h w"]
    """The prompts (with their views)."""
    empty: Float[Tensor, "B C h w"]
    """Nothing."""
    negative: Float[Tensor, "B C h w"] | None = None
    """What is not wanted."""
    away: tuple[tuple[Float[Tensor, " B"], Float[Tensor, "B C h w"]], ...] = ()
    """Weights and noises of prompts to get away from (Perp-Neg's other views)."""


Predict = Callable[[Float[Tensor, "B C h w"], Float[Tensor, " B"]], Noises]
"""Noisy batch and times -> noises: a prior that is bound to the texts and views of one batch."""


@dataclass(frozen=True)
class Model:
    """A prior bound to one batch: all that a loss needs to know of it."""

    predict: Predict
    levels: Levels


Loss = Callable[
    [Float[Tensor, "B C h w"], Float[Tensor, " B"], Model, float, torch.Generator], Float[Tensor, "B C h w"]
]
"""(clean latents, times, model, guidance scale, generator) -> direction in which clean latents are wrong, in units
of noise: descending along it makes them likelier. It is a constant: nothing is differentiated through the model.
The loop weights it by w(t) and hands it to the scene as the gradient of the latents."""
