"""Colors of hair and the textures that its ribbons and the scalp share."""

from __future__ import annotations

from functools import cache, lru_cache

import numpy as np
import torch
from jaxtyping import Float
from numba import njit
from scipy.ndimage import gaussian_filter, zoom
from torch import Tensor

from avatar3d.spec import AvatarSpec

COLORS = {
    "black": (0.088, 0.078, 0.075), "dark_brown": (0.21, 0.143, 0.105), "brown": (0.33, 0.22, 0.148),
    "light_brown": (0.50, 0.37, 0.255), "auburn": (0.375, 0.165, 0.10), "red": (0.57, 0.255, 0.115),
    "blonde": (0.78, 0.655, 0.455), "platinum": (0.88, 0.82, 0.70), "grey": (0.53, 0.53, 0.535),
    "white": (0.87, 0.87, 0.86), "blue": (0.12, 0.27, 0.66), "pink": (0.88, 0.42, 0.61),
    "green": (0.14, 0.47, 0.26), "purple": (0.42, 0.20, 0.60),
}  # fmt: skip
"""sRGB of each of `spec.HAIR_COLORS` before the strands vary it."""
NATURAL = ("black", "dark_brown", "brown", "light_brown", "auburn", "red", "blonde", "platinum", "grey", "white")

VARIANTS = ("dense", "dense", "loose", "wisp", "coil", "twist", "sheet")
"""Kinds of strip in the atlas; they repeat with more grey, for the temples."""
STRIPS = 2 * len(VARIANTS)
STRIP_WIDTH, STRIP_HEIGHT = 128, 256
"""Of a strip as it is drawn, pixels."""
ATLAS_WIDTH = 2048
"""Of all strips side by side: a power of two, for old graphics hardware."""


def hair_color(spec: AvatarSpec) -> np.ndarray:
    """(3,) sRGB of a person's pigmented strands."""
    return np.array(COLORS[spec.hair_color])


def grey_color(spec: AvatarSpec) -> np.ndarray:
    """(3,) sRGB of a person's grey strands: whiter with age."""
    return np.full(3, _silver(spec.age))


def _silver(age: float) -> float:
    return float(0.60 + 0.24 * np.clip((age - 50) / 40, 0, 1))


def strip_of(variant: int | np.ndarray, temple: int | np.ndarray) -> np.ndarray:
    """Column of the atlas for each strand: index into `VARIANTS`, and whether it grows where grey comes first."""
    return np.asarray(variant + len(VARIANTS) * temple)


@cache
def strand_pattern() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(light, alpha, strand) maps (256, 2048): brightness in [0, 1], coverage, and a random number per strand."""
    rng = np.random.default_rng(71)
    strips = 2 * [_strip(kind, rng) for kind in VARIANTS]
    wider = (1, ATLAS_WIDTH / (STRIPS * STRIP_WIDTH))
    maps = (np.concatenate(maps, axis=1) for maps in zip(*strips, strict=True))
    return tuple(zoom(m, wider, order=1) for m in maps)  # type: ignore[return-value]


def _coil(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Short curls in all directions, in a tuft that grows thin at its end and sides."""
    v = (np.arange(STRIP_HEIGHT) + 0.5)[:, None] / STRIP_HEIGHT
    u = ((np.arange(STRIP_WIDTH) + 0.5) / STRIP_WIDTH * 2 - 1)[None]
    light, alpha, number = np.full((STRIP_HEIGHT, STRIP_WIDTH), 0.25), np.zeros((STRIP_HEIGHT, STRIP_WIDTH)), None
    number = np.full(light.shape, 0.5)
    alpha = ((np.abs(u) / 0.6) ** 2 + ((v - 0.35) / 0.45) ** 2 < 1).astype(float)
    for _ in range(190):
        at, turn, reach = rng.uniform(0, 1), rng.uniform(0, 6.28), rng.uniform(0.08, 0.2)
        side = rng.uniform(-1, 1) * (0.95 - 0.4 * at)
        x, y = (u - side) / reach, (v - at * 0.9) / (0.5 * reach)
        radius, angle = np.sqrt(x * x + y * y), np.arctan2(y, x)
        ring = np.clip((0.17 - np.abs(radius - 0.8)) * 6, 0, 1) * (np.cos(angle - turn) > -0.5)
        light = light * (1 - ring) + np.clip(rng.normal(0.5, 0.22), 0.05, 1) * ring
        number = np.where(ring > 0.5, rng.random(), number)
        alpha = np.maximum(alpha, ring)
    return light, alpha * (np.abs(u) < 0.97) * (v < 0.985), number


def _twist(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A felted rope: wraps around a tube without a seam."""
    v = (np.arange(STRIP_HEIGHT) + 0.5)[:, None] / STRIP_HEIGHT
    u = ((np.arange(STRIP_WIDTH) + 0.5) / STRIP_WIDTH)[None]
    fuzz = gaussian_filter(rng.normal(size=(STRIP_HEIGHT, STRIP_WIDTH)), (3.0, 0.8), mode="wrap")
    fuzz /= fuzz.std()
    rope = np.abs(np.sin(np.pi * (2 * u + 9 * v + 0.04 * fuzz)))
    light = np.clip(0.18 + 0.42 * rope**0.7 + 0.13 * fuzz, 0.02, 1)
    number = np.clip(0.5 + 0.3 * gaussian_filter(fuzz, (4, 2), mode="wrap"), 0, 1)
    return light, np.ones_like(light), number


def _sheet(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unbroken strands side by side, without seams."""
    shape = (STRIP_HEIGHT, STRIP_WIDTH)
    fine = gaussian_filter(rng.normal(size=shape), (30, 0.6), mode="wrap")
    wide = gaussian_filter(rng.normal(size=shape), (40, 2.0), mode="wrap")
    light = np.clip(0.45 + 0.16 * fine / fine.std() + 0.10 * wide / wide.std(), 0.05, 1)
    other = gaussian_filter(rng.normal(size=shape), (40, 0.6), mode="wrap")
    return light, np.ones(shape), np.clip(0.5 + 0.3 * other / other.std(), 0, 1)


@njit(cache=True)
def _paint(
    light: np.ndarray,
    alpha: np.ndarray,
    number: np.ndarray,
    middle: np.ndarray,
    half: np.ndarray,
    tint: float,
    name: float,
) -> None:
    """Draw one strand over a strip: its middle and half width per row in [-1, 1] across, darker at its edges."""
    rows, columns = light.shape
    for row in range(rows):
        if half[row] <= 0:
            continue
        low = int((middle[row] - half[row] + 1) / 2 * columns) - 1
        high = int((middle[row] + half[row] + 1) / 2 * columns) + 2
        for column in range(max(low, 0), min(high, columns)):
            away = abs((column + 0.5) / columns * 2 - 1 - middle[row])
            cover = min(max((half[row] - away) * columns / 2 + 0.6, 0.0), 1.0)
            edge = min(away / half[row], 1.0)
            light[row, column] += cover * (tint * (1 - 0.14 * edge * edge) - light[row, column])
            alpha[row, column] = max(alpha[row, column], cover)
            if cover > 0.5:
                number[row, column] = name


def _strip(kind: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Locks that taper to points, drawn as strands side by side, and a few strands on their own."""
    if kind in ("coil", "twist", "sheet"):
        return {"coil": _coil, "twist": _twist, "sheet": _sheet}[kind](rng)
    locks, body, split = {"dense": (7, 0.93, 0.45), "loose": (6, 0.90, 0.15), "wisp": (4, 0.6, 0.05)}[kind]
    v = (np.arange(STRIP_HEIGHT) + 0.5) / STRIP_HEIGHT
    light, alpha = np.full((STRIP_HEIGHT, STRIP_WIDTH), 0.35), np.zeros((STRIP_HEIGHT, STRIP_WIDTH))
    number = np.full(light.shape, 0.5)
    homes = (np.arange(locks) + 0.5) / locks * 2 - 1 + rng.uniform(-0.5, 0.5, locks) / locks
    for home in homes[rng.permutation(locks)]:
        end = rng.uniform(0.66, 0.93) - 0.08 * abs(home)
        width = body / locks * rng.uniform(1.15, 1.7)
        lean = rng.normal(0, 0.10)
        taper = np.clip((end - v) / (end - split), 0, 1) ** 0.9
        middle = home * (body - 0.5 * body / locks) * (
            1 - 0.15 * v - 0.18 * np.clip((v - split) / (1 - split), 0, 1) ** 1.3
        ) + lean * np.clip(v - split, 0, 1) ** 2 / (1 - split)
        tone = rng.normal(0, 0.06)
        for strand in rng.permutation(np.linspace(-1, 1, 14) + rng.normal(0, 0.09, 14)):
            birth = 0.03 + 0.15 * (home + 0.85 * strand * width) ** 2 + rng.uniform(0, 0.04)
            born = np.clip((v - birth) / 0.02, 0, 1)
            half = rng.uniform(0.07, 0.19) * width * taper * born
            tint = np.clip(0.47 + tone + rng.normal(0, 0.10) - 0.08 * abs(strand), 0.05, 1)
            _paint(light, alpha, number, middle + strand * 0.85 * width * taper, half, tint, rng.random())
    for _ in range(2):
        home, end = rng.uniform(-0.6, 0.6), rng.uniform(0.7, 0.93)
        half = 0.038 * np.clip((end - v) / 0.2, 0, 1) ** 0.5 * (v > 0.06)
        middle = home * (1 - 0.2 * v) + rng.normal(0, 0.12) * v * v
        _paint(light, alpha, number, middle, half, rng.uniform(0.3, 0.8), rng.random())
    u = (np.arange(STRIP_WIDTH) + 0.5) / STRIP_WIDTH * 2 - 1
    return light, alpha * (np.abs(u) < 0.985) * (v < 0.94)[:, None], number


def strand_texture(spec: AvatarSpec) -> Float[Tensor, "256 2048 4"]:
    """The atlas of strips in a person's colors; the strand runs down the image. Hair and beard share it."""
    return _colored_atlas(spec.hair_color, float(spec.hair_grey), float(spec.age))


@lru_cache(maxsize=2)
def _colored_atlas(name: str, grey: float, age: float) -> Tensor:
    light, alpha, number = (a.astype(np.float32) for a in strand_pattern())
    v = np.linspace(0, 1, STRIP_HEIGHT, dtype=np.float32)[:, None]
    temple = (np.arange(ATLAS_WIDTH) >= ATLAS_WIDTH // 2)[None]
    early, late = min(1.5 * grey, 1.0), grey if grey == 1 else max(1.25 * grey - 0.12, 0.0)
    share = np.where(temple, early, min(late, 1.0)).astype(np.float32)
    is_grey = np.clip((share - number) / 0.4 + share, 0, 1)
    color, silver = np.array(COLORS[name], dtype=np.float32), np.float32(_silver(age))
    contrast = np.float32(np.interp(color.mean(), [0.1, 0.6], [1.0, 0.62]))
    shade = 1 + contrast * (light - 0.45) + 0.10 * (number - 0.5)
    shade *= (0.80 + 0.20 * np.clip(v / 0.25, 0, 1)) * (1 + 0.06 * v)
    warm = 0.05 * (((7.3 * number) % 1) - 0.5)
    out = np.empty((*light.shape, 4), dtype=np.float32)
    for channel, tilt in enumerate((1.0, 0.1, -1.0)):
        mixed = color[channel] + is_grey * (silver - color[channel])
        np.clip(mixed * shade * (1 + np.float32(tilt) * warm), 0, 1, out=out[..., channel])
    out[..., 3] = alpha
    return torch.from_numpy(out)


CAP_SHAPE = (256, 1024)
"""Rows and columns of the scalp's texture: the chart of `hair_chart`."""


@cache
def cap_noise() -> tuple[np.ndarray, np.ndarray]:
    """(streaks, dots) over the scalp's chart: lines along the rows, and fine dots; about 0 with deviation 1."""
    rng = np.random.default_rng(72)
    streaks = gaussian_filter(rng.normal(size=CAP_SHAPE), (22, 0.75), mode="wrap")
    dots = gaussian_filter(rng.normal(size=CAP_SHAPE), (1.0, 0.5), mode="wrap")
    return streaks / streaks.std(), dots / dots.std()


@cache
def fine_noise() -> np.ndarray:
    """(256, 1024) fine isotropic dots about 0 with deviation 1."""
    dots = gaussian_filter(np.random.default_rng(73).normal(size=CAP_SHAPE), 0.55, mode="wrap")
    return dots / dots.std()


def cap_texture(
    spec: AvatarSpec, cover: Float[np.ndarray, "256 1024"], streaks: float, stubble: float
) -> Float[Tensor, "256 1024 4"]:
    """The scalp's texture: hair color of varying brightness, `cover` as alpha."""
    lines, dots = cap_noise()
    is_grey = np.clip(spec.hair_grey + 0.25 * lines * spec.hair_grey * (1 - spec.hair_grey) * 4, 0, 1)[..., None]
    color = (hair_color(spec) * (1 - is_grey) + grey_color(spec) * is_grey) * 0.88
    shade = 1 + streaks * 0.08 * lines + stubble * 0.16 * dots
    alpha = np.clip(cover * (1 + 0.16 * stubble * dots), 0, 1)
    return torch.from_numpy(np.dstack([np.clip(color * shade[..., None], 0, 1), alpha]).astype(np.float32))


def enlarge(grid: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Bilinear enlargement of a map over the chart."""
    return zoom(
        grid, (shape[0] / grid.shape[0], shape[1] / grid.shape[1]), order=1, mode="nearest", grid_mode=True
    )
