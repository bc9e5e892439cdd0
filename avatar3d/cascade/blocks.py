"""Convolutions on the three planes at once, as all networks of the cascade use them."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


def lines(planes: Float[Tensor, "B 3 C R R"]) -> Float[Tensor, "B 6 C R"]:
    """For each plane the two others, averaged over the axis that it does not share: first along its columns' axis,
    then along its rows'."""
    xy, xz, yz = planes.unbind(1)
    # columns and rows of XY are x and y, of XZ x and z, of YZ y and z
    return torch.stack([xz.mean(2), yz.mean(2), xy.mean(2), yz.mean(3), xy.mean(3), xz.mean(3)], dim=1)


class PlaneConv(nn.Module):
    """A convolution of its own for each plane, 3D-aware or not.

    The 3D-aware one (Rodin: Wang et al. 2023, section 3.3) convolves, for each plane, its own features together
    with those of the two others averaged over the axis that is not shared, repeated along the axis that they
    lack. What is constant along an axis needs no convolution there: the lines are convolved as lines and then
    repeated, which gives the same at a third of the cost (and pads them with themselves, not with zeros).
    """

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, mixing: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3 * inputs, 3 * outputs, kernel, padding=kernel // 2, groups=3)
        self.line_conv = (
            nn.Conv1d(6 * inputs, 6 * outputs, kernel, padding=kernel // 2, groups=6, bias=False)
            if mixing
            else None
        )

    def forward(self, planes: Float[Tensor, "B 3 C R R"]) -> Float[Tensor, "B 3 D R R"]:
        out = self.conv(planes.flatten(1, 2)).unflatten(1, (3, -1))
        if self.line_conv is None:
            return out
        along = self.line_conv(lines(planes).flatten(1, 2)).unflatten(1, (3, 2, -1))
        return out + along[:, :, 0, :, None, :] + along[:, :, 1, :, :, None]


class PlaneNorm(nn.Module):
    """Group normalization of each plane by itself."""

    def __init__(self, channels: int, groups: int = 8) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(3 * groups, 3 * channels)

    def forward(self, planes: Float[Tensor, "B 3 C R R"]) -> Float[Tensor, "B 3 C R R"]:
        return self.norm(planes.flatten(1, 2)).unflatten(1, (3, -1))


class PlaneBlock(nn.Module):
    """Residual block: norm, SiLU, convolution, twice; the second starts at zero. Scaled and shifted if told so."""

    def __init__(self, inputs: int, outputs: int, mixing: bool = False, condition: int = 0) -> None:
        super().__init__()
        self.first_norm, self.first = PlaneNorm(inputs), PlaneConv(inputs, outputs, mixing=mixing)
        self.second_norm, self.second = PlaneNorm(outputs), PlaneConv(outputs, outputs)
        self.skip = PlaneConv(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        self.modulate = nn.Linear(condition, 2 * outputs) if condition else None
        for tensor in self.second.conv.parameters():
            nn.init.zeros_(tensor)
        if self.modulate is not None:
            nn.init.zeros_(self.modulate.weight)
            nn.init.zeros_(self.modulate.bias)

    def forward(
        self, planes: Float[Tensor, "B 3 C R R"], condition: Float[Tensor, "B E"] | None = None
    ) -> Float[Tensor, "B 3 D R R"]:
        hidden = self.first(nn.functional.silu(self.first_norm(planes)))
        hidden = self.second_norm(hidden)
        if self.modulate is not None and condition is not None:
            scale, shift = self.modulate(condition)[:, None, :, None, None].chunk(2, 2)
            hidden = hidden * (1.0 + scale) + shift
        return self.skip(planes) + self.second(nn.functional.silu(hidden))


def halved(planes: Float[Tensor, "B 3 C R R"]) -> Float[Tensor, "B 3 C S S"]:
    """Averages of two by two cells."""
    return nn.functional.avg_pool2d(planes.flatten(1, 2), 2).unflatten(1, (3, -1))


def doubled(planes: Float[Tensor, "B 3 C R R"]) -> Float[Tensor, "B 3 C S S"]:
    """Every cell four times: a convolution that follows smooths better than interpolation, which is slow."""
    batch, three, channels, size, _ = planes.shape
    wide = planes[..., :, None, :, None].expand(-1, -1, -1, -1, 2, -1, 2)
    return wide.reshape(batch, three, channels, 2 * size, 2 * size)


def bilinear(planes: Float[Tensor, "B 3 C R R"], size: int) -> Float[Tensor, "B 3 C S S"]:
    """Planes of another size by linear interpolation between the cells' centers."""
    flat = nn.functional.interpolate(planes.flatten(1, 2), size=(size, size), mode="bilinear", align_corners=False)
    return flat.unflatten(1, (3, -1))
