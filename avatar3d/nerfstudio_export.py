"""Meshes of nerfstudio's checkpoints: nerfacto and its kin, generfacto, and our own method.

    export_checkpoint(Path("outputs/bust/nerfacto/2026-01-31_120000"), Path("bust"), Settings(("glb", "obj")))

nerfstudio itself reads the run. Its config.yml is a program in disguise (YAML with Python objects), which
nerfstudio runs: open only runs of people you trust.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from avatar3d.distilled import write_meshes
from avatar3d.errors import InputError
from avatar3d.fields.radiance import RadianceField, RadianceSample
from avatar3d.mesh.textured import Meshing, textured_mesh
from avatar3d.render.radiance_surface import radiance_surface
from avatar3d.runs import passport, peak_memory_mb, require_free, require_parent, whole_folder, write_json
from avatar3d.source import NERFSTUDIO, nerfstudio_run

FORMATS = ("glb", "obj", "ply", "stl")
CHUNK = 1 << 15
"""Points that the model is asked about at once."""
INSTALL = (
    "Install it with `pip install 'avatar3d[nerfstudio]'`; or, without its many packages for other methods and "
    "beside the torch that is here, with `pip install --no-deps nerfstudio==1.1.5` and then `pip install` of what "
    "it says is missing"
)


class NerfstudioError(InputError):
    """A run of nerfstudio of which no mesh can be made; the message says why and what to do."""


@dataclass(frozen=True)
class Settings:
    """What to make of a run."""

    formats: tuple[str, ...] = ("glb",)
    """glb, obj, ply, stl."""
    bounds: tuple[tuple[float, float, float], tuple[float, float, float]] | None = None
    """Low and high corner of the part to keep, in nerfstudio's frame (z up); None for the scene's box."""
    level: float | None = None
    """Density of the surface; None for the one at which pictures show it."""
    cells: int = 128
    """Cubes along the longest side of the box."""
    triangles: int = 50000
    texture: int = 2048


def export_checkpoint(
    run: Path,
    out: Path,
    settings: Settings | None = None,
    overwrite: bool = False,
    report: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> dict:
    """The latest checkpoint of a run as `object.glb` and the other formats in the new folder `out`, y up, in
    nerfstudio's units of length. Returns what run.json there says.

    Raises `NerfstudioError`, `OutputError`, or `FieldError` when the field has no surface.
    """
    s = settings or Settings()
    unknown = [name for name in s.formats if name not in FORMATS]
    if unknown:
        raise NerfstudioError(
            f"--format has no {unknown[0]!r} for meshes without a skeleton: choose from {', '.join(FORMATS)}"
        )
    require_parent(out)
    require_free(out, overwrite)
    began = time.perf_counter()
    report("reading the checkpoint", 0, 2)
    opened = open_run(run)
    read = time.perf_counter()
    report("making the mesh", 1, 2)
    field = radiance_of(opened.model, None if s.bounds is None else torch.tensor(s.bounds))
    cell = float((field.bounds[1] - field.bounds[0]).max()) / s.cells
    made = textured_mesh(radiance_surface(field, s.level), field.bounds, Meshing(cell, s.triangles, s.texture))
    prompt = getattr(opened.model.config, "prompt", None)
    source = {"method": opened.method, "step": opened.step}
    meant = {"generator": "avatar3d", "generated": prompt is not None, "prompt": prompt, "nerfstudio": source}
    with whole_folder(out, overwrite) as partial:
        write_meshes(made.mesh, s.formats, partial, meant)
        record = {
            **meant,
            "avatar": str(run),
            "mesh": {"triangles": len(made.mesh.faces), "closed": made.closed, "seam_error": made.seam_error},
            "report": {},
            "folder": str(out),
            "files": {file.name: file.stat().st_size for file in sorted(partial.iterdir()) if file.is_file()},
            "seconds": {"reading": round(read - began, 3), "mesh": round(time.perf_counter() - read, 3)},
            "peak_memory_mb": peak_memory_mb(),
            **passport(),
        }
        write_json(partial / "run.json", record)
    report("making the mesh", 2, 2)
    return record


@dataclass(frozen=True)
class Opened:
    """A run with the weights of its latest checkpoint."""

    model: Any
    method: str
    step: int


def open_run(run: Path) -> Opened:
    """Let nerfstudio read a run, wherever its folder is now.

    Raises `NerfstudioError` when nerfstudio is missing or can not read it.
    """
    folder = nerfstudio_run(run)
    if folder is None:
        raise NerfstudioError(f"{run} is no run of nerfstudio: it needs {' and '.join(NERFSTUDIO)}")
    try:
        from nerfstudio.utils.eval_utils import eval_setup
    except Exception as error:  # a torchvision of another torch raises RuntimeError
        raise NerfstudioError(
            f"{folder} was made by nerfstudio, which can not be imported here ({_line(error)}). {INSTALL}"
        ) from error

    methods = []

    def moved(config: Any) -> Any:
        methods.append(config.method_name)
        config.output_dir, config.timestamp = folder.resolve().parent, folder.resolve().name
        config.experiment_name = config.method_name = "."
        return config

    try:
        with contextlib.redirect_stdout(sys.stderr), _plain_numbers():
            _, pipeline, _, step = eval_setup(
                folder / NERFSTUDIO[0], test_mode="inference", update_config_callback=moved
            )
    except (Exception, SystemExit) as error:
        raise NerfstudioError(
            f"nerfstudio can not open {folder} ({_line(error)}). It needs the data set where it was in training, "
            "and the packages of the method; `ns-eval` with the same config.yml says more"
        ) from error
    return Opened(pipeline.model, methods[0], int(step))


def _plain_numbers() -> contextlib.AbstractContextManager:
    """Lets torch, from 2.6 on for tensors only, read the NumPy numbers that nerfstudio's schedulers save."""
    allowed = getattr(torch.serialization, "safe_globals", None)
    kinds = [np.float64(0).__reduce__()[0], np.dtype, type(np.dtype(np.float64))]
    return contextlib.nullcontext() if allowed is None else allowed(kinds)


def _line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]


def radiance_of(model: Any, bounds: Float[Tensor, "2 3"] | None = None) -> RadianceField:
    """A trained model of nerfstudio in a box, y up. The model has to be in its evaluation mode.

    `bounds` are in the model's frame, z up; without them the box is the scene's. Raises `NerfstudioError` for
    models that are not made of density and color.
    """
    field = getattr(model, "field", None)
    if isinstance(field, RadianceField):
        return field
    if not (hasattr(field, "get_density") and hasattr(field, "get_outputs")):
        raise NerfstudioError(
            f"a {type(model).__name__} has no field with density and color; nerfacto, generfacto and their kin "
            "have. `ns-export` writes splats, and meshes of distance fields"
        )
    box = model.scene_box.aabb if bounds is None else bounds
    device = next(model.parameters()).device
    return ModelField(model, box.detach().to(device, torch.float32))


@dataclass(frozen=True)
class ModelField:
    """Density and color of a model, without gradients, as `fields.radiance.RadianceField`.

    Colors are those that a ray towards the middle of the box sees: what lies on the outside is seen from outside.
    """

    model: Any
    box: Float[Tensor, "2 3"]
    """In the model's frame."""

    @property
    def bounds(self) -> Float[Tensor, "2 3"]:
        """The box in our frame."""
        (x, y, z), (x2, y2, z2) = self.box.unbind(0)
        return torch.stack([torch.stack([x, z, -y2]), torch.stack([x2, z2, -y])])

    @torch.no_grad()
    def __call__(self, points: Float[Tensor, "N 3"]) -> RadianceSample:
        x, y, z = points.unbind(1)
        samples = [self._asked(piece) for piece in torch.stack([x, -z, y], 1).split(CHUNK)]
        density, rgb = (torch.cat(column) for column in zip(*samples, strict=True))
        return RadianceSample(density.to(points), rgb.to(points))

    def _asked(self, points: Float[Tensor, "N 3"]) -> tuple[Float[Tensor, " N"], Float[Tensor, "N 3"]]:
        """Density and color at points of the model's frame."""
        from nerfstudio.cameras.rays import Frustums, RaySamples
        from nerfstudio.field_components.field_heads import FieldHeadNames

        inwards = torch.nn.functional.normalize(self.box.mean(0) - points, dim=1)
        zero = torch.zeros_like(points[:, :1])
        frustums = Frustums(origins=points, directions=inwards, starts=zero, ends=zero, pixel_area=zero + 1)
        samples = RaySamples(frustums=frustums, camera_indices=zero.long())
        density, features = self.model.field.get_density(samples)
        rgb = self.model.field.get_outputs(samples, density_embedding=features)[FieldHeadNames.RGB]
        return density[:, 0] * self._inside(points), rgb.clamp(0, 1)

    def _inside(self, points: Float[Tensor, "N 3"]) -> Float[Tensor, " N"]:
        """1 where the model's rays have been: some models, generfacto among them, look into a sphere only."""
        collider = getattr(self.model, "collider", None)
        if collider is None or not (hasattr(collider, "radius") and hasattr(collider, "center")):
            return torch.ones_like(points[:, 0])
        return ((points - collider.center.to(points)).norm(dim=1) < collider.radius).to(points)
