"""Fewer materials: parts merged, and their textures packed into one set of atlas textures.

Every chart (connected piece of a part's texture space) becomes an upright rectangle of the atlas. Textures that
repeat are written out over the chart, factors are multiplied in, plain materials get a small swatch. Faces have
more texels per metre than shoes. Around each rectangle the texture goes on for a few texels, for mip levels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from avatar3d.errors import InputError
from avatar3d.export.packing import pack
from avatar3d.export.parts import joined
from avatar3d.export.resample import encode_colors, resampled, sampled_at
from avatar3d.render.color import srgb_to_linear
from avatar3d.structures import Avatar, Material, Part

TEXELS = {
    "body": 1.0, "eyes": 4.0, "teeth": 2.0, "tongue": 1.0, "lashes": 5.0, "brows": 4.0, "hair": 1.3, "beard": 2.0,
    "glasses": 2.0, "hat": 1.2, "top": 1.0, "bottom": 0.8, "shoes": 0.9, "jewellery": 1.0,
}  # fmt: skip
"""Texels along a metre, by kind, against those of the body."""
FACE_TEXELS = 4.5
"""Of a part of the body that most face shapes move."""
PLAIN_TEXELS = 0.4
"""Share of texels that are enough for a fabric without any contrast."""
CLOTH = ("top", "bottom", "shoes", "hat")
LARGEST = 0.6
"""Most that one chart takes of the atlas's side."""
SWATCH = 8
CUTOFF = 0.5
"""Of merged masks; alpha is scaled to meet it."""
BLEND_CUTOFF = 0.3
"""Alpha from which blended texels are drawn where they become part of a mask."""
SEEN_THROUGH = 0.35
"""Blended parts with less alpha than this on the mean are left out where nothing can be blended."""
ALPHA_MODES = ("OPAQUE", "MASK", "BLEND")


class AtlasError(InputError, ValueError):
    """Textures that can not be packed."""


def merged(avatar: Avatar, mode: str = "alpha", size: int = 1024) -> Avatar:
    """The avatar with parts and textures merged: one part per alpha mode, or `single`, one for everything.

    `none` changes nothing. `size` is the side of the largest atlas in texels; what is seen through (masks and
    blends) gets half of it in mode `alpha`. In `single`, blended parts are drawn whole or not at all.
    Raises `AtlasError` for another mode or a size that is too small.
    """
    if mode == "none":
        return avatar
    if mode == "single":
        solid = [part for part in avatar.parts if _covers(part) >= SEEN_THROUGH]
        return replace(avatar, parts=(merge_parts(solid, "avatar", size),))
    if mode != "alpha":
        raise AtlasError(f"no atlas mode {mode!r}; use none, alpha or single")
    parts = []
    for alpha_mode in ALPHA_MODES:
        members = [p for p in avatar.parts if p.mesh.material.alpha_mode == alpha_mode]
        side = size if alpha_mode == "OPAQUE" else size // 2
        if members:
            parts.append(merge_parts(members, f"avatar_{alpha_mode.lower()}", side, alpha_mode))
    return replace(avatar, parts=tuple(parts))


def _covers(part: Part) -> float:
    """Mean alpha of a blended part at its vertices and the middles of its faces; 1 for any other."""
    m = part.mesh.material
    if m.alpha_mode != "BLEND":
        return 1.0
    alpha = m.base_color[3]
    if m.base_color_texture is not None and m.base_color_texture.shape[2] == 4:
        uv = part.mesh.uv.double().cpu().numpy()
        places = np.concatenate([uv, uv[part.mesh.faces.cpu().numpy()].mean(axis=1)])
        alpha *= float(sampled_at(m.base_color_texture.cpu().numpy(), places)[:, 3].mean())
    return alpha


def merge_parts(parts: list[Part], name: str, size: int, alpha_mode: str | None = None) -> Part:
    """One part named `name`, of the first part's kind, with one material whose textures have `size` texels a side.

    `alpha_mode` defaults to OPAQUE when all parts are, else MASK. Shapes that one part lacks are zero there.
    """
    modes = {part.mesh.material.alpha_mode for part in parts}
    alpha_mode = alpha_mode or ("OPAQUE" if modes == {"OPAQUE"} else "MASK")
    charts = [chart for part in parts for chart in _charts(part)]
    slots, slot_of_chart = _slots(charts)
    material = _baked(slots, f"atlas_{name}", size, alpha_mode, any(p.mesh.material.double_sided for p in parts))
    uv, start = [], 0
    for part in parts:
        own = torch.empty_like(part.mesh.uv)
        while start < len(charts) and charts[start].part is part:
            chart, slot = charts[start], slots[slot_of_chart[start]]
            own[chart.vertices] = slot.to_atlas(part.mesh.uv[chart.vertices], size)
            start += 1
        uv.append(own)
    return joined(parts, name, material, torch.cat(uv))


@dataclass
class _Chart:
    """A connected piece of a part, and the box (2, 2) that it takes in texture space: lower and upper corner."""

    part: Part
    vertices: np.ndarray
    box: np.ndarray


@dataclass
class _Slot:
    """A rectangle of the atlas: a material over a box of texture space. Boxes and sizes are (u, v) or (x, y)."""

    material: Material
    box: np.ndarray
    metres: np.ndarray
    """Length of the box's sides on the surface."""
    texels: float
    place: tuple[int, int] = (0, 0)
    shape: tuple[int, int] = (SWATCH, SWATCH)

    @property
    def textures(self) -> list[Tensor]:
        m = self.material
        return [t for t in (m.base_color_texture, m.normal_texture, m.orm_texture) if t is not None]

    @property
    def plain(self) -> bool:
        return not self.textures

    def shape_at(self, density: float, size: int) -> tuple[int, int]:
        """Texels (x, y) at so many texels per metre, never more than the source has or the largest share."""
        if self.plain:
            return SWATCH, SWATCH
        most = np.max([[t.shape[1], t.shape[0]] for t in self.textures], axis=0) * (self.box[1] - self.box[0])
        wanted = self.metres * self.texels * density
        width, height = np.clip(np.ceil(np.minimum(wanted, np.ceil(most))), 4, LARGEST * size).astype(int)
        return int(width), int(height)

    def to_atlas(self, uv: Float[Tensor, "V 2"], size: int) -> Float[Tensor, "V 2"]:
        x, y = self.place
        w, h = self.shape
        if self.plain:
            return torch.full_like(uv, 0.5) * uv.new_tensor([w, h]) / size + uv.new_tensor([x, y]) / size
        low, high = (torch.from_numpy(corner).to(uv) for corner in self.box)
        return (uv.new_tensor([x, y]) + (uv - low) / (high - low) * uv.new_tensor([w, h])) / size


def _charts(part: Part) -> list[_Chart]:
    faces = part.mesh.faces.cpu().numpy()
    count = len(part.mesh.vertices)
    ends = np.concatenate([faces[:, :2], faces[:, 1:]])
    links = coo_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), (count, count))
    _, piece = connected_components(links, directed=False)
    uv = part.mesh.uv.double().cpu().numpy()
    order = np.argsort(piece, kind="stable")
    members = np.split(order, np.flatnonzero(np.diff(piece[order])) + 1)
    return [_Chart(part, m, np.stack([uv[m].min(axis=0), uv[m].max(axis=0)])) for m in members]


def _slots(charts: list[_Chart]) -> tuple[list[_Slot], list[int]]:
    """Slots, and each chart's slot. Charts of one material whose boxes overlap share a slot."""
    groups: dict[tuple, list[int]] = {}
    for index, chart in enumerate(charts):
        groups.setdefault((*_key(chart.part.mesh.material), chart.part.kind), []).append(index)
    texels = {part.name: _texels(part) for part in {c.part.name: c.part for c in charts}.values()}
    slots: list[_Slot] = []
    slot_of = [0] * len(charts)
    for members in groups.values():
        material = charts[members[0]].part.mesh.material
        plain = not _Slot(material, np.zeros((2, 2)), np.zeros(2), 1.0).textures
        for box, own in _overlapping([charts[i].box for i in members], plain):
            rows = [members[i] for i in own]
            own_charts = [charts[i] for i in rows]
            density = max(texels[charts[i].part.name] for i in rows)
            metres = np.minimum((box[1] - box[0]) * _metres(own_charts), _extent(own_charts))
            slots.append(_Slot(material, box, metres, density))
            for i in rows:
                slot_of[i] = len(slots) - 1
    return slots, slot_of


def _overlapping(boxes: list[np.ndarray], everything: bool) -> list[tuple[np.ndarray, list[int]]]:
    """Groups of overlapping boxes with their common box."""
    groups: list[tuple[np.ndarray, list[int]]] = []
    for index in sorted(range(len(boxes)), key=lambda i: (*boxes[i][0], *boxes[i][1], i)):
        box, own = boxes[index], [index]
        while True:
            met = [
                g for g in groups if everything or ((g[0][0] < box[1] + 1e-4) & (box[0] < g[0][1] + 1e-4)).all()
            ]
            if not met:
                break
            groups = [g for g in groups if not any(g is m for m in met)]
            own = [i for m in met for i in m[1]] + own
            lows, highs = [box[0], *(m[0][0] for m in met)], [box[1], *(m[0][1] for m in met)]
            box = np.stack([np.min(lows, axis=0), np.max(highs, axis=0)])
        groups.append((np.stack([box[0], np.maximum(box[1], box[0] + 1e-4)]), own))
    return groups


def _key(material: Material) -> tuple:
    textures = (material.base_color_texture, material.normal_texture, material.orm_texture)
    factors = (
        material.base_color,
        material.roughness,
        material.metallic,
        material.alpha_mode,
        material.alpha_cutoff,
    )
    return (*factors, *(id(t) for t in textures))


def _texels(part: Part) -> float:
    if part.kind == "body" and part.morphs is not None and _most_moves(part):
        return FACE_TEXELS
    return TEXELS[part.kind] * (_detail(part.mesh.material) if part.kind in CLOTH else 1.0)


def _most_moves(part: Part) -> bool:
    """Whether face shapes move a good part of it."""
    assert part.morphs is not None
    return float((part.morphs.deltas.norm(dim=-1).amax(dim=0) > 1e-3).float().mean()) > 0.3


def _detail(material: Material) -> float:
    """From `PLAIN_TEXELS` for a plain fabric to 1 for one with contrast in its color or relief."""
    contrast = 0.0
    for texture, full in ((material.base_color_texture, 0.05), (material.normal_texture, 0.25)):
        if texture is not None:
            few = texture[::4, ::4, :3].cpu().numpy()
            contrast += float(few.std(axis=(0, 1)).max()) / full
    return min(1.0, PLAIN_TEXELS + contrast)


def _extent(charts: list[_Chart]) -> float:
    """Diagonal of the charts' bounding box, metres."""
    points = np.concatenate([c.part.mesh.vertices[torch.from_numpy(c.vertices)].cpu().numpy() for c in charts])
    return float(np.linalg.norm(points.max(axis=0) - points.min(axis=0)))


def _metres(charts: list[_Chart]) -> np.ndarray:
    """Metres per unit of u and of v: roots of the mean squared derivatives over the charts' faces."""
    part = charts[0].part
    inside = np.zeros(len(part.mesh.vertices), bool)
    for chart in charts:
        if chart.part is part:
            inside[chart.vertices] = True
    faces = part.mesh.faces.cpu().numpy()
    faces = faces[inside[faces[:, 0]]]
    p, uv = part.mesh.vertices.double().cpu().numpy()[faces], part.mesh.uv.double().cpu().numpy()[faces]
    e1, e2, d1, d2 = p[:, 1] - p[:, 0], p[:, 2] - p[:, 0], uv[:, 1] - uv[:, 0], uv[:, 2] - uv[:, 0]
    det = d1[:, 0] * d2[:, 1] - d1[:, 1] * d2[:, 0]
    fine = np.abs(det) > 1e-12
    if not fine.any():
        return np.full(2, 0.05)
    e1, e2, d1, d2, det = e1[fine], e2[fine], d1[fine], d2[fine], det[fine][:, None]
    du = (e1 * d2[:, 1:] - e2 * d1[:, 1:]) / det
    dv = (e2 * d1[:, :1] - e1 * d2[:, :1]) / det
    weight = np.abs(det[:, 0])
    return np.array([np.sqrt(np.average((d**2).sum(axis=1), weights=weight)) for d in (du, dv)])


def _baked(slots: list[_Slot], name: str, size: int, alpha_mode: str, double_sided: bool) -> Material:
    gutter = max(2, size // 256)
    _place(slots, size, gutter)
    opaque = alpha_mode == "OPAQUE"
    images = [_slot_images(slot, gutter, alpha_mode) for slot in slots]
    texels = sum(color[..., 0].size for color, _, _ in images)
    sums = [np.concatenate([image.sum(axis=(0, 1)) for image in slot]) for slot in images]
    mean = np.sum(sums, axis=0) / texels
    color, normal, orm = (np.empty((size, size, channels), np.float32) for channels in (4, 3, 3))
    color[:], normal[:], orm[:] = (*mean[:3], 0.0), (0.5, 0.5, 1.0), mean[7:]
    for slot, own in zip(slots, images, strict=True):
        (x, y), (w, h) = slot.place, slot.shape
        at = np.s_[y - gutter : y + h + gutter, x - gutter : x + w + gutter]
        color[at], normal[at], orm[at] = own
    encode_colors(color)
    textured = any(s.material.normal_texture is not None for s in slots)
    return Material(
        name,
        base_color_texture=torch.from_numpy(np.ascontiguousarray(color[..., :3]) if opaque else color),
        normal_texture=torch.from_numpy(normal) if textured else None,
        orm_texture=torch.from_numpy(orm),
        roughness=1.0,
        metallic=1.0,
        alpha_mode=alpha_mode,
        alpha_cutoff=CUTOFF,
        double_sided=double_sided,
    )


def _place(slots: list[_Slot], size: int, gutter: int) -> None:
    """Give every slot a place and a shape, at the highest density at which all fit."""
    low, high = 0.0, 2.0 * size / 0.05
    best = None
    for step in range(24):
        density = 0.5 * (low + high) if step else high
        shapes = [slot.shape_at(density, size) for slot in slots]
        places = pack([(w + 2 * gutter, h + 2 * gutter) for w, h in shapes], size)
        if places is None:
            high = density
        else:
            low, best = density, (shapes, places)
            if not step:
                break
    if best is None:
        raise AtlasError(f"{len(slots)} charts do not fit into {size} x {size} texels; ask for a larger atlas")
    for slot, shape, (x, y) in zip(slots, *best, strict=True):
        slot.shape, slot.place = shape, (x + gutter, y + gutter)


def _slot_images(slot: _Slot, gutter: int, alpha_mode: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Linear color with alpha, normal and ORM over a slot and its gutter."""
    m = slot.material
    (w, h), box = slot.shape, slot.box
    full = (h + 2 * gutter, w + 2 * gutter)
    color = np.ones((*full, 4), np.float32)
    if m.base_color_texture is not None:
        texture = m.base_color_texture.detach().cpu().numpy()
        color[..., : texture.shape[2]] = resampled(texture, box, (w, h), gutter, colors=True)
    factor = srgb_to_linear(torch.tensor(m.base_color[:3])).numpy()
    color[..., :3] *= factor
    color[..., 3] *= m.base_color[3]
    if m.alpha_mode == "OPAQUE":
        color[..., 3] = 1.0
    elif m.alpha_mode == "MASK" or alpha_mode == "MASK":
        cutoff = m.alpha_cutoff if m.alpha_mode == "MASK" else BLEND_CUTOFF
        color[..., 3] = np.clip(color[..., 3] * (CUTOFF / cutoff), 0, 1)
    normal = np.empty((*full, 3), np.float32)
    normal[:] = (0.5, 0.5, 1.0)
    if m.normal_texture is not None:
        mean = 2 * resampled(m.normal_texture.detach().cpu().numpy(), box, (w, h), gutter) - 1
        normal = 0.5 + 0.5 * mean / np.maximum(np.linalg.norm(mean, axis=-1, keepdims=True), 1e-6)
    orm = np.ones((*full, 3), np.float32)
    if m.orm_texture is not None:
        orm = resampled(m.orm_texture.detach().cpu().numpy(), box, (w, h), gutter)
    orm = orm * np.array([1.0, m.roughness, m.metallic], np.float32)
    return color, normal, orm
