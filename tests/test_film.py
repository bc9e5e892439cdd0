"""Films of clips: right number of frames, the figure in the picture, the floor below it."""

import math
import subprocess
from dataclasses import replace

import imageio_ffmpeg
import numpy as np
import pytest
import torch

from avatar3d.camera import project
from avatar3d.engine.build import build_avatar
from avatar3d.film import _set_up, _track, film, write_motion
from avatar3d.motion.clips import Wish, animate
from avatar3d.motion.play import duration, pose_at, sample
from avatar3d.render.meshes import BACKDROP
from avatar3d.render.scene import compile_scene, labelled, moved_scene
from avatar3d.spec import AvatarSpec
from avatar3d.structures import Avatar, Clip


@pytest.fixture(scope="module")
def avatar() -> Avatar:
    return build_avatar(AvatarSpec(age=8, seed=1))


@pytest.fixture(scope="module")
def walk(avatar) -> Clip:
    return animate(avatar, Wish(clip="walk", travel=True, seconds=3.0)).clip


def test_a_film_has_the_frames_and_the_size_that_were_asked_for(avatar, walk, tmp_path):
    told = []
    path = tmp_path / "walk.mp4"
    count = write_motion(avatar, walk, path, fps=4.0, resolution=96, step=lambda *s: told.append(s), seconds=1.5)
    assert count == 6 and told == [(n, 6) for n in range(1, 7)]
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", str(path), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    raw = subprocess.run(command, capture_output=True, check=True).stdout
    frames = np.frombuffer(raw, np.uint8).reshape(6, 96, 96, 3)
    assert (np.abs(np.diff(frames.astype(int), axis=0)).max(axis=(1, 2, 3)) > 40).all(), "it moves"


@pytest.mark.parametrize("azimuth", [0.0, 1.2])
def test_the_figure_stays_in_the_picture(avatar, walk, azimuth):
    times = [n / 6 for n in range(round(6 * duration(walk)))]
    track = _track(walk, times)
    camera = _set_up(avatar, walk, times, track, 100, "full", azimuth)
    largest = 0.0
    for n in range(0, len(times), 3):
        points = torch.cat([mesh.vertices for _, mesh in pose_at(avatar, walk, times[n])])
        pixels, _ = project(camera, points - track[n].float())
        assert pixels.min() > 0 and pixels.max() < 100
        largest = max(largest, float((pixels.amax(0) - pixels.amin(0)).max()))
    assert largest > 80


def test_the_camera_goes_along_with_a_steady_pace(walk):
    times = [n / 30 for n in range(round(30 * duration(walk)))]
    steps = _track(walk, times).diff(dim=0)
    speed = float(sample(walk, duration(walk)).offsets["root"][2]) / duration(walk) / 30
    assert (steps[:, 2] - speed).abs().max() < 0.1 * speed
    assert steps[:, 1].abs().max() == 0 and steps[:, 0].abs().max() < 0.3 * speed


def test_the_floor_is_faint_and_below(avatar, walk):
    (picture,) = film(avatar, walk, [0.5], 128, "full", 0.4, None)
    background = np.array(BACKDROP) * 255
    difference = np.abs(picture.astype(float) - background).max(axis=2)
    assert difference[:40, :30].max() < 2, "nothing in the upper corner"
    assert 3 < difference[100:, :20].max() < 80, "lines, but faint ones, in the lower corner"


def test_moving_a_scene_is_compiling_it_there(avatar, walk):
    first, second = ([replace(part, mesh=mesh) for part, mesh in pose_at(avatar, walk, t)] for t in (0.1, 0.4))
    moved = moved_scene(compile_scene(labelled(first)), labelled(second))
    compiled = compile_scene(labelled(second))
    assert torch.equal(moved.attributes, compiled.attributes) and torch.equal(moved.faces, compiled.faces)
    with pytest.raises(ValueError, match="vertices"):
        moved_scene(compiled, labelled(second[:3]))


def test_close_views_follow(avatar, walk):
    times = [0.0, 1.0, 2.0]
    track = _track(walk, times)
    camera = _set_up(avatar, walk, times, track, 100, "head", math.radians(20))
    eye = avatar.skeleton.names.index("leftEye")
    for n, time in enumerate(times):
        offset = sum(sample(walk, time).offsets.values())
        pixels, _ = project(camera, avatar.skeleton.positions[eye] + offset - track[n].float())
        assert pixels.min() > 25 and pixels.max() < 75
