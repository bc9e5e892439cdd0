"""The template's skin weights, mended where linear blend skinning tears or collapses.

MakeHuman's weights jump from arm to chest in the armpit and from leg to leg in the crotch, where single triangles
grow twenty-fold: there they are smoothed. At elbows and knees they fade over so long a way that the bent joint
loses half its volume: there the stronger joint is made stronger.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from avatar3d.body.template import Template
from avatar3d.mesh.laplacian import cotangents, diffused
from avatar3d.mesh.weight_transfer import pruned

SMOOTHED = (("UpperArm", 0.10, 0.20), ("UpperLeg", 0.14, 0.24))
"""Joints with the distances up to which weights are smoothed wholly, and from which they are not; metres."""
RADIUS = 0.015
"""Reach of the smoothing, metres."""
SHARPENED = (("LowerArm", 0.06, 0.12), ("LowerLeg", 0.08, 0.16))
POWER = 1.7
"""Weights are raised to it and made to sum to one again."""


@cache
def mended_weights(template: Template) -> tuple[Int[Tensor, "V 4"], Float[Tensor, "V 4"]]:
    """Bones (V, 4) and weights (V, 4) over all welded vertices, strongest first; they sum to one."""
    smooth, sharp = _near(template, SMOOTHED), _near(template, SHARPENED)
    on_skin = np.zeros(len(smooth))
    on_skin[template.surface_vertices("body").numpy()] = 1.0
    smooth *= on_skin
    corner, _, faces = template.surface("body")
    triangles = corner[faces].numpy()
    triangles = triangles[(smooth[triangles] > 0).any(axis=1)]
    sharp_rows = np.flatnonzero((sharp > 0) & (smooth == 0))
    rows = np.union1d(triangles, sharp_rows)  # all that changes, and the border around it
    place = np.full(len(smooth), -1)
    place[rows] = np.arange(len(rows))
    dense = np.zeros((len(rows), len(template.bone_names)))
    np.add.at(
        dense, (np.arange(len(rows))[:, None], template.joints[rows].numpy()), template.weights[rows].numpy()
    )
    dense **= (1 + (POWER - 1) * sharp[rows])[:, None]
    dense /= dense.sum(axis=1, keepdims=True)
    laplacian, area = cotangents(template.vertices[rows].numpy().astype(np.float64), place[triangles])
    mended = pruned(diffused(dense, laplacian, area, RADIUS * smooth[rows]))
    order = np.argsort(-mended, axis=1, kind="stable")[:, :4]
    joints, weights = template.joints.clone(), template.weights.clone()
    joints[rows] = torch.from_numpy(order)
    weights[rows] = torch.from_numpy(np.take_along_axis(mended, order, axis=1).astype(np.float32))
    return joints, weights


def _near(template: Template, joints: tuple[tuple[str, float, float], ...]) -> np.ndarray:
    """(V,) 1 near joints of both sides, falling to 0."""
    points = template.vertices.numpy().astype(np.float64)
    near = np.zeros(len(points))
    for name, whole, none in joints:
        for side in ("left", "right"):
            head = template.bone_heads[template.bone_names.index(side + name)].numpy()
            near = np.maximum(near, np.clip((none - np.linalg.norm(points - head, axis=1)) / (none - whole), 0, 1))
    return near
