"""Face shapes composed of the 52 ARKit actions: Oculus' 15 visemes, Ready Player Me's five extras, VRM's presets.

A composed shape is a weighted sum of actions, on every part of an avatar alike. The 52 actions know one movement
of the tongue only (`tongueOut`), so visemes whose sound the tongue makes add a bend of their own to the tongue.
Which sounds a viseme stands for: Meta's "Viseme Reference" of Oculus Lipsync (p b m, f v, th, t d, k g, ch j sh,
s z, n l, r, and the vowels of car, bed, tip, toe, book); how lips, teeth and tongue make them: the places and
manners of articulation of the International Phonetic Alphabet.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.errors import InputError
from avatar3d.structures import Avatar, Mesh, MorphTargets, Part

ARKIT = (
    "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight", "cheekPuff",
    "cheekSquintLeft", "cheekSquintRight", "eyeBlinkLeft", "eyeBlinkRight", "eyeLookDownLeft", "eyeLookDownRight",
    "eyeLookInLeft", "eyeLookInRight", "eyeLookOutLeft", "eyeLookOutRight", "eyeLookUpLeft", "eyeLookUpRight",
    "eyeSquintLeft", "eyeSquintRight", "eyeWideLeft", "eyeWideRight", "jawForward", "jawLeft", "jawOpen",
    "jawRight", "mouthClose", "mouthDimpleLeft", "mouthDimpleRight", "mouthFrownLeft", "mouthFrownRight",
    "mouthFunnel", "mouthLeft", "mouthLowerDownLeft", "mouthLowerDownRight", "mouthPressLeft", "mouthPressRight",
    "mouthPucker", "mouthRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper",
    "mouthSmileLeft", "mouthSmileRight", "mouthStretchLeft", "mouthStretchRight", "mouthUpperUpLeft",
    "mouthUpperUpRight", "noseSneerLeft", "noseSneerRight", "tongueOut",
)  # fmt: skip
"""The 52 actions in the order in which files name them."""


def _both(**weights: float) -> dict[str, float]:
    """Weights of actions; a name without a side that ARKit has twice stands for both."""
    return {
        name: weight
        for base, weight in weights.items()
        for name in ((base,) if base in ARKIT else (f"{base}Left", f"{base}Right"))
    }


COMPOSED: dict[str, dict[str, float]] = {
    "viseme_sil": {},
    "viseme_PP": _both(mouthPress=0.55, mouthRollLower=0.35, mouthRollUpper=0.30),
    "viseme_FF": _both(mouthRollLower=0.65, mouthUpperUp=0.30, mouthShrugUpper=0.15, jawOpen=0.04),
    "viseme_TH": _both(jawOpen=0.24, mouthUpperUp=0.15, mouthLowerDown=0.15, mouthStretch=0.10, tongueOut=0.42),
    "viseme_DD": _both(jawOpen=0.14, mouthUpperUp=0.22, mouthLowerDown=0.30, mouthStretch=0.12),
    "viseme_kk": _both(jawOpen=0.20, mouthUpperUp=0.20, mouthLowerDown=0.25, mouthStretch=0.10),
    "viseme_CH": _both(mouthFunnel=0.60, mouthPucker=0.20, mouthUpperUp=0.15, mouthLowerDown=0.15, jawOpen=0.04),
    "viseme_SS": _both(mouthStretch=0.35, mouthSmile=0.15, mouthUpperUp=0.25, mouthLowerDown=0.40, jawOpen=0.02),
    "viseme_nn": _both(jawOpen=0.11, mouthUpperUp=0.15, mouthLowerDown=0.25, mouthStretch=0.05),
    "viseme_RR": _both(mouthFunnel=0.40, mouthPucker=0.25, jawOpen=0.12, mouthLowerDown=0.10),
    "viseme_aa": _both(jawOpen=0.60, mouthUpperUp=0.15, mouthLowerDown=0.20),
    "viseme_E": _both(jawOpen=0.28, mouthStretch=0.25, mouthSmile=0.20, mouthUpperUp=0.15, mouthLowerDown=0.25),
    "viseme_I": _both(jawOpen=0.14, mouthStretch=0.25, mouthSmile=0.35, mouthUpperUp=0.15, mouthLowerDown=0.30),
    "viseme_O": _both(jawOpen=0.38, mouthFunnel=0.60, mouthPucker=0.25),
    "viseme_U": _both(jawOpen=0.10, mouthPucker=0.80, mouthFunnel=0.35),
    "mouthOpen": _both(jawOpen=0.70, mouthUpperUp=0.10, mouthLowerDown=0.20),
    "mouthSmile": _both(mouthSmile=0.85, mouthDimple=0.15, cheekSquint=0.35),
    "eyesClosed": _both(eyeBlink=1.0),
    "eyesLookUp": _both(eyeLookUp=1.0),
    "eyesLookDown": _both(eyeLookDown=1.0),
}
"""Composed shape -> weights of actions."""

READY_PLAYER_ME = (*ARKIT, *COMPOSED)
"""The 72 names that applications made for Ready Player Me expect on a head."""

VRM_PRESETS: dict[str, dict[str, float]] = {
    "happy": _both(mouthSmile=0.80, cheekSquint=0.60, eyeSquint=0.25, mouthDimple=0.10, browOuterUp=0.10),
    "angry": _both(browDown=0.90, noseSneer=0.40, mouthFrown=0.40, mouthPress=0.45, eyeSquint=0.35),
    "sad": _both(mouthFrown=0.65, browInnerUp=0.80, browDown=0.10, mouthShrugLower=0.25, eyeSquint=0.15),
    "relaxed": _both(mouthSmile=0.35, eyeBlink=0.35, cheekSquint=0.15, browInnerUp=0.10),
    "surprised": _both(eyeWide=0.80, browInnerUp=0.75, browOuterUp=0.80, jawOpen=0.35, mouthFunnel=0.10),
    "aa": COMPOSED["viseme_aa"],
    "ih": COMPOSED["viseme_I"],
    "ou": COMPOSED["viseme_U"],
    "ee": COMPOSED["viseme_E"],
    "oh": COMPOSED["viseme_O"],
    "blink": _both(eyeBlink=1.0),
    "blinkLeft": {"eyeBlinkLeft": 1.0},
    "blinkRight": {"eyeBlinkRight": 1.0},
    "lookUp": _both(eyeLookUp=1.0),
    "lookDown": _both(eyeLookDown=1.0),
    "lookLeft": {"eyeLookOutLeft": 1.0, "eyeLookInRight": 1.0},
    "lookRight": {"eyeLookInLeft": 1.0, "eyeLookOutRight": 1.0},
    "neutral": {},
}
"""VRM 1.0's 18 expression presets -> weights of actions."""


@dataclass(frozen=True)
class Bend:
    """A movement of the tongue beside `tongueOut`, as shares of its length."""

    tip_up: float = 0.0
    back_up: float = 0.0
    forward: float = 0.0


TONGUE: dict[str, Bend] = {
    "viseme_TH": Bend(tip_up=0.09, forward=0.09),
    "viseme_DD": Bend(tip_up=0.22, forward=0.10),
    "viseme_nn": Bend(tip_up=0.22, forward=0.10),
    "viseme_kk": Bend(back_up=0.16, forward=-0.08),
    "viseme_RR": Bend(tip_up=0.12, back_up=0.06, forward=-0.06),
    "viseme_I": Bend(back_up=0.08),
}
"""Composed shapes in which the tongue does more than its actions do."""


class FaceShapeError(InputError, ValueError):
    """A face shape that is neither an action nor a composed shape."""


def actions_of(expression: Mapping[str, float]) -> dict[str, float]:
    """The same face in weights of actions: composed shapes are replaced by what they are made of.

    Raises `FaceShapeError` for an unknown name.
    """
    total: dict[str, float] = {}
    for name, weight in expression.items():
        if name not in COMPOSED and name not in ARKIT:
            raise FaceShapeError(
                f"no face shape {name!r}; use the 52 ARKit names or one of: {', '.join(COMPOSED)}"
            )
        for action, share in COMPOSED.get(name, {name: 1.0}).items():
            total[action] = total.get(action, 0.0) + weight * share
    return total


def with_composed(
    avatar: Avatar, names: Sequence[str] = tuple(COMPOSED), keep_still: Collection[str] = ()
) -> Avatar:
    """The avatar with composed shapes added to every part that they move, after the part's own shapes.

    The parts named in `keep_still` get all of `names`, in this order, also those that do not move them (an
    importer that looks for `viseme_sil` finds it there). A shape that a part has already is left as it is.
    Raises `FaceShapeError` for a name that is not in `COMPOSED`.
    """
    unknown = [name for name in names if name not in COMPOSED]
    if unknown:
        raise FaceShapeError(f"no composed shape {unknown[0]!r}; there are: {', '.join(COMPOSED)}")
    return replace(avatar, parts=tuple(_composed_part(p, names, p.name in keep_still) for p in avatar.parts))


def with_every_shape(avatar: Avatar, parts: Collection[str], names: Sequence[str] = READY_PLAYER_ME) -> Avatar:
    """The avatar whose listed parts have exactly the shapes `names`, in this order; absent ones do not move."""

    def completed(part: Part) -> Part:
        if part.name not in parts:
            return part
        deltas = torch.zeros(len(names), *part.mesh.vertices.shape).to(part.mesh.vertices)
        if part.morphs:
            for name, delta in zip(part.morphs.names, part.morphs.deltas, strict=True):
                if name in names:
                    deltas[names.index(name)] = delta
        return replace(part, morphs=MorphTargets(tuple(names), deltas))

    return replace(avatar, parts=tuple(completed(part) for part in avatar.parts))


def _composed_part(part: Part, names: Sequence[str], keep_still: bool) -> Part:
    own = part.morphs or MorphTargets((), part.mesh.vertices.new_zeros(0, *part.mesh.vertices.shape))
    order = {name: i for i, name in enumerate(own.names)}
    new_names, new_deltas = [], []
    for name in names:
        if name in order:
            continue
        terms = [(order[a], w) for a, w in COMPOSED[name].items() if a in order]
        bend = TONGUE.get(name) if part.kind == "tongue" else None
        if not terms and bend is None and not keep_still:
            continue
        delta = torch.zeros_like(part.mesh.vertices)
        for index, weight in terms:
            delta = delta + weight * own.deltas[index]
        new_names.append(name)
        new_deltas.append(delta if bend is None else delta + bent_tongue(part.mesh, bend))
    if not new_names:
        return part
    return replace(
        part, morphs=MorphTargets((*own.names, *new_names), torch.cat([own.deltas, torch.stack(new_deltas)]))
    )


def bent_tongue(mesh: Mesh, bend: Bend) -> Float[Tensor, "V 3"]:
    """Offsets of a tongue whose root is behind its tip: root and base stay, the rest bends as `bend` says."""
    z = mesh.vertices[:, 2]
    length = z.amax() - z.amin()
    along = ((z - z.amin()) / length).clamp(0, 1)
    tip = along**2.5
    back = (along * (1 - along) * 4).clamp(0, 1) ** 1.5 * (1 - along) * 2
    offsets = torch.zeros_like(mesh.vertices)
    offsets[:, 1] = length * (bend.tip_up * tip + bend.back_up * back)
    offsets[:, 2] = length * bend.forward * along
    return offsets
