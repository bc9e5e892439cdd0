"""The parts of a text-to-image pipeline, whatever its class, as a `Prior`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from avatar3d.distill.hint import Hint, centers
from avatar3d.distill.networks import ANGLES, MATRIX, SD3, Flux, Network, UNet, resized
from avatar3d.distill.prior import Answer, PriorError, Text, about_whole
from avatar3d.distill.text_encoders import (
    CLIP_TOKENS,
    LONG,
    SHORT,
    EncodePerson,
    Encoder,
    Read,
    TextReader,
    clip_text,
    encoder_of,
    flux_text,
    person_text,
    sd3_text,
    sdxl_text,
    t5_text,
)

ANSWERS: dict[str, Answer] = {"epsilon": "noise", "v_prediction": "velocity", "sample": "clean"}
KNOWN = "known are pipelines like SD 1, SD 2, SDXL, IF, SD3 and Flux, and UNets that are told the camera"


@dataclass(frozen=True)
class Schedule:
    """Noise levels. A discrete scheduler's time t is its step round(t (N - 1)), here and for the model."""

    answer: Answer
    steps_in_all: int
    alphas_cumprod: Float[Tensor, " N"] | None
    """None for flows."""

    def steps(self, t: Float[Tensor, " B"]) -> Tensor:
        """What the model is told."""
        if self.alphas_cumprod is None:
            return t * self.steps_in_all
        return (t * (self.steps_in_all - 1)).round().long()

    def levels(self, t: Float[Tensor, " B"]) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"]]:
        """alpha and sigma."""
        if self.alphas_cumprod is None:
            return 1 - t, t
        kept = self.alphas_cumprod.to(t.device)[self.steps(t)].to(t.dtype)
        return kept.sqrt(), (1 - kept).sqrt()


@dataclass
class DiffusersPrior:
    """A `Prior`. Its models are frozen; `predict` keeps a graph only for inputs that ask for gradients."""

    name: str
    answer: Answer
    size: int
    latent: tuple[int, int, int]
    sees_views: bool
    device: torch.device
    dtype: torch.dtype
    schedule: Schedule
    network: Network
    reader: TextReader
    vae: Any = None
    """None for pixel space."""
    fold: int = 1
    """In pixel space: so many by so many pixels are one place with more channels."""
    hint: Hint | None = None
    """What a statement looks like on average: the network denoises what there is beyond it."""

    @property
    def takes_poses(self) -> bool:
        """A prior with a ControlNet."""
        return isinstance(self.network, UNet) and self.network.controlnet is not None

    def encode_text(self, prompts: Sequence[str]) -> Text:
        """Each prompt is read once. Raises `PriorError` for new prompts after `release_text_encoder`."""
        text = self.reader(prompts)
        return Text(*(None if part is None else part.to(self.device) for part in (text.tokens, text.pooled)))

    def release_text_encoder(self) -> None:
        """Free the memory of the text encoders; prompts that were read stay known."""
        self.reader.release()

    def cut(self, prompt: str) -> str:
        """The words at the end of the prompt that the model does not read; "" if it reads all."""
        return self.reader.cut(prompt)

    def encode(self, rgb: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B C h w"]:
        """The mean of the autoencoder's posterior, scaled as the denoiser expects; in the pictures' dtype."""
        pictures = 2 * resized(rgb, self.size) - 1
        if self.vae is None:
            return pixel_unshuffle(pictures, self.fold)
        mean = self.vae.encode(pictures.to(self.vae.dtype)).latent_dist.mode()
        return ((mean - (self.vae.config.shift_factor or 0)) * self.vae.config.scaling_factor).to(rgb.dtype)

    def decode(self, latents: Float[Tensor, "B C h w"]) -> Float[Tensor, "B 3 S S"]:
        """Pictures in [0, 1]."""
        pictures = pixel_shuffle(latents, self.fold)
        if self.vae is not None:
            raw = latents / self.vae.config.scaling_factor + (self.vae.config.shift_factor or 0)
            pictures = self.vae.decode(raw.to(self.vae.dtype)).sample.to(latents.dtype)
        return ((pictures + 1) / 2).clamp(0, 1)

    def levels(self, t: Float[Tensor, " B"]) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"]]:
        """alpha and sigma of the step that `predict` uses at t."""
        return self.schedule.levels(t)

    def predict(
        self,
        noisy: Float[Tensor, "B C h w"],
        t: Float[Tensor, " B"],
        text: Text,
        angles: Float[Tensor, "B 2"] | None = None,
        pose: Float[Tensor, "B 3 H W"] | None = None,
        behind: Float[Tensor, "B 3"] | None = None,
    ) -> Float[Tensor, "B C h w"]:
        """The answer in the dtype of `noisy`; a variance that the model learned is left out. A prior with a hint
        is told the background; without one `behind` changes nothing.

        Raises `PriorError` when a prior that sees views is not told any."""
        told = Text(*(None if part is None else part.to(self.dtype) for part in (text.tokens, text.pooled)))
        if self.sees_views and angles is None:
            raise PriorError("This prior sees views: give it the camera's azimuth and elevation.")
        steps = self.schedule.steps(t)
        if self.hint is None:
            answer = self.network(noisy.to(self.dtype), steps, told, angles, pose)
            return answer[:, : noisy.shape[1]].to(noisy.dtype)
        assert text.pooled is not None and angles is not None
        over = self.hint.over(text.pooled.float(), angles.float(), behind).to(noisy)
        center = centers(over, self.size, self.fold)
        alpha, sigma = self.levels(t)
        rest = noisy - alpha.to(noisy).view(-1, 1, 1, 1) * center
        answer = self.network(torch.cat([rest, over], 1).to(self.dtype), steps, told, angles, pose)
        return about_whole(answer.to(noisy.dtype), self.answer, center, sigma)


def assemble(
    parts: Mapping[str, Any],
    config: Mapping[str, Any],
    name: str,
    device: torch.device,
    size: int | None = None,
    offload: bool = False,
    controlnet: Any = None,
    encode_person: EncodePerson | None = None,
) -> DiffusersPrior:
    """A prior of a pipeline's components and config. The models are frozen and moved; with `offload` the text
    encoders stay on the CPU but for the moments in which they read, and the denoiser makes room for them.

    Raises `PriorError` for what is not text-to-image or does not fit together.
    """
    denoiser = parts.get("unet") if parts.get("unet") is not None else parts.get("transformer")
    if denoiser is None or parts.get("scheduler") is None:
        raise PriorError(f"{name} has no unet, no transformer or no scheduler, so it is no prior: {KNOWN}.")
    network, read, encoders, channels = _family(parts, config, name, denoiser, encode_person)
    vae, hint = parts.get("vae"), parts.get("hint")
    channels -= 0 if hint is None else hint.channels
    size, latent = _geometry(name, denoiser, vae, channels, size, isinstance(network, Flux))
    schedule = schedule_of(parts["scheduler"], name)
    if isinstance(network, UNet):
        _check_controlnet(controlnet, denoiser, size // latent[1])
        network = UNet(denoiser, size, network.statement, controlnet)
    elif controlnet is not None:
        raise PriorError(f"{name} has a transformer; ControlNets are for UNets here. Leave the ControlNet out.")
    models = [encoder.model for encoder in encoders]
    for model in [denoiser, vae, controlnet, *models]:
        if isinstance(model, nn.Module):
            model.requires_grad_(False).eval()
    for model in [denoiser, vae, controlnet, *([] if offload else models)]:
        if isinstance(model, nn.Module):
            model.to(device)
    if vae is not None and vae.dtype == torch.float16 and vae.config.get("force_upcast"):
        vae.to(torch.float32)
    reader = TextReader(read, tuple((encoder.tokenizer, encoder.length) for encoder in encoders))
    if offload and models:
        reader.room = partial(_room_for, models, denoiser, device)
    sees = isinstance(network, UNet) and denoiser.config.class_embed_type is not None
    fold = size // latent[1] if vae is None else 1
    hint = None if hint is None else hint.to(torch.zeros((), device=device))
    return DiffusersPrior(
        name, schedule.answer, size, latent, sees, device, denoiser.dtype, schedule, network, reader, vae, fold,
        hint,
    )  # fmt: skip


def schedule_of(scheduler: Any, name: str) -> Schedule:
    """What a scheduler's config says of levels and answers."""
    config = scheduler.config
    kind, cumprod = config.get("prediction_type"), getattr(scheduler, "alphas_cumprod", None)
    if kind == "flow_prediction" or (cumprod is None and "shift" in config):
        return Schedule("flow", config.num_train_timesteps, None)
    if cumprod is None or kind not in ANSWERS:
        raise PriorError(
            f"The scheduler of {name} ({type(scheduler).__name__}, prediction_type {kind}) is not known; "
            f"known are {', '.join(ANSWERS)} with alphas_cumprod, and flows."
        )
    return Schedule(ANSWERS[kind], len(cumprod), cumprod.detach().float())


def _family(
    parts: Mapping[str, Any],
    config: Mapping[str, Any],
    name: str,
    denoiser: Any,
    encode_person: EncodePerson | None,
) -> tuple[Network, Read, list[Encoder], int]:
    """Network, reader of prompts, its encoders, and channels of the latents, by what the parts' configs say."""
    kind = denoiser.config
    if {"cross_attention_dim", "class_embed_type", "addition_embed_type"} <= set(kind):
        read, encoders, statement = _unet_text(parts, config, name, kind, encode_person)
        return UNet(denoiser, 0, statement), read, encoders, kind.in_channels
    transformer = {"joint_attention_dim", "pooled_projection_dim"} <= set(kind)
    if transformer and "pos_embed_max_size" in kind:
        clips = _needed(parts, name, 1, CLIP_TOKENS), _needed(parts, name, 2, CLIP_TOKENS)
        t5 = encoder_of(parts, 3, SHORT)
        read = partial(sd3_text, clips, t5, kind.joint_attention_dim)
        return SD3(denoiser), read, [*clips, *([] if t5 is None else [t5])], kind.in_channels
    if transformer and "guidance_embeds" in kind and "axes_dims_rope" in kind:
        clip, t5 = _needed(parts, name, 1), _needed(parts, name, 2, LONG if kind.guidance_embeds else SHORT)
        if kind.out_channels not in (None, kind.in_channels):
            raise PriorError(f"{name} needs more than a prompt (inpainting or control): {KNOWN}.")
        return Flux(denoiser), partial(flux_text, clip, t5), [clip, t5], kind.in_channels // 4
    raise PriorError(f"{name} has a {type(denoiser).__name__}, which is not known: {KNOWN}.")


def _unet_text(
    parts: Mapping[str, Any],
    config: Mapping[str, Any],
    name: str,
    kind: Any,
    encode_person: EncodePerson | None,
) -> tuple[Read, list[Encoder], int]:
    """Reader of a UNet's prompts, its encoders, and how many numbers a statement has (0: there is none)."""
    if kind.class_embed_type not in (None, "projection") or kind.get("num_class_embeds"):
        raise PriorError(f"{name} needs class labels (a super-resolution model?): {KNOWN}.")
    if kind.addition_embed_type not in (None, "text", "text_time"):
        raise PriorError(f"{name} needs {kind.addition_embed_type} embeddings: {KNOWN}.")
    if parts.get("text_encoder") is None:
        if kind.class_embed_type is None or kind.projection_class_embeddings_input_dim <= ANGLES:
            raise PriorError(f"{name} has no text encoder; load it with one: {KNOWN}.")
        if encode_person is None:
            raise PriorError(f"{name} has no text encoder: give `encode_person`, which makes numbers of prompts.")
        width = kind.projection_class_embeddings_input_dim - ANGLES
        return partial(person_text, encode_person, width), [], width
    if kind.class_embed_type is not None and kind.projection_class_embeddings_input_dim not in (ANGLES, MATRIX):
        raise PriorError(f"{name} takes class labels that are neither 4 angles nor a 4 x 4 camera matrix.")
    if kind.addition_embed_type == "text_time":
        clips = _needed(parts, name, 1), _needed(parts, name, 2)
        given = kind.projection_class_embeddings_input_dim - clips[1].model.config.projection_dim
        if given != 6 * kind.addition_time_embed_dim:
            raise PriorError(f"{name} needs more than a prompt and a size (a refiner?): {KNOWN}.")
        zeros = bool(config.get("force_zeros_for_empty_prompt", True))
        return partial(sdxl_text, clips, zeros), list(clips), 0
    t5 = parts["text_encoder"].config.model_type == "t5"
    encoder = _needed(parts, name, 1, CLIP_TOKENS if t5 else None)
    return partial(t5_text if t5 else clip_text, encoder), [encoder], 0


def _needed(parts: Mapping[str, Any], name: str, number: int, length: int | None = None) -> Encoder:
    encoder = encoder_of(parts, number, length)
    if encoder is None:
        raise PriorError(f"{name} lacks text encoder {number} or its tokenizer; load it with all its parts.")
    return encoder


def _geometry(
    name: str, denoiser: Any, vae: Any, channels: int, size: int | None, patches: bool
) -> tuple[int, tuple[int, int, int]]:
    """Pixels a side, and the latents' shape."""
    if vae is not None and not {"latent_channels", "block_out_channels", "scaling_factor"} <= set(vae.config):
        raise PriorError(f"The autoencoder of {name} ({type(vae).__name__}) is not known; use an AutoencoderKL.")
    fold = max(1, math.isqrt(channels // 3)) if vae is None else 1
    expected = 3 * fold**2 if vae is None else vae.config.latent_channels
    out = denoiser.config.get("out_channels") or denoiser.config.in_channels
    if channels != expected or (not patches and out not in (channels, 2 * channels)):
        raise PriorError(
            f"{name} takes {channels} channels where pictures have {expected}, so it needs more than a prompt "
            f"(inpainting or super-resolution?): {KNOWN}."
        )
    factor = fold if vae is None else 2 ** (len(vae.config.block_out_channels) - 1)
    own = 128 if patches else denoiser.config.sample_size
    if size is None and not isinstance(own, int):
        raise PriorError(f"{name} does not say for which size it was made; give `size`, in pixels.")
    size = own * factor if size is None else size
    most = denoiser.config.get("pos_embed_max_size")
    grain = factor * (2 if patches else denoiser.config.get("patch_size", 1))
    if size <= 0 or size % grain or (most is not None and size // grain > most):
        limit = "" if most is None else f", at most {most * grain}"
        raise PriorError(f"{name} can not work at {size} pixels: give a multiple of {grain}{limit}.")
    return size, (channels, size // factor, size // factor)


def _check_controlnet(controlnet: Any, unet: Any, factor: int) -> None:
    """It must have been made for such a UNet."""
    if controlnet is None:
        return
    same = ("in_channels", "block_out_channels", "cross_attention_dim", "addition_embed_type", "class_embed_type")
    plain = {key: (controlnet.config.get(key), unet.config.get(key)) for key in same}
    wrong = [f"{key} {a}, not {b}" for key, (a, b) in plain.items() if _listed(a) != _listed(b)]
    own = 2 ** (len(controlnet.config.conditioning_embedding_out_channels) - 1)
    if own != factor:
        wrong.append(f"pictures {own} times as large as latents, not {factor} times")
    shown = controlnet.config.get("conditioning_channels", 3)
    if shown != 3:
        wrong.append(f"pictures of {shown} channels, not 3")
    if wrong:
        raise PriorError(
            f"The ControlNet was made for another model ({'; '.join(wrong)}); take one for this model."
        )


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


@contextmanager
def _room_for(models: Sequence[Any], denoiser: Any, device: torch.device) -> Iterator[None]:
    """The text encoders on the device, the denoiser on the CPU; afterwards the other way round."""
    denoiser.to("cpu")
    for model in models:
        model.to(device)
    try:
        yield
    finally:
        for model in models:
            model.to("cpu")
        denoiser.to(device)
