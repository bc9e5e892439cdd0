"""BVH motion files: read with every fault named, written for other programs.

The format is Biovision's: a HIERARCHY of joints with offsets and channels, then MOTION, one row of channel values
per frame. Angles are degrees and compose in the order in which a joint lists its channels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.errors import InputError
from avatar3d.motion.kinematics import children_of, clip_frames
from avatar3d.structures import Clip, Skeleton

LARGEST = 128 * 2**20
"""Bytes."""
MOST_JOINTS = 512
MOST_FRAMES = 72000
CHANNELS = ("Xposition", "Yposition", "Zposition", "Xrotation", "Yrotation", "Zrotation")


class MotionFileError(InputError, ValueError):
    """A motion file that can not be used, with the line, the fault and the remedy."""


@dataclass(frozen=True)
class MotionFile:
    """What a BVH file says; units are the file's own."""

    names: tuple[str, ...]
    parents: tuple[int, ...]
    offsets: Float[Tensor, "J 3"]
    """Of each joint from its parent at rest."""
    rotations: Float[Tensor, "T J 3 3"]
    """Local, in the parent's axes."""
    moves: dict[int, Float[Tensor, "T 3"]]
    """Places in the parent's axes of joints that move beside turning: the first one, usually."""
    ends: dict[int, Float[Tensor, " 3"]]
    """Tips of joints without children, from the joint."""
    frame_time: float
    """Seconds."""

    def rest(self) -> Float[Tensor, "J 3"]:
        """Rest positions with the first joint at its offset."""
        places: list[Tensor] = []
        for offset, parent in zip(self.offsets, self.parents, strict=True):
            places.append(offset if parent < 0 else places[parent] + offset)
        return torch.stack(places)

    def world(self) -> tuple[Float[Tensor, "T J 3 3"], Float[Tensor, "T J 3"]]:
        """World rotations and positions in every frame."""
        turns: list[Tensor] = []
        places: list[Tensor] = []
        for n, parent in enumerate(self.parents):
            place = self.moves.get(n, self.offsets[n].expand(len(self.rotations), 3))
            if parent < 0:
                turns.append(self.rotations[:, n])
                places.append(place)
            else:
                turns.append(turns[parent] @ self.rotations[:, n])
                places.append(places[parent] + (turns[parent] @ place[..., None])[..., 0])
        return torch.stack(turns, dim=1), torch.stack(places, dim=1)


def read_bvh(path: Path | str) -> MotionFile:
    """Read a BVH file. Raises `MotionFileError` with the line of the fault."""
    path = Path(path)
    try:
        if path.stat().st_size > LARGEST:
            raise MotionFileError(f"{path}: is larger than {LARGEST >> 20} MB; cut the motion into pieces")
        text = path.read_text("utf-8-sig")
    except OSError as error:
        raise MotionFileError(f"{path}: can not be read ({error.strerror}); check the path") from error
    except UnicodeDecodeError as error:
        raise MotionFileError(f"{path}: is not a text file; BVH is text that begins with HIERARCHY") from error
    try:
        return _parse(text)
    except MotionFileError as error:
        raise MotionFileError(f"{path}: {error}") from None


class _Lines:
    """The file's lines with something on them, one after the other."""

    def __init__(self, text: str) -> None:
        numbered = enumerate(text.replace("\0", " ").splitlines(), 1)
        self.lines = [(n, line.split()) for n, line in numbered if line.strip()]
        self.at = 0
        self.number = 0

    def take(self, expected: str) -> list[str]:
        """The next line's words."""
        if self.at == len(self.lines):
            raise MotionFileError(f"the file ends where {expected} should follow; it is cut off, export it again")
        self.number, words = self.lines[self.at]
        self.at += 1
        return words

    def fault(self, what: str) -> MotionFileError:
        return MotionFileError(f"line {self.number}: {what}")

    def push(self, words: list[str]) -> None:
        """Put words back as the next line."""
        if words:
            self.at -= 1
            self.lines[self.at] = (self.number, words)


@dataclass
class _Joint:
    name: str
    parent: int
    offset: list[float] | None = None
    channels: tuple[str, ...] = ()
    end: list[float] | None = None


def _parse(text: str) -> MotionFile:
    lines = _Lines(text)
    if lines.take("HIERARCHY")[0].upper() != "HIERARCHY":
        raise lines.fault("a BVH file begins with HIERARCHY; is this another kind of file?")
    joints = _hierarchy(lines)
    frames, frame_time = _header(lines)
    values = _rows(lines, frames, sum(len(joint.channels) for joint in joints))
    rotations, moves = _poses(joints, values)
    offsets = torch.tensor([joint.offset or [0.0, 0.0, 0.0] for joint in joints], dtype=torch.float64)
    ends = {n: torch.tensor(j.end, dtype=torch.float64) for n, j in enumerate(joints) if j.end is not None}
    names, parents = tuple(j.name for j in joints), tuple(j.parent for j in joints)
    return MotionFile(names, parents, offsets, rotations, moves, ends, frame_time)


def _hierarchy(lines: _Lines) -> list[_Joint]:
    joints: list[_Joint] = []
    open_: list[int] = []  # -1 is an end site
    waiting: int | None = None
    while True:
        words = lines.take("the rest of the hierarchy" if open_ or not joints else "MOTION")
        key = words[0].upper()
        if key == "MOTION":
            if open_ or not joints:
                raise lines.fault("MOTION comes before all braces are closed" if joints else "there is no ROOT")
            return joints
        if words[0].startswith("{"):
            if waiting is None:
                raise lines.fault("a brace opens without a joint")
            open_.append(waiting)
            waiting = None
            lines.push([w for w in [words[0][1:], *words[1:]] if w])
        elif words[0].startswith("}"):
            if not open_:
                raise lines.fault("a brace closes that was not opened")
            open_.pop()
            lines.push([w for w in [words[0][1:], *words[1:]] if w])
        elif waiting is not None:
            raise lines.fault("a brace should open here")
        elif key in ("ROOT", "JOINT", "END"):
            waiting = _begin(lines, words, joints, open_)
        elif key == "OFFSET":
            numbers = _numbers(lines, words[1:4], 3)
            if not open_:
                raise lines.fault("OFFSET outside of a joint")
            if open_[-1] < 0:
                joints[open_[-2]].end = numbers
            else:
                joints[open_[-1]].offset = numbers
            lines.push(words[4:])
        elif key == "CHANNELS":
            lines.push(_channels(lines, words, joints, open_))
        else:
            raise lines.fault(f"{words[0]!r} is not a word of the hierarchy (or its line is broken)")


def _begin(lines: _Lines, words: list[str], joints: list[_Joint], open_: list[int]) -> int:
    """Note a ROOT, JOINT or End Site; the words after its name, if any, stay for later."""
    key = words[0].upper()
    rest = words[1:]
    cut = next((n for n, word in enumerate(rest) if "{" in word), len(rest))
    name, after = " ".join(rest[:cut]), rest[cut:]
    if after and not after[0].startswith("{"):
        head, _, tail = after[0].partition("{")
        name, after = f"{name} {head}".strip(), [f"{{{tail}", *after[1:]]
    lines.push(after)
    if key == "END":
        if not open_ or open_[-1] < 0:
            raise lines.fault("End Site outside of a joint")
        return -1
    if key == "ROOT" and joints:
        raise lines.fault("a second ROOT; only files with one skeleton can be used, delete the other")
    if key == "JOINT" and (not open_ or open_[-1] < 0):
        raise lines.fault("JOINT outside of a ROOT")
    if not name:
        raise lines.fault(f"{key} without a name")
    if name in {joint.name for joint in joints}:
        raise lines.fault(f"a second joint named {name!r}")
    if len(joints) == MOST_JOINTS:
        raise lines.fault(f"more than {MOST_JOINTS} joints")
    joints.append(_Joint(name, open_[-1] if key == "JOINT" else -1))
    return len(joints) - 1


def _channels(lines: _Lines, words: list[str], joints: list[_Joint], open_: list[int]) -> list[str]:
    """Note a joint's channels; returns the words after them."""
    if not open_ or open_[-1] < 0:
        raise lines.fault("CHANNELS outside of a joint")
    if len(words) < 2 or not words[1].isdigit() or int(words[1]) > 6:
        raise lines.fault("CHANNELS needs a number from 0 to 6")
    count = int(words[1])
    known = {name.lower(): name for name in CHANNELS}
    names = [known.get(word.lower(), "") for word in words[2 : 2 + count]]
    if len(names) < count or "" in names or len(set(names)) < count:
        raise lines.fault(f"{count} different channels should follow, out of {', '.join(CHANNELS)}")
    joints[open_[-1]].channels = tuple(names)
    return words[2 + count :]


def _header(lines: _Lines) -> tuple[int, float]:
    words = " ".join(lines.take("Frames:")).replace(":", " ").split()
    if words[0].lower() != "frames" or len(words) != 2 or not words[1].isdigit():
        raise lines.fault("'Frames: <number>' should stand here")
    frames = int(words[1])
    if not 1 <= frames <= MOST_FRAMES:
        raise lines.fault(f"{frames} frames; from 1 to {MOST_FRAMES} can be used")
    words = " ".join(lines.take("Frame Time:")).replace(":", " ").split()
    if [w.lower() for w in words[:2]] != ["frame", "time"] or len(words) != 3:
        raise lines.fault("'Frame Time: <seconds>' should stand here")
    (frame_time,) = _numbers(lines, words[2:], 1)
    if not 1e-4 <= frame_time <= 10.0:
        raise lines.fault(f"a frame of {frame_time:g} seconds; it should be something like 0.0333")
    return frames, frame_time


def _rows(lines: _Lines, frames: int, channels: int) -> Float[np.ndarray, "T C"]:
    rest = lines.lines[lines.at :]
    try:
        values = np.array([word for _, words in rest for word in words], dtype=np.float64)
        finite = bool(np.isfinite(values).all())
    except ValueError:
        finite = False
    if not finite:
        for lines.number, words in rest:
            _numbers(lines, words, len(words))
    if len(values) < frames * channels:
        raise MotionFileError(
            f"holds {len(values) // max(channels, 1)} whole frames of {channels} numbers, but says {frames}; "
            "it is cut off, or its hierarchy has other channels"
        )
    if len(values) > frames * channels:
        lines.number = rest[-1][0] if rest else lines.number
        raise lines.fault(f"more numbers than {frames} frames of {channels} channels have")
    return values.reshape(frames, channels)


def _numbers(lines: _Lines, words: list[str], count: int) -> list[float]:
    numbers = []
    for word in words:
        try:
            number = float(word)
        except ValueError:
            raise lines.fault(f"{word!r} is not a number") from None
        if not math.isfinite(number) or abs(number) > 1e9:
            raise lines.fault(f"{word!r} is not a number that a body can have")
        numbers.append(number)
    if len(numbers) != count:
        raise lines.fault(f"{count} numbers should stand here, not {len(numbers)}")
    return numbers


def _poses(
    joints: list[_Joint], values: Float[np.ndarray, "T C"]
) -> tuple[Float[Tensor, "T J 3 3"], dict[int, Float[Tensor, "T 3"]]]:
    """Local rotations of every joint, and the places of those with position channels.

    Of joints below the first, channels that are zero throughout mean that they stay at their offset.
    """
    frames, column = len(values), 0
    rotations = torch.eye(3, dtype=torch.float64).repeat(frames, len(joints), 1, 1)
    moves: dict[int, Tensor] = {}
    for n, joint in enumerate(joints):
        place = torch.tensor(joint.offset or [0.0, 0.0, 0.0], dtype=torch.float64).repeat(frames, 1)
        moved = False
        for channel in joint.channels:
            track = torch.from_numpy(values[:, column])
            axis = "XYZ".index(channel[0])
            if channel.endswith("rotation"):
                rotations[:, n] = rotations[:, n] @ about(axis, torch.deg2rad(track))
            else:
                place[:, axis] = track
                moved = moved or bool((track != 0).any())
            column += 1
        if moved:
            moves[n] = place
    return rotations, moves


def about(axis: int, angle: Float[Tensor, " T"]) -> Float[Tensor, "T 3 3"]:
    """Rotation matrices about the x (0), y (1) or z (2) axis."""
    c, s = angle.cos(), angle.sin()
    matrix = torch.zeros(len(angle), 3, 3, dtype=angle.dtype)
    a, b = (axis + 1) % 3, (axis + 2) % 3
    matrix[:, axis, axis] = 1.0
    matrix[:, a, a], matrix[:, a, b], matrix[:, b, a], matrix[:, b, b] = c, -s, s, c
    return matrix


def euler_angles(rotations: Float[Tensor, "*B 3 3"], order: str) -> Float[Tensor, "*B 3"]:
    """Radians about three different axes that compose to the rotations, in the order given, as `ZXY`."""
    i, j, k = ("XYZ".index(letter) for letter in order)
    sign = 1.0 if (j - i) % 3 == 1 else -1.0
    middle = torch.asin((sign * rotations[..., i, k]).clamp(-1, 1))
    first = torch.atan2(-sign * rotations[..., j, k], rotations[..., k, k])
    last = torch.atan2(-sign * rotations[..., i, j], rotations[..., i, i])
    return torch.stack([first, middle, last], dim=-1)


def write_bvh(skeleton: Skeleton, clip: Clip, path: Path | str, scale: float = 100.0, order: str = "ZXY") -> None:
    """Write a clip for programs that read BVH: centimetres unless `scale` (units per metre) says otherwise.

    The hips (the first joint when there are none) are the file's root and carry the place of the whole.
    """
    world, places = clip_frames(skeleton, clip)
    rest = skeleton.positions.double() * scale
    children = children_of(skeleton)
    first = skeleton.names.index("hips") if "hips" in skeleton.names else 0
    turning = "".join(f" {letter}rotation" for letter in order)
    text: list[str] = ["HIERARCHY"]
    columns: list[Tensor] = [places[:, first] * scale]

    def joint(n: int, depth: int) -> None:
        pad, parent = "\t" * depth, skeleton.parents[n]
        turn = world[:, n] if n == first else world[:, parent].transpose(-1, -2) @ world[:, n]
        columns.append(torch.rad2deg(euler_angles(turn, order)))
        offset = rest[n] if n == first else rest[n] - rest[parent]
        channels = f"6 Xposition Yposition Zposition{turning}" if n == first else f"3{turning}"
        text.append(f"{pad}{'ROOT' if n == first else 'JOINT'} {skeleton.names[n]}")
        text.append(f"{pad}{{\n{pad}\tOFFSET {_row(offset)}\n{pad}\tCHANNELS {channels}")
        for child in children[n]:
            joint(child, depth + 1)
        if not children[n]:
            text.append(f"{pad}\tEnd Site\n{pad}\t{{\n{pad}\t\tOFFSET 0 0 0\n{pad}\t}}")
        text.append(f"{pad}}}")

    joint(first, 0)
    step = float(clip.times[1] - clip.times[0]) if len(clip.times) > 1 else 1 / 30
    text += ["MOTION", f"Frames: {len(clip.times)}", f"Frame Time: {step:.8f}"]
    text += [_row(row) for row in torch.cat(columns, dim=1)]
    Path(path).write_text("\n".join(text) + "\n", "utf-8")


def _row(values: Tensor) -> str:
    return " ".join(f"{value:.6f}" for value in values.tolist())
