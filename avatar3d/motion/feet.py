"""Feet on the ground: how soles roll without sliding, and hips low enough for the legs to reach."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.motion.performance import SIDES, Curve, Performance
from avatar3d.structures import Avatar

LOW = 0.35
"""Share of the ankle's height below which a foot's vertices belong to its sole."""
PITCHES = np.arange(-40.0, 71.0)
"""Degrees; positive lifts the heel."""
TOE_BEND = 45.0
"""Degrees to which toes stay on the ground under a lifting heel."""
REACH = 0.997
"""Share of its length that a standing leg is stretched to."""
SOFT = 0.004
"""Metres over which the limit of one leg passes into that of the other."""


@dataclass(frozen=True)
class Sole:
    """How an ankle travels when its sole rolls over the ground, per degree of `PITCHES`."""

    height: Float[np.ndarray, " P"]
    """Of the ankle over the ground, metres."""
    advance: Float[np.ndarray, " P"]
    """Of the ankle towards the toes, from where it is over the flat sole, metres."""
    has_toes: bool

    def ankle(self, pitch: Curve) -> tuple[Curve, Curve]:
        """(height, advance) at pitches in degrees."""
        at = pitch.numpy()
        return tuple(torch.from_numpy(np.interp(at, PITCHES, c)) for c in (self.height, self.advance))  # type: ignore[return-value]


def toe_bend(pitch: Curve) -> Curve:
    """Degrees by which the toes bend up so that they stay flat while the heel lifts."""
    return pitch.clamp(0.0, TOE_BEND)


def read_sole(avatar: Avatar, side: str) -> Sole:
    """The rolling curve of whatever the avatar stands on: bare foot, trainer or heel.

    At every pitch the lowest vertex touches the ground and stays where it is; the ankle follows. Vertices bend
    with the toes as their skin weights say.
    """
    points, toes, pivot = _sole_points(avatar, side)
    flat = int(np.flatnonzero(PITCHES == 0)[0])
    posed = [_pitched(points, toes, pivot, pitch) for pitch in PITCHES]
    height = np.array([-p[:, 1].min() for p in posed])
    advance = np.zeros(len(PITCHES))
    for step in (1, -1):
        n = flat
        while 0 <= n + step < len(PITCHES):
            touching = int(posed[n + step][:, 1].argmin())
            advance[n + step] = advance[n] + posed[n][touching, 2] - posed[n + step][touching, 2]
            n += step
    return Sole(height, advance, pivot is not None)


def _pitched(points: np.ndarray, toes: np.ndarray, pivot: np.ndarray | None, pitch: float) -> np.ndarray:
    """Sole vertices about the ankle with the foot pitched and its toes kept flat."""
    if pivot is not None:
        bend = -math.radians(min(max(pitch, 0.0), TOE_BEND))
        points = points + toes[:, None] * ((points - pivot) @ _about_x(bend).T + pivot - points)
    return points @ _about_x(math.radians(pitch)).T


def _about_x(angle: float) -> np.ndarray:
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])


def _sole_points(avatar: Avatar, side: str) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """(vertices relative to the ankle, their toe weights, the toe joint relative to the ankle or None)."""
    names, positions = avatar.skeleton.names, avatar.skeleton.positions.double()
    foot = names.index(f"{side}Foot")
    toe = names.index(f"{side}Toes") if f"{side}Toes" in names else -1
    ankle = positions[foot]
    points, toes = [], []
    for part in avatar.parts:
        weights = part.skin.weights.double()
        on_toes = (weights * (part.skin.joints == toe)).sum(1)
        on_foot = (weights * (part.skin.joints == foot)).sum(1) + on_toes
        chosen = (on_foot > 0.8) & (part.mesh.vertices[:, 1] < LOW * float(ankle[1]))
        points.append(part.mesh.vertices[chosen].double() - ankle)
        toes.append((on_toes / on_foot.clamp_min(1e-9))[chosen])
    found = torch.cat(points) if points else torch.zeros(0, 3)
    pivot = (positions[toe] - ankle).numpy() if toe >= 0 else None
    if len(found) < 3:  # no skin there: a plain plate below ankle and toes
        length = float(pivot[2]) if pivot is not None else 1.5 * float(ankle[1])
        corners = [[0.0, -float(ankle[1]), z] for z in (-0.3 * length, length, 1.4 * length)]
        return np.array(corners), np.array([0.0, 0.5, 1.0]) * (pivot is not None), pivot
    return found.numpy(), torch.cat(toes).numpy(), pivot


def foot_attitude(pitch: Curve, yaw: Curve) -> Float[Tensor, "T 3 3"]:
    """World rotation of a foot: turned by `yaw` about Y, its heel lifted by `pitch`; degrees."""
    p, y = torch.deg2rad(pitch), torch.deg2rad(yaw)
    zero, one = torch.zeros_like(p), torch.ones_like(p)
    about_x = torch.stack([one, zero, zero, zero, p.cos(), -p.sin(), zero, p.sin(), p.cos()], -1)
    about_y = torch.stack([y.cos(), zero, y.sin(), zero, one, zero, -y.sin(), zero, y.cos()], -1)
    return about_y.view(-1, 3, 3) @ about_x.view(-1, 3, 3)


def limit_hips(performance: Performance, ankles: dict[str, Float[Tensor, "T 3"]], reach: float = REACH) -> Curve:
    """The greatest lift of the hips, metres, that lets the legs reach these ankles."""
    names = performance.skeleton.names
    _, places = performance.frames_of_joints()
    limits = []
    for side, ankle in ankles.items():
        hip, knee, end = (performance.rest(f"{side}{bone}") for bone in ("UpperLeg", "LowerLeg", "Foot"))
        length = reach * ((knee - hip).norm() + (end - knee).norm())
        offset = ankle - places[:, names.index(f"{side}UpperLeg")]
        across = offset[:, [0, 2]].norm(dim=-1)
        limits.append(offset[:, 1] + (length**2 - across**2).clamp_min(0.0).sqrt())
    return -SOFT * torch.logsumexp(-torch.stack(limits) / SOFT, dim=0)


def stand(
    performance: Performance,
    narrow: float = 0.75,
    toe_out: float = 7.0,
    give: Curve | float = 0.0,
    lift: dict[str, Curve] | None = None,
) -> None:
    """Plant both feet on the ground under the hips' moves so far, and lower the hips to where the legs reach.

    `narrow` is the distance of the feet as a share of the rest pose's; `give` lowers the hips further (bent
    knees), metres; `lift` raises single heels, degrees by side.
    """
    frames = performance.frames
    still = torch.zeros(frames, dtype=torch.float64)
    ankles, attitudes = {}, {}
    for side, sign in SIDES:
        pitch = (lift or {}).get(side, still)
        height, advance = read_sole(performance.avatar, side).ankle(pitch)
        x, _, z = performance.rest(f"{side}Foot").tolist()
        yaw = math.radians(sign * toe_out)
        ankles[side] = torch.stack(
            [narrow * x + math.sin(yaw) * advance, height, z + math.cos(yaw) * advance], dim=-1
        )
        attitudes[side] = foot_attitude(pitch, torch.full_like(pitch, sign * toe_out))
        if side in (lift or {}):
            performance.turn(f"{side}Toes", "x", -toe_bend(pitch))
    performance.offsets["hips"][:, 1] += limit_hips(performance, ankles) - give
    for side, _ in SIDES:
        performance.place_leg(side, ankles[side], attitudes[side])


def lowest_soles(performance: Performance, side: str) -> Curve:
    """Height of a foot's lowest vertex over the ground in every key frame, metres."""
    points, toes, pivot = (
        None if x is None else torch.from_numpy(x) for x in _sole_points(performance.avatar, side)
    )
    assert points is not None and toes is not None
    names = performance.skeleton.names
    world, places = performance.frames_of_joints()
    foot = names.index(f"{side}Foot")
    heights = (world[:, foot] @ points.T)[:, 1] + places[:, foot, 1, None]
    if pivot is not None:
        toe = names.index(f"{side}Toes")
        bent = (world[:, toe] @ (points - pivot).T)[:, 1] + places[:, toe, 1, None]
        heights = (1 - toes) * heights + toes * bent
    return heights.amin(dim=1)


def lift_sunk_feet(performance: Performance) -> None:
    """Bend the legs where a sole is below the ground, so that it stands on it."""
    names = performance.skeleton.names
    for side, _ in SIDES:
        sunk = (-lowest_soles(performance, side)).clamp_min(0.0)
        if bool((sunk > 1e-4).any()):
            world, places = performance.frames_of_joints()
            foot = names.index(f"{side}Foot")
            before = {n: performance.rotations[n] for n in (f"{side}UpperLeg", f"{side}LowerLeg", f"{side}Foot")}
            ankle = places[:, foot].clone()
            ankle[:, 1] += sunk
            performance.place_leg(side, ankle, world[:, foot])
            for name, rotation in before.items():
                fixed = performance.rotations[name]
                performance.rotations[name] = torch.where((sunk > 1e-4)[:, None], fixed, rotation)
