"""A prior that is told the prompt as each camera of a batch sees it: what losses call a `Model`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.distill.guidance import VIEWS, away_weights, view_prompts, view_weights
from avatar3d.distill.prior import Model, Noises, Prior, Text, joined, mixed, noise_from


@dataclass(frozen=True)
class Prompts:
    """All texts of a run, encoded once, one row each."""

    views: tuple[Text, ...]
    """The prompt in each of `guidance.VIEWS`; alone for a prior that sees views."""
    empty: Text
    negative: Text | None = None
    parts: tuple[tuple[Text, ...], ...] = ()
    """The same as `views` for each close-up."""
    start: Prompts | None = None
    """What the scene shows before it is changed, for the loss "dds"."""


def encode_prompts(
    prior: Prior, prompt: str, negative: str = "", parts: Sequence[str] = (), start: str | None = None
) -> Prompts:
    """Encode a prompt, with the words of each close-up added too, and what the scene shows at the start."""

    def views(text: str) -> tuple[Text, ...]:
        return tuple(prior.encode_text([t]) for t in ((text,) if prior.sees_views else view_prompts(text)))

    return Prompts(
        views(prompt),
        prior.encode_text([""]),
        prior.encode_text([negative]) if negative else None,
        tuple(views(f"{prompt}, {words}") for words in parts),
        None if start is None else encode_prompts(prior, start, negative, parts),
    )


def bind(
    prior: Prior,
    prompts: Prompts,
    angles: Float[Tensor, "B 2"],
    parts: Sequence[int] = (),
    perp_neg: float = 0.0,
    pose: Float[Tensor, "B 3 S S"] | None = None,
    behind: Float[Tensor, "B 3"] | None = None,
    rows: int = 64,
) -> Model:
    """The prior for one batch: all that is asked about a noisy batch is asked in calls of at most `rows` rows.

    Between views prompts are mixed smoothly. A prior that sees views is told the camera's with a negative prompt
    and with none, too: guidance leads to what is said alone. With `perp_neg` other views are prompts to get away
    from.
    """
    count = len(angles)
    device = prior.device
    angles = angles.to(device)
    text, away = text_of_views(prompts, angles, parts), []
    if len(prompts.views) > 1:
        own = _own_views(prompts, parts, count)
        columns = [joined([views[k] for views in own]) for k in range(len(VIEWS))]
        others = perp_neg * away_weights(*angles.unbind(1))
        away = [(others[:, k], columns[k]) for k in range(len(VIEWS)) if bool((others[:, k] > 0).any())]
    repeated = torch.zeros(count, dtype=torch.long, device=device)
    asked = [text, prompts.empty.rows(repeated)]
    if prompts.negative is not None:
        asked.append(prompts.negative.rows(repeated))
    first_away = len(asked)
    asked += [column for _, column in away]
    told = joined(asked)

    def predict(noisy: Tensor, t: Tensor) -> Noises:
        alpha, sigma = prior.levels(t)

        def ask(index: Tensor) -> Tensor:
            own_rows = index % count
            seen = angles[own_rows] if prior.sees_views else None
            shown, back = (None if x is None else x[own_rows] for x in (pose, behind))
            answer = prior.predict(noisy[own_rows], t[own_rows], told.rows(index), seen, shown, back)
            return noise_from(answer, prior.answer, noisy[own_rows], alpha[own_rows], sigma[own_rows])

        index = torch.arange(count * len(asked), device=device)
        noises = torch.cat([ask(piece) for piece in index.split(rows)]).split(count)
        negative = noises[2] if prompts.negative is not None else None
        others = tuple((w, noises[first_away + k]) for k, (w, _) in enumerate(away))
        return Noises(noises[0], noises[1], negative, others)

    return Model(predict, prior.levels)


def text_of_views(prompts: Prompts, angles: Float[Tensor, "B 2"], parts: Sequence[int] = ()) -> Text:
    """The prompt for each camera; between views prompts are mixed smoothly."""
    own = _own_views(prompts, parts, len(angles))
    if len(prompts.views) == 1:
        return joined([views[0] for views in own])
    columns = [joined([views[k] for views in own]) for k in range(len(VIEWS))]
    return mixed(columns, view_weights(*angles.unbind(1)).T)


def _own_views(prompts: Prompts, parts: Sequence[int], count: int) -> list[tuple[Text, ...]]:
    chosen = list(parts) or [-1] * count
    return [prompts.views if part < 0 else prompts.parts[part] for part in chosen]
