"""Fields from pictures: cameras in and out of files, faults of folders, learning, and going on after a stop."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch
from PIL import Image
from render_scenes import sphere

from avatar3d.camera import from_transform, orbit, project, to_transform
from avatar3d.reconstruct.photometric import (
    CHECKPOINT,
    Settings,
    boxed,
    fit,
    looked_at,
    new_field,
    reconstruct,
    resolution_at,
    split,
)
from avatar3d.reconstruct.transforms import TransformsError, pixel_rays, read_transforms, write_transforms
from avatar3d.render.load import mesh_from_file
from avatar3d.render.meshes import render_meshes
from avatar3d.render.rays import camera_rays
from avatar3d.structures import Material

SIZE = 32
CENTER = (0.2, 1.5, -0.1)
TINY = Settings(steps=120, rays=768, nodes=40, resolutions=(16, 32), cells=32, texture=64, frames=3, film_size=64)


def cameras(count=24, size=SIZE):
    return [
        orbit(CENTER, 2.5, 2 * math.pi * n / count, 0.5 * math.sin(2.0 * n), math.radians(40), size, size)
        for n in range(count)
    ]


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """24 pictures of two balls with a painted texture, in a folder."""
    paint = torch.rand(1, 3, 4, 8, generator=torch.Generator().manual_seed(0))
    paint = torch.nn.functional.interpolate(paint, (32, 64), mode="bilinear")[0].permute(1, 2, 0)
    x, y, z = CENTER
    meshes = [
        sphere(Material("paint", base_color_texture=paint), CENTER, 0.5, rings=24),
        sphere(Material("plain", base_color=(0.9, 0.3, 0.1, 1.0)), (x + 0.35, y + 0.4, z), 0.25, 2, rings=16),
    ]
    pictures = []
    for camera in cameras():
        render = render_meshes(meshes, camera, background=None, shadows=False, occlusion=False)
        pictures.append(torch.cat([render.rgb, render.alpha[..., None]], -1))
    folder = tmp_path_factory.mktemp("scene")
    write_transforms(folder, cameras(), pictures)
    return folder, pictures


def changed(folder, to, change):
    """A copy of a folder whose transforms.json is changed."""
    (to / "images").mkdir()
    for path in (folder / "images").iterdir():
        (to / "images" / path.name).write_bytes(path.read_bytes())
    document = json.loads((folder / "transforms.json").read_text())
    change(document)
    (to / "transforms.json").write_text(json.dumps(document))
    return to


def test_axes_by_hand():
    """A Blender camera at -Y that looks along +Y, upright, sees what faces us: ours looks along -Z from +Z."""
    theirs = torch.tensor([[1.0, 0, 0, 0], [0, 0, -1, -4], [0, 1, 0, 1], [0, 0, 0, 1]])
    ours = from_transform(theirs)
    assert torch.allclose(ours, orbit((0.0, 1.0, 0.0), 4.0).T_world_camera)
    for camera in cameras(5):
        assert torch.allclose(from_transform(to_transform(camera.T_world_camera)), camera.T_world_camera)


def test_pictures_come_back(scene):
    folder, pictures = scene
    read = read_transforms(folder)
    assert read.has_alpha and len(read.names) == 24 and read.stretch == 1
    for n, camera in enumerate(cameras()):
        assert torch.allclose(read.cameras[n].T_world_camera, camera.T_world_camera, atol=1e-6)
        assert read.cameras[n].focal == pytest.approx(camera.focal)
        assert float((read.pixels[n] - pictures[n]).abs().max()) <= 0.5 / 255 + 1e-6
    rays, _ = camera_rays(cameras()[3], torch.zeros(1))
    own = pixel_rays(read, torch.full((SIZE * SIZE,), 3), torch.arange(SIZE * SIZE))
    assert torch.allclose(own.directions, rays.directions, atol=1e-6)
    assert torch.allclose(own.origins, rays.origins, atol=1e-6)


def test_lenses(scene, tmp_path):
    """An angle alone is enough; a principal point off the middle and oblong pixels turn the rays."""
    folder, _ = scene

    def angle_only(document):
        for key in ("fl_x", "fl_y", "cx", "cy", "w", "h", "camera_model"):
            del document[key]
        for frame in document["frames"]:
            frame["file_path"] = frame["file_path"].removesuffix(".png")

    (tmp_path / "angle").mkdir()
    plain = read_transforms(changed(folder, tmp_path / "angle", angle_only))
    assert plain.cameras[0].focal == pytest.approx(cameras()[0].focal)
    (tmp_path / "bent").mkdir()
    read = read_transforms(
        changed(folder, tmp_path / "bent", lambda d: d.update(cx=12.0, cy=20.0, fl_y=0.5 * d["fl_x"]))
    )
    focal = read.cameras[0].focal
    rays = pixel_rays(read, torch.tensor([2]), torch.tensor([5 * SIZE + 7]))
    ahead = rays.directions[0] @ read.cameras[2].T_world_camera[:3, :3]
    expected = torch.tensor([(7.5 - 12) / focal, (5.5 - 20) / (0.5 * focal)])
    assert torch.allclose(ahead[:2] / ahead[2], expected, atol=1e-5)


def test_large_pictures_are_made_smaller(scene):
    read = read_transforms(scene[0], largest=16)
    assert read.pixels.shape == (24, 16, 16, 4)
    assert read.cameras[0].focal == pytest.approx(0.5 * cameras()[0].focal)
    truth = torch.stack(scene[1])[..., 3].view(24, 16, 2, 16, 2).mean((2, 4))
    assert float((read.pixels[..., 3] - truth).abs().max()) < 0.01


def singular(document):
    document["frames"][4]["transform_matrix"][0] = [0, 0, 0, 0]


def mirrored(document):
    for row in document["frames"][4]["transform_matrix"][:3]:
        row[0] *= -1


def not_a_number(document):
    document["frames"][4]["transform_matrix"][0][3] = math.nan


FAULTS = [
    (singular, "0004.png is no rotation"),
    (mirrored, "mirrored"),
    (not_a_number, "finite"),
    (lambda d: d["frames"][4].update(transform_matrix=[[1, 2], [3]]), "4 x 4"),
    (lambda d: d["frames"][4].pop("transform_matrix"), "4 x 4"),
    (lambda d: d["frames"][4].update(file_path="images/none.png"), "none.png does not exist"),
    (lambda d: d["frames"][4].pop("file_path"), "no file_path"),
    (lambda d: d.update(frames=[]), "no frames"),
    (lambda d: d.update(k1=0.1), "undistort"),
    (lambda d: d.update(camera_model="OPENCV_FISHEYE"), "undistort"),
    (lambda d: d.update(fl_x="wide"), "fl_x is a number"),
    (lambda d: d.update(fl_x=-3.0), "above 0"),
    (lambda d: [d.pop("fl_x"), d.pop("camera_angle_x")], "camera_angle_x"),
    (lambda d: d.update(h=999), "shape"),
]


@pytest.mark.parametrize(("change", "words"), FAULTS)
def test_faults_of_the_file(scene, tmp_path, change, words):
    with pytest.raises(TransformsError, match=words):
        read_transforms(changed(scene[0], tmp_path, change))


def test_faults_of_the_folder(scene, tmp_path):
    with pytest.raises(TransformsError, match="does not exist"):
        read_transforms(tmp_path)
    (tmp_path / "transforms.json").write_text("{")
    with pytest.raises(TransformsError, match="not JSON"):
        read_transforms(tmp_path)
    (tmp_path / "transforms.json").unlink()
    folder = changed(scene[0], tmp_path, lambda d: None)
    Image.new("RGB", (20, 20)).save(folder / "images" / "0003.png")
    with pytest.raises(TransformsError, match="20 x 20"):
        read_transforms(folder)
    (folder / "images" / "0003.png").write_bytes(b"no picture")
    with pytest.raises(TransformsError, match="can not be read as a picture"):
        read_transforms(folder)
    read = read_transforms(scene[0])
    with pytest.raises(TransformsError, match="leave none"):
        split(read.subset([0, 1]), 8)
    same = read.cameras[0]
    with pytest.raises(TransformsError, match="same way"):
        looked_at(replace(read, cameras=(same,) * 24))
    with pytest.raises(ValueError, match="one camera for each"):
        write_transforms(tmp_path, cameras(), [])


def test_the_box_is_around_what_cameras_look_at(scene):
    read = read_transforms(scene[0])
    box = looked_at(read)
    assert torch.allclose(box.center, torch.tensor(CENTER), atol=1e-4)
    assert box.scale == pytest.approx(2.5 * math.tan(math.radians(20)), rel=1e-4)
    moved = boxed(read, box)
    point = torch.tensor([0.3, 1.2, 0.1])
    for n in (0, 7):
        pixels, depth = project(read.cameras[n], point)
        own, near = project(moved.cameras[n], (point - box.center) / box.scale)
        assert torch.allclose(pixels, own, atol=1e-3) and float(near * box.scale) == pytest.approx(float(depth))


def test_held_out_pictures_are_not_trained_on(scene):
    train, test = split(read_transforms(scene[0]), 8)
    assert len(train.names) == 21 and len(test.names) == 3 and not set(train.names) & set(test.names)
    assert [resolution_at(TINY, n) for n in (0, 59, 60, 119)] == [16, 16, 32, 32]


def test_a_scene_is_learned(scene, tmp_path):
    """Held-out views are far better than their mean color; the mesh lies where the balls are."""
    report = reconstruct(scene[0], tmp_path / "out", TINY)
    assert report["psnr"] > report["psnr_mean_color"] + 9 and report["psnr"] > 21
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "checkpoint.pt", "mesh.glb", "report.json", "turntable.mp4",
    ]  # fmt: skip
    assert report["mesh"]["closed"]
    vertices = torch.cat([m.mesh.vertices for m in mesh_from_file(tmp_path / "out" / "mesh.glb")])
    centers = torch.tensor([CENTER, (CENTER[0] + 0.35, CENTER[1] + 0.4, CENTER[2])])
    off = torch.cdist(vertices, centers) - torch.tensor([0.5, 0.25])
    assert float(off.amin(1).abs().median()) < 0.04
    again = reconstruct(scene[0], tmp_path / "out", replace(TINY, frames=0))
    assert again["psnr"] == report["psnr"]
    with pytest.raises(TransformsError, match="other settings"):
        reconstruct(scene[0], tmp_path / "out", replace(TINY, seed=1))


@pytest.mark.parametrize("stop", [20, 35])
def test_a_stopped_run_goes_on_exactly(scene, tmp_path, stop):
    """Before and after the grid becomes finer, bit for bit."""
    settings = replace(TINY, steps=44, rays=128, nodes=16, resolutions=(8, 12), save_every=7)
    pictures = boxed(read_transforms(scene[0]), looked_at(read_transforms(scene[0])))

    def interrupt(stage, done, total):
        if done == stop:
            raise KeyboardInterrupt

    def go_on(stage, done, total):
        assert done > stop // 7 * 7

    whole, _ = fit(pictures, settings, tmp_path / "whole.pt", lambda *_: None)
    with pytest.raises(KeyboardInterrupt):
        fit(pictures, settings, tmp_path / CHECKPOINT, interrupt)
    resumed, _ = fit(pictures, settings, tmp_path / CHECKPOINT, go_on)
    assert torch.equal(whole.grid, resumed.grid) and whole.grid.shape[0] == 12
    (tmp_path / CHECKPOINT).write_bytes(b"broken")
    with pytest.raises(TransformsError, match="damaged"):
        fit(pictures, settings, tmp_path / CHECKPOINT, interrupt)


@pytest.mark.parametrize("field", ["hash", "planes"])
def test_other_fields_begin_to_learn(scene, tmp_path, field):
    settings = replace(TINY, field=field, steps=6, rays=64, nodes=16)
    pictures = boxed(read_transforms(scene[0]), looked_at(read_transforms(scene[0])))
    before = new_field(settings, torch.Generator().manual_seed(settings.seed))
    after, _ = fit(pictures, settings, tmp_path / CHECKPOINT, lambda *_: None)
    changes = [not torch.equal(a, b) for a, b in zip(before.parameters(), after.parameters(), strict=True)]
    assert any(changes) and all(bool(torch.isfinite(p).all()) for p in after.parameters())
