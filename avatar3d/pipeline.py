"""The product on one page: prompt -> spec -> avatar -> GLB and pictures, in a folder that is whole or absent."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from avatar3d import __version__
from avatar3d.body.template import TemplateError
from avatar3d.conditioning.prompt import PromptError, check_prompt, sample_from, understand
from avatar3d.engine.build import build_avatar
from avatar3d.export.glb import write_glb
from avatar3d.pictures import pose_for_pictures, write_preview, write_turntable
from avatar3d.render.load import MeshFileError, mesh_from_file
from avatar3d.render.scene import compile_scene
from avatar3d.runs import (
    OutputError,
    passport,
    peak_memory_mb,
    require_free,
    require_free_file,
    require_parent,
    run_folder,
    whole_folder,
    write_json,
    write_text,
)
from avatar3d.spec import AvatarSpec, SpecError, spec_from_json, spec_to_json
from avatar3d.weights import WeightsError

INPUT_ERRORS = (OutputError, PromptError, SpecError, WeightsError, TemplateError, MeshFileError)
"""Errors whose message tells the user what to mend."""
LICENCE = "CC0-1.0"
"""Of what the command makes: its sources are CC0 or painted by this code."""
PREVIEW_HEIGHT = 768

Report = Callable[[str, int, int], None]
"""Called with a stage's name, the steps done and the steps in all."""


@dataclass(frozen=True)
class Pictures:
    """The turntable to make: number of frames (0 for none), width and height in pixels, what it shows."""

    frames: int = 72
    resolution: int = 512
    view: str = "bust"


def generate(
    prompt: str, seed: int, count: int, out: Path, pictures: Pictures, overwrite: bool, report: Report
) -> list[dict]:
    """Make `count` avatars with the seeds `seed`, `seed` + 1, ...; returns the record of each run.

    Each goes to `out/<slug of the prompt>-<seed>`. Raises one of `INPUT_ERRORS`, or OSError on a full disk.
    """
    check_prompt(prompt)
    folders = [run_folder(out, prompt, seed + n) for n in range(count)]
    for folder in folders:
        require_parent(folder)
        require_free(folder, overwrite)
    runs = []
    for n, folder in enumerate(folders):
        label = f"{n + 1}/{count} " if count > 1 else ""
        with whole_folder(folder, overwrite) as partial:
            clock = Clock(report, label)
            with clock.stage("reading the prompt"):
                understanding = understand(prompt)
                (spec,) = sample_from(understanding.statements, seed + n)
            record = {
                "prompt": prompt,
                "understood": list(understanding.used),
                "not_used": list(understanding.unused),
                "corrected": understanding.corrected,
                "statements": list(understanding.statements),
            }
            runs.append(_make(spec, record, folder, partial, pictures, clock))
    return runs


def build(spec_file: Path, out: Path, pictures: Pictures, overwrite: bool, report: Report) -> dict:
    """Make the avatar of a spec file in `out/<name of the file>-<seed>`; returns the run's record."""
    spec = read_spec(spec_file)
    folder = run_folder(out, spec_file.stem, spec.seed)
    with whole_folder(folder, overwrite) as partial:
        return _make(spec, {"spec_file": str(spec_file)}, folder, partial, pictures, Clock(report))


def render_file(file: Path, clip: Path, frames: int, resolution: int, overwrite: bool, report: Report) -> dict:
    """Turntable of a mesh file; returns what was made."""
    if clip.suffix.lower() != ".mp4":
        raise OutputError(f"{clip} does not end in .mp4, the format of clips; choose another --out")
    require_free_file(clip, overwrite)
    require_parent(clip)
    clock = Clock(report)
    with clock.stage("reading the file"):
        scene = compile_scene(mesh_from_file(file))
    with clock.stage("turntable") as step:
        write_turntable(scene, None, clip, frames, resolution, "full", step)
    return {"file": str(clip), "frames": frames, "seconds": sum(clock.seconds.values())}


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


def _make(spec: AvatarSpec, record: dict, folder: Path, partial: Path, pictures: Pictures, clock: Clock) -> dict:
    """Everything after the spec is known; writes into `partial` and returns run.json's content."""
    with clock.stage("building the avatar"):
        avatar = build_avatar(spec)
    with clock.stage("writing the GLB"):
        write_text(partial / "spec.json", spec_to_json(spec) + "\n")
        extras = {
            "generated": True,
            "generator": f"avatar3d {__version__}",
            "prompt": record.get("prompt"),
            "seed": spec.seed,
            "spec": asdict(spec),
            "licence": LICENCE,
        }
        write_glb(avatar, partial / "avatar.glb", extras)
    with clock.stage("preview"):
        scene = pose_for_pictures(avatar)
        write_preview(avatar, scene, partial / "preview.png", PREVIEW_HEIGHT)
    if pictures.frames:
        with clock.stage("turntable") as step:
            write_turntable(
                scene, avatar, partial / "turntable.mp4",
                pictures.frames, pictures.resolution, pictures.view, step,
            )  # fmt: skip
    record = {
        **record,
        "generated": True,
        "licence": LICENCE,
        "seed": spec.seed,
        "spec": "spec.json",
        "folder": str(folder),
        "pictures": asdict(pictures),
        "files": {file.name: file.stat().st_size for file in sorted(partial.iterdir())},
        "seconds": {stage: round(seconds, 3) for stage, seconds in clock.seconds.items()},
        "peak_memory_mb": peak_memory_mb(),
        "device": str(avatar.skeleton.positions.device),
        **passport(),
    }
    write_json(partial / "run.json", record)
    return record


class Clock:
    """Wall time of each stage, told to `report` as it goes."""

    def __init__(self, report: Report, label: str = "") -> None:
        self.seconds: dict[str, float] = {}
        self._report = report
        self._label = label

    @contextmanager
    def stage(self, name: str) -> Iterator[Callable[[int, int], None]]:
        """Time the block; yields a function to call with the steps done and the steps in all."""
        begun = time.perf_counter()
        total = 1

        def step(done: int, steps: int) -> None:
            nonlocal total
            total = steps
            self._report(self._label + name, done, steps)

        step(0, 1)
        yield step
        step(total, total)
        self.seconds[name] = time.perf_counter() - begun
