"""Make the pictures of the README: random people, expressions, wardrobe, and what prompts give.

    python scripts/gallery.py                          # all sheets, into assets/gallery
    python scripts/gallery.py --sheets people --count 48

Every sheet is made by the same engine, renderer and text model as the command line, with fixed seeds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro
from PIL import Image
from rich.progress import track

from avatar3d.body.pose import pose_avatar, relaxed_pose
from avatar3d.body.visemes import ARKIT, COMPOSED, with_composed
from avatar3d.camera import orbit
from avatar3d.engine.build import build_avatar
from avatar3d.engine.population import Population, sample
from avatar3d.export.parts import triangle_count
from avatar3d.export.presets import PRESETS, apply
from avatar3d.film import FILM_AZIMUTH, film
from avatar3d.motion.clips import CLIPS, Wish, animate
from avatar3d.motion.play import duration
from avatar3d.pictures import view_camera
from avatar3d.render.images import contact_sheet, to_bytes
from avatar3d.render.meshes import render_meshes
from avatar3d.render.scene import LabelledMesh, compile_scene
from avatar3d.spec import BOTTOMS, GLASSES_SHAPES, HAIR_STYLES, HATS, TOPS, AvatarSpec
from avatar3d.structures import PART_KINDS, Avatar

FRONT, THREE_QUARTER, BACK = 0.0, math.radians(38.0), math.pi

EXPRESSION_SHEET: dict[str, dict[str, float]] = {
    "neutral": {},
    "blink": {"eyeBlinkLeft": 1.0, "eyeBlinkRight": 1.0},
    "smile": {"mouthSmileLeft": 0.8, "mouthSmileRight": 0.8, "cheekSquintLeft": 0.5, "cheekSquintRight": 0.5},
    "jaw open": {"jawOpen": 0.8},
    "surprise": {
        "browInnerUp": 0.9, "browOuterUpLeft": 0.8, "browOuterUpRight": 0.8,
        "eyeWideLeft": 0.8, "eyeWideRight": 0.8, "jawOpen": 0.4,
    },
    "puff": {"cheekPuff": 1.0},
    "pucker": {"mouthPucker": 1.0},
    "look left": {"eyeLookOutLeft": 0.9, "eyeLookInRight": 0.9},
}  # fmt: skip

PROMPTS = (
    "old man with glasses",
    "young woman with long red hair and freckles, green jumper",
    "bald man with a full black beard and sunglasses, leather jacket in black",
    "teenage girl, blue hair in a bob, round glasses, smiling",
    "a Black woman with an afro, hoop earrings and a yellow dress",
    "granny with a grey bun and a purple cardigan",
    "East Asian businessman in a grey suit",
    "little boy with a red cap and a striped t-shirt",
)


@dataclass(frozen=True)
class GalleryConfig:
    """Which sheets to make, and how large."""

    sheets: tuple[
        Literal["people", "expressions", "arkit", "visemes", "hair", "wardrobe", "lods", "prompts", "motion"], ...
    ] = (
        "people", "expressions", "arkit", "visemes", "hair", "wardrobe", "lods", "prompts", "motion",
    )  # fmt: skip
    out: Path = Path("assets/gallery")
    count: int = 48
    """People on the sheets of random people."""
    page: int = 12
    """People per sheet."""
    tile: int = 300
    """Height of one picture, pixels."""
    seed: int = 7


def picture(
    spec: AvatarSpec, view: str, azimuth: float, tile: int, expression: dict[str, float] | None = None
) -> np.ndarray:
    """One render of a spec, (tile, 0.8 tile, 3) bytes."""
    return views(spec, view, [azimuth], tile, expression)[0]


def views(
    spec: AvatarSpec, view: str, azimuths: list[float], tile: int, expression: dict[str, float] | None = None
) -> list[np.ndarray]:
    """The same avatar from several azimuths."""
    avatar = build_avatar(spec)
    posed = pose_avatar(avatar, relaxed_pose(), expression)
    scene = compile_scene([LabelledMesh(mesh, 1 + PART_KINDS.index(part.kind)) for part, mesh in posed])
    width = round(0.8 * tile)
    cameras = [view_camera(scene, avatar, view, azimuth, width, tile) for azimuth in azimuths]
    return [to_bytes(render_meshes(scene, camera).rgb) for camera in cameras]


def people(config: GalleryConfig) -> None:
    """Random people from front, three-quarter and back."""
    generator = np.random.default_rng(config.seed)
    specs = [sample(generator, Population()) for _ in range(config.count)]
    for page in range(0, config.count, config.page):
        rows = []
        for spec in track(specs[page : page + config.page], description=f"people {page}"):
            views_of_one = views(spec, "bust", [FRONT, THREE_QUARTER, BACK], config.tile)
            rows.append(np.concatenate(views_of_one, axis=1))
        save(contact_sheet(rows, columns=3), config.out / f"people_{page // config.page + 1}.jpg")


def expressions(config: GalleryConfig) -> None:
    """Face shapes on three people."""
    generator = np.random.default_rng(config.seed)
    cast = [
        replace(sample(generator, Population()), age=age, gender=gender, glasses="none", hat="none", seed=3)
        for age, gender in ((30.0, 0.05), (55.0, 0.95), (9.0, 0.3))
    ]
    tiles = [
        picture(spec, "head", math.radians(15.0), config.tile, expression)
        for spec in track(cast, description="expressions")
        for expression in EXPRESSION_SHEET.values()
    ]
    labels = list(EXPRESSION_SHEET) * len(cast)
    save(contact_sheet(tiles, len(EXPRESSION_SHEET), labels), config.out / "expressions.jpg")


def faces(avatar: Avatar, expression: dict[str, float], azimuths: list[float], tile: int) -> np.ndarray:
    """The face from brows to chin with an expression, one picture beside the other, `tile` high."""
    joints = dict(zip(avatar.skeleton.names, avatar.skeleton.positions, strict=True))
    between = (joints["leftEye"] + joints["rightEye"]) / 2
    size = float((joints["leftEye"] - joints["rightEye"]).norm()) / PUPILS
    scene = compile_scene([
        LabelledMesh(mesh, 1 + PART_KINDS.index(part.kind)) for part, mesh in pose_avatar(avatar, {}, expression)
    ])  # fmt: skip
    target = between - between.new_tensor([0.0, 0.038, 0.01]) * size
    cameras = [orbit(target, FACE_DISTANCE * size, a, width=round(0.8 * tile), height=tile) for a in azimuths]
    return np.concatenate([to_bytes(render_meshes(scene, camera).rgb) for camera in cameras], axis=1)


PUPILS = 0.0616
"""Metres between the pupils of the face that `faces` frames from `FACE_DISTANCE` metres."""
FACE_DISTANCE = 0.52


def arkit(config: GalleryConfig) -> None:
    """Each of the 52 actions at weight 1 on one face; those that need an open jaw have it."""
    avatar = build_avatar(replace(SPEAKERS[0], hair_style="buzz"))
    with_jaw = {"mouthClose": 1.0, "tongueOut": 0.35}
    tiles, labels = [], []
    for name in track(ARKIT, description="arkit"):
        jaw = with_jaw.get(name)
        tiles.append(faces(avatar, {name: 1.0} | ({"jawOpen": jaw} if jaw else {}), [FRONT], config.tile))
        labels.append(f"{name} + jawOpen" if jaw else name)
    save(contact_sheet(tiles, 9, labels), config.out / "arkit.jpg")


def visemes(config: GalleryConfig) -> None:
    """Visemes and extras on two faces, from the front and from three-quarter."""
    tiles, labels = [], []
    for spec in SPEAKERS:
        avatar = with_composed(build_avatar(spec))
        for name in track(COMPOSED, description="visemes"):
            tiles.append(faces(avatar, {name: 1.0}, [FRONT, THREE_QUARTER], config.tile))
            labels.append(name)
    save(contact_sheet(tiles, 5, labels), config.out / "visemes.jpg")


SPEAKERS = (
    AvatarSpec(seed=3, gender=0.05, age=30.0, hair_style="bun", skin_tone=0.3),
    AvatarSpec(
        seed=4, gender=0.95, age=45.0, hair_style="short", beard_style="stubble", african=1.0, european=0.0,
        asian=0.0, skin_tone=0.75,
    ),
)  # fmt: skip


def hair(config: GalleryConfig) -> None:
    """Every hair style from front and behind."""
    tiles, labels = [], []
    for i, style in enumerate(track(HAIR_STYLES, description="hair")):
        spec = AvatarSpec(
            seed=i, age=30.0, gender=float(style in MENS_HAIR), hair_style=style, skin_tone=(i * 0.37) % 0.9,
            hair_color=("black", "brown", "auburn", "blonde")[i % 4], african=(i % 3 == 0) * 1.0,
            asian=(i % 3 == 1) * 1.0, european=(i % 3 == 2) * 1.0,
        )  # fmt: skip
        pair = views(spec, "head", [THREE_QUARTER, math.radians(150.0)], config.tile)
        tiles.append(np.concatenate(pair, axis=1))
        labels.append(style)
    save(contact_sheet(tiles, 4, labels), config.out / "hair.jpg")


MENS_HAIR = ("bald", "balding", "buzz", "short", "side_part", "quiff", "mohawk", "dreadlocks")


def wardrobe(config: GalleryConfig) -> None:
    """Every top, bottom, hat and pair of glasses."""
    tiles, labels = [], []
    colors = ("red", "white", "green", "navy", "brown", "grey", "yellow", "teal")
    for i, top in enumerate(track(TOPS, description="tops")):
        spec = AvatarSpec(
            seed=i, gender=float(i % 2), top=top, top_color=colors[i], bottom=BOTTOMS[i % 4],
            top_pattern=("plain", "stripes", "checks", "dots")[i % 4],
            bottom_color=("navy", "blue", "beige", "black")[i % 4],
            shoes=("trainers", "boots", "dress_shoes", "sandals")[i % 4], skin_tone=(i * 0.29) % 0.9,
        )  # fmt: skip
        tiles.append(picture(spec, "full", math.radians(25.0), 2 * config.tile))
        labels.append(top)
    save(contact_sheet(tiles, 8, labels), config.out / "wardrobe.jpg")
    tiles, labels = [], []
    for i, (field, value) in enumerate(
        [("hat", h) for h in HATS if h != "none"] + [("glasses", g) for g in GLASSES_SHAPES if g != "none"]
    ):
        color = ("red", "navy", "brown", "teal", "black")[i % 5]
        changes: dict[str, Any] = {field: value, f"{field}_color": color}
        base = AvatarSpec(seed=20 + i, gender=float(i % 2), skin_tone=(i * 0.23) % 0.9)
        spec = replace(base, **changes)
        tiles.append(picture(spec, "head", math.radians(30.0), config.tile))
        labels.append(value)
    save(contact_sheet(tiles, 9, labels), config.out / "accessories.jpg")


def prompts(config: GalleryConfig) -> None:
    """What the command gives for each sentence, with the seeds 1, 2, 3, ..."""
    from avatar3d.conditioning.prompt import sample_specs

    tiles = [
        picture(sample_specs(prompt, seed)[0], "bust", math.radians(25.0), round(1.4 * config.tile))
        for seed, prompt in enumerate(track(PROMPTS, description="prompts"), start=1)
    ]
    labels = [prompt if len(prompt) < 35 else f"{prompt[:32]} ..." for prompt in PROMPTS]
    save(contact_sheet(tiles, 4, labels), config.out / "prompts.jpg")


def motion(config: GalleryConfig) -> None:
    """Eight moments of every clip, by people of different build."""
    cast = (
        AvatarSpec(seed=1, age=28.0, gender=0.1, hair_style="ponytail", top="jumper", top_color="teal"),
        AvatarSpec(seed=2, age=7.0, gender=0.9, top_color="red", bottom="shorts", hat="cap"),
        AvatarSpec(seed=3, age=50.0, gender=0.95, weight=0.9, top="shirt", top_color="navy", shoes="boots"),
    )
    people_there = [build_avatar(spec) for spec in cast]
    tiles, labels = [], []
    for n, name in enumerate(track(CLIPS, description="motion")):
        person = people_there[n % len(people_there)]
        clip = animate(person, Wish(clip=name), config.seed).clip
        times = [duration(clip) * (k + 0.35) / 8 for k in range(8)]
        tiles += list(film(person, clip, times, config.tile, "full", FILM_AZIMUTH, None))
        labels += [f"{name} {time:.1f} s" for time in times]
    save(contact_sheet(tiles, 8, labels), config.out / "motion.jpg")


def lods(config: GalleryConfig) -> None:
    """Two people at every preset: from the front, as a whole from behind, and with a face of their own."""
    generator = np.random.default_rng(config.seed)
    blink = {"eyeBlinkLeft": 1.0, "eyeBlinkRight": 1.0}
    smile = {"mouthSmileLeft": 0.9, "mouthSmileRight": 0.9}
    still: dict[str, float] = {}
    shots = (("bust", THREE_QUARTER, still), ("head", FRONT, blink), ("head", -0.4, smile), ("full", BACK, still))
    tiles, labels = [], []
    for spec in [sample(generator, Population()) for _ in range(2)]:
        avatar = build_avatar(spec)
        cut = {name: apply(avatar, preset) for name, preset in PRESETS.items()}
        for view, azimuth, expression in track(shots, description="lods"):
            width, camera = round(0.8 * config.tile), None
            for name, level in cut.items():
                posed = pose_avatar(level, relaxed_pose(), expression)
                scene = compile_scene(
                    [LabelledMesh(mesh, 1 + PART_KINDS.index(part.kind)) for part, mesh in posed]
                )
                camera = camera or view_camera(scene, avatar, view, azimuth, width, config.tile)
                tiles.append(to_bytes(render_meshes(scene, camera).rgb))
                labels.append(f"{name}, {triangle_count(level.parts):,}")
    save(contact_sheet(tiles, len(PRESETS), labels), config.out / "lods.jpg")


def save(sheet: np.ndarray, path: Path) -> None:
    """JPEG, so that the gallery stays small."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet).save(path, quality=86, optimize=True)
    print(path)


SHEETS: dict[str, Callable[[GalleryConfig], None]] = {
    "people": people,
    "expressions": expressions,
    "arkit": arkit,
    "visemes": visemes,
    "hair": hair,
    "wardrobe": wardrobe,
    "lods": lods,
    "prompts": prompts,
    "motion": motion,
}

if __name__ == "__main__":
    chosen = tyro.cli(GalleryConfig)
    for name in chosen.sheets:
        SHEETS[name](chosen)
