"""What a prior is asked for: guidance, negative prompts, Perp-Neg, and prompts that say where the camera is.

One convention: `base + scale * (text - base)`. The base is what the prior sees without a prompt or, when there
is a negative prompt, what it sees with that one.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.diffusion.guidance import guide
from avatar3d.distill.prior import Noises, clean_from
from avatar3d.errors import InputError

VIEWS = ("front view", "side view", "back view", "overhead view")
OVERHEAD = math.radians(60.0)
"""Elevation above which DreamFusion (section 3.2) says "overhead view"."""
SOFTNESS = math.radians(15.0)
"""Half of the range of elevations over which "overhead view" comes in."""


class GuidanceError(InputError):
    """Guidance that lacks something; the message says what."""


def guided(
    noises: Noises,
    scale: float,
    rescale: float = 0.0,
    noisy: Float[Tensor, "B C h w"] | None = None,
    alpha: Float[Tensor, " B"] | None = None,
    sigma: Float[Tensor, " B"] | None = None,
) -> Float[Tensor, "B C h w"]:
    """The noise at a guidance scale: 1 is the plain prior, 0 the base.

    `rescale` from 0 to 1 brings the standard deviation of the guided clean picture (not of the noise) back to that
    of the picture that the text alone gives (Lin et al. 2023, arXiv 2305.08891, equations 15 and 16; on clean
    pictures as in MVDream, arXiv 2308.16512). It needs the noisy batch and its levels, else `GuidanceError`.
    """
    start = base(noises)
    noise = guide(start + direction(noises, start), start, scale)
    if rescale == 0.0:
        return noise
    if noisy is None or alpha is None or sigma is None:
        raise GuidanceError("rescale works on clean pictures: give noisy, alpha and sigma, or rescale 0")
    a, s = (level.to(noisy).view(-1, 1, 1, 1) for level in (alpha, sigma))
    clean, text = clean_from(noise, noisy, alpha, sigma), clean_from(noises.text, noisy, alpha, sigma)
    return (noisy - a * rescaled(clean, text, rescale)) / s.clamp_min(1e-6)


def rescaled(
    guided: Float[Tensor, "B C h w"], plain: Float[Tensor, "B C h w"], share: float
) -> Float[Tensor, "B C h w"]:
    """`guided` with a standard deviation (of each sample) that is moved by `share` to that of `plain`."""
    deviation, wanted = (x.flatten(1).std(1).view(-1, 1, 1, 1) for x in (guided, plain))
    return guided * (1 + share * (wanted / deviation.clamp_min(1e-8) - 1))


def base(noises: Noises) -> Float[Tensor, "B C h w"]:
    """What guidance leads away from: the negative prompt, or nothing."""
    return noises.empty if noises.negative is None else noises.negative


def direction(noises: Noises, start: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C h w"]:
    """From `start` to the text, less what of the `away` prompts is at right angles to it.

    Perp-Neg (Armandpour et al. 2023, arXiv 2304.04968): what a prompt to get away from shares with the
    text is kept. Weights are positive.
    """
    ahead = noises.text - start
    total = ahead
    for weight, noise in noises.away:
        total = total - weight.to(ahead).view(-1, 1, 1, 1) * perpendicular(noise - start, ahead)
    return total


def perpendicular(vector: Float[Tensor, "B C h w"], axis: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C h w"]:
    """The part of each sample that is at right angles to `axis`; all of it where the axis is 0."""
    inner, length = ((vector * axis).flatten(1).sum(1), (axis * axis).flatten(1).sum(1))
    share = torch.where(length > 0, inner / length.clamp_min(torch.finfo(axis.dtype).tiny), 0.0)
    return vector - share.view(-1, 1, 1, 1) * axis


def view_prompts(prompt: str) -> tuple[str, ...]:
    """The prompt with each of `VIEWS`."""
    return tuple(f"{prompt}, {view}" for view in VIEWS)


def view_weights(azimuth: Float[Tensor, " B"], elevation: Float[Tensor, " B"]) -> Float[Tensor, "B 4"]:
    """Weights of `VIEWS` at angles in radians (see `avatar3d.camera`): smooth, of sum 1.

    Each is 1 at its center and one half where DreamFusion goes from one view's words to the next: at 45 and 135
    degrees between front, side and back (appendix A.2: the closest), at 60 degrees of elevation to overhead
    (section 3.2), which comes in here between 45 and 75.
    """
    over = overhead(elevation)
    facing, side = azimuth.cos(), azimuth.sin().square()
    around = (facing.clamp_min(0).square(), side, facing.clamp_max(0).square())
    return torch.stack([*((1 - over) * weight for weight in around), over], dim=1)


def away_weights(azimuth: Float[Tensor, " B"], elevation: Float[Tensor, " B"]) -> Float[Tensor, "B 4"]:
    """Perp-Neg's weights of `VIEWS` as prompts to get away from, at angles in radians; 0 or more.

    Decays a * exp(-b r) + c of the azimuth's share r between two views (Armandpour et al. 2023), a and b as
    threestudio has them, and c such that they are continuous and a prompt is not led away from itself at its
    center. None from above.
    """
    turned = torch.atan2(azimuth.sin(), azimuth.cos()).abs() / (math.pi / 2)
    front, back = (1 - turned).clamp(0, 1), (2 - turned).clamp(0, 1)
    ahead = turned <= 1
    highest = 4 * (1 - math.exp(-0.5))
    from_front = torch.where(ahead, 4 * _decay(front), highest + _decay(back))
    from_side = torch.where(ahead, 4 * _decay(1 - front), _decay(back))
    none = torch.zeros_like(from_front)
    return torch.stack([from_front, from_side, none, none], 1) * (1 - overhead(elevation))[:, None]


def overhead(elevation: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
    """How much a camera looks from above: 0 to 1, a smooth step."""
    x = ((elevation - OVERHEAD) / (2 * SOFTNESS) + 0.5).clamp(0, 1)
    return x * x * (3 - 2 * x)


def _decay(share: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
    """exp(-r / 2), shifted to 0 at r = 1."""
    return torch.exp(-0.5 * share) - math.exp(-0.5)
