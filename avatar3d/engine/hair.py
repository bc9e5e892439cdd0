"""Hair: sixteen styles as ribbons and tubes over a cap on the scalp."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from avatar3d.engine.attach import Figure
from avatar3d.engine.hair_cap import cap_part
from avatar3d.engine.hair_chart import scalp_of
from avatar3d.engine.hair_colliders import hair_colliders
from avatar3d.engine.hair_hat import pressed
from avatar3d.engine.hair_long import bob, long_straight, long_wavy
from avatar3d.engine.hair_roots import HeadOfHair
from avatar3d.engine.hair_ropes import afro, dreadlocks
from avatar3d.engine.hair_short import balding, curly, mohawk, quiff, short, side_part
from avatar3d.engine.hair_springs import collided, swinging
from avatar3d.engine.hair_strands import Pieces, join, obstacle_of, outside
from avatar3d.engine.hair_texture import strand_texture
from avatar3d.engine.hair_tied import braids, bun, ponytail
from avatar3d.spec import AvatarSpec
from avatar3d.structures import Avatar, Collider, Material, Mesh, Part, Skeleton, Skin, SpringChain

STYLES = {
    "balding": balding, "short": short, "side_part": side_part, "quiff": quiff, "bob": bob,
    "long_straight": long_straight, "long_wavy": long_wavy, "curly": curly, "afro": afro, "ponytail": ponytail,
    "bun": bun, "braids": braids, "mohawk": mohawk, "dreadlocks": dreadlocks,
}  # fmt: skip
"""Styles with strands; buzz is the cap alone."""


@dataclass(frozen=True)
class Hair:
    """Hair's parts, the skeleton with its joints, and how they swing."""

    parts: list[Part]
    skeleton: Skeleton
    springs: tuple[SpringChain, ...] = ()
    colliders: tuple[Collider, ...] = ()


def make_hair(spec: AvatarSpec, figure: Figure) -> Hair:
    """A cap on the scalp and the strands over it; nothing for bald heads and under a headscarf.

    Under any other hat, hair above `headwear_line.hat_plane` keeps within its clearance of the scalp. Long hair
    hangs on chains of joints.
    """
    skeleton = figure.body.skeleton
    if spec.hair_style == "bald" or spec.hat == "headscarf":
        return Hair([], skeleton)
    scalp = scalp_of(figure)
    cap = cap_part(spec, figure, scalp)
    if spec.hair_style not in STYLES:
        return Hair([cap], skeleton)
    body = obstacle_of(figure, scalp)
    hair = HeadOfHair(spec, figure, scalp, body, np.random.default_rng([spec.seed, 4711]))
    made = STYLES[spec.hair_style](hair)
    owner = np.repeat(np.arange(len(made)), [int(p.strand.max()) + 1 for p in made])
    pieces = outside(join(made), body)
    if spec.hat != "none":
        pieces = pressed(pieces, figure, body)
    swing = swinging(hair, pieces, owner)
    mesh = _strands_mesh(spec, pieces)
    if swing is None:
        return Hair([cap, Part("hair", "hair", mesh, hair_skin(skeleton, mesh.vertices))], skeleton)
    return Hair(
        [cap, Part("hair", "hair", mesh, swing.skin)],
        swing.skeleton,
        swing.springs,
        hair_colliders(figure, scalp.center, *collided(swing.springs, swing.skeleton)),
    )


def _strands_mesh(spec: AvatarSpec, pieces: Pieces) -> Mesh:
    roughness = 0.95 if spec.hair_style == "afro" else 0.68
    material = Material(
        "hair", base_color_texture=strand_texture(spec), roughness=roughness, alpha_mode="MASK", alpha_cutoff=0.45,
        double_sided=True,
    )  # fmt: skip
    return Mesh(
        torch.from_numpy(pieces.vertices.astype(np.float32)),
        torch.from_numpy(pieces.faces.astype(np.int64)),
        torch.from_numpy(pieces.normals.astype(np.float32)),
        torch.from_numpy(pieces.uv.astype(np.float32)),
        material,
    )


def hair_skin(skeleton: Skeleton, vertices: torch.Tensor) -> Skin:
    """Skin of hair that does not swing: it follows the head down to the chin, and more and more the neck and the
    chest below."""
    at = [skeleton.names.index(n) for n in ("head", "neck", "upperChest")]
    head, neck, chest = skeleton.positions[at, 1]
    y = vertices[:, 1]
    low = ((head - y) / (head - neck + 0.03)).clamp(0, 1)
    low = low * low * (3 - 2 * low)
    deep = ((neck - y) / (neck - chest)).clamp(0, 1)
    weights = torch.stack([1 - low, low * (1 - deep), low * deep, torch.zeros_like(low)], dim=1)
    joints = torch.where(weights > 0, torch.tensor([*at, 0]), 0)
    return Skin(joints, weights / weights.sum(dim=1, keepdim=True))


def without_springs(avatar: Avatar) -> Avatar:
    """The avatar with hair that follows head, neck and chest, for programs that do not simulate springs.

    There long hair would turn with the head as one stiff piece and sink into the shoulders. The avatar loses the
    joints of its chains.
    """
    chained = {joint for spring in avatar.springs for joint in spring.joints}
    keep = [i for i, n in enumerate(avatar.skeleton.names) if n not in chained]
    place = torch.full((len(avatar.skeleton.names),), -1)
    place[keep] = torch.arange(len(keep))
    old = avatar.skeleton
    parents = tuple(int(place[old.parents[i]]) if old.parents[i] >= 0 else -1 for i in keep)
    skeleton = Skeleton(tuple(old.names[i] for i in keep), parents, old.positions[keep])
    parts = []
    for part in avatar.parts:
        joints = place[part.skin.joints]
        skin = hair_skin(skeleton, part.mesh.vertices) if (joints < 0).any() else replace(part.skin, joints=joints)
        parts.append(replace(part, skin=skin))
    return replace(avatar, skeleton=skeleton, parts=tuple(parts), springs=(), colliders=())
