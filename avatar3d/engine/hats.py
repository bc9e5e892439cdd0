"""Beanies, caps, fedoras and headscarves, built on the measured head."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from avatar3d.engine.attach import Figure, rigid_skin
from avatar3d.engine.colors import Rgb, color_rgb, luminance, shaded
from avatar3d.engine.fabrics import cloth_material
from avatar3d.engine.garment import Worn
from avatar3d.engine.garment_fields import joint_weight, reference, template_fields
from avatar3d.engine.garment_fit import Layers
from avatar3d.engine.garment_solids import Solid, disc, join, loft, solid_part, tube
from avatar3d.engine.headscarf import make_headscarf
from avatar3d.engine.headwear_line import HAIR_CLEARANCE, hat_plane
from avatar3d.spec import AvatarSpec
from avatar3d.structures import Material, Part

Array = np.ndarray

AROUND = 48
COLLARS = ("shirt", "hoodie", "jacket", "suit")
"""Tops into whose collar a headscarf is tucked."""
SHAVED = ("bald", "balding", "buzz")


@dataclass(frozen=True)
class Head:
    """The skull above and a little below the hat's line, in a frame of its own."""

    center: Array
    axes: Array
    """(3, 3) rows: left, up (the crown), forward."""
    directions: Array
    """(M, 3) unit directions of scalp points in the frame, and their distances."""
    radii: Array
    clearance: float

    def radius(self, direction: Array) -> Array:
        """Distance of the scalp along directions (..., 3) of the frame, smoothed over some square centimetres."""
        flat = direction.reshape(-1, 3)
        distance, near = cKDTree(self.directions).query(flat, k=14)
        weight = 1.0 / (distance + 0.06) ** 2
        mean = (self.radii[near] * weight).sum(1) / weight.sum(1)
        return np.maximum(mean, self.radii[near].max(1) - 0.004).reshape(direction.shape[:-1])

    def dome(self, turn: Array, rise: Array, out: Array | float) -> Array:
        """World points (..., 3): turn 0 is the front, a quarter the left; rise from 0 (line) to pi/2 (crown)."""
        d = np.stack(
            np.broadcast_arrays(np.sin(turn) * np.cos(rise), np.sin(rise), np.cos(turn) * np.cos(rise)), axis=-1
        )
        length = self.radius(d) + self.clearance + out
        return self.world(d * length[..., None])

    def world(self, local: Array) -> Array:
        """Frame to world."""
        return self.center + local @ self.axes


def measure_head(spec: AvatarSpec, figure: Figure) -> Head:
    """The head in the frame of the hat's line."""
    front, up = (np.asarray(a, np.float64) for a in hat_plane(figure))
    left = np.array([1.0, 0.0, 0.0])
    up = up - (up @ left) * left
    up /= np.linalg.norm(up)
    axes = np.stack([left, up, np.cross(left, up)])
    p = figure.vertices.numpy().astype(np.float64)[_scalp()]
    local = (p - front) @ axes.T
    rim = np.abs(local[:, 1]) < 0.015
    middle = (local[rim, 2].max() + local[rim, 2].min()) / 2
    center = front + np.array([0.0, 0.0, middle]) @ axes
    center[0] = 0.0
    local = (p - center) @ axes.T
    local = local[local[:, 1] > -0.035]
    radii = np.linalg.norm(local, axis=1)
    clearance = 0.005 if spec.hair_style in SHAVED else HAIR_CLEARANCE + 0.001
    return Head(center, axes, local / radii[:, None], radii, clearance)


def _scalp() -> Array:
    """Template vertices of the head without ears and the face below the brows."""
    f = template_fields()
    head = (joint_weight("head") > 0.5) & (f.y > 1.55)
    ear = (np.abs(f.x) > 0.066) & (f.y < 1.625)
    inside = (f.z > 0.05) & (f.y < 1.60)
    return np.intersect1d(np.flatnonzero(head & ~ear & ~inside), reference().skin_vertices)


def make_hat(spec: AvatarSpec, figure: Figure, layers: Layers) -> Worn:
    """The spec's headwear; nothing when it has none."""
    bare = np.zeros(len(figure.vertices), bool)
    if spec.hat == "none":
        return Worn([], bare)
    color = color_rgb(spec.hat_color)
    if spec.hat == "headscarf":
        return make_headscarf(color, figure, layers, spec.top in COLLARS)
    head = measure_head(spec, figure)
    make = {"beanie": _beanie, "cap": _cap, "fedora": _fedora}[spec.hat]
    return Worn([_rigid(figure, name, solids, m) for name, solids, m in make(head, color)], bare)


def _rigid(figure: Figure, name: str, solids: list[Solid], material: Material) -> Part:
    solid = join(solids)
    return solid_part(name, "hat", solid, material, rigid_skin(figure, len(solid.points)))


def _turns() -> Array:
    return 2 * np.pi * np.arange(AROUND) / AROUND


def _shell(head: Head, rises: Array, outs: Array) -> Array:
    """(R, AROUND, 3) rings of a dome."""
    return head.dome(_turns()[None], rises[:, None], outs[:, None])


def _beanie(head: Head, color: Rgb) -> list[tuple[str, list[Solid], Material]]:
    rise = np.concatenate([np.linspace(0.22, 1.35, 13), [1.46, 1.53, np.pi / 2 - 0.002]])
    slack = 0.010 + 0.012 * np.sin(np.clip((rise - 0.3) / 1.27, 0, 1) * np.pi / 2) ** 2
    grid = _shell(head, rise, slack)
    turn = _turns()
    gather = 0.0035 * np.sin(12 * turn) * np.clip((rise - 1.0) / 0.5, 0, 1)[:, None]
    grid = grid + gather[..., None] * (grid - head.center) / np.linalg.norm(
        grid - head.center, axis=2, keepdims=True
    )
    crown = loft(grid, closed=True)
    rows = [(-0.10, 0.002), (-0.115, 0.008), (-0.10, 0.014), (0.0, 0.0165), (0.12, 0.0170), (0.25, 0.0165),
            (0.335, 0.0150), (0.345, 0.0115), (0.325, 0.009)]  # fmt: skip
    cuff = loft(_shell(head, np.array([r for r, _ in rows]), np.array([o for _, o in rows])), closed=True)
    return [
        ("beanie", [crown], cloth_material("beanie", "rib", color)),
        ("beanie_cuff", [cuff], cloth_material("beanie_cuff", "rib", shaded(color, 0.92))),
    ]


def _cap(head: Head, color: Rgb) -> list[tuple[str, list[Solid], Material]]:
    rise = np.concatenate([np.linspace(-0.03, 1.4, 15), [1.5, np.pi / 2 - 0.002]])
    turn = _turns()
    front = np.clip(np.cos(turn), 0, 1)[None] ** 1.5
    lift = (
        0.004 + 0.014 * front * np.sin(np.clip(rise / 1.1, 0, 1) * np.pi)[:, None] + 0.004 * np.sin(rise)[:, None]
    )
    grid = head.dome(turn[None], rise[:, None], lift)
    inner = head.dome(turn, np.full(AROUND, 0.06), 0.0)
    crown = loft(np.concatenate([inner[None], grid]), closed=True)
    seams = []
    for k in range(6):
        t = np.full(10, k * np.pi / 3 + np.pi / 6)
        r = np.linspace(-0.02, 1.55, 10)
        f = np.clip(np.cos(t), 0, 1) ** 1.5
        o = 0.0046 + 0.014 * f * np.sin(np.clip(r / 1.1, 0, 1) * np.pi) + 0.004 * np.sin(r)
        seams.append(tube(head.dome(t, r, o), 0.0011, 3))
    top = head.dome(np.array([0.0]), np.array([np.pi / 2 - 0.002]), 0.008)[0]
    button = disc(top, head.axes[1], 0.008, 0.005, 12)
    return [
        ("cap", [crown], cloth_material("cap", "twill", color)),
        ("cap_brim", [_visor(head), *seams, button], cloth_material("cap_brim", "twill", shaded(color, 0.86))),
    ]


def _visor(head: Head) -> Solid:
    """The peak of a cap: from the front of the rim, curved down at its sides."""
    angle = np.linspace(-1.0, 1.0, 21)
    share = np.linspace(0, 1, 6)[:, None]
    root = head.dome(angle, np.full(len(angle), 0.01), 0.001)
    local = (root - head.center) @ head.axes.T
    reach = 0.074 * np.cos(angle * 1.54) ** 0.6
    side = angle[None]
    out = np.stack(
        [
            local[None, :, 0] * (1 + 0.06 * share * (1 - side**2)),
            local[None, :, 1] - 0.012 * share - 0.016 * side**2 * share,
            local[None, :, 2] + share * reach[None],
        ],
        axis=-1,
    )
    top = head.world(out)
    bottom = head.world(out - np.array([0.0, 0.004, 0.0]))
    edge = np.concatenate([top, bottom[::-1]])
    return loft(edge, flip=True)


def _fedora(head: Head, color: Rgb) -> list[tuple[str, list[Solid], Material]]:
    band = shaded(color, 0.35) if luminance(color) > 0.12 else (0.30, 0.30, 0.31)
    return [
        ("fedora", [_fedora_crown(head), _fedora_brim(head)], cloth_material("fedora", "felt", color)),
        ("fedora_band", _fedora_band(head), cloth_material("fedora_band", "canvas", band)),
    ]


DENT = 0.014
"""Depth of a fedora's dent, metres."""


def _fedora_rim(head: Head, turn: Array) -> Array:
    """(T, 3) local points where the crown meets the brim."""
    return (head.dome(turn, np.full(len(turn), 0.02), 0.003) - head.center) @ head.axes.T


def _fedora_tall(head: Head) -> float:
    """Height of the crown: the dent stays clear of the scalp."""
    return float(head.radius(np.array([[0.0, 1.0, 0.0]]))[0]) + head.clearance + DENT + 0.002


def _fedora_ring(head: Head, turn: Array, scale: float, level: float) -> Array:
    """(T, 3) local points of the crown's side at a share of its height, pinched at the front."""
    rim, tall, forward = _fedora_rim(head, turn), _fedora_tall(head), np.cos(turn)
    aside = np.abs(np.pi - np.abs(turn - np.pi))
    pinch = 0.42 * np.clip(level - 0.35, 0, 1) * np.exp(-(((aside - 0.62) / 0.30) ** 2))
    ring = rim * np.array([scale, 0.0, scale]) * (1 - pinch)[:, None]
    ring[:, 1] = rim[:, 1] * (1 - level) + level * tall * (1 + 0.05 * forward)
    return ring


def _fedora_scale(level: float) -> float:
    """How far a fedora's crown has drawn in at a share of its height."""
    return 1.0 - 0.16 * level


def _fedora_crown(head: Head) -> Solid:
    turn = _turns()
    rows = [_fedora_ring(head, turn, _fedora_scale(t), t) for t in np.linspace(0, 0.86, 7)]
    rows += [
        _fedora_ring(head, turn, s, t) for s, t in ((0.845, 0.92), (0.81, 0.965), (0.755, 0.992), (0.69, 1.0))
    ]
    size = np.abs(rows[0][:, 2]).max()
    for s in (0.60, 0.50, 0.38, 0.22, 0.02):
        ring = _fedora_ring(head, turn, s, 1.0)
        wide = 0.26 - 0.12 * np.clip(ring[:, 2] / size, -0.6, 0.8)  # a teardrop, its point to the front
        deep = np.clip((0.70 - s) / 0.3, 0, 1)
        ring[:, 1] -= DENT * deep * np.exp(-((np.abs(ring[:, 0]) / (wide * size)) ** 4))
        rows.append(ring)
    return loft(head.world(np.stack(rows)), closed=True)


def _fedora_brim(head: Head) -> Solid:
    """Down in front, turned up at the sides and behind."""
    turn = _turns()
    rim, forward = _fedora_rim(head, turn), np.cos(turn)
    scale = np.abs(rim[:, 2]).max() / 0.105
    outward = rim * np.array([1.0, 0.0, 1.0])
    outward /= np.linalg.norm(outward, axis=1, keepdims=True)
    bend = 0.014 * np.sin(turn) ** 2 - 0.013 * np.clip(forward, 0, 1) ** 2 + 0.024 * np.clip(-forward, 0, 1) ** 2

    def ring(reach: float, drop: float) -> Array:
        rise = scale * bend * (reach / 0.060) ** 1.7 - drop
        return rim + scale * reach * outward + rise[:, None] * np.array([0.0, 1.0, 0.0])

    reaches = (0.0, 0.012, 0.026, 0.040, 0.053, 0.058, 0.060)
    rows = [ring(r, 0.0) for r in reaches] + [ring(r, 0.0035) for r in reaches[::-1]]
    return loft(head.world(np.stack(rows)), closed=True, flip=True)


def _fedora_band(head: Head) -> list[Solid]:
    """A ribbon around the crown, and its flat bow on the left."""

    def row(turn: Array, level: float, out: float) -> Array:
        return _fedora_ring(head, turn, _fedora_scale(level) * out, level)

    ribbon = [
        row(_turns(), t, k) for t, k in ((0.0, 1.0), (0.015, 1.022), (0.15, 1.022), (0.28, 1.022), (0.29, 1.0))
    ]
    solids = [loft(head.world(np.stack(ribbon)), closed=True)]
    for first, last, half, bulge in (
        (0.04, 0.34, 0.15, 0.06),
        (-0.34, -0.04, 0.15, 0.06),
        (-0.06, 0.06, 0.10, 0.08),
    ):
        share = np.linspace(0, 1, 9)
        turn = np.pi / 2 + first + (last - first) * share
        half_here = half * (1 - 0.5 * np.exp(-((np.abs(turn - np.pi / 2) / 0.11) ** 2)) * (bulge < 0.07))
        out = _fedora_scale(0.15) * (1.022 + bulge * np.sin(np.pi * share) ** 0.5)
        knots = list(zip(turn, out, half_here, strict=True))
        grid = [[_fedora_ring(head, np.array([t]), o, 0.15 + side * h)[0] for t, o, h in knots]
                for side in (-1.0, -0.5, 0.0, 0.5, 1.0)]  # fmt: skip
        solids.append(loft(head.world(np.array(grid))))
    return solids
