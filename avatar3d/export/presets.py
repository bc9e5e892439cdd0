"""What a platform can take, and avatars cut to it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from avatar3d.body.joints import with_at_most
from avatar3d.body.pose import morph_part
from avatar3d.body.visemes import ARKIT, COMPOSED, with_composed
from avatar3d.errors import InputError
from avatar3d.export.atlas import merged
from avatar3d.export.lod import reduced
from avatar3d.export.overlays import with_overlays_painted
from avatar3d.export.textures import with_smaller_textures
from avatar3d.structures import Avatar, MorphTargets, Part


@dataclass(frozen=True)
class Preset:
    """The size of an avatar for one kind of use."""

    triangles: int
    texture: int
    """Side of the largest texture, texels."""
    atlas: Literal["none", "alpha", "single"] = "none"
    """Materials: as they are, one for each alpha mode, or one."""
    joints: int = 75
    """Most joints; the ends of hair, twist joints and finger tips go first. Poses and clips need theirs."""
    painted: bool = False
    """Hair on the scalp and brows are painted onto the skin, and not layers of their own."""
    shapes: Literal["all", "arkit", "visemes", "none"] = "all"
    """Face shapes that stay."""


PRESETS = {
    "hero": Preset(60_000, 2048, joints=256),
    "desktop": Preset(30_000, 2048, "alpha"),
    "web": Preset(15_000, 1024, "alpha", painted=True),
    "quest": Preset(9_000, 1024, "single", painted=True),
    "crowd": Preset(2_500, 512, "single", painted=True, shapes="none"),
}
"""After the budgets of VRChat, Ready Player Me and web viewers (see `export.platforms`)."""


class PresetError(InputError, ValueError):
    """A preset that is not there."""


def preset_named(name: str) -> Preset:
    """Raises `PresetError` that names the presets."""
    if name not in PRESETS:
        raise PresetError(f"no preset {name!r}; the presets are: {', '.join(PRESETS)}")
    return PRESETS[name]


def apply(avatar: Avatar, preset: Preset) -> Avatar:
    """The avatar with the preset's joints, shapes, triangles, textures and materials.

    An expression that the avatar wears but can no longer make becomes part of its face.
    """
    avatar = with_at_most(avatar, preset.joints)
    if preset.painted:
        avatar = with_overlays_painted(avatar, preset.texture // 2)
    avatar = with_shapes(reduced(avatar, preset.triangles), preset.shapes)
    if preset.atlas == "none":
        return with_smaller_textures(avatar, preset.texture)
    return merged(avatar, preset.atlas, preset.texture)


def levels(avatar: Avatar, count: int) -> list[Avatar]:
    """`count` levels of detail: all, a half, a quarter ... of the avatar's triangles."""
    total = sum(len(part.mesh.faces) for part in avatar.parts)
    return [avatar, *(reduced(avatar, max(total >> level, 1)) for level in range(1, count))]


def with_shapes(avatar: Avatar, shapes: str) -> Avatar:
    """The avatar with only a set of face shapes (see `Preset.shapes`); visemes are composed when missing."""
    if shapes == "all":
        return avatar
    kept: set[str] = set(ARKIT) if shapes == "arkit" else set()
    if shapes == "visemes":
        kept = {"eyeBlinkLeft", "eyeBlinkRight", *(name for name in COMPOSED if name.startswith("viseme_"))}
        avatar = with_composed(avatar, sorted(kept - set(ARKIT)))
    lost = {name: weight for name, weight in avatar.expression.items() if name not in kept}
    parts = tuple(_with_shapes(part, kept, lost) for part in avatar.parts)
    return replace(avatar, parts=parts, expression={n: w for n, w in avatar.expression.items() if n in kept})


def _with_shapes(part: Part, kept: set[str], lost: dict[str, float]) -> Part:
    if part.morphs is None:
        return part
    rows = [i for i, name in enumerate(part.morphs.names) if name in kept]
    names = tuple(part.morphs.names[i] for i in rows)
    morphs = MorphTargets(names, part.morphs.deltas[rows]) if rows else None
    return replace(part, mesh=morph_part(part, lost), morphs=morphs)
