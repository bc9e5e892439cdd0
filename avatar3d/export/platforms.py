"""What an avatar costs on each platform: counts, texture memory, and the ranks that follow from them.

VRChat's limits are those of its pages "Avatar Performance Ranking System" (PC and mobile); Ready Player Me's those
of its asset schemas; the figures for web pages are our own.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from torch import Tensor

from avatar3d.structures import Avatar, Material

MIPS = 4 / 3
"""Memory of a texture with all its mip levels, against the largest one."""
FULL, HALF = 1.0, 0.5
"""Bytes per texel of BC7 (and of ASTC with 4 x 4 texels a block), and of BC1 or ASTC with about 6 x 6."""
MB = 1024 * 1024


@dataclass(frozen=True)
class Cost:
    """Figures of one avatar as it is written, one mesh per part."""

    triangles: int
    vertices: int
    joints: int
    materials: int
    draw_calls: int
    skinned_meshes: int
    face_shapes: int
    """Different names."""
    shape_vertices: int
    """Vertices times shapes of the parts that carry them: what a morphing GPU keeps."""
    textures: int
    largest_texture: int
    texture_mb: float
    """Uncompressed RGBA with mip levels."""
    texture_mb_pc: float
    """BC7 with mip levels, as VRChat counts it."""
    texture_mb_mobile: float
    """ASTC 6 x 6 with mip levels."""
    blended_materials: int
    file_mb: float | None


@dataclass(frozen=True)
class Limits:
    """Most of each figure; None does not count."""

    triangles: int
    joints: int | None = None
    materials: int | None = None
    skinned_meshes: int | None = None
    texture_mb: float | None = None
    file_mb: float | None = None
    largest_texture: int | None = None


VRCHAT_PC = {
    "Excellent": Limits(32_000, 75, 4, 1, 40),
    "Good": Limits(70_000, 150, 8, 2, 75),
    "Medium": Limits(70_000, 256, 16, 8, 110),
    "Poor": Limits(70_000, 400, 32, 16, 150),
}
VRCHAT_MOBILE = {
    "Excellent": Limits(7_500, 75, 1, 1, 10),
    "Good": Limits(10_000, 90, 1, 1, 18),
    "Medium": Limits(15_000, 150, 2, 2, 25),
    "Poor": Limits(20_000, 150, 4, 2, 40),
}
READY_PLAYER_ME = Limits(30_000, 75, largest_texture=4096)
"""Of a whole outfit (costume)."""
WEB = {
    "desktop": Limits(60_000, 256, 32, 32, file_mb=10.0),
    "phone": Limits(15_000, 100, 4, 4, texture_mb=32, file_mb=3.0),
}


def cost_of(avatar: Avatar, file_bytes: int | None = None) -> Cost:
    """Count an avatar; textures that are the same tensor count once."""
    parts = [part for part in avatar.parts if len(part.mesh.faces)]
    materials = _distinct([part.mesh.material for part in parts])
    textures = {id(t): t for m in materials for t in _textures(m)}
    sizes = [t.shape[0] * t.shape[1] for t in textures.values()]
    texels = sum(sizes) * MIPS
    shapes = {name for part in parts if part.morphs for name in part.morphs.names}
    return Cost(
        triangles=sum(len(part.mesh.faces) for part in parts),
        vertices=sum(len(part.mesh.vertices) for part in parts),
        joints=len(avatar.skeleton.names),
        materials=len(materials),
        draw_calls=len(parts),
        skinned_meshes=len(parts),
        face_shapes=len(shapes),
        shape_vertices=sum(len(p.morphs.names) * len(p.mesh.vertices) for p in parts if p.morphs),
        textures=len(textures),
        largest_texture=max((max(t.shape[:2]) for t in textures.values()), default=0),
        texture_mb=round(4 * texels / MB, 2),
        texture_mb_pc=round(FULL * texels / MB, 2),
        texture_mb_mobile=round(16 / 36 * texels / MB, 2),
        blended_materials=sum(m.alpha_mode == "BLEND" for m in materials),
        file_mb=None if file_bytes is None else round(file_bytes / 1e6, 3),
    )


def rank(cost: Cost, ranks: dict[str, Limits], texture_mb: float) -> str:
    """The best rank whose limits are all kept, or "Very Poor"."""
    for name, limits in ranks.items():
        if not exceeded(cost, limits, texture_mb):
            return name
    return "Very Poor"


def exceeded(cost: Cost, limits: Limits, texture_mb: float) -> dict[str, tuple[float, float]]:
    """What is over the limits: figure -> (value, limit)."""
    values = {**asdict(cost), "texture_mb": texture_mb}
    return {
        name: (values[name], most)
        for name, most in asdict(limits).items()
        if most is not None and values[name] is not None and values[name] > most
    }


def report(cost: Cost) -> dict:
    """Everything as a JSON value: the figures, VRChat's ranks with what keeps from the next one, other limits."""
    return {
        "cost": asdict(cost),
        "vrchat_pc": _ranked(cost, VRCHAT_PC, cost.texture_mb_pc),
        "vrchat_mobile": _ranked(cost, VRCHAT_MOBILE, cost.texture_mb_mobile),
        "ready_player_me": _fits(cost, READY_PLAYER_ME, cost.texture_mb_pc),
        "web": {name: _fits(cost, limits, cost.texture_mb_mobile) for name, limits in WEB.items()},
    }


def _ranked(cost: Cost, ranks: dict[str, Limits], texture_mb: float) -> dict:
    own = rank(cost, ranks, texture_mb)
    names = list(ranks)
    better = None if own == names[0] else names[names.index(own) - 1] if own in names else names[-1]
    found = {"rank": own, "next": better}
    return found | {"over": exceeded(cost, ranks[better], texture_mb) if better else {}}


def _fits(cost: Cost, limits: Limits, texture_mb: float) -> dict:
    over = exceeded(cost, limits, texture_mb)
    return {"fits": not over, "over": over}


def as_text(costs: dict[str, Cost]) -> str:
    """A table with a line per figure and a column per avatar, such as the presets of one avatar."""
    reports = {name: report(cost) for name, cost in costs.items()}
    rows = [("", *costs)]
    for figure in Cost.__dataclass_fields__:
        values = [getattr(cost, figure) for cost in costs.values()]
        if any(value is not None for value in values):
            rows.append((figure.replace("_", " "), *("-" if v is None else f"{v:,}" for v in values)))
    rows.append(("VRChat PC", *(r["vrchat_pc"]["rank"] for r in reports.values())))
    rows.append(("VRChat mobile", *(r["vrchat_mobile"]["rank"] for r in reports.values())))
    rows.append(("Ready Player Me", *(_verdict(r["ready_player_me"]) for r in reports.values())))
    for name in WEB:
        rows.append((f"web, {name}", *(_verdict(r["web"][name]) for r in reports.values())))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def _verdict(fit: dict) -> str:
    return "fits" if fit["fits"] else "over: " + ", ".join(name.replace("_", " ") for name in fit["over"])


def _distinct(materials: list[Material]) -> list[Material]:
    seen: dict[tuple, Material] = {}
    for m in materials:
        key = (
            m.name, m.base_color, m.roughness, m.metallic, m.alpha_mode, m.alpha_cutoff, m.double_sided,
            *(id(t) for t in _textures(m)),
        )  # fmt: skip
        seen.setdefault(key, m)
    return list(seen.values())


def _textures(m: Material) -> list[Tensor]:
    return [t for t in (m.base_color_texture, m.normal_texture, m.orm_texture) if t is not None]
