"""VRM files: valid by our check and by the specification's own schemas, and made of what the avatar has."""

from __future__ import annotations

import copy
import io
import json
import os
import re
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from humanoid import humanoid_avatar
from PIL import Image
from synthetic import synthetic_avatar
from test_glb import khronos_reports

from avatar3d.body.bind import in_t_pose
from avatar3d.body.visemes import ARKIT, VRM_PRESETS
from avatar3d.engine.build import build_avatar
from avatar3d.engine.population import Population, sample
from avatar3d.export.binary import BinaryChunk, split_glb
from avatar3d.export.errors import ExportError
from avatar3d.export.glb import glb_document
from avatar3d.export.licences import licence_record
from avatar3d.export.read import read_file
from avatar3d.export.vrm import encode_vrm, write_vrm
from avatar3d.export.vrm_check import vrm_errors
from avatar3d.pictures import pose_for_pictures, thumbnail
from avatar3d.structures import Avatar, Skeleton

SCHEMAS = os.environ.get("AVATAR3D_VRM_SCHEMAS")
"""A checkout of github.com/vrm-c/vrm-specification. It states no licence, so its schemas do not ship."""


def picture(width: int = 512, height: int = 512, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (width, height), (90, 120, 150)).save(stream, kind)
    return stream.getvalue()


def encoded(avatar: Avatar, **options) -> bytes:
    return encode_vrm(avatar, licence_record(avatar, "a test"), **options)


def vrm_of(data: bytes) -> dict:
    return split_glb(data)[0]["extensions"]["VRMC_vrm"]


def rewritten(data: bytes, document: dict) -> bytes:
    """The file with another JSON chunk."""
    document = copy.deepcopy(document)
    chunk = BinaryChunk()
    chunk.views, chunk.accessors = document.pop("bufferViews"), document.pop("accessors")
    del document["buffers"]
    chunk._data = bytearray(split_glb(data)[1])
    return chunk.to_glb(document)


@pytest.fixture(scope="module")
def person() -> Avatar:
    return build_avatar(sample(np.random.default_rng(3), Population()))


def test_a_humanoid_is_valid():
    assert vrm_errors(encoded(humanoid_avatar())) == []
    assert vrm_errors(encoded(humanoid_avatar(), thumbnail=picture())) == []


def test_without_face_shapes_eyes_or_springs():
    """What the platform presets leave of an avatar is a VRM still, without the parts that it can not have."""
    avatar = humanoid_avatar()
    kept = [j for j, name in enumerate(avatar.skeleton.names) if not name.endswith("Eye") and "hair" not in name]
    place = {joint: n for n, joint in enumerate(kept)}
    skeleton = Skeleton(
        tuple(avatar.skeleton.names[j] for j in kept),
        tuple(place.get(avatar.skeleton.parents[j], -1) for j in kept),
        avatar.skeleton.positions[kept],
    )
    head = skeleton.names.index("head")
    joints = [part.skin.joints.clone().apply_(lambda j: place.get(j, head)) for part in avatar.parts]
    parts = [
        replace(part, morphs=None, skin=replace(part.skin, joints=new))
        for part, new in zip(avatar.parts, joints, strict=True)
    ]
    bare = replace(avatar, skeleton=skeleton, parts=tuple(parts), springs=(), colliders=(), expression={})
    data = encoded(bare)
    assert vrm_errors(data) == []
    assert set(vrm_of(data)) == {"specVersion", "meta", "humanoid", "firstPerson"}
    assert "VRMC_springBone" not in split_glb(data)[0]["extensions"]


def test_a_person_is_valid_and_stands_in_t_pose(person):
    """The engine binds in A-pose, the file in T-pose; an avatar that is in T-pose already stays as it is."""
    data = encoded(person, thumbnail=picture(1024, 1024, "JPEG"))
    assert vrm_errors(data) == []
    assert "not in T-pose" in " ".join(vrm_errors(_without_t_pose(person)))
    places = [node.get("translation") for node in split_glb(encoded(in_t_pose(person)))[0]["nodes"]]
    again = [node.get("translation") for node in split_glb(data)[0]["nodes"]]
    for place, other in zip(places, again, strict=True):
        assert place == other or np.allclose(place, other, atol=1e-5)


def _without_t_pose(avatar: Avatar) -> bytes:
    """A VRM whose joints and meshes are those of the avatar's own bind pose."""
    data = encoded(avatar)
    document, _ = split_glb(data)
    own, _ = glb_document(avatar, {})
    for node, other in zip(document["nodes"], own["nodes"], strict=True):
        if "translation" in other:
            node["translation"] = other["translation"]
    return rewritten(data, document)


def test_twist_joints_roll_with_the_hand():
    avatar = humanoid_avatar()
    skeleton = avatar.skeleton
    arm, hand = skeleton.names.index("leftLowerArm"), skeleton.names.index("leftHand")
    middle = (skeleton.positions[arm] + skeleton.positions[hand]) / 2
    twisted = Skeleton(
        (*skeleton.names, "leftLowerArmTwist"),
        (*skeleton.parents, arm),
        torch.cat([skeleton.positions, middle[None]]),
    )
    data = encoded(replace(avatar, skeleton=twisted))
    assert vrm_errors(data) == []
    document, _ = split_glb(data)
    (node,) = [node for node in document["nodes"] if "extensions" in node]
    roll = node["extensions"]["VRMC_node_constraint"]["constraint"]["roll"]
    assert node["name"] == "leftLowerArmTwist" and document["nodes"][roll["source"]]["name"] == "leftHand"
    assert (roll["rollAxis"], roll["weight"]) == ("X", 0.5)


def test_the_thumbnail_of_the_pictures_fits(person):
    bytes_ = thumbnail(person, pose_for_pictures(person), 128)
    assert vrm_errors(encoded(person, thumbnail=bytes_)) == []
    face = np.asarray(Image.open(io.BytesIO(bytes_)))[48:80, 48:80].astype(float)
    assert face.mean() < 200 and np.ptp(face) > 50  # the middle is no background


def test_presets_are_sums_of_actions(person):
    """Setting a preset to 1 gives each mesh the weights that the table says."""
    document, _ = split_glb(encoded(person))
    preset = document["extensions"]["VRMC_vrm"]["expressions"]["preset"]
    assert set(preset) == set(VRM_PRESETS)
    for name, weights in VRM_PRESETS.items():
        if name == "neutral":
            weights = person.expression
        for node, entry in enumerate(document["nodes"]):
            if "mesh" not in entry:
                continue
            names = document["meshes"][entry["mesh"]].get("extras", {}).get("targetNames", [])
            binds = preset[name].get("morphTargetBinds", [])
            found = {names[b["index"]]: b["weight"] for b in binds if b["node"] == node}
            assert found == {shape: w for shape, w in weights.items() if shape in names}, (name, entry["name"])


def test_every_arkit_name_is_a_custom_expression(person):
    expressions = vrm_of(encoded(person))["expressions"]
    assert set(ARKIT) <= set(expressions["custom"])
    assert all(len(e["morphTargetBinds"]) >= 1 for e in expressions["custom"].values())


def test_emotions_make_way_for_what_would_double():
    preset = vrm_of(encoded(humanoid_avatar()))["expressions"]["preset"]
    assert preset["surprised"]["overrideMouth"] == "blend"  # it opens the jaw, and so does speech
    assert preset["happy"]["overrideMouth"] == "none"
    assert preset["relaxed"]["overrideBlink"] == "blend"  # its lids are half closed
    assert all(preset[name]["overrideBlink"] == "none" for name in ("blink", "aa", "neutral"))


def test_meta_of_free_and_of_unknown_avatars():
    meta = vrm_of(encoded(humanoid_avatar()))["meta"]
    assert meta["name"] == "a test" and meta["licenseUrl"] == "https://vrm.dev/licenses/1.0/"
    assert meta["otherLicenseUrl"] == "https://creativecommons.org/publicdomain/zero/1.0/"
    assert (meta["avatarPermission"], meta["commercialUsage"]) == ("everyone", "corporation")
    assert "MakeHuman" in meta["thirdPartyLicenses"]
    foreign = replace(humanoid_avatar(), spec=None)
    record = licence_record(foreign, original={"version": "2.0", "copyright": "(c) Jane"})
    data = encode_vrm(foreign, record)
    meta = vrm_of(data)["meta"]
    assert vrm_errors(data) == []
    assert (meta["avatarPermission"], meta["modification"]) == ("onlyAuthor", "prohibited")
    assert meta["copyrightInformation"] == "(c) Jane" and "otherLicenseUrl" not in meta


def test_first_person_hides_the_head(person):
    data = encoded(person)
    document, _ = split_glb(data)
    kinds = {
        document["nodes"][a["node"]]["name"]: a["type"] for a in vrm_of(data)["firstPerson"]["meshAnnotations"]
    }
    assert set(kinds) == {part.name for part in person.parts}
    for part in person.parts:
        if part.kind in ("eyes", "teeth", "tongue", "lashes", "brows", "hair", "glasses", "hat", "beard"):
            assert kinds[part.name] == "thirdPersonOnly", part.name
        if part.kind in ("shoes", "bottom"):
            assert kinds[part.name] == "both", part.name


def test_gaze_starts_between_the_eyes(person):
    look_at = vrm_of(encoded(person))["lookAt"]
    skeleton = person.skeleton
    head, left, right = (skeleton.positions[skeleton.names.index(n)] for n in ("head", "leftEye", "rightEye"))
    origin = head + torch.tensor(look_at["offsetFromHeadBone"])
    torch.testing.assert_close(origin, (left + right) / 2)
    assert look_at["type"] == "bone"


def test_springs_keep_their_numbers():
    avatar = humanoid_avatar()
    document, _ = split_glb(encoded(avatar))
    springs = document["extensions"]["VRMC_springBone"]
    names = [document["nodes"][joint["node"]]["name"] for joint in springs["springs"][0]["joints"]]
    assert tuple(names) == avatar.springs[0].joints
    assert springs["springs"][0]["joints"][0] | {"node": 0} == {
        "node": 0, "hitRadius": 0.02, "stiffness": 0.8, "gravityPower": 0.2, "gravityDir": [0.0, -1.0, 0.0],
        "dragForce": 0.5,
    }  # fmt: skip
    assert [set(c["shape"]) for c in springs["colliders"]] == [{"sphere"}, {"capsule"}]
    assert springs["colliderGroups"][0]["colliders"] == [0, 1]


def test_springs_come_back(tmp_path):
    """A VRM that is read and written again swings as before."""
    avatar = humanoid_avatar()
    write_vrm(avatar, tmp_path / "one.vrm", licence_record(avatar))
    read = read_file(tmp_path / "one.vrm")
    assert read.avatar.springs == avatar.springs and read.remarks == ()
    for new, old in zip(read.avatar.colliders, avatar.colliders, strict=True):
        assert (new.joint, new.tail is None) == (old.joint, old.tail is None)
        np.testing.assert_allclose([*new.offset, new.radius], [*old.offset, old.radius], atol=1e-6)
        np.testing.assert_allclose(new.tail or 0, old.tail or 0, atol=1e-6)
    first, second = (split_glb(encode_vrm(a, {"generator": "a test"}))[0] for a in (avatar, read.avatar))
    for key in ("springs", "colliderGroups"):
        springs = first["extensions"]["VRMC_springBone"], second["extensions"]["VRMC_springBone"]
        assert springs[0][key] == springs[1][key]


def test_uneven_and_short_springs_are_remarked(tmp_path):
    document, _ = split_glb(data := encoded(humanoid_avatar()))
    springs = document["extensions"]["VRMC_springBone"]["springs"]
    springs[0]["joints"][0]["stiffness"] = 9.0
    springs.append({"name": "stub", "joints": [{"node": 3}]})
    (tmp_path / "one.vrm").write_bytes(rewritten(data, document))
    read = read_file(tmp_path / "one.vrm")
    assert [chain.stiffness for chain in read.avatar.springs] == [0.8]
    assert "'stub'" in " ".join(read.remarks) and "different forces" in " ".join(read.remarks)


def test_terms_of_another_vrm_stay(tmp_path):
    """Nobody's permissions become wider by passing through this program."""
    document, _ = split_glb(data := encoded(humanoid_avatar()))
    theirs = {
        "name": "Aki", "authors": ["Jane"], "licenseUrl": "https://vrm.dev/licenses/1.0/",
        "avatarPermission": "onlySeparatelyLicensedPerson", "modification": "prohibited",
    }  # fmt: skip
    document["extensions"]["VRMC_vrm"]["meta"] = theirs
    document["asset"].pop("extras")
    (tmp_path / "aki.vrm").write_bytes(rewritten(data, document))
    read = read_file(tmp_path / "aki.vrm")
    again = encode_vrm(read.avatar, licence_record(read.avatar, original=read.origin), thumbnail=picture())
    assert vrm_of(again)["meta"] == theirs | {"thumbnailImage": len(split_glb(again)[0]["images"]) - 1}
    assert vrm_errors(again) == []


def test_khronos_validator_has_no_warning(person, tmp_path):
    """What it says for information: that it does not know VRM, and so not what the thumbnail is for."""
    path = tmp_path / "person.vrm"
    write_vrm(person, path, licence_record(person), thumbnail=picture())
    (report,) = khronos_reports([path])
    codes = {m["code"] for m in report["issues"]["messages"]}
    assert codes == {"UNSUPPORTED_EXTENSION", "UNUSED_OBJECT"}
    assert report["issues"]["numErrors"] == report["issues"]["numWarnings"] == 0


def test_missing_bones_are_named():
    with pytest.raises(ExportError, match="rightHand"):
        encoded(synthetic_avatar())


@pytest.mark.parametrize("bytes_", [b"no picture", picture(512, 256), picture(64, 64, "GIF")])
def test_wrong_thumbnails(bytes_):
    with pytest.raises(ExportError, match="thumbnail"):
        encoded(humanoid_avatar(), thumbnail=bytes_)


def test_springs_of_joints_that_are_not_there():
    avatar = humanoid_avatar()
    with pytest.raises(ExportError, match="ponytail"):
        encoded(replace(avatar, springs=(replace(avatar.springs[0], joints=("ponytail",)),)))


def _set(*path):
    """A change of a document: the last of `path` is put at the place that the others name."""

    def change(document: dict) -> None:
        value = document
        for key in path[:-2]:
            value = value[key]
        if path[-1] is None:
            del value[path[-2]]
        else:
            value[path[-2]] = path[-1]

    return change


VRM = ("extensions", "VRMC_vrm")
HUMAN = (*VRM, "humanoid", "humanBones")
HAPPY = (*VRM, "expressions", "preset", "happy")
SPRINGS = ("extensions", "VRMC_springBone")
BY_SCHEMA = {
    "meta/name": _set(*VRM, "meta", "name", None),
    "authors": _set(*VRM, "meta", "authors", []),
    "commercialUsage": _set(*VRM, "meta", "commercialUsage", "all"),
    "hips": _set(*HUMAN, "hips", None),
    "head/node": _set(*HUMAN, "head", "node", -1),
    "type": _set(*VRM, "lookAt", "type", "gaze"),
    "inputMaxValue": _set(*VRM, "lookAt", "rangeMapVerticalUp", "inputMaxValue", 200),
    "isBinary": _set(*HAPPY, "isBinary", 1),
    "overrideMouth": _set(*HAPPY, "overrideMouth", "stop"),
    "morphTargetBinds/0": _set(*HAPPY, "morphTargetBinds", 0, {"node": 3}),
    "meshAnnotations/0/type": _set(*VRM, "firstPerson", "meshAnnotations", 0, "type", "never"),
    "dragForce": _set(*SPRINGS, "springs", 0, "joints", 0, "dragForce", 2),
    "shape": _set(*SPRINGS, "colliders", 0, "shape", {}),
    "springs/0": _set(*SPRINGS, "springs", 0, "joints", None),
    "specVersion": _set(*VRM, "specVersion", None),
}
"""What the error must name -> a change that the schemas object to."""
BEYOND = {
    "unknown key 'hipps'": _set(*HUMAN, "hipps", {"node": 3}),
    "are the same node": _set(*HUMAN, "spine", {"node": 1}),
    "must be the index of one of": _set(*HUMAN, "head", "node", 999),
    "needs chest": _set(*HUMAN, "chest", None),
    "must hang on": lambda d: _swap(d, "leftFoot", "leftLowerLeg"),
    "uniform and positive": _set("nodes", 2, "scale", [1.0, 2.0, 1.0]),
    "not in T-pose: leftUpperArm": _set("nodes", 0, "rotation", [0.0, 0.0, 0.1, 0.995]),
    "binds target 99": _set(*HAPPY, "morphTargetBinds", [{"node": 59, "index": 99, "weight": 1.0}]),
    "which has no mesh": _set(*HAPPY, "morphTargetBinds", [{"node": 2, "index": 0, "weight": 1.0}]),
    r"in \[0, 1\]": _set(*HAPPY, "morphTargetBinds", [{"node": 59, "index": 0, "weight": 1.5}]),
    "reserved name 'blink'": _set(*VRM, "expressions", "custom", "blink", {"isBinary": False}),
    "has no animations": _set("animations", [{}]),
    "PNG and JPEG only": _set("images", 0, "mimeType", "image/webp"),
    "does not list VRMC_springBone": _set("extensionsUsed", ["VRMC_vrm", "KHR_xmp_json_ld"]),
    "swings in": lambda d: d["extensions"]["VRMC_springBone"]["springs"].append(
        d["extensions"]["VRMC_springBone"]["springs"][0]),
    "collider that is not there": _set(*SPRINGS, "colliderGroups", 0, "colliders", [7]),
    "collider group that is not there": _set(*SPRINGS, "springs", 0, "colliderGroups", [7]),
    "does not hang on": lambda d: d["extensions"]["VRMC_springBone"]["springs"][0]["joints"].reverse(),
    "depends on itself": _set("nodes", 3, "extensions", {"VRMC_node_constraint": {
        "specVersion": "1.0", "constraint": {"roll": {"source": 3, "rollAxis": "X"}}}}),
    "eye bones": _set(*HUMAN, "leftEye", None),
    "must be square": None,
}  # fmt: skip
"""Pattern of the error -> a change that no schema can object to."""


def _swap(document: dict, bone: str, other: str) -> None:
    bones = document["extensions"]["VRMC_vrm"]["humanoid"]["humanBones"]
    bones[bone], bones[other] = bones[other], bones[bone]


@pytest.mark.parametrize("named", [*BY_SCHEMA, *BEYOND])
def test_the_check_is_awake(named):
    """Each fault is found, and said with its place; without the fault there is none."""
    data = encoded(humanoid_avatar(), thumbnail=picture())
    document, _ = split_glb(data)
    assert vrm_errors(rewritten(data, document)) == []
    change = {**BY_SCHEMA, **BEYOND}[named]
    if change is None:
        view = document["bufferViews"][document["images"][-1]["bufferView"]]
        wide = picture(64, 32)
        start = len(data) - document["buffers"][0]["byteLength"] + view["byteOffset"]
        broken = bytearray(data)
        broken[start : start + len(wide)] = wide
        errors = vrm_errors(bytes(broken))
    else:
        if named == "depends on itself":
            document["extensionsUsed"].append("VRMC_node_constraint")
        change(document)
        errors = vrm_errors(rewritten(data, document))
    parts = [part for part in named.split("/") if not part.isdigit()] if named in BY_SCHEMA else [named]
    assert any(all(re.search(part, error) for part in parts) for error in errors), errors


@pytest.mark.parametrize("data", [b"", b"glTF", b"PK\3\4 and so on", encoded(humanoid_avatar())[:5000]])
def test_broken_files_are_errors_not_crashes(data):
    assert len(vrm_errors(data)) == 1


def test_no_damage_crashes_the_check():
    """Any value of the document replaced by another kind of value: errors or none, but an answer."""
    data = encoded(humanoid_avatar(), thumbnail=picture(64, 64))
    whole, binary = split_glb(data)
    assert vrm_errors(_glued(whole, binary)) == []
    generator = np.random.default_rng(8)
    odd = (None, -1, 1e9, "x", [], {}, [[]], True, float("nan"))
    found = 0
    for _ in range(300):
        document = copy.deepcopy(whole)
        holder, key = document, "nodes"
        while isinstance(holder[key], (dict, list)) and len(holder[key]) and generator.random() < 0.85:
            holder = holder[key]
            keys = list(holder) if isinstance(holder, dict) else range(len(holder))
            key = keys[generator.integers(len(keys))]
        if holder is document:
            key = list(document)[generator.integers(len(document))]
        holder[key] = odd[generator.integers(len(odd))]
        found += vrm_errors(_glued(document, binary)) != []
    assert found > 100


def _glued(document: dict, binary: bytes) -> bytes:
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    head = struct.pack("<4sIII4s", b"glTF", 2, 28 + len(text) + len(binary), len(text), b"JSON")
    return head + text + struct.pack("<I4s", len(binary), b"BIN\0") + binary


def schema_errors(document: dict) -> list[str]:
    """What the specification's own JSON schemas say about the extensions; skips when they are not there."""
    jsonschema = pytest.importorskip("jsonschema", reason="needs the jsonschema package")
    if SCHEMAS is None:
        pytest.skip("AVATAR3D_VRM_SCHEMAS must name a checkout of vrm-c/vrm-specification")
    from referencing import Registry, Resource

    draft = "https://json-schema.org/draft/2020-12/schema"
    found = {f.name: json.loads(f.read_text("utf-8")) for f in Path(SCHEMAS).rglob("VRMC_*-1.0/schema/*.json")}
    assert "VRMC_vrm.schema.json" in found, f"{SCHEMAS} holds no schemas"
    found |= {
        "glTFProperty.schema.json": {"type": "object"},
        "glTFChildOfRootProperty.schema.json": {"type": "object"},
        "glTFid.schema.json": {"type": "integer", "minimum": 0},
    }
    registry = Registry().with_resources(
        [(name, Resource.from_contents({**schema, "$schema": draft})) for name, schema in found.items()]
    )
    extensions = [*document["extensions"].items()]
    for node in document["nodes"]:
        extensions += node.get("extensions", {}).items()
    errors = []
    for name, value in extensions:
        if name.startswith("VRMC_"):
            validator = jsonschema.Draft202012Validator({"$ref": f"{name}.schema.json"}, registry=registry)
            errors += [f"{name}: {error.json_path}: {error.message}" for error in validator.iter_errors(value)]
    return errors


def test_the_schemas_agree(person):
    for avatar in (humanoid_avatar(), person):
        assert schema_errors(split_glb(encoded(avatar, thumbnail=picture()))[0]) == []


@pytest.mark.parametrize("named", BY_SCHEMA)
def test_the_schemas_object_to_the_same(named):
    document, _ = split_glb(encoded(humanoid_avatar()))
    BY_SCHEMA[named](document)
    assert schema_errors(document) != []
