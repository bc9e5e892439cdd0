"""Measure how skin and clothes follow the skeleton in the 120 poses of `avatar3d.body.exercises`; print tables.

python scripts/measure_skinning.py               # a few minutes
python scripts/measure_skinning.py --every 4     # a quarter of the poses
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import tyro

from avatar3d.body.exercises import exercises
from avatar3d.body.pose import joint_transforms, pose_avatar, skin_points
from avatar3d.body.shape import shape_body
from avatar3d.engine.attach import Figure
from avatar3d.engine.build import build_avatar
from avatar3d.engine.outfit import make_outfit
from avatar3d.engine.shoes import lifted, sole_height
from avatar3d.engine.skin import make_skin
from avatar3d.evaluation.skinning import (
    TWISTS,
    covered_at_rest,
    holes,
    joints_at_rest,
    narrowest,
    stretch,
    through_cloth,
    volumes_kept,
)
from avatar3d.spec import AvatarSpec
from avatar3d.structures import Avatar

PEOPLE = {
    "man": AvatarSpec(gender=1.0, age=30.0, hair_style="short"),
    "heavy woman": AvatarSpec(gender=0.0, weight=1.0, age=45.0, hair_style="buzz"),
    "child": AvatarSpec(gender=0.3, age=7.0, hair_style="buzz"),
    "muscular man": AvatarSpec(gender=1.0, muscle=1.0, hair_style="buzz"),
}
OUTFITS = {
    "t-shirt, jeans, trainers": ("t_shirt", "jeans", "trainers"),
    "shirt, shorts, sandals": ("shirt", "shorts", "sandals"),
    "jumper, trousers, boots": ("jumper", "trousers", "boots"),
    "hoodie, jeans, boots": ("hoodie", "jeans", "boots"),
    "jacket, skirt, boots": ("jacket", "skirt", "boots"),
    "suit, trousers, shoes": ("suit", "trousers", "dress_shoes"),
    "dress, sandals": ("dress", "jeans", "sandals"),
    "tank top, skirt": ("tank_top", "skirt", "trainers"),
}


@dataclass(frozen=True)
class Measure:
    """What to measure."""

    every: int = 1
    """Take every n-th pose."""
    people: tuple[str, ...] = ("man", "heavy woman")
    outfits: tuple[str, ...] = tuple(OUTFITS)
    body: bool = True
    """Collapse and twist of the bare body too."""
    worst: int = 3
    """How many of the worst poses to name."""


def bare(spec: AvatarSpec) -> Avatar:
    """The whole skin without clothes."""
    figure = Figure(shape_body(spec))
    return Avatar(spec, figure.body.skeleton, tuple(make_skin(spec, figure)))


def body_table(poses: dict) -> None:
    """Least volume around each limb joint, and least cross-section under twist."""
    for person, spec in PEOPLE.items():
        avatar = bare(spec)
        rest = joints_at_rest(avatar)
        kept: dict[str, list[tuple[float, str]]] = {}
        for name, pose in poses.items():
            transforms = joint_transforms(avatar.skeleton, pose).numpy().astype(np.float64)
            for joint, share in volumes_kept(avatar, rest, pose, transforms).items():
                kept.setdefault(joint, []).append((share, name))
        for joint, shares in kept.items():
            low, high = min(shares), max(shares)
            print(f"{person:14} {joint:9} volume {low[0]:6.2f} {low[1]:20} to {high[0]:5.2f} {high[1]}")
        print(f"{person:14} twist    ", "  ".join(f"{t} {narrowest(avatar, t):.2f}" for t in TWISTS))


def clothes_table(person: str, outfit: str, poses: dict, worst: int) -> None:
    """Stretch of cloth, skin through it, and holes where hidden skin would show."""
    top, bottom, shoes = OUTFITS[outfit]
    spec = replace(PEOPLE[person], top=top, bottom=bottom, shoes=shoes)
    avatar = build_avatar(spec)
    figure = Figure(shape_body(spec))
    hidden = figure.skin_faces[make_outfit(spec, figure).hidden].numpy()
    up = sole_height(spec)
    chosen = covered_at_rest(avatar)
    pulls, pokes, gaps = [], [], []
    for name, pose in poses.items():
        posed = pose_avatar(avatar, pose, {})
        s = np.concatenate([stretch(p.mesh, m) for p, m in posed if p.kind in ("top", "bottom")])
        pulls.append((float(np.quantile(s, 0.999)), float(s.max()), name))
        bad = through_cloth(posed, chosen)
        pokes.append((len(bad), float(bad[:, 1].max(initial=0)), name))
        raised = lifted(Avatar(spec, figure.body.skeleton, ()), up)
        transforms = joint_transforms(raised.skeleton, pose)
        points = figure.vertices.clone()
        points[:, 1] += up
        full = skin_points(points, *figure.skin, transforms).numpy().astype(np.float64)
        gaps.append((int((holes(posed, full, hidden) > 0).sum()), name))
    tested = len(chosen) * len(poses)
    print(f"{person:12} {outfit:26} stretch 99.9 % {max(pulls)[0]:4.2f} {max(pulls)[2]:16} max "
          f"{max(p[1] for p in pulls):5.2f} | through {sum(p[0] for p in pokes):5d} of {tested} = "
          f"{1e6 * sum(p[0] for p in pokes) / tested:6.0f} ppm, {1000 * max(p[1] for p in pokes):4.1f} mm "
          f"{[(p[2], p[0]) for p in sorted(pokes)[::-1][:worst] if p[0]]} | holes "
          f"{sum(g[0] for g in gaps)} {[(g[1], g[0]) for g in sorted(gaps)[::-1][:worst] if g[0]]}")  # fmt: skip


if __name__ == "__main__":
    config = tyro.cli(Measure)
    chosen_poses = dict(list(exercises().items())[:: config.every])
    if config.body:
        body_table(chosen_poses)
    for who in config.people:
        for what in config.outfits:
            clothes_table(who, what, chosen_poses, config.worst)
