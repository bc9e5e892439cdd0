"""Bone profiles: the names and the hierarchy that engines and rigs expect of a humanoid skeleton.

Inside this package joints have the names of VRM 1.0 (and `root`, which VRM does not name). A profile says what
each is called elsewhere, which bones a hierarchy has in addition, and which way bones point at rest.
Traps: what VRM calls ThumbMetacarpal, -Proximal, -Distal is ThumbProximal, -Intermediate, -Distal in Unity;
MakeHuman counts its spine from `spine05` at the pelvis up to `spine01`, and calls the hips `root`.

Sources: VRMC_vrm-1.0 humanoid.md; Unity's `HumanBodyBones`; Unreal Engine's (4) mannequin; Godot's
`SkeletonProfileHumanoid`; Mixamo's and Ready Player Me's files; MakeHuman's `default.mhskel`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from avatar3d.errors import InputError

REQUIRED = (
    "hips", "spine", "head",
    *(f"{side}{joint}" for side in ("left", "right")
      for joint in ("UpperLeg", "LowerLeg", "Foot", "UpperArm", "LowerArm", "Hand")),
)  # fmt: skip
"""The fifteen joints without which nothing is a humanoid (VRM 1.0)."""


class ProfileError(InputError, ValueError):
    """A bone profile that does not exist; the message names the nearest one."""


@dataclass(frozen=True)
class Inserted:
    """A bone that a hierarchy has and ours has not.

    It hangs under `parent` and takes over the bone `child`, at `share` of the way between the two; without a
    child it prolongs its parent (an end bone), by `share` of the parent's own length.
    """

    name: str
    parent: str
    child: str | None
    share: float


@dataclass(frozen=True)
class Profile:
    """How an exported skeleton looks."""

    name: str
    bones: dict[str, str]
    """Our joint -> bone. Joints that are missing here keep their name."""
    inserted: tuple[Inserted, ...] = ()
    dropped: tuple[str, ...] = ()
    """Our joints that this hierarchy has no place for: their children and weights go to what is left."""
    along_bones: bool = False
    """At rest +Y of every bone points to its child, with Mixamo's rolls; else bones have the avatar's axes."""
    t_pose: bool = True
    """The engine expects to find the character in T-pose; else in A-pose."""
    scene_is_armature: bool = False
    """`Armature` is the scene's name and no node. Applications made for Ready Player Me's files take an object of
    that name out of the scene with bones and meshes in it; meshes below a node would not be valid without a
    warning."""


# ours, Unreal, Mixamo, MakeHuman
_CENTER = (
    ("root", "root", "", ""),
    ("hips", "pelvis", "Hips", "root"),
    ("spine", "spine_01", "Spine", "spine05"),
    ("chest", "spine_02", "Spine1", "spine03"),
    ("upperChest", "spine_03", "Spine2", "spine01"),
    ("neck", "neck_01", "Neck", "neck01"),
    ("head", "head", "Head", "head"),
    ("jaw", "jaw", "Jaw", "jaw"),
)
_SIDES = (
    ("Eye", "eye", "Eye", "eye"),
    ("Shoulder", "clavicle", "Shoulder", "clavicle"),
    ("UpperArm", "upperarm", "Arm", "upperarm01"),
    ("UpperArmTwist", "upperarm_twist_01", "ArmTwist", ""),
    ("LowerArm", "lowerarm", "ForeArm", "lowerarm01"),
    ("LowerArmTwist", "lowerarm_twist_01", "ForeArmTwist", ""),
    ("Hand", "hand", "Hand", "wrist"),
    ("UpperLeg", "thigh", "UpLeg", "upperleg01"),
    ("UpperLegTwist", "thigh_twist_01", "UpLegTwist", ""),
    ("LowerLeg", "calf", "Leg", "lowerleg01"),
    ("LowerLegTwist", "calf_twist_01", "LegTwist", ""),
    ("Foot", "foot", "Foot", "foot"),
    ("Toes", "ball", "ToeBase", "toe1-1"),
    *(
        (f"{ours}{segment}", f"{unreal}_0{n}", f"Hand{mixamo}{n}", f"finger{digit}-{n}")
        for digit, (ours, unreal, mixamo) in enumerate(
            (("Thumb", "thumb", "Thumb"), ("Index", "index", "Index"), ("Middle", "middle", "Middle"),
             ("Ring", "ring", "Ring"), ("Little", "pinky", "Pinky")), start=1,
        )
        for n, segment in enumerate(
            ("Metacarpal", "Proximal", "Distal") if digit == 1 else ("Proximal", "Intermediate", "Distal"), start=1
        )
    ),
)  # fmt: skip
SIDES = (("left", "Left", "_l", ".L"), ("right", "Right", "_r", ".R"))
OURS = tuple([row[0] for row in _CENTER] + [f"{side}{row[0]}" for side, *_ in SIDES for row in _SIDES])
"""All joint names that profiles know; hair joints and others keep their names everywhere."""


def _pascal(joint: str) -> str:
    return joint[0].upper() + joint[1:]


def _unity() -> dict[str, str]:
    bones = {joint: _pascal(joint) for joint in OURS}
    for side, prefix, *_ in SIDES:
        bones[f"{side}ThumbMetacarpal"] = f"{prefix}ThumbProximal"
        bones[f"{side}ThumbProximal"] = f"{prefix}ThumbIntermediate"
    return bones


def _unreal() -> dict[str, str]:
    bones = {row[0]: row[1] for row in _CENTER}
    return bones | {f"{side}{row[0]}": f"{row[1]}{suffix}" for side, _, suffix, _ in SIDES for row in _SIDES}


def _mixamo(prefix: str) -> dict[str, str]:
    bones = {row[0]: prefix + row[2] for row in _CENTER if row[2]}
    return bones | {f"{side}{row[0]}": f"{prefix}{pascal}{row[2]}" for side, pascal, *_ in SIDES for row in _SIDES}


def _mixamo_ends(prefix: str) -> tuple[Inserted, ...]:
    ends = [Inserted(f"{prefix}HeadTop_End", f"{prefix}Head", None, 1.0)]
    for _, side, *_ in SIDES:
        for finger in ("Thumb", "Index", "Middle", "Ring", "Pinky"):
            ends.append(Inserted(f"{prefix}{side}Hand{finger}4", f"{prefix}{side}Hand{finger}3", None, 0.9))
        ends.append(Inserted(f"{prefix}{side}Toe_End", f"{prefix}{side}ToeBase", None, 0.6))
    return tuple(ends)


def _makehuman() -> dict[str, str]:
    bones = {row[0]: row[3] for row in _CENTER if row[3]}
    return bones | {
        f"{side}{row[0]}": f"{row[3]}{suffix}" for side, *_, suffix in SIDES for row in _SIDES if row[3]
    }


def _makehuman_inserted() -> tuple[Inserted, ...]:
    bones = [
        Inserted("spine04", "spine05", "spine03", 0.5),
        Inserted("spine02", "spine03", "spine01", 0.5),
        Inserted("neck02", "neck01", "head", 1 / 3),
        Inserted("neck03", "neck02", "head", 0.5),
    ]
    for *_, side in SIDES:
        bones += [
            Inserted(f"pelvis{side}", "root", f"upperleg01{side}", 0.5),
            Inserted(f"shoulder01{side}", f"clavicle{side}", f"upperarm01{side}", 0.5),
            Inserted(f"special06{side}", "head", f"eye{side}", 0.5),
            Inserted(f"special05{side}", f"special06{side}", f"eye{side}", 0.5),
        ]
        for limb, below in (
            ("upperarm", "lowerarm01"), ("lowerarm", "wrist"), ("upperleg", "lowerleg01"), ("lowerleg", "foot"),
        ):  # fmt: skip
            bones.append(Inserted(f"{limb}02{side}", f"{limb}01{side}", f"{below}{side}", 0.5))
        for n in range(1, 5):
            bones.append(Inserted(f"metacarpal{n}{side}", f"wrist{side}", f"finger{n + 1}-1{side}", 0.25))
    return tuple(bones)


PROFILES = {
    profile.name: profile
    for profile in (
        Profile("vrm", {joint: joint for joint in OURS}),
        Profile("unity", _unity()),
        Profile("unreal", _unreal(), t_pose=False),
        Profile("godot", {joint: _pascal(joint) for joint in OURS}),
        Profile("mixamo", _mixamo("mixamorig:"), _mixamo_ends("mixamorig:"), ("root",), along_bones=True),
        Profile("rpm", _mixamo(""), _mixamo_ends(""), ("root",), along_bones=True, scene_is_armature=True),
        Profile("makehuman", _makehuman(), _makehuman_inserted(), ("root",), t_pose=False),
    )
}
"""By name: `vrm` (our own names), `unity`, `unreal`, `godot`, `mixamo`, `rpm` (Ready Player Me), `makehuman`."""


def find_profile(name: str) -> Profile:
    """The profile of that name. Raises `ProfileError` that names the nearest one."""
    if name in PROFILES:
        return PROFILES[name]
    near = difflib.get_close_matches(name.lower(), PROFILES, n=1, cutoff=0.4)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ProfileError(f"no bone profile {name!r}{hint} (the profiles are {', '.join(PROFILES)})")


def recognize(names: Iterable[str]) -> tuple[Profile, dict[str, str]] | None:
    """The profile that a file's bones follow, and file's name -> our joint; None if no profile fits.

    Prefixes such as `mixamorig:` (also without the colon, which three.js drops, or with a number) do not count.
    A profile fits when all of `REQUIRED` are there; the one that explains most names wins.
    """
    plain = {name: re.sub(r"^mixamorig\d*[:_]?", "", name) for name in names}
    best: tuple[Profile, dict[str, str]] | None = None
    for profile in PROFILES.values():
        joint_of = {re.sub(r"^mixamorig:", "", bone): joint for joint, bone in profile.bones.items()}
        found = {name: joint_of[bone] for name, bone in plain.items() if bone in joint_of}
        if len(set(found.values())) < len(found) or not set(REQUIRED) <= set(found.values()):
            continue
        if best is None or len(found) > len(best[1]):
            best = profile, found
    if best is not None and best[0].name in ("mixamo", "rpm"):
        prefixed = any(name.startswith("mixamorig") for name in best[1])
        best = PROFILES["mixamo" if prefixed else "rpm"], best[1]
    return best
