"""GLB files: round trips, the glTF rules on skins and morphs, and the Khronos validator."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image
from read_glb import read_glb
from synthetic import synthetic_avatar

from avatar3d.engine.build import build_avatar
from avatar3d.engine.population import Population, sample
from avatar3d.export.glb import SMALLEST_OFFSET, encode_glb, write_glb
from avatar3d.export.materials import encode_image
from avatar3d.export.read import read_avatar
from avatar3d.export.tangents import vertex_tangents
from avatar3d.structures import Avatar, Skeleton

ROOT = Path(__file__).parent.parent
EXTRAS = {"generated": True, "prompt": "a test", "seed": 3}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    avatar = synthetic_avatar(3)
    path = tmp_path_factory.mktemp("glb") / "avatar.glb"
    write_glb(avatar, path, EXTRAS)
    return avatar, read_glb(path)


def test_geometry_comes_back(written):
    avatar, glb = written
    for part in avatar.parts:
        np.testing.assert_array_equal(glb.attribute(part.name, "POSITION"), part.mesh.vertices.numpy())
        normals = glb.attribute(part.name, "NORMAL")
        np.testing.assert_allclose(normals, part.mesh.normals.numpy(), atol=1e-6)
        indices = glb.accessor(glb.mesh(part.name)["primitives"][0]["indices"])
        np.testing.assert_array_equal(indices.reshape(-1, 3), part.mesh.faces.numpy())
    np.testing.assert_array_equal(glb.attribute("hair", "TEXCOORD_0"), avatar.parts[1].mesh.uv.numpy())
    assert "TEXCOORD_0" not in glb.mesh("glasses_lenses")["primitives"][0]["attributes"]


def test_weights_are_the_same_skinning(written):
    """Per vertex the total weight of each joint is unchanged, and glTF's rules hold."""
    avatar, glb = written
    for part in avatar.parts:
        joints = glb.attribute(part.name, "JOINTS_0").astype(int)
        weights = glb.attribute(part.name, "WEIGHTS_0").astype(np.float64)
        count = len(avatar.skeleton.names)
        dense, expected = np.zeros((2, len(joints), count))
        rows = np.arange(len(joints))[:, None]
        np.add.at(dense, (rows, joints), weights)
        np.add.at(expected, (rows, part.skin.joints.numpy()), part.skin.weights.double().numpy())
        np.testing.assert_allclose(dense, expected, atol=1e-6)
        used = (weights > 0).sum(axis=1)
        assert (np.abs(weights.sum(axis=1) - 1) <= 2e-7 * used).all()
        assert (joints[weights == 0] == 0).all()
        for row, w in zip(joints, weights, strict=True):
            assert len(set(row[w > 0])) == (w > 0).sum()


def test_skinning_at_rest_is_the_identity(written):
    """World transform of each joint times its inverse bind matrix is the identity."""
    _, glb = written
    document = glb.document
    parent = {child: i for i, n in enumerate(document["nodes"]) for child in n.get("children", [])}
    skin = document["skins"][0]
    matrices = glb.accessor(skin["inverseBindMatrices"]).reshape(-1, 4, 4).transpose(0, 2, 1)
    for joint, matrix in zip(skin["joints"], matrices, strict=True):
        world, node = np.eye(4), joint
        while node is not None:
            world[:3, 3] += document["nodes"][node].get("translation", [0, 0, 0])
            node = parent.get(node)
        np.testing.assert_allclose(world @ matrix, np.eye(4), atol=1e-6)


def test_scene_layout(written):
    avatar, glb = written
    document = glb.document
    roots = [document["nodes"][n] for n in document["scenes"][0]["nodes"]]
    assert [n["name"] for n in roots] == ["Armature", "body", "hair", "glasses_lenses"]
    assert all(set(n) == {"name", "mesh", "skin"} for n in roots[1:])
    skin = document["skins"][0]
    assert [document["nodes"][j]["name"] for j in skin["joints"]] == list(avatar.skeleton.names)
    assert document["nodes"][skin["skeleton"]]["name"] == "hips"
    assert document["asset"]["extras"] == document["scenes"][0]["extras"] == EXTRAS


def test_morphs_come_back(written):
    avatar, glb = written
    for part in avatar.parts[:2]:
        morphs = glb.morphs(part.name)
        assert list(morphs) == ["jawOpen", "mouthSmileLeft"]
        for name, delta in zip(part.morphs.names, part.morphs.deltas, strict=True):
            if name in morphs:
                np.testing.assert_allclose(morphs[name], delta.numpy(), atol=SMALLEST_OFFSET)
        assert glb.mesh(part.name)["weights"] == [0.0, 0.5]
    assert "targets" not in glb.mesh("glasses_lenses")["primitives"][0]


def test_local_morphs_are_sparse_and_global_ones_are_not(written):
    _, glb = written
    local, everywhere = glb.mesh("body")["primitives"][0]["targets"]
    local_accessor = glb.document["accessors"][local["POSITION"]]
    assert local_accessor["sparse"]["count"] == 40
    assert not any(glb.view_bytes(local_accessor["bufferView"]))
    assert "sparse" not in glb.document["accessors"][everywhere["POSITION"]]


def test_equal_textures_are_stored_once(written):
    _, glb = written
    materials = {m["name"]: m for m in glb.document["materials"]}
    orm = {materials[n]["occlusionTexture"]["index"] for n in ("skin", "strands")}
    assert len(orm) == 1 and len(glb.document["images"]) == 4
    assert materials["strands"]["alphaMode"] == "MASK" and materials["strands"]["alphaCutoff"] == 0.3
    assert materials["lenses"]["alphaMode"] == "BLEND" and "alphaMode" not in materials["skin"]
    np.testing.assert_allclose(
        materials["skin"]["pbrMetallicRoughness"]["baseColorFactor"], [0.2140, 0.3185, 0.4479, 1.0], atol=1e-4
    )


def test_png_keeps_alpha_exactly_and_jpeg_nearly():
    generator = torch.Generator().manual_seed(0)
    texture = torch.rand(160, 160, 4, generator=generator)
    data, mime_type = encode_image(texture, drop_alpha=False)
    assert mime_type == "image/png"
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), (texture * 255).round().numpy())
    smooth = torch.linspace(0, 1, 160)[:, None, None].expand(160, 160, 4)
    data, mime_type = encode_image(smooth, drop_alpha=True)
    assert mime_type == "image/jpeg"
    pixels = np.asarray(Image.open(io.BytesIO(data))).astype(float) / 255
    np.testing.assert_allclose(pixels, smooth[..., :3].numpy(), atol=0.02)


@pytest.mark.parametrize("mirrored", [False, True])
def test_tangents_of_a_plane(mirrored):
    """On a plane seen from +Z the tangent is the direction in which u grows; w tells mirrored textures."""
    x, y = np.meshgrid(np.linspace(0, 1, 4), np.linspace(0, 1, 4))
    vertices = np.stack([x.ravel(), y.ravel(), np.zeros(16)], axis=1)
    squares = np.array([r * 4 + c for r in range(3) for c in range(3)])
    faces = np.concatenate(
        [squares[:, None] + [0, 1, 5], squares[:, None] + [0, 5, 4]]
    )  # counter-clockwise from +Z
    u = 1 - x if mirrored else x
    uv = np.stack([u.ravel(), 1 - y.ravel()], axis=1)
    tangents = vertex_tangents(vertices, faces, np.tile([0.0, 0.0, 1.0], (16, 1)), uv)
    expected = [-1, 0, 0, -1] if mirrored else [1, 0, 0, 1]
    np.testing.assert_allclose(tangents, np.tile(expected, (16, 1)), atol=1e-6)


def test_equal_avatars_give_equal_bytes():
    assert encode_glb(synthetic_avatar(5), EXTRAS) == encode_glb(synthetic_avatar(5), EXTRAS)
    assert encode_glb(synthetic_avatar(5), EXTRAS) != encode_glb(synthetic_avatar(6), EXTRAS)


def test_names_must_be_unique():
    avatar = synthetic_avatar(0)
    with pytest.raises(ValueError, match="body"):
        encode_glb(replace(avatar, parts=(*avatar.parts, avatar.parts[0])), EXTRAS)
    with pytest.raises(ValueError, match="hips"):
        encode_glb(replace(avatar, parts=(replace(avatar.parts[0], name="hips"),)), EXTRAS)


def test_levels_of_detail(tmp_path):
    """Lower levels are in the file but in no scene; a level may lack parts and have others."""
    avatar = synthetic_avatar(1)
    body, hair, _ = avatar.parts
    lower = replace(avatar, parts=(body, replace(hair, name="hair_and_lenses")))
    lowest = replace(avatar, parts=(body,))
    write_glb(avatar, tmp_path / "a.glb", EXTRAS, lods=[lower, lowest])
    document = read_glb(tmp_path / "a.glb").document
    nodes = document["nodes"]
    shown = [nodes[n] for n in document["scenes"][0]["nodes"]][1:]
    assert [n["name"] for n in shown] == ["body", "hair", "glasses_lenses", "hair_and_lenses"]
    assert ["mesh" in n for n in shown] == [True, True, True, False]
    for level, names in ((0, {"body_LOD1", "hair_and_lenses_LOD1"}), (1, {"body_LOD2"})):
        stand_ins = [nodes[n["extensions"]["MSFT_lod"]["ids"][level]] for n in shown]
        assert {n["name"] for n in stand_ins if "mesh" in n} == names
    assert len(document["images"]) == 4  # textures are shared
    (report,) = khronos_reports([tmp_path / "a.glb"])
    assert report["issues"]["numErrors"] == report["issues"]["numWarnings"] == 0
    assert [part.name for part in read_avatar(tmp_path / "a.glb").parts] == ["body", "hair", "glasses_lenses"]
    with pytest.raises(ValueError, match="other joints"):
        encode_glb(avatar, EXTRAS, lods=[replace(avatar, skeleton=renamed(avatar.skeleton))])


def renamed(skeleton: Skeleton) -> Skeleton:
    return replace(skeleton, names=tuple(f"{name}_" for name in skeleton.names))


def test_trimesh_reads_the_same_counts_and_bounds(tmp_path):
    avatar = synthetic_avatar(7)
    write_glb(avatar, tmp_path / "avatar.glb", EXTRAS)
    check_with_trimesh(avatar, tmp_path / "avatar.glb")


def check_with_trimesh(avatar: Avatar, path: Path) -> None:
    scene = trimesh.load(path, process=False)
    assert set(scene.geometry) == {part.name for part in avatar.parts}
    for part in avatar.parts:
        read = scene.geometry[part.name]
        assert len(read.vertices) == len(part.mesh.vertices), part.name
        assert len(read.faces) == len(part.mesh.faces), part.name
        low, high = part.mesh.vertices.amin(0).numpy(), part.mesh.vertices.amax(0).numpy()
        np.testing.assert_allclose(read.bounds, [low, high], atol=1e-6)


def khronos_reports(paths: list[Path]) -> list[dict]:
    """Reports of the Khronos validator; skips when it is not installed (`make test` installs it with npm)."""
    node = shutil.which("node")
    if node is None or not (ROOT / "node_modules" / "gltf-validator").exists():
        pytest.skip("needs node and `npm install`: the Khronos validator is a node package")
    command = [node, str(ROOT / "tests" / "validate_glb.mjs"), *map(str, paths)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def assert_spotless(paths: list[Path]) -> None:
    """No error, no warning, no information and no hint."""
    for report in khronos_reports(paths):
        remarks = report["issues"]["messages"]
        assert remarks == [], (report["uri"], remarks[:5])


def test_khronos_validator_has_nothing_to_say_on_spheres(tmp_path):
    paths = [tmp_path / f"{seed}.glb" for seed in range(4)]
    for seed, path in enumerate(paths):
        write_glb(synthetic_avatar(seed), path, EXTRAS)
    assert_spotless(paths)


def test_khronos_validator_is_awake(tmp_path):
    """A file with a broken weight must be reported, else the tests above prove nothing."""
    path = tmp_path / "broken.glb"
    data = bytearray(encode_glb(synthetic_avatar(0), EXTRAS))
    write_glb(synthetic_avatar(0), path, EXTRAS)
    document = read_glb(path).document
    accessor = document["accessors"][document["meshes"][0]["primitives"][0]["attributes"]["WEIGHTS_0"]]
    start = len(data) - document["buffers"][0]["byteLength"]
    start += document["bufferViews"][accessor["bufferView"]]["byteOffset"]
    data[start : start + 4] = np.float32(0.9876).tobytes()
    path.write_bytes(data)
    (report,) = khronos_reports([path])
    assert "ACCESSOR_WEIGHTS_NON_NORMALIZED" in {m["code"] for m in report["issues"]["messages"]}


def test_twenty_people(tmp_path):
    """Random people from the engine: nothing to say for the validator, all shapes there, trimesh agrees."""
    generator = np.random.default_rng(11)
    paths = [tmp_path / f"{n}.glb" for n in range(20)]
    for path in paths:
        avatar = build_avatar(sample(generator, Population()))
        write_glb(avatar, path, EXTRAS)
        check_with_trimesh(avatar, path)
        targets = {
            n for m in read_glb(path).document["meshes"] for n in m.get("extras", {}).get("targetNames", [])
        }
        assert len(targets) == 52, sorted(targets)
    assert_spotless(paths)
