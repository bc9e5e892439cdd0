"""Teeth, gums and tongue.

Fourteen teeth a row stand along the arcs that MakeHuman's helper geometry keeps inside every head. The upper row
is fixed to the head; the lower row follows the jaw as a rigid body.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.body.template import mirror_map
from avatar3d.engine.attach import Figure, moving_morphs, rigid_skin
from avatar3d.engine.jaw import jaw_deltas
from avatar3d.engine.tongue import make_tongue
from avatar3d.mesh.intersections import segment_crossings
from avatar3d.mesh.normals import vertex_normals
from avatar3d.spec import AvatarSpec
from avatar3d.structures import Material, Mesh, Part

UPPER_ROWS = (
    (14045, 14062, 14047, 14046, 14061, 14054, 14053, 14052, 14056),
    (14055, 14051, 14050, 14049, 14048, 14060, 14059, 14058, 14057),
    (14037, 14036, 14038, 14039, 14040, 14041, 14042, 14043, 14044),
)
"""Vertices of the left half of the upper helper from the midline back: at the edges, middles and roots."""
LOWER_ROWS = (
    (13986, 13977, 13978, 13979, 13980, 13981, 13982, 13983, 13984),
    (13988, 13989, 13990, 13991, 13987, 13992, 13993, 13994, 13985),
    (13969, 13968, 13970, 13971, 13972, 13973, 13974, 13975, 13976),
)


@dataclass(frozen=True)
class Tooth:
    """Sizes of one tooth in millimetres on the template's head."""

    width: float
    height: float
    depth: float
    """Thickness from lip to tongue at the gum."""
    edge: float
    """Thickness at the biting edge as a share of `depth`."""
    neck: float
    """Width at the gum as a share of `width`."""
    point: float
    """How much the corners of the edge are drawn back, millimetres."""


UPPER = (
    Tooth(8.7, 10.0, 6.5, 0.30, 0.78, 0.3),
    Tooth(6.9, 8.9, 5.8, 0.32, 0.76, 0.5),
    Tooth(7.7, 9.8, 7.2, 0.36, 0.76, 1.7),
    Tooth(7.1, 8.4, 8.4, 0.66, 0.82, 1.2),
    Tooth(6.9, 8.0, 8.4, 0.70, 0.84, 0.9),
    Tooth(9.8, 7.6, 9.8, 0.80, 0.88, 0.7),
    Tooth(9.4, 7.2, 9.6, 0.80, 0.88, 0.7),
)
"""Central incisor to second molar; the usual proportions of adults."""
LOWER = (
    Tooth(5.6, 8.6, 5.4, 0.32, 0.72, 0.2),
    Tooth(6.1, 8.8, 5.6, 0.32, 0.74, 0.3),
    Tooth(6.9, 9.6, 6.8, 0.36, 0.76, 1.6),
    Tooth(7.1, 8.4, 7.6, 0.62, 0.82, 1.1),
    Tooth(7.1, 8.0, 7.8, 0.70, 0.84, 0.8),
    Tooth(10.4, 7.4, 9.6, 0.82, 0.90, 0.7),
    Tooth(10.0, 7.0, 9.4, 0.82, 0.90, 0.7),
)
AROUND, RINGS = 8, 4
GUM = 0.5
"""v of the texture below which a vertex belongs to a tooth, not to the gum."""
LIP_GAP = 0.0015
"""Least way from the front teeth to the inside of the lips at rest, metres on the template's head."""
MOST_FORWARD = 0.004
LOWER_SHARE = 0.85
"""Share of the upper row's move forward that the lower row makes."""
FRONT = 0.014
"""Distance from the midline within which teeth count as front teeth."""
GUM_COLUMNS = 4
"""Gum columns per tooth."""


def make_mouth(spec: AvatarSpec, figure: Figure) -> list[Part]:
    """Upper teeth with gums, lower teeth with gums, and the tongue."""
    size = float((figure.body.bone("leftEye") - figure.body.bone("rightEye")).norm()) / 0.0616
    generator = np.random.default_rng([spec.seed, 7411])
    material = Material("teeth", base_color_texture=_teeth_texture(round(spec.age / 10)), roughness=0.28)
    upper = _row(figure, UPPER_ROWS, UPPER, size, 0.0003, 0.0022, generator)
    lower = _row(figure, LOWER_ROWS, LOWER, size, 0.0030, 0.0004, generator)
    forward = _way_to_lips(figure, [points[uv[:, 1] < GUM] for points, _, uv in (upper, lower)], size)
    upper[0][:, 2] += forward
    lower[0][:, 2] += LOWER_SHARE * forward
    parts = []
    for name, (points, faces, uv) in (("teeth_upper", upper), ("teeth_lower", lower)):
        vertices = torch.from_numpy(points).float()
        triangles = torch.from_numpy(faces)
        mesh = Mesh(
            vertices, triangles, vertex_normals(vertices, triangles), torch.from_numpy(uv).float(), material
        )
        morphs = None
        if name == "teeth_lower":
            morphs = moving_morphs(figure, torch.from_numpy(jaw_deltas(figure, points)).float())
        parts.append(Part(name, "teeth", mesh, rigid_skin(figure, len(vertices)), morphs))
    points, _, uv = lower
    return [*parts, make_tongue(figure, points[uv[:, 1] < GUM], size)]


def _row(figure: Figure, rows, teeth: tuple[Tooth, ...], size: float, inward: float, longer: float, generator):
    """(points, faces, uv) of one row: its teeth and its gum, as arrays.

    The row stands `inward` of the helper's arc and its front teeth reach `longer` beyond it (template metres).
    """
    edge, middle, root = _arcs(figure, rows)
    toward_gum = (root - edge) / np.linalg.norm(root - edge, axis=1, keepdims=True)
    front = np.clip(1 - np.abs(np.linspace(-1, 1, len(edge))) / 0.7, 0, 1)[:, None] ** 0.7
    edge = edge - size * longer * front * np.array([0, np.sign(toward_gum[0, 1]), 0])
    inward = inward * size
    line = 0.35 * edge + 0.65 * middle
    step = np.linalg.norm(np.diff(line, axis=0), axis=1)
    along = np.concatenate([[0], np.cumsum(step)])
    along -= along[len(along) // 2]
    widths = np.array([t.width for t in teeth])
    squeeze = min(0.97 * along[-1] / widths.sum(), 1.15 * size * 1e-3)
    ends = np.concatenate([[0], np.cumsum(widths)]) * squeeze
    out, faces, uv = [], [], []
    count = 0
    gum_s, gum_line = [], []
    for side in (-1, 1):
        for k, tooth in enumerate(teeth):
            s = side * (ends[k] + ends[k + 1]) / 2
            frame = _frame(s, along, edge, toward_gum, inward)
            p, f, t = _tooth_shape(tooth, squeeze * 1e3, size, generator)
            out.append(frame[0] + p @ frame[1])
            faces.append((f if np.linalg.det(frame[1]) > 0 else f[:, ::-1]) + count)
            uv.append(np.c_[np.full(len(p), (k + 0.5) / len(teeth)), 0.02 + 0.46 * t])
            count += len(p)
            for g in range(GUM_COLUMNS):
                share = (g + 0.5) / GUM_COLUMNS - 0.5
                gum_s.append(s + share * tooth.width * squeeze)
                gum_line.append((tooth.height - 1.4 * (2 * share) ** 2 * 1.6 - 0.6, tooth.depth))
    order = np.argsort(gum_s)
    p, f, t = _gum(np.array(gum_s)[order], np.array(gum_line)[order], along, edge, toward_gum, inward, size)
    out.append(p)
    faces.append((f[:, ::-1] if toward_gum[0, 1] > 0 else f) + count)
    uv.append(t)
    return np.concatenate(out), np.concatenate(faces), np.concatenate(uv)


def _way_to_lips(figure: Figure, crowns: list[np.ndarray], size: float) -> float:
    """How far the rows, which the helper keeps well back, can move forward until they almost touch the lips."""
    points = np.concatenate(crowns)
    fronts = points[np.abs(points[:, 0]) < FRONT * size]
    far = fronts + [0.0, 0.0, 0.03 * size]
    vertices, faces = figure.vertices.numpy(), figure.skin_faces.numpy()
    near = np.abs(vertices - fronts.mean(axis=0)).max(axis=1) < 0.05 * size
    _, share = segment_crossings(fronts, far, vertices, faces[near[faces].all(axis=1)])
    free = 0.03 * size * float(share.min()) - LIP_GAP * size
    return float(np.clip(free, 0.0, MOST_FORWARD * size))


def _arcs(figure: Figure, rows) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The helper's three rows from the right molars to the left ones, (17, 3) each."""
    mirror = mirror_map(figure.body.template).numpy()
    vertices = figure.vertices.numpy().astype(np.float64)
    arcs = []
    for row in rows:
        left = np.array(row)
        arcs.append(vertices[np.concatenate([mirror[left[:0:-1]], left])])
    return arcs[0], arcs[1], arcs[2]


def _frame(s: float, along: np.ndarray, edge: np.ndarray, toward_gum: np.ndarray, inward: float):
    """Origin on the edge arc at length `s` and axes (rows): along the arc, outwards, towards the gum."""

    def at(values: np.ndarray, x: float) -> np.ndarray:
        return np.array([np.interp(x, along, values[:, c]) for c in range(3)])

    tangent = at(edge, s + 0.003) - at(edge, s - 0.003)
    gum = at(toward_gum, s)
    gum = 0.5 * gum + 0.5 * np.array([0, np.sign(gum[1]), 0])
    tangent -= gum * (tangent @ gum) / (gum @ gum)
    tangent /= np.linalg.norm(tangent)
    gum /= np.linalg.norm(gum)
    outward = np.cross(tangent, gum)
    if outward[2] + abs(outward[0]) * 0.01 < 0 or outward @ (at(edge, s) - edge.mean(axis=0)) < 0:
        outward = -outward
    return at(edge, s) - inward * outward, np.stack([tangent, outward, gum])


def _tooth_shape(tooth: Tooth, squeeze: float, size: float, generator):
    """A tooth around its own origin at the middle of the front edge: points (N, 3) along, out, gumwards; faces;
    height share t (N,) with 0 at the gum."""
    angle = 2 * np.pi * (np.arange(AROUND) + 0.5) / AROUND
    cos, sin = np.cos(angle), np.sin(angle)
    square = (np.abs(cos) ** 3.2 + np.abs(sin) ** 3.2) ** (-1 / 3.2)
    rings, shares = [], []
    for t in np.array([0.0, 0.45, 0.85, 1.0]):
        width = tooth.width * (tooth.neck + (1 - tooth.neck) * np.sin(min(t * 1.25, 1.0) * np.pi / 2))
        depth = tooth.depth * (1 + (tooth.edge - 1) * t)
        if t == 1.0:
            width, depth = width * 0.86, depth * 0.62
        x = 0.5 * width * cos * square
        back = -0.5 * depth + 0.5 * depth * sin * square
        bulge = 0.9 * np.sin(t * np.pi) * (1 - t) - 0.25 * (1 - t)
        rise = tooth.height * (1 - t) + 1.2 * (1 - t)
        droop = tooth.point * (np.abs(cos * square) ** 1.6) * t**3
        if t == 1.0:
            droop = droop + 0.12
        rings.append(np.stack([x, back + bulge, rise + droop], axis=1))
        shares.append(np.full(AROUND, t))
    tip = np.array([[0.0, rings[-1][:, 1].mean(), rings[-1][:, 2].min() - 0.02]])
    points = np.concatenate([*rings, tip]) * [squeeze, size, size]
    turn, lean, long = generator.normal(0, 0.05), generator.normal(0, 0.025), 1 + generator.normal(0, 0.018)
    points[:, 2] = points[:, 2].max() - (points[:, 2].max() - points[:, 2]) * long
    points[:, :2] = points[:, :2] @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    points[:, 0] += lean * points[:, 2]
    faces = []
    for r in range(RINGS - 1):
        for a in range(AROUND):
            b = (a + 1) % AROUND
            i, j, k, m = r * AROUND + a, r * AROUND + b, (r + 1) * AROUND + a, (r + 1) * AROUND + b
            faces += [(i, k, j), (j, k, m)]
    last, top = (RINGS - 1) * AROUND, RINGS * AROUND
    faces += [(last + a, top, last + (a + 1) % AROUND) for a in range(AROUND)]
    return points * 1e-3, np.array(faces), np.concatenate([*shares, [1.0]])


def _gum(places, lines, along, edge, toward_gum, inward, size):
    """A band around the roots: scalloped at the front and the back, (points, faces, uv)."""
    points, uv = [], []
    reach = max(abs(places[0]), abs(places[-1]))
    for s, (height, depth) in zip(places, lines, strict=True):
        origin, axes = _frame(s, along, edge, toward_gum, inward)
        profile = np.array([
            [0, -0.30, height], [0, 0.15, height + 0.7], [0, 0.1, height + 2.5], [0, -1.6, height + 4.5],
            [0, -depth - 1.5, height + 3.0], [0, -depth + 0.2, height + 0.8], [0, -depth + 0.9, height],
        ])  # fmt: skip
        points.append(origin + profile * size * 1e-3 @ axes)
        depth_share = min(abs(s) / reach, 1.0)
        uv += [(depth_share, v) for v in (0.54, 0.64, 0.74, 0.98, 0.98, 0.74, 0.64)]
    rows = len(profile)
    faces = []
    for a in range(len(places) - 1):
        for r in range(rows - 1):
            i, j, k, m = a * rows + r, a * rows + r + 1, (a + 1) * rows + r, (a + 1) * rows + r + 1
            faces += [(i, k, j), (j, k, m)]
    return np.concatenate(points), np.array(faces), np.array(uv)


@cache
def _teeth_texture(decades: int) -> Float[Tensor, "H W 3"]:
    """Enamel above, gum below; u runs from the front teeth to the molars. Enamel yellows with age."""
    height, width = 64, 64
    u = torch.linspace(0, 1, width)[None, :, None].expand(height, width, 1)
    v = torch.linspace(0, 1, height)[:, None, None].expand(height, width, 1)
    age = min(max((decades - 2) / 6, 0.0), 1.0)
    white = torch.tensor([0.93, 0.90, 0.84]) * (1 - age) + torch.tensor([0.86, 0.79, 0.65]) * age
    neck = white * torch.tensor([0.93, 0.87, 0.76])
    rise = (v / 0.5).clamp(0, 1)
    enamel = neck + (white - neck) * (rise / 0.55).clamp(0, 1)
    enamel = enamel * (1 - 0.10 * ((rise - 0.85) / 0.15).clamp(0, 1))
    pink, deep = torch.tensor([0.80, 0.48, 0.46]), torch.tensor([0.62, 0.27, 0.28])
    gum = pink + (deep - pink) * ((v - 0.55) / 0.35).clamp(0, 1)
    shade = 1 - 0.62 * u.clamp(0, 1) ** 1.3
    return torch.where(v < 0.5, enamel, gum) * shade
