"""How well skin and cloth follow the skeleton: collapse, twist, stretch, skin through cloth, holes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import cKDTree

from avatar3d.body.pose import Pose, pose_avatar
from avatar3d.mesh.rays import first_hit, ray_grid
from avatar3d.rotations import axis_angle_to_quaternion
from avatar3d.structures import Avatar, Mesh, Part

Array = np.ndarray

LIMB_JOINTS = {
    "shoulder": ("leftUpperArm", 0.075), "elbow": ("leftLowerArm", 0.065), "wrist": ("leftHand", 0.055),
    "hip": ("leftUpperLeg", 0.11), "knee": ("leftLowerLeg", 0.095), "ankle": ("leftFoot", 0.07),
}  # fmt: skip
"""Joint and radius of the ball around it in which volume is measured, metres on a body of 1.7 m."""
TWISTS = {
    "forearm": ("leftHand", "leftLowerArm", "leftHand", 90.0),
    "upper arm": ("leftLowerArm", "leftUpperArm", "leftLowerArm", 90.0),
    "shoulder": ("leftUpperArm", "leftUpperArm", "leftLowerArm", 60.0),
    "thigh": ("leftUpperLeg", "leftUpperLeg", "leftLowerLeg", 45.0),
}
"""Joint that turns, about the bone between two joints, by so many degrees both ways."""
SLICE = 0.012
"""Half the thickness of a cross-section, metres."""


def skin_of_avatar(posed: list[tuple[Part, Mesh]]) -> tuple[Array, Array]:
    """(V, 3) vertices and (F, 3) faces of the parts that are skin."""
    vertices, faces, count = [], [], 0
    for part, mesh in posed:
        if part.kind == "body":
            vertices.append(mesh.vertices.numpy().astype(np.float64))
            faces.append(mesh.faces.numpy() + count)
            count += len(mesh.vertices)
    return np.concatenate(vertices), np.concatenate(faces)


@dataclass(frozen=True)
class Joints:
    """Volume around the limb joints of a bare avatar at rest."""

    faces: dict[str, Array]
    volume: dict[str, float]


def joint_volume(vertices: Array, faces: Array, center: Array) -> float:
    """Volume between the joint's center and the patch of skin around it, by cones over its triangles."""
    a, b, c = (vertices[faces[:, i]] - center for i in range(3))
    return float(np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6)


def joints_at_rest(avatar: Avatar) -> Joints:
    """The patches of skin around `LIMB_JOINTS` and their volumes."""
    vertices, faces = skin_of_avatar([(p, p.mesh) for p in avatar.parts])
    names, positions = avatar.skeleton.names, avatar.skeleton.positions.numpy().astype(np.float64)
    size = positions[names.index("head"), 1] / 1.5
    middles = vertices[faces].mean(axis=1)
    patches, volumes = {}, {}
    for label, (joint, radius) in LIMB_JOINTS.items():
        center = positions[names.index(joint)]
        away = np.linalg.norm(middles - center, axis=1)
        patches[label] = faces[away < max(radius * size, 1.5 * float(away.min()))]
        volumes[label] = joint_volume(vertices, patches[label], center)
    return Joints(patches, volumes)


def volumes_kept(avatar: Avatar, joints: Joints, pose: Pose, transforms: Array) -> dict[str, float]:
    """Share of the volume at rest that each limb joint keeps in a pose; `transforms` (J, 4, 4) of the pose."""
    vertices, _ = skin_of_avatar(pose_avatar(avatar, pose, {}))
    names, positions = avatar.skeleton.names, avatar.skeleton.positions.numpy().astype(np.float64)
    kept = {}
    for label, (joint, _) in LIMB_JOINTS.items():
        index = names.index(joint)
        center = transforms[index, :3] @ np.append(positions[index], 1.0)
        kept[label] = joint_volume(vertices, joints.faces[label], center) / joints.volume[label]
    return kept


def narrowest(avatar: Avatar, twist: str) -> float:
    """Least share of a limb's cross-section that is left when it is twisted both ways (the candy wrapper)."""
    joint, start, end, degrees = TWISTS[twist]
    names, positions = avatar.skeleton.names, avatar.skeleton.positions.numpy().astype(np.float64)
    a, b = positions[names.index(start)], positions[names.index(end)]
    axis = (b - a) / np.linalg.norm(b - a)
    rest, _ = skin_of_avatar([(p, p.mesh) for p in avatar.parts])
    along = (rest - a) @ axis
    radial = np.linalg.norm(rest - a - along[:, None] * axis, axis=1)
    length = np.linalg.norm(b - a)
    limb = radial < 0.42 * length
    least = np.inf
    for sign in (-1.0, 1.0):
        turn = torch.tensor(axis * sign * math.radians(degrees), dtype=torch.float32)
        posed, _ = skin_of_avatar(pose_avatar(avatar, {joint: axis_angle_to_quaternion(turn)}, {}))
        now = np.linalg.norm(posed - a - ((posed - a) @ axis)[:, None] * axis, axis=1)
        for at in np.linspace(0.15 * length, 1.02 * length, 30):
            ring = limb & (np.abs(along - at) < SLICE)
            if ring.sum() > 8:
                least = min(least, float((now[ring] ** 2).mean() / (radial[ring] ** 2).mean()))
    return least


def stretch(rest: Mesh, posed: Mesh) -> Array:
    """(F,) largest principal stretch of each triangle that is more than a millimeter high."""

    def frame(mesh: Mesh) -> tuple[Array, Array]:
        p = mesh.vertices.numpy().astype(np.float64)[mesh.faces.numpy()]
        return p[:, 1] - p[:, 0], p[:, 2] - p[:, 0]

    (u, v), (x, y) = frame(rest), frame(posed)
    length = np.linalg.norm(u, axis=1)
    along = np.einsum("ij,ij->i", u, v) / np.maximum(length, 1e-12)
    height = np.sqrt(np.maximum(np.einsum("ij,ij->i", v, v) - along**2, 0.0))
    fine = (length > 1e-5) & (height > 1e-3)
    e1 = x[fine] / length[fine, None]
    e2 = (y[fine] - along[fine, None] * e1) / height[fine, None]
    p, q, r = ((a * b).sum(axis=1) for a, b in ((e1, e1), (e1, e2), (e2, e2)))
    return np.sqrt((p + r) / 2 + np.sqrt(((p - r) / 2) ** 2 + q**2))


def triangles_of(posed: list[tuple[Part, Mesh]], kinds: tuple[str, ...]) -> Array:
    """(T, 3, 3) triangles of the parts of some kinds."""
    found = [m.vertices[m.faces].numpy().astype(np.float64) for p, m in posed if p.kind in kinds]
    return np.concatenate(found)


CLOTH = ("top", "bottom")
THROUGH = (0.0005, 0.02)
"""Skin counts as through the cloth when no cloth is before it but some is so far behind it, metres."""


def covered_at_rest(avatar: Avatar, inside: float = 0.03) -> Array:
    """(N,) vertices of the avatar's skin under cloth: it lies before them, and before all skin within `inside`."""
    posed = [(p, p.mesh) for p in avatar.parts]
    vertices, faces = skin_of_avatar(posed)
    grid = ray_grid(triangles_of(posed, CLOTH))
    under = np.isfinite(first_hit(grid, vertices, vertex_directions(vertices, faces), 0.12)[0])
    bare = cKDTree(vertices[~under])
    return np.flatnonzero(under & (bare.query(vertices)[0] > inside)) if (~under).any() else np.flatnonzero(under)


def vertex_directions(vertices: Array, faces: Array) -> Array:
    """(V, 3) unit vertex normals."""
    normals = np.zeros_like(vertices)
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    for i in range(3):
        np.add.at(normals, faces[:, i], np.cross(b - a, c - a))
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)


def through_cloth(posed: list[tuple[Part, Mesh]], chosen: Array) -> Array:
    """The vertices among `chosen` (indices into the skin) that stick out of cloth, and how far, (K, 2)."""
    vertices, faces = skin_of_avatar(posed)
    origins, out = vertices[chosen], vertex_directions(vertices, faces)[chosen]
    grid = ray_grid(triangles_of(posed, CLOTH))
    before, behind = first_hit(grid, origins, out, 0.08)[0], first_hit(grid, origins, -out, THROUGH[1])[0]
    bad = np.isinf(before) & np.isfinite(behind) & (behind > THROUGH[0])
    return np.stack([chosen[bad], behind[bad]], axis=1)


CAMERAS = [(elevation, azimuth) for elevation in (-25, 30) for azimuth in range(0, 360, 60)]
"""Twelve directions to look from, degrees."""
BEYOND = 0.6
"""How far behind the place of hidden skin the inside of something is looked for, metres."""


def holes(shown: list[tuple[Part, Mesh]], full: Array, hidden: Array) -> Array:
    """(F,) from how many of `CAMERAS` one would look through each hidden face at the inside of something.

    `full` (V, 3) is the posed skin with all faces, `hidden` (F, 3) the faces of it that were left out. Where skin
    stuck out of a shoe, the shoe or what is behind it is seen instead, which is no hole; nobody looks into shoes.
    """
    kinds = tuple({p.kind for p, _ in shown} - {"lashes", "brows", "glasses", "jewellery"})
    triangles = triangles_of(shown, kinds)
    grid = ray_grid(triangles)
    shoes = np.concatenate([np.full(len(m.faces), p.kind == "shoes") for p, m in shown if p.kind in kinds])
    outside = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    a, b, c = (full[hidden[:, i]] for i in range(3))
    middle, normal = (a + b + c) / 3, np.cross(b - a, c - a)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    seen = np.zeros(len(hidden), int)
    for elevation, azimuth in np.radians(CAMERAS):
        toward = np.array([math.cos(elevation) * math.sin(azimuth), math.sin(elevation),
                           math.cos(elevation) * math.cos(azimuth)])  # fmt: skip
        facing = np.flatnonzero(normal @ toward > 0.1)
        rays = np.broadcast_to(toward, (len(facing), 3))
        free = np.isinf(first_hit(grid, middle[facing] + 2e-4 * normal[facing], rays, 3.0)[0])
        facing = facing[free]
        beyond = first_hit(grid, middle[facing], -rays[: len(facing)], BEYOND)[1]
        seen[facing[(beyond >= 0) & ~shoes[beyond] & (outside[beyond] @ toward < 0)]] += 1
    return seen
