"""Styles that are combed to a tie: ponytail, bun and plaits."""

from __future__ import annotations

import numpy as np

from avatar3d.engine.hair_chart import unit
from avatar3d.engine.hair_long import landmark
from avatar3d.engine.hair_roots import HeadOfHair, Roots, blend, roots, strips
from avatar3d.engine.hair_strands import Growth, Pieces, cut, grow, ribbons, tubes
from avatar3d.engine.hair_texture import STRIPS, VARIANTS


def combed_to(hair: HeadOfHair, r: Roots, tie: np.ndarray, height: float, arch: float = 0.0) -> Pieces:
    """Ribbons from the roots over the scalp to a tie (3,) or one tie per root (N, 3); `arch` bends those before
    the ears upwards, off the face."""
    center, rng, points = hair.scalp.center, hair.rng, 8
    goal = np.broadcast_to(tie, r.points.shape) + rng.normal(0, 0.006 * hair.size, r.points.shape)
    a, b = unit(r.points - center), unit(goal - center)
    angle = np.arccos(np.clip((a * b).sum(-1), -1, 1)).clip(1e-3)[:, None, None]
    share = np.linspace(0, 1, points)[None, :, None]
    turned = (np.sin((1 - share) * angle) * a[:, None] + np.sin(share * angle) * b[:, None]) / np.sin(angle)
    before = blend(r.reference[:, 2], 0.05, 0.11)[:, None, None]
    turned = unit(turned + arch * before * np.sin(np.pi * share) * np.array([0.0, 1.0, -0.3]))
    strands = center + turned * np.linalg.norm(r.points - center, axis=1)[:, None, None]
    lift = hair.size * height * rng.uniform(0.25, 1.1, len(strands))[:, None] * np.sin(np.linspace(0, 1.9, points))
    flat = strands.reshape(-1, 3)
    wanted = lift.reshape(-1) + 0.001
    for _ in range(3):
        d, n = hair.body.distance(flat)
        flat = flat + n * (wanted - d)[:, None]
    pressed = flat.reshape(strands.shape)
    strands = pressed + (goal - pressed[:, -1])[:, None] * blend(share, 0.55, 1.0)
    strands = hair.body.past_ears(strands.reshape(-1, 3)).reshape(strands.shape)
    strands[:, 0] = r.points
    _, n = hair.body.distance(strands.reshape(-1, 3))
    width = np.linspace(0.021, 0.012, points)[None] * hair.size * rng.uniform(0.8, 1.2, len(strands))[:, None]
    return strips(
        hair, r, strands, n.reshape(strands.shape), width, (0.55, 0.35, 0.1, 0, 0, 0, 0), 0.1, 2, ends=0.6
    )


def tie_at(hair: HeadOfHair, azimuth: float, row: float, off: float) -> np.ndarray:
    """A point `off` metres from the scalp."""
    point, normal = hair.scalp.at(np.array([[azimuth, row]]))
    return (point + off * hair.size * normal)[0]


def all_round(hair: HeadOfHair, rim: int, inner: int) -> Roots:
    """Roots along the hairline, and fewer inside it."""
    outer = roots(hair, 5 * rim, 0.0)
    sideburn = (outer.reference[:, 1] < 1.603) & (outer.reference[:, 2] > 0.045)
    return outer.only(
        ~sideburn & ((outer.inside < 0.016) | (hair.rng.random(len(outer.inside)) < inner / (5 * rim)))
    )


def away_from(r: Roots, tie: np.ndarray, size: float) -> Roots:
    """The roots that are not right under a tie."""
    return r.only(np.linalg.norm(r.points - tie, axis=1) > 0.05 * size)


def ponytail(hair: HeadOfHair) -> list[Pieces]:
    """Combed back to a tie behind the crown, low under a hat."""
    s, rng = hair.size, hair.rng
    row = 0.82 if hair.spec.hat != "none" else 0.40
    tie = tie_at(hair, 0.0, row, 0.022)
    base = combed_to(hair, away_from(all_round(hair, 200, 260), tie, s), tie, 0.006)
    count = 90
    start = tie + rng.normal(0, 0.006 * s, (count, 3))
    back = unit(tie - tie_at(hair, 0.0, row, 0.0))
    floor = landmark(hair, 0.35 + 1.0 * hair.spec.hair_length) + np.abs(rng.normal(0, 0.03, count))
    spread = rng.normal(0, 1, (count, 3)) * [0.16, 0.05, 0.10]

    def field(p: np.ndarray, n: np.ndarray) -> np.ndarray:
        near = np.exp(-np.linalg.norm(p - tie, axis=1) / (0.03 * s))[:, None]
        return unit(near * (1.3 * back + [0, 0.2, 0]) + [0, -1, 0.05] + spread * (0.4 + 1.2 * near))

    length = (tie[1] - floor) + 0.11 * s
    growth = Growth(length, field, np.full(count, 0.004), turn=0.6, comb=0.0, lift=0.0, sway=0.03)
    strands, outward = grow(start, np.tile(back, (count, 1)), growth, hair.body, 16, rng)
    middle = strands.mean(axis=0, keepdims=True)
    outward = unit(unit(strands - middle + 1e-6) + 0.8 * outward)
    strands, outward = cut(strands, outward, floor, 10)
    r = tail_roots(count)
    tail = strips(hair, r, strands, outward, 0.020 * s, (0.35, 0.3, 0.25, 0.1, 0, 0, 0), 0.3)
    return [base, tail, band(tie, back, 0.0145 * s)]


def tail_roots(count: int) -> Roots:
    """Roots of hair that hangs from a tie: in no region of the scalp."""
    zero = np.zeros((count, 3))
    return Roots(np.zeros((count, 2)), zero, zero, zero, np.ones(count))


def band(center: np.ndarray, axis: np.ndarray, radius: float) -> Pieces:
    """A thick ring of hair wound around a tie."""
    x = unit(np.cross(axis, [0.3, 1.0, 0.2]))
    y = np.cross(axis, x)
    angle = np.linspace(0, 2 * np.pi, 13)
    ring = center + radius * (np.cos(angle)[:, None] * x + np.sin(angle)[:, None] * y)
    return tubes(ring[None], np.full((1, 13), 0.45 * radius), np.array([sheet()]), STRIPS, 6)


def sheet() -> int:
    """The strip of unbroken strands."""
    return VARIANTS.index("sheet")


def bun(hair: HeadOfHair) -> list[Pieces]:
    """Wound up on the back of the crown; at the nape under a hat."""
    s, rng = hair.size, hair.rng
    row = 0.84 if hair.spec.hat != "none" else 0.16
    radius = s * (0.027 + 0.016 * hair.spec.hair_length)
    tie = tie_at(hair, 0.0, row, 0.006)
    axis = unit(tie - tie_at(hair, 0.0, row, 0.0))
    base = combed_to(hair, away_from(all_round(hair, 200, 260), tie, s), tie, 0.006)
    x = unit(np.cross(axis, [0.3, 0.2, 1.0]))
    y = np.cross(axis, x)
    count, points = 64, 9
    start = rng.uniform(0, 2 * np.pi, count)[:, None]
    from_pole = np.sort(rng.uniform(0.25, 1.9, count))[:, None]
    walk = np.linspace(0, 1, points)[None]
    theta = start + walk * rng.uniform(1.3, 2.2, count)[:, None]
    phi = from_pole + walk * 0.35 + 0.12 * np.sin(2 * theta + start)
    ball = np.sin(phi)[..., None] * (np.cos(theta)[..., None] * x + np.sin(theta)[..., None] * y)
    out = ball + np.cos(phi)[..., None] * axis
    swell = radius * (1 + 0.07 * np.sin(3 * theta + 5 * phi) + rng.uniform(-0.04, 0.04, count)[:, None])
    strands = tie + 0.55 * radius * axis + swell[..., None] * (ball + 0.8 * np.cos(phi)[..., None] * axis)
    wound = strips(hair, tail_roots(count), strands, out, 0.021 * s, (0.6, 0.3, 0.1, 0, 0, 0, 0), 0.12, ends=0.75)
    return [base, wound, ball_of(tie + 0.55 * radius * axis, axis, 0.93 * radius)]


def ball_of(center: np.ndarray, axis: np.ndarray, radius: float) -> Pieces:
    """A closed, slightly flattened ball of strands."""
    t = np.linspace(-1, 1, 9)
    path = center + 0.8 * radius * t[:, None] * axis
    return tubes(path[None], radius * np.sqrt(1.0001 - t**2)[None], np.array([sheet()]), STRIPS, 12)


def braids(hair: HeadOfHair) -> list[Pieces]:
    """Parted in the middle, two plaits before the shoulders."""
    s = hair.size
    r = all_round(hair, 200, 260)
    side = np.where(r.reference[:, 0] > 0, 1.0, -1.0)
    ties = {sign: tie_at(hair, 0.5 + sign * 0.34, 0.86, 0.010) for sign in (-1.0, 1.0)}
    goal = np.where(side[:, None] > 0, ties[1.0], ties[-1.0])
    pieces = [combed_to(hair, r, goal, 0.006, arch=0.28)]
    for tie in ties.values():
        pieces += _plait(hair, tie, s)
    return pieces


def _plait(hair: HeadOfHair, tie: np.ndarray, s: float) -> list[Pieces]:
    """Three strands that pass over each other along a path from a tie, and a tuft below a band."""
    side = np.sign(tie[0])
    floor = landmark(hair, 0.6 + 0.8 * hair.spec.hair_length)

    def field(p: np.ndarray, n: np.ndarray) -> np.ndarray:
        high = np.clip((p[:, 1] - hair.body.shoulder) / (tie[1] - hair.body.shoulder), 0, 1)[:, None]
        return unit(np.array([0.25 * side, -1, 0.75]) * high + (1 - high) * [-0.12 * side, -1, -0.2])

    growth = Growth(np.array([tie[1] - floor + 0.08 * s]), field, np.array([0.016 * s]), 0.02, turn=0.6, comb=0.0)
    path, out = grow(tie[None], np.array([[side, 0.0, 0.0]]), growth, hair.body, 30, hair.rng)
    path, out = cut(path, out, np.array([floor]), 64)
    t = np.gradient(path[0], axis=0)
    pace = np.linalg.norm(t, axis=1)
    t = t / pace[:, None]
    flat = unit(np.cross(t, out[0]))
    up = np.cross(flat, t)
    walked = np.cumsum(pace)
    thin = np.interp(walked / walked[-1], [0, 0.1, 1.0], [0.8, 1.0, 0.62])
    theta = 2 * np.pi * walked / (0.052 * s)
    ropes = []
    for k in range(3):
        a = theta + 2 * np.pi * k / 3
        offset = (
            flat * (0.0095 * s * thin * np.sin(a))[:, None] + up * (0.0055 * s * thin * np.sin(2 * a))[:, None]
        )
        ropes.append(path[0] + offset)
    radius = np.tile(0.0085 * s * thin, (3, 1))
    plait = tubes(np.stack(ropes), radius, np.full(3, sheet()), STRIPS, 6, walked[-1] / (0.09 * s))
    end, axis = path[0, -1], t[-1]
    count = 14
    fan = unit(axis + hair.rng.normal(0, 0.22, (count, 3)))
    walk = np.linspace(0, 0.045 * s, 4)[:, None]
    tuft = end + fan[:, None] * walk + hair.rng.normal(0, 0.002, (count, 1, 3))
    outs = np.broadcast_to(unit(fan - axis * (fan @ axis)[:, None] + 0.3 * out[0, -1])[:, None], tuft.shape)
    tips = ribbons(
        tuft, outs + 0.0, np.full(count, 0.012 * s), hair.rng.integers(0, 3, count), STRIPS, np.zeros(count)
    )
    return [plait, tips, band(end, axis, 0.0085 * s)]
