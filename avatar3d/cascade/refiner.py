"""What a field shows of a head, soft and with gaps -> the head's texture: a small network in texture space.

It knows what every head's texture has in common: the masks that the engine paints with (lips, brows' shade, pores,
scalp). It says how strongly each of them colors each place, around a continuation of what the field shows.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, interpolate, pixel_shuffle

from avatar3d.cascade.bake import spread
from avatar3d.engine.skin_canvas import MASKS, SIZE, head_canvas
from avatar3d.weights import WeightsError, load_state, load_tensors, save_tensors, weights_path

REFINER_KIND = "avatar3d.refiner"
INPUT = 256
"""Texels along each side of what the network reads."""
CELLS = 64
"""Cells along each side in which it says how strong the masks are."""
PRODUCTS = (("scalp", "grain"), ("scalp", "patch"), ("beard", "grain"), ("freckles", "patch"))
"""Masks that are painted together."""


@dataclass(frozen=True)
class RefinerConfig:
    """Sizes of a `Refiner`."""

    widths: tuple[int, int, int] = (32, 48, 64)
    """Channels at 64, 32 and 16 cells."""


@cache
def head_maps() -> Float[Tensor, "M S S"]:
    """Masks of the head's texture, 0 where it shows nothing: those of the engine, creases, and some products."""
    canvas = head_canvas()
    masks = torch.from_numpy(canvas.masks)
    columns = [masks, torch.from_numpy(canvas.dents)[:, None].clamp_max(1)]
    columns += [(masks[:, MASKS.index(a)] * masks[:, MASKS.index(b)])[:, None] for a, b in PRODUCTS]
    values = torch.cat(columns, dim=1)
    maps = torch.zeros(values.shape[1], SIZE * SIZE)
    maps[:, torch.from_numpy(canvas.texels.index)] = values.T
    return maps.view(-1, SIZE, SIZE)


@cache
def head_texels() -> Bool[Tensor, "S S"]:
    """Texels of the head's texture that show a surface."""
    shown = torch.zeros(SIZE * SIZE, dtype=torch.bool)
    shown[torch.from_numpy(head_canvas().texels.index)] = True
    return shown.view(SIZE, SIZE)


class Refiner(nn.Module):
    """(B, 3, 256, 256) sRGB and (B, 256, 256) weights -> the parts of the texture that `compose` puts together.

    At the start it does nothing: the texture is then the continuation of what the field shows.
    """

    def __init__(self, config: RefinerConfig) -> None:
        super().__init__()
        self.config = config
        fine, middle, coarse = config.widths
        self.count = len(MASKS) + 1 + len(PRODUCTS)
        self.enter = nn.Conv2d(7 + self.count, fine, 4, stride=4)
        self.place = nn.Parameter(torch.zeros(fine, CELLS, CELLS))
        self.down = nn.ModuleList([Block(fine, fine), Block(fine, middle), Block(middle, coarse)])
        self.bottom = Block(coarse, coarse)
        self.up = nn.ModuleList([Block(coarse + middle, middle), Block(middle + fine, fine)])
        self.leave = nn.Conv2d(fine, 3 * 16 + 3 * self.count, 1)
        nn.init.zeros_(self.leave.weight)
        if self.leave.bias is not None:
            nn.init.zeros_(self.leave.bias)

    def forward(
        self, filled: Float[Tensor, "B 3 H H"], weight: Float[Tensor, "B H H"], maps: Float[Tensor, "M H H"]
    ) -> tuple[Float[Tensor, "B 3 H H"], Float[Tensor, "B G C C"]]:
        """Colors without detail, and for each map how much red, green and blue it adds in each cell.

        `filled` has no gaps (`continued`), `maps` are `head_maps` at this size.
        """
        total = weight.sum(dim=(1, 2)).clamp_min(1.0)[:, None]
        mean = ((filled * weight[:, None]).sum(dim=(2, 3)) / total)[:, :, None, None]
        still = maps.expand(len(filled), -1, -1, -1)
        x = torch.cat([4 * (filled - mean), weight[:, None], mean.expand_as(filled), still], dim=1)
        h = self.down[0](self.enter(x) + self.place)
        half = self.down[1](nn.functional.avg_pool2d(h, 2))
        quarter = self.bottom(self.down[2](nn.functional.avg_pool2d(half, 2)))
        half = self.up[0](torch.cat([interpolate(quarter, scale_factor=2.0), half], dim=1))
        h = self.up[1](torch.cat([interpolate(half, scale_factor=2.0), h], dim=1))
        out = 0.25 * self.leave(h)
        return filled + pixel_shuffle(out[:, :48], 4), out[:, 48:]


class Block(nn.Module):
    """Residual block of two convolutions; the second starts at zero."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first, self.second = (
            nn.Conv2d(inputs, outputs, 3, padding=1),
            nn.Conv2d(outputs, outputs, 3, padding=1),
        )
        self.norms = nn.ModuleList([nn.GroupNorm(8, inputs), nn.GroupNorm(8, outputs)])
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D H W"]:
        h = self.first(nn.functional.silu(self.norms[0](x)))
        return self.skip(x) + self.second(nn.functional.silu(self.norms[1](h)))


def continued(rgb: Float[Tensor, "H H 3"], weight: Float[Tensor, "H H"]) -> Float[Tensor, "H H 3"]:
    """What the field shows, continued smoothly into what it does not: plain inpainting."""
    mean = (rgb * weight[..., None]).sum(dim=(0, 1)) / weight.sum().clamp_min(1.0)
    return mean + spread(rgb - mean, weight, levels=8)


def compose(
    base: Float[Tensor, "B 3 H H"],
    gains: Float[Tensor, "B G C C"],
    maps: Float[Tensor, "M S S"],
    top: int = 0,
    left: int = 0,
    size: int = SIZE,
) -> Float[Tensor, "B 3 E E"]:
    """The texture's window of `size` texels: colors without detail, plus maps times what each adds.

    `top`, `left` and `size` are whole numbers of cells, 16 texels.
    """
    smooth, strength = (_window(planes, top, left, size) for planes in (base, gains))
    window = maps[:, top : top + size, left : left + size]
    return smooth + (strength.unflatten(1, (len(maps), 3)) * window[:, None]).sum(dim=1)


def _window(planes: Float[Tensor, "B C H H"], top: int, left: int, size: int) -> Float[Tensor, "B C E E"]:
    """A piece of the planes interpolated linearly to the texture's size, the rim repeated beyond."""
    step = SIZE // planes.shape[2]
    x, y, count = left // step, top // step, size // step
    rim = nn.functional.pad(planes, (1, 1, 1, 1), mode="replicate")[:, :, y : y + count + 2, x : x + count + 2]
    return interpolate(rim, scale_factor=float(step), mode="bilinear")[:, :, step:-step, step:-step]


def refine(model: Refiner, rgb: Float[Tensor, "S S 3"], weight: Float[Tensor, "S S"]) -> Float[Tensor, "R R 3"]:
    """The head's texture with its gutter, for `bake.with_look_of`."""
    rgb, weight = (adaptive_avg_pool2d(t, INPUT) for t in (rgb.permute(2, 0, 1), weight[None]))
    filled = continued(rgb.permute(1, 2, 0), weight[0])
    with torch.no_grad():
        base, gains = model(filled.permute(2, 0, 1)[None], weight, small_maps())
        window = SIZE // 4
        rows = [
            torch.cat([compose(base, gains, head_maps(), y, x, window) for x in range(0, SIZE, window)], dim=3)
            for y in range(0, SIZE, window)
        ]
    texture = torch.cat(rows, dim=2)[0].clamp(0, 1).permute(1, 2, 0)
    texels = head_canvas().texels
    return torch.from_numpy(texels.image(texture.reshape(-1, 3).numpy()[texels.index]))


@cache
def small_maps() -> Float[Tensor, "M H H"]:
    """`head_maps` as the network reads them."""
    return adaptive_avg_pool2d(head_maps(), INPUT)


def save_refiner(model: Refiner) -> Path:
    """Write the shipped file as float16."""
    path = weights_path("refiner.safetensors")
    tensors = {name: t.half() for name, t in model.state_dict().items()}
    metadata = {"type": REFINER_KIND, "version": "1", "config": json.dumps(asdict(model.config))}
    save_tensors(path, tensors, metadata)
    return path


def load_refiner(path: Path | None = None) -> Refiner:
    """The shipped refiner, or another. Raises `WeightsError`."""
    path = path or weights_path("refiner.safetensors")
    tensors, metadata = load_tensors(path, REFINER_KIND)
    try:
        model = Refiner(RefinerConfig(tuple(json.loads(metadata["config"])["widths"])))
    except (KeyError, ValueError, TypeError) as error:
        raise WeightsError(f"{path} has damaged metadata ({error}): restore the file") from error
    load_state(model, tensors, path)
    return model.eval().requires_grad_(False)
