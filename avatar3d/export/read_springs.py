"""Springs and colliders of VRM 1.0 files (VRMC_springBone)."""

from __future__ import annotations

import numpy as np

from avatar3d.export.gltf_file import GltfFile
from avatar3d.export.read_skeleton import FileSkeleton
from avatar3d.structures import Collider, SpringChain

DEFAULTS = {"hitRadius": 0.0, "stiffness": 1.0, "gravityPower": 0.0, "dragForce": 0.5}
"""The specification's."""


def read_springs(
    file: GltfFile, bones: FileSkeleton, remarks: list[str]
) -> tuple[tuple[SpringChain, ...], tuple[Collider, ...]]:
    """Chains and colliders with the names of the avatar's joints.

    A chain has one set of forces here, in a file each joint may have its own: the middle one's are taken, which
    `remarks` says. All chains collide with all colliders.
    """
    extension = file.document.get("extensions", {}).get("VRMC_springBone", {})
    names = bones.skeleton.names
    chains: list[SpringChain] = []
    uneven = 0
    for number, spring in enumerate(extension.get("springs", [])):
        joints = [joint for joint in spring["joints"] if joint["node"] in bones.joint_of_node]
        if len(joints) < 2:
            remarks.append(f"the spring {spring.get('name', number)!r} has no two joints and is left out")
            continue
        forces = [[float(joint.get(key, value)) for key, value in DEFAULTS.items()] for joint in joints[:-1]]
        uneven += any(force != forces[0] for force in forces)
        radius, stiffness, gravity, drag = forces[len(forces) // 2]
        name = str(spring.get("name") or f"spring_{number}")
        while name in {chain.name for chain in chains}:
            name = f"{name}_{number}"
        chain = tuple(names[bones.joint_of_node[joint["node"]]] for joint in joints)
        chains.append(SpringChain(name, chain, radius, stiffness, gravity, drag))
    if uneven:
        remarks.append(f"{uneven} springs have joints of different forces, those of the middle one are kept")
    colliders = [_collider(entry, bones) for entry in extension.get("colliders", [])] if chains else []
    return tuple(chains), tuple(colliders)


def _collider(entry: dict, bones: FileSkeleton) -> Collider:
    node, (shape,) = entry["node"], entry["shape"].values()
    joint = bones.joint_above(node)
    origin = bones.skeleton.positions[joint].double().numpy()

    def from_joint(offset: list[float]) -> tuple[float, float, float]:
        x, y, z = (bones.world[node] @ [*offset, 1.0])[:3] - origin
        return (float(x), float(y), float(z))

    scale = float(np.cbrt(np.abs(np.linalg.det(bones.world[node][:3, :3]))))
    tail = from_joint(shape["tail"]) if "tail" in shape else None
    offset = from_joint(shape.get("offset", [0.0, 0.0, 0.0]))
    return Collider(bones.skeleton.names[joint], offset, scale * float(shape.get("radius", 0.0)), tail)
