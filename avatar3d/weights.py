"""The one door to trained weights: safetensors files that ship in `assets/weights`, or files of your own.

Every file says in its metadata what it is (`type`) and in which layout (`version`); loading checks that, the
names, shapes and dtypes of the tensors, and that every number is finite.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from avatar3d.errors import InputError

ASSETS = Path(__file__).resolve().parent.parent / "assets"
"""Where the files that ship with the project are."""


class WeightsError(InputError, RuntimeError):
    """Weights that can not be used; the message names the file, the fault and the remedy."""


def weights_path(name: str) -> Path:
    """Path of a shipped weights file such as `text_to_spec.safetensors`.

    The folder is `assets/weights`, or the one that the environment variable AVATAR3D_WEIGHTS names.
    """
    return Path(os.environ.get("AVATAR3D_WEIGHTS") or ASSETS / "weights") / name


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write whole or not at all: into a temporary file in the same folder, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        save_file({k: v.detach().contiguous().cpu() for k, v in tensors.items()}, temporary, dict(metadata))
        temporary.chmod(0o644)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def load_tensors(path: Path, type_: str, version: str = "1") -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors and the metadata of a file of the given type.

    Raises `WeightsError` when the file is missing, not safetensors, truncated, of another type or version,
    or holds a number that is not finite.
    """
    if not path.is_file():
        raise WeightsError(f"no weights at {path}: restore the file from the repository, or train it again")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            found, expected = metadata.get("type"), type_
            if found != expected:
                raise WeightsError(f"{path} holds {found or 'foreign weights'}, expected {expected}")
            if metadata.get("version") != version:
                raise WeightsError(
                    f"{path} has layout version {metadata.get('version')}, this code reads version {version}: "
                    "update the code, or train the weights again"
                )
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"{path} is damaged or not a safetensors file ({error}): restore it") from error
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise WeightsError(f"{path}: tensor {name} holds numbers that are not finite: restore the file")
    return tensors, metadata


def load_state(module: torch.nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Copy tensors into a module of the same names and shapes, converting the storage dtype to the module's.

    Raises `WeightsError` that names the first missing, unknown or misshapen tensor.
    """
    own = module.state_dict()
    for name, target in own.items():
        if name not in tensors:
            raise WeightsError(f"{path} lacks the tensor {name}: it belongs to another model or version")
        if tensors[name].shape != target.shape:
            raise WeightsError(
                f"{path}: tensor {name} has shape {tuple(tensors[name].shape)}, expected {tuple(target.shape)}"
            )
        if tensors[name].is_floating_point() != target.is_floating_point():
            raise WeightsError(f"{path}: tensor {name} is {tensors[name].dtype}, expected {target.dtype}")
    for name in tensors:
        if name not in own:
            raise WeightsError(f"{path} has an unknown tensor {name}: it belongs to another model or version")
    module.load_state_dict({name: tensors[name].to(own[name]) for name in own})
