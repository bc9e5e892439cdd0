"""VRM 1.0: a GLB file with the `VRMC_vrm` extension, for viewers, VR chats and face tracking.

Specification: github.com/vrm-c/vrm-specification. A VRM stands in T-pose, faces +Z, has no animations and no
cameras. Viewers may ignore its tangents (README of VRMC_vrm). `vrm_check.vrm_errors` checks what is written here.
"""

from __future__ import annotations

import io
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from avatar3d.body.bind import in_t_pose
from avatar3d.export.errors import ExportError
from avatar3d.export.glb import glb_document
from avatar3d.export.licences import LICENCE_URL, add_xmp, copyright_line, is_free, third_party_lines, title
from avatar3d.export.vrm_expressions import expressions_extension
from avatar3d.export.vrm_humanoid import BONES, REQUIRED
from avatar3d.export.vrm_shapes import META
from avatar3d.export.vrm_springs import constrain_twists, spring_extension
from avatar3d.runs import write_bytes
from avatar3d.structures import Avatar, Part, Skeleton

VRM_LICENCE_URL = "https://vrm.dev/licenses/1.0/"
GAZE = {"Inner": 25.0, "Outer": 30.0, "Up": 20.0, "Down": 25.0}
"""Degrees that an eye turns at most, inwards, outwards, up and down. Up to there it looks at its target."""
HEAD_SHARE = 0.5
"""A part with this share of its vertices on the head is hidden from its own wearer's camera."""
FREE = {
    "avatarPermission": "everyone",
    "commercialUsage": "corporation",
    "creditNotation": "unnecessary",
    "modification": "allowModificationRedistribution",
    "allowRedistribution": True,
    "allowExcessivelyViolentUsage": True,
    "allowPoliticalOrReligiousUsage": True,
    "allowExcessivelySexualUsage": False,
    "allowAntisocialOrHateUsage": False,
    "otherLicenseUrl": LICENCE_URL,
}
"""Terms of a CC0 avatar. VRM's own licence asks about four delicate uses; two of them its makers do not invite."""
RESERVED = {
    "avatarPermission": "onlyAuthor",
    "commercialUsage": "personalNonProfit",
    "creditNotation": "required",
    "modification": "prohibited",
    "allowRedistribution": False,
    "allowExcessivelyViolentUsage": False,
    "allowPoliticalOrReligiousUsage": False,
    "allowExcessivelySexualUsage": False,
    "allowAntisocialOrHateUsage": False,
}
"""Terms when the licence is not known: the narrowest that VRM has."""


def write_vrm(avatar: Avatar, path: Path, record: dict, thumbnail: bytes | None = None) -> None:
    """Write `avatar` as a VRM 1.0 file, whole or not at all; arguments and errors as `encode_vrm`."""
    write_bytes(path, encode_vrm(avatar, record, thumbnail))


def encode_vrm(avatar: Avatar, record: dict, thumbnail: bytes | None = None) -> bytes:
    """The bytes of the VRM file; the avatar may be bound in any pose.

    `record` is a `licences.licence_record`, `thumbnail` a square PNG or JPEG, 1024 pixels wide at best.
    Raises `ExportError` if the avatar lacks a bone that VRM requires or the thumbnail is of another kind.
    """
    missing = sorted(REQUIRED - set(avatar.skeleton.names))
    if missing:
        raise ExportError(
            f"a VRM needs the bones {', '.join(sorted(REQUIRED))}; this avatar has no {', '.join(missing)}. "
            "Write it as GLB, or rename its bones"
        )
    avatar = in_t_pose(avatar)
    document, chunk = glb_document(avatar, record)
    nodes = {node["name"]: index for index, node in enumerate(document["nodes"])}
    meta = _meta(record)
    if thumbnail is not None:
        images = document.setdefault("images", [])
        meta["thumbnailImage"] = len(images)
        images.append(
            {"name": "thumbnail", "bufferView": chunk.add_view(thumbnail), "mimeType": _mime_type(thumbnail)}
        )
    vrm = {
        "specVersion": "1.0",
        "meta": meta,
        "humanoid": {"humanBones": {bone: {"node": nodes[bone]} for bone in BONES if bone in nodes}},
        "firstPerson": {"meshAnnotations": _annotations(avatar, nodes)},
        "lookAt": _look_at(avatar.skeleton),
        "expressions": expressions_extension(document, avatar.expression),
    }
    document["extensions"] = {"VRMC_vrm": {key: value for key, value in vrm.items() if value}}
    springs = spring_extension(avatar, nodes)
    if springs:
        document["extensions"]["VRMC_springBone"] = springs
    twisted = constrain_twists(document, nodes)
    document["extensionsUsed"] = [*document["extensions"], *(["VRMC_node_constraint"] if twisted else [])]
    add_xmp(document, record)
    return chunk.to_glb(document)


def _meta(record: dict) -> dict:
    """What the record says, in VRM's words; the terms of an avatar from another VRM file stay as they are."""
    kept = record.get("original", {}).get("vrm_meta")
    if isinstance(kept, dict):
        kept = {key: value for key, value in kept.items() if key != "thumbnailImage"}
        if not list(META(kept, "meta", {})):
            return kept
    meta = {
        "name": title(record),
        "version": "1",
        "authors": [record["generator"] if record.get("generated") else "unknown"],
        "copyrightInformation": copyright_line(record),
        "licenseUrl": VRM_LICENCE_URL,
        **(FREE if is_free(record) else RESERVED),
    }
    third_party = third_party_lines(record)
    if third_party:
        meta["thirdPartyLicenses"] = third_party
    return meta


def _annotations(avatar: Avatar, nodes: dict[str, int]) -> list[dict]:
    """What the wearer's own camera shows: not parts on the head, parts without a head vertex, else split ones."""
    head = _below(avatar.skeleton, "head")
    annotations = []
    for part in avatar.parts:
        share = _head_share(part, head)
        kind = "thirdPersonOnly" if share >= HEAD_SHARE else "both" if share == 0 else "auto"
        annotations.append({"node": nodes[part.name], "type": kind})
    return annotations


def _below(skeleton: Skeleton, joint: str) -> Tensor:
    """(J,) whether each joint is `joint` or hangs on it."""
    below = torch.zeros(len(skeleton.names), dtype=torch.bool)
    for index, (name, parent) in enumerate(zip(skeleton.names, skeleton.parents, strict=True)):
        below[index] = name == joint or (parent >= 0 and below[parent])
    return below


def _head_share(part: Part, head: Tensor) -> float:
    """Share of the vertices that hang on the head more than on the rest."""
    weight = (part.skin.weights.cpu() * head[part.skin.joints.cpu()]).sum(dim=1)
    return float((weight > 0.5).float().mean())


def _look_at(skeleton: Skeleton) -> dict:
    """Gaze by the eye joints; empty when there are none."""
    if not {"leftEye", "rightEye"} <= set(skeleton.names):
        return {}
    left, right, head = (skeleton.positions[skeleton.names.index(n)] for n in ("leftEye", "rightEye", "head"))
    ranges = {side: {"inputMaxValue": degrees, "outputScale": degrees} for side, degrees in GAZE.items()}
    return {
        "type": "bone",
        "offsetFromHeadBone": ((left + right) / 2 - head).tolist(),
        "rangeMapHorizontalInner": ranges["Inner"],
        "rangeMapHorizontalOuter": ranges["Outer"],
        "rangeMapVerticalDown": ranges["Down"],
        "rangeMapVerticalUp": ranges["Up"],
    }


def _mime_type(thumbnail: bytes) -> str:
    try:
        with Image.open(io.BytesIO(thumbnail)) as image:
            kind, size = image.format, image.size
    except OSError as error:
        raise ExportError(
            f"the thumbnail is no picture ({error}); give the bytes of a PNG or JPEG file"
        ) from error
    if kind not in ("PNG", "JPEG") or size[0] != size[1]:
        raise ExportError(
            f"the thumbnail must be a square PNG or JPEG, not {kind} of {size[0]} x {size[1]} pixels"
        )
    return f"image/{kind.lower()}"
