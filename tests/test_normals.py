"""Smooth normals."""

import torch
from render_scenes import quad, sphere

from avatar3d.mesh.normals import vertex_normals, weld_by_position
from avatar3d.structures import Material


def test_sphere_normals_are_radial_across_the_seam():
    mesh = sphere(Material("plain"), rings=32).mesh
    weld = weld_by_position(mesh.vertices)
    normals = vertex_normals(mesh.vertices, mesh.faces, weld)
    assert (normals * mesh.normals).sum(-1).min() > 0.999
    seam = vertex_normals(mesh.vertices, mesh.faces)
    assert (seam * mesh.normals).sum(-1).min() < 0.9995 < (normals * mesh.normals).sum(-1).mean()


def test_weld_groups_equal_positions_only():
    points = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 0, 0], [0, 1, 0], [1, 0, 0], [-0.0, 0, 0]])
    weld = weld_by_position(points)
    assert weld[0] == weld[2] == weld[5]
    assert weld[1] == weld[4]
    assert sorted(weld.unique().tolist()) == [0, 1, 2]


def test_area_weights():
    """A corner of a large face in the XY plane and a small one in the YZ plane leans to the large one."""
    vertices = torch.tensor([[0.0, 0, 0], [2, 0, 0], [0, 2, 0], [0, 0, 1.0]])
    faces = torch.tensor([[0, 1, 2], [0, 2, 3]])
    expected = torch.nn.functional.normalize(torch.tensor([2.0, 0.0, 4.0]), dim=0)
    assert torch.allclose(vertex_normals(vertices, faces)[0], expected)


def test_flat_degenerate_and_differentiable():
    mesh = quad(Material("plain")).mesh
    assert torch.allclose(vertex_normals(mesh.vertices, mesh.faces), mesh.normals)
    lonely = torch.cat([mesh.vertices, torch.zeros(1, 3)]).requires_grad_(True)
    normals = vertex_normals(lonely, mesh.faces)
    assert normals[4].tolist() == [0.0, 1.0, 0.0]
    normals[:, 0].sum().backward()
    assert lonely.grad is not None
    assert torch.isfinite(lonely.grad).all()
    assert lonely.grad.abs().max() > 0
