"""AvatarSpec -> Avatar: every part of a person, in one place."""

from __future__ import annotations

from avatar3d.body.shape import shape_body
from avatar3d.engine.attach import Figure
from avatar3d.engine.beard import make_beard
from avatar3d.engine.brows import make_brows
from avatar3d.engine.earrings import make_earrings
from avatar3d.engine.expressions import default_expression
from avatar3d.engine.eyes import make_eyes
from avatar3d.engine.glasses import make_glasses
from avatar3d.engine.hair import make_hair
from avatar3d.engine.lashes import make_lashes
from avatar3d.engine.mouth import make_mouth
from avatar3d.engine.outfit import make_outfit
from avatar3d.engine.shoes import lifted, sole_height
from avatar3d.engine.skin import make_skin
from avatar3d.mesh.faces import without_flat_triangles
from avatar3d.spec import AvatarSpec
from avatar3d.structures import Avatar


def build_avatar(spec: AvatarSpec) -> Avatar:
    """A complete rigged avatar at rest. Equal specs give byte-identical avatars."""
    figure = Figure(shape_body(spec))
    outfit = make_outfit(spec, figure)
    bare = (*make_skin(spec, figure, outfit.hidden), *make_eyes(spec, figure), *make_mouth(spec, figure))
    hair = make_hair(spec, figure)
    grown = (
        *hair.parts,
        *make_beard(spec, figure),
        *make_brows(spec, figure),
        *make_lashes(spec, figure),
    )
    worn = (*outfit.parts, *make_glasses(spec, figure), *make_earrings(spec, figure))
    parts = tuple(without_flat_triangles(part) for part in (*bare, *worn, *grown))
    avatar = Avatar(spec, hair.skeleton, parts, default_expression(spec), hair.springs, hair.colliders)
    return lifted(avatar, sole_height(spec))
