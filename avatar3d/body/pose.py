"""Posing: forward kinematics, morph targets and linear blend skinning of whole avatars.

A pose maps joint names to rotations about the joint's own rest position in the avatar's axes, applied in the
parent's frame (the skeleton is axis-aligned at rest). Quaternions are `wxyz`.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from avatar3d.body.template import load_template
from avatar3d.errors import InputError
from avatar3d.mesh.normals import vertex_normals, weld_by_position
from avatar3d.rotations import axis_angle_to_quaternion, quaternion_multiply, quaternion_to_matrix
from avatar3d.structures import Avatar, Mesh, Part, Skeleton

Pose = dict[str, Float[Tensor, " 4"]]


class PoseError(InputError, ValueError):
    """A pose or expression that names something the avatar does not have."""


def rotate(axis: str, degrees: float) -> Float[Tensor, " 4"]:
    """Quaternion of a turn about the avatar's x (left), y (up) or z (front) axis."""
    direction = torch.eye(3)["xyz".index(axis)]
    return axis_angle_to_quaternion(direction * math.radians(degrees))


Offsets = dict[str, Float[Tensor, " 3"]]
"""Joint -> metres from its rest place, in the parent's axes at rest."""


def joint_transforms(skeleton: Skeleton, pose: Pose, offsets: Offsets | None = None) -> Float[Tensor, "J 4 4"]:
    """`T_posed_rest` of every joint: maps rest positions to posed positions."""
    offsets = offsets or {}
    unknown = (set(pose) | set(offsets)) - set(skeleton.names)
    if unknown:
        raise PoseError(f"no joint {sorted(unknown)[0]!r}; the joints are: {', '.join(skeleton.names)}")
    transforms: list[Tensor] = []
    for name, parent, position in zip(skeleton.names, skeleton.parents, skeleton.positions, strict=True):
        local = torch.eye(4).to(position)
        if name in pose:
            rotation = quaternion_to_matrix(pose[name].to(position))
            local[:3, :3] = rotation
            local[:3, 3] = position - rotation @ position
        if name in offsets:
            local[:3, 3] += offsets[name].to(position)
        transforms.append(local if parent < 0 else transforms[parent] @ local)
    return torch.stack(transforms)


def skin_transforms(
    joints: Int[Tensor, "V 4"], weights: Float[Tensor, "V 4"], transforms: Float[Tensor, "J 4 4"]
) -> Float[Tensor, "V 3 4"]:
    """Weighted mean of each vertex's joint transforms."""
    rows = transforms[:, :3].reshape(len(transforms), 12)
    blended = weights[:, :1] * rows[joints[:, 0]]
    for k in range(1, 4):
        blended = blended + weights[:, k : k + 1] * rows[joints[:, k]]
    return blended.view(-1, 3, 4)


def skin_points(
    points: Float[Tensor, "V 3"],
    joints: Int[Tensor, "V 4"],
    weights: Float[Tensor, "V 4"],
    transforms: Float[Tensor, "J 4 4"],
) -> Float[Tensor, "V 3"]:
    """Linear blend skinning: each point under the weighted mean of its joints' transforms."""
    return _apply(skin_transforms(joints, weights, transforms), points)


def _apply(blended: Float[Tensor, "V 3 4"], points: Float[Tensor, "V 3"]) -> Float[Tensor, "V 3"]:
    return torch.baddbmm(blended[:, :, 3:], blended[:, :, :3], points[:, :, None])[:, :, 0]


def morph_part(part: Part, expression: dict[str, float]) -> Mesh:
    """The part's mesh with ARKit weights applied; normals turn with the surface where it moves."""
    if part.morphs is None:
        return part.mesh
    mesh = part.mesh
    active = [(i, expression[name]) for i, name in enumerate(part.morphs.names) if expression.get(name)]
    if not active:
        return mesh
    moved = torch.zeros_like(mesh.vertices)
    for index, weight in active:
        moved += weight * part.morphs.deltas[index]
    vertices = mesh.vertices + moved
    changed = (moved.abs() > 1e-6).any(dim=1)
    faces = mesh.faces[changed[mesh.faces].any(dim=1)]
    near, faces = torch.unique(faces, return_inverse=True)
    faces = faces.reshape(-1, 3)
    weld = weld_by_position(mesh.vertices[near])
    turn = vertex_normals(vertices[near], faces, weld) - vertex_normals(mesh.vertices[near], faces, weld)
    turned = torch.nn.functional.normalize(mesh.normals[near] + turn, dim=-1)
    normals = mesh.normals.clone()
    normals[near] = torch.where(changed[near, None], turned, mesh.normals[near])
    return replace(mesh, vertices=vertices, normals=normals)


def pose_avatar(
    avatar: Avatar, pose: Pose, expression: dict[str, float] | None = None, offsets: Offsets | None = None
) -> list[tuple[Part, Mesh]]:
    """Every part with its posed mesh. `expression` defaults to the avatar's own; weights are per ARKit name.

    Raises `PoseError` for a joint that the avatar does not have.
    """
    transforms = joint_transforms(avatar.skeleton, pose, offsets)
    expression = avatar.expression if expression is None else expression
    posed = []
    for part in avatar.parts:
        mesh = morph_part(part, expression)
        if pose or offsets:
            blended = skin_transforms(part.skin.joints, part.skin.weights, transforms)
            normals = torch.bmm(blended[:, :, :3], mesh.normals[:, :, None])[:, :, 0]
            mesh = replace(
                mesh,
                vertices=_apply(blended, mesh.vertices),
                normals=torch.nn.functional.normalize(normals, dim=-1),
            )
        posed.append((part, mesh))
    return posed


ARM_DROP = 25.0
ELBOW_EASE = 28.0
FINGER_CURL = (7.0, 10.0, 7.0)
THUMB_REST = 24.0
"""Degrees from the rest pose: arms down, elbows straighter, the joints of each finger, the thumb to the index."""
FINGERS = (("Index", 0.7, 5.0), ("Middle", 1.0, 0.0), ("Ring", 1.2, 4.0), ("Little", 1.35, 9.0))
"""Share of the curl, and degrees towards the middle finger."""


def relaxed_pose() -> Pose:
    """Arms hanging a little away from the body, elbows and fingers slightly bent: the pose of the pictures."""
    pose = {}
    for side, sign in (("left", -1.0), ("right", 1.0)):
        pose[f"{side}UpperArm"] = rotate("z", sign * ARM_DROP)
        pose[f"{side}LowerArm"] = rotate("x", ELBOW_EASE)
        pose |= _relaxed_hand(side)
    return pose


@cache
def _relaxed_hand(side: str) -> Pose:
    """Half-curled fingers that lie closer together than at rest; axes are those of the template's hand."""
    template = load_template()

    def head(name: str) -> Tensor:
        return template.bone_heads[template.bone_names.index(f"{side}{name}")]

    def turn(axis: Tensor, degrees: float) -> Tensor:
        return axis_angle_to_quaternion(torch.nn.functional.normalize(axis, dim=0) * math.radians(degrees))

    knuckles = (head("LittleProximal") - head("IndexProximal")) * (1.0 if side == "left" else -1.0)
    middle = head("MiddleDistal") - head("MiddleProximal")
    pose = {}
    for finger, share, together in FINGERS:
        for segment, degrees in zip(("Proximal", "Intermediate", "Distal"), FINGER_CURL, strict=True):
            pose[f"{side}{finger}{segment}"] = turn(knuckles, share * degrees)
        if together:
            along = head(f"{finger}Distal") - head(f"{finger}Proximal")
            sideways = turn(torch.linalg.cross(along, middle), together)
            pose[f"{side}{finger}Proximal"] = quaternion_multiply(pose[f"{side}{finger}Proximal"], sideways)
    thumb = head("ThumbDistal") - head("ThumbMetacarpal")
    pose[f"{side}ThumbMetacarpal"] = turn(torch.linalg.cross(thumb, middle), THUMB_REST)
    return pose
