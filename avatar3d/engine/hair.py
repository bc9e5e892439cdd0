"""Hair: sixteen styles as ribbons and tubes over a cap on the scalp."""

from __future__ import annotations

import numpy as np
import torch

from avatar3d.engine.attach import Figure
from avatar3d.engine.hair_cap import cap_part
from avatar3d.engine.hair_chart import scalp_of
from avatar3d.engine.hair_hat import pressed
from avatar3d.engine.hair_long import bob, long_straight, long_wavy
from avatar3d.engine.hair_roots import HeadOfHair
from avatar3d.engine.hair_ropes import afro, dreadlocks
from avatar3d.engine.hair_short import balding, curly, mohawk, quiff, short, side_part
from avatar3d.engine.hair_strands import Pieces, join, obstacle_of, outside
from avatar3d.engine.hair_texture import strand_texture
from avatar3d.engine.hair_tied import braids, bun, ponytail
from avatar3d.spec import AvatarSpec
from avatar3d.structures import Material, Mesh, Part, Skin

STYLES = {
    "balding": balding, "short": short, "side_part": side_part, "quiff": quiff, "bob": bob,
    "long_straight": long_straight, "long_wavy": long_wavy, "curly": curly, "afro": afro, "ponytail": ponytail,
    "bun": bun, "braids": braids, "mohawk": mohawk, "dreadlocks": dreadlocks,
}  # fmt: skip
"""Styles with strands; buzz is the cap alone."""


def make_hair(spec: AvatarSpec, figure: Figure) -> list[Part]:
    """A cap on the scalp and the strands over it; nothing for bald heads and under a headscarf.

    Under any other hat, hair above `headwear_line.hat_plane` keeps within its clearance of the scalp.
    """
    if spec.hair_style == "bald" or spec.hat == "headscarf":
        return []
    scalp = scalp_of(figure)
    parts = [cap_part(spec, figure, scalp)]
    if spec.hair_style in STYLES:
        body = obstacle_of(figure, scalp)
        hair = HeadOfHair(spec, figure, scalp, body, np.random.default_rng([spec.seed, 4711]))
        pieces = outside(join(STYLES[spec.hair_style](hair)), body)
        parts.append(_strands_part(spec, figure, pieces if spec.hat == "none" else pressed(pieces, figure, body)))
    return parts


def _strands_part(spec: AvatarSpec, figure: Figure, pieces: Pieces) -> Part:
    roughness = 0.95 if spec.hair_style == "afro" else 0.68
    material = Material(
        "hair", base_color_texture=strand_texture(spec), roughness=roughness, alpha_mode="MASK", alpha_cutoff=0.45,
        double_sided=True,
    )  # fmt: skip
    mesh = Mesh(
        torch.from_numpy(pieces.vertices.astype(np.float32)),
        torch.from_numpy(pieces.faces.astype(np.int64)),
        torch.from_numpy(pieces.normals.astype(np.float32)),
        torch.from_numpy(pieces.uv.astype(np.float32)),
        material,
    )
    return Part("hair", "hair", mesh, hair_skin(figure, mesh.vertices))


def hair_skin(figure: Figure, vertices: torch.Tensor) -> Skin:
    """Hair follows the head down to the chin, and more and more the chest below, so that it lies on the shoulders
    when the head turns."""
    head, neck, chest = (figure.body.bone(n)[1] for n in ("head", "neck", "upperChest"))
    y = vertices[:, 1]
    low = ((head - y) / (head - neck + 0.03)).clamp(0, 1)
    low = low * low * (3 - 2 * low)
    deep = ((neck - y) / (neck - chest)).clamp(0, 1)
    weights = torch.stack([1 - low, low * (1 - deep), low * deep, torch.zeros_like(low)], dim=1)
    joints = torch.tensor([figure.joint("head"), figure.joint("neck"), figure.joint("upperChest"), 0])
    joints = torch.where(weights > 0, joints, 0)
    return Skin(joints, weights / weights.sum(dim=1, keepdim=True))
