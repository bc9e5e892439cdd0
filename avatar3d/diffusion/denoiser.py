"""The denoiser over spec vectors: numbers and one-hot choices together, conditioned on statements.

The network gives the prior of every option of a choice, and of every component of a number's mixture, in the
light of everything else; the evidence of the noisy entry itself is added in closed form (Bayes' rule). A number
is a mixture of narrow normal components on an even grid, so that spikes, gaps and flat stretches all come out.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from avatar3d.diffusion.levels import alpha_sigma
from avatar3d.spec import vector_layout, vector_size

CONDITION_GAIN = 10.0
"""Conditions are mostly zeros: without a gain their weights, which move by the rate a step, lag behind."""

FIELD_COMPONENTS, CONTROL_COMPONENTS = 32, 20
"""Mixture components of a number that is a field (age), and of a face or body control."""


class SpecDenoiser(nn.Module):
    """(x_t, t, condition) -> expected x_0. A condition of zeros says nothing: the unconditional model."""

    def __init__(self, condition_size: int, width: int = 448, depth: int = 4, condition_width: int = 224) -> None:
        super().__init__()
        self.groups = _groups()
        outputs = sum(g.outputs for g in self.groups)
        self.enter = nn.Linear(vector_size(), width)
        self.time = nn.Linear(32, condition_width)
        self.condition = nn.Linear(condition_size, condition_width)
        self.mix = nn.Linear(condition_width, condition_width)
        self.blocks = nn.ModuleList(Block(width, condition_width) for _ in range(depth))
        self.leave = nn.Linear(width, outputs)
        self.direct = nn.Linear(condition_size, outputs, bias=False)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)
        nn.init.zeros_(self.direct.weight)

    def priors(self, x: Tensor, t: Tensor, condition: Tensor) -> list[Tensor]:
        """Log priors of each group, (B, entries, options), from x (B, D) at times t (B,) and conditions (B, S)."""
        angles = t[:, None] * torch.exp2(torch.arange(16, device=x.device) * 0.5) * math.pi
        condition = CONDITION_GAIN * condition
        e = self.time(torch.cat([angles.sin(), angles.cos()], 1)) + self.condition(condition)
        e = self.mix(nn.functional.silu(e))
        h = self.enter(x)
        for block in self.blocks:
            h = block(h, e)
        raw = self.leave(nn.functional.layer_norm(h, h.shape[-1:])) + self.direct(condition)
        parts = raw.split([g.outputs for g in self.groups], 1)
        return [part.view(len(x), -1, g.options) for part, g in zip(parts, self.groups, strict=True)]

    def forward(self, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        estimate = torch.empty_like(x)
        for group, prior in zip(self.groups, self.priors(x, t, condition), strict=True):
            estimate[:, group.positions] = group.expected(prior, x[:, group.positions], t)
        return estimate

    def loss(self, target: Tensor, noise: Tensor, t: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Mean cross-entropy of the numbers' components and of the choices, given target + noise at t."""
        alpha, sigma = (level[:, None] for level in alpha_sigma(t))
        x = alpha * target + sigma * noise
        numbers: list[Tensor] = []
        choices: list[Tensor] = []
        for group, prior in zip(self.groups, self.priors(x, t, condition), strict=True):
            posterior = (prior + group.evidence(x[:, group.positions], t)).flatten(0, 1)
            index = group.index(target[:, group.positions]).flatten()
            loss = nn.functional.cross_entropy(posterior, index)
            (numbers if group.centers is not None else choices).extend([loss] * prior.shape[1])
        return torch.stack(numbers).mean(), torch.stack(choices).mean()


class Group:
    """Entries of the vector that are treated alike: one choice, or all numbers with so many components."""

    def __init__(self, positions: list[int], options: int, is_choice: bool) -> None:
        self.positions, self.options = positions, options
        self.centers = None if is_choice else (torch.arange(options) + 0.5) * (2.0 / options) - 1.0
        self.sd = 0.45 * 2.0 / options
        self.outputs = options if is_choice else options * len(positions)

    def evidence(self, x: Tensor, t: Tensor) -> Tensor:
        """(B, entries, options) log likelihood of x (B, positions) under each option, up to a constant."""
        alpha, sigma = (level[:, None, None] for level in alpha_sigma(t))
        if self.centers is None:
            return (2.0 * alpha[:, 0] * x / sigma[:, 0].clamp_min(0.05).square())[:, None]
        variance = (alpha * self.sd).square() + sigma.square()
        return -0.5 * (x[..., None] - alpha * self.centers.to(x)).square() / variance

    def expected(self, prior: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """(B, positions) expected clean entries: one-hots in {-1, 1}, or means over the components."""
        share = (prior + self.evidence(x, t)).softmax(-1)
        if self.centers is None:
            return 2.0 * share[:, 0] - 1.0
        alpha, sigma = (level[:, None, None] for level in alpha_sigma(t))
        gain = alpha * self.sd**2 / ((alpha * self.sd).square() + sigma.square())
        centers = self.centers.to(x)
        return (share * (centers + gain * (x[..., None] - alpha * centers))).sum(-1)

    def index(self, target: Tensor) -> Tensor:
        """(B, entries) index of the option that clean entries (B, positions) take."""
        if self.centers is None:
            return target.argmax(1, keepdim=True)
        return ((target + 1.0) * (0.5 * self.options)).long().clamp(0, self.options - 1)


def _groups() -> list[Group]:
    layout = vector_layout()
    fields = [e.start for e in layout if not e.choices and "." not in e.name]
    controls = [e.start for e in layout if "." in e.name]
    choices = [Group(list(range(e.start, e.start + e.size)), e.size, True) for e in layout if e.choices]
    return [Group(fields, FIELD_COMPONENTS, False), Group(controls, CONTROL_COMPONENTS, False), *choices]


class Block(nn.Module):
    """Residual block whose normalisation is scaled, shifted and gated by the condition (as in DiT, Peebles and
    Xie 2023, but gates begin at one half)."""

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
