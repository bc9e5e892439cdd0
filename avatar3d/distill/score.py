"""How well pictures show what a prompt says, in the eyes of the prior: to name the best of several seeds."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.distill.binding import Prompts, bind
from avatar3d.distill.inversion import draw
from avatar3d.distill.prior import Prior, add_noise

TIMES = (0.15, 0.3, 0.45, 0.6, 0.75, 0.9)
NOISES = 2
"""Of each time."""


@torch.no_grad()
def likelihood(
    prior: Prior,
    prompts: Prompts,
    pictures: Float[Tensor, "B 3 S S"],
    angles: Float[Tensor, "B 2"],
    times: Sequence[float] = TIMES,
    noises: int = NOISES,
    rows: int = 64,
    pose: Float[Tensor, "B 3 S S"] | None = None,
    behind: Float[Tensor, "B 3"] | None = None,
) -> float:
    """Mean over pictures, times and noises of (error without the prompt - error with it), errors being mean
    squares of noise: more than 0 when the prompt helps to explain the pictures.

    Each error is a bound of a likelihood up to a constant, so that their difference says how much likelier the
    prompt makes the pictures (Li et al. 2023, "Your diffusion model is secretly a zero-shot classifier",
    arXiv 2303.16203, with the same noises for both). `pictures` are sRGB in [0, 1]; `angles` the cameras' azimuth
    and elevation in radians; `pose` is for priors with a ControlNet, `behind` are the colors of the backgrounds
    for those that can be told. Times and noises are the same in every call, so that results compare.
    """
    clean = prior.encode(pictures)
    model = bind(prior, prompts, angles, pose=pose, behind=behind, rows=rows)
    generator = torch.Generator(clean.device).manual_seed(0)
    gaps = []
    for time in times:
        t = torch.full((len(clean),), time, device=clean.device)
        for _ in range(noises):
            noise = draw(clean, generator)
            seen = model.predict(add_noise(clean, noise, *model.levels(t)), t)
            gaps.append(((seen.empty - noise).square() - (seen.text - noise).square()).mean())
    return float(torch.stack(gaps).mean())
