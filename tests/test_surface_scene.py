"""Surfaces that are distilled: marching tetrahedra, outlines, and scenes made of them."""

import math

import pytest
import torch
from render_scenes import sphere
from torch import Tensor

from avatar3d.camera import orbit
from avatar3d.distill.surface_scene import (
    SurfaceError,
    SurfaceScene,
    density_distance,
    surface_from_field,
    surface_from_radiance,
)
from avatar3d.distill.tetrahedra import Lattice, marched, sign_entropy
from avatar3d.fields.radiance import RadianceSample
from avatar3d.mesh.clean import euler_number, is_closed, volume
from avatar3d.mesh.textured import Meshing
from avatar3d.render.outlines import antialiased, crossings, mesh_edges
from avatar3d.render.peer_rasterizers import PeerError, rasterize_nvdiffrast, rasterize_pytorch3d
from avatar3d.render.sight import homogeneous_pixels, interpolated, rasterize_faces, sight
from avatar3d.structures import FieldSample, Material

BOX = torch.tensor([[-1.0, -1, -1], [1, 1, 1]])
FRONT = orbit([0.0, 0.0, 0.0], 5.0, fov=0.5, width=64, height=64)


def ball(points: Tensor, radius: float = 0.6) -> Tensor:
    return points.norm(dim=-1) - radius


def ball_field(points: Tensor) -> FieldSample:
    return FieldSample(ball(points), (points * 0.4 + 0.5).clamp(0, 1), points.new_zeros(len(points), 2))


def area(vertices: Tensor, faces: Tensor) -> Tensor:
    a, b, c = vertices[faces].unbind(1)
    return torch.linalg.cross(b - a, c - a).norm(dim=1).sum() / 2


def test_marched_sphere_has_the_area_and_volume_of_a_sphere():
    errors = []
    for cells in (16, 32):
        lattice = Lattice(BOX, cells)
        vertices, faces = marched(lattice, ball(lattice.nodes()), lattice.nodes())
        assert is_closed(faces)
        assert euler_number(faces) == 2
        assert area(vertices, faces) == pytest.approx(4 * math.pi * 0.36, rel=0.03)
        errors.append(abs(volume(vertices, faces) / (4 / 3 * math.pi * 0.216) - 1))
    assert errors[0] < 0.03
    assert errors[1] < 0.4 * errors[0]


def test_surfaces_are_closed_whatever_the_distances():
    generator = torch.Generator().manual_seed(0)
    lattice = Lattice(BOX, 7)
    noise = torch.randn(8**3, generator=generator)
    vertices, faces = marched(lattice, noise, lattice.nodes())
    assert is_closed(faces)
    assert (vertices.abs() <= 1).all()
    full, closed = marched(lattice, -torch.ones(8**3), lattice.nodes())
    assert is_closed(closed)
    assert volume(full, closed) > 0


def test_marched_volume_has_the_gradient_of_finite_differences():
    lattice = Lattice(BOX.double(), 8)
    nodes = lattice.nodes()
    distance = (ball(nodes) + 0.013).requires_grad_()
    moved = nodes.clone().requires_grad_()

    def measured(s: Tensor, p: Tensor) -> Tensor:
        vertices, faces = marched(lattice, s, p)
        a, b, c = vertices[faces].unbind(1)
        return (torch.linalg.cross(a, b) * c).sum() / 6

    measured(distance, moved).backward()
    generator = torch.Generator().manual_seed(1)
    ds = torch.randn(distance.shape, generator=generator, dtype=torch.float64)
    dp = torch.randn(moved.shape, generator=generator, dtype=torch.float64)
    h = 1e-6
    with torch.no_grad():
        slope = measured(distance + h * ds, moved + h * dp) - measured(distance - h * ds, moved - h * dp)
    expected = (distance.grad * ds).sum() + (moved.grad * dp).sum()
    assert float(slope / (2 * h)) == pytest.approx(float(expected), rel=1e-5)


def test_sign_entropy_counts_flips_and_pulls_them_together():
    lattice = Lattice(BOX, 10)
    smooth = ball(lattice.nodes()) * 5
    noisy = torch.where(torch.arange(len(smooth)) % 17 == 0, -smooth, smooth)
    assert sign_entropy(noisy, 10) > 1.5 * sign_entropy(smooth, 10)
    assert sign_entropy(torch.ones(11**3), 10) == 0


def coverage(vertices: Tensor, faces: Tensor, camera=FRONT) -> Tensor:
    """Mean alpha."""
    seen = sight(vertices, faces, camera)
    image = vertices.new_zeros(1, seen.depth.numel())
    image[0, seen.pixel] = 1.0
    points = homogeneous_pixels(vertices, camera)
    return antialiased(image, crossings(mesh_edges(faces), faces, points, seen.depth, camera.focal)).mean()


@pytest.mark.parametrize("turn", [0.0, 0.3, 0.9])
def test_coverage_of_a_moving_triangle(turn: float):
    """The mean of alpha is the triangle's area in the picture, and so is its gradient."""
    c, s = math.cos(turn), math.sin(turn)
    flat = torch.tensor([[-0.7, -0.6], [0.75, -0.4], [-0.1, 0.7]], dtype=torch.float64) @ torch.tensor(
        [[c, s], [-s, c]], dtype=torch.float64
    )
    vertices = torch.cat([flat, torch.zeros(3, 1, dtype=torch.float64)], 1).requires_grad_()
    faces = torch.tensor([[0, 1, 2]])

    def exact(v: Tensor) -> Tensor:
        p = homogeneous_pixels(v, FRONT)
        (ax, ay), (bx, by) = ((p[n, :2] / p[n, 2] - p[0, :2] / p[0, 2]).unbind(0) for n in (1, 2))
        return (ax * by - ay * bx).abs() / 2 / 64**2

    got, wanted = coverage(vertices, faces), exact(vertices)
    assert got.item() == pytest.approx(wanted.item(), rel=0.01)
    (slope,), (expected,) = (torch.autograd.grad(x, vertices) for x in (got, wanted))
    assert torch.allclose(slope[:, :2], expected[:, :2], atol=0.12 * float(expected.abs().max()))


@pytest.mark.parametrize("rings", [6, 48])
def test_coverage_of_a_growing_sphere(rings: int):
    """Also when its triangles are smaller than pixels: d(coverage)/d(radius) by finite differences."""
    mesh = sphere(Material("grey"), rings=rings).mesh
    faces = mesh.faces
    unit = mesh.vertices.double()
    radius = torch.tensor(0.6, dtype=torch.float64, requires_grad=True)
    weld = torch.unique((unit * 1e5).round(), dim=0, return_inverse=True)[1]
    kept = torch.tensor([len(set(weld[f].tolist())) == 3 for f in faces])
    first = torch.zeros(int(weld.max()) + 1, dtype=torch.long).scatter(0, weld, torch.arange(len(weld)))
    faces = first[weld[faces[kept]]]
    (slope,) = torch.autograd.grad(coverage(radius * unit, faces), radius)
    with torch.no_grad():
        ahead, back = coverage((radius + 0.03) * unit, faces), coverage((radius - 0.03) * unit, faces)
    assert float(slope) == pytest.approx(float(ahead - back) / 0.06, rel=0.06)


def test_hidden_outlines_change_nothing():
    """A triangle behind a larger one leaves no trace."""
    large = torch.tensor([[-1.5, -1.5, 0.5], [1.5, -1.5, 0.5], [0.0, 1.9, 0.5]])
    small = large * 0.3 - torch.tensor([0.0, 0.0, 1.0])
    vertices, faces = torch.cat([large, small]), torch.tensor([[0, 1, 2], [3, 4, 5]])
    assert coverage(vertices, faces) == coverage(large, faces[:1])


def test_interpolation_meets_the_surface():
    vertices, faces = torch.randn(3, 3, generator=torch.Generator().manual_seed(4)), torch.tensor([[0, 1, 2]])
    seen = sight(vertices, faces, FRONT)
    if len(seen.pixel) == 0:
        faces = faces.flip(1)
        seen = sight(vertices, faces, FRONT)
    points = interpolated(vertices, faces[seen.face], seen.barycentric)
    p = homogeneous_pixels(points, FRONT)
    assert len(p) > 50
    assert torch.allclose((p[:, 0] / p[:, 2]).floor().long(), seen.pixel % 64)
    assert torch.allclose(p[:, 2], seen.depth.view(-1)[seen.pixel], atol=1e-4)


def draw(scene: SurfaceScene, seed: int = 0, shading: str = "lambertian"):
    return scene.draw([FRONT], torch.tensor([[0.2, 0.4, 0.6]]), shading, torch.Generator().manual_seed(seed))


def test_pictures_of_a_scene():
    scene = surface_from_field(ball_field, BOX, cells=20)
    a, b, other = draw(scene), draw(scene), draw(scene, 1)
    assert torch.equal(a.rgb, b.rgb)
    assert not torch.equal(a.rgb, other.rgb)
    assert torch.allclose(a.rgb[0, :, 0, 0], torch.tensor([0.2, 0.4, 0.6]), atol=1e-5)
    assert a.alpha[0, 32, 32] == 1
    albedo = draw(scene, shading="albedo").rgb[0, :, 32, 32]
    assert torch.allclose(albedo, torch.tensor([0.5, 0.5, 0.74]), atol=0.03)
    white = draw(scene, shading="textureless").rgb[0, :, 32, 32]
    assert white[0] == white[2]
    (a.rgb.mean() + sum(a.penalties.values())).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in scene.parameters())


def test_a_ball_grows_to_the_size_of_another():
    """Alpha alone, through the outlines, moves the surface."""
    with torch.no_grad():
        wanted = draw(surface_from_field(lambda p: FieldSample(ball(p, 0.75), p, p), BOX, 20)).alpha
    scene = surface_from_field(ball_field, BOX, cells=20)
    optimizer = torch.optim.Adam([scene.distance], lr=0.12)
    errors = []
    for _ in range(15):
        pictures = draw(scene, shading="textureless")
        loss = ((pictures.alpha - wanted) ** 2).mean()
        errors.append(float(loss.detach()))
        optimizer.zero_grad()
        (loss + 1e-3 * pictures.penalties["laplacian"]).backward()
        optimizer.step()
    assert errors[-1] < 0.2 * errors[0]


def test_a_density_becomes_a_surface():
    """Where it passes the level, to a fraction of a cell; with its colors."""

    class Fog:
        bounds = BOX

        def __call__(self, points: Tensor) -> RadianceSample:
            rgb = torch.tensor([0.9, 0.1, 0.2]).expand(len(points), 3)
            return RadianceSample((100 * (0.6 - points.norm(dim=1)) + 30).clamp_min(0), rgb)

    scene = surface_from_radiance(Fog(), 30.0, cells=24)
    vertices, faces = scene.surface()
    assert is_closed(faces)
    assert (vertices.norm(dim=1) - 0.6).abs().max() < 0.25 * 2 / 24
    seen = draw(scene, shading="albedo").rgb[0, :, 32, 32]
    assert torch.allclose(seen, torch.tensor([0.9, 0.1, 0.2]), atol=0.01)
    with pytest.raises(SurfaceError, match="lower the level"):
        surface_from_radiance(Fog(), 1000.0, cells=8)


def test_distances_to_a_level():
    lattice = Lattice(BOX, 20)
    density = (3 - 4 * ball(lattice.nodes())).view(21, 21, 21)
    got = density_distance(density, 3.0, lattice.cell).view(-1)
    assert (got - ball(lattice.nodes())).abs().max() < 1.2 * 0.1
    assert torch.equal(got < 0, density.view(-1) > 3.0)


def test_a_scene_becomes_a_textured_mesh():
    scene = surface_from_field(ball_field, BOX, cells=16)
    made = scene.textured(Meshing(triangles=800, texture=128, padding=4))
    assert made.closed
    assert len(made.mesh.faces) <= 800
    assert made.seam_error < 0.05
    assert made.mesh.vertices.norm(dim=1).sub(0.6).abs().max() < 0.03


@pytest.mark.parametrize("peer", [rasterize_pytorch3d, rasterize_nvdiffrast])
def test_peers_agree(peer):
    mesh = sphere(Material("grey"), rings=12).mesh
    if peer is rasterize_nvdiffrast and not torch.cuda.is_available():
        pytest.skip("nvdiffrast rasterizes on CUDA devices only")
    device = "cuda" if peer is rasterize_nvdiffrast else "cpu"
    vertices, faces = mesh.vertices.to(device), mesh.faces.to(device)
    try:
        theirs = peer(vertices, faces, FRONT)
    except PeerError as error:
        pytest.skip(str(error))
    ours = rasterize_faces(vertices, faces, FRONT)
    assert (ours.face == theirs.face).float().mean() > 0.98
    both = torch.isfinite(ours.depth) & torch.isfinite(theirs.depth)
    assert torch.allclose(ours.depth[both], theirs.depth[both], atol=0.02)


@pytest.mark.parametrize("peer", [rasterize_pytorch3d, rasterize_nvdiffrast])
def test_a_missing_peer_says_how_to_install_it(peer, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, peer.__name__.removeprefix("rasterize_"), None)
    with pytest.raises(PeerError, match="pip install"):
        peer(torch.zeros(3, 3), torch.tensor([[0, 1, 2]]), FRONT)
