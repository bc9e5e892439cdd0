"""VRM 1.0 expressions: the 18 presets as combinations of face actions, and every face shape by its own name."""

from __future__ import annotations

from collections.abc import Mapping

from avatar3d.body.visemes import VRM_PRESETS

EMOTIONS = ("happy", "angry", "sad", "relaxed", "surprised")
COLLIDING = {
    "overrideBlink": ("eyeBlink",),
    "overrideLookAt": ("eyeLook",),
    "overrideMouth": ("jawOpen", "mouthClose", "mouthFunnel", "mouthPucker", "mouthPress", "mouthRoll"),
}
"""Procedural motion that an emotion attenuates -> beginnings of the actions that would deform the face twice."""
COLLIDES_FROM = 0.3
"""Weight of such an action from which the emotion attenuates the motion; a smile alone leaves speech as it is."""


def expressions_extension(document: dict, worn: Mapping[str, float]) -> dict:
    """The `expressions` object of `VRMC_vrm` for the meshes of a glTF `document`; empty if nothing can move.

    A VRM viewer sets all shapes to 0 and adds the expressions that are on, so the face that the avatar wears by
    default (`worn`, weights by shape) is the preset `neutral`. Shapes that are no preset are custom expressions.
    """
    places = shape_places(document)
    if not places:
        return {}
    presets = VRM_PRESETS | {"neutral": dict(worn)}
    preset = {name: _expression(weights, places, name in EMOTIONS) for name, weights in presets.items()}
    custom = {name: _expression({name: 1.0}, places, False) for name in places if name not in preset}
    return {"preset": preset, "custom": custom}


def shape_places(document: dict) -> dict[str, list[tuple[int, int]]]:
    """Face shape -> (node, index of the morph target) of every mesh that it moves; sorted by name."""
    places: dict[str, list[tuple[int, int]]] = {}
    for node, entry in enumerate(document["nodes"]):
        if "mesh" in entry:
            names = document["meshes"][entry["mesh"]].get("extras", {}).get("targetNames", [])
            for index, name in enumerate(names):
                places.setdefault(name, []).append((node, index))
    return dict(sorted(places.items()))


def _expression(weights: Mapping[str, float], places: dict[str, list[tuple[int, int]]], is_emotion: bool) -> dict:
    binds = [
        {"node": node, "index": index, "weight": min(max(float(weight), 0.0), 1.0)}
        for shape, weight in weights.items()
        for node, index in places.get(shape, [])
    ]
    expression: dict = {"isBinary": False}
    if binds:
        expression["morphTargetBinds"] = binds
    for override, actions in COLLIDING.items():
        collides = any(w >= COLLIDES_FROM and shape.startswith(actions) for shape, w in weights.items())
        expression[override] = "blend" if is_emotion and collides else "none"
    return expression
