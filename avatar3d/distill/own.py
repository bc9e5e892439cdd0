"""The model of the renders' own distribution that variational score distillation trains beside the scene.

It is any network that answers like a prior: a small one, or the prior itself with low-rank layers (LoRA, Hu et al.
2022) that are on for this and off for the prior (`LowRank`, which the loop trains).
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from avatar3d.distill.inversion import draw
from avatar3d.distill.prior import Answer, Levels, Noises, Prior, PriorError, Text, add_noise, noise_from

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
"""Layers of a diffusers U-Net or transformer that get low-rank ones."""
CONVOLUTIONS = (*ATTENTION, "conv1", "conv2", "time_emb_proj")
"""The same for a U-Net that reads no tokens."""


@dataclass(frozen=True)
class OwnModel:
    """A trainable model that is bound to the texts and views of one batch."""

    network: Callable[[Float[Tensor, "B C h w"], Float[Tensor, " B"]], Float[Tensor, "B C h w"]]
    """(noisy, t) -> answer of this kind; an `nn.Module`, or a closure around one."""
    answer: Answer
    levels: Levels

    def predict(self, noisy: Float[Tensor, "B C h w"], t: Float[Tensor, " B"]) -> Noises:
        """What `vsd_with` takes."""
        noise = noise_from(self.network(noisy, t), self.answer, noisy, *self.levels(t))
        return Noises(noise, noise)


@dataclass(frozen=True)
class LowRank:
    """A prior with low-rank layers that learn what the renders look like."""

    prior: Prior
    network: nn.Module
    """The prior's denoiser, which holds the layers."""
    parameters: tuple[nn.Parameter, ...]

    def bound(
        self, text: Text, angles: Float[Tensor, "B 2"], pose: Tensor | None = None, behind: Tensor | None = None
    ) -> OwnModel:
        """Told the prompts, views and backgrounds of one batch."""
        told = partial(self.answer, text=text, angles=angles, pose=pose, behind=behind)
        return OwnModel(told, self.prior.answer, self.prior.levels)

    def answer(
        self,
        noisy: Float[Tensor, "B C h w"],
        t: Float[Tensor, " B"],
        text: Text,
        angles: Float[Tensor, "B 2"],
        pose: Tensor | None = None,
        behind: Tensor | None = None,
    ) -> Float[Tensor, "B C h w"]:
        """As the prior answers, with the low-rank layers on."""
        with lora(self.network):
            return self.prior.predict(noisy, t, text, angles if self.prior.sees_views else None, pose, behind)


def low_rank(prior: Prior, rank: int, generator: torch.Generator) -> LowRank:
    """Low-rank layers for a prior's denoiser, which answers as before until they are trained.

    Raises `PriorError` for a prior that has no network, and without the package peft.
    """
    if importlib.util.find_spec("peft") is None:
        raise PriorError("the loss vsd learns with peft: `pip install 'avatar3d[lora]'`.")
    network = getattr(getattr(prior, "network", None), "model", None)
    if not isinstance(network, nn.Module):
        raise PriorError(f"{prior.name} has no network to learn with: choose another loss than vsd")
    reads = any(name.endswith("attn2.to_q") or name.endswith("add_q_proj") for name, _ in network.named_modules())
    return LowRank(prior, network, tuple(add_lora(network, rank, generator, ATTENTION if reads else CONVOLUTIONS)))


def own_loss(
    own: OwnModel, clean: Float[Tensor, "B C h w"], t: Float[Tensor, " B"], generator: torch.Generator
) -> Float[Tensor, ""]:
    """Mean squared error of the answer about renders with noise (ProlificDreamer, arXiv 2305.16213, equation 8).

    Only the network gets gradients, not the renders.
    """
    clean = clean.detach()
    noise = draw(clean, generator)
    alpha, sigma = own.levels(t)
    answer = own.network(add_noise(clean, noise, alpha, sigma), t)
    return (answer - wanted(own.answer, clean, noise, alpha, sigma)).square().mean()


def wanted(
    kind: Answer,
    clean: Float[Tensor, "B C h w"],
    noise: Float[Tensor, "B C h w"],
    alpha: Float[Tensor, " B"],
    sigma: Float[Tensor, " B"],
) -> Float[Tensor, "B C h w"]:
    """The right answer of a kind."""
    if kind == "noise":
        return noise
    if kind == "velocity":
        return add_noise(noise, -clean, alpha, sigma)
    return clean if kind == "clean" else noise - clean


def add_lora(
    network: nn.Module, rank: int, generator: torch.Generator, layers: Sequence[str] = ATTENTION
) -> list[nn.Parameter]:
    """Adds low-rank layers, switched off, to the named ones of a network, and returns their float32 parameters;
    those that it has already begin anew.

    They change nothing until they are trained. Use them inside `lora`.
    """
    from peft import LoraConfig, inject_adapter_in_model

    if not any("lora_" in name for name, _ in network.named_parameters()):
        with torch.random.fork_rng():
            inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=rank, target_modules=list(layers)), network)
    parameters = {name: p for name, p in network.named_parameters() if "lora_" in name}
    for name, parameter in parameters.items():
        parameter.data = torch.zeros_like(parameter, dtype=torch.float32)
        if "lora_A" in name:
            drawn = torch.rand(parameter.shape, generator=generator, device=generator.device, dtype=torch.float32)
            parameter.data.copy_((2 * drawn - 1) / math.sqrt(parameter[0].numel()))
    _switch(network, False)
    return list(parameters.values())


@contextmanager
def lora(network: nn.Module) -> Iterator[None]:
    """Inside, the network uses its low-rank layers."""
    _switch(network, True)
    try:
        yield
    finally:
        _switch(network, False)


def _switch(network: nn.Module, on: bool) -> None:
    """Low-rank layers on or off. They keep `requires_grad`: a backward pass may come after they are off."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for module in network.modules():
        if isinstance(module, BaseTunerLayer):
            module.enable_adapters(on)
    for name, parameter in network.named_parameters():
        if "lora_" in name:
            parameter.requires_grad_(True)
