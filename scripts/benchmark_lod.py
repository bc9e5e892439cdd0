"""Levels of detail in figures: errors at equal triangles beside a peer, presets with their cost, speed.

    python scripts/benchmark_lod.py                 # beside fast-simplification, when that is installed
    python scripts/benchmark_lod.py --people 5

The peer merges vertices to new places and knows no texture coordinates or face shapes: its vertices get those of
the nearest original vertex, as a pipeline around it would do.
"""

from __future__ import annotations

import importlib
import importlib.util
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tyro
from scipy.spatial import cKDTree

from avatar3d.engine.build import build_avatar
from avatar3d.engine.population import Population, sample
from avatar3d.export.glb import encode_glb
from avatar3d.export.lod import metres_per_uv, part_attributes
from avatar3d.export.platforms import as_text, cost_of
from avatar3d.export.presets import PRESETS, apply
from avatar3d.mesh.decimate import decimate
from avatar3d.mesh.nearest import surface_of
from avatar3d.mesh.normals import weld_by_position
from avatar3d.structures import Part


@dataclass(frozen=True)
class LodBenchmarkConfig:
    """What to measure."""

    people: int = 3
    """Random avatars for the presets."""
    parts: tuple[str, ...] = ("head_skin", "body")
    shares: tuple[float, ...] = (0.5, 0.25, 0.125)
    """Of the triangles."""


Faces = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Vertices, faces, and for each vertex the original vertex that its attributes come from."""


def ours(part: Part, count: int) -> Faces:
    """Edge collapses that know texture, normals, weights and face shapes."""
    m = part.mesh
    result = decimate(m.vertices, m.faces, count, weld_by_position(m.vertices), part_attributes([part]))
    return m.vertices.double().numpy(), result.faces.numpy(), np.arange(len(m.vertices))


def shape_only(part: Part, count: int) -> Faces:
    """Edge collapses that know positions only."""
    m = part.mesh
    result = decimate(m.vertices, m.faces, count, weld_by_position(m.vertices))
    return m.vertices.double().numpy(), result.faces.numpy(), np.arange(len(m.vertices))


def peer(part: Part, count: int) -> Faces:
    """fast-simplification on the welded mesh."""
    simplify = importlib.import_module("fast_simplification").simplify
    weld = weld_by_position(part.mesh.vertices).numpy()
    points, first = part.mesh.vertices.numpy(), np.unique(weld, return_index=True)[1]
    faces = weld[part.mesh.faces.numpy()].astype(np.int32)
    vertices, faces = simplify(points[first].astype(np.float32), faces, target_count=count)
    return vertices.astype(float), faces.astype(int), first[cKDTree(points[first]).query(vertices)[1]]


def errors(part: Part, vertices: np.ndarray, faces: np.ndarray, source: np.ndarray) -> tuple[float, ...]:
    """Millimetres at the middles of faces: distance (95 %, most), sliding texture and face shapes (95 %)."""
    own = part.mesh.faces.numpy()
    hit = surface_of(vertices, faces).nearest(part.mesh.vertices.double().numpy()[own].mean(axis=1))
    uv = part.mesh.uv.double().numpy()
    slid = np.linalg.norm(hit.mixed(uv[source], faces) - uv[own].mean(axis=1), axis=1) * metres_per_uv(part.mesh)
    moved = np.zeros(1)
    if part.morphs:
        deltas = part.morphs.deltas.double().permute(1, 0, 2).reshape(len(uv), -1).numpy()
        gap = hit.mixed(deltas[source], faces) - deltas[own].mean(axis=1)
        moved = np.linalg.norm(gap.reshape(len(gap), -1, 3), axis=2).max(axis=1)
    figures = [
        np.quantile(hit.distance, 0.95),
        hit.distance.max(),
        np.quantile(slid, 0.95),
        np.quantile(moved, 0.95),
    ]
    return tuple(1000 * float(figure) for figure in figures)


def compare(config: LodBenchmarkConfig) -> None:
    """One line per part, share and method."""
    avatar = build_avatar(sample(np.random.default_rng(0), Population()))
    methods: dict[str, Callable[[Part, int], Faces]] = {"ours": ours, "ours, positions only": shape_only}
    if importlib.util.find_spec("fast_simplification"):
        methods["fast-simplification"] = peer
    words = ("part", "triangles", "method", "95 % mm", "most", "texture", "shapes", "ms")
    widths = ("<10", ">9", "<21", ">8", ">6", ">8", ">7", ">5")
    print(" ".join(format(word, width) for word, width in zip(words, widths, strict=True)))
    for part in (p for p in avatar.parts if p.name in config.parts):
        for share in config.shares:
            count = round(share * len(part.mesh.faces))
            for name, method in methods.items():
                method(part, count)
                begun = time.perf_counter()
                result = method(part, count)
                spent = 1000 * (time.perf_counter() - begun)
                p95, most, texture, shapes = errors(part, *result)
                print(
                    f"{part.name:<10} {len(result[1]):>9} {name:<21} {p95:>8.2f} {most:>6.2f} {texture:>8.2f} "
                    f"{shapes:>7.2f} {spent:>5.0f}"
                )


def presets(config: LodBenchmarkConfig) -> None:
    """The platform table of each person, and seconds to cut and to encode."""
    generator = np.random.default_rng(1)
    for _ in range(config.people):
        avatar = build_avatar(sample(generator, Population()))
        costs, seconds = {}, []
        for name, preset in PRESETS.items():
            begun = time.perf_counter()
            cut = apply(avatar, preset)
            middle = time.perf_counter()
            size = len(encode_glb(cut, {}))
            seconds.append(f"{name} {middle - begun:.2f} + {time.perf_counter() - middle:.2f}")
            costs[name] = cost_of(cut, size)
        print(as_text(costs))
        print("seconds to cut + to encode:", ", ".join(seconds), "\n")


def main(config: LodBenchmarkConfig) -> None:
    """Print everything."""
    compare(config)
    print()
    presets(config)


if __name__ == "__main__":
    main(tyro.cli(LodBenchmarkConfig))
