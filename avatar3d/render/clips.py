"""Clips as files: H.264 in MP4, encoded by the ffmpeg program that imageio-ffmpeg brings."""

from __future__ import annotations

import errno
import os
import subprocess
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import IO

import imageio_ffmpeg
import numpy as np
from jaxtyping import UInt8

QUALITY = ("-preset", "medium", "-crf", "18")


def write_mp4(path: Path | str, frames: Iterable[UInt8[np.ndarray, "_ _ 3"]], fps: float = 24.0) -> int:
    """Write a clip that browsers and QuickTime play; returns the number of frames.

    yuv420p needs even sizes: an odd last row or column is dropped. The file appears whole or not at all.
    Raises ValueError when there are no frames or their sizes differ, OSError when it can not be written.
    """
    path, remaining = Path(path), iter(frames)
    first = next(remaining, None)
    if first is None:
        raise ValueError("a clip needs at least one frame")
    height, width = first.shape[0] // 2 * 2, first.shape[1] // 2 * 2
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial.mp4")
    count = 0
    with tempfile.TemporaryFile() as log:
        encoder = _start_encoder(partial, width, height, fps, log)
        assert encoder.stdin is not None
        try:
            with suppress(BrokenPipeError), encoder.stdin:  # if the encoder dies, its exit status says why
                for frame in chain([first], remaining):
                    if frame.shape != first.shape:
                        raise ValueError(f"frame {count} is {frame.shape}, the first was {first.shape}")
                    encoder.stdin.write(np.ascontiguousarray(frame[:height, :width]))
                    count += 1
            if encoder.wait() != 0:
                raise _encoder_error(path, log)
            os.replace(partial, path)
        finally:
            encoder.kill()
            encoder.wait()
            partial.unlink(missing_ok=True)
    return count


def _start_encoder(path: Path, width: int, height: int, fps: float, log: IO[bytes]) -> subprocess.Popen:
    """ffmpeg reading raw frames from its stdin; in a session of its own, so that Ctrl-C reaches only us."""
    command = [
        imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error",
        "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", f"{fps:g}", "-i", "-",
        "-c:v", "libx264", *QUALITY, "-pix_fmt", "yuv420p", "-movflags", "+faststart", str(path),
    ]  # fmt: skip
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=log, start_new_session=True
    )


def _encoder_error(path: Path, log: IO[bytes]) -> OSError:
    log.seek(0)
    words = log.read().decode(errors="replace").strip()
    full = "No space left" in words or "File too large" in words
    return OSError(errno.ENOSPC if full else errno.EIO, f"ffmpeg could not write the clip: {words}", str(path))
