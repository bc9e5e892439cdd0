"""Which of a foreign skeleton's joints is which bone of ours, by name.

Names are split into words, sides and numbers, so that one vocabulary covers the conventions in use: CMU's and
Poser's conversions, Mixamo, MakeHuman, Unity, VRM, Godot, Unreal, 3ds Max Biped (Truebones), Xsens, Rokoko,
LaFAN1 and SMPL.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from avatar3d.motion.kinematics import FINGERS, segments_of

LIMBS = {
    "UpperLeg": ("upleg", "upperleg", "thigh", "femur", "hip"),
    "LowerLeg": ("lowerleg", "loleg", "shin", "calf", "knee", "tibia", "leg"),
    "Foot": ("foot", "ankle"),
    "Toes": ("toe", "toes", "toebase", "ball", "forefoot"),
    "Shoulder": ("clavicle", "collar", "collarbone", "clav", "shoulder"),
    "UpperArm": ("upperarm", "uparm", "humerus", "shldr", "arm"),
    "LowerArm": ("forearm", "lowerarm", "loarm", "elbow", "radius"),
    "Hand": ("hand", "wrist"),
}
"""Bone of a side -> words for it."""
TRUNK = ("spine", "chest", "upperchest", "lowerback", "back", "abdomen", "torso", "waist", "thorax", "upperback")
FINGER_WORDS = {"thumb": "Thumb", "index": "Index", "middle": "Middle", "mid": "Middle", "ring": "Ring",
           "little": "Little", "pinky": "Little"}  # fmt: skip
SIDES = {"left": "left", "l": "left", "lft": "left", "right": "right", "r": "right", "rgt": "right", "rt": "right"}
PREFIXES = re.compile(r"^(mixamorig\d*|bip\d*|character\d*|valvebiped|cc_?base|def|org|jnt|bone)[_ .:-]+", re.I)


@dataclass(frozen=True)
class Name:
    """A joint's name, taken apart."""

    side: str
    word: str
    numbers: tuple[str, ...]


def take_apart(name: str) -> Name:
    """`mixamorig:LeftForeArm` -> left, forearm; `finger2-1.L` -> left, finger, (2, 1)."""
    name = re.split(r"[:|]", name)[-1].strip()
    while (shorter := PREFIXES.sub("", name)) != name:
        name = shorter
    words = [w.lower() for w in re.findall(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+", name)]
    side = next((SIDES[w] for w in words if w in SIDES), "")
    letters = [w for w in words if not w.isdigit() and w not in SIDES]
    word = "".join(letters)
    if not side:
        side, word = _joined_side(word)
    return Name(side, word, tuple(w for w in words if w.isdigit()))


def _joined_side(word: str) -> tuple[str, str]:
    """`lefthand` and `rfemur`: the side written into the word."""
    known = {w for words in LIMBS.values() for w in words} | set(FINGER_WORDS)
    for start in ("left", "right", "l", "r"):
        if word.startswith(start) and word[len(start) :] in known:
            return SIDES[start], word[len(start) :]
    return "", word


def recognise(names: Sequence[str], parents: Sequence[int]) -> dict[int, str]:
    """Index of a joint -> VRM name of the bone that it is, for what is recognised."""
    parts = [take_apart(name) for name in names]
    found: dict[int, str] = {}
    for side in ("left", "right"):
        found |= _limbs(parts, side)
        found |= _fingers(parts, side)
    hips = next(
        (n for n, p in enumerate(parts) if not p.side and p.word in ("hips", "hip", "pelvis")),
        _above_legs(found, parents),
    )
    if hips is not None:
        found[hips] = "hips"
    for word in ("head", "neck"):
        first = next((n for n, p in enumerate(parts) if not p.side and p.word == word), None)
        if first is not None:
            found[first] = word
    return found | _trunk(found, parts, parents)


def _limbs(parts: list[Name], side: str) -> dict[int, str]:
    """Arms and legs; the first joint wins where several share a word (twist bones come after)."""
    here: dict[str, int] = {}
    for n, part in enumerate(parts):
        if part.side == side and part.word not in here:
            here[part.word] = n
    choices = {bone: [word for word in words if word in here] for bone, words in LIMBS.items()}
    arm = choices["UpperArm"]
    if not arm and "shoulder" in here:  # Xsens and SMPL: collar, shoulder, elbow, wrist
        choices["UpperArm"] = ["shoulder"]
        choices["Shoulder"] = [word for word in choices["Shoulder"] if word != "shoulder"]
    if "ankle" in here and "foot" in here:  # SMPL
        choices["Foot"], choices["Toes"] = ["ankle"], [*choices["Toes"], "foot"]
    if "wrist" in here:
        choices["Hand"] = ["wrist"]
    return {here[words[0]]: f"{side}{bone}" for bone, words in choices.items() if words}


def _fingers(parts: list[Name], side: str) -> dict[int, str]:
    """Finger joints by their order within each finger; bones of the palm are left out."""
    members: dict[str, list[int]] = {}
    zero_based = any(part.word == "finger" and part.numbers[:1] and part.numbers[0][0] == "0" for part in parts)
    for n, part in enumerate(parts):
        finger = _finger(part, zero_based)
        if part.side == side and finger and (finger == "Thumb" or "metacarpal" not in part.word):
            members.setdefault(finger, []).append(n)
    found: dict[int, str] = {}
    for finger, joints in members.items():
        joints = [n for n in joints if parts[n].numbers] or joints  # an unnumbered one lies in the palm
        segments = zip(joints, segments_of(finger), strict=False)
        found |= {n: f"{side}{finger}{segment}" for n, segment in segments}
    return found


def _finger(part: Name, zero_based: bool) -> str:
    """Of `index`, `handindex`, `indexproximal` or the second `finger`: `Index`; nothing for other words."""
    if part.word == "finger" and part.numbers:
        number = int(part.numbers[0][0]) - (0 if zero_based else 1)
        return FINGERS[number] if 0 <= number < 5 else ""
    word = part.word.removeprefix("hand")
    return next((finger for start, finger in FINGER_WORDS.items() if word.startswith(start)), "")


def _above_legs(found: dict[int, str], parents: Sequence[int]) -> int | None:
    """The nearest joint that both thighs hang on."""
    legs = [n for n, bone in found.items() if bone.endswith("UpperLeg")]
    if len(legs) < 2:
        return None
    lines = []
    for n in legs:
        line = []
        while (n := parents[n]) >= 0:
            line.append(n)
        lines.append(line)
    return next((n for n in lines[0] if n in lines[1]), None)


def _trunk(found: dict[int, str], parts: list[Name], parents: Sequence[int]) -> dict[int, str]:
    """Spine, chest and upper chest: the first, a middle and the last joint from the hips up, however numbered."""
    ours = {bone: n for n, bone in found.items()}
    top = ours.get("neck", ours.get("head"))
    if top is None:
        return {}
    chain: list[int] = []
    n = parents[top]
    while n >= 0 and found.get(n) != "hips":
        if n not in found and (parts[n].word in TRUNK or parts[n].word.startswith("spine")):
            chain.insert(0, n)
        n = parents[n]
    if len(chain) >= 3:
        return {chain[0]: "spine", chain[len(chain) // 2]: "chest", chain[-1]: "upperChest"}
    return dict(zip(chain, ("spine", "chest"), strict=False))
