"""The rasterizers against closed forms, against each other and against slow ray casting."""

import math

import numpy as np
import pytest
import torch
from render_scenes import quad, sphere, triangle_soup

from avatar3d.camera import orbit, pixel_centers, unproject
from avatar3d.render.meshes import render_meshes
from avatar3d.render.rasterize import rasterize_numba, rasterize_torch
from avatar3d.render.scene import camera_view, compile_scene, solid_cutoffs, view_triangles
from avatar3d.structures import Material

PLAIN = Material("plain")
TWO_SIDED = Material("plain", double_sided=True)


def triangles_of(meshes, camera):
    scene = compile_scene(meshes)
    every = torch.arange(len(scene.faces))
    return scene, view_triangles(scene, camera_view(scene, camera), every, solid_cutoffs(scene))


def cast_ray(origin: np.ndarray, direction: np.ndarray, corners: np.ndarray):
    """(depth along `direction`, barycentrics) where a ray meets a triangle (Moeller & Trumbore 1997), or None."""
    e1, e2 = corners[1] - corners[0], corners[2] - corners[0]
    p = np.cross(direction, e2)
    det = e1 @ p
    if abs(det) < 1e-14:
        return None
    s = origin - corners[0]
    u = (s @ p) / det
    q = np.cross(s, e1)
    v = (direction @ q) / det
    t = (e2 @ q) / det
    if u < 0 or v < 0 or u + v > 1 or t <= 1e-3:
        return None
    return t, np.array([1 - u - v, u, v])


def test_equals_slow_ray_casting():
    meshes = [triangle_soup(9, 1, TWO_SIDED, label=3), triangle_soup(9, 2, TWO_SIDED, label=7)]
    camera = orbit(torch.zeros(3, dtype=torch.float64), 3.0, 0.4, 0.3, fov=0.9, width=16, height=14)
    render = render_meshes(meshes, camera, samples=1, shadows=False, occlusion=False)
    eye = camera.T_world_camera[:3, 3].numpy()
    ends = unproject(camera, pixel_centers(camera), torch.ones(14, 16, dtype=torch.float64)).numpy()
    covered = 0
    for y in range(14):
        for x in range(16):
            best = (math.inf, 0, np.zeros(2))
            for item in meshes:
                for face in item.mesh.faces:
                    hit = cast_ray(eye, ends[y, x] - eye, item.mesh.vertices[face].double().numpy())
                    if hit and hit[0] < best[0]:
                        best = (hit[0], item.label, hit[1] @ item.mesh.uv[face].double().numpy())
            assert render.labels[y, x].item() == best[1]
            assert render.depth[y, x].item() == pytest.approx(best[0], rel=1e-5)
            assert render.uv[y, x].numpy() == pytest.approx(best[2], abs=1e-4)
            covered += best[1] > 0
    assert covered > 80


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("distance", [3.0, 0.4])
def test_numba_equals_torch(layers: int, distance: float):
    """With alpha tests, culling, and (at the short distance) triangles through the near plane."""
    texture = torch.rand(8, 4, 4, generator=torch.Generator().manual_seed(0))
    masked = Material("leaf", base_color_texture=texture, alpha_mode="MASK", double_sided=True)
    meshes = [triangle_soup(60, 3, PLAIN), triangle_soup(60, 4, masked)]
    camera = orbit([0.0, 0.0, 0.0], distance, 0.3, 0.2, fov=1.0, width=70, height=50)
    _, triangles = triangles_of(meshes, camera)
    limit = torch.full((50, 70), distance + 0.5)
    fast = rasterize_numba(triangles, 70, 50, layers, limit, samples=2)
    plain = rasterize_torch(triangles, 70, 50, layers, limit, samples=2, chunk=10_000)
    assert (fast.face >= 0).float().mean() > 0.2
    assert not torch.equal(fast.face, rasterize_numba(triangles, 70, 50, layers, limit).face)
    assert torch.equal(fast.face, plain.face)
    assert torch.allclose(fast.depth, plain.depth, atol=1e-6)


def test_layers_are_sorted_and_start_with_the_nearest():
    camera = orbit([0.0, 0.0, 0.0], 3.0, width=40, height=40)
    _, triangles = triangles_of([triangle_soup(50, 5, TWO_SIDED)], camera)
    one = rasterize_numba(triangles, 40, 40, 1)
    four = rasterize_numba(triangles, 40, 40, 4)
    assert torch.equal(four.face[0], one.face[0])
    assert (four.depth[1:] >= four.depth[:-1]).all()
    assert (four.face[3] >= 0).any()


def test_shared_edges_are_drawn_once():
    """The diagonal of a quad passes exactly through sample points: each belongs to one triangle."""
    camera = orbit([0.0, 0.0, 0.0], 3.0, width=64, height=64)
    for meshes in ([quad(TWO_SIDED)], [sphere(PLAIN, rings=6)]):
        _, triangles = triangles_of(meshes, camera)
        both = rasterize_numba(triangles, 64, 64, 2).face
        assert (both[0] >= 0).sum() > 500
        assert (both[1] == -1).all()
    _, triangles = triangles_of([quad(TWO_SIDED)], camera)
    assert (rasterize_torch(triangles, 64, 64, 2).face[1] == -1).all()


def test_sphere_silhouette_and_depth():
    """A sphere projects to a disk of radius f r / sqrt(d^2 - r^2); its nearest point is at d - r."""
    distance, radius = 3.0, 0.8
    camera = orbit([0.0, 0.0, 0.0], distance, 0.4, 0.0, fov=0.8, width=161, height=161)
    render = render_meshes([sphere(PLAIN, radius=radius, rings=128)], camera, samples=2)
    disk = math.pi * (camera.focal * radius) ** 2 / (distance**2 - radius**2)
    assert render.alpha.sum().item() == pytest.approx(disk, rel=2e-3)
    assert (render.labels > 0).sum().item() == pytest.approx(disk, rel=4e-3)
    assert render.depth[80, 80].item() == pytest.approx(distance - radius, abs=1e-3)
    to_eye = camera.T_world_camera[:3, 3] / distance
    assert torch.allclose(render.normal[80, 80], to_eye, atol=2e-2)


def test_nothing_is_seen_outside():
    camera = orbit([0.0, 0.0, 0.0], 3.0, width=64, height=64)
    render = render_meshes([sphere(PLAIN, radius=0.3, rings=8)], camera, background=None)
    empty = render.labels == 0
    assert empty.any()
    assert torch.isinf(render.depth[empty]).all()
    assert (render.normal[empty] == 0).all()
    assert (render.alpha[0] == 0).all()
    assert (render.rgb[0] == 0).all()


def test_backs_are_culled_unless_two_sided():
    behind = orbit([0.0, 0.0, 0.0], 3.0, azimuth=math.pi, width=32, height=32)
    assert render_meshes([quad(PLAIN)], behind).alpha.max() == 0
    render = render_meshes([quad(TWO_SIDED)], behind)
    assert render.alpha.max() == 1
    assert torch.allclose(render.normal[16, 16], torch.tensor([0.0, 0.0, -1.0]))


def test_alpha_test_cuts_where_the_texture_says():
    """Half of the texels are clear: the picture of the quad loses half of its area, on its right-hand side."""
    texture = torch.ones(64, 64, 4)
    texture[:, 32:, 3] = 0
    leaf = Material("leaf", base_color_texture=texture, alpha_mode="MASK")
    camera = orbit([0.0, 0.0, 0.0], 5.0, fov=0.5, width=64, height=64)
    whole = render_meshes([quad(PLAIN)], camera).alpha
    half = render_meshes([quad(leaf)], camera).alpha
    assert half.sum().item() == pytest.approx(0.5 * whole.sum().item(), rel=0.03)
    assert torch.equal(half[:, :31], whole[:, :31])


def test_tested_coverage_survives_distance():
    """Of thin opaque hairs about as large a share is drawn from afar as from near."""
    texture = torch.ones(512, 512, 4)
    texture[..., 3] = (torch.rand(32, 512, generator=torch.Generator().manual_seed(0)) < 0.3).repeat(16, 1)
    leaf = Material("leaf", base_color_texture=texture, alpha_mode="MASK")
    shares = []
    for distance in (4.0, 10.0, 25.0):
        camera = orbit([0.0, 0.0, 0.0], distance, 0.2, fov=0.6, width=256, height=256)
        whole = render_meshes([quad(PLAIN)], camera).alpha.sum()
        shares.append(float(render_meshes([quad(leaf)], camera).alpha.sum() / whole))
    assert shares == pytest.approx([0.3] * 3, abs=0.1)
