"""The tongue: the template's, narrowed to lie between the lower teeth.

It sinks when the jaw opens, and leaves the mouth over the lower teeth.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from avatar3d.engine.attach import Figure, moving_morphs, surface_part
from avatar3d.engine.jaw import jaw_deltas
from avatar3d.mesh.normals import vertex_normals
from avatar3d.structures import Material, Part

HEIGHT = 0.6
"""Height of the resting tongue above its base, as a share of the template's, which fills the mouth."""
RETREAT = 0.10
"""Share of its length by which the tip of the resting tongue is drawn back."""
SLACK = 0.0006
"""Free way between the tongue and the teeth beside it and below it, metres on the template's head."""
SINK = 0.11
"""Share of its length by which the middle of the tongue sinks in a full `jawOpen`."""
THIN = 0.40
"""Share of its thickness that the front of the tongue loses in a full `tongueOut`."""
DROOP = 0.06
"""Share of its length by which the tip hangs below the bite in a full `tongueOut`."""
SECTIONS = 24


def make_tongue(figure: Figure, lower_crowns: np.ndarray, size: float) -> Part:
    """`lower_crowns` (C, 3) are vertices of the lower teeth without gums; `size` is the head's, 1 for adults."""
    material = Material("skin_tongue", base_color=(0.72, 0.36, 0.36, 1.0), roughness=0.45)
    part = surface_part(figure, "tongue", "tongue", "tongue", material)
    given = part.mesh.vertices.numpy().astype(np.float64)
    floor = np.quantile(given[:, 1], 0.15)
    rest = given.copy()
    rest[:, 1] -= (1 - HEIGHT) * np.maximum(given[:, 1] - floor, 0.0)
    rest[:, 2] -= RETREAT * (given[:, 2] - given[:, 2].min())
    slack = SLACK * size
    rest[:, 0] *= _narrowing(rest, lower_crowns, slack)
    deltas = jaw_deltas(figure, rest)
    template = figure.body.template
    along, length = _along(rest)
    deltas[template.action_names.index("jawOpen"), :, 1] -= SINK * length * np.sin(np.pi * along**0.8)
    out = template.action_names.index("tongueOut")
    reach = figure.actions[out, template.surface("tongue")[0]].numpy().astype(np.float64)
    deltas[out] = _put_out(rest, reach, lower_crowns, slack) - rest
    vertices = torch.from_numpy(rest).float()
    corner, _, faces = template.surface("tongue")
    welded = torch.unique(corner, return_inverse=True)[1]
    mesh = replace(part.mesh, vertices=vertices, normals=vertex_normals(vertices, faces, welded))
    return replace(part, mesh=mesh, morphs=moving_morphs(figure, torch.from_numpy(deltas).float()))


def _along(points: np.ndarray) -> tuple[np.ndarray, float]:
    """(N,) place from the root (0) to the tip (1), and the tongue's length."""
    length = float(np.ptp(points[:, 2]))
    return (points[:, 2] - points[:, 2].min()) / length, length


def _narrowing(points: np.ndarray, crowns: np.ndarray, slack: float) -> np.ndarray:
    """(N,) factors of the width with which every section lies between the teeth beside it."""
    edges = np.linspace(points[:, 2].min(), points[:, 2].max(), SECTIONS + 1)
    reach = 2 * (edges[1] - edges[0])
    factor = np.ones(SECTIONS)
    middles = (edges[:-1] + edges[1:]) / 2
    for k, z in enumerate(middles):
        beside = np.abs(crowns[:, 2] - z) < reach
        own = np.abs(points[:, 2] - z) < reach
        if beside.any() and own.any():
            free = np.abs(crowns[beside, 0]).min() - slack
            factor[k] = np.clip(free / max(np.abs(points[own, 0]).max(), 1e-6), 0.3, 1.0)
    factor = np.minimum.accumulate(factor)
    smooth = np.convolve(np.pad(factor, 1, mode="edge"), [0.25, 0.5, 0.25], "valid")
    return np.interp(points[:, 2], middles, smooth)


def _put_out(rest: np.ndarray, reach: np.ndarray, crowns: np.ndarray, slack: float) -> np.ndarray:
    """(N, 3) the tongue out: thin in front, over the edge of the lower front teeth, its tip hanging."""
    along, length = _along(rest)
    points = rest + reach
    front = np.clip((along - 0.25) / 0.45, 0, 1)
    front = front * front * (3 - 2 * front)
    middle = np.interp(along, *_middle_line(along, points[:, 1]))
    points[:, 1] = middle + (points[:, 1] - middle) * (1 - THIN * front)
    incisors = crowns[np.abs(crowns[:, 0]) < 0.3 * np.abs(crowns[:, 0]).max()]
    edge, sill = incisors[:, 1].max(), incisors[:, 2].max()
    over = np.abs(points[:, 2] - sill) < 0.1 * length
    lift = max(edge + slack - points[over, 1].min(), 0.0) if over.any() else 0.0
    rise = np.clip((points[:, 2] - points[:, 2].min()) / (sill - points[:, 2].min()), 0, None)
    points[:, 1] += lift * np.minimum(rise, 1.0) ** 1.5
    points[:, 1] -= DROOP * length * np.clip((points[:, 2] - sill) / (0.25 * length) - 0.15, 0, None) ** 1.5
    return points


def _middle_line(along: np.ndarray, heights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places and middle heights of `SECTIONS` sections of the tongue."""
    places = (np.arange(SECTIONS) + 0.5) / SECTIONS
    near = [np.abs(along - place) < 1.5 / SECTIONS for place in places]
    kept = np.array([n.any() for n in near])
    middles = np.array([(heights[n].min() + heights[n].max()) / 2 for n in near if n.any()])
    return places[kept], middles
