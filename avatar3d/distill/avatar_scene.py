"""A rigged avatar that is restyled: its textures and, a little, its surface; skeleton and face shapes stay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from avatar3d.body.pose import (
    Pose,
    joint_transforms,
    morph_part,
    relaxed_pose,
    rotate,
    skin_transforms,
)
from avatar3d.distill.avatar_paint import SIZES, Paint, turned
from avatar3d.distill.avatar_relief import Relief
from avatar3d.distill.lamp import lamp_direction, lit
from avatar3d.distill.scene import DistilledScene, Pictures, Shading
from avatar3d.distill.surface_scene import composed
from avatar3d.mesh.normals import vertex_normals
from avatar3d.render.color import linear_to_srgb, srgb_to_linear
from avatar3d.render.layers import Layers, see_layers
from avatar3d.render.meshes import blended
from avatar3d.render.outlines import antialiased, crossings, mesh_edges
from avatar3d.render.scene import Scene, compile_scene, labelled
from avatar3d.render.sight import barycentrics, homogeneous_pixels, interpolated
from avatar3d.render.textures import sample_atlas
from avatar3d.structures import Avatar, Camera, Mesh, Part

RESTYLED = ("body", "brows", "hair", "beard", "hat", "top", "bottom", "shoes")
"""Kinds of parts that are painted unless told otherwise."""
BLEND_LAYERS = 3


@dataclass(frozen=True)
class Variant:
    """A pose and a face in which the avatar is seen."""

    pose: Pose = field(default_factory=dict)
    expression: dict[str, float] = field(default_factory=dict)
    """Added to what the avatar wears by default."""


def default_variants(avatar: Avatar) -> list[Variant]:
    """At ease, the head turned, talking, smiling, eyes closed; without joints that the avatar does not have."""
    variants = [
        Variant(relaxed_pose()),
        Variant(relaxed_pose() | {"neck": rotate("y", 12)}, {"mouthSmileLeft": 0.7, "mouthSmileRight": 0.7}),
        Variant(relaxed_pose() | {"neck": rotate("y", -12)}, {"jawOpen": 0.35}),
        Variant({}, {"eyeBlinkLeft": 1.0, "eyeBlinkRight": 1.0}),
    ]
    names = avatar.skeleton.names
    return [Variant({j: q for j, q in v.pose.items() if j in names}, v.expression) for v in variants]


class AvatarScene(DistilledScene):
    """Textures of the parts of some kinds, and offsets of the surface, as parameters.

    Each `draw` shows the avatar as it is, with `rest_share` of the chances, or in one of the variants.

    Raises `avatar_relief.ReliefError` for an avatar without skin.
    """

    def __init__(
        self,
        avatar: Avatar,
        kinds: Sequence[str] = RESTYLED,
        variants: Sequence[Variant] | None = None,
        rest_share: float = 0.5,
        sizes: Sequence[int] = SIZES,
    ) -> None:
        super().__init__()
        self.avatar, self.rest_share = avatar, rest_share
        self.parts = [part for part in avatar.parts if len(part.mesh.faces)]
        self.scene = compile_scene(labelled(self.parts))
        self.paint = Paint(self.parts, kinds, sizes)
        self.relief = Relief(self.parts)
        """Freeze it (`requires_grad_(False)`) to paint only."""
        part_of = self._column([n for n, _ in enumerate(self.parts)])
        key = part_of * (int(self.relief.weld.max()) + 1) + self.relief.weld
        self.weld = torch.unique(key, return_inverse=True)[1]
        solid = (self.scene.alpha_mode[self.scene.face_mesh] == 0).nonzero()[:, 0]
        self.solid_faces = self.scene.faces[solid]
        self.solid_two_sided = self.scene.two_sided[self.scene.face_mesh[solid]]
        self.edges = mesh_edges(self.solid_faces, self.weld)
        variants = default_variants(avatar) if variants is None else variants
        self.shown = 0
        """Which of the stances was drawn last."""
        self.stances = [_Stance(avatar, self.parts, v, self) for v in (Variant(), *variants)]

    def _column(self, values: Sequence[int]) -> Int[Tensor, " V"]:
        counts = torch.tensor([len(part.mesh.vertices) for part in self.parts])
        return torch.tensor(values).repeat_interleave(counts).to(self.scene.faces.device)

    def box(self, view: str) -> Float[Tensor, "2 3"]:
        """Low and high corner of the "head" (with its hair) or the whole "body", for cameras."""
        points = self.scene.vertices
        if view == "head":
            head = self.avatar.skeleton.names.index("head")
            joints = torch.cat([part.skin.joints for part in self.parts])
            weights = torch.cat([part.skin.weights for part in self.parts])
            points = points[(weights * (joints == head)).sum(1) > 0.5]
        return torch.stack([points.amin(0), points.amax(0)])

    def draw(
        self,
        cameras: Sequence[Camera],
        background: Float[Tensor, "B 3"],
        shading: Shading,
        generator: torch.Generator,
        samples: int = 1,
    ) -> Pictures:
        """Pictures, as `scene.DistilledScene` says, of `samples` x `samples` image samples a pixel; all cameras
        see the same variant."""
        chance, which = torch.rand(2, generator=generator, device=generator.device).tolist()
        others = len(self.stances) - 1
        chosen = 0 if chance < self.rest_share or not others else 1 + int(which * others)
        self.shown = chosen
        vertices, normals = self.stances[chosen].moved(self.relief(), self.scene.faces, self.weld)
        attributes = torch.cat([vertices, normals, self.scene.attributes[:, 6:]], 1)
        scene = replace(self.scene, attributes=attributes.detach())
        looks = [self._look(scene, _finer(camera, samples)) for camera in cameras]
        albedo = self._albedo(looks, shading)
        drawn = []
        for camera, behind, look, light in zip(cameras, background, looks, albedo, strict=True):
            fine, layers, lamp = look.camera, look.layers, lamp_direction(camera, generator)
            if shading != "albedo":
                normal = F.normalize(interpolated(normals, look.corners, look.barycentric), dim=-1)
                light = light * lit(normal * layers.side[:, None], lamp)[:, None]
            image = _blended_image(look, light)
            found = crossings(
                self.edges, self.solid_faces, homogeneous_pixels(vertices, fine), layers.depth, fine.focal,
                self.solid_two_sided,
            )  # fmt: skip
            image = antialiased(image, found).view(4, fine.height, fine.width)
            image = F.avg_pool2d(image[None], samples)[0].view(4, -1) if samples > 1 else image.view(4, -1)
            drawn.append(composed(image, behind, camera))
        rgb, alpha = (torch.stack(column) for column in zip(*drawn, strict=True))
        return Pictures(rgb, alpha, self.penalties())

    @torch.no_grad()
    def _look(self, scene: Scene, camera: Camera) -> _Look:
        layers = see_layers(scene, camera, BLEND_LAYERS)
        mesh, corners = scene.face_mesh[layers.face], scene.faces[layers.face]
        bary = barycentrics(scene.vertices, corners, camera, layers.pixel)
        uv = interpolated(scene.attributes[:, 6:8], corners, bary)
        base = sample_atlas(scene.base_atlas.texels, layers.rows, uv) * scene.factors[mesh, :4]
        alpha = torch.where(scene.alpha_mode[mesh] == 2, base[:, 3], 1.0)
        return _Look(camera, layers, corners, bary, uv, self.paint.layer[mesh], base[:, :3], alpha)

    def _albedo(self, looks: Sequence[_Look], shading: Shading) -> Sequence[Float[Tensor, "_ 3"]]:
        """Linear material colors of the fragments of each look: one look-up for all, as it costs a texture."""
        base = torch.cat([look.base for look in looks])
        if shading == "textureless":
            light = torch.ones_like(base)
        else:
            layer, uv = torch.cat([look.paint for look in looks]), torch.cat([look.uv for look in looks])
            own = (layer >= 0).nonzero()[:, 0]
            painted = turned(linear_to_srgb(base[own].clamp(0, 1)), self.paint.turn(layer[own], uv[own]))
            light = base.index_copy(0, own, srgb_to_linear(painted))
        return light.split([len(look.base) for look in looks])

    def penalties(self) -> dict[str, Float[Tensor, ""]]:
        """Distance from the start and unevenness, of textures and of offsets."""
        return self.paint.penalties() | {"relief_laplacian": self.relief.roughness()}

    @torch.no_grad()
    def to_avatar(self) -> Avatar:
        """The restyled avatar: the same skeleton, weights, face shapes and texture coordinates."""
        vertices, normals = self.stances[0].restyled(self.relief(), self.scene.faces, self.weld)
        counts = [len(part.mesh.vertices) for part in self.parts]
        made: dict[str, Part] = {}
        pieces = zip(self.parts, vertices.split(counts), normals.split(counts), strict=True)
        for n, (part, v, normal) in enumerate(pieces):
            mesh = Mesh(v, part.mesh.faces, normal, part.mesh.uv, self.paint.painted(n, part.mesh))
            made[part.name] = replace(part, mesh=mesh)
        return replace(self.avatar, parts=tuple(made.get(part.name, part) for part in self.avatar.parts))


@dataclass(frozen=True)
class _Look:
    """The S fragments that a camera sees, and what of them does not depend on parameters: where in its triangle a
    pixel looks is a constant."""

    camera: Camera
    layers: Layers
    corners: Int[Tensor, "S 3"]
    barycentric: Float[Tensor, "S 3"]
    uv: Float[Tensor, "S 2"]
    paint: Int[Tensor, " S"]
    """Which texture of `Paint`; -1 for none."""
    base: Float[Tensor, "S 3"]
    """Linear color before it is painted."""
    alpha: Float[Tensor, " S"]


def _finer(camera: Camera, samples: int) -> Camera:
    return replace(
        camera, focal=camera.focal * samples, width=camera.width * samples, height=camera.height * samples
    )


def _blended_image(look: _Look, light: Float[Tensor, "S 3"]) -> Float[Tensor, "4 P"]:
    """Premultiplied light and coverage of all pixels."""
    layers, pixels = look.layers, look.camera.width * look.camera.height
    color, cover = blended(layers.counts, layers.pixel, light.T, look.alpha, pixels)
    return torch.cat([color, cover[None]])


class _Stance:
    """What a variant does to the vertices of all parts, computed once."""

    def __init__(self, avatar: Avatar, parts: Sequence[Part], variant: Variant, scene: AvatarScene) -> None:
        expression = avatar.expression | variant.expression
        meshes = [morph_part(part, expression) for part in parts]
        transforms = joint_transforms(avatar.skeleton, variant.pose)
        self.transforms = torch.cat([skin_transforms(p.skin.joints, p.skin.weights, transforms) for p in parts])
        self.vertices = torch.cat([mesh.vertices for mesh in meshes])
        self.normals = torch.cat([mesh.normals for mesh in meshes])
        self.rest = torch.cat([part.mesh.vertices for part in parts])
        self.rest_normals = torch.cat([part.mesh.normals for part in parts])
        faces, weld = scene.scene.faces, scene.weld
        self.smooth = vertex_normals(self.vertices, faces, weld)
        self.rest_smooth = vertex_normals(self.rest, faces, weld)

    def moved(
        self, offsets: Tensor, faces: Tensor, weld: Tensor
    ) -> tuple[Float[Tensor, "V 3"], Float[Tensor, "V 3"]]:
        """Posed vertices and unit normals with offsets of the rest shape."""
        vertices = self.vertices + offsets
        normals = self.normals + vertex_normals(vertices, faces, weld) - self.smooth
        turned = torch.bmm(self.transforms[:, :, :3], normals[:, :, None])[:, :, 0]
        return self.posed(vertices), F.normalize(turned, dim=-1)

    def posed(self, vertices: Float[Tensor, "V 3"]) -> Float[Tensor, "V 3"]:
        """Vertices at rest, under the joints of this stance."""
        T = self.transforms
        return torch.baddbmm(T[:, :, 3:], T[:, :, :3], vertices[:, :, None])[:, :, 0]

    def restyled(
        self, offsets: Tensor, faces: Tensor, weld: Tensor
    ) -> tuple[Float[Tensor, "V 3"], Float[Tensor, "V 3"]]:
        """Vertices and unit normals at rest, without any face shape."""
        vertices = self.rest + offsets
        normals = self.rest_normals + vertex_normals(vertices, faces, weld) - self.rest_smooth
        return vertices, F.normalize(normals, dim=-1)
