"""Laws of the rotation group."""

import itertools
import math

import torch

from avatar3d.rotations import (
    axis_angle_to_matrix,
    axis_angle_to_quaternion,
    matrix_to_axis_angle,
    matrix_to_quaternion,
    quaternion_multiply,
    quaternion_to_axis_angle,
    quaternion_to_matrix,
    slerp,
)


def random_quaternions(count: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    q = torch.randn(count, 4, generator=generator, dtype=torch.float64)
    return torch.nn.functional.normalize(q, dim=-1)


def test_matrices_are_proper_rotations():
    R = quaternion_to_matrix(random_quaternions(50))
    identity = torch.eye(3, dtype=torch.float64).expand(50, 3, 3)
    assert torch.allclose(R @ R.transpose(-1, -2), identity)
    assert torch.allclose(torch.linalg.det(R), torch.ones(50, dtype=torch.float64))


def test_quarter_turn_about_y_takes_z_to_x():
    R = axis_angle_to_matrix(torch.tensor([0.0, math.pi / 2, 0.0]))
    assert torch.allclose(R @ torch.tensor([0.0, 0.0, 1.0]), torch.tensor([1.0, 0.0, 0.0]), atol=1e-6)


def test_quaternion_round_trip_through_matrices_with_half_turns():
    half_turns = torch.tensor([[0.0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0, 0.6, 0.8, 0]]).double()
    q = torch.cat([random_quaternions(200), half_turns])
    back = matrix_to_quaternion(quaternion_to_matrix(q))
    assert torch.allclose((q * back).sum(-1).abs(), torch.ones(len(q), dtype=torch.float64))
    assert (back[:, 0] >= 0).all()


def test_product_composes_like_matrices():
    a, b = random_quaternions(30, 1), random_quaternions(30, 2)
    left = quaternion_to_matrix(quaternion_multiply(a, b))
    assert torch.allclose(left, quaternion_to_matrix(a) @ quaternion_to_matrix(b))


def test_axis_angle_round_trip():
    generator = torch.Generator().manual_seed(3)
    axis = torch.nn.functional.normalize(torch.randn(100, 3, generator=generator).double(), dim=-1)
    vector = axis * torch.linspace(0, math.pi - 1e-3, 100, dtype=torch.float64)[:, None]
    assert torch.allclose(quaternion_to_axis_angle(axis_angle_to_quaternion(vector)), vector, atol=1e-9)
    assert torch.allclose(matrix_to_axis_angle(axis_angle_to_matrix(vector)), vector, atol=1e-6)


def test_gradient_is_finite_at_the_identity():
    vector = torch.zeros(3, requires_grad=True)
    (axis_angle_to_matrix(vector) @ torch.tensor([1.0, 2.0, 3.0])).sum().backward()
    assert vector.grad is not None
    assert torch.isfinite(vector.grad).all()


def test_slerp_ends_and_constant_speed():
    a, b = random_quaternions(20, 4), random_quaternions(20, 5)
    assert torch.allclose(quaternion_to_matrix(slerp(a, b, 0.0)), quaternion_to_matrix(a))
    assert torch.allclose(quaternion_to_matrix(slerp(a, b, 1.0)), quaternion_to_matrix(b))
    steps = [slerp(a, b, t) for t in (0.0, 0.25, 0.5, 0.75, 1.0)]
    dots = torch.stack([(p * q).sum(-1).abs() for p, q in itertools.pairwise(steps)])
    assert torch.allclose(dots, dots[:1].expand_as(dots))
    total = torch.acos((a * b).sum(-1).abs())
    assert torch.allclose(torch.acos(dots.clamp(max=1)).sum(0), total, atol=1e-6)
