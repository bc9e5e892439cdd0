"""A textured surface of any shape: the second stage of Magic3D (Lin et al. 2022, section 4.2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from scipy.ndimage import distance_transform_edt
from torch import Tensor, nn

from avatar3d.distill.lamp import lamp_direction, lit
from avatar3d.distill.scene import DistilledScene, Pictures, Shading
from avatar3d.distill.tetrahedra import KEPT, Lattice, marched, sign_entropy
from avatar3d.errors import InputError
from avatar3d.fields.radiance import RadianceField
from avatar3d.mesh.clean import filled_holes, largest_pieces
from avatar3d.mesh.extract import Field
from avatar3d.mesh.normals import vertex_normals
from avatar3d.mesh.textured import Meshing, TexturedMesh, textured_surface
from avatar3d.render.color import linear_to_srgb, srgb_to_linear
from avatar3d.render.outlines import Edges, antialiased, crossings, mesh_edges
from avatar3d.render.sight import homogeneous_pixels, interpolated, sight
from avatar3d.structures import Camera, FieldSample

CHUNK = 1 << 16
"""Points that are evaluated at once."""
LEAST = 1 / 255
"""Colors start this far from black and white, where they could not move."""

Colors = Callable[[Float[Tensor, "N 3"]], Float[Tensor, "N 3"]]
"""Positions to sRGB."""


class SurfaceError(InputError, ValueError):
    """Nothing to make a surface of."""


class ColorGrid(nn.Module):
    """Colors in a box: a coarse grid, which few steps change smoothly, plus a fine one, looked up trilinearly."""

    bounds: Tensor

    def __init__(self, bounds: Float[Tensor, "2 3"], size: int = 64, coarse: int = 12) -> None:
        super().__init__()
        self.register_buffer("bounds", bounds.clone())
        self.levels = nn.ParameterList(bounds.new_zeros(1, 3, n, n, n) for n in (coarse, size))

    def forward(self, points: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
        return torch.sigmoid(self._at(self.levels[0], points) + self._at(self.levels[1], points))

    @torch.no_grad()
    def fit(self, colors: Colors) -> None:
        """Take the colors of another field at the grid's nodes."""
        for n, level in enumerate(self.levels):
            lattice = Lattice(self.bounds, level.shape[-1] - 1)
            points = lattice.nodes()
            rgb = torch.cat([colors(piece) for piece in points.split(CHUNK)]).clamp(LEAST, 1 - LEAST)
            rest = torch.logit(rgb) - self._at(self.levels[0], points) * (n > 0)
            level.copy_(rest.T.view_as(level))

    def _at(self, level: Float[Tensor, "1 3 S S S"], points: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
        low, high = self.bounds.unbind(0)
        grid = ((points - low) / (high - low) * 2 - 1).flip(-1)[None, None, None]
        return F.grid_sample(level, grid, padding_mode="border", align_corners=True)[0, :, 0, 0].T


class SurfaceScene(DistilledScene):
    """Signed distances and offsets of the nodes of a lattice, and a field of colors.

    `distance` are those of the surface to start from at the lattice's nodes, in the units of `bounds`; `colors`
    may be any module from positions to sRGB, which is trained too.

    Raises `SurfaceError` when no node of the lattice is inside.
    """

    bounds: Tensor
    nodes: Tensor

    def __init__(
        self,
        distance: Float[Tensor, " N"],
        bounds: Float[Tensor, "2 3"],
        cells: int = 48,
        colors: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.register_buffer("bounds", bounds.clone())
        self.cells = cells
        self.register_buffer("nodes", self.lattice.nodes())
        start = distance.detach()
        if not torch.isfinite(start).all():
            raise SurfaceError("the field's distances are not finite; check the weights that it was made with")
        if not (start < 0).any():
            raise SurfaceError(
                "nothing of the field is inside its surface: lower the level at which density counts as solid, or "
                "use a finer lattice (more cells)"
            )
        cell = float(self.lattice.cell.mean())
        self.distance = nn.Parameter(start / cell)
        """In cells, so that one learning rate suits all sizes."""
        self.stray = nn.Parameter(torch.zeros_like(self.nodes))
        self.colors = ColorGrid(bounds) if colors is None else colors

    @property
    def lattice(self) -> Lattice:
        return Lattice(self.bounds, self.cells)

    def surface(self) -> tuple[Float[Tensor, "V 3"], Int[Tensor, "F 3"]]:
        """Vertices, differentiable, and outward faces; closed."""
        moved = self.nodes + KEPT * self.lattice.cell * torch.tanh(self.stray)
        return marched(self.lattice, self.distance * self.lattice.cell.mean(), moved)

    def draw(
        self,
        cameras: Sequence[Camera],
        background: Float[Tensor, "B 3"],
        shading: Shading,
        generator: torch.Generator,
    ) -> Pictures:
        """Pictures, as `scene.DistilledScene` says; gradients reach distances and offsets through outlines (and
        through normals where there is light)."""
        vertices, faces = self.surface()
        if len(faces) == 0:
            raise SurfaceError("the surface has vanished: take smaller steps, or a smaller weight of sign_entropy")
        edges, normals = mesh_edges(faces), vertex_normals(vertices, faces)
        drawn = []
        for camera, behind in zip(cameras, background, strict=True):
            lamp = lamp_direction(camera, generator)
            drawn.append(self._picture(vertices, faces, normals, edges, camera, behind, shading, lamp))
        rgb, alpha = (torch.stack(column) for column in zip(*drawn, strict=True))
        return Pictures(rgb, alpha, self.penalties(vertices, faces, edges))

    def _picture(
        self, vertices: Tensor, faces: Tensor, normals: Tensor, edges: Edges, camera: Camera, behind: Tensor,
        shading: Shading, lamp: Tensor,
    ) -> tuple[Float[Tensor, "3 H W"], Float[Tensor, "H W"]]:  # fmt: skip
        seen = sight(vertices, faces, camera)
        corners = faces[seen.face]
        if shading == "textureless":
            light = vertices.new_ones(len(corners), 3)
        else:
            light = srgb_to_linear(self.colors(interpolated(vertices, corners, seen.barycentric)))
        if shading != "albedo":
            normal = F.normalize(interpolated(normals, corners, seen.barycentric), dim=-1)
            light = light * lit(normal, lamp)[:, None]
        premultiplied = torch.cat([light, light.new_ones(len(light), 1)], 1).T
        image = light.new_zeros(4, seen.depth.numel()).index_copy(1, seen.pixel, premultiplied)
        found = crossings(edges, faces, homogeneous_pixels(vertices, camera), seen.depth, camera.focal)
        return composed(antialiased(image, found), behind, camera)

    def penalties(
        self, vertices: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"], edges: Edges
    ) -> dict[str, Float[Tensor, ""]]:
        """Regularisers of the surface; none depends on its size."""
        return {
            "normal_consistency": normal_consistency(vertices, faces, edges),
            "laplacian": uniform_laplacian(vertices / self.lattice.cell.mean(), edges),
            "sign_entropy": sign_entropy(self.distance, self.cells),
        }

    @torch.no_grad()
    def textured(self, meshing: Meshing | None = None) -> TexturedMesh:
        """The surface with a texture of its own, ready to be written; small pieces are dropped."""
        meshing = meshing or Meshing()
        vertices, faces = filled_holes(*largest_pieces(*self.surface(), meshing.least_piece))

        def on_surface(points: Float[Tensor, "N 3"]) -> FieldSample:
            rgb = self.colors(points)
            return FieldSample(points.new_zeros(len(points)), rgb, rgb.new_zeros(len(points), 1))

        return textured_surface(on_surface, vertices, faces, meshing)


def composed(
    image: Float[Tensor, "4 P"], behind: Float[Tensor, " 3"], camera: Camera
) -> tuple[Float[Tensor, "3 H W"], Float[Tensor, "H W"]]:
    """Premultiplied linear light and alpha over an sRGB background, as sRGB and alpha."""
    light, alpha = image[:3], image[3]
    over = light + (1 - alpha) * srgb_to_linear(behind.to(image))[:, None]
    shape = (camera.height, camera.width)
    return linear_to_srgb(over.clamp(0, 1)).view(3, *shape), alpha.view(shape)


def normal_consistency(
    vertices: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"], edges: Edges
) -> Float[Tensor, ""]:
    """Mean of 1 - cosine between the normals of faces that share an edge."""
    a, b, c = (vertices[faces[:, n]] for n in range(3))
    normals = F.normalize(torch.linalg.cross(b - a, c - a), dim=1, eps=1e-20)
    return (1 - (normals[edges.faces[:, 0]] * normals[edges.faces[:, 1]]).sum(1)).mean()


def uniform_laplacian(vertices: Float[Tensor, "V 3"], edges: Edges) -> Float[Tensor, ""]:
    """Mean squared distance of vertices from the mean of their neighbors."""
    i, j = edges.ends.unbind(1)
    total = torch.zeros_like(vertices).index_add(0, i, vertices[j]).index_add(0, j, vertices[i])
    count = torch.bincount(edges.ends.reshape(-1), minlength=len(vertices)).clamp_min(1)
    return ((total / count[:, None] - vertices) ** 2).sum(1).mean()


def surface_from_field(field: Field, bounds: Float[Tensor, "2 3"], cells: int = 48) -> SurfaceScene:
    """Start from the surface and the colors of a field of distances."""
    with torch.no_grad():
        start = torch.cat([field(piece).distance for piece in Lattice(bounds, cells).nodes().split(CHUNK)])
    return SurfaceScene(start, bounds, cells, _fitted(lambda points: field(points).rgb, bounds))


def surface_from_radiance(field: RadianceField, level: float, cells: int = 48) -> SurfaceScene:
    """Start from where the density of a radiance field passes `level` (per unit of length), and from its colors.

    Raises `SurfaceError` when it is nowhere so dense.
    """
    lattice = Lattice(field.bounds, cells)
    with torch.no_grad():
        density = torch.cat([field(piece).density for piece in lattice.nodes().split(CHUNK)])
    start = density_distance(density.view(*[cells + 1] * 3), level, lattice.cell).view(-1)
    return SurfaceScene(start, field.bounds, cells, _fitted(lambda points: field(points).rgb, field.bounds))


def _fitted(colors: Colors, bounds: Float[Tensor, "2 3"]) -> ColorGrid:
    grid = ColorGrid(bounds)
    grid.fit(colors)
    return grid


def density_distance(
    density: Float[Tensor, "X Y Z"], level: float, cell: Float[Tensor, " 3"]
) -> Float[Tensor, "X Y Z"]:
    """Signed distances to a level of densities: where a node has a neighbor on the other side the share of the way
    that linear interpolation says, farther away the distance to the nearest such node."""
    solid = density > level
    over = density - level
    nearest = density.new_full(density.shape, torch.inf)
    for axis in range(3):
        n = density.shape[axis]
        first, second = over.narrow(axis, 0, n - 1), over.narrow(axis, 1, n - 1)
        crossed = (first > 0) != (second > 0)
        share = first / torch.where(crossed, first - second, 1.0)
        for start, part in ((0, share), (1, 1 - share)):
            part = torch.where(crossed, part * cell[axis], torch.inf)
            view = nearest.narrow(axis, start, n - 1)
            view.copy_(torch.minimum(view, part))
    near = torch.isfinite(nearest).cpu().numpy()
    if not near.any():
        return density.new_full(density.shape, 1.0) * float(cell.norm()) * (1 - 2 * solid.to(density))
    away, index = distance_transform_edt(~near, sampling=cell.cpu().numpy(), return_indices=True)
    known = nearest[tuple(torch.from_numpy(np.ascontiguousarray(i)) for i in index)]
    size = torch.from_numpy(away).to(density) + known
    return torch.where(solid, -size, size)
