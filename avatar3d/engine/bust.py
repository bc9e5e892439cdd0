"""AvatarSpec -> what a field of a bust shows: skin, eyes, hair, beard, brows, top and hat, at rest and still."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool2d

from avatar3d.body.shape import shape_body
from avatar3d.engine.attach import Figure
from avatar3d.engine.beard import make_beard
from avatar3d.engine.brows import make_brows
from avatar3d.engine.earrings import make_earrings
from avatar3d.engine.eyes import make_eyes
from avatar3d.engine.garment import Layers
from avatar3d.engine.glasses import make_glasses
from avatar3d.engine.hair import make_hair
from avatar3d.engine.hats import make_hat
from avatar3d.engine.lashes import make_lashes
from avatar3d.engine.shoes import sole_height
from avatar3d.engine.skin import make_skin
from avatar3d.engine.tops import make_top
from avatar3d.fields.box import bust_bounds
from avatar3d.spec import AvatarSpec
from avatar3d.structures import Avatar, Mesh, Part

TEXTURE = 512
"""Textures are halved until they are at most so high: finer detail is lost in a field."""
BELOW = 0.8
"""Triangles are kept down to so far below the box, in shares of its height, so that its floor is closed."""


class StillFigure(Figure):
    """A figure without face shapes, which take a third of the time."""

    @property
    def actions(self) -> Float[Tensor, "A V 3"]:  # type: ignore[override]
        """No movement at all."""
        return self.vertices.new_zeros(1, 1, 1).expand(len(self.body.template.action_names), *self.vertices.shape)


@dataclass(frozen=True)
class Bust:
    """Parts with colors only, and the box of their field."""

    parts: tuple[Part, ...]
    bounds: Float[Tensor, "2 3"]


def build_bust(spec: AvatarSpec, thin: bool = False) -> Bust:
    """The parts of `build_avatar(spec)` that a field carries, in the same places, without what does not show.

    Glasses, lashes and jewellery are too thin for a field; they are left out unless `thin` asks for them.
    """
    figure = StillFigure(shape_body(spec))
    layers = Layers.bare(figure)
    worn = [make_top(spec, figure, layers), make_hat(spec, figure, layers)]
    hidden = torch.from_numpy(worn[0].covered | worn[1].covered)[figure.skin_faces].all(dim=1)
    hair = make_hair(spec, figure)
    eyes = make_eyes(spec, figure)[:1]
    parts = [*make_skin(spec, figure, hidden), *eyes, *hair.parts, *make_beard(spec, figure)]
    parts += [*make_brows(spec, figure), *(part for garment in worn for part in garment.parts)]
    if thin:
        parts += [*make_glasses(spec, figure), *make_earrings(spec, figure), *make_lashes(spec, figure)]
    kinds = FIELD_KINDS + (THIN_KINDS if thin else ())
    return bust_of(Avatar(spec, hair.skeleton, tuple(parts)), sole_height(spec), kinds)


FIELD_KINDS = ("body", "eyes", "brows", "hair", "beard", "hat", "top")
"""Kinds of parts that a field carries."""
THIN_KINDS = ("glasses", "jewellery", "lashes")


def bust_of(avatar: Avatar, lift: float = 0.0, kinds: tuple[str, ...] = FIELD_KINDS) -> Bust:
    """The part of an avatar that a field carries (or parts of other kinds), raised by `lift` metres."""
    up = torch.tensor([0.0, lift, 0.0])
    bounds = bust_bounds(avatar.skeleton) + up
    floor = float(bounds[0, 1] - BELOW * (bounds[1, 1] - bounds[0, 1]))
    parts = []
    for part in avatar.parts:
        mesh = replace(part.mesh, vertices=part.mesh.vertices + up)
        mesh = replace(mesh, faces=mesh.faces[(mesh.vertices[:, 1] > floor)[mesh.faces].any(dim=1)])
        if part.kind in kinds and len(mesh.faces):
            parts.append(replace(part, mesh=_plain(mesh), morphs=None))
    return Bust(tuple(parts), bounds)


def _plain(mesh: Mesh) -> Mesh:
    """Without normal and roughness maps, with a smaller color texture."""
    material = mesh.material
    texture = material.base_color_texture
    while texture is not None and texture.shape[0] > TEXTURE and texture.shape[0] % 2 == texture.shape[1] % 2 == 0:
        texture = avg_pool2d(texture.permute(2, 0, 1)[None], 2)[0].permute(1, 2, 0)
    return replace(
        mesh,
        material=replace(material, base_color_texture=texture, normal_texture=None, orm_texture=None),
    )
