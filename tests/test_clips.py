"""Clips: what comes back from a file, and no file when writing fails."""

from __future__ import annotations

import errno
import os

import imageio_ffmpeg
import numpy as np
import pytest

from avatar3d.render import clips
from avatar3d.render.clips import write_mp4

COLORS = ((200, 40, 40), (40, 200, 40), (40, 40, 200))


def flat(color, height=64, width=48):
    return np.full((height, width, 3), color, np.uint8)


def test_frames_come_back(tmp_path):
    path = tmp_path / "clip.mp4"
    assert write_mp4(path, (flat(color) for color in COLORS), fps=12) == 3
    reader = imageio_ffmpeg.read_frames(str(path))
    facts = next(reader)
    assert facts["size"] == (48, 64) and facts["fps"] == 12 and facts["codec"] == "h264"
    frames = [np.frombuffer(frame, np.uint8).reshape(64, 48, 3) for frame in reader]
    assert len(frames) == 3
    for frame, color in zip(frames, COLORS, strict=True):
        np.testing.assert_allclose(frame, flat(color), atol=8)
    assert os.listdir(tmp_path) == ["clip.mp4"]


def test_odd_sizes_lose_a_row_and_a_column(tmp_path):
    write_mp4(tmp_path / "clip.mp4", [flat((0, 0, 0), 65, 33)])
    assert next(imageio_ffmpeg.read_frames(str(tmp_path / "clip.mp4")))["size"] == (32, 64)


@pytest.mark.parametrize(
    ("frames", "words"),
    [([], "at least one frame"), ([flat((0, 0, 0)), flat((0, 0, 0), 32)], "frame 1 is")],
)
def test_bad_frames(tmp_path, frames, words):
    with pytest.raises(ValueError, match=words):
        write_mp4(tmp_path / "clip.mp4", frames)
    assert os.listdir(tmp_path) == []


def test_an_interrupted_clip_leaves_nothing(tmp_path):
    def frames():
        yield flat((0, 0, 0))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_mp4(tmp_path / "clip.mp4", frames())
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux's /dev/full")
def test_a_full_disk_is_noticed(tmp_path):
    """The encoder's file is a link to a device that is always full."""
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"old")
    (tmp_path / f".clip.mp4.{os.getpid()}.partial.mp4").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left") as caught:
        write_mp4(path, [flat(color) for color in COLORS])
    assert caught.value.errno == errno.ENOSPC
    assert os.listdir(tmp_path) == ["clip.mp4"] and path.read_bytes() == b"old"


def test_a_dead_encoder_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(clips, "QUALITY", ("-preset", "nonsense"))
    with pytest.raises(OSError, match="nonsense"):
        write_mp4(tmp_path / "clip.mp4", (flat(COLORS[n % 3], 512, 512) for n in range(40)))
    assert os.listdir(tmp_path) == []
