"""Methods in YAML, read strictly: an unknown key or a value of the wrong type is an error."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

from avatar3d.distill import stage
from avatar3d.distill.stage import Method
from avatar3d.errors import InputError

FOLDER = Path(__file__).parent.parent.parent / "configs" / "distill"
T = TypeVar("T")


class PresetError(InputError):
    """A preset that can not be read; the message names the key."""


def names() -> list[str]:
    """Of the presets that ship."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load(name: str | Path) -> Method:
    """A preset that ships by its name, or a YAML file. Raises `PresetError`."""
    import yaml

    path = Path(name) if str(name).endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    if not path.exists():
        near = difflib.get_close_matches(str(name), names(), 1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise PresetError(f"there is no method {str(name)!r}; {hint}there are: {', '.join(names())}")
    try:
        value = yaml.safe_load(path.read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise PresetError(f"{path} is not YAML: {error}") from error
    return from_plain(Method, value, path.name)


def from_plain(kind: type[T], value: Any, where: str) -> T:
    """A dataclass from dicts, lists and scalars; `where` names the place in messages."""
    if not isinstance(value, dict):
        raise PresetError(f"{where}: a mapping of keys is needed, not {value!r}")
    hints = typing.get_type_hints(kind, vars(stage))
    for key in value:
        if key not in hints:
            near = difflib.get_close_matches(str(key), hints, 1, 0.3)
            raise PresetError(f"{where}: unknown key {key!r}; did you mean {near[0] if near else sorted(hints)}?")
    try:
        return kind(**{key: _converted(hints[key], item, f"{where}.{key}") for key, item in value.items()})
    except TypeError as error:
        raise PresetError(f"{where}: {error}") from error


def _converted(kind: Any, value: Any, where: str) -> Any:
    origin, options = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return from_plain(kind, value, where)
    if origin is typing.Literal:
        if value not in options:
            raise PresetError(f"{where}: {value!r} is none of {', '.join(map(str, options))}")
        return value
    if origin in (types.UnionType, typing.Union):
        for option in options:
            try:
                return _converted(option, value, where)
            except PresetError:
                continue
        raise PresetError(f"{where}: {value!r} is no {kind}")
    if origin is tuple:
        return _row(options, value, where)
    if kind is type(None) and value is None:
        return None
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if kind in (int, str, bool) and type(value) is kind:
        return value
    raise PresetError(f"{where}: {value!r} is no {getattr(kind, '__name__', kind)}")


def _row(options: tuple[Any, ...], value: Any, where: str) -> tuple:
    if not isinstance(value, list):
        raise PresetError(f"{where}: a list is needed, not {value!r}")
    if len(options) == 2 and options[1] is Ellipsis:
        return tuple(_converted(options[0], item, f"{where}[{n}]") for n, item in enumerate(value))
    if len(value) != len(options):
        raise PresetError(f"{where}: {len(options)} numbers are needed, not {len(value)}")
    return tuple(_converted(o, item, where) for o, item in zip(options, value, strict=True))
