"""Posing: forward kinematics, morph targets and linear blend skinning of whole avatars.

A pose maps joint names to rotations about the joint's own rest position in the avatar's axes, applied in the
parent's frame (the skeleton is axis-aligned at rest). Quaternions are `wxyz`.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.rotations import axis_angle_to_quaternion, quaternion_to_matrix
from avatar3d.structures import Avatar, Mesh, Part, Skeleton

Pose = dict[str, Float[Tensor, " 4"]]


class PoseError(ValueError):
    """A pose or expression that names something the avatar does not have."""


def rotate(axis: str, degrees: float) -> Float[Tensor, " 4"]:
    """Quaternion of a turn about the avatar's x (left), y (up) or z (front) axis."""
    direction = torch.eye(3)["xyz".index(axis)]
    return axis_angle_to_quaternion(direction * math.radians(degrees))


def joint_transforms(skeleton: Skeleton, pose: Pose) -> Float[Tensor, "J 4 4"]:
    """`T_posed_rest` of every joint: maps rest positions to posed positions."""
    unknown = set(pose) - set(skeleton.names)
    if unknown:
        raise PoseError(f"no joint {sorted(unknown)[0]!r}; the joints are: {', '.join(skeleton.names)}")
    transforms: list[Tensor] = []
    for name, parent, position in zip(skeleton.names, skeleton.parents, skeleton.positions, strict=True):
        local = torch.eye(4).to(position)
        if name in pose:
            rotation = quaternion_to_matrix(pose[name].to(position))
            local[:3, :3] = rotation
            local[:3, 3] = position - rotation @ position
        transforms.append(local if parent < 0 else transforms[parent] @ local)
    return torch.stack(transforms)


def skin_points(
    points: Float[Tensor, "V 3"],
    joints: Tensor,
    weights: Float[Tensor, "V 4"],
    transforms: Float[Tensor, "J 4 4"],
) -> Float[Tensor, "V 3"]:
    """Linear blend skinning: each point under the weighted mean of its joints' transforms."""
    blended = (weights[:, :, None, None] * transforms[joints]).sum(dim=1)
    return torch.einsum("vij,vj->vi", blended[:, :3, :3], points) + blended[:, :3, 3]


def _skin_directions(directions: Tensor, joints: Tensor, weights: Tensor, transforms: Tensor) -> Tensor:
    blended = (weights[:, :, None, None] * transforms[joints][..., :3, :3]).sum(dim=1)
    return torch.nn.functional.normalize(torch.einsum("vij,vj->vi", blended, directions), dim=-1)


def morph_part(part: Part, expression: dict[str, float]) -> Mesh:
    """The part's mesh with ARKit weights applied; normals are recomputed where the surface moves."""
    from avatar3d.mesh.normals import vertex_normals, weld_by_position

    if part.morphs is None:
        return part.mesh
    weights = torch.tensor([expression.get(name, 0.0) for name in part.morphs.names])
    if not weights.any():
        return part.mesh
    moved = torch.einsum("m,mvc->vc", weights.to(part.morphs.deltas), part.morphs.deltas)
    vertices = part.mesh.vertices + moved
    weld = weld_by_position(part.mesh.vertices)
    changed = moved.norm(dim=-1, keepdim=True) > 1e-6
    normals = torch.where(changed, vertex_normals(vertices, part.mesh.faces, weld), part.mesh.normals)
    return replace(part.mesh, vertices=vertices, normals=normals)


def pose_avatar(avatar: Avatar, pose: Pose, expression: dict[str, float] | None = None) -> list[tuple[Part, Mesh]]:
    """Every part with its posed mesh. `expression` defaults to the avatar's own; weights are per ARKit name."""
    transforms = joint_transforms(avatar.skeleton, pose)
    expression = avatar.expression if expression is None else expression
    posed = []
    for part in avatar.parts:
        mesh = morph_part(part, expression)
        skin = part.skin
        if pose:
            mesh = replace(
                mesh,
                vertices=skin_points(mesh.vertices, skin.joints, skin.weights, transforms),
                normals=_skin_directions(mesh.normals, skin.joints, skin.weights, transforms),
            )
        posed.append((part, mesh))
    return posed


def relaxed_pose() -> Pose:
    """Arms hanging a little away from the body: the pose of the pictures."""
    pose = {}
    for side, sign in (("left", -1.0), ("right", 1.0)):
        pose[f"{side}UpperArm"] = rotate("z", sign * 28.0)
        pose[f"{side}LowerArm"] = rotate("x", -12.0)
    return pose
