"""Glasses and earrings on many faces: they rest on the nose and the ears, and never cut into the head."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from avatar3d.body.shape import shape_body
from avatar3d.engine.attach import Figure
from avatar3d.engine.earrings import make_earrings
from avatar3d.engine.glasses import make_glasses
from avatar3d.engine.head_surface import head_faces
from avatar3d.spec import EARRINGS, FACE_CONTROLS, GLASSES_SHAPES, AvatarSpec
from avatar3d.structures import Part

SHAPES = GLASSES_SHAPES[1:]


def random_spec(seed: int) -> AvatarSpec:
    rng = np.random.default_rng([seed, 99])
    face = {name: float(rng.uniform(-0.6, 0.6)) for name in FACE_CONTROLS}
    ancestry = rng.dirichlet([0.7, 0.7, 0.7])
    return AvatarSpec(
        seed=seed,
        age=float(rng.uniform(5, 90)),
        gender=float(rng.random()),
        weight=float(rng.random()),
        african=float(ancestry[0]),
        asian=float(ancestry[1]),
        european=float(ancestry[2]),
        glasses=SHAPES[seed % len(SHAPES)],
        glasses_color=("black", "gold", "red")[seed % 3],
        earrings=EARRINGS[1 + seed % 2],
        face=face,
    )


@cache
def figure_of(seed: int) -> Figure:
    return Figure(shape_body(random_spec(seed)))


@cache
def glasses_of(seed: int) -> dict[str, Part]:
    return {p.name: p for p in make_glasses(random_spec(seed), figure_of(seed))}


def signed_distance(figure: Figure, points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Distance from points to the head's surface, negative beneath it (brute force over near triangles)."""
    v = figure.vertices.numpy().astype(np.float64)
    triangles = v[faces]
    # samples spread over each triangle give the nearest triangle reliably
    weights = np.array([[a, b, 6 - a - b] for a in range(7) for b in range(7 - a)]) / 6
    samples = (triangles[:, None] * weights[None, :, :, None]).sum(2).reshape(-1, 3)
    distance, index = cKDTree(samples).query(points)
    normal = figure.normals.numpy().astype(np.float64)[faces]
    smooth = (normal[:, None] * weights[None, :, :, None]).sum(2).reshape(-1, 3)
    inside = ((points - samples[index]) * smooth[index]).sum(1)
    return np.where(inside < 0, -distance, distance)


def head_triangles(figure: Figure) -> np.ndarray:
    """Faces of the outer head: no mouth, no eye sockets."""
    faces = figure.skin_faces.numpy()
    y = figure.vertices.numpy()[faces][:, :, 1].min(1)
    eye = figure.body.bone("leftEye")[1].item()
    near = faces[y > eye - 0.13]
    z = figure.vertices.numpy()[near]
    sockets = np.linalg.norm(
        np.abs(z.mean(1)) * [1, 0, 0] + z.mean(1) * [0, 1, 1] - figure.body.bone("leftEye").numpy(), axis=1
    )
    return near[sockets > 0.016]


@pytest.mark.parametrize("seed", range(20))
def test_frames_stay_outside_the_head(seed):
    figure = figure_of(seed)
    depth = signed_distance(
        figure, glasses_of(seed)["glasses_frame"].mesh.vertices.numpy(), head_triangles(figure)
    )
    assert depth.min() > -1.0e-3


@pytest.mark.parametrize("seed", range(20))
def test_the_bridge_rests_on_the_nose(seed):
    figure = figure_of(seed)
    points = glasses_of(seed)["glasses_frame"].mesh.vertices.numpy()
    middle = points[np.abs(points[:, 0]) < 1e-3]
    gap = signed_distance(figure, middle, head_faces().front)
    assert abs(gap.min()) < 2e-3


@pytest.mark.parametrize("seed", range(20))
def test_temples_rest_on_the_ears(seed):
    """Some point of each arm is within 2 mm of the ear's upper half."""
    figure = figure_of(seed)
    ear = head_faces().ear
    v = figure.vertices.numpy()
    top = v[ear].max(axis=(0, 1))[1]
    upper = ear[v[ear][:, :, 1].mean(1) > top - 0.025]
    points = glasses_of(seed)["glasses_frame"].mesh.vertices.numpy()
    assert np.abs(signed_distance(figure, points, upper)).min() < 2e-3


@pytest.mark.parametrize("seed", range(20))
def test_pupils_are_inside_the_lenses(seed):
    figure = figure_of(seed)
    mesh = glasses_of(seed)["glasses_lenses"].mesh
    eye = figure.body.bone("leftEye").numpy()
    left = mesh.vertices.numpy()[mesh.vertices[:, 0].numpy() > 0]
    low, high = left.min(0), left.max(0)
    inset = (high - low)[:2] * 0.2
    assert (eye[:2] > low[:2] + inset).all() and (eye[:2] < high[:2] - inset).all()
    assert left[:, 2].min() > figure.vertices[figure.body.template.surface_vertices("eye_left"), 2].max() - 0.02


@pytest.mark.parametrize("seed", range(5))
def test_left_and_right_mirror(seed):
    for part in glasses_of(seed).values():
        points = part.mesh.vertices.numpy()
        away, _ = cKDTree(points).query(points * [-1, 1, 1])
        assert away.max() < 2e-4


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("color", ["black", "gold"])
def test_frames_are_light_and_sound(shape, color):
    parts = make_glasses(replace(random_spec(1), glasses=shape, glasses_color=color), figure_of(1))
    assert sum(len(p.mesh.faces) for p in parts) <= 3100
    for part in parts:
        m = part.mesh
        assert torch.isfinite(m.vertices).all() and m.faces.min() >= 0 and m.faces.max() < len(m.vertices)
        a, b, c = (m.vertices[m.faces[:, i]].double() for i in range(3))
        assert torch.linalg.cross(b - a, c - a).norm(dim=1).min() > 0
        assert torch.allclose(m.normals.norm(dim=1), torch.ones(len(m.normals)), atol=1e-4)
        assert part.morphs is None or (part.morphs.deltas[..., 2] >= 0).all()
        assert part.morphs is None or not part.morphs.deltas[..., :2].any()
        head = figure_of(1).joint("head")
        assert (part.skin.joints[:, 0] == head).all() and (part.skin.weights[:, 0] == 1).all()


def test_frames_face_outwards():
    """The signed volume of closed frame pieces is positive."""
    m = glasses_of(0)["glasses_frame"].mesh
    a, b, c = (m.vertices[m.faces[:, i]].double() - m.vertices.double().mean(0) for i in range(3))
    assert float((a * torch.linalg.cross(b, c)).sum()) > 0


def test_dark_lenses_hide_more_than_clear_ones():
    def alpha(lenses: str) -> float:
        parts = make_glasses(replace(random_spec(0), lenses=lenses), figure_of(0))
        texture = parts[-1].mesh.material.base_color_texture
        assert texture is not None and parts[-1].mesh.material.alpha_mode == "BLEND"
        return float(texture[..., 3].mean())

    assert alpha("clear") < 0.2 and alpha("dark") > 0.75


def test_no_glasses_and_no_earrings_make_no_part():
    spec = replace(random_spec(0), glasses="none", earrings="none")
    assert make_glasses(spec, figure_of(0)) == [] and make_earrings(spec, figure_of(0)) == []


@pytest.mark.parametrize("seed", range(10))
def test_earrings_hang_at_the_lobes(seed):
    figure = figure_of(seed)
    (part,) = make_earrings(random_spec(seed), figure)
    points = part.mesh.vertices.numpy()
    lobe = figure.vertices[head_faces().lobe].numpy()
    assert np.linalg.norm(points - lobe, axis=1).min() < 3e-3
    if random_spec(seed).earrings == "hoops":
        faces = head_triangles(figure)
        ears = np.isin(faces, np.unique(head_faces().ear)).any(1)
        assert signed_distance(figure, points[points[:, 0] > 0], faces[~ears]).min() > -1e-3
