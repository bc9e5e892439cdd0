"""Walking: a gait cycle after the phases of Perry ("Gait Analysis", 1992) and Winter's joint curves (1991).

A cycle begins when a heel meets the ground. The foot rolls over heel, ankle and forefoot (Perry's rockers) until
the toes leave at 62 % of the cycle, then swings. Feet are planned first, in space, so they can not slide; knees
and hips follow by inverse kinematics, the pelvis is as high as the legs allow.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float
from scipy.interpolate import PchipInterpolator
from torch import Tensor

from avatar3d.motion.face import add_life
from avatar3d.motion.feet import Sole, foot_attitude, limit_hips, read_sole, toe_bend
from avatar3d.motion.performance import FPS, SIDES, Curve, Performance
from avatar3d.structures import Avatar, Clip

GRAVITY = 9.81
CYCLE = 3.5
"""Length of the cycle in units of sqrt(leg / g): people of all sizes walk alike in these (Alexander 1976)."""
STRIDE = 1.32
"""Length of a stride (two steps) in legs."""
STANCE = 0.62
"""Share of the cycle that a foot is on the ground."""
PITCH = (
    (0.0, -17.0),
    (0.09, 0.0),
    (0.34, 0.0),
    (0.50, 20.0),
    (0.62, 44.0),
    (0.70, 46.0),
    (0.82, 12.0),
    (0.93, -13.0),
)
"""(Share of the cycle, degrees that the heel is lifted) of a foot against the ground."""
BOB = 0.021
"""Half the rise and fall of the pelvis, in legs."""
CLEARANCE = 0.022
"""Height of the sole at mid-swing, in legs."""
AHEAD = 0.05
"""Of the pelvis before the middle of the path that a foot's ankle takes on the ground, in legs."""
WALKING_REACH = 0.999
"""Share of its length that a leg is stretched to when its heel strikes."""
TRACK = 0.62
"""Distance between the feet, in units of that between the hip joints."""


def walk(avatar: Avatar, seed: int = 0, seconds: float | None = None, travel: bool = False) -> Clip:
    """Whole gait cycles at a speed natural for the legs, about `seconds` long (one cycle when None).

    In place, as games want it; with `travel` the root (the hips when there is none) moves forward.
    """
    generator = np.random.default_rng([seed, 811])
    leg = _leg(avatar)
    per_cycle = 2 * round(CYCLE * math.sqrt(leg / GRAVITY) * FPS / 2)
    cycles = 1 if seconds is None else max(1, round(seconds * FPS / per_cycle))
    p = Performance(avatar, cycles * per_cycle + 1)
    phase = torch.arange(p.frames, dtype=torch.float64) / per_cycle
    stride = STRIDE * leg
    spirit = 1.0 + 0.12 * generator.uniform(-1, 1)
    _move_trunk(p, phase, leg, spirit)
    ankles, attitudes = {}, {}
    for side, sign in SIDES:
        own = phase if side == "left" else phase + 0.5
        track = sign * TRACK * abs(float(p.rest(f"{side}UpperLeg")[0]))
        sole = read_sole(avatar, side)
        yaw = sign * 6.0
        ankles[side] = _ankle(own, sole, stride, leg, track, yaw)
        ankles[side][:, 2] += float(p.rest("hips")[2])
        pitch = _pitch(own)
        attitudes[side] = foot_attitude(pitch, torch.full_like(pitch, yaw))
        if sole.has_toes:
            p.turn(f"{side}Toes", "x", -toe_bend(pitch))
    bob = BOB * leg * torch.cos(4 * math.pi * (phase - 0.31))
    highest = limit_hips(p, ankles, reach=WALKING_REACH)
    p.offsets["hips"][:, 1] += bob + (highest - bob).min()
    for side, _ in SIDES:
        p.place_leg(side, ankles[side], attitudes[side])
    add_life(p, generator, gaze=0.3)
    if travel:
        mover = "root" if "root" in p.skeleton.names and p.skeleton.parents[0] < 0 else "hips"
        path = torch.zeros(p.frames, 3, dtype=torch.float64)
        path[:, 2] = stride * phase
        p.offsets[mover] = p.offsets.get(mover, torch.zeros_like(path)) + path
    return p.clip("walk", loops=not travel)


def _leg(avatar: Avatar) -> float:
    """Height of the hip joints over the ground, metres."""
    names = avatar.skeleton.names
    return float(avatar.skeleton.positions[names.index("leftUpperLeg"), 1])


def _pitch(phase: Curve) -> Curve:
    """Degrees that the heel is lifted, over the cycle."""
    at = np.array([p for p, _ in PITCH])
    degrees = np.array([d for _, d in PITCH])
    curve = PchipInterpolator(np.concatenate([at - 1, at, at + 1]), np.tile(degrees, 3))
    return torch.from_numpy(curve(phase.numpy() % 1.0))


def _ankle(phase: Curve, sole: Sole, stride: float, leg: float, track: float, yaw: float) -> Float[Tensor, "T 3"]:
    """Path of an ankle in the frame that moves with the walker."""
    turn = math.radians(yaw)

    def stance(at: Curve) -> tuple[Curve, Curve, Curve]:
        height, advance = sole.ankle(_pitch(at))
        ground = stride * (0.5 * STANCE - at) - AHEAD * leg
        return track + math.sin(turn) * advance, height, ground + math.cos(turn) * advance

    at = phase % 1.0
    on_ground = at <= STANCE
    standing = torch.stack(stance(at.clamp(max=STANCE)), dim=-1)
    s = ((at - STANCE) / (1 - STANCE)).clamp(0, 1)
    edge = torch.tensor([STANCE - 1e-4, STANCE, 1e-4, 0.0], dtype=torch.float64)
    corner = torch.stack(stance(edge), dim=-1)
    span = (1 - STANCE) / 1e-4
    leaving, landing = (corner[1] - corner[0]) * span, (corner[2] - corner[3]) * span
    swinging = _hermite(s, corner[1], corner[3], leaving, landing)
    clear = CLEARANCE * leg * torch.sin(math.pi * s)
    lowest = sole.ankle(_pitch(at))[0]
    swinging[:, 1] = torch.maximum(swinging[:, 1], lowest + clear)
    return torch.where(on_ground[:, None], standing, swinging)


def _hermite(s: Curve, a: Tensor, b: Tensor, da: Tensor, db: Tensor) -> Float[Tensor, "T 3"]:
    """Cubic from a to b with the end velocities da and db, s in [0, 1]."""
    s = s[:, None]
    return (
        (2 * s**3 - 3 * s**2 + 1) * a + (s**3 - 2 * s**2 + s) * da + (3 * s**2 - 2 * s**3) * b + (s**3 - s**2) * db
    )


def _move_trunk(p: Performance, phase: Curve, leg: float, spirit: float) -> None:
    """Pelvis, spine, head and arms. The left heel strikes at phase 0; that side of the pelvis is ahead then."""
    one = 2 * math.pi * phase
    yaw = -5.0 * torch.cos(one)
    list_ = 3.2 * torch.sin(one - 0.35)  # the pelvis drops on the side of the leg that swings
    tilt = 2.0 + 1.0 * torch.cos(2 * one)
    p.offsets["hips"][:, 0] += 0.022 * leg * torch.sin(one - 0.35)
    p.turn("hips", "x", tilt)
    p.turn("hips", "z", list_)
    p.turn("hips", "y", yaw)
    p.bend_spine("y", -yaw + 5.0 * spirit * torch.cos(one))
    p.bend_spine("z", -list_ - 0.8 * torch.sin(one - 0.35))
    p.bend_spine("x", -0.5 * tilt + 1.0)
    p.bend_neck("y", -5.0 * spirit * torch.cos(one))
    p.bend_neck("x", -1.0 - 0.5 * tilt + 1.2 * torch.sin(2 * one))
    for side, sign in SIDES:
        swing = sign * torch.cos(one - 0.15)  # the left arm is behind when the left heel strikes
        p.turn(f"{side}UpperArm", "x", spirit * (2.0 + 19.0 * swing))
        p.turn(f"{side}UpperArm", "z", torch.full_like(phase, sign * 2.0))
        p.turn(f"{side}Shoulder", "y", sign * 3.0 * spirit * swing)
        p.bend_elbow(side, spirit * (10.0 - 9.0 * swing))
        p.curl(side, torch.full_like(phase, 6.0))
