"""The 52 ARKit face actions in one person's shape."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from avatar3d.body.shape import ShapedBody

REFERENCE_EYE_DISTANCE = 0.0632
"""Metres between the eye centres of the head on which the actions were modelled."""


def face_actions(body: ShapedBody) -> Float[Tensor, "A V 3"]:
    """Offsets of every welded template vertex for each of `Template.action_names`, metres."""
    distance = (body.bone("leftEye") - body.bone("rightEye")).norm()
    return body.template.actions * (distance / REFERENCE_EYE_DISTANCE)
