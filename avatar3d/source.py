"""Where commands take their avatar from: a run folder, a spec, or a rigged file of any program."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from avatar3d.engine.build import build_avatar
from avatar3d.export.gltf_file import AvatarFileError
from avatar3d.export.read import read_file
from avatar3d.spec import AvatarSpec, SpecError, spec_from_json
from avatar3d.structures import Avatar

FILES = (".glb", ".gltf", ".vrm")
"""Rigged files that can be read."""
NERFSTUDIO = ("config.yml", "nerfstudio_models")
"""What every run of nerfstudio has."""


@dataclass(frozen=True)
class Source:
    """An avatar with what is known about its making."""

    avatar: Avatar
    path: Path
    prompt: str | None = None
    remarks: tuple[str, ...] = ()
    origin: dict = field(default_factory=dict)
    """What the file that it was read from says of its licence, see `export.licences.licence_record`."""

    @property
    def spec(self) -> AvatarSpec:
        """Raises `AvatarFileError` for an avatar of another program."""
        if self.avatar.spec is None:
            raise AvatarFileError(
                f"{self.path} was not made by avatar3d (or lost its spec): its parts can not be exchanged. "
                "Give a run folder, a spec.json or a file that avatar3d wrote"
            )
        return self.avatar.spec


def open_avatar(path: Path) -> Source:
    """The avatar of a run folder (its spec.json), of a spec file, or of a rigged GLB, glTF or VRM file.

    Raises `SpecError` or `AvatarFileError` with the fault and the remedy.
    """
    if path.is_dir():
        inner = path / "spec.json"
        if inner.is_file():
            return Source(build_avatar(read_spec(inner)), path, _prompt_of(path / "run.json"))
        files = sorted(p for p in path.iterdir() if p.suffix.lower() in FILES)
        if len(files) == 1:
            return open_avatar(files[0])
        found = f"{len(files)} avatars ({', '.join(p.name for p in files[:4])}): name one of them" if files else ""
        raise AvatarFileError(f"{path} holds {found or 'no spec.json and no GLB, glTF or VRM file'}")
    if path.suffix.lower() == ".json":
        return Source(build_avatar(read_spec(path)), path)
    if path.suffix.lower() not in FILES:
        raise AvatarFileError(f"{path}: give a run folder, a spec.json, or a file that ends in {', '.join(FILES)}")
    read = read_file(path)
    return Source(read.avatar, path, read.extras.get("prompt"), read.remarks, read.origin)


def told_prompt(path: Path) -> str | None:
    """The prompt that an avatar was made from, as far as what `open_avatar` opens tells it; nothing is built."""
    if path.is_dir() and (path / "spec.json").is_file():
        return _prompt_of(path / "run.json")
    return None if path.suffix.lower() == ".json" else open_avatar(path).prompt


def nerfstudio_run(path: Path) -> Path | None:
    """The folder of a run of nerfstudio that is named by itself or by its config.yml; None for anything else."""
    config, checkpoints = NERFSTUDIO
    folder = path.parent if path.name == config else path
    return folder if (folder / config).is_file() and (folder / checkpoints).is_dir() else None


def read_spec(path: Path) -> AvatarSpec:
    """A spec of a JSON file. Raises `SpecError` that names the file."""
    try:
        return spec_from_json(path.read_text("utf-8-sig"))  # some editors begin with a mark
    except OSError as error:
        raise SpecError(f"{path} can not be read ({error.strerror}); check the path") from error
    except UnicodeDecodeError as error:
        raise SpecError(f"{path} is not a text file; a spec is JSON in UTF-8") from error
    except SpecError as error:
        raise SpecError(f"{path}: {error}") from error


def _prompt_of(record: Path) -> str | None:
    """The prompt of a run.json, if it is there and whole."""
    try:
        prompt = json.loads(record.read_text("utf-8")).get("prompt")
    except (OSError, ValueError, AttributeError):
        return None
    return prompt if isinstance(prompt, str) else None
