"""The product on one page: prompt -> spec -> avatar -> GLB and pictures, in a folder that is whole or absent."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from avatar3d.conditioning.prompt import check_prompt, sample_from, understand
from avatar3d.delivery import Wanted, deliver
from avatar3d.engine.build import build_avatar
from avatar3d.engine.dress import dressed
from avatar3d.export.licences import licence_record
from avatar3d.film import write_motion
from avatar3d.motion.clips import Wish
from avatar3d.motion.clips import animate as make_clip
from avatar3d.pictures import pose_for_pictures, thumbnail, write_preview, write_turntable
from avatar3d.render.load import mesh_from_file
from avatar3d.render.scene import compile_scene
from avatar3d.runs import (
    OutputError,
    passport,
    peak_memory_mb,
    require_free,
    require_free_file,
    require_parent,
    run_folder,
    slug,
    whole_folder,
    write_json,
    write_text,
)
from avatar3d.source import Source, nerfstudio_run, open_avatar, read_spec
from avatar3d.spec import AvatarSpec, spec_to_json
from avatar3d.structures import Avatar, Clip

PREVIEW_HEIGHT = 768
THUMBNAIL = 512
"""Pixels of the picture in a VRM file, along both sides."""

Representation = Literal["structured", "triplane", "both"]
"""The engine's avatar; that avatar in the look of the cascade's tri-plane, with it; or both as they are."""

Report = Callable[[str, int, int], None]
"""Called with a stage's name, the steps done and the steps in all."""


@dataclass(frozen=True)
class Pictures:
    """The turntable to make: number of frames (0 for none), width and height in pixels, what it shows."""

    frames: int = 72
    resolution: int = 512
    view: str = "bust"


@dataclass(frozen=True)
class Film:
    """The clip to make of a motion: frames per second, width and height in pixels, what it shows."""

    fps: int = 30
    resolution: int = 512
    view: str = "full"


def generate(
    prompt: str,
    seed: int,
    count: int,
    out: Path,
    pictures: Pictures,
    wanted: Wanted,
    representation: Representation,
    overwrite: bool,
    report: Report,
) -> list[dict]:
    """Make `count` avatars with the seeds `seed`, `seed` + 1, ...; returns the record of each run.

    Each goes to `out/<slug of the prompt>-<seed>`. Raises `InputError`, or OSError on a full disk.
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
            runs.append(_make(spec, record, folder, partial, pictures, wanted, clock, representation))
    return runs


def build(
    spec_file: Path, out: Path, pictures: Pictures, wanted: Wanted, representation: Representation,
    overwrite: bool, report: Report,
) -> dict:  # fmt: skip
    """Make the avatar of a spec file in `out/<name of the file>-<seed>`; returns the run's record."""
    spec = read_spec(spec_file)
    folder = run_folder(out, spec_file.stem, spec.seed)
    with whole_folder(folder, overwrite) as partial:
        record = {"spec_file": str(spec_file)}
        return _make(spec, record, folder, partial, pictures, wanted, Clock(report), representation)


def dress(
    path: Path, changes: dict[str, str], out: Path, pictures: Pictures, wanted: Wanted,
    overwrite: bool, report: Report,
) -> dict:  # fmt: skip
    """The avatar at `path` in other clothes, hair or glasses, in `out/<its name>-<what changed>`."""
    source = open_avatar(path)
    spec = dressed(source.spec, changes)
    folder = out / slug("-".join([_name_of(path), *changes.values()]))
    require_parent(folder)
    require_free(folder, overwrite)
    record = {"avatar": str(path), "prompt": source.prompt, "changes": changes}
    with whole_folder(folder, overwrite) as partial:
        return _make(spec, record, folder, partial, pictures, wanted, Clock(report))


def export(path: Path, out: Path | None, wanted: Wanted, overwrite: bool, report: Report) -> dict:
    """The avatar at `path` as files for an engine; returns the record with its platform report.

    A run of nerfstudio becomes a mesh with a texture.
    """
    if run := nerfstudio_run(path):
        return _export_mesh(run, out, wanted, overwrite, report)
    folder = out or _beside(path, wanted.profile, wanted.preset)
    require_parent(folder)
    require_free(folder, overwrite)
    clock = Clock(report)
    with clock.stage("reading the avatar"):
        source = open_avatar(path)
    with whole_folder(folder, overwrite) as partial:
        with clock.stage("writing the files") as step:
            delivered = _deliver(source.avatar, partial, wanted, source, step=step)
        record = {"avatar": str(path), "prompt": source.prompt, "remarks": list(source.remarks)}
        return _finish(record, source.avatar, folder, partial, wanted, delivered, clock)


def animate(
    path: Path, wish: Wish, seed: int, out: Path | None, film: Film | None, wanted: Wanted, overwrite: bool,
    report: Report,
) -> dict:  # fmt: skip
    """The avatar at `path` with a motion in its files, and a clip of it; returns the record."""
    name = slug(wish.bvh.stem) if wish.bvh else wish.clip or "talk"
    folder = out or _beside(path, name)
    require_parent(folder)
    require_free(folder, overwrite)
    clock = Clock(report)
    with clock.stage("reading the avatar"):
        source = open_avatar(path)
    with clock.stage("making the motion"):
        made = make_clip(source.avatar, wish, seed)
    brought = [f"{what} of {file.name}" for what, file in (("motion", wish.bvh), ("speech", wish.audio)) if file]
    with whole_folder(folder, overwrite) as partial:
        with clock.stage("writing the files") as step:
            delivered = _deliver(source.avatar, partial, wanted, source, [made.clip], brought, step)
        if film is not None:
            with clock.stage("filming") as step:
                write_motion(
                    source.avatar, made.clip, partial / f"{name}.mp4", film.fps, film.resolution, film.view, step
                )
        record = {
            "avatar": str(path),
            "prompt": source.prompt,
            "motion": {
                "clip": made.clip.name,
                "seconds": float(made.clip.times[-1]),
                "key_frames": len(made.clip.times),
                "mapped": made.mapped,
                "unmapped": list(made.unmapped),
            },
            "remarks": [*source.remarks, *made.remarks],
        }
        return _finish(record, source.avatar, folder, partial, wanted, delivered, clock)


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


def _export_mesh(run: Path, out: Path | None, wanted: Wanted, overwrite: bool, report: Report) -> dict:
    """A run of nerfstudio as a mesh; raises `NerfstudioError` for what only avatars have."""
    from avatar3d.nerfstudio_export import NerfstudioError, Settings, export_checkpoint

    if replace(wanted, formats=Wanted().formats) != Wanted():
        raise NerfstudioError(f"{run} is a scene of nerfstudio without a skeleton: only --format applies to it")
    return export_checkpoint(run, out or _beside(run, "mesh"), Settings(wanted.formats), overwrite, report)


def _name_of(path: Path) -> str:
    """What an avatar's file or folder is called."""
    path = path.resolve()
    return path.name if path.is_dir() else path.stem


def _beside(path: Path, *words: str | None) -> Path:
    """A folder beside an avatar's file or folder, named after it and what is done."""
    return path.resolve().parent / "-".join([_name_of(path), *filter(None, words)])


def _make(
    spec: AvatarSpec, record: dict, folder: Path, partial: Path, pictures: Pictures, wanted: Wanted, clock: Clock,
    representation: Representation = "structured",
) -> dict:  # fmt: skip
    """Everything after the spec is known; writes into `partial` and returns run.json's content."""
    with clock.stage("building the avatar"):
        avatar = build_avatar(spec)
    record = record | {"representation": representation}
    if representation != "structured":
        avatar, record["triplane"] = _sample(avatar, partial, pictures, representation, clock)
    with clock.stage("writing the files") as step:
        write_text(partial / "spec.json", spec_to_json(spec) + "\n")
        delivered = _deliver(avatar, partial, wanted, Source(avatar, folder, record.get("prompt")), step=step)
    with clock.stage("preview"):
        scene = pose_for_pictures(avatar)
        write_preview(avatar, scene, partial / "preview.png", PREVIEW_HEIGHT)
    if pictures.frames:
        with clock.stage("turntable") as step:
            write_turntable(
                scene, avatar, partial / "turntable.mp4",
                pictures.frames, pictures.resolution, pictures.view, step,
            )  # fmt: skip
    record = record | {"seed": spec.seed, "spec": "spec.json", "pictures": asdict(pictures)}
    return _finish(record, avatar, folder, partial, wanted, delivered, clock)


def _sample(
    avatar: Avatar, partial: Path, pictures: Pictures, representation: Representation, clock: Clock
) -> tuple[Avatar, dict]:
    """The avatar through the cascade: the avatar to deliver (in the tri-plane's look, unless both are wanted),
    and what run.json says of the tri-plane."""
    from avatar3d.cascade import product

    with clock.stage("sampling the tri-plane"):
        sampled = product.sample_field(avatar, avatar.spec.seed if avatar.spec else 0)
    if representation == "triplane":
        with clock.stage("baking its look"):
            avatar = product.with_baked_look(sampled)
    with clock.stage("drawing the tri-plane") as step:
        said = product.write_field_files(sampled, avatar, partial, pictures.frames, pictures.resolution, step)
    return avatar, said


def _deliver(
    avatar: Avatar,
    partial: Path,
    wanted: Wanted,
    source: Source,
    clips: Sequence[Clip] = (),
    brought: Sequence[str] = (),
    step: Step | None = None,
) -> dict:
    """The files of the avatar; returns their licence record and platform report.

    `brought` as for `licence_record`.
    """
    licences = licence_record(avatar, source.prompt, source.origin, brought)

    def icon() -> bytes:
        return thumbnail(avatar, pose_for_pictures(avatar), THUMBNAIL)

    report = deliver(avatar, partial, wanted, licences, icon, clips, step)
    return {"licence": licences["licence"], "licences": licences, "report": report}


def _finish(
    record: dict, avatar: Avatar, folder: Path, partial: Path, wanted: Wanted, delivered: dict, clock: Clock
) -> dict:
    """Write run.json, and return its content."""
    record = {
        **record,
        "generated": avatar.spec is not None,
        "wanted": asdict(wanted),
        **delivered,
        "folder": str(folder),
        "files": {file.name: file.stat().st_size for file in sorted(partial.iterdir()) if file.is_file()},
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
