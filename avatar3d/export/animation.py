"""Clips as glTF animations: rotations and translations of bones, weights of face shapes.

Keys are interpolated linearly (rotations along the sphere) by every importer. Channels exist only for what moves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from avatar3d.errors import InputError
from avatar3d.export.binary import BinaryChunk
from avatar3d.export.rig import Rig, bone_tracks
from avatar3d.structures import Clip, Skeleton


class ClipError(InputError, ValueError):
    """A clip that does not fit the avatar, with the fault in its message."""


def animation_entry(
    clip: Clip,
    rig: Rig,
    skeleton: Skeleton,
    shapes: Mapping[int, Sequence[str]],
    resting: Mapping[str, float],
    chunk: BinaryChunk,
) -> dict:
    """The JSON of one animation; its keys go into `chunk`. Bone b is node b.

    `shapes` has the names of the morph targets of each mesh node, `resting` the weights of shapes that the clip
    says nothing of. Raises `ClipError` for a clip that moves nothing of the avatar, or is not finite.
    """
    _check(clip)
    times: dict[bytes, int] = {}
    samplers: list[dict] = []
    channels: list[dict] = []

    def add(node: int, path: str, values: np.ndarray) -> None:
        keys, kept = _without_still_keys(clip.times.detach().cpu().numpy().astype(np.float32), values)
        stored = keys.tobytes()
        if stored not in times:
            times[stored] = chunk.add_array(keys, bounds=True)
        if path == "weights":
            kept = kept.reshape(-1)
        samplers.append({"input": times[stored], "output": chunk.add_array(kept), "interpolation": "LINEAR"})
        channels.append({"sampler": len(samplers) - 1, "target": {"node": node, "path": path}})

    for track in bone_tracks(rig, skeleton, clip):
        if track.rotations is not None:
            add(track.bone, "rotation", track.rotations[:, [1, 2, 3, 0]].numpy().astype(np.float32))
        if track.translations is not None:
            add(track.bone, "translation", track.translations.numpy().astype(np.float32))
    count = len(clip.times)
    moved = {name: weights.detach().cpu().numpy() for name, weights in clip.expressions.items()}
    for node, names in shapes.items():
        if moved.keys() & set(names):
            columns = [moved.get(name, np.full(count, resting.get(name, 0.0))) for name in names]
            add(node, "weights", np.stack(columns, axis=1).astype(np.float32))
    if not channels:
        raise ClipError(f"the clip {clip.name!r} moves no joint and no face shape of this avatar")
    return {"name": clip.name, "samplers": samplers, "channels": channels}


def _check(clip: Clip) -> None:
    times = clip.times.detach().cpu()
    tracks = {**clip.rotations, **clip.translations, **clip.expressions}
    if len(times) == 0 or not bool((times[1:] > times[:-1]).all()) or float(times[0]) < 0:
        raise ClipError(f"the clip {clip.name!r} needs key times that start at 0 or later and ascend")
    for name, values in tracks.items():
        if len(values) != len(times):
            raise ClipError(f"the clip {clip.name!r} has {len(times)} times but {len(values)} keys for {name!r}")
        if not bool(values.isfinite().all()):
            raise ClipError(f"the clip {clip.name!r} has keys for {name!r} that are not finite numbers")


def _without_still_keys(times: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A track that holds one value throughout needs its first and last key only."""
    if len(times) > 2 and np.array_equal(values, np.broadcast_to(values[:1], values.shape)):
        return times[[0, -1]], values[[0, -1]]
    return times, values
