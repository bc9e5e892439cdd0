"""Fields to meshes: closed forms of a sphere, coarse-to-fine against dense, holes, seams, a file."""

from __future__ import annotations

import math

import pytest
import torch

from avatar3d.export.static_glb import encode_static_glb
from avatar3d.mesh.bake import bake, bilinear, onto_surface, seam_error
from avatar3d.mesh.clean import compact, euler_number, filled_holes, is_closed, largest_pieces, volume
from avatar3d.mesh.extract import FieldError, extract
from avatar3d.mesh.normals import vertex_normals
from avatar3d.mesh.textured import Meshing, textured_mesh
from avatar3d.mesh.unwrap import UnwrapError, unwrap
from avatar3d.render.load import mesh_from_file
from avatar3d.structures import PART_KINDS, FieldSample, Material, Mesh

BOX = torch.tensor([[-0.16, -0.16, -0.16], [0.16, 0.16, 0.16]])
RADIUS = 0.1
CENTER = torch.tensor([0.011, -0.007, 0.013])


def linear(points):
    """Colors inside [0, 1] all over the box."""
    x, y, z = points.unbind(-1)
    return torch.stack([0.5 + 2 * x, 0.4 + y - z, 0.6 - 1.5 * z], dim=-1)


def sphere(radius: float = RADIUS, center=CENTER, scale: float = 1.0):
    """A ball; `scale` stretches its distances, as a trained field does. The upper half is hair."""

    def field(points):
        distance = scale * ((points - center.to(points)).norm(dim=-1) - radius)
        logits = torch.zeros(len(points), len(PART_KINDS), dtype=points.dtype)
        logits[:, PART_KINDS.index("hair")] = points[:, 1].sign()
        return FieldSample(distance, linear(points), logits)

    return field


def both(first, second):
    """The union of two fields."""

    def field(points):
        a, b = first(points), second(points)
        return FieldSample(torch.minimum(a.distance, b.distance), a.rgb, a.logits)

    return field


def test_sphere_is_closed_round_and_faces_outwards():
    vertices, faces = extract(sphere(), BOX, 0.004)
    assert is_closed(faces) and euler_number(faces) == 2
    assert volume(vertices, faces) == pytest.approx(4 / 3 * math.pi * RADIUS**3, rel=0.01)
    assert ((vertices - CENTER).norm(dim=1) - RADIUS).abs().max() < 1e-4
    outward = torch.nn.functional.normalize(vertices - CENTER, dim=1)
    assert (vertex_normals(vertices, faces) * outward).sum(1).min() > 0.99


@pytest.mark.parametrize("scale", [0.4, 1.0, 3.0])
@pytest.mark.parametrize("stride", [2, 4, 8])
def test_coarse_to_fine_equals_dense(stride, scale):
    field, box = both(sphere(scale=scale), sphere(0.02, torch.tensor([0.0, 0.14, 0.0]), scale)), BOX.double()
    dense = extract(field, box, 0.005, stride=1)
    fine = extract(field, box, 0.005, stride=stride)
    assert torch.equal(dense[0], fine[0]) and torch.equal(dense[1], fine[1])


def test_coarse_to_fine_looks_near_the_surface_only():
    asked = []

    def counted(points):
        asked.append(len(points))
        return sphere()(points)

    extract(counted, BOX, 0.0025)
    assert sum(asked) < 0.2 * 129**3


def test_a_thin_wire_far_from_where_it_was_found_is_followed():
    """Distances that promise far too much (100 times): only the part near a coarse node is seen at first."""

    def wire(points):
        x, y, z = points.unbind(-1)
        away = torch.stack([x, z], -1).norm(dim=-1) - 0.008
        d = torch.maximum(away, (y - 0.01).abs() - 0.12)
        return FieldSample(100 * d, linear(points), torch.zeros(len(points), len(PART_KINDS)).to(points))

    dense, fine = (extract(wire, BOX.double(), 0.005, stride=s) for s in (1, 4))
    assert torch.equal(dense[0], fine[0]) and torch.equal(dense[1], fine[1])


def test_the_box_closes_what_leaves_it():
    vertices, faces = extract(sphere(0.19, torch.zeros(3)), BOX, 0.005)
    assert is_closed(faces) and euler_number(faces) == 2
    assert vertices.amax() <= 0.16 and vertices.amax() > 0.1599


@pytest.mark.parametrize(("radius", "words"), [(-0.01, "empty"), (9.0, "inside everywhere"), (math.nan, "finite")])
def test_fields_without_a_surface_are_refused(radius, words):
    with pytest.raises(FieldError, match=words):
        extract(sphere(radius), BOX, 0.02)


def test_pieces_and_hollows():
    field = both(sphere(0.06), sphere(0.008, torch.tensor([0.1, 0.1, 0.1])))
    shell = lambda points: FieldSample(  # noqa: E731
        torch.maximum(field(points).distance, 0.02 - (points - CENTER).norm(dim=-1)),
        linear(points),
        field(points).logits,
    )
    vertices, faces = extract(shell, BOX, 0.004)
    assert euler_number(faces) == 6
    one, rest = largest_pieces(vertices, faces)
    assert is_closed(rest) and euler_number(rest) == 2
    assert volume(one, rest) == pytest.approx(4 / 3 * math.pi * 0.06**3, rel=0.01)
    two = largest_pieces(vertices, faces, least=0.001)[1]
    assert euler_number(two) == 4


def test_holes_are_filled():
    vertices, faces = extract(sphere(), BOX, 0.008)
    middles = vertices[faces].mean(dim=1)
    away = ((middles - CENTER) / RADIUS)[:, None] - torch.tensor([[0, 1.0, 0], [0.6, 0, 0.8]])
    torn = faces[(away.norm(dim=-1) > 0.25).all(dim=1)]
    assert not is_closed(torn)
    mended = filled_holes(*compact(vertices, torn))
    assert is_closed(mended[1]) and euler_number(mended[1]) == 2
    assert volume(*mended) == pytest.approx(volume(vertices, faces), rel=0.02)
    left = filled_holes(*compact(vertices, torn), most=5)
    assert not is_closed(left[1])


@pytest.fixture(scope="module")
def textured():
    return textured_mesh(sphere(), BOX, Meshing(cell=0.005, triangles=3000, texture=256, padding=6))


def test_textured_mesh_reproduces_linear_colors(textured):
    mesh = textured.mesh
    assert textured.closed and len(mesh.faces) <= 3000
    texture = mesh.material.base_color_texture
    weights = torch.rand(len(mesh.faces), 3, generator=torch.Generator().manual_seed(0))
    weights = weights / weights.sum(dim=1, keepdim=True)
    at = lambda values: (weights[:, :, None] * values[mesh.faces]).sum(1)  # noqa: E731
    on_ball = CENTER + RADIUS * torch.nn.functional.normalize(at(mesh.vertices) - CENTER, dim=1)
    error = (bilinear(texture, at(mesh.uv)) - linear(on_ball)).abs()
    assert error.max() < 0.02 and error.mean() < 0.002
    assert textured.seam_error < 0.003


def test_charts_do_not_overlap_and_stay_inside(textured):
    mesh = textured.mesh
    assert mesh.uv.min() >= 0 and mesh.uv.max() <= 1
    a, b, c = mesh.uv.double()[mesh.faces].unbind(1)
    first, second = b - a, c - a
    area = 0.5 * (first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]).abs().sum()
    baked = bake(sphere(), mesh, 512)
    assert float(area) == pytest.approx(len(baked.texels.index) / 512**2, rel=0.06)


def test_gutter_repeats_the_nearest_texel_and_labels_follow(textured):
    baked = bake(sphere(), textured.mesh, 256)
    flat, texels = baked.rgb.view(-1, 3), baked.texels
    assert len(texels.gutter) > 1000
    assert torch.equal(flat[texels.gutter], flat[texels.index[texels.source]])
    kinds = baked.labels.view(-1)[texels.index]
    height = texels.interpolate(textured.mesh.vertices.numpy())[:, 1]
    assert set(kinds[height > 0.002].tolist()) == {1 + PART_KINDS.index("hair")}
    assert set(kinds[height < -0.002].tolist()) == {1}


def test_points_move_onto_the_surface_within_reach():
    normals = torch.nn.functional.normalize(torch.randn(100, 3, generator=torch.Generator().manual_seed(0)), dim=1)
    off = torch.linspace(-0.01, 0.01, 100)
    points = CENTER + (RADIUS + off[:, None]) * normals
    moved = ((onto_surface(sphere(), points, normals) - CENTER).norm(dim=1) - RADIUS).abs()
    assert moved[off.abs() < 0.004].max() < 1e-6
    assert torch.allclose(moved[off.abs() > 0.0041], off[off.abs() > 0.0041].abs() - 0.004, atol=1e-6)


def test_seam_error_is_the_step_across_the_seam():
    """Two triangles of one square, in the texture apart: one on black, one on a grey of 0.3."""
    corners = torch.tensor([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
    vertices = corners[[0, 1, 2, 0, 2, 3]]
    uv = torch.tensor([[0.1, 0.1], [0.4, 0.1], [0.4, 0.4], [0.6, 0.1], [0.9, 0.4], [0.6, 0.4]])
    faces = torch.tensor([[0, 1, 2], [3, 4, 5]])
    texture = torch.zeros(64, 64, 3)
    texture[:, 32:] = 0.3
    mesh = Mesh(vertices, faces, torch.tensor([[0.0, 0, 1]]).expand(6, 3), uv, Material("m"))
    assert seam_error(mesh, texture) == pytest.approx(0.3, abs=1e-6)
    together = Mesh(corners, torch.tensor([[0, 1, 2], [0, 2, 3]]), mesh.normals[:4], uv[:4], Material("m"))
    assert seam_error(together, texture) == 0.0


def test_unwrap_is_repeatable_and_refuses_nonsense():
    vertices, faces = extract(sphere(), BOX, 0.02)
    first, second = unwrap(vertices, faces, 128), unwrap(vertices, faces, 128)
    assert torch.equal(first.uv, second.uv) and torch.equal(first.source[first.faces], faces)
    with pytest.raises(UnwrapError, match="nothing"):
        unwrap(vertices, faces[:0])
    with pytest.raises(UnwrapError, match="finite"):
        unwrap(vertices * math.inf, faces)


def test_static_file_reads_back(textured, tmp_path):
    path = tmp_path / "field.glb"
    path.write_bytes(encode_static_glb({"field": textured.mesh}, {"prompt": "a ball"}))
    (read,) = mesh_from_file(path)
    assert torch.equal(read.mesh.faces, textured.mesh.faces)
    assert torch.allclose(read.mesh.vertices, textured.mesh.vertices)
    assert torch.allclose(read.mesh.uv, textured.mesh.uv, atol=1e-6)
    texture, written = read.mesh.material.base_color_texture, textured.mesh.material.base_color_texture
    assert (texture[..., :3] - written).abs().mean() < 0.01
    with pytest.raises(ValueError, match="triangles"):
        encode_static_glb({}, {})
