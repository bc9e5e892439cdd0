"""Pictures of where on a body each pixel looks: 24 parts, and two coordinates in each.

Parts are numbered as DensePose does (Guler et al. 2018, arXiv 1802.00434): torso 1 back, 2 front; hands 3 right,
4 left; feet 5 left, 6 right; upper legs 7, 8 back, 9, 10 front; lower legs 11, 12 back, 13, 14 front (each right,
left); upper arms 15, 16 inside, 17, 18 outside; lower arms 19, 20 inside, 21, 22 outside (each left, right); head
23 right, 24 left. Which part a point is of follows from its skin weights and the joints, so that any skeleton with
the joints that VRM requires has them. Borders and u, v inside parts are ours: v runs along the part's bone, u
around it. They agree with DensePose's charts in what is where, not in numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from avatar3d.errors import InputError
from avatar3d.mesh.laplacian import cotangents, diffused
from avatar3d.mesh.normals import weld_by_position
from avatar3d.render.sight import interpolated, sight
from avatar3d.structures import Camera, Skeleton, Skin

PARTS = 24
Picture = Literal["parts", "parts_on_violet", "iuv"]
"""A color for each part over black; the same over the ramp's color of no part; or (part / 24, u, v) over black."""

LIMBS = ("UpperArm", "LowerArm", "Hand", "UpperLeg", "LowerLeg", "Foot")
REGIONS = ("torso", "head", *(f"{side}{limb}" for limb in LIMBS for side in ("left", "right")))
REGION_PARTS = (
    (2, 1), (24, 23), (15, 17), (16, 18), (19, 21), (20, 22), (4, 4), (3, 3),
    (10, 8), (9, 7), (14, 12), (13, 11), (5, 5), (6, 6),
)  # fmt: skip
"""Of each region the part in front of its bone (inside, for arms; left, for the head) and the one behind."""
ENDS = {"UpperArm": "LowerArm", "LowerArm": "Hand", "UpperLeg": "LowerLeg", "LowerLeg": "Foot"}
NEEDED = ("hips", "head", *REGIONS[2:])
MIRRORED = (0, 1, *(k ^ 1 for k in range(2, len(REGIONS))))
"""The region on the other side."""
EVENED = 0.03
"""Metres that borders of regions are smoothed over."""
RAMP = (
    (68, 1, 84), (72, 40, 120), (62, 74, 137), (49, 104, 142), (38, 130, 142), (31, 158, 137), (53, 183, 121),
    (109, 205, 89), (180, 222, 44), (253, 231, 37),
)  # fmt: skip
"""Even steps from violet over green to yellow, 8-bit sRGB: about the viridis of matplotlib (CC0)."""


class DensePoseError(InputError, ValueError):
    """A skeleton without the joints that parts are told by."""


@dataclass(frozen=True)
class Charts:
    """Of each of the R regions at rest the frame in which u and v are read."""

    origin: Float[Tensor, "R 3"]
    axis: Float[Tensor, "R 3"]
    """Where v grows; unit length, as the next two."""
    front: Float[Tensor, "R 3"]
    side: Float[Tensor, "R 3"]
    reach: Float[Tensor, "R 2"]
    """Along the axis, where v is 0 and 1."""


@dataclass(frozen=True)
class DenseBody:
    """A posed surface that knows where each of its vertices is at rest."""

    vertices: Float[Tensor, "V 3"]
    faces: Int[Tensor, "F 3"]
    rest: Float[Tensor, "V 3"]
    weights: Float[Tensor, "V R"]
    """Share of each region; interpolated, the largest decides."""
    charts: Charts

    def to(self, device: torch.device | str) -> DenseBody:
        """The same on another device."""
        charts = Charts(*(value.to(device) for value in vars(self.charts).values()))
        vertices, faces, rest, weights = (
            value.to(device) for value in (self.vertices, self.faces, self.rest, self.weights)
        )
        return DenseBody(vertices, faces, rest, weights, charts)


def region_weights(skin: Skin, skeleton: Skeleton) -> Float[Tensor, "V R"]:
    """What the joints of each region have of each vertex. Joints of no name here go with the joint above them.

    Raises `DensePoseError` for a skeleton that lacks a joint of `NEEDED`.
    """
    lacking = [name for name in NEEDED if name not in skeleton.names]
    if lacking:
        raise DensePoseError(
            f"a dense pose needs the joint {lacking[0]}, which this skeleton lacks; rename the bones of the file "
            "as VRM does, or leave --controlnet out"
        )
    regions: list[int] = []
    for name, parent in zip(skeleton.names, skeleton.parents, strict=True):
        name = "head" if name == "neck" else name
        regions.append(REGIONS.index(name) if name in REGIONS else 0 if parent < 0 else regions[parent])
    index = torch.tensor(regions, device=skin.joints.device)[skin.joints]
    return skin.weights.new_zeros(len(index), len(REGIONS)).scatter_add_(1, index, skin.weights)


def evened(
    weights: Float[Tensor, "V R"], rest: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"]
) -> Float[Tensor, "V R"]:
    """Smoothed over the surface, texture seams too, since skin weights are fit to be bent and not to be drawn."""
    used, corners = faces.cpu().unique(return_inverse=True)
    weld = weld_by_position(rest[used.to(rest.device)]).cpu()
    first = torch.empty(int(weld.max()) + 1, dtype=torch.long).scatter_(0, weld, used)
    laplacian, area = cotangents(rest[first].double().cpu().numpy(), weld[corners].numpy())
    smooth = torch.from_numpy(diffused(weights[first].cpu().numpy(), laplacian, area, EVENED))
    made = weights.clone()
    made[used] = smooth[weld].to(weights)
    return made


def charts_of(rest: Float[Tensor, "V 3"], weights: Float[Tensor, "V R"], skeleton: Skeleton) -> Charts:
    """Frames of the regions from the joints at rest; right ones mirror left ones."""
    at = dict(zip(skeleton.names, skeleton.positions.to(rest), strict=True))
    x, y, z = torch.eye(3).to(rest)
    hips, shoulders = (0.5 * (at[f"left{j}"] + at[f"right{j}"]) for j in ("UpperLeg", "UpperArm"))
    middle = torch.stack([shoulders[0], *at["head"][1:]])
    frames = [(hips, shoulders - hips, z, x), (middle, y, x, z)]
    for limb in LIMBS:
        for hand, sign in (("left", 1.0), ("right", -1.0)):
            start, palm = at[f"{hand}{limb}"], _palm(at, hand)
            if limb == "Hand":
                along, front = _hand(at, hand), -palm
            elif limb == "Foot":
                along, front = z, y
            else:
                along, front = at[f"{hand}{ENDS[limb]}"] - start, palm if limb == "LowerArm" else z
            frames.append((start, along, front, sign * torch.linalg.cross(front, along)))
    origin, axis, front, side = (torch.stack(column) for column in zip(*frames, strict=True))
    axis = F.normalize(axis, dim=-1)
    front = F.normalize(front - (front * axis).sum(-1, keepdim=True) * axis, dim=-1)
    side = side - (side * axis).sum(-1, keepdim=True) * axis
    side = F.normalize(side - (side * front).sum(-1, keepdim=True) * front, dim=-1)
    region = weights.argmax(1)
    along = ((rest - origin[region]) * axis[region]).sum(1)
    reach = rest.new_tensor([[0.0, 1.0]]).repeat(len(REGIONS), 1)
    for column, which in enumerate(("amin", "amax")):
        reach[:, column] = reach[:, column].scatter_reduce(0, region, along, which, include_self=False)
    return Charts(origin, axis, front, side, reach)


def _hand(at: dict[str, Tensor], side: str) -> Float[Tensor, " 3"]:
    """From the wrist to the knuckle of the middle finger; as the lower arm where there are no fingers."""
    wrist, knuckle = at[f"{side}Hand"], f"{side}MiddleProximal"
    return at[knuckle] - wrist if knuckle in at else wrist - at[f"{side}LowerArm"]


def _palm(at: dict[str, Tensor], side: str) -> Float[Tensor, " 3"]:
    """Where the palm faces at rest; down where there are no fingers."""
    wrist, knuckles = at[f"{side}Hand"], [f"{side}{finger}Proximal" for finger in ("Little", "Index")]
    if not set(knuckles) <= set(at):
        return wrist.new_tensor([0.0, -1.0, 0.0])
    little, index = (at[name] - wrist for name in knuckles)
    return F.normalize(torch.linalg.cross(little, index), dim=0) * (1.0 if side == "left" else -1.0)


def chart(
    charts: Charts, points: Float[Tensor, "N 3"], weights: Float[Tensor, "N R"]
) -> tuple[Int[Tensor, " N"], Float[Tensor, "N 2"]]:
    """Parts, 1 to 24, and u, v in [0, 1] of points of the surface at rest.

    u goes around the bone: half a turn in parts that have another on their bone's other side (from the body's
    right to its left on the torso, from back to front on the head, outwards on upper arms and legs), a whole one
    on hands and feet.
    """
    region = weights.argmax(1)
    away = points - charts.origin[region]
    along, ahead, aside = ((away * frame[region]).sum(1) for frame in (charts.axis, charts.front, charts.side))
    pairs = torch.tensor(REGION_PARTS, device=region.device)[region]
    part = torch.where(ahead >= 0, pairs[:, 0], pairs[:, 1])
    whole = pairs[:, 0] == pairs[:, 1]
    u = torch.where(
        whole,
        0.5 + torch.atan2(aside, ahead) / (2 * torch.pi),
        0.5 + torch.atan2(aside, ahead.abs()) / torch.pi,
    )
    low, high = charts.reach[region].unbind(1)
    v = (along - low) / (high - low).clamp_min(1e-9)
    return part, torch.stack([u, v], 1).clamp(0, 1)


@torch.no_grad()
def dense_pose(
    body: DenseBody, cameras: Sequence[Camera], size: int, picture: Picture = "parts"
) -> Float[Tensor, "B 3 S S"]:
    """What cameras see of a body, as pictures for a ControlNet, `size` pixels a side, without smooth edges.

    Parts and coordinates are read pixel by pixel, so that they do not mix at borders.
    """
    drawn = []
    for camera in cameras:
        camera = replace(camera, focal=camera.focal * size / camera.height, width=size, height=size)
        seen = sight(body.vertices, body.faces, camera)
        corners = body.faces[seen.face]
        points, weights = (interpolated(values, corners, seen.barycentric) for values in (body.rest, body.weights))
        part, uv = chart(body.charts, points, weights)
        if picture == "iuv":
            colors = torch.cat([part[:, None] / PARTS, uv], 1)
        else:
            colors = part_colors(body.rest)[part]
        behind = colors.new_zeros(3) if picture != "parts_on_violet" else part_colors(body.rest)[0]
        flat = behind.expand(size * size, 3).index_copy(0, seen.pixel, colors.to(behind))
        drawn.append(flat.T.view(3, size, size))
    return torch.stack(drawn)


def part_colors(like: Tensor) -> Float[Tensor, "P 3"]:
    """sRGB of no part and of the 24 parts: n / 24 along `RAMP`."""
    ramp = torch.tensor(RAMP).to(like).T[None] / 255
    return F.interpolate(ramp, size=PARTS + 1, mode="linear", align_corners=True)[0].T
