"""AvatarSpec -> Avatar: every part of a person, in one place."""

from __future__ import annotations

from avatar3d.body.shape import shape_body
from avatar3d.engine.attach import Figure, keep_faces, merge_parts, surface_part
from avatar3d.engine.beard import make_beard
from avatar3d.engine.brows import make_brows
from avatar3d.engine.hair import make_hair
from avatar3d.engine.outfit import make_outfit
from avatar3d.spec import AvatarSpec
from avatar3d.structures import Avatar, Material


def build_avatar(spec: AvatarSpec) -> Avatar:
    """A complete rigged avatar at rest. Equal specs give byte-identical avatars."""
    figure = Figure(shape_body(spec))
    skin = Material("skin", base_color=(0.8, 0.6, 0.5, 1.0), roughness=0.55)
    eye = Material("eyes", base_color=(0.95, 0.95, 0.95, 1.0), roughness=0.2)
    eyes = [surface_part(figure, f"eye_{side}", f"eye_{side}", "eyes", eye) for side in ("left", "right")]
    outfit = make_outfit(spec, figure)
    body = keep_faces(surface_part(figure, "body", "body", "body", skin), ~outfit.hidden)
    grown = (*make_hair(spec, figure), *make_beard(spec, figure), *make_brows(spec, figure))
    parts = (body, merge_parts(eyes, "eyes"), *outfit.parts, *grown)
    return Avatar(spec, figure.body.skeleton, parts)
