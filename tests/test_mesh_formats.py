"""OBJ, PLY and STL files, read back with trimesh."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
import trimesh
from humanoid import humanoid_avatar
from PIL import Image

from avatar3d.body.pose import pose_avatar, rotate
from avatar3d.export.licences import licence_record
from avatar3d.export.mesh_formats import vertex_colors, write_obj, write_ply, write_stl
from avatar3d.render.color import linear_to_srgb, srgb_to_linear
from avatar3d.structures import Material

POSE = {"leftUpperArm": rotate("z", -60), "head": rotate("y", 20)}


@pytest.fixture(scope="module")
def avatar():
    return humanoid_avatar(4)


def posed(avatar, pose):
    meshes = [mesh for _, mesh in pose_avatar(avatar, pose)]
    return meshes, np.concatenate([mesh.vertices.numpy() for mesh in meshes])


@pytest.mark.parametrize("pose", [{}, POSE])
def test_obj_comes_back(avatar, tmp_path, pose):
    paths = write_obj(avatar, tmp_path / "one.obj", licence_record(avatar), pose)
    assert all(path.exists() for path in paths) and {p.parent for p in paths} == {tmp_path}
    scene = trimesh.load(tmp_path / "one.obj", process=False)
    by_material = {mesh.material.name: mesh for mesh in posed(avatar, pose)[0]}
    assert set(scene.geometry) == set(by_material)
    for name, mesh in by_material.items():
        read = scene.geometry[name]
        np.testing.assert_array_equal(read.faces, mesh.faces.numpy())
        np.testing.assert_allclose(read.vertices, mesh.vertices.numpy(), atol=1e-6)
        np.testing.assert_allclose(read.vertex_normals, mesh.normals.numpy(), atol=1e-3)
        np.testing.assert_allclose(read.visual.uv, np.column_stack([mesh.uv[:, 0], 1 - mesh.uv[:, 1]]), atol=1e-6)


def test_obj_groups_are_the_parts(avatar, tmp_path):
    write_obj(avatar, tmp_path / "one.obj", licence_record(avatar))
    text = (tmp_path / "one.obj").read_text("ascii")
    assert re.findall(r"^o (.*)$", text, re.M) == [part.name for part in avatar.parts]


def test_mtl_textures_hold_the_whole_color(avatar, tmp_path):
    """A base color that multiplies a texture is in the picture, because viewers disagree about Kd times map_Kd."""
    write_obj(avatar, tmp_path / "one.obj", licence_record(avatar))
    blocks = (tmp_path / "one.mtl").read_text("ascii").split("newmtl ")[1:]
    entries = {b.splitlines()[0]: dict(line.split(" ", 1) for line in b.splitlines()[1:] if line) for b in blocks}
    assert set(entries) == {"skin", "strands", "lenses"}
    skin = avatar.parts[0].mesh.material
    assert entries["skin"]["Kd"] == "1.000000 1.000000 1.000000" and "map_d" not in entries["skin"]
    pixels = np.asarray(Image.open(tmp_path / entries["skin"]["map_Kd"])) / 255
    light = srgb_to_linear(skin.base_color_texture) * srgb_to_linear(torch.tensor(skin.base_color[:3]))
    assert np.abs(pixels - linear_to_srgb(light).numpy()).mean() < 0.02  # JPEG of noise
    assert entries["strands"]["map_d"] == entries["strands"]["map_Kd"]
    assert Image.open(tmp_path / entries["strands"]["map_Kd"]).mode == "RGBA"
    assert entries["lenses"]["d"] == "0.400000" and "map_Kd" not in entries["lenses"]


@pytest.mark.parametrize("write", [write_ply, write_stl])
def test_one_mesh_comes_back(avatar, tmp_path, write):
    path = tmp_path / f"one.{write.__name__[-3:]}"
    write(avatar, path, licence_record(avatar), POSE)
    read = trimesh.load(path, process=False)
    meshes, vertices = posed(avatar, POSE)
    assert len(read.faces) == sum(len(mesh.faces) for mesh in meshes)
    np.testing.assert_allclose(read.bounds, [vertices.min(0), vertices.max(0)], atol=1e-6)
    expected = np.concatenate([mesh.vertices[mesh.faces].numpy() for mesh in meshes])
    np.testing.assert_allclose(read.triangles, expected, atol=1e-6)


def test_scale(avatar, tmp_path):
    for factor in (1.0, 1000.0):
        write_stl(avatar, tmp_path / f"{factor}.stl", licence_record(avatar), scale=factor)
    small, large = (trimesh.load(tmp_path / f"{factor}.stl", process=False) for factor in (1.0, 1000.0))
    np.testing.assert_allclose(large.bounds, small.bounds * 1000, rtol=1e-5)


def test_ply_colors(avatar, tmp_path):
    write_ply(avatar, tmp_path / "one.ply", licence_record(avatar))
    read = trimesh.load(tmp_path / "one.ply", process=False)
    expected = torch.cat([vertex_colors(part.mesh) for part in avatar.parts])
    np.testing.assert_allclose(read.visual.vertex_colors / 255, expected.clamp(0, 1).numpy(), atol=0.51 / 255)
    np.testing.assert_allclose(
        read.vertex_normals, np.concatenate([mesh.normals for mesh in posed(avatar, {})[0]]), atol=1e-5
    )


def test_vertex_colors_are_the_texture_where_it_is_smooth(avatar):
    """A ramp along u is read at the vertices' u; a plain factor is itself."""
    mesh = avatar.parts[1].mesh
    ramp = ((torch.arange(64) + 0.5) / 64).expand(64, 64)[..., None].expand(64, 64, 3).contiguous()
    inside = (mesh.uv[:, 0] > 0.15) & (mesh.uv[:, 0] < 0.85)
    colors = vertex_colors(replace(mesh, material=Material("ramp", base_color_texture=ramp)))
    torch.testing.assert_close(colors[inside, 0], mesh.uv[inside, 0], atol=0.02, rtol=0)
    torch.testing.assert_close(colors[:, 3], torch.ones(len(colors)))
    plain = vertex_colors(replace(mesh, material=Material("plain", base_color=(0.1, 0.2, 0.3, 0.4))))
    torch.testing.assert_close(plain, torch.tensor([0.1, 0.2, 0.3, 0.4]).expand(len(mesh.uv), 4))


def test_fine_stripes_become_their_mean(avatar):
    stripes = (torch.arange(512) % 2).float().expand(512, 512)[..., None].expand(512, 512, 3).contiguous()
    colors = vertex_colors(replace(avatar.parts[1].mesh, material=Material("s", base_color_texture=stripes)))
    torch.testing.assert_close(colors[:, :3], torch.full_like(colors[:, :3], 0.5))


def test_the_record_is_in_each_file(avatar, tmp_path):
    record = licence_record(avatar, "vieil homme à lunettes")
    write_obj(avatar, tmp_path / "one.obj", record)
    write_ply(avatar, tmp_path / "one.ply", record)
    write_stl(avatar, tmp_path / "one.stl", record)
    for name in ("one.obj", "one.mtl", "one.ply"):
        line = re.search(rb"(?:#|comment) record (\{.*\})\n", (tmp_path / name).read_bytes())
        assert json.loads(line[1]) == json.loads(json.dumps(record)), name
    assert b"CC0-1.0" in (tmp_path / "one.stl").read_bytes()[:80]
    assert not (tmp_path / "one.stl").read_bytes().startswith(b"solid")


def test_a_failure_leaves_nothing(avatar, tmp_path):
    (tmp_path / "one.mtl").mkdir()  # so that the material library can not be written
    with pytest.raises(OSError):
        write_obj(avatar, tmp_path / "one.obj", licence_record(avatar))
    assert [p.name for p in tmp_path.iterdir()] == ["one.mtl"]
    for write in (write_obj, write_ply, write_stl):
        with pytest.raises(OSError):
            write(avatar, tmp_path / "absent" / "one.x", licence_record(avatar))


def test_equal_avatars_give_equal_bytes(tmp_path):
    for write in (write_obj, write_ply, write_stl):
        for name in ("a", "b"):
            (tmp_path / name).mkdir(exist_ok=True)
            write(humanoid_avatar(2), tmp_path / name / "one.x", licence_record(humanoid_avatar(2)))
        files = sorted(path.name for path in (tmp_path / "a").iterdir())
        assert files == sorted(path.name for path in (tmp_path / "b").iterdir())
        assert all((tmp_path / "a" / f).read_bytes() == (tmp_path / "b" / f).read_bytes() for f in files)
