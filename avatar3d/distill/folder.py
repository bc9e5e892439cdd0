"""The folder of a distillation: it goes on after a kill, and replaces an older one only when it is whole."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from avatar3d.runs import OutputError, replace_folder, require_parent, sweep, unfinished_folder, write_json

STATE, RECORD = "state", "run.json"
"""The checkpoints, which go when all is well, and the record, which comes last."""


def begin(folder: Path, overwrite: bool, resume: bool) -> Path:
    """Where to make the run: `folder`, or beside it when there is a whole one that it will replace.

    Raises `OutputError` when the folder is taken or can not be made.
    """
    require_parent(folder)
    sweep(folder)
    hidden = unfinished_folder(folder)
    places = [place for place in (hidden, folder) if (place / STATE).is_dir()]
    if resume and places:
        return places[0]
    whole = (folder / RECORD).exists()
    if folder.exists() or places:
        if resume and whole:
            raise OutputError(f"{folder} is finished; add --overwrite instead of --resume to make it again")
        if not overwrite:
            remedy = "add --resume to go on, or --overwrite to begin again" if places else "add --overwrite"
            raise OutputError(f"{(places or [folder])[-1]} exists; {remedy}, or choose another --seed or --out")
    if folder.exists():
        if not folder.is_dir():
            raise OutputError(f"{folder} is a file and will not be replaced by a folder; move it away")
        if not (whole or folder in places):
            raise OutputError(f"{folder} is not of an earlier run and will not be replaced; move it away")
    shutil.rmtree(hidden, ignore_errors=True)
    if not whole:
        shutil.rmtree(folder, ignore_errors=True)
    place = hidden if whole else folder
    (place / STATE).mkdir(parents=True)
    return place


def finish(place: Path, folder: Path, record: dict, sound: bool) -> None:
    """Write the record, put the run into its folder, and let go of the checkpoints when it is sound."""
    write_json(place / RECORD, record)
    if place != folder:
        replace_folder(place, folder, overwrite=True)
    if sound:
        shutil.rmtree(folder / STATE)


def finished_record(folder: Path) -> dict | None:
    """The record of a run that is finished, and not being made again."""
    if (folder / STATE).exists() or unfinished_folder(folder).exists() or not (folder / RECORD).is_file():
        return None
    return json.loads((folder / RECORD).read_text("utf-8"))
