"""Is a file a valid VRM 1.0? What schemas say (`vrm_shapes`), and what they can not say.

`vrm_errors` is run on files of any origin, so it takes nothing for granted.
"""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
from PIL import Image

from avatar3d.export.binary import split_glb
from avatar3d.export.vrm_humanoid import NEEDS_PARENT, PARENTS
from avatar3d.export.vrm_shapes import CONSTRAINT, SPRINGS, VRM

SOLE_HEIGHT = 0.02
"""Metres that the lowest vertex may be above or below Y = 0."""
STRAIGHT = {"UpperArm": 1.0, "LowerArm": 1.0}
"""Degrees that a bone, towards the next one, may deviate from the X axis in T-pose."""
NEXT = {"UpperArm": "LowerArm", "LowerArm": "Hand"}


def vrm_errors(data: bytes) -> list[str]:
    """What is wrong with the bytes of a VRM file; empty if nothing is. Each error names the place."""
    try:
        return _errors(*split_glb(data))
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
        return [f"the file is broken ({type(error).__name__}: {error})"]


def _errors(document: dict, binary: bytes) -> list[str]:
    extensions = document.get("extensions", {})
    if "VRMC_vrm" not in extensions:
        found = " (it is a VRM 0.x file)" if "VRM" in extensions else ""
        return [f"the file has no VRMC_vrm extension{found}"]
    errors = list(VRM(extensions["VRMC_vrm"], "/extensions/VRMC_vrm", document))
    if "VRMC_springBone" in extensions:
        errors += SPRINGS(extensions["VRMC_springBone"], "/extensions/VRMC_springBone", document)
    errors += _file(document)
    if errors:  # what follows relies on indices and types
        return errors
    vrm = extensions["VRMC_vrm"]
    errors += _bones(document, vrm["humanoid"]["humanBones"])
    errors += _pose(document, vrm["humanoid"]["humanBones"])
    errors += _expressions(document, vrm.get("expressions", {}))
    errors += _gaze(vrm)
    errors += _thumbnail(document, binary, vrm["meta"])
    errors += _annotations(document, vrm.get("firstPerson", {}))
    errors += _springs(document, extensions.get("VRMC_springBone", {}))
    errors += _constraints(document)
    return errors


def _file(document: dict) -> Iterator[str]:
    """What a VRM may hold, beside its extensions."""
    used = set(document.get("extensionsUsed", []))
    inside = set(document.get("extensions", {}))
    for number, node in enumerate(document.get("nodes", [])):
        inside |= set(node.get("extensions", {}))
        if "VRMC_node_constraint" in node.get("extensions", {}):
            path = f"/nodes/{number}/extensions/VRMC_node_constraint"
            yield from CONSTRAINT(node["extensions"]["VRMC_node_constraint"], path, document)
        for child in node.get("children", []):
            if not isinstance(child, int) or not 0 <= child < len(document["nodes"]):
                yield f"/nodes/{number}/children has {child!r}, which is no node"
    yield from (f"extensionsUsed does not list {name}" for name in sorted(inside - used))
    for kind in ("animations", "cameras"):
        if document.get(kind):
            yield f"a VRM has no {kind}"
    for number, image in enumerate(document.get("images", [])):
        if image.get("mimeType") not in ("image/png", "image/jpeg"):
            yield f"/images/{number} is {image.get('mimeType')}, a VRM holds PNG and JPEG only"


def _bones(document: dict, human_bones: dict) -> Iterator[str]:
    """Each bone a node of its own, below the bone that it must hang on, with a positive uniform scale."""
    bone_of: dict[int, str] = {}
    for bone, entry in human_bones.items():
        if entry["node"] in bone_of:
            yield f"{bone} and {bone_of[entry['node']]} are the same node"
        bone_of[entry["node"]] = bone
        if bone in NEEDS_PARENT and PARENTS[bone] not in human_bones:
            yield f"{bone} needs {PARENTS[bone]}"
    parent = _parents(document)
    for bone, entry in human_bones.items():
        above = PARENTS[bone]
        while above is not None and above not in human_bones:
            above = PARENTS[above]
        actual = next((bone_of[node] for node in _ancestors(entry["node"], parent) if node in bone_of), None)
        if actual != above:
            yield f"{bone} hangs on {actual or 'no bone'}, must hang on {above or 'no bone'}"
    for number, node in enumerate(document["nodes"]):
        scale = node.get("scale", [1.0, 1.0, 1.0])
        if min(scale) <= 0 or max(scale) - min(scale) > 1e-5 * max(scale):
            yield f"/nodes/{number}/scale is {scale}, must be uniform and positive"


def _pose(document: dict, human_bones: dict) -> Iterator[str]:
    """T-pose: arms along X, toes in front, left is +X, soles at Y = 0."""
    world = _world_matrices(document)
    place = {bone: world[entry["node"]][:3, 3] for bone, entry in human_bones.items()}
    for side, sign in (("left", 1.0), ("right", -1.0)):
        for bone, degrees in STRAIGHT.items():
            along = place[f"{side}{NEXT[bone]}"] - place[f"{side}{bone}"]
            length = np.linalg.norm(along)
            angle = np.degrees(np.arccos(np.clip(sign * along[0] / max(length, 1e-9), -1.0, 1.0)))
            if angle > degrees:
                yield f"not in T-pose: {side}{bone} is {angle:.1f} degrees off the X axis"
        toes = place.get(f"{side}Toes")
        if toes is not None and toes[2] <= place[f"{side}Foot"][2]:
            yield f"does not face +Z: {side}Toes is behind {side}Foot"
    lowest = min(
        (
            document["accessors"][primitive["attributes"]["POSITION"]]["min"][1]
            for mesh in document.get("meshes", [])
            for primitive in mesh["primitives"]
        ),
        default=0.0,
    )
    if abs(lowest) > SOLE_HEIGHT:
        yield f"the lowest vertex is at Y = {lowest:.3f} m, the soles must be at 0"


def _expressions(document: dict, expressions: dict) -> Iterator[str]:
    """Binds point to morph targets that exist."""
    for group in ("preset", "custom"):
        for name, expression in expressions.get(group, {}).items():
            for bind in expression.get("morphTargetBinds", []):
                node = document["nodes"][bind["node"]]
                if "mesh" not in node:
                    yield f"expression {name} binds node {bind['node']}, which has no mesh"
                    continue
                primitives = document["meshes"][node["mesh"]]["primitives"]
                count = min(len(primitive.get("targets", [])) for primitive in primitives)
                if bind["index"] >= count:
                    yield f"expression {name} binds target {bind['index']} of {count} of node {bind['node']}"


def _gaze(vrm: dict) -> Iterator[str]:
    kind = vrm.get("lookAt", {}).get("type")
    if kind == "bone" and not {"leftEye", "rightEye"} <= set(vrm["humanoid"]["humanBones"]):
        yield "lookAt turns eye bones, which the humanoid does not have"
    looks = {"lookUp", "lookDown", "lookLeft", "lookRight"}
    if kind == "expression" and not looks <= set(vrm.get("expressions", {}).get("preset", {})):
        yield "lookAt uses expressions, of which some are absent"


def _thumbnail(document: dict, binary: bytes, meta: dict) -> Iterator[str]:
    if "thumbnailImage" not in meta:
        return
    image = document["images"][meta["thumbnailImage"]]
    try:
        view = document["bufferViews"][image["bufferView"]]
        begin = view.get("byteOffset", 0)
        with Image.open(io.BytesIO(binary[begin : begin + view["byteLength"]])) as picture:
            picture.load()
            kind, (width, height) = picture.format, picture.size
    except (OSError, LookupError, TypeError) as error:
        yield f"the thumbnail can not be read ({error})"
        return
    if width != height:
        yield f"the thumbnail is {width} x {height} pixels, must be square"
    if f"image/{str(kind).lower()}" != image.get("mimeType"):
        yield f"the thumbnail is a {kind}, its mimeType says {image.get('mimeType')}"


def _annotations(document: dict, first_person: dict) -> Iterator[str]:
    for entry in first_person.get("meshAnnotations", []):
        if "mesh" not in document["nodes"][entry["node"]]:
            yield f"firstPerson annotates node {entry['node']}, which has no mesh"


def _springs(document: dict, springs: dict) -> Iterator[str]:
    """Each joint in one spring only and below its predecessor; groups and colliders exist."""
    parent = _parents(document)
    taken: dict[int, str] = {}
    for group in springs.get("colliderGroups", []):
        if max(group["colliders"]) >= len(springs.get("colliders", [])):
            yield f"collider group {group.get('name')} names a collider that is not there"
    for number, spring in enumerate(springs.get("springs", [])):
        name = spring.get("name", f"spring {number}")
        if max(spring.get("colliderGroups", [-1])) >= len(springs.get("colliderGroups", [])):
            yield f"{name} names a collider group that is not there"
        joints = [joint["node"] for joint in spring["joints"]]
        for before, joint in zip([None, *joints], joints, strict=False):
            if joint in taken:
                yield f"node {joint} swings in {taken[joint]} and in {name}"
            taken[joint] = name
            if before is not None and before not in _ancestors(joint, parent):
                yield f"{name}: node {joint} does not hang on node {before}"


def _constraints(document: dict) -> Iterator[str]:
    """No node is its own source, directly or through others."""
    source: dict[int, int] = {}
    for number, node in enumerate(document["nodes"]):
        constraint = node.get("extensions", {}).get("VRMC_node_constraint", {}).get("constraint", {})
        for kind in constraint.values():
            source[number] = kind["source"]
    for begin in source:
        node, steps = source[begin], 0
        while node in source and node != begin and steps < len(source):
            node, steps = source[node], steps + 1
        if node == begin:
            yield f"the constraint of node {begin} depends on itself"


def _parents(document: dict) -> dict[int, int]:
    return {child: n for n, node in enumerate(document["nodes"]) for child in node.get("children", [])}


def _ancestors(node: int, parent: dict[int, int]) -> list[int]:
    above: list[int] = []
    while node in parent and parent[node] not in above:
        node = parent[node]
        above.append(node)
    return above


def _world_matrices(document: dict) -> list[np.ndarray]:
    """T_world_node of every node at rest, (4, 4)."""
    parent = _parents(document)
    local = [_local_matrix(node) for node in document["nodes"]]
    world = []
    for number in range(len(local)):
        matrix = local[number]
        for above in _ancestors(number, parent):
            matrix = local[above] @ matrix
        world.append(matrix)
    return world


def _local_matrix(node: dict) -> np.ndarray:
    if "matrix" in node:
        return np.array(node["matrix"], dtype=np.float64).reshape(4, 4).T
    x, y, z, w = node.get("rotation", [0.0, 0.0, 0.0, 1.0])
    matrix = np.eye(4)
    matrix[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    matrix[:3, :3] *= np.array(node.get("scale", [1.0, 1.0, 1.0]))
    matrix[:3, 3] = node.get("translation", [0.0, 0.0, 0.0])
    return matrix
