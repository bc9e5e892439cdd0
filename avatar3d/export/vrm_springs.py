"""Hair that swings and limbs that twist: VRMC_springBone 1.0 and VRMC_node_constraint 1.0."""

from __future__ import annotations

from avatar3d.export.errors import ExportError
from avatar3d.structures import Avatar, Collider, SpringChain

DOWN = [0.0, -1.0, 0.0]
TWISTS = {
    f"{side}{bone}Twist": (f"{side}{source}", axis)
    for side in ("left", "right")
    for bone, source, axis in (
        ("UpperArm", "LowerArm", "X"), ("LowerArm", "Hand", "X"),
        ("UpperLeg", "LowerLeg", "Y"), ("LowerLeg", "Foot", "Y"),
    )
}  # fmt: skip
"""Twist joint, half-way along a limb -> the joint at the limb's end whose roll it shares, and the limb's axis."""
TWIST_SHARE = 0.5


def spring_extension(avatar: Avatar, nodes: dict[str, int]) -> dict | None:
    """The `VRMC_springBone` object, None when nothing swings. `nodes` maps joint names to node indices.

    Joints are axis-aligned at rest, so the colliders' offsets are in their joints' own axes already.
    All chains are kept out of all colliders.
    """
    if not avatar.springs:
        return None
    extension: dict = {"specVersion": "1.0"}
    if avatar.colliders:
        extension["colliders"] = [_collider(collider, nodes) for collider in avatar.colliders]
        extension["colliderGroups"] = [{"name": "body", "colliders": list(range(len(avatar.colliders)))}]
    extension["springs"] = [_spring(chain, nodes, bool(avatar.colliders)) for chain in avatar.springs]
    return extension


def constrain_twists(document: dict, nodes: dict[str, int]) -> bool:
    """Let twist joints roll with the limb's end (`VRMC_node_constraint`); returns whether there are any.

    Limbs lie along X (arms) and Y (legs) in T-pose, and joints are axis-aligned at rest.
    """
    found = False
    for joint, (source, axis) in TWISTS.items():
        if joint in nodes and source in nodes:
            roll = {"source": nodes[source], "rollAxis": axis, "weight": TWIST_SHARE}
            extension = {"specVersion": "1.0", "constraint": {"roll": roll}}
            document["nodes"][nodes[joint]].setdefault("extensions", {})["VRMC_node_constraint"] = extension
            found = True
    return found


def _collider(collider: Collider, nodes: dict[str, int]) -> dict:
    shape: dict = {"offset": list(collider.offset), "radius": collider.radius}
    if collider.tail is not None:
        shape["tail"] = list(collider.tail)
    kind = "sphere" if collider.tail is None else "capsule"
    return {"node": _node(collider.joint, nodes), "shape": {kind: shape}}


def _spring(chain: SpringChain, nodes: dict[str, int], collides: bool) -> dict:
    force = {
        "hitRadius": chain.radius,
        "stiffness": chain.stiffness,
        "gravityPower": chain.gravity,
        "gravityDir": DOWN,
        "dragForce": chain.drag,
    }
    spring: dict = {"name": chain.name, "joints": [{"node": _node(name, nodes)} | force for name in chain.joints]}
    if collides:
        spring["colliderGroups"] = [0]
    return spring


def _node(joint: str, nodes: dict[str, int]) -> int:
    if joint not in nodes:
        raise ExportError(f"a spring or collider names the joint {joint!r}, which the skeleton does not have")
    return nodes[joint]
