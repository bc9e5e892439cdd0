"""What JSON objects the VRM 1.0 extensions consist of, as checks that yield errors.

Written after the specification's property tables (vrm-specification: VRMC_vrm-1.0, VRMC_springBone-1.0,
VRMC_node_constraint-1.0). A shape is a function (value, path, document) -> errors; unlike a JSON schema it
knows how many nodes, images and so on a document has, and it reports keys that the specification does not know.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from avatar3d.body.visemes import VRM_PRESETS
from avatar3d.export.vrm_humanoid import BONES, REQUIRED

Shape = Callable[[object, str, dict], Iterator[str]]


def text(*choices: str, least: int = 0) -> Shape:
    """A string of at least `least` characters, one of `choices` if there are any."""

    def check(value: object, path: str, document: dict) -> Iterator[str]:
        if not isinstance(value, str) or len(value) < least:
            yield f"{path} is {value!r}, must be a text" + (" that is not empty" if least else "")
        elif choices and value not in choices:
            yield f"{path} is {value!r}, must be one of {', '.join(choices)}"

    return check


def number(low: float = -math.inf, high: float = math.inf) -> Shape:
    """A finite number in [low, high]."""

    def check(value: object, path: str, document: dict) -> Iterator[str]:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            yield f"{path} is {value!r}, must be a number"
        elif not low <= value <= high:
            yield f"{path} is {value}, must be in [{low:g}, {high:g}]"

    return check


def flag(value: object, path: str, document: dict) -> Iterator[str]:
    """true or false."""
    if not isinstance(value, bool):
        yield f"{path} is {value!r}, must be true or false"


def whole(value: object, path: str, document: dict) -> Iterator[str]:
    """An integer that is not negative."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        yield f"{path} is {value!r}, must be 0, 1, 2, ..."


def index(kind: str) -> Shape:
    """A place in the document's list `kind`, for example "nodes"."""

    def check(value: object, path: str, document: dict) -> Iterator[str]:
        count = len(document.get(kind, []))
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < count:
            yield f"{path} is {value!r}, must be the index of one of {count} {kind}"

    return check


def many(shape: Shape, least: int = 1, most: float = math.inf) -> Shape:
    """A list of `least` to `most` values."""

    def check(value: object, path: str, document: dict) -> Iterator[str]:
        if not isinstance(value, list) or not least <= len(value) <= most:
            yield f"{path} must be a list of {least} or more values" + (f", at most {most}" if most < 1e9 else "")
            return
        for i, entry in enumerate(value):
            yield from shape(entry, f"{path}/{i}", document)

    return check


def fields(required: dict[str, Shape], optional: dict[str, Shape] | None = None) -> Shape:
    """An object with all of `required`, some of `optional`, and nothing else but extensions and extras."""
    known = {**required, **(optional or {})}

    def check(value: object, path: str, document: dict) -> Iterator[str]:
        if not isinstance(value, dict):
            yield f"{path} must be an object"
            return
        yield from (f"{path} has no {name}" for name in required if name not in value)
        for name, entry in value.items():
            if name in known:
                yield from known[name](entry, f"{path}/{name}", document)
            elif name not in ("extensions", "extras"):
                yield f"{path} has an unknown key {name!r}"

    return check


def one_of(choices: dict[str, Shape]) -> Shape:
    """An object with exactly one of `choices`."""
    each = fields({}, choices)

    def check(value: object, path: str, document: dict) -> Iterator[str]:
        yield from each(value, path, document)
        if isinstance(value, dict) and len(set(value) & set(choices)) != 1:
            yield f"{path} must have one of {', '.join(choices)}"

    return check


def named(shape: Shape, forbidden: tuple[str, ...] = ()) -> Shape:
    """An object with free names, except for the `forbidden`, and values of one shape."""

    def check(value: object, path: str, document: dict) -> Iterator[str]:
        if not isinstance(value, dict):
            yield f"{path} must be an object"
            return
        for name, entry in value.items():
            if name in forbidden:
                yield f"{path} has the reserved name {name!r}"
            yield from shape(entry, f"{path}/{name}", document)

    return check


_NODE = index("nodes")
_VECTOR = many(number(), 3, 3)
_OVERRIDE = text("none", "block", "blend")
_UV = many(number(), 2, 2)
_EXPRESSION = fields(
    {},
    {
        "isBinary": flag,
        "overrideBlink": _OVERRIDE,
        "overrideLookAt": _OVERRIDE,
        "overrideMouth": _OVERRIDE,
        "morphTargetBinds": many(fields({"node": _NODE, "index": whole, "weight": number(0, 1)})),
        "materialColorBinds": many(
            fields(
                {
                    "material": index("materials"),
                    "type": text(
                        "color", "emissionColor", "shadeColor", "matcapColor", "rimColor", "outlineColor"
                    ),
                    "targetValue": many(number(), 4, 4),
                }
            )
        ),
        "textureTransformBinds": many(fields({"material": index("materials")}, {"scale": _UV, "offset": _UV})),
    },
)
_RANGE = fields({}, {"inputMaxValue": number(0, 180), "outputScale": number()})
META = fields(
    {"name": text(least=1), "authors": many(text(least=1)), "licenseUrl": text("https://vrm.dev/licenses/1.0/")},
    {
        "version": text(),
        "copyrightInformation": text(),
        "contactInformation": text(),
        "references": many(text()),
        "thirdPartyLicenses": text(),
        "thumbnailImage": index("images"),
        "avatarPermission": text("onlyAuthor", "onlySeparatelyLicensedPerson", "everyone"),
        "allowExcessivelyViolentUsage": flag,
        "allowExcessivelySexualUsage": flag,
        "commercialUsage": text("personalNonProfit", "personalProfit", "corporation"),
        "allowPoliticalOrReligiousUsage": flag,
        "allowAntisocialOrHateUsage": flag,
        "creditNotation": text("required", "unnecessary"),
        "allowRedistribution": flag,
        "modification": text("prohibited", "allowModification", "allowModificationRedistribution"),
        "otherLicenseUrl": text(),
    },
)
_BONE = fields({"node": _NODE})
VRM = fields(
    {
        "specVersion": text("1.0"),
        "meta": META,
        "humanoid": fields(
            {
                "humanBones": fields(
                    {bone: _BONE for bone in BONES if bone in REQUIRED}, dict.fromkeys(BONES, _BONE)
                )
            }
        ),
    },
    {
        "firstPerson": fields(
            {},
            {
                "meshAnnotations": many(
                    fields({"node": _NODE, "type": text("auto", "both", "thirdPersonOnly", "firstPersonOnly")})
                )
            },
        ),
        "lookAt": fields(
            {},
            {
                "type": text("bone", "expression"),
                "offsetFromHeadBone": _VECTOR,
                "rangeMapHorizontalInner": _RANGE,
                "rangeMapHorizontalOuter": _RANGE,
                "rangeMapVerticalDown": _RANGE,
                "rangeMapVerticalUp": _RANGE,
            },
        ),
        "expressions": fields(
            {},
            {
                "preset": fields({}, dict.fromkeys(VRM_PRESETS, _EXPRESSION)),
                "custom": named(_EXPRESSION, tuple(VRM_PRESETS)),
            },
        ),
    },
)
"""The `VRMC_vrm` object."""
_SPRING_JOINT = fields(
    {"node": _NODE},
    {
        "hitRadius": number(0),
        "stiffness": number(0),
        "gravityPower": number(0),
        "gravityDir": _VECTOR,
        "dragForce": number(0, 1),
    },
)
_COLLIDER = one_of(
    {
        "sphere": fields({}, {"offset": _VECTOR, "radius": number(0)}),
        "capsule": fields({}, {"offset": _VECTOR, "radius": number(0), "tail": _VECTOR}),
    }
)
SPRINGS = fields(
    {"specVersion": text("1.0")},
    {
        "colliders": many(fields({"node": _NODE, "shape": _COLLIDER})),
        "colliderGroups": many(fields({"colliders": many(whole)}, {"name": text()})),
        "springs": many(
            fields(
                {"joints": many(_SPRING_JOINT)},
                {"name": text(), "colliderGroups": many(whole), "center": _NODE},
            )
        ),
    },
)
"""The `VRMC_springBone` object."""
CONSTRAINT = fields(
    {
        "specVersion": text("1.0"),
        "constraint": one_of(
            {
                "roll": fields(
                    {"source": _NODE, "rollAxis": text("X", "Y", "Z")}, {"weight": number(0, 1), "name": text()}
                ),
                "aim": fields(
                    {
                        "source": _NODE,
                        "aimAxis": text(
                            "PositiveX", "NegativeX", "PositiveY", "NegativeY", "PositiveZ", "NegativeZ"
                        ),
                    },
                    {"weight": number(0, 1), "name": text()},
                ),
                "rotation": fields({"source": _NODE}, {"weight": number(0, 1), "name": text()}),
            }
        ),
    }
)
"""The `VRMC_node_constraint` object of a node."""
