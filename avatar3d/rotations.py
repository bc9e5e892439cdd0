"""Rotations as matrices, unit quaternions (w, x, y, z) and axis-angle vectors; batched, differentiable.

Matrices act on column vectors: `p_a = R_a_b @ p_b`. Angles are radians, right-handed.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def quaternion_to_matrix(q_wxyz: Float[Tensor, "*B 4"]) -> Float[Tensor, "*B 3 3"]:
    """Rotation matrix of a quaternion; it is normalized first, so only its direction counts."""
    w, x, y, z = torch.nn.functional.normalize(q_wxyz, dim=-1).unbind(-1)
    rows = (
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    )  # fmt: skip
    return torch.stack(rows, dim=-1).reshape(*q_wxyz.shape[:-1], 3, 3)


def matrix_to_quaternion(R: Float[Tensor, "*B 3 3"]) -> Float[Tensor, "*B 4"]:
    """Unit quaternion wxyz with w >= 0.

    Of the four algebraically equal forms the one with the largest divisor is taken (Shepperd 1978), so that
    half turns are exact too.
    """
    m = R.reshape(-1, 9).unbind(-1)
    xx, xy, xz, yx, yy, yz, zx, zy, zz = m
    candidates = torch.stack(
        [
            torch.stack([1 + xx + yy + zz, zy - yz, xz - zx, yx - xy], dim=-1),
            torch.stack([zy - yz, 1 + xx - yy - zz, xy + yx, xz + zx], dim=-1),
            torch.stack([xz - zx, xy + yx, 1 - xx + yy - zz, yz + zy], dim=-1),
            torch.stack([yx - xy, xz + zx, yz + zy, 1 - xx - yy + zz], dim=-1),
        ],
        dim=-2,
    )
    best = torch.diagonal(candidates, dim1=-2, dim2=-1).argmax(-1)
    q = candidates[torch.arange(len(best), device=R.device), best]
    q = torch.nn.functional.normalize(q, dim=-1)
    q = torch.where(q[:, :1] < 0, -q, q)
    return q.reshape(*R.shape[:-2], 4)


def quaternion_multiply(a_wxyz: Float[Tensor, "*B 4"], b_wxyz: Float[Tensor, "*B 4"]) -> Float[Tensor, "*B 4"]:
    """Hamilton product: the rotation b followed by the rotation a."""
    aw, ax, ay, az = a_wxyz.unbind(-1)
    bw, bx, by, bz = b_wxyz.unbind(-1)
    product = (
        aw * bw - ax * bx - ay * by - az * bz,
        aw * bx + ax * bw + ay * bz - az * by,
        aw * by - ax * bz + ay * bw + az * bx,
        aw * bz + ax * by - ay * bx + az * bw,
    )
    return torch.stack(product, dim=-1)


def axis_angle_to_quaternion(axis_angle: Float[Tensor, "*B 3"]) -> Float[Tensor, "*B 4"]:
    """Quaternion wxyz of a rotation vector (its direction is the axis, its length the angle)."""
    half = 0.5 * axis_angle.norm(dim=-1, keepdim=True)
    # sin(h) / (2 h) with torch.sinc, which is exact at 0
    scale = 0.5 * torch.sinc(half / torch.pi)
    return torch.cat([torch.cos(half), scale * axis_angle], dim=-1)


def quaternion_to_axis_angle(q_wxyz: Float[Tensor, "*B 4"]) -> Float[Tensor, "*B 3"]:
    """Rotation vector with an angle in [0, pi]."""
    q = torch.nn.functional.normalize(q_wxyz, dim=-1)
    q = torch.where(q[..., :1] < 0, -q, q)
    sine = q[..., 1:].norm(dim=-1, keepdim=True)
    angle = 2 * torch.atan2(sine, q[..., :1])
    small = sine < 1e-8
    return q[..., 1:] * torch.where(small, 2.0, angle / torch.where(small, 1.0, sine))


def axis_angle_to_matrix(axis_angle: Float[Tensor, "*B 3"]) -> Float[Tensor, "*B 3 3"]:
    """Rotation matrix of a rotation vector."""
    return quaternion_to_matrix(axis_angle_to_quaternion(axis_angle))


def matrix_to_axis_angle(R: Float[Tensor, "*B 3 3"]) -> Float[Tensor, "*B 3"]:
    """Rotation vector with an angle in [0, pi]."""
    return quaternion_to_axis_angle(matrix_to_quaternion(R))


def rotation_between(start: Float[Tensor, " 3"], end: Float[Tensor, " 3"]) -> Float[Tensor, "3 3"]:
    """The shortest turn that takes one direction to another (Rodrigues); none if either has no length."""
    if float(start.norm()) < 1e-12 or float(end.norm()) < 1e-12:
        return torch.eye(3).to(start)
    a, b = start / start.norm(), end / end.norm()
    cosine = a @ b
    if float(cosine) < -1 + 1e-12:  # half a turn about any axis that is orthogonal
        axis = torch.linalg.cross(a, torch.eye(3).to(a)[int(a.abs().argmin())])
        axis = axis / axis.norm()
        return 2 * torch.outer(axis, axis) - torch.eye(3).to(a)
    x, y, z = torch.linalg.cross(a, b)
    zero = torch.zeros_like(x)
    K = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero]).reshape(3, 3)
    return torch.eye(3).to(a) + K + K @ K / (1 + cosine)


def slerp(
    a_wxyz: Float[Tensor, "*B 4"], b_wxyz: Float[Tensor, "*B 4"], t: Float[Tensor, "*T"] | float
) -> Float[Tensor, "*C 4"]:
    """Constant-speed interpolation along the shorter arc, t in [0, 1] (Shoemake 1985); t broadcasts."""
    a = torch.nn.functional.normalize(a_wxyz, dim=-1)
    b = torch.nn.functional.normalize(b_wxyz, dim=-1)
    dot = (a * b).sum(-1)
    b = torch.where(dot[..., None] < 0, -b, b)
    angle = torch.acos(dot.abs().clamp(max=1.0))
    t = torch.as_tensor(t, dtype=a.dtype, device=a.device)
    near = angle < 1e-4
    sine = torch.where(near, 1.0, torch.sin(angle))
    from_a = torch.where(near, 1 - t, torch.sin((1 - t) * angle) / sine)
    from_b = torch.where(near, t, torch.sin(t * angle) / sine)
    return torch.nn.functional.normalize(from_a[..., None] * a + from_b[..., None] * b, dim=-1)
