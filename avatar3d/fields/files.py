"""Tri-planes as safetensors files with their box and the name of their decoder."""

from __future__ import annotations

from pathlib import Path

import torch

from avatar3d.structures import TriPlane
from avatar3d.weights import WeightsError, load_tensors, save_tensors

TYPE = "avatar3d.triplane"
SIZES = (2, 4096)
"""Least and most cells along an axis."""
MIN_CHANNELS = 3


class TriPlaneFileError(WeightsError):
    """A tri-plane that can not be used; the message names the file, the fault and the remedy."""


def save_triplane(path: Path, triplane: TriPlane) -> None:
    """Write whole or not at all. The planes keep their dtype."""
    if fault := _fault(triplane.planes, triplane.bounds):
        raise TriPlaneFileError(f"the tri-plane for {path} {fault}: nothing was written; sample or fit it again")
    metadata = {"type": TYPE, "version": "1", "decoder": triplane.decoder}
    save_tensors(path, {"planes": triplane.planes, "bounds": triplane.bounds}, metadata)


def load_triplane(path: Path, decoder: str | None = None) -> TriPlane:
    """Planes, box and decoder's name of a file, all in the planes' dtype.

    With `decoder` the file has to be made for that one. Raises `TriPlaneFileError` when the file is missing,
    truncated, foreign, made for another decoder, misshapen, or holds numbers that are not finite.
    """
    try:
        tensors, metadata = load_tensors(path, TYPE)
    except WeightsError as error:
        raise TriPlaneFileError(f"{error} (a tri-plane is made by avatar3d generate)") from error
    missing = {"planes", "bounds", "decoder"} - {*tensors, *metadata}
    if missing:
        raise TriPlaneFileError(f"{path} lacks its {', '.join(sorted(missing))}: generate the tri-plane again")
    planes, bounds = tensors["planes"], tensors["bounds"]
    if fault := _fault(planes, bounds):
        raise TriPlaneFileError(f"the tri-plane in {path} {fault}: generate it again")
    if decoder is not None and metadata["decoder"] != decoder:
        raise TriPlaneFileError(
            f"{path} was made for the decoder {metadata['decoder']} and would be noise to {decoder}: "
            "use the weights that it was made with, or generate it again"
        )
    return TriPlane(planes, bounds.to(planes), metadata["decoder"])


def _fault(planes: torch.Tensor, bounds: torch.Tensor) -> str | None:
    """What is wrong with planes (3, C, R, R) and bounds (2, 3), for a message."""
    shape = tuple(planes.shape)
    if not (planes.is_floating_point() and bounds.is_floating_point()):
        return f"holds {planes.dtype} and {bounds.dtype}, not floating point numbers"
    square = len(shape) == 4 and shape[0] == 3 and shape[2] == shape[3]
    if not (square and shape[1] >= MIN_CHANNELS and SIZES[0] <= shape[2] <= SIZES[1]):
        return f"has planes of shape {shape}, expected (3, channels, size, size)"
    if tuple(bounds.shape) != (2, 3) or not bool((bounds[0] < bounds[1]).all()):
        return f"has bounds {bounds.tolist()}, expected a low and a high corner"
    if not (bool(torch.isfinite(planes).all()) and bool(torch.isfinite(bounds).all())):
        return "holds numbers that are not finite"
    return None
