"""Reading avatars: round trips, files of other programs, and damage."""

from __future__ import annotations

import copy
import json
import struct
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from synthetic import synthetic_avatar

from avatar3d.body.bind import in_t_pose
from avatar3d.engine.build import build_avatar
from avatar3d.engine.population import Population, sample
from avatar3d.export.binary import split_glb
from avatar3d.export.glb import encode_glb, write_glb
from avatar3d.export.gltf_file import AvatarFileError
from avatar3d.export.profiles import PROFILES
from avatar3d.export.read import read_avatar, read_file
from avatar3d.export.textures import with_smaller_textures
from avatar3d.structures import Avatar


@pytest.fixture(scope="module")
def person() -> Avatar:
    return in_t_pose(with_smaller_textures(build_avatar(sample(np.random.default_rng(5), Population())), 128))


def join_glb(document: dict, data: bytes) -> bytes:
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    length = 12 + 8 + len(text) + 8 + len(data)
    head = struct.pack("<4sIII4s", b"glTF", 2, length, len(text), b"JSON")
    return head + text + struct.pack("<I4s", len(data), b"BIN\0") + data


def dense_weights(part, count: int) -> np.ndarray:
    weights = np.zeros((len(part.skin.joints), count))
    rows = np.arange(len(weights))[:, None]
    np.add.at(weights, (rows, part.skin.joints.numpy()), part.skin.weights.double().numpy())
    return weights


def assert_same(read: Avatar, avatar: Avatar) -> None:
    """Equal skeletons, and parts equal to rounding; textures to the loss of JPEG."""
    assert read.skeleton.names == avatar.skeleton.names and read.skeleton.parents == avatar.skeleton.parents
    np.testing.assert_allclose(read.skeleton.positions, avatar.skeleton.positions, atol=1e-6)
    assert [p.name for p in read.parts] == [p.name for p in avatar.parts]
    for new, old in zip(read.parts, avatar.parts, strict=True):
        assert new.kind == old.kind
        np.testing.assert_allclose(new.mesh.vertices, old.mesh.vertices, atol=1e-6)
        np.testing.assert_allclose(new.mesh.normals, old.mesh.normals, atol=1e-5)
        np.testing.assert_array_equal(new.mesh.faces, old.mesh.faces)
        count = len(avatar.skeleton.names)
        np.testing.assert_allclose(dense_weights(new, count), dense_weights(old, count), atol=1e-6)
        material = replace(new.mesh.material, base_color=old.mesh.material.base_color)
        np.testing.assert_allclose(new.mesh.material.base_color, old.mesh.material.base_color, atol=1e-6)
        for field in ("base_color_texture", "normal_texture", "orm_texture"):
            before, after = getattr(old.mesh.material, field), getattr(material, field)
            assert (before is None) == (after is None)
            if before is not None:
                np.testing.assert_array_equal(after.shape[:2], before.shape[:2])
                if before.shape[-1] == after.shape[-1]:
                    assert float((after - before).abs().mean()) < 0.02
            material = replace(material, **{field: before})
        assert material == old.mesh.material
        written = {} if old.morphs is None else dict(zip(old.morphs.names, old.morphs.deltas, strict=True))
        moved = {n: d for n, d in written.items() if float(d.abs().max()) >= 1e-5}
        names = () if new.morphs is None else new.morphs.names
        assert set(names) == set(moved)
        for name, delta in zip(names, () if new.morphs is None else new.morphs.deltas, strict=True):
            np.testing.assert_allclose(delta, moved[name], atol=1.1e-5)


@pytest.mark.parametrize("profile", [name for name in PROFILES if name != "rpm"])
def test_round_trip_through_every_profile(person, tmp_path, profile):
    """The file's names, axes and additional bones are gone; writing what was read gives the same geometry."""
    extras = {"spec": asdict(person.spec), "licences": [{"name": "CC0-1.0"}]}
    write_glb(person, tmp_path / "a.glb", extras, profile)
    file = read_file(tmp_path / "a.glb")
    assert file.profile == profile and file.remarks == () and file.extras == extras
    assert file.avatar.spec == person.spec and file.avatar.expression == person.expression
    assert_same(file.avatar, person)
    write_glb(file.avatar, tmp_path / "b.glb", extras, profile)
    assert_same(read_avatar(tmp_path / "b.glb"), file.avatar)


def test_ready_player_me_files_have_other_parts_but_the_same_surface(person, tmp_path):
    write_glb(person, tmp_path / "a.glb", {}, "rpm")
    file = read_file(tmp_path / "a.glb")
    assert file.profile == "rpm" and file.avatar.skeleton.names == person.skeleton.names
    for kind in {part.kind for part in person.parts}:
        new = torch.cat(
            [p.mesh.vertices[p.mesh.faces].reshape(-1, 9) for p in file.avatar.parts if p.kind == kind]
        )
        old = torch.cat([p.mesh.vertices[p.mesh.faces].reshape(-1, 9) for p in person.parts if p.kind == kind])
        np.testing.assert_allclose(np.sort(new.sum(1)), np.sort(old.sum(1)), atol=1e-5)


def edited(avatar: Avatar, edit, path: Path, data=lambda chunk: chunk) -> Path:
    """A file of `avatar` whose JSON was changed by `edit(document)`."""
    document, chunk = split_glb(encode_glb(avatar, {}))
    edit(document)
    path.write_bytes(join_glb(document, data(chunk)))
    return path


def test_other_programs_nodes(tmp_path):
    """A scaled, turned armature with named-by-accident joints, mesh nodes elsewhere, two skins: same figure."""
    avatar = synthetic_avatar(1)

    def edit(document: dict) -> None:
        nodes = document["nodes"]
        armature = next(n for n in nodes if n["name"] == "Armature")
        armature |= {"rotation": [0, 2**-0.5, 0, 2**-0.5], "scale": [0.01, 0.01, 0.01]}
        half = {
            "rotation": [0, 2**-0.5, 0, -(2**-0.5)],
            "scale": [100, 100, 100],
            "children": armature["children"],
        }
        nodes.append(half)
        armature["children"] = [len(nodes) - 1]
        document["skins"].append(dict(document["skins"][0]))
        for node in nodes:
            if node.get("name") == "hair":
                node |= {"skin": 1, "translation": [5, 5, 5]}  # to be ignored, says the specification

    file = read_file(edited(avatar, edit, tmp_path / "a.glb"))
    assert file.profile is None and "no known naming" in file.remarks[0]
    np.testing.assert_allclose(file.avatar.skeleton.positions, avatar.skeleton.positions, atol=1e-6)
    for new, old in zip(file.avatar.parts, avatar.parts, strict=True):
        np.testing.assert_allclose(new.mesh.vertices, old.mesh.vertices, atol=1e-6)


def test_a_moved_rest_pose_is_the_rest_pose(tmp_path):
    """Where nodes do not stand as they were bound, the figure is read as viewers show it."""
    avatar = synthetic_avatar(1)

    def edit(document: dict) -> None:
        document["nodes"][2]["translation"][1] += 0.25  # the head

    read = read_avatar(edited(avatar, edit, tmp_path / "a.glb"))
    for new, old in zip(read.parts, avatar.parts, strict=True):
        rise = dense_weights(old, 4)[:, 2:3] * [0, 0.25, 0]
        np.testing.assert_allclose(new.mesh.vertices, old.mesh.vertices.numpy() + rise, atol=1e-5)


def test_eight_influences_become_four(tmp_path):
    avatar = synthetic_avatar(4)

    def edit(document: dict) -> None:
        for mesh in document["meshes"]:
            attributes = mesh["primitives"][0]["attributes"]
            attributes |= {"JOINTS_1": attributes["JOINTS_0"], "WEIGHTS_1": attributes["WEIGHTS_0"]}

    file = read_file(edited(avatar, edit, tmp_path / "a.glb"))
    assert any("four heaviest" in remark for remark in file.remarks)
    for part in file.avatar.parts:
        np.testing.assert_allclose(part.skin.weights.sum(1), 1, atol=1e-6)


def test_meshes_without_a_skin_follow_their_joint(tmp_path):
    avatar = synthetic_avatar(4)

    def edit(document: dict) -> None:
        node = next(n for n in document["nodes"] if n["name"] == "glasses_lenses")
        index = document["nodes"].index(node)
        del node["skin"]
        document["scenes"][0]["nodes"].remove(index)
        document["nodes"][2].setdefault("children", []).append(index)  # the head

    read = read_avatar(edited(avatar, edit, tmp_path / "a.glb"))
    lenses = read.parts[2]
    assert (lenses.skin.joints[:, 0] == 2).all() and (lenses.skin.weights[:, 0] == 1).all()
    moved = avatar.parts[2].mesh.vertices + avatar.skeleton.positions[2]
    np.testing.assert_allclose(lenses.mesh.vertices, moved, atol=1e-6)


def test_vrm_names_and_facing(tmp_path):
    """VRM 0.x: bones by an extension, thumbs counted otherwise, the figure faces -Z."""
    bones = ("hips", "spine", "head", "leftUpperArm")
    avatar = synthetic_avatar(4)

    def edit(document: dict) -> None:
        for n, node in enumerate(document["nodes"][:4]):
            node["name"] = f"J_{n}"
        entries = [{"bone": bone, "node": n} for n, bone in enumerate(bones)]
        entries[3]["bone"] = "leftThumbIntermediate"
        document["extensions"] = {"VRM": {"humanoid": {"humanBones": entries}}}

    file = read_file(edited(avatar, edit, tmp_path / "a.vrm"))
    assert file.profile == "vrm"
    assert file.avatar.skeleton.names == ("root", "hips", "spine", "head", "leftThumbProximal")


def test_a_figure_that_faces_back_is_turned(person, tmp_path):
    def edit(document: dict) -> None:
        armature = next(n for n in document["nodes"] if n["name"] == "Armature")
        armature["rotation"] = [0, 1, 0, 0]

    file = read_file(edited(person, edit, tmp_path / "a.glb"))
    assert any("turned around" in remark for remark in file.remarks)
    np.testing.assert_allclose(file.avatar.parts[0].mesh.vertices, person.parts[0].mesh.vertices, atol=1e-5)


def test_flat_triangles_are_dropped_and_crowded_edges_named(tmp_path):
    avatar = synthetic_avatar(0)
    part = avatar.parts[2]
    extra = torch.tensor([[0, 0, 1], [5, 6, 5]])
    fins = torch.cat([part.mesh.faces, extra, part.mesh.faces[40:41].roll(1, dims=1)])
    bad = replace(part, mesh=replace(part.mesh, faces=fins))
    write_glb(replace(avatar, parts=(*avatar.parts[:2], bad)), tmp_path / "a.glb", {})
    file = read_file(tmp_path / "a.glb")
    assert any("2 triangles without an area" in remark for remark in file.remarks)
    assert any("more than two triangles" in remark for remark in file.remarks)
    assert len(file.avatar.parts[2].mesh.faces) == len(part.mesh.faces) + 1


def with_values(avatar: Avatar, attribute: str, row: int, values: list[float], path: Path) -> Path:
    """A file with one row of the body's attribute overwritten."""
    document, chunk = split_glb(encode_glb(avatar, {}))
    accessor = document["accessors"][document["meshes"][0]["primitives"][0]["attributes"][attribute]]
    data, new = bytearray(chunk), np.array(values, np.float32).tobytes()
    start = document["bufferViews"][accessor["bufferView"]]["byteOffset"] + row * len(new)
    data[start : start + len(new)] = new
    path.write_bytes(join_glb(document, bytes(data)))
    return path


def packed(document: dict) -> None:
    document["extensionsRequired"] = ["EXT_meshopt_compression"]


def looped(document: dict) -> None:
    document["nodes"][3]["children"] = [0]
    document["nodes"][4]["children"] = []
    document["nodes"][0]["children"], document["nodes"][1]["children"] = [1], [2, 3]


def unskinned(document: dict) -> None:
    for node in document["nodes"]:
        node.pop("skin", None)


def beyond(document: dict) -> None:
    document["accessors"][0]["count"] = 10**6


def absurd(document: dict) -> None:
    document["nodes"][4]["scale"] = [1e-6] * 3


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (packed, "meshopt.*plain file"),
        (looped, "own ancestor|two parents"),
        (unskinned, "no skeleton.*avatar3d render"),
        (beyond, "beyond its buffer view"),
        (absurd, "metres"),
    ],
)
def test_faults_are_named(tmp_path, edit, message):
    path = edited(synthetic_avatar(0), edit, tmp_path / "a.glb")
    with pytest.raises(AvatarFileError, match=message):
        read_avatar(path)


def test_broken_numbers_are_named(tmp_path):
    avatar = synthetic_avatar(0)
    nan = with_values(avatar, "POSITION", 7, [0.0, float("nan"), 0.0], tmp_path / "nan.glb")
    with pytest.raises(AvatarFileError, match="body: 1 vertices are not finite"):
        read_avatar(nan)
    zero = with_values(avatar, "WEIGHTS_0", 3, [0.0, 0.0, 0.0, 0.0], tmp_path / "zero.glb")
    with pytest.raises(AvatarFileError, match="1 vertices have no weights"):
        read_avatar(zero)
    negative = with_values(avatar, "WEIGHTS_0", 3, [1.5, -0.5, 0.0, 0.0], tmp_path / "negative.glb")
    with pytest.raises(AvatarFileError, match="no valid weights"):
        read_avatar(negative)


def test_no_file_no_avatar(tmp_path):
    for name, content, message in (
        ("a.obj", b"v 0 0 0", "can read .glb"),
        ("a.glb", b"", "0 bytes"),
        ("b.glb", b"PK\3\4 not a model", "does not begin with"),
        ("c.gltf", b"{ nonsense", "not a valid glTF"),
        ("d.gltf", b'{"asset": {"version": "1.0"}}', "glTF 2"),
        ("e.glb", encode_glb(synthetic_avatar(0), {})[:3000], "cut off"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(AvatarFileError, match=f"{name}.*{message}"):
            read_avatar(tmp_path / name)
    with pytest.raises(AvatarFileError, match="No such file"):
        read_avatar(tmp_path / "missing.glb")


JUNK = (None, -1, 0, 3, 10**9, 1e300, float("nan"), "", "x", [], {}, [0], [[]], {"a": 1}, True)


def places(value: object, trail: tuple = ()) -> list[tuple]:
    """Paths to all values inside a JSON document."""
    found = [trail] if trail else []
    if isinstance(value, dict):
        found += [p for key, inner in value.items() for p in places(inner, (*trail, key))]
    elif isinstance(value, list):
        found += [p for n, inner in enumerate(value) for p in places(inner, (*trail, n))]
    return found


def test_damage_gives_an_error_or_an_avatar(tmp_path):
    """Cut-off files, flipped bytes and junk at random places of the JSON: never another exception."""
    generator = np.random.default_rng(7)
    small = synthetic_avatar(0)
    whole = encode_glb(replace(small, parts=small.parts[1:]), {})
    document, chunk = split_glb(whole)
    every = places(document)
    path, refused = tmp_path / "a.glb", 0
    for trial in range(400):
        if trial % 8 == 0:
            damaged = whole[: int(generator.integers(len(whole)))]
        elif trial % 8 < 3:
            data = bytearray(whole)
            for _ in range(int(generator.integers(1, 9))):
                data[int(generator.integers(len(data) if trial % 2 else 6000))] = int(generator.integers(256))
            damaged = bytes(data)
        else:
            broken = copy.deepcopy(document)
            *above, last = every[int(generator.integers(len(every)))]
            inner = broken
            for key in above:
                inner = inner[key]
            inner[last] = JUNK[int(generator.integers(len(JUNK)))]
            damaged = join_glb(broken, chunk)
        path.write_bytes(damaged)
        try:
            read = read_avatar(path)
        except AvatarFileError as error:
            refused += 1
            assert str(error).startswith("a.glb: ")
        else:
            assert all(bool(part.mesh.vertices.isfinite().all()) for part in read.parts)
            assert all(int(part.skin.joints.max()) < len(read.skeleton.names) for part in read.parts)
    assert 100 < refused < 400
