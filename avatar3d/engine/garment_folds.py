"""Folds of worn cloth: displacements along the normal where cloth bunches or is pulled."""

from __future__ import annotations

import numpy as np

from avatar3d.engine.garment_fields import CROTCH_Y, KNEE_Y, Fields

Array = np.ndarray


def _slow(x: Array, y: Array, z: Array, scale: float, seed: int) -> Array:
    """Smooth noise in about [-1, 1]: a few random plane waves of wavelength about `scale` metres."""
    rng = np.random.default_rng([71, seed])
    total = np.zeros_like(x)
    for _ in range(5):
        k = rng.normal(size=3)
        k *= 2 * np.pi / scale / np.linalg.norm(k)
        total += np.sin(k[0] * x + k[1] * y + k[2] * z + rng.uniform(0, 2 * np.pi))
    return total / 2.4


def _crease(phase: Array) -> Array:
    """Rounded folds with narrower valleys, in [-1, 1]."""
    wave = np.sin(phase)
    return wave + 0.25 * np.cos(2 * phase) - 0.1


def sleeve_folds(f: Fields, depth: float = 0.004, end: float = 0.52) -> Array:
    """(N,) folds across the elbow, and bunching above the cuff of a sleeve that ends at `end`."""
    noise = _slow(f.x, f.y, f.z, 0.16, 1)
    elbow = np.exp(-(((f.sleeve - 0.265) / 0.065) ** 2)) * (0.65 + 0.35 * np.sin(f.arm_angle))
    wrist = 0.8 * np.exp(-((np.maximum(end - f.sleeve, 0) / 0.08) ** 2)) * (f.sleeve > 0.15)
    slant = 0.018 * np.sin(f.arm_angle + 0.8)
    phase = 2 * np.pi * (f.sleeve + slant) / 0.044 + 1.6 * noise
    return depth * np.clip(elbow + wrist, 0, 1) * _crease(phase) * (f.arm > 0.5)


def trunk_folds(f: Fields, depth: float = 0.0035, hem: float = 0.86) -> Array:
    """(N,) slanted folds at the waist and sides, pulls from the armpits, soft waves at the hem."""
    noise = _slow(f.x, f.y, f.z, 0.25, 2)
    patch = np.clip(0.35 + 0.8 * _slow(f.x, f.y, f.z, 0.22, 3), 0, 1)
    side = np.abs(f.x)
    lean = np.where(f.x >= 0, 1.0, -1.0) * f.x
    waist = np.exp(-(((f.y - 1.03) / 0.09) ** 2)) * (0.45 + 0.55 * np.clip(side / 0.12, 0, 1))
    slanted = _crease(2 * np.pi * (f.y + 0.35 * lean) / 0.058 + 2.2 * noise)
    ax, ay = side - 0.15, f.y - 1.27
    reach = np.hypot(ax, ay)
    pit = np.exp(-((reach / 0.10) ** 2)) * np.clip(reach / 0.04, 0, 1) * np.clip((side - 0.10) / 0.04, 0, 1)
    fan = _crease(7.0 * np.arctan2(ay, -ax) + 1.5 * noise)
    skirted = np.exp(-((np.maximum(f.y - hem, 0) / 0.07) ** 2))
    waves = np.sin(7.0 * f.trunk_angle + 2.0 * noise + 0.7)
    trunk = np.clip((0.6 - f.arm) / 0.3, 0, 1)
    # long folds fall from the shoulder blades and the bust
    falling = np.exp(-(((f.y - 1.05) / 0.15) ** 2)) * np.clip(0.2 + 0.9 * _slow(f.x, f.y, f.z, 0.35, 5), 0, 1)
    long = _crease(11.0 * f.trunk_angle + 9.0 * (f.y - 1.05) * np.sign(f.x) + 1.5 * noise)
    waist = 1.25 * waist
    return depth * trunk * 0.75 * falling * long + depth * trunk * (
        waist * patch * slanted + 0.4 * pit * fan + 0.9 * skirted * waves
    )


def leg_folds(f: Fields, depth: float = 0.004, hem: float = 0.06) -> Array:
    """(N,) pulls from the crotch, folds behind and above the knee, and cloth stacked over the foot."""
    noise = _slow(f.x, f.y, f.z, 0.2, 4)
    side = np.abs(f.x)
    ay, ax = f.y - CROTCH_Y - 0.02, side
    reach = np.hypot(ax, ay)
    crotch = np.exp(-((reach / 0.13) ** 2)) * np.clip(reach / 0.05, 0, 1)
    fan = _crease(8.0 * np.arctan2(ay, ax) + 1.2 * noise)
    knee = np.exp(-(((f.y - KNEE_Y - 0.01) / 0.07) ** 2)) * (0.7 - 0.3 * np.sin(f.leg_angle))
    across = _crease(2 * np.pi * (f.y + 0.02 * np.sin(f.leg_angle * 1 + 1.0)) / 0.062 + 1.8 * noise)
    stack = np.exp(-((np.maximum(f.y - hem - 0.02, 0) / 0.10) ** 2)) * np.clip((f.y - hem) / 0.03, 0.25, 1)
    broken = _crease(2 * np.pi * (f.y + 0.025 * np.sin(f.leg_angle + 2.0)) / 0.060 + 1.5 * noise)
    return depth * (0.7 * crotch * fan + 0.8 * knee * across + 1.3 * stack * broken)
