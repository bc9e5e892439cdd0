"""The skeleton of a glTF file, in our names where they can be told."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from avatar3d.export.gltf_file import AvatarFileError, GltfFile, parents_of_nodes, world_matrices
from avatar3d.export.profiles import OURS, PROFILES, recognize
from avatar3d.structures import Skeleton

LARGEST_SKELETON = 65535
_VRM_0_THUMBS = {"Proximal": "Metacarpal", "Intermediate": "Proximal", "Distal": "Distal"}
_HALF_TURN = np.diag([-1.0, 1.0, -1.0, 1.0])


@dataclass(frozen=True)
class FileSkeleton:
    """Joints of all skins of a file as one skeleton."""

    skeleton: Skeleton
    profile: str | None
    inserted: frozenset[str]
    """Names of joints that only the profile's hierarchy has."""
    joint_of_node: dict[int, int]
    node_parents: list[int]
    world: np.ndarray
    """(N, 4, 4) rest transforms of the file's nodes, so turned that the avatar faces +Z."""

    def joint_above(self, node: int) -> int:
        """The joint that a node is or hangs on; the first joint if there is none."""
        while node >= 0:
            if node in self.joint_of_node:
                return self.joint_of_node[node]
            node = self.node_parents[node]
        return 0


def read_skeleton(file: GltfFile, remarks: list[str]) -> FileSkeleton:
    """Raises `AvatarFileError` when no mesh of the file has a skin."""
    parents = parents_of_nodes(file)
    world = world_matrices(file, parents)
    skins = [node["skin"] for node in file.entries("nodes") if "mesh" in node and "skin" in node]
    listed = [joint for skin in dict.fromkeys(skins) for joint in file.entry("skins", skin)["joints"]]
    if not listed:
        raise AvatarFileError(
            "has no skeleton, so it can not be posed; draw it with `avatar3d render`, or rig it first (Mixamo and "
            "Blender's Rigify do that)"
        )
    vrm = _vrm_bones(file)
    nodes = _parents_first([*listed, *vrm, *_spring_nodes(file)], parents)
    if len(nodes) > LARGEST_SKELETON:
        raise AvatarFileError(f"has {len(nodes)} joints, more than {LARGEST_SKELETON}")
    raw = _unique(str(file.entry("nodes", node).get("name") or f"joint_{node}") for node in nodes)
    names, profile, inserted = _our_names(raw, nodes, vrm)
    joint_of_node = {node: joint for joint, node in enumerate(nodes)}
    above = [_joint_above(parents[node], joint_of_node, parents) for node in nodes]
    if _faces_back(names, world[nodes, :3, 3]):
        world = _HALF_TURN @ world
        remarks.append("the figure faces -Z, it is turned around")
    positions = torch.from_numpy(world[nodes, :3, 3]).float()
    skeleton = Skeleton(tuple(names), tuple(above), positions)
    if profile is None:
        remarks.append(f"the joints follow no known naming and keep their names ({', '.join(raw[:3])}, ...)")
    elif "root" not in names and skeleton.parents[names.index("hips")] < 0:
        skeleton = _with_root(skeleton)
        joint_of_node = {node: joint + 1 for node, joint in joint_of_node.items()}
    return FileSkeleton(skeleton, profile, inserted, joint_of_node, parents, world)


def _vrm_bones(file: GltfFile) -> dict[int, str]:
    """Node -> our joint, as a VRM file (1.0 or 0.x) says."""
    extensions = file.document.get("extensions", {})
    if "VRMC_vrm" in extensions:
        bones = extensions["VRMC_vrm"]["humanoid"]["humanBones"]
        pairs = [(entry["node"], bone) for bone, entry in bones.items()]
    elif "VRM" in extensions:
        pairs = [(entry["node"], entry["bone"]) for entry in extensions["VRM"]["humanoid"]["humanBones"]]
        for side in ("left", "right"):
            thumbs = {f"{side}Thumb{old}": f"{side}Thumb{new}" for old, new in _VRM_0_THUMBS.items()}
            pairs = [(node, thumbs.get(bone, bone)) for node, bone in pairs]
    else:
        pairs = []
    for node, _ in pairs:
        file.entry("nodes", node)
    return {node: bone for node, bone in pairs if bone in OURS}


def _spring_nodes(file: GltfFile) -> list[int]:
    """The nodes that swing: joints of the avatar also where no vertex follows them, as at the ends of chains."""
    springs = file.document.get("extensions", {}).get("VRMC_springBone", {}).get("springs", [])
    return [joint["node"] for spring in springs for joint in spring["joints"]]


def _parents_first(nodes: Iterable[int], parents: list[int]) -> list[int]:
    """Each node once, in the given order but behind those that it hangs on."""
    wanted, order = dict.fromkeys(nodes), {}
    for node in wanted:
        if not isinstance(node, int) or not 0 <= node < len(parents):
            raise AvatarFileError(f"a skin has the joint {node!r}, which is no node; export it again")
        chain = [node]
        while parents[chain[-1]] >= 0:
            chain.append(parents[chain[-1]])
        order.update(dict.fromkeys(n for n in reversed(chain) if n in wanted))
    return list(order)


def _unique(names: Iterable[str]) -> list[str]:
    taken: dict[str, None] = {}
    for name in names:
        free, n = name, 2
        while free in taken:
            free, n = f"{name}_{n}", n + 1
        taken[free] = None
    return list(taken)


def _our_names(
    raw: list[str], nodes: list[int], vrm: dict[int, str]
) -> tuple[list[str], str | None, frozenset[str]]:
    """Names of joints, name of the profile, names of joints that only it has."""
    recognized = recognize(raw)
    inserted: frozenset[str] = frozenset()
    if vrm:
        known, profile = {raw[nodes.index(node)]: bone for node, bone in vrm.items()}, "vrm"
        if "root" in raw and "root" not in known:
            known["root"] = "root"
    elif recognized is not None:
        profile, known = recognized[0].name, recognized[1]
        inserted = frozenset(bone.name for bone in PROFILES[profile].inserted)
        inserted |= {name.replace(":", "") for name in inserted}
    else:
        return raw, None, inserted
    names = [known.get(name, f"{name}_" if name in known.values() else name) for name in raw]
    return _unique(names), profile, inserted


def _joint_above(node: int, joint_of_node: dict[int, int], parents: list[int]) -> int:
    while node >= 0 and node not in joint_of_node:
        node = parents[node]
    return joint_of_node[node] if node >= 0 else -1


def _faces_back(names: list[str], positions: np.ndarray) -> bool:
    """Whether the left leg is on the right: VRM 0.x files face -Z."""
    if not {"leftUpperLeg", "rightUpperLeg"} <= set(names):
        return False
    return bool(positions[names.index("leftUpperLeg"), 0] < positions[names.index("rightUpperLeg"), 0])


def _with_root(skeleton: Skeleton) -> Skeleton:
    """Our skeletons have a joint on the ground above the hips."""
    parents = (-1, *(parent + 1 for parent in skeleton.parents))
    return Skeleton(("root", *skeleton.names), parents, torch.cat([torch.zeros(1, 3), skeleton.positions]))
