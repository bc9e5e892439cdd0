"""A small avatar with every VRM bone, in T-pose, made of spheres, with a spring chain: for tests of exporters."""

from __future__ import annotations

from dataclasses import replace

import torch
from synthetic import synthetic_avatar

from avatar3d.export.vrm_humanoid import PARENTS
from avatar3d.structures import Avatar, Collider, Skeleton, SpringChain

PLACES = {
    "hips": (0.0, 0.9, 0.0), "spine": (0.0, 1.0, 0.0), "chest": (0.0, 1.1, 0.0), "upperChest": (0.0, 1.2, 0.0),
    "neck": (0.0, 1.4, 0.0), "head": (0.0, 1.5, 0.0), "Eye": (0.03, 1.6, 0.09), "UpperLeg": (0.1, 0.85, 0.0),
    "LowerLeg": (0.1, 0.5, 0.02), "Foot": (0.1, 0.08, 0.0), "Toes": (0.1, 0.03, 0.12),
    "Shoulder": (0.05, 1.35, 0.0),
    "UpperArm": (0.18, 1.35, 0.0), "LowerArm": (0.45, 1.35, 0.0), "Hand": (0.7, 1.35, 0.0),
}  # fmt: skip
"""Left side, metres."""
FINGERS = {"Thumb": 0.04, "Index": 0.02, "Middle": 0.0, "Ring": -0.02, "Little": -0.04}
"""Finger -> z of its joints."""
SEGMENTS = {"Metacarpal": 0.03, "Proximal": 0.08, "Intermediate": 0.11, "Distal": 0.13}
"""Segment -> distance from the wrist."""


def humanoid_avatar(seed: int = 0) -> Avatar:
    """54 humanoid joints below `root`, three hair joints, and three spheres at head, chest and feet."""
    bones = [bone for bone in PARENTS if bone != "jaw"]
    names = ["root", *bones, "hair_tail_0", "hair_tail_1", "hair_tail_2"]
    above = {**PARENTS, "hips": "root", "hair_tail_0": "head", "hair_tail_1": "hair_tail_0",
             "hair_tail_2": "hair_tail_1"}  # fmt: skip
    parents = [names.index(above[name]) if above.get(name) else -1 for name in names]
    places = torch.tensor([_place(name) for name in names])
    generator = torch.Generator().manual_seed(seed)
    avatar = synthetic_avatar(seed)
    joints = {"body": ("hips", "leftFoot", "leftUpperArm"), "hair": ("head", "hair_tail_0", "hair_tail_1"),
              "glasses_lenses": ("head",)}  # fmt: skip
    down = torch.tensor([0.0, -0.88, 0.0])  # the body's sphere touches the ground
    parts = []
    for part in avatar.parts:
        choice = torch.tensor([names.index(name) for name in joints[part.name]])
        drawn = choice[torch.randint(len(choice), part.skin.joints.shape, generator=generator)]
        mesh = part.mesh
        if part.name == "body":
            mesh = replace(mesh, vertices=mesh.vertices + down)
        parts.append(replace(part, mesh=mesh, skin=replace(part.skin, joints=drawn)))
    chain = SpringChain(
        "tail", ("hair_tail_0", "hair_tail_1", "hair_tail_2"), stiffness=0.8, gravity=0.2, drag=0.5
    )
    colliders = (
        Collider("head", (0.0, 0.1, 0.0), 0.1),
        Collider("upperChest", (0.0, 0.0, -0.02), 0.12, tail=(0.0, 0.15, -0.02)),
    )
    skeleton = Skeleton(tuple(names), tuple(parents), places)
    return replace(avatar, skeleton=skeleton, parts=tuple(parts), springs=(chain,), colliders=colliders)


def _place(name: str) -> tuple[float, float, float]:
    if name == "root":
        return (0.0, 0.0, 0.0)
    if name.startswith("hair_tail_"):
        return (0.0, 1.6 - 0.1 * int(name[-1]), -0.12)
    if name in PLACES:
        return PLACES[name]
    side, bone = ("left", name[4:]) if name.startswith("left") else ("right", name[5:])
    sign = 1.0 if side == "left" else -1.0
    for finger, z in FINGERS.items():
        if bone.startswith(finger):
            return (sign * (PLACES["Hand"][0] + SEGMENTS[bone[len(finger) :]]), PLACES["Hand"][1], z)
    x, y, z = PLACES[bone]
    return (sign * x, y, z)
