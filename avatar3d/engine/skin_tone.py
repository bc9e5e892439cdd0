"""Skin colors as CIELAB (D65) numbers.

The tone runs along the curve that measured skin follows: lightness falls while chroma first rises, peaks at
intermediate skin and falls again towards very dark skin; people of one lightness differ most along b*, the
undertone (Xiao et al. 2017, "Characterising the variations in ethnic skin colours").
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from avatar3d.spec import AvatarSpec

TONES = np.array(
    [
        # skin_tone, L*, a*, b*
        (0.0, 79.0, 9.0, 13.5),
        (0.15, 74.0, 11.0, 16.5),
        (0.3, 68.0, 12.5, 19.0),
        (0.45, 60.0, 13.0, 20.5),
        (0.6, 51.0, 14.0, 21.5),
        (0.75, 41.0, 13.5, 19.0),
        (0.88, 33.0, 12.5, 16.0),
        (1.0, 26.0, 10.5, 12.5),
    ]
)


@dataclass(frozen=True)
class SkinTone:
    """CIELAB colors of one person."""

    base: np.ndarray
    lips: np.ndarray
    palms: np.ndarray
    mouth: np.ndarray
    nails: np.ndarray
    light: float
    """1 for very light, 0 for very dark skin: how much blood shows through."""


def skin_tone(spec: AvatarSpec) -> SkinTone:
    """Colors of a spec's skin before regional variation."""
    tone = spec.skin_tone
    L, a, b = (np.interp(tone, TONES[:, 0], TONES[:, i]) for i in (1, 2, 3))
    warm = 2.0 * spec.skin_warmth - 1.0
    base = np.array([L, a - 2.0 * warm, b + 4.0 * warm])
    old = np.clip((spec.age - 45.0) / 45.0, 0.0, 1.0)
    base += old * np.array([-1.0, 0.5, 1.5])
    light = float(np.clip((L - 25.0) / 52.0, 0.0, 1.0))
    woman = 1.0 - spec.gender
    young = np.clip((25.0 - spec.age) / 20.0, 0.0, 1.0)
    # lips: less melanin and more blood than the skin around them
    lips = base * np.array([0.84, 0.85, 0.72])
    lips += (0.3 + 0.7 * light) * np.array([0.0, 9.0 + 3.0 * woman + 3.0 * young, -1.0]) + np.array(
        [0.0, 3.0, 0.0]
    )
    lips += old * np.array([1.0, -5.0, 1.0])
    palms = base * 0.45 + np.array([68.0, 13.0, 15.0]) * 0.55
    mouth = np.array([34.0, 26.0, 14.0])
    nails = 0.65 * palms + 0.35 * base + np.array([2.0, 2.0, -3.0])
    return SkinTone(base, lips, palms, mouth, nails, light)


def lab_of(rgb: tuple[float, float, float]) -> np.ndarray:
    """CIELAB (D65) of an sRGB color."""
    c = np.asarray(rgb, dtype=np.float64)
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    xyz = RGB_TO_XYZ @ linear / WHITE
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


RGB_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
WHITE = RGB_TO_XYZ @ np.ones(3)
XYZ_TO_RGB = np.linalg.inv(RGB_TO_XYZ) * WHITE
"""From XYZ relative to white to linear sRGB."""

GAMMA = np.where(
    np.linspace(0, 1, 4097) <= 0.0031308,
    np.linspace(0, 1, 4097) * 12.92,
    1.055 * np.linspace(0, 1, 4097) ** (1 / 2.4) - 0.055,
).astype(np.float32)
"""sRGB encoding of linear light 0..1 in 4096 steps."""
