"""Decimation: closed forms, and laws that every simplified mesh keeps."""

from __future__ import annotations

import math

import pytest
import torch

from avatar3d.mesh.decimate import DecimationError, decimate, principal
from avatar3d.mesh.normals import weld_by_position


def grid(n: int):
    """A unit square of n x n cells in the plane z = 0."""
    line = torch.linspace(0, 1, n + 1)
    y, x = torch.meshgrid(line, line, indexing="ij")
    vertices = torch.stack([x, y, 0 * x], dim=-1).reshape(-1, 3)
    g = torch.arange((n + 1) ** 2).reshape(n + 1, n + 1)
    a, b, c, d = g[:-1, :-1], g[:-1, 1:], g[1:, :-1], g[1:, 1:]
    faces = torch.cat([torch.stack([a, b, c], -1).reshape(-1, 3), torch.stack([b, d, c], -1).reshape(-1, 3)])
    return vertices, faces


def sphere(levels: int):
    """An octahedron subdivided onto the unit sphere; vertices are shared."""
    vertices = [[1.0, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]]
    faces = [[0, 2, 4], [2, 1, 4], [1, 3, 4], [3, 0, 4], [2, 0, 5], [1, 2, 5], [3, 1, 5], [0, 3, 5]]
    for _ in range(levels):
        middle: dict[tuple[int, int], int] = {}

        def between(i: int, j: int, middle=middle) -> int:
            key = (min(i, j), max(i, j))
            if key not in middle:
                p = [a + b for a, b in zip(vertices[i], vertices[j], strict=True)]
                length = math.sqrt(sum(x * x for x in p))
                vertices.append([x / length for x in p])
                middle[key] = len(vertices) - 1
            return middle[key]

        split = []
        for i, j, k in faces:
            a, b, c = between(i, j), between(j, k), between(k, i)
            split += [[i, a, c], [a, j, b], [c, b, k], [a, b, c]]
        faces = split
    return torch.tensor(vertices), torch.tensor(faces)


def area(vertices, faces):
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    return 0.5 * torch.linalg.cross(b - a, c - a).norm(dim=1)


def volume(vertices, faces):
    a, b, c = (vertices[faces[:, i]].double() for i in range(3))
    return float((a * torch.linalg.cross(b, c)).sum() / 6)


def euler(faces, weld):
    f = weld[faces]
    edges = torch.cat([f[:, [0, 1]], f[:, [1, 2]], f[:, [2, 0]]]).sort(dim=1).values.unique(dim=0)
    return len(f.unique()) - len(edges) + len(f)


def border(faces):
    """Edges of one face only, as sorted pairs."""
    edges = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).sort(dim=1).values
    unique, counts = edges.unique(dim=0, return_counts=True)
    return unique[counts == 1]


def test_a_flat_square_becomes_two_triangles():
    vertices, faces = grid(20)
    result = decimate(vertices, faces, 2, weld_by_position(vertices))
    assert len(result.faces) == 2
    assert area(vertices, result.faces).sum().item() == pytest.approx(1.0, abs=1e-9)
    assert result.cost < 1e-18


def test_a_cube_of_small_faces_becomes_twelve_triangles():
    flat, quads = grid(8)
    turns = [
        torch.tensor(m, dtype=torch.float32)
        for m in ([[1, 0, 0], [0, 1, 0]], [[0, 1, 0], [0, 0, 1]], [[0, 0, 1], [1, 0, 0]])
    ]
    vertices, faces = [], []
    for axes in turns:
        normal = torch.linalg.cross(axes[0], axes[1])
        for side in (0.0, 1.0):
            p = flat[:, :2] @ axes + side * normal
            vertices.append(p)
            own = quads if side else quads.flip(1)
            faces.append(own + (len(vertices) - 1) * len(flat))
    vertices, faces = torch.cat(vertices), torch.cat(faces)
    weld = weld_by_position(vertices)
    result = decimate(vertices, faces, 12, weld)
    assert len(result.faces) == 12
    assert volume(vertices, result.faces) == pytest.approx(1.0, abs=1e-6)
    assert euler(result.faces, weld) == 2


@pytest.mark.parametrize("target", [2000, 500, 120])
def test_a_sphere_keeps_its_volume_and_topology(target):
    vertices, faces = sphere(5)
    weld = weld_by_position(vertices)
    result = decimate(vertices, faces, target, weld)
    assert target - 2 <= len(result.faces) <= target
    assert euler(result.faces, weld) == 2
    # n equal triangles with their corners on the sphere enclose 6 pi / (n sqrt 3) less than it
    lost = 1 - volume(vertices, result.faces) / (4 * math.pi / 3)
    assert 0 < lost < 1.5 * 6 * math.pi / (target * math.sqrt(3))


def test_no_face_turns_over():
    vertices, faces = sphere(4)
    result = decimate(vertices, faces, 100, weld_by_position(vertices))
    a, b, c = (vertices[result.faces[:, i]] for i in range(3))
    assert ((torch.linalg.cross(b - a, c - a) * (a + b + c)).sum(1) > 0).all()


def test_borders_stay_where_they_are():
    vertices, faces = grid(24)
    x, y = vertices[:, 0], vertices[:, 1]
    vertices[:, 2] = 0.1 * torch.sin(5 * x) * torch.cos(4 * y)
    result = decimate(vertices, faces, 300, weld_by_position(vertices))
    ends = vertices[border(result.faces)]
    on_side = (ends[..., :2] < 1e-6) | (ends[..., :2] > 1 - 1e-6)
    assert on_side.any(dim=-1).all()
    on_same_side = torch.isclose(ends[:, 0, :2], ends[:, 1, :2]) & on_side.all(dim=1)
    assert on_same_side.any(dim=-1).all()


def test_locked_vertices_stay():
    vertices, faces = grid(16)
    locked = torch.rand(len(vertices), generator=torch.Generator().manual_seed(1)) < 0.1
    result = decimate(vertices, faces, 2, weld_by_position(vertices), locked=locked)
    assert set(locked.nonzero()[:, 0].tolist()) <= set(result.faces.unique().tolist())


def seamed(n: int = 24):
    """A wavy square cut along x = 0.5: the right half has vertices, and texture coordinates, of its own."""
    vertices, faces = grid(n)
    right = vertices[faces].mean(dim=1)[:, 0] > 0.5
    vertices[:, 2] = 0.15 * torch.sin(6 * vertices[:, 0] + 3 * vertices[:, 1])
    faces = torch.where(right[:, None], faces + len(vertices), faces)
    used, faces = torch.unique(faces, return_inverse=True)
    twice = torch.cat([vertices, vertices])
    uv = twice[:, :2].clone()
    uv[len(vertices) :] = uv[len(vertices) :] * 0.7 + torch.tensor([3.0, 0.0])
    return twice[used], faces.reshape(-1, 3), uv[used]


def test_both_sides_of_a_seam_move_in_step():
    vertices, faces, uv = seamed()
    weld = weld_by_position(vertices)
    result = decimate(vertices, faces, 150, weld, uv)
    assert 148 <= len(result.faces) <= 150
    assert euler(result.faces, weld) == 1
    left, right = (result.faces[(uv[result.faces][..., 0] > 2).all(1) == side] for side in (False, True))
    assert len(left) + len(right) == len(result.faces)
    assert ((uv[right][..., 0] > 2).all()) and (uv[left][..., 0] < 2).all()
    seam = [
        {tuple(sorted(e)) for e in weld[border(side)].tolist() if (vertices[weld == e[0]][:, 0] == 0.5).all()
         and (vertices[weld == e[1]][:, 0] == 0.5).all()}
        for side in (left, right)
    ]  # fmt: skip
    assert seam[0] == seam[1] and len(seam[0]) >= 3


def test_attributes_hold_on_to_what_shape_does_not_need():
    """A flat square whose texture is bent along a line keeps vertices on the line; a straight texture does not."""
    vertices, faces = grid(16)
    bent = vertices[:, :2].clone()
    bent[:, 0] += (vertices[:, 0] - 0.5).clamp_min(0)
    weld = weld_by_position(vertices)
    straight = decimate(vertices, faces, 2, weld, vertices[:, :2], most_cost=1e-12)
    curved = decimate(vertices, faces, 2, weld, bent, most_cost=1e-12)
    assert len(straight.faces) == 2
    assert len(curved.faces) == 4
    middle = vertices[curved.faces.unique()][:, 0] == 0.5
    assert int(middle.sum()) == 2


def test_importance_draws_triangles():
    vertices, faces = sphere(4)
    upper = vertices[faces].mean(dim=1)[:, 1] > 0
    weight = torch.where(upper, 27.0, 1.0)
    result = decimate(vertices, faces, 400, weld_by_position(vertices), importance=weight)
    share = (vertices[result.faces].mean(dim=1)[:, 1] > 0).float().mean().item()
    # at equal marginal cost the number of triangles grows with the cube root of the weight
    assert share == pytest.approx(0.75, abs=0.04)


def test_no_face_turns_over_in_a_guarded_shape():
    """A square that a shape folds along its middle line like a book: no face may reach over the fold."""
    vertices, faces = grid(20)
    folded = vertices.clone()
    folded[:, 0] = 0.5 - (vertices[:, 0] - 0.5).abs()
    folded[:, 2] = 0.3 * (vertices[:, 0] - 0.5).abs() * (1 + 0.2 * (vertices[:, 0] > 0.5))
    weld = weld_by_position(vertices)

    def facing(result):
        a, b, c = (folded[result.faces[:, i]] for i in range(3))
        d, e, f = (folded[faces[result.origin, i]] for i in range(3))
        return (torch.linalg.cross(b - a, c - a) * torch.linalg.cross(e - d, f - d)).sum(dim=1)

    free = decimate(vertices, faces, 2, weld)
    guarded = decimate(vertices, faces, 2, weld, moved=folded[None])
    assert len(free.faces) == 2 and not (facing(free) > 0).all()
    assert len(guarded.faces) <= 8 and (facing(guarded) > 0).all()


def test_same_input_same_faces():
    vertices, faces = sphere(4)
    one, two = (decimate(vertices, faces, 300, weld_by_position(vertices)) for _ in range(2))
    assert torch.equal(one.faces, two.faces) and torch.equal(one.origin, two.origin)


def test_bad_meshes():
    vertices, faces = grid(6)
    broken = vertices.clone()
    broken[3] = math.nan
    with pytest.raises(DecimationError, match="1 vertices have positions that are not finite"):
        decimate(broken, faces, 10, torch.arange(len(vertices)))
    with pytest.raises(DecimationError, match="outside 0 to 48"):
        decimate(vertices, faces + 5, 10, torch.arange(len(vertices)))
    with pytest.raises(DecimationError, match="-1 triangles"):
        decimate(vertices, faces, -1, torch.arange(len(vertices)))


def test_zero_area_and_tangled_faces_are_borne():
    vertices, faces = grid(6)
    fin = torch.tensor(
        [[24, 25, len(vertices)], [0, 0, 1], [2, 3, 2]]
    )  # a third face on an edge, and degenerate ones
    vertices = torch.cat([vertices, torch.tensor([[0.5, 0.5, 0.4]])])
    result = decimate(vertices, torch.cat([faces, fin]), 2, weld_by_position(vertices))
    assert (area(vertices, result.faces) > 0).all()
    assert {24, 25} <= set(result.faces.unique().tolist())
    assert len(decimate(vertices, faces[:0], 2, weld_by_position(vertices)).faces) == 0


def test_principal_axes_keep_distances_and_units():
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(50, 3, generator=generator) @ torch.randn(3, 40, generator=generator)
    kept = principal(base, 8)
    assert kept.shape == (50, 3)
    between = [(x[:, None] - x).norm(dim=-1) for x in (kept, base)]
    torch.testing.assert_close(*between, rtol=1e-4, atol=1e-4)
