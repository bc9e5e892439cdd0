"""What the color names of a spec look like on cloth, leather and plastic."""

from __future__ import annotations

from avatar3d.spec import COLORS

Rgb = tuple[float, float, float]

PALETTE: dict[str, Rgb] = {
    "black": (0.085, 0.085, 0.095),
    "white": (0.930, 0.925, 0.910),
    "grey": (0.510, 0.520, 0.535),
    "red": (0.720, 0.095, 0.110),
    "orange": (0.890, 0.440, 0.110),
    "yellow": (0.930, 0.770, 0.180),
    "green": (0.150, 0.450, 0.220),
    "teal": (0.080, 0.455, 0.470),
    "blue": (0.140, 0.330, 0.690),
    "navy": (0.090, 0.130, 0.270),
    "purple": (0.390, 0.190, 0.540),
    "pink": (0.900, 0.520, 0.630),
    "brown": (0.370, 0.235, 0.150),
    "beige": (0.820, 0.745, 0.620),
    "gold": (0.780, 0.600, 0.240),
    "silver": (0.720, 0.730, 0.750),
}
"""sRGB in [0, 1]."""
assert tuple(PALETTE) == COLORS


def color_rgb(name: str) -> Rgb:
    """sRGB of one of `spec.COLORS`. Raises KeyError on any other name."""
    return PALETTE[name]


def shaded(color: Rgb, factor: float) -> Rgb:
    """Darker (below 1) or lighter (above 1) towards white, kept in [0, 1]."""
    if factor <= 1:
        return tuple(c * factor for c in color)  # type: ignore[return-value]
    return tuple(1 - (1 - c) / factor for c in color)  # type: ignore[return-value]


def luminance(color: Rgb) -> float:
    """Rough perceived brightness of an sRGB color, in [0, 1]."""
    return 0.30 * color[0] + 0.59 * color[1] + 0.11 * color[2]
