"""Levels of detail: a whole avatar with a given number of triangles.

All parts share one queue of edge collapses, so that the next triangle to go is the one that is missed least
anywhere. Errors on the face count more than those on shoes. Ribbons of hair have rules of their own
(`export.strands`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from avatar3d.errors import InputError
from avatar3d.export.parts import joined, part_of_faces, triangle_count
from avatar3d.export.strands import Ribbons, find_ribbons, thinned
from avatar3d.export.tuck import tucked
from avatar3d.export.visible import seen_faces
from avatar3d.mesh.decimate import decimate, principal
from avatar3d.mesh.normals import weld_by_position
from avatar3d.structures import Avatar, Mesh, Part, Skin

DENSITY = {
    "body": 1.0, "eyes": 3.5, "teeth": 0.8, "tongue": 0.8, "lashes": 8.0, "brows": 2.0, "hair": 0.7, "beard": 1.0,
    "glasses": 1.6, "hat": 1.0, "top": 0.9, "bottom": 0.85, "shoes": 0.8, "jewellery": 1.0,
}  # fmt: skip
"""How many times more triangles a kind of part gets than equal shapes of the body elsewhere.

Squared errors weigh its cube: with n triangles they fall with 1 / n^2, so their slope with 1 / n^3.
"""
FACE_DENSITY = 5.0
"""Of skin that face shapes move."""
HAND_DENSITY = 1.6
LAYER_DENSITY = {"eyes": 15.0, "hair": 2.0}
"""Of blended layers right above something else: the shadow that lids cast on the eyes, hair on the scalp."""
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
RIBBON_SHARE = 0.22
"""Of the triangles, that hair and beard made of ribbons may have."""
TURNING = ("eyes", "tongue")
FINE = {"top": 0.6, "bottom": 0.6, "shoes": 0.6, "hat": 0.6, "jewellery": 0.2, "lashes": 0.25}
"""Width of details (stitches, laces) that are left out, by kind, as a share of the mean edge at the level."""
SMALL = 0.6
"""Length of pieces that are left out, as a share of that edge."""


class LodError(InputError, ValueError):
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
    pieces = _pieces(_without_fine_pieces(_visible(avatar), triangles))
    strips = [piece for piece in pieces if piece.ribbons]
    surfaces = [piece.part for piece in pieces if not piece.ribbons]
    strands = _thinned_ribbons(strips, triangle_count(surfaces), triangles)
    left = triangles - triangle_count(strands)
    if triangle_count(surfaces) > left:
        fingers = torch.tensor([any(f in name for f in FINGERS) for name in avatar.skeleton.names])
        surfaces = _collapsed(surfaces, left, fingers)
    found = [*surfaces, *strands]
    parts = []
    for part in avatar.parts:
        own = [piece for piece in found if piece.name == part.name]
        if own:
            parts.append(own[0] if len(own) == 1 else joined(own, part.name, part.mesh.material))
    return tucked(replace(avatar, parts=tuple(parts)), avatar)


@dataclass(frozen=True)
class _Piece:
    """A part, or the half of a part that is made of ribbons or is not."""

    part: Part
    ribbons: Ribbons | None = None


def _pieces(avatar: Avatar) -> list[_Piece]:
    pieces = []
    for part in avatar.parts:
        ribbons = find_ribbons(part)
        if ribbons is None:
            pieces.append(_Piece(part))
            continue
        pieces.append(_Piece(part, ribbons))
        if len(ribbons.others):
            pieces.append(_Piece(part_of_faces(part, part.mesh.faces[torch.from_numpy(ribbons.others)])))
    return pieces


def _visible(avatar: Avatar) -> Avatar:
    """The avatar without faces that show from nowhere; eyes and tongue, which turn, stay whole."""
    parts = []
    for part, seen in zip(avatar.parts, seen_faces(avatar), strict=True):
        if part.kind in TURNING or seen.all():
            parts.append(part)
        elif seen.any():
            parts.append(part_of_faces(part, part.mesh.faces[seen]))
    return replace(avatar, parts=tuple(parts))


def _without_fine_pieces(avatar: Avatar, triangles: int) -> Avatar:
    """The avatar without connected pieces of clothes that are thin or short beside its coarse triangles."""
    solid = [part for part in avatar.parts if part.mesh.material.alpha_mode == "OPAQUE"]
    edge = (sum(float(_face_areas(part.mesh).sum()) for part in solid) / triangles) ** 0.5
    parts = []
    for part in avatar.parts:
        if part.kind not in FINE and part.kind != "glasses":
            parts.append(part)
            continue
        piece, area, length = _pieces_of(part.mesh)
        keep = (area > FINE.get(part.kind, 0.0) * edge * length) & (
            length > SMALL * FINE.get(part.kind, 0.6) * edge
        )
        shown = keep[piece]
        if shown.all():
            parts.append(part)
        elif shown.any():
            parts.append(part_of_faces(part, part.mesh.faces[torch.from_numpy(shown)]))
    return replace(avatar, parts=tuple(parts))


def _pieces_of(mesh: Mesh) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The connected piece of each face (F,), and each piece's area and the diagonal of its bounding box."""
    weld = weld_by_position(mesh.vertices).numpy()
    count = int(weld.max()) + 1
    corner = weld[mesh.faces.cpu().numpy()]
    ends = np.concatenate([corner[:, :2], corner[:, 1:]])
    links = coo_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), (count, count))
    pieces, piece = connected_components(links, directed=False)
    area = np.bincount(piece[corner[:, 0]], weights=_face_areas(mesh), minlength=pieces)
    low, high = np.full((pieces, 3), np.inf), np.full((pieces, 3), -np.inf)
    points = mesh.vertices.double().cpu().numpy()
    np.minimum.at(low, piece[weld], points)
    np.maximum.at(high, piece[weld], points)
    return piece[corner[:, 0]], area, np.linalg.norm(high - low, axis=1)


def _thinned_ribbons(strips: list[_Piece], others: int, triangles: int) -> list[Part]:
    """All strips with their share of the triangles, beside surfaces that have `others`."""
    own = sum(piece.ribbons.triangles for piece in strips if piece.ribbons)
    allowed = max(triangles * own / max(own + others, 1), min(RIBBON_SHARE * triangles, 0.6 * own))
    allowed = min(allowed, RIBBON_SHARE * triangles)
    share = min(1.0, allowed / max(own, 1))
    return [
        thinned(piece.part, piece.ribbons, round(share * piece.ribbons.triangles))
        for piece in strips
        if piece.ribbons
    ]


def _collapsed(parts: list[Part], triangles: int, fingers: Tensor) -> list[Part]:
    """All parts decimated together to so many triangles; parts without any triangle are left out."""
    offsets = np.cumsum([0] + [len(p.mesh.vertices) for p in parts])
    owner = torch.cat([torch.full((len(p.mesh.faces),), i) for i, p in enumerate(parts)])
    result = decimate(
        torch.cat([p.mesh.vertices for p in parts]),
        torch.cat([p.mesh.faces + int(o) for p, o in zip(parts, offsets[:-1], strict=True)]),
        triangles,
        _places(parts),
        part_attributes(parts),
        torch.cat([_importance(p, fingers) for p in parts]),
        moved=_guarded(parts),
    )
    kept = owner[result.origin]
    return [
        part_of_faces(part, result.faces[kept == i] - int(offsets[i]))
        for i, part in enumerate(parts)
        if (kept == i).any()
    ]


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


def part_attributes(parts: list[Part]) -> Float[Tensor, "V K"]:
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
    p, q, r = mesh.uv.double().cpu().numpy()[mesh.faces.cpu().numpy()].transpose(1, 0, 2)
    u, v = q - p, r - p
    flat = 0.5 * np.abs(u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]).sum()
    return float((_face_areas(mesh).sum() / flat) ** 0.5) if flat > 1e-12 else 0.0


def _face_areas(mesh: Mesh) -> Float[np.ndarray, " F"]:
    a, b, c = mesh.vertices.double().cpu().numpy()[mesh.faces.cpu().numpy()].transpose(1, 0, 2)
    return 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1)


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
    own = DENSITY[part.kind]
    if part.mesh.material.alpha_mode == "BLEND":
        own = LAYER_DENSITY.get(part.kind, own)
    density = torch.full((len(part.mesh.vertices),), own, dtype=part.mesh.vertices.dtype)
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
