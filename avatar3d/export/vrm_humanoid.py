"""The humanoid bones of VRM 1.0 and what hangs on what (humanoid.md of the specification)."""

from __future__ import annotations

_FINGERS = {
    "Thumb": ("Metacarpal", "Proximal", "Distal"),
    **dict.fromkeys(("Index", "Middle", "Ring", "Little"), ("Proximal", "Intermediate", "Distal")),
}


def _limbs(side: str) -> dict[str, str]:
    parents = {
        f"{side}UpperLeg": "hips",
        f"{side}LowerLeg": f"{side}UpperLeg",
        f"{side}Foot": f"{side}LowerLeg",
        f"{side}Toes": f"{side}Foot",
        f"{side}Shoulder": "upperChest",
        f"{side}UpperArm": f"{side}Shoulder",
        f"{side}LowerArm": f"{side}UpperArm",
        f"{side}Hand": f"{side}LowerArm",
        f"{side}Eye": "head",
    }
    for finger, segments in _FINGERS.items():
        parent = f"{side}Hand"
        for segment in segments:
            parents[f"{side}{finger}{segment}"] = parent
            parent = f"{side}{finger}{segment}"
    return parents


PARENTS: dict[str, str | None] = {
    "hips": None,
    "spine": "hips",
    "chest": "spine",
    "upperChest": "chest",
    "neck": "upperChest",
    "head": "neck",
    "jaw": "head",
    **_limbs("left"),
    **_limbs("right"),
}
"""Bone -> the bone above it; where that one is absent, the one above that."""
BONES = tuple(PARENTS)
REQUIRED = frozenset(
    {"hips", "spine", "head"}
    | {f"{s}{b}" for s in ("left", "right")
       for b in ("UpperLeg", "LowerLeg", "Foot", "UpperArm", "LowerArm", "Hand")}
)  # fmt: skip
NEEDS_PARENT = frozenset(
    {"upperChest"}
    | {f"{s}{f}{seg}" for s in ("left", "right") for f, segments in _FINGERS.items() for seg in segments[1:]}
)
"""Bones that may exist only when the bone above them does."""
