"""The denoiser over spec vectors: numbers and one-hot choices together, conditioned on statements.

For a choice the network gives the prior of each option in the light of everything else; the evidence of the
noisy one-hot itself is added in closed form. For a number it corrects the best linear estimate. So both the
clean and the very noisy end are right before any training.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from avatar3d.diffusion.levels import alpha_sigma
from avatar3d.spec import vector_layout, vector_size

CONDITION_GAIN = 10.0
"""Conditions are mostly zeros: without a gain their weights, which move by the rate a step, lag behind."""

NUMBER_SD = 0.5
"""Assumed standard deviation of a number in the spec vector."""


class SpecDenoiser(nn.Module):
    """(x_t, t, condition) -> expected x_0. A condition of zeros says nothing: the unconditional model."""

    def __init__(self, condition_size: int, width: int = 448, depth: int = 4, condition_width: int = 224) -> None:
        super().__init__()
        size = vector_size()
        self.enter = nn.Linear(size, width)
        self.time = nn.Linear(32, condition_width)
        self.condition = nn.Linear(condition_size, condition_width)
        self.mix = nn.Linear(condition_width, condition_width)
        self.blocks = nn.ModuleList(Block(width, condition_width) for _ in range(depth))
        self.leave = nn.Linear(width, size)
        self.direct = nn.Linear(condition_size, size, bias=False)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)
        nn.init.zeros_(self.direct.weight)
        groups = [(e.start, e.size) for e in vector_layout()]
        self.numbers = [s for s, n in groups if n == 1]
        self.choices = [(s, n) for s, n in groups if n > 1]

    def raw(self, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        """(B, D) network output: corrections of numbers and log priors of choices, at times t (B,)."""
        angles = t[:, None] * torch.exp2(torch.arange(16, device=x.device) * 0.5) * math.pi
        condition = CONDITION_GAIN * condition
        e = self.time(torch.cat([angles.sin(), angles.cos()], 1)) + self.condition(condition)
        e = self.mix(nn.functional.silu(e))
        h = self.enter(x)
        for block in self.blocks:
            h = block(h, e)
        return self.leave(nn.functional.layer_norm(h, h.shape[-1:])) + self.direct(condition)

    def logits(self, raw: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """(B, D) log posteriors of choices up to a constant: prior + evidence (numbers' entries mean nothing)."""
        alpha, sigma = (level[:, None] for level in alpha_sigma(t))
        return raw + 2.0 * alpha * x / sigma.clamp_min(0.05).square()

    def number_scales(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """c_skip and c_out (B, 1) of the numbers (Karras et al. 2022, table 1, for this noise schedule)."""
        alpha, sigma = (level[:, None] for level in alpha_sigma(t))
        variance = (alpha * NUMBER_SD).square() + sigma.square()
        return alpha * NUMBER_SD**2 / variance, sigma * NUMBER_SD / variance.sqrt()

    def forward(self, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        raw = self.raw(x, t, condition)
        logits = self.logits(raw, x, t)
        skip, out = self.number_scales(t)
        estimate = skip * x + out * raw
        for start, size in self.choices:
            estimate[:, start : start + size] = 2.0 * logits[:, start : start + size].softmax(1) - 1.0
        return estimate

    def loss(self, target: Tensor, noise: Tensor, t: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Mean squared error of the numbers in units of c_out, and mean cross-entropy of the choices."""
        alpha, sigma = (level[:, None] for level in alpha_sigma(t))
        x = alpha * target + sigma * noise
        raw = self.raw(x, t, condition)
        skip, out = self.number_scales(t)
        wanted = (target - skip * x) / out
        numbers = (raw[:, self.numbers] - wanted[:, self.numbers]).square().mean()
        logits = self.logits(raw, x, t)
        choices = [
            nn.functional.cross_entropy(logits[:, s : s + n], target[:, s : s + n].argmax(1))
            for s, n in self.choices
        ]
        return numbers, torch.stack(choices).mean()


class Block(nn.Module):
    """Residual block whose normalisation is scaled, shifted and gated by the condition (DiT's adaLN-Zero)."""

    def __init__(self, width: int, condition_width: int) -> None:
        super().__init__()
        self.modulate = nn.Linear(condition_width, 3 * width)
        self.up = nn.Linear(width, 2 * width)
        self.down = nn.Linear(2 * width, width)
        nn.init.zeros_(self.modulate.weight)
        nn.init.zeros_(self.modulate.bias)
        with torch.no_grad():
            self.modulate.bias[2 * width :] = 0.5

    def forward(self, h: Tensor, e: Tensor) -> Tensor:
        scale, shift, gate = self.modulate(nn.functional.silu(e)).chunk(3, dim=1)
        normed = nn.functional.layer_norm(h, h.shape[-1:]) * (1.0 + scale) + shift
        return h + gate * self.down(nn.functional.silu(self.up(normed)))
