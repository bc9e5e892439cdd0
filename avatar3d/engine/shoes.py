"""Trainers, boots, dress shoes and sandals, built on the last of the foot."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
from scipy.spatial import cKDTree

from avatar3d.engine.attach import Figure
from avatar3d.engine.colors import Rgb, color_rgb, luminance, shaded
from avatar3d.engine.fabrics import cloth_material
from avatar3d.engine.garment import Worn
from avatar3d.engine.garment_fields import reference, template_fields
from avatar3d.engine.garment_fit import Layers
from avatar3d.engine.garment_last import Last, foot_vertices, make_last
from avatar3d.engine.garment_solids import (
    Solid,
    join,
    loft,
    mirrored_skin,
    nearest_skin,
    slab,
    solid_part,
    tube,
)  # fmt: skip
from avatar3d.spec import AvatarSpec
from avatar3d.structures import Avatar, Part, Skin

Array = np.ndarray

UP = np.array([0.0, 1.0, 0.0])


@dataclass(frozen=True)
class ShoeShape:
    """The proportions of a kind of shoe; metres for an adult, scaled with the foot."""

    front_top: float
    back_top: float
    rings: int
    sole: float
    lip: float
    edge: float
    """How far the sole stands out."""
    arch: float
    """How much the sole is hollowed before the heel."""
    cover: float
    """Reference height below which the foot is hidden."""


SHAPES = {
    "trainers": ShoeShape(1.12, 1.02, 15, 0.021, 0.009, 0.005, 0.0, 0.062),
    "boots": ShoeShape(2.05, 2.05, 14, 0.028, 0.006, 0.006, 0.010, 0.120),
    "dress_shoes": ShoeShape(0.98, 0.95, 14, 0.018, 0.003, 0.004, 0.011, 0.055),
    "sandals": ShoeShape(1.25, 1.15, 15, 0.020, 0.002, 0.005, 0.004, -1.0),
}
ADULT_FOOT = 0.26


def sole_height(spec: AvatarSpec) -> float:
    """Metres by which the shoes raise their wearer."""
    return SHAPES[spec.shoes].sole * (0.7 if spec.age < 11 else 1.0)


def lifted(avatar: Avatar, height: float) -> Avatar:
    """The avatar raised so that the ground is below its soles; the root joint stays on the ground."""
    up = torch.tensor([0.0, height, 0.0])
    parts = tuple(replace(p, mesh=replace(p.mesh, vertices=p.mesh.vertices + up)) for p in avatar.parts)
    positions = avatar.skeleton.positions + up
    positions[0] = avatar.skeleton.positions[0]
    return replace(avatar, parts=parts, skeleton=replace(avatar.skeleton, positions=positions))


def make_shoes(spec: AvatarSpec, figure: Figure, layers: Layers) -> Worn:
    """Both shoes; the stand-off of what they cover is raised in `layers`, so that trousers fall over them."""
    shape = SHAPES[spec.shoes]
    closed = spec.shoes != "sandals"
    last = make_last(
        figure, shape.front_top, shape.back_top, shape.rings,
        room=0.0065 if closed else 0.003, toe_room=0.010 if closed else 0.004,
    )  # fmt: skip
    scale = last.length / ADULT_FOOT
    color = color_rgb(spec.shoes_color)
    make = {"trainers": _trainer, "boots": _boot, "dress_shoes": _dress_shoe, "sandals": _sandal}[spec.shoes]
    sole = _sole(last, shape, sole_height(spec), scale)
    groups = make(last, scale, color)
    groups["sole"] = ([sole, *groups.get("sole", ([], None))[0]], _sole_material(spec.shoes, color))
    parts = [_pair(figure, f"{spec.shoes}_{name}", join(s), m) for name, (s, m) in groups.items() if s]
    covered = np.zeros(len(figure.vertices), bool)
    if closed:
        f = template_fields()
        foot = (f.y < shape.cover) & (f.hand < 0.01)
        foot[f.y > 0.3] = False
        covered = foot
        _raise_layers(layers, figure, last, shape)
    return Worn(parts, covered)


def _raise_layers(layers: Layers, figure: Figure, last: Last, shape: ShoeShape) -> None:
    """Let cloth stand off the leg by as much as the shoe does there."""
    over = _both_feet(shape.cover + 0.13)
    left, right = over.reshape(2, -1)
    shell = last.rings.reshape(-1, 3)
    points, normals = (t[left].numpy().astype(np.float64) for t in (figure.vertices, figure.normals))
    _, near = cKDTree(shell).query(points, k=8)
    gap = ((shell[near] - points[:, None]) * normals[:, None]).sum(axis=2).max(axis=1)
    fading = np.clip((shape.cover + 0.13 - template_fields().y[left]) / 0.05, 0.0, 1.0)
    gap = (np.clip(gap, 0.0, 0.05) + 0.006) * fading
    for side in (left, right):
        layers.stand_off[side] = np.maximum(layers.stand_off[side], gap)


@cache
def _both_feet(up_to: float) -> Array:
    """Template vertices of both feet and legs below a height of the reference body."""
    f = template_fields()
    left = foot_vertices(up_to)
    body = reference().skin_vertices
    points = np.stack([f.x, f.y, f.z], axis=1)
    _, right = cKDTree(points[body]).query(points[left] * np.array([-1.0, 1.0, 1.0]))
    return np.concatenate([left, body[right]])


def _pair(figure: Figure, name: str, left: Solid, material) -> Part:
    skin = nearest_skin(figure, left.points)
    other = mirrored_skin(figure, skin)
    both = Skin(torch.cat([skin.joints, other.joints]), torch.cat([skin.weights, other.weights]))
    return solid_part(name, "shoes", join([left, left.mirrored()]), material, both)


def _sole_material(kind: str, color: Rgb):
    if kind == "trainers":
        white = (0.90, 0.89, 0.87) if luminance(color) < 0.85 else (0.86, 0.85, 0.83)
        return cloth_material("sole", "rubber", white, roughness=0.65)
    dark = {"boots": (0.10, 0.09, 0.085), "dress_shoes": (0.09, 0.07, 0.06), "sandals": (0.33, 0.24, 0.17)}[kind]
    return cloth_material("sole", "rubber", dark, roughness=0.6)


def _sole(last: Last, shape: ShoeShape, height: float, scale: float) -> Solid:
    """The sole's wall and underside, from a lip around the upper down to the ground."""
    outline = last.rings[1].copy()
    outline[:, 1] = 0.0
    outward = last.outward[1] * np.array([1.0, 0.0, 1.0])
    outward /= np.linalg.norm(outward, axis=1, keepdims=True)
    along = (outline - last.origin) @ last.forward / last.length
    along = (along - along.min()) / (along.max() - along.min())
    # the lip climbs a little at the toe and the heel
    lip = (
        shape.lip
        * scale
        * (1 + 0.7 * np.clip((along - 0.8) / 0.2, 0, 1) ** 2 + 0.3 * np.clip((0.2 - along) / 0.2, 0, 1))
    )
    arch = shape.arch * scale * np.exp(-(((along - 0.36) / 0.10) ** 2))
    edge = shape.edge * scale
    waist = 1 - 0.6 * np.exp(-(((along - 0.4) / 0.15) ** 2))

    def ring(out: float | Array, y: float | Array) -> Array:
        return (
            outline
            + np.asarray(out)[..., None] * outward
            + np.broadcast_to(np.asarray(y), along.shape)[:, None] * UP
        )

    rows = [
        ring(-0.006 * scale, lip),
        ring(0.5 * edge, lip),
        ring(edge, lip - 0.003 * scale),
        ring(edge * (0.6 + 0.4 * waist), -0.45 * height),
        ring(edge * waist, -height + 0.003 * scale + arch),
        ring(edge * waist - 0.004 * scale, -height + arch),
    ]
    wall = loft(np.stack(rows), closed=True, flip=True)
    # the underside joins the two halves of the outline
    half = len(outline) // 2
    left, right = rows[-1][: half + 1], np.roll(rows[-1][::-1], 1, axis=0)[: half + 1]
    bottom = loft(np.stack([left, (left + right) / 2, right]), flip=False)
    return join([wall, bottom])


def _grid(last: Last, rings: Array, turns: Array, out: Array | float) -> Array:
    r, t = np.meshgrid(rings, turns, indexing="ij")
    return last.at(r, t, out)


def _normal_grid(last: Last, rings: Array, turns: Array) -> Array:
    return _grid(last, rings, turns, 1.0) - _grid(last, rings, turns, 0.0)


def _upper(last: Last, collar: float, dip: float) -> Solid:
    """The closed upper with a rolled collar that goes down inside."""
    body = last.rings.copy()
    turn = np.arange(body.shape[1]) / body.shape[1]
    side = np.sin(2 * np.pi * turn) ** 2
    body[-1] -= (dip * side)[:, None] * UP
    body[-2] -= (0.6 * dip * side)[:, None] * UP
    out = last.outward[-1]
    roll = [
        body[-1] + 0.5 * collar * UP - 0.3 * collar * out,
        body[-1] + 0.2 * collar * UP - 1.1 * collar * out,
        body[-1] - 3.0 * collar * UP - 0.9 * collar * out,
    ]
    return loft(np.concatenate([body, np.stack(roll)]), closed=True)


def _patch(
    last: Last, rings: tuple[float, float], turns: tuple[float, float], out: float, size: tuple[int, int]
) -> Solid:
    r, t = np.linspace(*rings, size[0]), np.linspace(*turns, size[1])
    return slab(_grid(last, r, t, out), _normal_grid(last, r, t), 0.003)


def _laces(
    last: Last, first: float, final: float, count: int, width: float, scale: float, out: float
) -> list[Solid]:
    """Bars across the tongue, and a bow at the top."""
    solids = []
    height = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(last.rings[:, 0], axis=0), axis=1))])
    number = np.arange(len(last.rings))
    low, high = (float(np.interp(end, number, height)) for end in (first, final))
    for ring in np.interp(np.linspace(low, high, count), height, number):
        t = np.linspace(-width, width, 7)
        bulge = out + 0.0035 * scale * (1 - (t / width) ** 2)
        path = last.at(np.full(7, ring) + 0.25 * np.sin(t / width * 1.5), t, bulge)
        solids.append(tube(path, 0.0022 * scale, 4))
    top = last.at(np.array([final + 0.3]), np.array([0.0]), np.array([out + 0.005 * scale]))[0]
    n = last.at(np.array([final]), np.array([0.0]), 1.0)[0] - last.at(np.array([final]), np.array([0.0]), 0.0)[0]
    down = np.cross(n, last.lateral)
    down *= -np.sign(down[1])
    for sign in (-1.0, 1.0):
        a = np.linspace(0, 2 * np.pi, 11)
        reach = 0.5 * (1 - np.cos(a))
        loop = (
            top + (sign * 0.026 * scale * reach)[:, None] * last.lateral
            + (0.006 * scale * np.sin(a) + 0.006 * scale * reach)[:, None] * down
            + (0.003 * scale * np.sin(a / 2))[:, None] * n
        )  # fmt: skip
        solids.append(tube(loop, 0.002 * scale, 4))
        s = np.linspace(0, 1, 6)
        end = top + (sign * 0.016 * scale * s)[:, None] * last.lateral + (0.03 * scale * s)[:, None] * down
        end += (0.003 * scale * np.sin(np.pi * s))[:, None] * n
        solids.append(tube(end, 0.0018 * scale, 4))
    return solids


def _trainer(last: Last, scale: float, color: Rgb) -> dict:
    top = len(last.rings) - 1
    trim = shaded(color, 0.55) if luminance(color) > 0.13 else shaded(color, 1.35)
    upper = [_upper(last, 0.004 * scale, 0.008 * scale)]
    tongue = _patch(last, (0.50 * top, top), (-0.075, 0.075), 0.003 * scale, (8, 7))
    overlays = [
        _patch(last, (0.45 * top, 0.97 * top), (0.085, 0.135), 0.0022, (8, 4)),
        _patch(last, (0.45 * top, 0.97 * top), (-0.135, -0.085), 0.0022, (8, 4)),
        _patch(last, (0.15 * top, 0.93 * top), (0.44, 0.56), 0.0022, (7, 7)),
        tongue,
    ]
    laces = _laces(last, 0.56 * top, 0.90 * top, 5, 0.1, scale, 0.0045 * scale)
    white = (0.92, 0.92, 0.90) if luminance(color) < 0.8 else (0.80, 0.80, 0.80)
    return {
        "upper": (upper, cloth_material("upper", "canvas", color)),
        "trim": (overlays, cloth_material("trim", "leather", trim, roughness=0.6)),
        "laces": (laces, cloth_material("laces", "canvas", white)),
    }


def _boot(last: Last, scale: float, color: Rgb) -> dict:
    top = len(last.rings) - 1
    upper = [_upper(last, 0.004 * scale, 0.0), _patch(last, (0.35 * top, top), (-0.05, 0.05), 0.002, (9, 4))]
    upper += [_patch(last, (0.33 * top, 0.98 * top), (s * 0.055, s * 0.095), 0.003, (9, 3)) for s in (1, -1)][:1]
    upper += [_patch(last, (0.33 * top, 0.98 * top), (-0.095, -0.055), 0.003, (9, 3))]
    upper += [_patch(last, (0.1 * top, 0.75 * top), (0.46, 0.54), 0.0022, (7, 4))]
    laces = _laces(last, 0.40 * top, 0.93 * top, 7, 0.075, scale, 0.004 * scale)
    return {
        "upper": (upper, cloth_material("upper", "leather", color)),
        "laces": (laces, cloth_material("laces", "canvas", shaded(color, 0.45))),
    }


def _dress_shoe(last: Last, scale: float, color: Rgb) -> dict:
    top = len(last.rings) - 1
    upper = [_upper(last, 0.0025 * scale, 0.012 * scale)]
    upper += [_patch(last, (0.55 * top, 0.97 * top), (0.05, 0.13), 0.0018, (7, 5))]
    upper += [_patch(last, (0.55 * top, 0.97 * top), (-0.13, -0.05), 0.0018, (7, 5))]
    upper += [_patch(last, (0.60 * top, top), (-0.05, 0.05), 0.001, (6, 5))]
    laces = _laces(last, 0.62 * top, 0.88 * top, 4, 0.06, scale * 0.75, 0.003 * scale)
    return {
        "upper": (upper, cloth_material("upper", "leather", color, roughness=0.28)),
        "laces": (laces, cloth_material("laces", "canvas", shaded(color, 0.5))),
    }


def _sandal(last: Last, scale: float, color: Rgb) -> dict:
    top = len(last.rings) - 1

    def strap(rings: tuple[float, float], turns: tuple[float, float], n: int) -> Solid:
        return _patch(last, rings, turns, 0.0025 * scale, (4, n))

    straps = [
        strap((0.30 * top, 0.46 * top), (-0.24, 0.24), 17),
        strap((0.62 * top, 0.74 * top), (-0.26, 0.26), 17),
        strap((0.90 * top, 0.99 * top), (0.0, 1.0), 33),
        _patch(last, (0.0, 0.97 * top), (0.26, 0.29), 0.002 * scale, (9, 3)),
        _patch(last, (0.0, 0.97 * top), (-0.29, -0.26), 0.002 * scale, (9, 3)),
    ]
    return {"straps": (straps, cloth_material("straps", "leather", color))}
