"""A radiance field as what is distilled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.distill.lamp import lamp_direction
from avatar3d.distill.scene import DistilledScene, Pictures
from avatar3d.distill.scene import Shading as ShadingName
from avatar3d.distill.stage import SceneConfig
from avatar3d.fields.background import Background
from avatar3d.fields.hash_grid import HashConfig, HashField
from avatar3d.fields.mlp import MlpConfig, MlpField
from avatar3d.fields.plane_field import PlaneConfig, PlaneField
from avatar3d.fields.voxels import VoxelConfig, VoxelField
from avatar3d.render.occupancy import Occupancy, occupancy
from avatar3d.render.radiance import Shading, Views, render_views
from avatar3d.render.regularize import (
    binary_entropy,
    distortion,
    opacity,
    orientation,
    smoothness,
    total_variation,
)
from avatar3d.structures import Camera

REFRESH = 16
"""Steps between looks at where the field is empty."""
CELLS = 32
"""Of the grid that remembers it, along each axis."""
UNSURE = 0.02
"""Share of empty cells that rays look into all the same, so that something can grow there."""
LAMP_DISTANCE = 5.0
NEEDS_NORMALS = ("orientation",)

RadianceModule = VoxelField | HashField | MlpField | PlaneField


class RadianceScene(DistilledScene):
    """Pictures of a radiance field by volume rendering, with the penalties that are asked for."""

    filled: Tensor
    least: Tensor

    def __init__(
        self,
        field: RadianceModule,
        config: SceneConfig,
        penalties: frozenset[str] = frozenset(),
        background: Background | None = None,
        memory: int = 1 << 30,
    ) -> None:
        super().__init__()
        self.field, self.config, self.wanted, self.background = field, config, penalties, background
        self.memory = memory
        self.register_buffer("filled", torch.ones(CELLS, CELLS, CELLS, dtype=torch.bool))
        self.register_buffer("least", torch.zeros(CELLS, CELLS, CELLS))

    def prepare(self, step: int, share: float, generator: torch.Generator) -> None:
        """Before a step: bring the field to its place of the run and look where it is empty."""
        self.field.anneal(share)
        if step % REFRESH == 0:
            grid = occupancy(self.field, CELLS, generator, share=UNSURE)
            self.filled, self.least = grid.filled, grid.least

    def draw(
        self,
        cameras: Sequence[Camera],
        background: Float[Tensor, "B 3"],
        shading: ShadingName,
        generator: torch.Generator,
    ) -> Pictures:
        """See `scene.DistilledScene`."""
        light = None
        if shading != "albedo":
            lamps = [LAMP_DISTANCE * lamp_direction(camera, generator) for camera in cameras]
            light = Shading(torch.stack(lamps), textureless=shading == "textureless")
        bounds = self.field.bounds
        views = render_views(
            self.field, cameras, self.config.nodes, self.config.importance, generator,
            self.background or background[:, None, None, :], light, bool(self.wanted & {*NEEDS_NORMALS}),
            Occupancy(self.filled, self.least, bounds), self.memory,
        )  # fmt: skip
        return Pictures(views.rgb, views.alpha, self._penalties(views))

    def _penalties(self, views: Views) -> dict[str, Tensor]:
        made = {
            "opacity": lambda: opacity(views.alpha),
            "entropy": lambda: binary_entropy(views.alpha),
            "orientation": lambda: orientation(views.facing),
            "distortion": lambda: distortion(views.weights, views.edges),
            "smoothness": lambda: smoothness(views.depth[:, None], views.alpha),
            "variation": self._variation,
        }
        return {name: make() for name, make in made.items() if name in self.wanted}

    def _variation(self) -> Tensor:
        if isinstance(self.field, VoxelField):
            return total_variation(self.field.grid, (0, 1, 2))
        if isinstance(self.field, PlaneField):
            return total_variation(self.field.planes, (2, 3))
        return self.filled.new_zeros((), dtype=torch.float32)


def new_field(config: SceneConfig, generator: torch.Generator) -> RadianceModule:
    """The field that a stage begins with when none came before it."""
    half = torch.tensor(config.box)
    bounds = torch.stack([-half, half])
    if config.kind == "voxels":
        return VoxelField(VoxelConfig(config.resolution), bounds)
    if config.kind == "hash":
        return HashField(HashConfig(), bounds, generator)
    if config.kind == "mlp":
        return MlpField(MlpConfig(), bounds, generator)
    return PlaneField(replace(PlaneConfig(), resolution=config.resolution), bounds, generator)


def refined(field: RadianceModule, config: SceneConfig) -> RadianceModule:
    """The field of the stage before at this stage's resolution."""
    if isinstance(field, VoxelField) and field.config.resolution != config.resolution:
        return field.upsampled(config.resolution)
    return field
