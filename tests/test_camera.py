"""The conventions of `camera.py`, as laws."""

import math

import pytest
import torch

from avatar3d.camera import framing, orbit, orbit_angles, pixel_centers, project, unproject


def test_unproject_is_the_inverse_of_project():
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(100, 3, generator=generator, dtype=torch.float64)
    camera = orbit(torch.tensor([0.1, 1.0, -0.2], dtype=torch.float64), 6.0, 0.7, -0.4, width=300, height=200)
    pixels, depth = project(camera, points)
    assert torch.allclose(unproject(camera, pixels, depth), points)


@pytest.mark.parametrize(("azimuth", "elevation"), [(0.0, 0.0), (1.0, 0.5), (-2.5, -1.2), (math.pi, 0.1)])
def test_orbit_looks_at_its_target(azimuth: float, elevation: float):
    camera = orbit([0.2, 1.5, 0.1], 2.5, azimuth, elevation, width=320, height=240)
    pixel, depth = project(camera, torch.tensor([0.2, 1.5, 0.1]))
    assert torch.allclose(pixel, torch.tensor([160.0, 120.0]), atol=1e-3)
    assert depth.item() == pytest.approx(2.5, abs=1e-5)
    R = camera.T_world_camera[:3, :3]
    assert torch.allclose(R.T @ R, torch.eye(3), atol=1e-6)
    assert torch.linalg.det(R).item() == pytest.approx(1.0, abs=1e-5)
    assert orbit_angles(camera) == pytest.approx((azimuth, elevation), abs=1e-4)


def test_axes_of_the_picture():
    front = orbit([0.0, 1.0, 0.0], 3.0, width=100, height=100)
    assert torch.allclose(front.T_world_camera[:3, 3], torch.tensor([0.0, 1.0, 3.0]))
    left_hand, _ = project(front, torch.tensor([0.3, 1.0, 0.0]))
    assert left_hand[0] > 50  # the avatar's left is on the right of the picture
    above, _ = project(front, torch.tensor([0.0, 1.3, 0.0]))
    assert above[1] < 50
    side = orbit([0.0, 1.0, 0.0], 3.0, azimuth=math.pi / 2)
    assert torch.allclose(side.T_world_camera[:3, 3], torch.tensor([3.0, 1.0, 0.0]), atol=1e-6)
    high = orbit([0.0, 1.0, 0.0], 3.0, elevation=0.5)
    assert high.T_world_camera[1, 3] > 1


def test_field_of_view_is_vertical():
    camera = orbit([0.0, 0.0, 0.0], 1.0, fov=1.0, width=400, height=200)
    pixel, _ = project(camera, torch.tensor([0.0, math.tan(0.5), 0.0]))
    assert pixel[1].item() == pytest.approx(0.0, abs=1e-3)


def test_pixel_centers():
    centers = pixel_centers(orbit([0.0, 0.0, 0.0], 1.0, width=4, height=3))
    assert centers.shape == (3, 4, 2)
    assert centers[0, 0].tolist() == [0.5, 0.5]
    assert centers[2, 3].tolist() == [3.5, 2.5]


@pytest.mark.parametrize(("width", "height", "azimuth"), [(400, 400, 0.0), (600, 200, 0.8), (200, 500, -2.0)])
def test_framing_is_tight(width: int, height: int, azimuth: float):
    low, high = torch.tensor([-0.5, 0.0, -0.2]), torch.tensor([0.6, 1.8, 0.3])
    camera = framing(low, high, azimuth, 0.3, width=width, height=height, margin=0.1)
    corners = torch.cartesian_prod(*torch.stack([low, high], dim=1).unbind(0))
    pixels, depth = project(camera, corners)
    size = torch.tensor([width, height])
    free = torch.minimum(pixels, size - pixels) / size
    assert (depth > 0).all()
    assert free.min().item() == pytest.approx(0.1, abs=1e-4)


@pytest.mark.parametrize(
    "bad",
    [{"distance": 0.0}, {"distance": math.nan}, {"fov": 45.0}, {"width": 0}, {"elevation": math.pi / 2}],
)
def test_impossible_cameras_are_refused(bad: dict):
    with pytest.raises(ValueError, match="got"):
        orbit(**{"target": [0.0, 0.0, 0.0], "distance": 1.0, **bad})


def test_framing_refuses_empty_bounds():
    with pytest.raises(ValueError, match="bounds"):
        framing([0.0, 0.0, 0.0], [-1.0, 1.0, 1.0])
