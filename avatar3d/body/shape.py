"""From a spec to a body at rest: MakeHuman's macro modelling over the compiled template."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.body import lips
from avatar3d.body.controls import PHENOTYPES, changes_of, strength_of
from avatar3d.body.lids import eye_sphere, round_eye
from avatar3d.body.skin_weights import mended_weights
from avatar3d.body.template import Template, load_template
from avatar3d.spec import AvatarSpec
from avatar3d.structures import Skeleton

AGE_ANCHORS = (
    (1.0, 0.0), (5.0, 0.22), (9.5, 1 / 3), (11.0, 0.4), (13.0, 0.5), (15.0, 0.6), (20.0, 2 / 3),
    (35.0, 0.71), (50.0, 0.78), (65.0, 0.87), (90.0, 1.0),
)  # fmt: skip
"""Years to anny's age (0 baby, 1/3 child, 2/3 young, 1 old), set so that children have the usual heights."""

GRAIN = 1e-7
"""Metres to which the phenotype's offsets are rounded."""

ANCHORS = (
    ("race", 3), ("gender", 2), ("age", 5), ("muscle", 3), ("weight", 3), ("height", 2), ("proportions", 2),
    ("cupsize", 3), ("firmness", 3),
)  # fmt: skip


@dataclass(frozen=True)
class ShapedBody:
    """The template in one person's shape, at rest (arms in an A), soles at Y = 0."""

    template: Template
    vertices: Float[Tensor, "V 3"]
    """Welded vertices, all surfaces (helpers included)."""
    skeleton: Skeleton
    """`root` at the origin, the template's bones, then `leftEye` and `rightEye`."""

    def bone(self, name: str) -> Float[Tensor, " 3"]:
        """Rest position of a joint."""
        return self.skeleton.positions[self.skeleton.names.index(name)]


def shape_body(spec: AvatarSpec) -> ShapedBody:
    """Vertices and joints of a spec's body."""
    template = load_template()
    points = rest_points(template, phenotype_of(spec), local_changes_of(spec))
    vertices = points[: len(template.vertices)]
    heads = points[len(template.vertices) :]
    ground = vertices[template.surface_vertices("body"), 1].min()
    lift = torch.tensor([0.0, float(ground), 0.0])
    vertices = vertices - lift
    for side in ("left", "right"):
        round_eye(template, vertices.numpy(), side)
    lips.meet(template, vertices.numpy())
    return ShapedBody(template, vertices, _skeleton(template, vertices, heads - lift))


def rest_points(template: Template, phenotype: dict[str, float], local: dict[str, float]) -> Float[Tensor, "N 3"]:
    """Vertices and bone heads for anny's own inputs, in the avatar frame, not yet put on the ground."""
    weights = phenotype_weights(template, phenotype).double() @ template.projection.double()
    points = torch.cat([template.vertices, template.bone_heads])
    moved = torch.einsum("b,bnc->nc", weights, template.basis.double())
    points = points + (moved / GRAIN).round().mul(GRAIN).float()  # no trace of the order in which threads add
    for label, amount in local.items():
        shapes = template.local[template.local_names.index(label)]
        points = points + abs(amount) * shapes[0 if amount >= 0 else 1]
    return points


def phenotype_of(spec: AvatarSpec) -> dict[str, float]:
    """anny's phenotype values of a spec. Height uses the plausible part of anny's range
    (1.44 to 1.82 m for women of average build, 1.58 to 1.96 m for men)."""
    return {
        "gender": 1.0 - spec.gender,
        "age": anny_age(spec.age),
        "muscle": _toned(spec.muscle, spec.weight),
        "weight": spec.weight,
        "height": 0.2 + 0.35 * spec.height,
        "proportions": 1.0 - spec.proportions,
        "cupsize": spec.bust,
        "firmness": 0.5,
        **ancestry_of(spec),
    }


ANCESTRY_BLEND = 0.2
"""MakeHuman's three ancestries are modelled as extremes; everyone gets this much of their average."""


def ancestry_of(spec: AvatarSpec) -> dict[str, float]:
    """Shares of anny's three modelled ancestries, summing to one."""
    total = spec.african + spec.asian + spec.european
    shares = {"african": spec.african, "asian": spec.asian, "caucasian": spec.european}
    return {k: (1 - ANCESTRY_BLEND) * v / total + ANCESTRY_BLEND / 3 for k, v in shares.items()}


def _toned(muscle: float, weight: float) -> float:
    """anny's muscle value. Its heavy and thin bodies only look it when muscle is low (with average muscle the body
    mass index of men ends at 25), so weight away from the middle lowers it, except for the very muscular."""
    away = 2 * weight - 1
    lower = 0.85 * max(away, 0.0) + 0.35 * max(-away, 0.0)
    spared = max(2 * muscle - 1, 0.0) ** 2
    return muscle * (1 - lower * (1 - spared))


def anny_age(years: float) -> float:
    """Piecewise linear through `AGE_ANCHORS`; 90 and more is 1."""
    for (y0, a0), (y1, a1) in itertools.pairwise(AGE_ANCHORS):
        if years <= y1:
            return a0 + (a1 - a0) * (years - y0) / (y1 - y0)
    return 1.0


def local_changes_of(spec: AvatarSpec) -> dict[str, float]:
    """anny's local changes of a spec's face and body controls; children's features are less marked."""
    maturity = min(max(0.55 + 0.45 * (spec.age - 5) / 13, 0.55), 1.0)
    return {
        label: amount * strength_of(control) * maturity
        for control, amount in {**spec.face, **spec.body}.items()
        if amount != 0.0
        for label in changes_of(control)
    }


def phenotype_weights(template: Template, phenotype: dict[str, float]) -> Float[Tensor, " K"]:
    """Weight of each macro shape: the product of its variations' interpolation weights."""
    ancestry = torch.tensor([phenotype["african"], phenotype["asian"], phenotype["caucasian"]])
    columns = [ancestry / ancestry.sum()]
    for name, count in ANCHORS[1:]:
        low = -1 / 3 if name == "age" else 0.0
        columns.append(hat_weights(phenotype[name], low, 1.0, count))
    variation = torch.cat(columns)
    return torch.prod(variation * template.phenotype_mask + (1 - template.phenotype_mask), dim=1)


def hat_weights(value: float, low: float, high: float, count: int) -> Float[Tensor, " count"]:
    """Linear interpolation weights of `value` over `count` even anchors from `low` to `high`."""
    position = (min(max(value, low), high) - low) / (high - low) * (count - 1)
    left = min(math.floor(position), count - 2)
    weights = torch.zeros(count)
    weights[left + 1] = position - left
    weights[left] = 1 - weights[left + 1]
    return weights


def _skeleton(template: Template, vertices: Tensor, heads: Tensor) -> Skeleton:
    eyes = [eye_sphere(template, vertices.numpy(), side)[0] for side in ("left", "right")]
    head = template.bone_names.index("head") + 1
    return Skeleton(
        names=("root", *template.bone_names, "leftEye", "rightEye"),
        parents=(-1, *(p + 1 for p in template.bone_parents), head, head),
        positions=torch.cat([torch.zeros(1, 3), heads, torch.tensor(np.stack(eyes)).float()]),
    )


assert len(PHENOTYPES) == len(ANCHORS) + 2


def skin_of(template: Template) -> tuple[Tensor, Tensor]:
    """Joints (V, 4) and weights (V, 4) over `ShapedBody.skeleton`; eyeballs follow their own joints."""
    joints, weights = mended_weights(template)
    joints = torch.where(weights > 0, joints + 1, 0)
    weights = weights.clone()
    for i, side in enumerate(("left", "right")):
        eye = template.surface_vertices(f"eye_{side}")
        joints[eye] = torch.tensor([len(template.bone_names) + 1 + i, 0, 0, 0])
        weights[eye] = torch.tensor([1.0, 0.0, 0.0, 0.0])
    return joints, weights
