"""Meshes compiled into flat tensors, ready to be rasterized and shaded from any camera."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from avatar3d.camera import world_to_camera
from avatar3d.render.color import srgb_to_linear
from avatar3d.render.rasterize import Triangles
from avatar3d.render.textures import Atlas, build_atlas, mip_rows
from avatar3d.structures import PART_KINDS, Camera, Mesh, Part

ALPHA_MODES = ("OPAQUE", "MASK", "BLEND")
BLEND_SEEN_AS_SOLID = 0.5
"""Blended surfaces with at least this alpha cast shadows and show in depth, normals, labels and uv."""
BARELY_SEEN = 1 / 255
"""Blended surfaces with less alpha than this are not drawn."""


@dataclass(frozen=True)
class LabelledMesh:
    """A mesh with the label that its pixels get; 0 is kept for the background."""

    mesh: Mesh
    label: int = 1


def labelled(parts: Sequence[Part]) -> list[LabelledMesh]:
    """Parts with the labels of their kinds: 1 + index into `PART_KINDS`."""
    return [LabelledMesh(part.mesh, 1 + PART_KINDS.index(part.kind)) for part in parts]


@dataclass(frozen=True)
class Scene:
    """All meshes as one. `M` meshes, `V` vertices, `F` faces; colors are linear."""

    attributes: Float[Tensor, "V 14"]
    """Position 0:3, normal 3:6, uv 6:8, dP/du 8:11 and dP/dv 11:14 (unit length or zero)."""
    faces: Int[Tensor, "F 3"]
    face_mesh: Int[Tensor, " F"]
    labels: Int[Tensor, " M"]
    two_sided: Bool[Tensor, " M"]
    alpha_mode: Int[Tensor, " M"]
    """Index into `ALPHA_MODES`."""
    alpha_cutoff: Float[Tensor, " M"]
    factors: Float[Tensor, "M 10"]
    """Base color 0:4 (linear RGB, alpha), roughness 4, metallic 5, then 1 or 0: is skin 6, is hair 7, blends 8,
    is enamel 9."""
    alpha_texels: Float[Tensor, " N"]
    """Alpha of `base_atlas`, by itself for the rasterizer."""
    base_atlas: Atlas
    normal_atlas: Atlas
    orm_atlas: Atlas
    texture_ids: Int[Tensor, "M 3"]
    """Row of each mesh in the three atlases."""

    @property
    def vertices(self) -> Float[Tensor, "V 3"]:
        return self.attributes[:, :3]

    @property
    def requires_grad(self) -> bool:
        """Some texture or attribute wants gradients."""
        atlases = (self.base_atlas, self.normal_atlas, self.orm_atlas)
        return self.attributes.requires_grad or any(atlas.texels.requires_grad for atlas in atlases)

    @property
    def diagonal(self) -> float:
        """Length of the bounding box's diagonal, metres."""
        span = self.vertices.detach()
        return float((span.amax(0) - span.amin(0)).norm())


def compile_scene(meshes: Sequence[LabelledMesh]) -> Scene:
    """Concatenate meshes and pack their textures; do it once for many views.

    Raises ValueError when there is nothing to draw or a material has an unknown alpha mode.
    """
    meshes = [m for m in meshes if len(m.mesh.faces)]
    if not meshes:
        raise ValueError("nothing to render: pass at least one mesh that has faces")
    like = meshes[0].mesh.vertices
    device, dtype = like.device, torch.float32
    attributes, faces, face_mesh, start = [], [], [], 0
    for index, item in enumerate(meshes):
        mesh = item.mesh
        attributes.append(_vertex_attributes(mesh))
        faces.append(mesh.faces.long() + start)
        face_mesh.append(torch.full((len(mesh.faces),), index, device=device))
        start += len(mesh.vertices)
    materials = [item.mesh.material for item in meshes]
    for material in materials:
        if material.alpha_mode not in ALPHA_MODES:
            raise ValueError(
                f"material {material.name!r} has alpha mode {material.alpha_mode!r}; use one of {ALPHA_MODES}"
            )

    def column(values: Iterable) -> Tensor:
        return torch.tensor(list(values), device=device)

    base = column(m.base_color for m in materials).to(dtype)
    kinds = column(
        (
            m.roughness,
            m.metallic,
            m.name.startswith("skin"),
            m.name.startswith("hair"),
            m.alpha_mode == "BLEND",
            m.name.startswith("teeth"),
        )
        for m in materials
    ).to(dtype)
    tested = [m.alpha_cutoff / max(m.base_color[3], 1e-6) * (m.alpha_mode == "MASK") for m in materials]
    base_atlas, base_ids = _pack([m.base_color_texture for m in materials], (1.0,) * 4, like, tested)
    normal_atlas, normal_ids = _pack([m.normal_texture for m in materials], (0.5, 0.5, 1.0), like)
    orm_atlas, orm_ids = _pack([m.orm_texture for m in materials], (1.0,) * 3, like)
    return Scene(
        attributes=torch.cat(attributes),
        faces=torch.cat(faces),
        face_mesh=torch.cat(face_mesh),
        labels=column(item.label for item in meshes),
        two_sided=column(m.double_sided for m in materials),
        alpha_mode=column(ALPHA_MODES.index(m.alpha_mode) for m in materials),
        alpha_cutoff=column(m.alpha_cutoff for m in materials).to(dtype),
        factors=torch.cat([srgb_to_linear(base[:, :3]), base[:, 3:], kinds], dim=1),
        alpha_texels=base_atlas.texels[:, 3].detach().contiguous(),
        base_atlas=base_atlas,
        normal_atlas=normal_atlas,
        orm_atlas=orm_atlas,
        texture_ids=torch.tensor(list(zip(base_ids, normal_ids, orm_ids, strict=True)), device=device),
    )


def moved_scene(scene: Scene, meshes: Sequence[LabelledMesh]) -> Scene:
    """A compiled scene with its meshes elsewhere: the next frame of a clip, without packing textures again.

    Raises ValueError when these are not the meshes of the scene.
    """
    attributes = torch.cat([_vertex_attributes(item.mesh) for item in meshes if len(item.mesh.faces)])
    if len(attributes) != len(scene.attributes):
        raise ValueError(f"the scene has {len(scene.attributes)} vertices, the moved meshes {len(attributes)}")
    return replace(scene, attributes=attributes)


def _vertex_attributes(mesh: Mesh) -> Float[Tensor, "V 14"]:
    v, uv = mesh.vertices.float(), mesh.uv.float()
    a, b, c = (mesh.faces[:, i].long() for i in range(3))
    e1, e2 = v[b] - v[a], v[c] - v[a]
    (du1, dv1), (du2, dv2) = (uv[b] - uv[a]).unbind(-1), (uv[c] - uv[a]).unbind(-1)
    det = du1 * dv2 - du2 * dv1
    area = torch.linalg.cross(e1, e2).norm(dim=-1, keepdim=True) * det.sign()[:, None]
    along_u = torch.nn.functional.normalize(e1 * dv2[:, None] - e2 * dv1[:, None], dim=-1) * area
    along_v = torch.nn.functional.normalize(e2 * du1[:, None] - e1 * du2[:, None], dim=-1) * area
    corners = torch.cat([a, b, c])
    both = torch.cat([along_u, along_v], dim=1).repeat(3, 1)
    tangents = v.new_zeros(len(v), 6).index_add(0, corners, both).view(-1, 2, 3)
    tangents = torch.nn.functional.normalize(tangents, dim=-1, eps=1e-20).view(-1, 6)
    return torch.cat([v, mesh.normals.float(), uv, tangents], dim=1)


def _pack(
    textures: Sequence[Tensor | None],
    neutral: tuple[float, ...],
    like: Tensor,
    cutoffs: Sequence[float] | None = None,
) -> tuple[Atlas, list[int]]:
    """Atlas of the distinct textures (a texel of `neutral` for None) and each mesh's row in it.

    With `cutoffs` of alpha tests (0 for none) these are colors, which become linear.
    """
    rows: dict[tuple[int, float], int] = {}
    packed: list[Tensor] = []
    ids: list[int] = []
    for texture, cutoff in zip(textures, cutoffs or [0.0] * len(textures), strict=True):
        key = (id(texture), cutoff)
        if key not in rows:
            rows[key] = len(packed)
            packed.append(_texels(texture, neutral, like, linear=cutoffs is not None))
        ids.append(rows[key])
    return build_atlas(packed, [cutoff for _, cutoff in rows] if cutoffs else None), ids


def _texels(texture: Tensor | None, neutral: tuple[float, ...], like: Tensor, linear: bool) -> Tensor:
    if texture is None:
        return torch.tensor(neutral, device=like.device).view(1, 1, -1)
    texture = texture.float()
    if texture.shape[-1] in (1, 2):
        texture = torch.cat([texture[..., :1].expand(*texture.shape[:2], 3), texture[..., 1:]], dim=-1)
    if texture.shape[-1] < len(neutral):
        texture = torch.cat([texture, torch.ones_like(texture[..., :1])], dim=-1)
    if linear:
        texture = torch.cat([srgb_to_linear(texture[..., :3]), texture[..., 3:]], dim=-1)
    return texture


@dataclass(frozen=True)
class View:
    """A scene's vertices in one image, and what follows from it per face."""

    homogeneous: Float[Tensor, "V 3"]
    depth: Float[Tensor, " V"]
    side: Float[Tensor, " F"]
    """-1 where a face shows its back and its normals turn to the eye, else 1. Hair keeps its normals: a card
    stands for a strand, which has no back."""
    rows: tuple[Int[Tensor, "F 3"], Int[Tensor, "F 3"], Int[Tensor, "F 3"]]
    """Mip level to sample in the base, normal and orm atlas."""


def camera_view(scene: Scene, camera: Camera) -> View:
    """The scene as a pinhole camera sees it."""
    p = world_to_camera(camera, scene.vertices.detach().double())
    z = p[:, 2]
    homogeneous = torch.stack(
        [camera.focal * p[:, 0] + 0.5 * camera.width * z, camera.focal * p[:, 1] + 0.5 * camera.height * z, z], -1
    )
    return make_view(scene, homogeneous, z)


def make_view(scene: Scene, homogeneous: Float[Tensor, "V 3"], depth: Float[Tensor, " V"]) -> View:
    """Facing and mip levels of faces whose vertices project to `homogeneous` (see `Triangles`)."""
    i, j, k = (homogeneous[scene.faces[:, n]] for n in range(3))
    det = (i * torch.linalg.cross(j, k)).sum(-1)
    w = torch.stack([i[:, 2], j[:, 2], k[:, 2]])
    w = torch.where((w == 0).any(0), 1.0, w)
    origin = i[:, :2] / w[0, :, None]
    (ax, ay), (bx, by) = ((p[:, :2] / n[:, None] - origin).unbind(-1) for p, n in ((j, w[1]), (k, w[2])))
    area = (ax * by - ay * bx).abs().clamp_min(1e-9)
    uv = scene.attributes[:, 6:8].detach().double()[scene.faces]
    (du1, dv1), (du2, dv2) = (uv[:, 1] - uv[:, 0]).unbind(-1), (uv[:, 2] - uv[:, 0]).unbind(-1)
    ux, uy = (du1 * by - du2 * ay) / area, (du2 * ax - du1 * bx) / area
    vx, vy = (dv1 * by - dv2 * ay) / area, (dv2 * ax - dv1 * bx) / area
    steps = torch.stack([ux * ux + uy * uy, vx * vx + vy * vy, ux * vy - uy * vx])
    atlases = (scene.base_atlas, scene.normal_atlas, scene.orm_atlas)
    rows = tuple(
        mip_rows(atlas, scene.texture_ids[:, n], scene.face_mesh, steps) for n, atlas in enumerate(atlases)
    )
    turned = (det > 0) & (scene.factors[:, 7] == 0)[scene.face_mesh]
    return View(homogeneous, depth, 1 - 2 * turned.float(), rows)  # type: ignore[arg-type]


def view_triangles(
    scene: Scene, view: View, chosen: Int[Tensor, " K"], cutoffs: Float[Tensor, " M"], two_sided: bool = False
) -> Triangles:
    """The chosen faces, with an alpha cutoff per mesh."""
    mesh = scene.face_mesh[chosen]
    sides = scene.two_sided[mesh]
    return Triangles(
        homogeneous=view.homogeneous,
        depth=view.depth,
        faces=scene.faces[chosen],
        two_sided=torch.ones_like(sides) if two_sided else sides,
        uv=scene.attributes[:, 6:8].detach(),
        alpha_texels=scene.alpha_texels,
        alpha_rows=view.rows[0][chosen],
        alpha_factor=scene.factors[mesh, 3].detach(),
        alpha_cutoff=cutoffs[mesh],
    )


def draw_order(scene: Scene) -> Int[Tensor, " K"]:
    """Faces that are not blended, opaque before alpha-tested ones: what lies in front spares many tests."""
    mode = scene.alpha_mode[scene.face_mesh]
    return torch.cat([(mode == 0).nonzero()[:, 0], (mode == 1).nonzero()[:, 0]])


def solid_cutoffs(scene: Scene) -> Float[Tensor, " M"]:
    """Cutoffs that treat blended surfaces as solid where they are mostly opaque."""
    mode = scene.alpha_mode
    cutoff = torch.where(mode == 1, scene.alpha_cutoff, torch.zeros_like(scene.alpha_cutoff))
    return torch.where(mode == 2, BLEND_SEEN_AS_SOLID, cutoff)
