"""GLB, VRM and glTF files -> `Avatar`: our own files and those of other programs.

Joints get our names where the file follows a bone profile or says which bone is what (VRM). Rest rotations and
scales of the file's nodes are absorbed: an avatar's joints are axis-aligned, its vertices in the file's rest pose.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from avatar3d.export.gltf_file import AvatarFileError, GltfFile, damage
from avatar3d.export.read_meshes import read_parts, target_names
from avatar3d.export.read_skeleton import FileSkeleton, read_skeleton
from avatar3d.export.read_springs import read_springs
from avatar3d.spec import AvatarSpec, SpecError, spec_from_json
from avatar3d.structures import Avatar, Part, Skeleton

TALLEST, SMALLEST = 50.0, 0.05
"""Metres. Figures beyond are taken to be in centimetres, if that makes them people, or refused."""
CENTIMETRES = (50.0, 400.0)


@dataclass(frozen=True)
class AvatarFile:
    """What a file held."""

    avatar: Avatar
    profile: str | None
    """The bone profile that its names follow (`export.profiles`), `vrm` for VRM files; None if unknown."""
    extras: dict
    """The file's `asset.extras`: a licence record, in files of this program."""
    copyright: str | None
    remarks: tuple[str, ...] = field(default=())
    """What was left out, mended or assumed, for the user to read."""
    vrm_meta: dict | None = None
    """Authors and terms of a VRM 1.0 file."""

    @property
    def origin(self) -> dict:
        """What the file says of its licence: the `original` of `licences.licence_record`."""
        said = {"extras": self.extras, "copyright": self.copyright, "vrm_meta": self.vrm_meta}
        return {key: value for key, value in said.items() if value}


def read_avatar(path: Path) -> Avatar:
    """The avatar of a file; `read_file` tells more. Raises `AvatarFileError`."""
    return read_file(path).avatar


def read_file(path: Path) -> AvatarFile:
    """An avatar and what the file says of it.

    Raises `AvatarFileError` when the file is missing, damaged, of another kind, compressed by an extension, or has
    no skeleton.
    """
    with damage(path):
        file = GltfFile(path)
        remarks: list[str] = []
        bones = read_skeleton(file, remarks)
        parts = read_parts(file, bones, remarks)
        found, parts = _without_idle_bones(bones, parts)
        skeleton, parts = _in_metres(found, parts, remarks)
        springs, colliders = read_springs(file, bones, remarks) if skeleton is found else ((), ())
        extras = file.document["asset"].get("extras")
        extras = extras if isinstance(extras, dict) else {}
        avatar = Avatar(_spec(extras, remarks), skeleton, parts, _expression(file), springs, colliders)
        copyright_line = file.document["asset"].get("copyright")
        meta = file.document.get("extensions", {}).get("VRMC_vrm", {}).get("meta")
        return AvatarFile(avatar, bones.profile, extras, copyright_line, tuple(remarks), meta)


def _spec(extras: dict, remarks: list[str]) -> AvatarSpec | None:
    if "spec" not in extras:
        return None
    try:
        return spec_from_json(json.dumps(extras["spec"]))
    except SpecError as error:
        remarks.append(f"the spec in the file is of another version and is left out ({error})")
        return None


def _expression(file: GltfFile) -> dict[str, float]:
    """The face that the file's meshes wear: weights other than zero of named face shapes."""
    expression: dict[str, float] = {}
    for node in file.entries("nodes"):
        if "mesh" in node:
            mesh = file.entry("meshes", node["mesh"])
            weights = node.get("weights", mesh.get("weights", []))
            for name, weight in zip(target_names(mesh, len(weights)), weights, strict=True):
                if weight and math.isfinite(weight):
                    expression[name] = float(weight)
    return expression


def _without_idle_bones(bones: FileSkeleton, parts: tuple[Part, ...]) -> tuple[Skeleton, tuple[Part, ...]]:
    """Bones that a profile inserts into hierarchies, and that no vertex follows, are not joints of ours."""
    skeleton = bones.skeleton
    used = set(torch.cat([part.skin.joints[part.skin.weights > 0] for part in parts]).unique().tolist())
    kept = [j for j, name in enumerate(skeleton.names) if j in used or name not in bones.inserted]
    if len(kept) == len(skeleton.names):
        return skeleton, parts
    index = {joint: n for n, joint in enumerate(kept)}
    parents = []
    for joint in kept:
        above = skeleton.parents[joint]
        while above >= 0 and above not in index:
            above = skeleton.parents[above]
        parents.append(index[above] if above >= 0 else -1)
    moved = torch.tensor([index.get(joint, 0) for joint in range(len(skeleton.names))])
    names = tuple(skeleton.names[joint] for joint in kept)
    parts = tuple(replace(p, skin=replace(p.skin, joints=moved[p.skin.joints])) for p in parts)
    return Skeleton(names, tuple(parents), skeleton.positions[kept]), parts


def _in_metres(
    skeleton: Skeleton, parts: tuple[Part, ...], remarks: list[str]
) -> tuple[Skeleton, tuple[Part, ...]]:
    points = torch.cat([part.mesh.vertices for part in parts])
    size = float((points.amax(0) - points.amin(0)).max())
    if SMALLEST <= size <= TALLEST:
        return skeleton, parts
    if not CENTIMETRES[0] < size < CENTIMETRES[1]:
        raise AvatarFileError(
            f"the figure measures {size:g} m; glTF is in metres, scale it to the size of a person"
        )
    remarks.append(f"the figure measures {size:.0f} m and is taken to be in centimetres")
    parts = tuple(
        replace(
            part,
            mesh=replace(part.mesh, vertices=part.mesh.vertices / 100),
            morphs=part.morphs and replace(part.morphs, deltas=part.morphs.deltas / 100),
        )
        for part in parts
    )
    return replace(skeleton, positions=skeleton.positions / 100), parts
