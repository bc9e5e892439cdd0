"""Eyes: a ball with a cornea, a painted iris, and the soft shadow that the lids cast on it."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor

from avatar3d.engine.attach import Figure, anchor_nearest, anchored_skin, merge_parts, moving_morphs
from avatar3d.engine.skin_canvas import reference, to_millimetres
from avatar3d.engine.skin_face import LID_LOWER, LID_UPPER
from avatar3d.mesh.normals import vertex_normals
from avatar3d.spec import AvatarSpec
from avatar3d.structures import Material, Mesh, MorphTargets, Part, Skin

TEXTURE = 512
SEGMENTS = 28
RINGS = np.radians([0, 5, 9, 13, 17, 20.5, 23, 25.5, 29, 35, 45, 60, 80, 105])
"""Polar angle from the direction of gaze; the back of the ball is left open."""
IRIS = np.radians(22.5)
"""Polar angle of the iris's rim: 11.2 mm across on the reference's ball."""
IRIS_SHARE = 0.30
"""Radius of the iris's rim in the texture, as a share of its width."""
CORNEA = 0.58
"""Radius of the cornea as a share of the ball's; its center lies so that both meet at the iris's rim."""
BULGE = np.cos(IRIS) - np.sqrt(CORNEA**2 - np.sin(IRIS) ** 2) + CORNEA - 1
"""Height of the cornea over the ball, as a share of the ball's radius."""
CONVERGENCE = np.radians(1.2)

IRIS_COLORS = {
    # sRGB of the rim side and of the pupil side
    "brown": ((0.25, 0.15, 0.09), (0.35, 0.215, 0.12)),
    "dark_brown": ((0.16, 0.09, 0.06), (0.24, 0.14, 0.08)),
    "hazel": ((0.33, 0.30, 0.18), (0.45, 0.28, 0.12)),
    "amber": ((0.40, 0.27, 0.13), (0.48, 0.34, 0.17)),
    "green": ((0.30, 0.38, 0.29), (0.44, 0.43, 0.26)),
    "blue": ((0.30, 0.40, 0.50), (0.47, 0.55, 0.60)),
    "grey": ((0.38, 0.40, 0.41), (0.48, 0.485, 0.48)),
}


def make_eyes(spec: AvatarSpec, figure: Figure) -> list[Part]:
    """The parts `eyes` (both balls, which turn with their joints and with eyeLook shapes) and `eye_shadows`."""
    image, orm = eye_texture(spec)
    ball = Material("eyes", base_color_texture=image, orm_texture=orm, roughness=1.0)
    shade = Material(
        "eye_shadows", base_color=(0.09, 0.045, 0.035, 1.0), base_color_texture=shadow_texture(), roughness=0.9,
        alpha_mode="BLEND", double_sided=True,
    )  # fmt: skip
    balls = [_ball(figure, side, ball) for side in ("left", "right")]
    shades = [_lid_shadow(figure, side, lid, shade) for side in ("left", "right") for lid in ("upper", "lower")]
    return [merge_parts(balls, "eyes"), merge_parts(shades, "eye_shadows")]


def _ball(figure: Figure, side: str, material: Material) -> Part:
    body = figure.body
    old = body.template.surface_vertices(f"eye_{side}")
    center = body.bone(f"{side}Eye")
    points = body.vertices[old]
    half = (points.max(0).values - points.min(0).values) / 2
    # the cornea stands out in front: take the depth of the ball itself from its width and height
    axes = torch.stack([half[0], half[1], (half[0] + half[1]) / 2])
    unit, faces, uv = _unit_ball()
    turned = unit @ _gaze(figure, side, float(axes[2])).T
    vertices = center + turned * axes
    normals = vertex_normals(vertices, faces)
    joints = torch.zeros(len(vertices), 4, dtype=torch.long)
    joints[:, 0] = figure.joint(f"{side}Eye")
    weights = torch.zeros(len(vertices), 4)
    weights[:, 0] = 1.0
    mesh = Mesh(vertices, faces, normals, uv, material)
    return Part(f"eye_{side}", "eyes", mesh, Skin(joints, weights), _turning(figure, old, center, vertices))


@cache
def _unit_ball() -> tuple[Tensor, Tensor, Tensor]:
    """(vertices (V, 3) on the unit ball looking along +Z, faces, uv); the first vertex is the pole."""
    angle = np.linspace(0, 2 * np.pi, SEGMENTS, endpoint=False)
    ahead = 1 + BULGE - CORNEA
    radius = ahead * np.cos(RINGS) + np.sqrt(np.maximum(CORNEA**2 - (ahead * np.sin(RINGS)) ** 2, 0))
    radius = np.where(RINGS < IRIS, radius, 1.0)
    share = np.where(RINGS <= IRIS, IRIS_SHARE * RINGS / IRIS, 0)
    share = share + (RINGS > IRIS) * (IRIS_SHARE + (0.49 - IRIS_SHARE) * (RINGS - IRIS) / (RINGS[-1] - IRIS))
    vertices, uv = [[0, 0, radius[0]]], [[0.5, 0.5]]
    for theta, r, s in zip(RINGS[1:], radius[1:], share[1:], strict=True):
        for a in angle:
            x, y = np.cos(a), np.sin(a)
            vertices.append([r * np.sin(theta) * x, r * np.sin(theta) * y, r * np.cos(theta)])
            uv.append([0.5 + s * x, 0.5 - s * y])
    faces = [[0, 1 + i, 1 + (i + 1) % SEGMENTS] for i in range(SEGMENTS)]
    for ring in range(len(RINGS) - 2):
        a, b = 1 + ring * SEGMENTS, 1 + (ring + 1) * SEGMENTS
        for i in range(SEGMENTS):
            j = (i + 1) % SEGMENTS
            faces += [[a + i, b + i, b + j], [a + i, b + j, a + j]]
    return torch.tensor(vertices).float(), torch.tensor(faces), torch.tensor(uv).float()


def _gaze(figure: Figure, side: str, radius: float) -> Tensor:
    """(3, 3) rotation of the ball at rest: ahead, a little inwards, the iris's height set by the lids."""
    upper, lower = (_lid_vertices(side, lid)[6] for lid in ("upper", "lower"))
    top, bottom = (float(figure.vertices[v, 1]) for v in (upper, lower))
    target = 0.59 * top + 0.41 * bottom - float(figure.body.bone(f"{side}Eye")[1])
    pitch = -np.arcsin(np.clip(target / radius, -0.2, 0.1))
    yaw = -CONVERGENCE if side == "left" else CONVERGENCE
    cp, sp, cy, sy = np.cos(pitch), np.sin(pitch), np.cos(yaw), np.sin(yaw)
    down = torch.tensor([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    inwards = torch.tensor([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    return (inwards @ down).float()


def _turning(figure: Figure, old: Tensor, center: Tensor, vertices: Tensor) -> MorphTargets | None:
    """Face shapes that turn the template's eyeball, as the same rigid motions of ours."""
    deltas = torch.zeros(len(figure.actions), len(vertices), 3)
    before = figure.vertices[old] - center
    for k in (figure.actions[:, old].norm(dim=-1).amax(1) > 1e-5).nonzero()[:, 0]:
        after = before + figure.actions[k, old]
        u, _, vt = torch.linalg.svd((before - before.mean(0)).T @ (after - after.mean(0)))
        flip = torch.diag(torch.tensor([1.0, 1.0, float(torch.det(vt.T @ u.T).sign())]))
        turn = vt.T @ flip @ u.T
        deltas[k] = (vertices - center) @ (turn - torch.eye(3)).T
    return moving_morphs(figure, deltas)


@cache
def _lid_vertices(side: str, lid: str) -> tuple[int, ...]:
    """Welded vertices along one lid's margin from the inner to the outer corner (found on the reference)."""
    body = reference()
    skin = body.template.surface_vertices("body").numpy()
    p = to_millimetres(body.vertices.numpy()[skin])
    sign = 1.0 if side == "left" else -1.0
    front = np.flatnonzero((p[:, 2] > -2) & (sign * p[:, 0] > 0))
    curve = LID_UPPER if lid == "upper" else LID_LOWER
    xs = np.linspace(17.0, 42.3, 13)
    chosen: list[int] = []
    for x in xs:
        target = np.array([sign * x, np.interp(x, curve[:, 0], curve[:, 1])])
        cost = ((p[front, :2] - target) ** 2).sum(1) - 0.02 * p[front, 2]
        vertex = int(skin[front[cost.argmin()]])
        if vertex not in chosen:
            chosen.append(vertex)
    return tuple(chosen)


def _lid_shadow(figure: Figure, side: str, lid: str, material: Material) -> Part:
    """A strip on the eyeball that starts under a lid's margin and fades out over a few millimetres."""
    rim = torch.tensor(_lid_vertices(side, lid))
    center = figure.body.bone(f"{side}Eye")
    old = figure.vertices[figure.body.template.surface_vertices(f"eye_{side}")]
    half = (old.max(0).values - old.min(0).values) / 2
    size = float(half[0]) / 0.0149
    reach = (0.0042 if lid == "upper" else 0.0022) * size
    sign = -1.0 if lid == "upper" else 1.0
    rows = (-0.35, 0.3, 1.0)

    def strip(margin: Tensor) -> Tensor:
        layers = []
        for share in rows:
            p = margin - center
            p = p + torch.tensor([0.0, sign * share * reach, 0.0])
            flat = p[..., :2] / half[:2]
            depth = (1 - (flat**2).sum(-1)).clamp_min(0.02).sqrt() * (half[0] + half[1]) / 2
            lift = 1 + 0.6 * BULGE
            layers.append(torch.cat([p[..., :2], depth[..., None] * lift + 0.0002], -1) + center)
        return torch.cat(layers, dim=-2)

    vertices = strip(figure.vertices[rim])
    n = len(rim)
    faces = []
    for row in range(len(rows) - 1):
        for i in range(n - 1):
            a, b = row * n + i, (row + 1) * n + i
            faces += [[a, b, b + 1], [a, b + 1, a + 1]]
    faces_t = torch.tensor(faces)
    u = torch.linspace(0, 1, n).repeat(len(rows))
    top = 0.02 if lid == "upper" else 0.35
    v = torch.tensor([top, 0.5 * (top + 0.98), 0.98]).repeat_interleave(n)
    deltas = strip(figure.vertices[rim] + figure.actions[:, rim]) - vertices
    anchor = anchor_nearest(figure, vertices)
    normals = torch.nn.functional.normalize(vertices - center, dim=1)
    mesh = Mesh(vertices, faces_t, normals, torch.stack([u, v], 1), material)
    return Part(f"shadow_{side}_{lid}", "eyes", mesh, anchored_skin(figure, anchor), moving_morphs(figure, deltas))


@cache
def shadow_texture() -> Tensor:
    """(32, 32, 4) white whose alpha fades from the lid (top) to nothing, and towards both corners."""
    v = torch.linspace(0, 1, 32)[:, None]
    u = torch.linspace(0, 1, 32)[None, :]
    alpha = 0.62 * (1 - v) ** 1.6 * (0.75 + 0.25 * (2 * u - 1).abs())
    return torch.cat([torch.ones(32, 32, 3), alpha[..., None]], dim=2)


def eye_texture(spec: AvatarSpec) -> tuple[Tensor, Tensor]:
    """Color (H, W, 3) and occlusion-roughness-metallic (64, 64, 3) of both eyes."""
    rng = np.random.default_rng([spec.seed, 7203])
    radius, angle, across, up = _polar()
    rho = radius / IRIS_SHARE
    outer, inner = (np.array(c) for c in IRIS_COLORS[spec.eye_color])
    tint = 1 + rng.normal(0, 0.03, 3)
    outer, inner = outer * tint, inner * tint
    pupil = 0.36 + rng.uniform(-0.02, 0.03)
    fibres = _rays(rng, angle, 46) * 0.55 + _rays(rng, angle + 0.6 * rho, 90) * 0.45
    crypts = _rays(rng, angle, 17)
    collar = pupil + 0.20 + 0.05 * crypts
    blend = np.clip((rho - collar) / 0.22 + 0.5, 0, 1)[..., None]
    iris = inner * (1 - blend) + outer * blend
    light = 1 + 0.55 * fibres * np.clip((rho - pupil) * 4, 0, 1) + 0.16 * crypts
    light += 0.22 * np.exp(-(((rho - collar) / 0.07) ** 2))
    # light enters from above and gathers on the far, lower side of the iris
    light *= 1.0 + 0.34 * np.clip(-up / IRIS_SHARE, -1, 1) * np.clip(rho, 0, 1)
    light *= 1 - 0.72 * _smooth(rho, 0.80, 1.0)
    iris = np.clip(iris * np.clip(light, 0.15, 2.2)[..., None], 0, 1)
    iris = iris * _smooth(rho, pupil - 0.035, pupil + 0.045)[..., None] * 0.994 + 0.006
    iris = iris * (1 - 0.35 * np.exp(-(((rho - pupil) / 0.07) ** 2)))[..., None]
    old = float(np.clip((spec.age - 40) / 50, 0, 1))
    child = float(np.clip((14 - spec.age) / 8, 0, 1))
    away = np.clip((radius - IRIS_SHARE) / (0.49 - IRIS_SHARE), 0, 1)
    white = (
        np.array([0.86, 0.835, 0.80]) - old * np.array([0.02, 0.045, 0.10]) + child * np.array([-0.01, 0.0, 0.03])
    )
    corner = away * (np.abs(across) / np.maximum(radius, 1e-6)) ** 2
    red = np.clip(1.7 * corner, 0, 1) * (0.55 + 0.3 * old)
    veins = _veins(rng, angle, away) * np.clip(away * 4, 0, 1) * (0.30 + 0.25 * old)
    sclera = white * (1 - 0.34 * _smooth(away, 0.25, 0.95)[..., None])
    sclera = (
        sclera - red[..., None] * np.array([0.05, 0.17, 0.16]) - veins[..., None] * np.array([0.06, 0.24, 0.22])
    )
    mix = _smooth(rho, 0.955, 1.075)[..., None]
    image = iris * (1 - mix) + np.clip(sclera, 0, 1) * mix
    image = image + (0.97 - image) * np.minimum(_catchlight(across, up), 1)[..., None]
    orm = np.ones((64, 64, 3), dtype=np.float32)
    orm[..., 1] = np.where(rho[4::8, 4::8] < 1.1, 0.08, 0.20)
    # the iris lies in a hollow: little of the sky reaches it
    orm[..., 0] = np.where(rho[4::8, 4::8] < 0.9, 0.55, 1.0)
    orm[..., 2] = 0.0
    return torch.from_numpy(image.astype(np.float32)), torch.from_numpy(orm)


def _catchlight(across: np.ndarray, up: np.ndarray) -> np.ndarray:
    """(H, W) the reflection of a window, painted: lids shade the cornea from most lamps."""
    x, y = across / IRIS_SHARE, up / IRIS_SHARE
    window = np.maximum(np.abs(x + 0.30) / 0.145, np.abs(y - 0.33 + 0.15 * x) / 0.165)
    glow = np.hypot(x - 0.34, y + 0.42) / 0.20
    return 0.92 * _smooth(window, 1.15, 0.75) + 0.16 * _smooth(glow, 1.0, 0.2)


@cache
def _polar() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Radius, angle, x (to the nose's far side) and y (up) at each texel of the eye texture."""
    axis = (np.arange(TEXTURE) + 0.5) / TEXTURE - 0.5
    x, y = axis[None, :] + np.zeros((TEXTURE, 1)), -axis[:, None] + np.zeros((1, TEXTURE))
    return np.hypot(x, y), np.arctan2(y, x), x, y


def _smooth(x: np.ndarray, low: float, high: float) -> np.ndarray:
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def _rays(rng: np.random.Generator, angle: np.ndarray, count: int) -> np.ndarray:
    """Periodic smooth noise in [-1, 1] over the angle with `count` knots."""
    knots = rng.uniform(-1, 1, count)
    position = (angle / (2 * np.pi) % 1.0) * count
    left = position.astype(int) % count
    t = position - np.floor(position)
    t = t * t * (3 - 2 * t)
    return knots[left] * (1 - t) + knots[(left + 1) % count] * t


def _veins(rng: np.random.Generator, angle: np.ndarray, away: np.ndarray) -> np.ndarray:
    """Thin wandering lines that run from the rim of the ball towards the iris."""
    total = np.zeros_like(angle)
    for _ in range(3):
        wander = angle + 0.10 * np.sin(9 * away + rng.uniform(0, 6)) + 0.05 * np.sin(23 * away + rng.uniform(0, 6))
        total += np.clip(1 - np.abs(_rays(rng, wander, 30)) / 0.10, 0, 1) * np.clip(
            away * 2 - rng.uniform(0, 0.6), 0, 1
        )
    return np.clip(total, 0, 1)
