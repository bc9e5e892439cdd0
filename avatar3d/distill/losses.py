"""Score distillation: in which direction clean latents are wrong, says a frozen prior.

All are plain functions of the one signature `Loss`; what else a paper leaves open are keywords with defaults, for
`functools.partial`. Directions are in units of noise, but for the two of rectified flow, which are in units of
`noise - clean`. Nothing is differentiated through the prior.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.distill.guidance import base, direction, guided
from avatar3d.distill.inversion import FIRST, draw, invert, noise_between, step
from avatar3d.distill.prior import Loss, Model, Predict, add_noise, clean_from
from avatar3d.errors import InputError


class LossError(InputError):
    """A loss that lacks something; the message says what."""


class GradientError(InputError):
    """A gradient that is not finite."""


@torch.no_grad()
def sds(
    clean: Float[Tensor, "B C h w"], t: Float[Tensor, " B"], model: Model, scale: float, generator: torch.Generator
) -> Float[Tensor, "B C h w"]:
    """Score distillation sampling, guided noise less the noise that was added (Poole et al. 2022, equation 3)."""
    noise = draw(clean, generator)
    return guided(model.predict(add_noise(clean, noise, *model.levels(t)), t), scale) - noise


@torch.no_grad()
def x0(
    clean: Float[Tensor, "B C h w"],
    t: Float[Tensor, " B"],
    model: Model,
    scale: float,
    generator: torch.Generator,
    *,
    rescale: float = 0.5,
) -> Float[Tensor, "B C h w"]:
    """The picture less the clean picture that the prior makes of it, rescaled (MVDream, Shi et al. 2023,
    arXiv 2308.16512, section 3.2), times alpha / sigma. It is `sds` but for the rescaling."""
    alpha, sigma = model.levels(t)
    noise = draw(clean, generator)
    noisy = add_noise(clean, noise, alpha, sigma)
    return guided(model.predict(noisy, t), scale, rescale, noisy, alpha, sigma) - noise


@torch.no_grad()
def sjc(
    clean: Float[Tensor, "B C h w"],
    t: Float[Tensor, " B"],
    model: Model,
    scale: float,
    generator: torch.Generator,
    *,
    draws: int = 1,
) -> Float[Tensor, "B C h w"]:
    """Score Jacobian chaining (Wang et al. 2023, arXiv 2212.00774): perturb and average the score.

    With d = sigma / alpha, x + d n is a noisy picture divided by alpha, and the paper's estimate of the score at x
    is the mean of (D(x + d n) - x) / d^2 over `draws` of n. Noise is -d times a score: (x - D) / d. For one draw
    this is `sds`, as x + d n - D = d eps.
    """
    alpha, sigma = (level.to(clean).view(-1, 1, 1, 1) for level in model.levels(t))
    total = torch.zeros_like(clean)
    for _ in range(draws):
        noisy = alpha * clean + sigma * draw(clean, generator)
        denoised = clean_from(guided(model.predict(noisy, t), scale), noisy, *model.levels(t))
        total += (clean - denoised) * alpha / sigma.clamp_min(1e-6)
    return total / draws


@torch.no_grad()
def csd(
    clean: Float[Tensor, "B C h w"],
    t: Float[Tensor, " B"],
    model: Model,
    scale: float,
    generator: torch.Generator,
    *,
    against: float = 1.0,
) -> Float[Tensor, "B C h w"]:
    """Classifier score distillation: only what guidance adds (Yu et al. 2023, arXiv 2310.19415).

    `against` weighs the step away from the negative prompt, if there is one, against the step to the text.
    """
    noises = model.predict(add_noise(clean, draw(clean, generator), *model.levels(t)), t)
    return scale * (direction(noises, noises.empty) + against * (noises.empty - base(noises)))


@torch.no_grad()
def nfsd(
    clean: Float[Tensor, "B C h w"],
    t: Float[Tensor, " B"],
    model: Model,
    scale: float,
    generator: torch.Generator,
    *,
    early: float = 0.2,
) -> Float[Tensor, "B C h w"]:
    """Noise-free score distillation: domain + scale * condition (Katzir et al. 2024, arXiv 2310.17590).

    The domain part is the prior's noise without a prompt at times below `early`, where that is little, and what it
    says beyond the negative prompt above. Raises `LossError` without a negative prompt.
    """
    noises = model.predict(add_noise(clean, draw(clean, generator), *model.levels(t)), t)
    if noises.negative is None:
        raise LossError("noise-free score distillation needs a negative prompt, such as 'unrealistic, blurry'")
    low = (t < early).to(clean.device).view(-1, 1, 1, 1)
    domain = torch.where(low, noises.empty, noises.empty - noises.negative)
    return domain + scale * direction(noises, noises.empty)


@torch.no_grad()
def ism(
    clean: Float[Tensor, "B C h w"],
    t: Float[Tensor, " B"],
    model: Model,
    scale: float,
    generator: torch.Generator,
    *,
    delta: float = 0.05,
    stride: float = 0.2,
    eta: float = 0.0,
) -> Float[Tensor, "B C h w"]:
    """Interval score matching (LucidDreamer, Liang et al. 2023, arXiv 2311.11284, equation 17).

    Inverts the picture without a prompt in strides to t - delta, then by one step to t: guided noise there less
    noise without a prompt at t - delta.
    """

    def unprompted(noisy: Tensor, time: Tensor) -> Tensor:
        return model.predict(noisy, time).empty

    before = torch.minimum((t - delta).clamp_min(FIRST), t)
    earlier = invert(clean, before, stride, unprompted, model.levels, generator, eta)
    noise = unprompted(earlier, before)
    now = step(earlier, noise, model.levels(before), model.levels(t))
    return guided(model.predict(now, t), scale) - noise


@torch.no_grad()
def sdi(
    clean: Float[Tensor, "B C h w"],
    t: Float[Tensor, " B"],
    model: Model,
    scale: float,
    generator: torch.Generator,
    *,
    steps: int = 10,
    inverse_scale: float = -7.5,
    eta: float = 0.3,
) -> Float[Tensor, "B C h w"]:
    """Score distillation via inversion: `sds` with the noise that DDIM inversion finds (Lukoianov et al. 2024,
    arXiv 2405.15891, section 5): equation 10 with tau = 0, so that noise is found and judged at one time.

    `steps` are those from clean to noise: a time t takes its share of them (section 6.2). `eta` is the share of
    fresh noise, see `avatar3d.distill.inversion.step`; 0.3 is threestudio's.
    """

    def predict(noisy: Tensor, time: Tensor) -> Tensor:
        return guided(model.predict(noisy, time), inverse_scale)

    noisy = invert(clean, t, 1 / steps, predict, model.levels, generator, eta)
    return guided(model.predict(noisy, t), scale) - noise_between(clean, noisy, *model.levels(t))


@torch.no_grad()
def sds_flow(
    clean: Float[Tensor, "B C h w"], t: Float[Tensor, " B"], model: Model, scale: float, generator: torch.Generator
) -> Float[Tensor, "B C h w"]:
    """Vector field distillation: guided flow less (noise - clean) (FlowDreamer, Li et al. 2024, arXiv 2408.05008).

    It is `sds` times (alpha + sigma) / alpha, which is 1 / alpha for rectified flow.
    """
    return _flow(clean, draw(clean, generator), t, model, scale)


@torch.no_grad()
def ucm(
    clean: Float[Tensor, "B C h w"],
    t: Float[Tensor, " B"],
    model: Model,
    scale: float,
    generator: torch.Generator,
    *,
    steps: int = 10,
    inverse_scale: float = 1.0,
    eta: float = 0.0,
) -> Float[Tensor, "B C h w"]:
    """Unique couple matching: `sds_flow` with the noise that the flow itself couples to the picture, found by
    pushing it all the way back (FlowDreamer, Li et al. 2024, arXiv 2408.05008)."""

    def predict(noisy: Tensor, time: Tensor) -> Tensor:
        return guided(model.predict(noisy, time), inverse_scale)

    end = torch.ones_like(t)
    pushed = invert(clean, end, 1 / steps, predict, model.levels, generator, eta)
    return _flow(clean, noise_between(clean, pushed, *model.levels(end)), t, model, scale)


def vsd_with(own: Predict) -> Loss:
    """Variational score distillation (ProlificDreamer, Wang et al. 2023, arXiv 2305.16213, equation 9): guided
    noise less the noise that `own`, a model of the renders' own distribution, sees; see `avatar3d.distill.own`."""

    @torch.no_grad()
    def vsd(
        clean: Float[Tensor, "B C h w"],
        t: Float[Tensor, " B"],
        model: Model,
        scale: float,
        generator: torch.Generator,
    ) -> Float[Tensor, "B C h w"]:
        noisy = add_noise(clean, draw(clean, generator), *model.levels(t))
        return guided(model.predict(noisy, t), scale) - own(noisy, t).text

    return vsd


def dds_with(start: Float[Tensor, "B C h w"], told: Predict) -> Loss:
    """Delta denoising score (Hertz et al. 2023, arXiv 2304.07090): guided noise less that of `start`, the pictures
    of the scene as it was, of which the prior is `told` what they show.

    The noise that is added is the same, so that what the prior finds wrong with both cancels.
    """

    @torch.no_grad()
    def dds(
        clean: Float[Tensor, "B C h w"],
        t: Float[Tensor, " B"],
        model: Model,
        scale: float,
        generator: torch.Generator,
    ) -> Float[Tensor, "B C h w"]:
        noise, levels = draw(clean, generator), model.levels(t)
        now = guided(model.predict(add_noise(clean, noise, *levels), t), scale)
        return now - guided(told(add_noise(start, noise, *levels), t), scale)

    return dds


def descend(
    clean: Float[Tensor, "B C h w"],
    gradient: Float[Tensor, "B C h w"],
    weights: Float[Tensor, " B"],
    limit: float | None = None,
) -> Float[Tensor, ""]:
    """A number whose gradient in `clean` is weights * gradient / B; its value is half the gradient's square.

    With a `limit` see `clip_pixels`, after the weights. Raises `GradientError` when the gradient is not finite.
    """
    weighted = (weights.to(gradient).view(-1, 1, 1, 1) * gradient).detach()
    if not finite(weighted):
        raise GradientError("the prior's gradient is not finite: use float32 or a smaller guidance scale")
    weighted = (weighted if limit is None else clip_pixels(weighted, limit)) / len(clean)
    linear = (clean * weighted).sum()
    return linear - linear.detach() + 0.5 * len(clean) * weighted.square().sum()


def clip_pixels(gradient: Float[Tensor, "B C h w"], limit: float) -> Float[Tensor, "B C h w"]:
    """Gradient of at most `limit` in each pixel, in its direction (Pan et al. 2023, arXiv 2310.12474, who clip
    that of rendered pictures; here it is that of latents)."""
    length = gradient.norm(dim=1, keepdim=True)
    return gradient * (limit / length.clamp_min(limit))


def finite(gradient: Tensor) -> bool:
    """No entry is infinite or no number."""
    return bool(torch.isfinite(gradient).all())


def _flow(clean: Tensor, noise: Tensor, t: Tensor, model: Model, scale: float) -> Tensor:
    """Guided flow at a picture with that noise, less their difference."""
    alpha, sigma = model.levels(t)
    noisy = add_noise(clean, noise, alpha, sigma)
    seen = guided(model.predict(noisy, t), scale)
    return seen - clean_from(seen, noisy, alpha, sigma) - (noise - clean)
