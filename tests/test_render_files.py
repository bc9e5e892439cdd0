"""Turntables, contact sheets and meshes from files."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image
from render_scenes import quad, sphere

from avatar3d.camera import orbit, orbit_angles, project
from avatar3d.render.images import contact_sheet, to_bytes, with_alpha, write_png
from avatar3d.render.lights import ring_lights
from avatar3d.render.load import MeshFileError, mesh_from_file
from avatar3d.render.meshes import render_meshes
from avatar3d.render.scene import labelled
from avatar3d.render.turntable import turntable, turntable_cameras
from avatar3d.structures import PART_KINDS, Material, Part, Skin

PLAIN = Material("plain", base_color=(0.8, 0.2, 0.2, 1.0))


def frames(count: int, height: int, width: int) -> list[np.ndarray]:
    ramp = np.linspace(0, 255, width, dtype=np.uint8)
    return [np.broadcast_to((ramp + 9 * n)[None, :, None], (height, width, 3)).copy() for n in range(count)]


def test_turntable_cameras_go_around_once_and_see_everything():
    points = torch.randn(500, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([0.3, 0.9, 0.2])
    cameras = turntable_cameras(points, 8, width=120, height=200, margin=0.05)
    center = 0.5 * (points.amin(0) + points.amax(0))
    distances = [float((c.T_world_camera[:3, 3] - center).norm()) for c in cameras]
    assert distances == pytest.approx([distances[0]] * 8, rel=1e-5)
    free = []
    for n, camera in enumerate(cameras):
        turned = (orbit_angles(camera)[0] - 2 * math.pi * n / 8 + math.pi) % (2 * math.pi) - math.pi
        assert turned == pytest.approx(0, abs=1e-4)
        pixels, _ = project(camera, points)
        size = torch.tensor([120, 200])
        free.append(float((torch.minimum(pixels, size - pixels) / size).min()))
    assert min(free) == pytest.approx(0.05, abs=1e-3)


def test_turntable_yields_frames_and_reports_them():
    reports: list[tuple[int, int]] = []
    made = list(turntable([quad(PLAIN)], 3, 48, 32, on_frame=lambda done, total: reports.append((done, total))))
    assert [f.shape for f in made] == [(32, 48, 3)] * 3
    assert all(f.dtype == np.uint8 for f in made)
    assert reports == [(1, 3), (2, 3), (3, 3)]
    again = list(turntable([quad(PLAIN)], 3, 48, 32))
    assert all(np.array_equal(a, b) for a, b in zip(made, again, strict=True))


def test_turntable_frames_are_pictures_under_the_same_lights():
    """Shadow maps that serve all frames cover more than one picture needs; the difference stays small."""
    ball, wall = sphere(PLAIN, radius=0.4, rings=24), quad(PLAIN, z=-0.8)
    cameras = [orbit([0.0, 0.0, 0.0], 7.0, turn, 0.1, width=64, height=64) for turn in (-0.4, 0.5)]
    made = list(turntable([ball, wall], cameras=cameras))
    for frame, camera in zip(made, cameras, strict=True):
        alone = to_bytes(render_meshes([ball, wall], camera, ring_lights()).rgb)
        assert np.abs(frame.astype(float) - alone).mean() < 1.0


def test_png_round_trip_with_alpha(tmp_path: Path):
    camera = orbit([0.0, 0.0, 0.0], 8.0, width=40, height=30)
    render = render_meshes([sphere(PLAIN, rings=12)], camera, background=None)
    write_png(with_alpha(render), tmp_path / "ball.png")
    read = np.asarray(Image.open(tmp_path / "ball.png"))
    assert read.shape == (30, 40, 4)
    assert np.array_equal(read, to_bytes(with_alpha(render)))


def test_contact_sheet_places_pictures():
    sheet = contact_sheet(frames(5, 20, 30), 2, gap=3)
    assert sheet.shape == (3 + 3 * 23, 3 + 2 * 33, 3)
    for n, picture in enumerate(frames(5, 20, 30)):
        y, x = 3 + n // 2 * 23, 3 + n % 2 * 33
        assert np.array_equal(sheet[y : y + 20, x : x + 30], picture)
    labelled_sheet = contact_sheet(frames(2, 20, 30), 2, ["one", "two"])
    assert labelled_sheet.shape[0] > 20 + 8
    with pytest.raises(ValueError, match="one label per picture"):
        contact_sheet(frames(2, 20, 30), 2, ["one"])


def test_labels_are_kinds():
    mesh = quad(PLAIN).mesh
    skin = Skin(torch.zeros(4, 4, dtype=torch.int64), torch.tensor([[1.0, 0, 0, 0]]).expand(4, 4))
    parts = [Part("cap", "hat", mesh, skin), Part("skin", "body", mesh, skin)]
    assert [item.label for item in labelled(parts)] == [1 + PART_KINDS.index("hat"), 1]


def scene_file(path: Path) -> trimesh.Scene:
    """A textured quad in front of +Z at x = -2 and a mirrored, stretched box at x = 2."""
    picture = np.zeros((8, 8, 3), np.uint8)
    picture[:4] = (255, 0, 0)
    picture[4:] = (0, 0, 255)
    material = trimesh.visual.material.PBRMaterial(
        name="paint", baseColorTexture=Image.fromarray(picture), metallicFactor=0.0, roughnessFactor=0.7
    )
    flat = quad(PLAIN).mesh
    uv = flat.uv.numpy().copy()
    uv[:, 1] = 1 - uv[:, 1]
    visual = trimesh.visual.TextureVisuals(uv=uv, material=material)
    square = trimesh.Trimesh(flat.vertices.numpy(), flat.faces.numpy(), visual=visual, process=False)
    box = trimesh.creation.box((1, 1, 1))
    box.visual.face_colors = [30, 200, 30, 255]
    scene = trimesh.Scene()
    scene.add_geometry(square, transform=trimesh.transformations.translation_matrix([-2, 0, 0]))
    scene.add_geometry(box, transform=trimesh.transformations.scale_and_translate([-1, 2, 1], [2, 0, 0]))
    scene.export(path)
    return scene


def test_glb_with_textures_instances_and_mirroring(tmp_path: Path):
    scene = scene_file(tmp_path / "scene.glb")
    meshes = mesh_from_file(tmp_path / "scene.glb")
    assert sum(len(m.mesh.faces) for m in meshes) == 14
    vertices = torch.cat([m.mesh.vertices for m in meshes])
    assert np.allclose([vertices.amin(0), vertices.amax(0)], scene.bounds, atol=1e-6)
    paint = next(m for m in meshes if m.mesh.material.name == "paint")
    assert paint.mesh.material.roughness == pytest.approx(0.7)
    box = next(m for m in meshes if m is not paint).mesh
    corners = box.vertices[box.faces]
    outward = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert ((corners.mean(1) - torch.tensor([2.0, 0, 0])) * outward).sum(-1).min() > 0
    camera = orbit([0.0, 0.0, 0.0], 12.0, fov=0.5, width=96, height=96)
    rgb = render_meshes(meshes, camera).rgb
    pixel, _ = project(camera, torch.tensor([[-2.0, 0.5, 0], [-2.0, -0.5, 0], [2.0, 0.3, 0.5]]))
    top, bottom, green = (rgb[int(y), int(x)].argmax().item() for x, y in pixel)
    assert (top, bottom, green) == (0, 2, 1)


def test_obj_file(tmp_path: Path):
    trimesh.creation.icosphere(2, radius=0.5).export(tmp_path / "ball.obj")
    (item,) = mesh_from_file(tmp_path / "ball.obj")
    assert len(item.mesh.faces) == 320
    radial = torch.nn.functional.normalize(item.mesh.vertices, dim=-1)
    assert (radial * item.mesh.normals).sum(-1).min() > 0.99


def test_files_that_hold_nothing_to_draw(tmp_path: Path):
    good = tmp_path / "good.glb"
    scene_file(good)
    cases = {
        "empty.glb": b"",
        "noise.glb": bytes(range(256)) * 4,
        "cut.glb": good.read_bytes()[:300],
        "points.ply": b"ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nproperty float y\n"
        b"property float z\nend_header\n0 0 0\n",
        "nothing.obj": b"# no geometry\n",
        "picture.png": b"\x89PNG",
    }
    for name, data in cases.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(MeshFileError, match=name):
            mesh_from_file(tmp_path / name)
    with pytest.raises(MeshFileError, match="no such file"):
        mesh_from_file(tmp_path / "absent.glb")
    far = dataclasses.replace(quad(PLAIN).mesh, vertices=quad(PLAIN).mesh.vertices * 1e8)
    trimesh.Trimesh(far.vertices.numpy(), far.faces.numpy(), process=False).export(tmp_path / "far.glb")
    with pytest.raises(MeshFileError, match="finite or beyond"):
        mesh_from_file(tmp_path / "far.glb")


def test_flat_colors_of_glb_files_are_linear(tmp_path):
    """glTF 2.0, 3.9.2: factors are linear. Half the light is sRGB 0.735, not 0.5."""
    box = trimesh.creation.box()
    box.visual = trimesh.visual.TextureVisuals(
        material=trimesh.visual.material.PBRMaterial(baseColorFactor=[128, 128, 128, 255])
    )
    box.export(tmp_path / "box.glb")
    (item,) = mesh_from_file(tmp_path / "box.glb")
    assert item.mesh.material.base_color[0] == pytest.approx(0.735, abs=0.005)
