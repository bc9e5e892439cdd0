"""Levels of detail: a whole avatar with a given number of triangles.

All parts share one queue of edge collapses, so that the next triangle to go is the one that is missed least
anywhere. Errors on the face count more than those on shoes. Ribbons of hair have rules of their own
(`export.strands`).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from avatar3d.export.strands import Ribbons, find_ribbons, thinned
from avatar3d.mesh.decimate import decimate, principal
from avatar3d.mesh.normals import weld_by_position
from avatar3d.structures import Avatar, Mesh, MorphTargets, Part, Skin

DENSITY = {
    "body": 1.0, "eyes": 2.2, "teeth": 0.8, "tongue": 0.8, "lashes": 5.0, "brows": 2.0, "hair": 0.8, "beard": 1.0,
    "glasses": 1.6, "hat": 1.0, "top": 0.9, "bottom": 0.85, "shoes": 0.8, "jewellery": 1.0,
}  # fmt: skip
"""How many times more triangles a kind of part gets than equal shapes of the body elsewhere.

Squared errors weigh its cube: with n triangles they fall with 1 / n^2, so their slope with 1 / n^3.
"""
FACE_DENSITY = 3.0
"""Of skin that face shapes move."""
HAND_DENSITY = 1.6
FINGERS = ("Thumb", "Index", "Middle", "Ring", "Little")
NORMAL_SCALE = 0.004
"""Metres that a change of the normal by one counts as."""
UV_WEIGHT = 0.5
"""Metres of sliding texture, as a share of metres of displaced surface."""
SKIN_SCALE = 0.05
"""Metres that a whole change of skin weights counts as."""
SHAPE_WEIGHT = 0.5
SKIN_AXES, SHAPE_AXES = 5, 8
GUARDED = (("eyeBlinkLeft", "eyeBlinkRight"), ("jawOpen",))
"""Expressions in which no face may turn over."""
RIBBON_SHARE = 0.24
"""Of the triangles, that hair and beard made of ribbons may have."""


class LodError(ValueError):
    """A number of triangles that no avatar can have."""


def reduced(avatar: Avatar, triangles: int) -> Avatar:
    """The avatar with at most about `triangles` triangles; the avatar itself when it has no more.

    Vertices are a subset of the avatar's, but for hair that got wider strands. Raises `LodError` for a number
    below 1, and `DecimationError` for broken geometry.
    """
    if triangles < 1:
        raise LodError(f"an avatar can not have {triangles} triangles; ask for at least 1")
    if triangle_count(avatar.parts) <= triangles:
        return avatar
    ribbons = {part.name: found for part in avatar.parts if (found := find_ribbons(part)) is not None}
    surfaces = [part for part in avatar.parts if part.name not in ribbons]
    strands = _thinned_ribbons([p for p in avatar.parts if p.name in ribbons], ribbons, surfaces, triangles)
    left = triangles - triangle_count(strands)
    fingers = torch.tensor([any(f in name for f in FINGERS) for name in avatar.skeleton.names])
    solid = _collapsed(surfaces, left, fingers) if triangle_count(surfaces) > left else surfaces
    by_name = {part.name: part for part in (*strands, *solid)}
    return replace(avatar, parts=tuple(by_name[p.name] for p in avatar.parts if p.name in by_name))


def triangle_count(parts: list[Part] | tuple[Part, ...]) -> int:
    """Triangles of all parts."""
    return sum(len(part.mesh.faces) for part in parts)


def _thinned_ribbons(
    parts: list[Part], ribbons: dict[str, Ribbons], surfaces: list[Part], triangles: int
) -> list[Part]:
    own = triangle_count(parts)
    whole = own + triangle_count(surfaces)
    allowed = max(RIBBON_SHARE, 1.0 * own / whole) * triangles
    allowed = min(allowed, RIBBON_SHARE * triangles + 0.5 * own)
    if own <= allowed:
        return parts
    return [thinned(p, ribbons[p.name], round(allowed * len(p.mesh.faces) / own)) for p in parts]


def _collapsed(parts: list[Part], triangles: int, fingers: Tensor) -> list[Part]:
    """All parts decimated together to so many triangles; parts without any triangle are left out."""
    offsets = np.cumsum([0] + [len(p.mesh.vertices) for p in parts])
    owner = torch.cat([torch.full((len(p.mesh.faces),), i) for i, p in enumerate(parts)])
    result = decimate(
        torch.cat([p.mesh.vertices for p in parts]),
        torch.cat([p.mesh.faces + int(o) for p, o in zip(parts, offsets[:-1], strict=True)]),
        triangles,
        _places(parts),
        _attributes(parts),
        torch.cat([_importance(p, fingers) for p in parts]),
        moved=_guarded(parts),
    )
    kept = owner[result.origin]
    return [
        part_of_faces(part, result.faces[kept == i] - int(offsets[i]))
        for i, part in enumerate(parts)
        if (kept == i).any()
    ]


def part_of_faces(part: Part, faces: Int[Tensor, "F 3"]) -> Part:
    """The part with other faces over its vertices; vertices without a face are dropped."""
    used, inverse = torch.unique(faces, return_inverse=True)
    m = part.mesh
    mesh = Mesh(m.vertices[used], inverse.reshape(-1, 3), m.normals[used], m.uv[used], m.material)
    morphs = part.morphs and MorphTargets(part.morphs.names, part.morphs.deltas[:, used])
    return replace(part, mesh=mesh, skin=Skin(part.skin.joints[used], part.skin.weights[used]), morphs=morphs)


def _places(parts: list[Part]) -> Int[Tensor, " V"]:
    """Groups of vertices at one position: of one part, or of the skin's parts, whose seams must stay closed."""
    groups: list[Tensor] = [torch.empty(0)] * len(parts)
    skin = [i for i, p in enumerate(parts) if p.kind == "body"]
    together = [skin, *([i] for i in range(len(parts)) if i not in skin)]
    start = 0
    for members in filter(None, together):
        weld = weld_by_position(torch.cat([parts[i].mesh.vertices for i in members]))
        pieces = weld.split([len(parts[i].mesh.vertices) for i in members])
        for i, piece in zip(members, pieces, strict=True):
            groups[i] = piece + start
        start += int(weld.max()) + 1
    return torch.cat(groups)


def _attributes(parts: list[Part]) -> Float[Tensor, "V K"]:
    """What a vertex carries, in metres: sliding texture, normals, principal skin weights and face shapes."""
    columns = [
        [
            part.mesh.uv * (UV_WEIGHT * metres_per_uv(part.mesh)),
            part.mesh.normals * NORMAL_SCALE,
            principal(_dense_weights(part.skin) * SKIN_SCALE, SKIN_AXES),
            principal(_flat_shapes(part) * SHAPE_WEIGHT, SHAPE_AXES),
        ]
        for part in parts
    ]
    rows = []
    for own in columns:
        padded = torch.zeros(len(own[0]), 5 + SKIN_AXES + SHAPE_AXES, dtype=own[0].dtype)
        for start, values in zip((0, 2, 5, 5 + SKIN_AXES), own, strict=True):
            padded[:, start : start + values.shape[1]] = values
        rows.append(padded)
    table = torch.cat(rows)
    return table[:, table.abs().amax(dim=0) > 0]


def metres_per_uv(mesh: Mesh) -> float:
    """Square root of the mesh's area over its texture area."""
    faces = mesh.faces.cpu().numpy()
    a, b, c = (mesh.vertices.double().cpu().numpy()[faces[:, i]] for i in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1).sum()
    p, q, r = (mesh.uv.double().cpu().numpy()[faces[:, i]] for i in range(3))
    u, v = q - p, r - p
    flat = np.abs(u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]).sum()
    return float((area / flat) ** 0.5) if flat > 1e-12 else 0.0


def _dense_weights(skin: Skin) -> Float[Tensor, "V J"]:
    used, slots = torch.unique(skin.joints, return_inverse=True)
    dense = skin.weights.new_zeros(len(skin.joints), len(used))
    return dense.scatter_add(1, slots, skin.weights)


def _flat_shapes(part: Part) -> Float[Tensor, "V N"]:
    if part.morphs is None:
        return part.mesh.vertices.new_zeros(len(part.mesh.vertices), 0)
    return part.morphs.deltas.permute(1, 0, 2).reshape(len(part.mesh.vertices), -1)


def _importance(part: Part, fingers: Tensor) -> Float[Tensor, " F"]:
    """(F,) weights of squared errors. `fingers` (J,) tells which joints are fingers."""
    density = torch.full((len(part.mesh.vertices),), DENSITY[part.kind], dtype=part.mesh.vertices.dtype)
    if part.kind == "body":
        hand = (part.skin.weights * fingers[part.skin.joints]).sum(dim=1)
        density = density * (1 + (HAND_DENSITY - 1) * hand)
        if part.morphs is not None:
            moves = part.morphs.deltas.norm(dim=-1).amax(dim=0)
            density = density * (1 + (FACE_DENSITY - 1) * (moves / 0.003).clamp(0, 1))
    return density[part.mesh.faces].mean(dim=1) ** 3


def _guarded(parts: list[Part]) -> Float[Tensor, "S V 3"]:
    """Positions of all vertices in each of the guarded expressions."""
    posed = []
    for names in GUARDED:
        rows = []
        for part in parts:
            moved = part.mesh.vertices.clone()
            for name in names:
                if part.morphs and name in part.morphs.names:
                    moved += part.morphs.deltas[part.morphs.names.index(name)]
            rows.append(moved)
        posed.append(torch.cat(rows))
    return torch.stack(posed)
