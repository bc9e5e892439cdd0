"""Glasses and sunglasses, fitted to the nose, the eyes and the ears of every face."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from avatar3d.engine.attach import Figure, rigid_skin
from avatar3d.engine.colors import color_rgb, shaded
from avatar3d.engine.glasses_fit import Fit, Style, fit_glasses
from avatar3d.engine.glasses_ride import riding
from avatar3d.engine.tubes import ball, joined, mirrored, profile, sweep
from avatar3d.mesh.normals import vertex_normals
from avatar3d.spec import AvatarSpec
from avatar3d.structures import Material, Mesh, Part

RIM_POINTS = 40
SIDES = 8

ACETATE = {
    # millimetres on a face of 62 mm between the pupils
    "round": Style(46.0, 44.5, 2.0, 3.2, 3.4, 0.0),
    "square": Style(48.5, 40.0, 3.3, 3.7, 3.8, 0.0),
    "rectangular": Style(51.0, 30.0, 3.8, 3.3, 3.6, 0.0),
    "cat_eye": Style(50.0, 36.0, 2.6, 3.5, 3.8, 1.0),
    "aviator": Style(55.0, 48.0, 2.4, 1.5, 1.8, 0.0),
}
WIRE = 1.8
"""Millimetres across of a metal rim."""


@dataclass(frozen=True)
class Frame:
    """The pieces that all frames are joined from."""

    style: Style
    fit: Fit
    metal: bool

    @property
    def unit(self) -> float:
        """Metres per drawn millimetre."""
        return self.fit.unit


def make_glasses(spec: AvatarSpec, figure: Figure) -> list[Part]:
    """The parts `glasses_frame`, `glasses_pads` (metal frames) and `glasses_lenses`; none without glasses."""
    if spec.glasses == "none":
        return []
    metal = spec.glasses == "aviator" or spec.glasses_color in ("gold", "silver")
    style = ACETATE[spec.glasses]
    if metal:
        style = Style(style.width, style.height, style.square, WIRE, WIRE * 1.15, style.lift)
    fit = fit_glasses(figure, style, spec.glasses == "aviator")
    frame = Frame(style, fit, metal)
    pieces = [*_both(_rim(frame)), *_both(_temple(frame)), *_both(_hinge(frame)), *_bridges(frame, spec.glasses)]
    pads = _both(_pad(frame))
    if metal:
        pieces += _both(_pad_arm(frame))
    material = frame_material(spec, metal)
    soft = Material("glasses_pads", base_color=(0.80, 0.76, 0.70, 0.35), roughness=0.3, alpha_mode="BLEND")
    parts = [joined(pieces if metal else [*pieces, *pads], material)]
    names = ["glasses_frame"]
    if metal:
        parts.append(joined(pads, soft))
        names.append("glasses_pads")
    parts.append(_lenses(frame, lens_material(spec)))
    names.append("glasses_lenses")
    skins = [rigid_skin(figure, len(m.vertices)) for m in parts]
    return riding(figure, [Part(n, "glasses", m, s) for n, m, s in zip(names, parts, skins, strict=True)])


def frame_material(spec: AvatarSpec, metal: bool) -> Material:
    """Polished metal or acetate in the spec's color."""
    if not metal:
        return Material("glasses_frame", base_color=(*color_rgb(spec.glasses_color), 1.0), roughness=0.22)
    tones = {"gold": (0.92, 0.74, 0.42), "silver": (0.82, 0.83, 0.85), "black": (0.16, 0.16, 0.17)}
    color = tones.get(spec.glasses_color, shaded(color_rgb(spec.glasses_color), 1.15))
    return Material("glasses_frame", base_color=(*color, 1.0), roughness=0.28, metallic=0.9)


def lens_material(spec: AvatarSpec) -> Material:
    """Clear lenses with a faint streak of reflected light, or dark ones that lighten towards the cheek."""
    v = np.linspace(0, 1, 64)[:, None]
    u = np.linspace(0, 1, 64)[None, :]
    slant = u + 0.55 * v
    streak = np.exp(-(((slant - 0.34) / 0.10) ** 2)) + 0.5 * np.exp(-(((slant - 0.56) / 0.03) ** 2))
    image = np.ones((64, 64, 4), dtype=np.float32)
    if spec.lenses == "clear":
        image[..., :3] = np.minimum(np.array([0.45, 0.50, 0.53]) + (0.5 * np.minimum(streak, 1))[..., None], 1)
        image[..., 3] = 0.025 + 0.07 * streak * (1 - 0.8 * v)
    else:
        tint = np.array([0.060, 0.052, 0.048])
        image[..., :3] = tint + (0.10 * streak * (1 - v))[..., None] + 0.05 * v[..., None]
        image[..., 3] = 0.97 - 0.15 * v**1.5
    return Material(
        f"lenses_{spec.lenses}",
        base_color_texture=torch.from_numpy(image),
        roughness=0.06,
        alpha_mode="BLEND",
        double_sided=True,
    )


def _both(piece: tuple[np.ndarray, np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    return [piece, mirrored(*piece)]


def _rim(frame: Frame) -> tuple[np.ndarray, np.ndarray]:
    path, outward = frame.fit.rim(frame.style, RIM_POINTS)
    width, depth = frame.style.rim * frame.unit, frame.style.depth * frame.unit
    scale = np.ones((RIM_POINTS, 2))
    if not frame.metal:
        # thicker above, and at the outer corner of cat eyes
        angle = 2 * np.pi * np.arange(RIM_POINTS) / RIM_POINTS
        scale[:, 0] = 1.0 + 0.22 * np.sin(angle) + 0.4 * frame.style.lift * np.exp(-(((angle - 0.55) / 0.4) ** 2))
    section = profile(width, depth, 6 if frame.metal else SIDES, 2.0 if frame.metal else 3.6)
    return sweep(path, outward, section, closed=True, scale=scale)


def _temple(frame: Frame) -> tuple[np.ndarray, np.ndarray]:
    path = frame.fit.temple
    thin, tall = (1.4, 1.7) if frame.metal else (2.3, 5.4)
    section = profile(thin * frame.unit, tall * frame.unit, SIDES, 2.0 if frame.metal else 3.4)
    along = np.linspace(0, 1, len(path))
    scale = np.ones((len(path), 2))
    if not frame.metal:
        scale[:, 1] = np.interp(along, [0, 0.15, 0.6, 1.0], [1.05, 0.85, 0.62, 0.85])
        scale[:, 0] = np.interp(along, [0, 0.6, 1.0], [1.0, 0.9, 0.95])
    else:
        scale[:] = np.interp(along, [0, 0.72, 0.78, 1.0], [1.0, 1.0, 1.7, 1.5])[:, None]
    return sweep(path, np.tile([1.0, 0.0, 0.0], (len(path), 1)), section, scale=scale)


def _hinge(frame: Frame) -> tuple[np.ndarray, np.ndarray]:
    """The end piece: a short bar from the rim around to the temple."""
    path = frame.fit.end_piece
    tall = (2.2 if frame.metal else 5.0) * frame.unit
    thick = (1.5 if frame.metal else 2.8) * frame.unit
    up = np.tile([0.0, 1.0, 0.0], (len(path), 1))
    return sweep(path, up, profile(tall, thick, SIDES, 3.4))


def _bridges(frame: Frame, shape: str) -> list[tuple[np.ndarray, np.ndarray]]:
    fit = frame.fit
    up = np.tile([0.0, 1.0, 0.0], (len(fit.bridge), 1))
    if frame.metal:
        section = profile(1.6 * frame.unit, 1.6 * frame.unit, SIDES)
    else:
        section = profile(fit.bridge_height, fit.bridge_depth, SIDES, 2.6)
    pieces = [sweep(fit.bridge, up, section)]
    if shape == "aviator":
        pieces.append(sweep(fit.bar, up[: len(fit.bar)], section))
    return pieces


def _pad(frame: Frame) -> tuple[np.ndarray, np.ndarray]:
    center, normal = frame.fit.pad
    if not frame.metal:
        # part of the rim: a swelling at its inner edge that reaches back to the nose
        path, _ = frame.fit.rim(frame.style, RIM_POINTS)
        inner = path[np.where(path[:, 0] < frame.fit.center[0], np.abs(path[:, 1] - center[1]), 1).argmin()]
        center = inner + np.array([-0.5 * frame.style.rim, 0, -0.35 * frame.style.depth]) * frame.unit
        clear = (center - frame.fit.pad[0]) @ frame.fit.pad[1]
        center = center + max(0.0, 1.4 * frame.unit - clear) * frame.fit.pad[1]
        normal = np.array([0.75, 0.0, 0.66])
        axes = np.stack([[0.3, 0, -0.95] * np.array(2.2), [0.12, 4.0, 0], normal * 1.5]) * frame.unit
        return ball(center, axes)
    up = np.array([0.12, 1.0, -0.25])
    up = up - (up @ normal) * normal
    up /= np.linalg.norm(up)
    axes = np.stack([np.cross(up, normal) * 2.0, up * 4.2, normal * 0.8]) * frame.unit
    return ball(center, axes)


def _pad_arm(frame: Frame) -> tuple[np.ndarray, np.ndarray]:
    path = frame.fit.pad_arm
    up = np.tile([0.0, 1.0, 0.3], (len(path), 1))
    return sweep(path, up, profile(0.8 * frame.unit, 0.8 * frame.unit, 6))


def _lenses(frame: Frame, material: Material) -> Mesh:
    """Both lenses, slightly domed, as fans over the rims."""
    edge, _ = frame.fit.rim(frame.style, RIM_POINTS)
    middle = frame.fit.on_lens(frame.fit.center[None])[0]
    inner = 0.5 * (edge + middle) + np.array([0, 0, 0.0012]) * frame.unit / 1e-3
    left = np.concatenate([middle[None] + np.array([0, 0, 0.0016]) * frame.unit / 1e-3, inner, edge])
    n = RIM_POINTS
    i = np.arange(n)
    j = (i + 1) % n
    faces = np.concatenate(
        [
            np.stack([np.zeros(n, int), 1 + i, 1 + j], 1),
            np.stack([1 + i, 1 + n + i, 1 + n + j], 1),
            np.stack([1 + i, 1 + n + j, 1 + j], 1),
        ]
    )
    low, high = edge.min(0), edge.max(0)
    uv = np.stack([(left[:, 0] - low[0]) / (high[0] - low[0]), (high[1] - left[:, 1]) / (high[1] - low[1])], 1)
    right, right_faces = mirrored(left, faces)
    vertices = torch.from_numpy(np.concatenate([left, right])).float()
    triangles = torch.from_numpy(np.concatenate([faces, right_faces + len(left)])).long()
    coordinates: Tensor = torch.from_numpy(np.concatenate([uv, uv * [-1, 1] + [1, 0]])).float()
    return Mesh(vertices, triangles, vertex_normals(vertices, triangles), coordinates, material)
