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
from jaxtyping import Float, UInt8

from avatar3d.errors import InputError

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


class SoundFileError(InputError, ValueError):
    """A file without sound that can be used, with the reason and the remedy."""


def read_sound(path: Path | str, rate: int, longest: float) -> Float[np.ndarray, " N"]:
    """The sound of an audio or video file: mono, `rate` samples per second, in [-1, 1].

    Raises `SoundFileError` when the file is missing, holds no sound, is broken, empty or longer than `longest`
    seconds.
    """
    path = Path(path)
    if not path.is_file():
        raise SoundFileError(f"{path}: no such file")
    if path.stat().st_size == 0:
        raise SoundFileError(f"{path}: the file is empty; record it again")
    command = [
        imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-loglevel", "error", "-i", f"file:{path}",
        "-vn", "-t", f"{longest + 1:g}", "-ac", "1", "-ar", str(rate), "-f", "f32le", "-",
    ]  # fmt: skip
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, start_new_session=True)
    if done.returncode != 0:
        words = done.stderr.decode(errors="replace").strip().splitlines()
        raise SoundFileError(
            f"{path}: can not be read as sound ({words[-1] if words else 'no reason given'}); "
            "use WAV, MP3, OGG, FLAC, M4A or a video with a sound track"
        )
    sound = np.frombuffer(done.stdout[: len(done.stdout) // 4 * 4], dtype="<f4").astype(np.float64)
    if len(sound) < rate // 20:
        raise SoundFileError(f"{path}: holds less than 0.05 seconds of sound; is it whole?")
    if len(sound) > longest * rate:
        raise SoundFileError(f"{path}: is longer than {longest:g} seconds; cut it")
    if not np.isfinite(sound).all():
        raise SoundFileError(f"{path}: has samples that are not numbers; export it again")
    return sound.clip(-1.0, 1.0)
