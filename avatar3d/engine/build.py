"""AvatarSpec -> Avatar: every part of a person, in one place."""

from __future__ import annotations

from avatar3d.body.shape import shape_body
from avatar3d.engine.attach import Figure
from avatar3d.engine.beard import make_beard
from avatar3d.engine.brows import make_brows
from avatar3d.engine.eyes import make_eyes
from avatar3d.engine.hair import make_hair
from avatar3d.engine.outfit import make_outfit
from avatar3d.engine.shoes import lifted, sole_height
from avatar3d.engine.skin import make_skin
from avatar3d.spec import AvatarSpec
from avatar3d.structures import Avatar


def build_avatar(spec: AvatarSpec) -> Avatar:
    """A complete rigged avatar at rest. Equal specs give byte-identical avatars."""
    figure = Figure(shape_body(spec))
    outfit = make_outfit(spec, figure)
    bare = (*make_skin(spec, figure, outfit.hidden), *make_eyes(spec, figure))
    grown = (*make_hair(spec, figure), *make_beard(spec, figure), *make_brows(spec, figure))
    parts = (*bare, *outfit.parts, *grown)
    return lifted(Avatar(spec, figure.body.skeleton, parts), sole_height(spec))
