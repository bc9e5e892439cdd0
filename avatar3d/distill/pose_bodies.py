"""Whose pose a ControlNet is told: a neutral body's in a field's box, or that of the avatar that is restyled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.body.pose import joint_transforms, relaxed_pose, skin_points
from avatar3d.body.shape import shape_body, skin_of
from avatar3d.body.template import mirror_map
from avatar3d.distill.avatar_scene import AvatarScene
from avatar3d.distill.dense_pose import (
    MIRRORED,
    DenseBody,
    Picture,
    charts_of,
    dense_pose,
    evened,
    region_weights,
)
from avatar3d.distill.scene import Poses
from avatar3d.distill.stage import Figure
from avatar3d.fields.box import bust_bounds
from avatar3d.spec import AvatarSpec
from avatar3d.structures import Camera, Skin

SURFACES = ("body", "eye_left", "eye_right")
KINDS = ("body", "eyes", "top", "bottom", "shoes")
"""Parts of an avatar that are a body for a dense pose: clothes hide the skin below them, which is not there."""
HALF_HEIGHT = 0.95
"""Of a whole person in the box [-1, 1]^3."""


def neutral_body(spec: AvatarSpec, figure: Figure) -> DenseBody:
    """A person's bare body at ease, where cameras of the box [-1, 1]^3 expect it.

    A bust is framed as pictures of the prior that ships are; a whole person stands `HALF_HEIGHT` up and down.
    """
    shaped = shape_body(spec)
    template = shaped.template
    corners = [template.surface(name) for name in SURFACES]
    faces = torch.cat([vertex[face] for vertex, _, face in corners])
    rest, skin, skeleton = shaped.vertices, Skin(*skin_of(template)), shaped.skeleton
    shares = region_weights(skin, skeleton)
    shares = 0.5 * (shares + shares[mirror_map(template)][:, MIRRORED])
    shares = evened(shares, rest, faces)
    posed = skin_points(rest, skin.joints, skin.weights, joint_transforms(skeleton, relaxed_pose()))
    if figure == "bust":
        bounds = bust_bounds(skeleton)
        scale = 0.5 * float(bounds[1, 1] - bounds[0, 1])
    else:
        shown = posed[faces.unique()]
        bounds = torch.stack([shown.amin(0), shown.amax(0)])
        scale = 0.5 * float(bounds[1, 1] - bounds[0, 1]) / HALF_HEIGHT
    placed = (posed - bounds.mean(0)) / scale
    return DenseBody(placed, faces, rest, shares, charts_of(rest, shares, skeleton))


def avatar_poses(scene: AvatarScene, picture: Picture) -> Poses:
    """Pictures of the avatar as the scene last drew it, bare of hair, without what its surface was moved by.

    Raises `dense_pose.DensePoseError` for a skeleton of other joints than VRM requires.
    """
    joints, weights = (torch.cat([getattr(p.skin, name) for p in scene.parts]) for name in ("joints", "weights"))
    rest = torch.cat([part.mesh.vertices for part in scene.parts])
    skeleton, face_mesh = scene.avatar.skeleton, scene.scene.face_mesh
    covers = torch.tensor([part.kind in KINDS for part in scene.parts]).to(face_mesh.device)
    faces = scene.scene.faces[covers[face_mesh]]
    backs = scene.scene.faces[covers[face_mesh] & scene.scene.two_sided[face_mesh]].flip(1)
    shares = evened(region_weights(Skin(joints, weights), skeleton), rest, faces)
    charts = charts_of(rest, shares, skeleton)
    body = DenseBody(rest, torch.cat([faces, backs]), rest, shares, charts).to(faces.device)

    def poses(cameras: Sequence[Camera], size: int) -> Float[Tensor, "B 3 S S"]:
        stance = scene.stances[scene.shown]
        shown = replace(body, vertices=stance.posed(stance.vertices).to(body.rest))
        return dense_pose(shown, cameras, size, picture)

    return poses
