"""The data set of busts in memory, as `scripts/make_dataset.py` writes it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from avatar3d.errors import InputError


class DataError(InputError):
    """A data set that can not be used; the message names the file and the remedy."""


@dataclass(frozen=True)
class Busts:
    """N avatars; the arrays are described in `cascade.example.make_example`, one row per avatar."""

    arrays: dict[str, np.ndarray]
    people: tuple[dict, ...]
    """Spec, caption and what it says."""

    def __len__(self) -> int:
        return len(self.people)

    def __getitem__(self, name: str) -> np.ndarray:
        return self.arrays[name]


def load_busts(folder: Path, names: tuple[str, ...], limit: int | None = None) -> Busts:
    """The named arrays of all shards in a folder, in the order of the avatars' numbers, at most `limit` avatars.

    Raises `DataError` when there is no shard, or one is broken.
    """
    paths = sorted(folder.glob("bust-*.safetensors"))
    if not paths:
        raise DataError(f"no busts in {folder}: make them with scripts/make_dataset.py --out {folder}")
    columns: dict[str, list[np.ndarray]] = {name: [] for name in names}
    people: list[dict] = []
    for path in paths:
        try:
            with safe_open(path, framework="numpy") as file:
                people += json.loads(file.metadata()["people"])
                for name in names:
                    columns[name].append(file.get_tensor(name))
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"{path} is broken ({error}): delete it and run scripts/make_dataset.py again"
            ) from error
        if limit is not None and len(people) >= limit:
            break
    arrays = {name: np.concatenate(column)[:limit] for name, column in columns.items()}
    return Busts(arrays, tuple(people[:limit]))
