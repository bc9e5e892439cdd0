"""120 poses that take every joint through its range, and everyday ones: what skin and clothes are measured in.

Each is a table row of (joint, axis, degrees). A joint without a side moves on both, mirrored. Axes: `x`, `y`, `z`
of the avatar; `bend` the way a hinge closes; `twist` about the bone itself; `curl` and `aside` of hands
and fingers. An arm's row may instead give where it points: elevation and azimuth, degrees from level and
from its side.
"""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor

from avatar3d.body.pose import Pose
from avatar3d.body.poses import test_poses
from avatar3d.body.template import load_template
from avatar3d.rotations import axis_angle_to_quaternion, quaternion_multiply

Turn = tuple[str, str, float]
Aim = tuple[str, float, float]
Row = tuple[Turn | Aim, ...]

ARM_AIMS = (
    *((e, a) for e in (-75, -45, 0) for a in (-35, 0, 45, 90) if (e, a) != (-45, 0)),  # where it is at rest
    *((e, a) for e in (40, 75) for a in (0, 45, 90)),
)
"""Elevations and azimuths; arms do not reach far up behind the body."""
ELBOWS = (30, 60, 90, 120, 140)
KNEES = (30, 60, 90, 120, 140)
HIPS = (30, 60, 90, 115)

FIST: Row = tuple(
    (f"{finger}{segment}", "curl", degrees)
    for finger in ("Index", "Middle", "Ring", "Little")
    for segment, degrees in (("Proximal", 75), ("Intermediate", 90), ("Distal", 60))
)
SITTING: Row = (("UpperLeg", "x", -85), ("LowerLeg", "x", 85))

EVERYDAY: dict[str, Row] = {
    "wave": (("rightUpperArm", "twist", -75), ("rightUpperArm", 5, 15), ("rightLowerArm", "bend", 80),
             ("leftUpperArm", -70, 10)),
    "point": (("rightUpperArm", -5, 75), ("rightMiddleProximal", "curl", 80), ("rightRingProximal", "curl", 80),
              ("rightLittleProximal", "curl", 80), ("leftUpperArm", -70, 10)),
    "phone": (("rightUpperArm", -55, 40), ("rightLowerArm", "bend", 140), ("leftUpperArm", -70, 10)),
    "clap": (("UpperArm", "twist", 25), ("UpperArm", -45, 60), ("LowerArm", "bend", 70)),
    "crossed_arms": (("UpperArm", "twist", 40), ("UpperArm", -60, 50), ("LowerArm", "bend", 100)),
    "typing": (*SITTING, ("UpperArm", -65, 30), ("LowerArm", "bend", 80)),
    "drink": (("rightUpperArm", -40, 55), ("rightLowerArm", "bend", 125), ("head", "x", -10)),
    "carry": (("UpperArm", -65, 25), ("LowerArm", "bend", 90)),
    "salute": (("rightUpperArm", "twist", -60), ("rightUpperArm", 0, 20), ("rightLowerArm", "bend", 135),
               ("leftUpperArm", -75, 0)),
    "shrug": (("Shoulder", "z", 18), ("LowerArm", "bend", 60)),
    "reach_up": (("rightShoulder", "z", 20), ("rightUpperArm", 75, 20), ("spine", "z", 8)),
    "throw": (("rightUpperArm", "twist", -70), ("rightUpperArm", 15, -10), ("rightLowerArm", "bend", 100),
              ("chest", "y", -25), ("leftUpperArm", 0, 70)),
    "guard": (("UpperArm", -50, 60), ("LowerArm", "bend", 130), *FIST, ("spine", "x", 10)),
    "surrender": (("UpperArm", "twist", -80), ("UpperArm", 5, 10), ("LowerArm", "bend", 90)),
    "hug": (("UpperArm", -15, 75), ("LowerArm", "bend", 50)),
    "hands_behind_back": (("UpperArm", -70, -30), ("LowerArm", "bend", 50)),
    "run": (("leftUpperLeg", "x", -60), ("leftLowerLeg", "x", 80), ("rightUpperLeg", "x", 25),
            ("rightLowerLeg", "x", 60), ("UpperArm", -70, 0), ("LowerArm", "bend", 90), ("spine", "x", 10)),
    "kick": (("rightUpperLeg", "x", -90), ("rightLowerLeg", "x", 10), ("leftUpperLeg", "x", 10)),
    "lunge": (("leftUpperLeg", "x", -75), ("leftLowerLeg", "x", 85), ("rightUpperLeg", "x", 25),
              ("rightLowerLeg", "x", 45)),
    "kneel": (("UpperLeg", "x", -5), ("LowerLeg", "x", 95), ("Foot", "x", 40)),
    "half_kneel": (("leftUpperLeg", "x", -90), ("leftLowerLeg", "x", 90), ("rightUpperLeg", "x", 5),
                   ("rightLowerLeg", "x", 90)),
    "sit_crossed": (("UpperLeg", "x", -80), ("UpperLeg", "y", 35), ("LowerLeg", "x", 130)),
    "leg_over_leg": (*SITTING, ("rightUpperLeg", "x", -20), ("rightUpperLeg", "y", 22)),
    "jump": (("UpperLeg", "x", -40), ("LowerLeg", "x", 70), ("UpperArm", 60, 30)),
    "star": (("UpperArm", 40, 0), ("UpperLeg", "z", 30)),
    "split_stand": (("leftUpperLeg", "z", 45), ("UpperArm", 0, 0)),
    "lean_back": (*SITTING, ("spine", "x", -15), ("chest", "x", -10), ("UpperArm", -50, -30)),
    "pick_up": (("spine", "x", 35), ("chest", "x", 30), ("UpperLeg", "x", -50), ("LowerLeg", "x", 30),
                ("UpperArm", -70, 70)),
    "look_behind": (("spine", "y", 25), ("chest", "y", 20), ("neck", "y", 30), ("head", "y", 35)),
    "stretch": (("Shoulder", "z", 20), ("UpperArm", 75, 30), ("spine", "x", -15), ("head", "x", -20)),
    "dance": (("leftUpperArm", 45, 20), ("rightUpperArm", -20, 60), ("rightLowerArm", "bend", 70),
              ("hips", "z", 8), ("spine", "z", -15), ("leftUpperLeg", "x", -20), ("leftLowerLeg", "x", 45)),
    "bow_deeply": (("spine", "x", 45), ("chest", "x", 30), ("UpperLeg", "x", -20)),
}  # fmt: skip


@cache
def exercises() -> dict[str, Pose]:
    """The poses by name, 120 of them."""
    rows: dict[str, Row] = {"rest_turned": (("hips", "y", 30),)}
    for elevation, azimuth in ARM_AIMS:
        clavicle: Row = (("Shoulder", "z", elevation / 4),) if elevation > 0 else ()
        rows[f"arm_{elevation}_{azimuth}"] = (*clavicle, ("UpperArm", elevation, azimuth))
    for degrees in ELBOWS:
        rows[f"elbow_{degrees}"] = (("LowerArm", "bend", degrees),)
        if degrees > 30:
            rows[f"elbow_{degrees}_forward"] = (("UpperArm", -20, 80), ("LowerArm", "bend", degrees))
    for degrees in (-80, -40, 40, 80):
        rows[f"forearm_twist_{degrees}"] = (("Hand", "twist", degrees),)
    for degrees in (-60, -30, 30, 60):
        rows[f"arm_twist_{degrees}"] = (("UpperArm", "twist", degrees),)
        rows[f"wrist_{degrees}"] = (("Hand", "curl", degrees),)
    rows |= {"wrist_aside_in": (("Hand", "aside", 18),), "wrist_aside_out": (("Hand", "aside", -25),)}
    for hip in HIPS:
        rows[f"hip_{hip}"] = (("UpperLeg", "x", -hip), ("LowerLeg", "x", 0.6 * hip))
        if hip > 30:
            rows[f"hip_{hip}_one"] = (("leftUpperLeg", "x", -hip), ("leftLowerLeg", "x", 0.9 * hip))
    rows |= {
        "hip_back": (("leftUpperLeg", "x", 28),),
        "legs_apart": (("UpperLeg", "z", 22),),
        "legs_wide": (("UpperLeg", "z", 40),),
        "knees_out": (("UpperLeg", "x", -70), ("UpperLeg", "y", 45), ("LowerLeg", "x", 90)),
        "legs_turned_out": (("UpperLeg", "twist", 35),),
        "legs_turned_in": (("UpperLeg", "twist", -30),),
        "legs_crossed": (("leftUpperLeg", "z", -14), ("rightUpperLeg", "z", 8)),
    }
    for degrees in KNEES:
        rows[f"knee_{degrees}"] = (("LowerLeg", "x", degrees),)
    rows |= {"toes": (("Foot", "x", 35), ("Toes", "x", -35)), "heels": (("Foot", "x", -20),)}
    for axis, name, low, high in (("x", "bend", -15, 30), ("y", "turn", -18, 18), ("z", "lean", -15, 15)):
        for degrees in (low, high):
            rows[f"spine_{name}_{degrees}"] = tuple((j, axis, degrees) for j in ("spine", "chest", "upperChest"))
    for axis, name, low, high in (("x", "nod", -25, 22), ("y", "turn", -35, 35), ("z", "tilt", -18, 18)):
        for degrees in (low, high):
            rows[f"head_{name}_{degrees}"] = tuple((j, axis, degrees) for j in ("neck", "head"))
    rows |= {
        "fist": FIST,
        "half_fist": _scaled(FIST, 0.5),
        "spread_fingers": (("IndexProximal", "aside", 12), ("LittleProximal", "aside", -15)),
        "straight_fingers": _scaled(FIST, -0.15),
    }
    return test_poses() | {name: _pose(row) for name, row in (rows | EVERYDAY).items()}


def _pose(row: Row) -> Pose:
    pose: Pose = {}
    for joint, how, amount in row:
        for name, mirrored in _sides(joint):
            turn = _aim(how, amount) if not isinstance(how, str) else _turn(name, how, amount)
            if mirrored:
                turn = turn * torch.tensor([1.0, 1.0, -1.0, -1.0])
            pose[name] = quaternion_multiply(turn, pose[name]) if name in pose else turn
    return pose


def _scaled(row: Row, share: float) -> Row:
    return tuple((joint, axis, share * degrees) for joint, axis, degrees in row)  # type: ignore[misc]


def _sides(joint: str) -> list[tuple[str, bool]]:
    """Joints that a row's joint means, and whether each is the mirror image of the left one."""
    if joint.startswith(("left", "right")):
        return [(joint, joint.startswith("right"))]
    return [(f"left{joint}", False), (f"right{joint}", True)] if joint[0].isupper() else [(joint, False)]


def _aim(elevation: float, azimuth: float) -> Tensor:
    """Smallest turn of the left upper arm from rest to a direction."""
    e, a = math.radians(elevation), math.radians(azimuth)
    goal = torch.tensor([math.cos(e) * math.cos(a), math.sin(e), math.cos(e) * math.sin(a)])
    rest = _along("UpperArm")
    axis = torch.linalg.cross(rest, goal)
    angle = math.atan2(float(axis.norm()), float(rest @ goal))
    return axis_angle_to_quaternion(torch.nn.functional.normalize(axis, dim=0) * angle)


def _turn(joint: str, axis: str, degrees: float) -> Tensor:
    plain = joint.removeprefix("left").removeprefix("right")
    if axis in "xyz":
        direction = torch.eye(3)["xyz".index(axis)]
    elif axis == "twist":
        direction = _along("LowerArm" if plain == "Hand" else plain)
    elif axis == "bend":  # the forearm closes to the front
        direction = torch.nn.functional.normalize(torch.linalg.cross(_along(plain), torch.eye(3)[2]), dim=0)
    else:  # of a hand: curl towards the palm, aside towards the thumb
        knuckles = _head("LittleProximal") - _head("IndexProximal")
        fingers = _head("MiddleDistal") - _head("MiddleProximal")
        direction = knuckles if axis == "curl" else torch.linalg.cross(fingers, knuckles)
        direction = torch.nn.functional.normalize(direction, dim=0)
    return axis_angle_to_quaternion(direction * math.radians(degrees))


CHILDREN = {"UpperArm": "LowerArm", "LowerArm": "Hand", "UpperLeg": "LowerLeg", "LowerLeg": "Foot"}


def _along(bone: str) -> Tensor:
    """Unit direction of a left limb bone at rest."""
    return torch.nn.functional.normalize(_head(CHILDREN[bone]) - _head(bone), dim=0)


def _head(name: str) -> Tensor:
    template = load_template()
    return template.bone_heads[template.bone_names.index(f"left{name}")]
