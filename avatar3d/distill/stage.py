"""What one stage of a distillation is: a scene, a loss, times, cameras, light, penalties."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Literal

from avatar3d.distill.schedules import Linear, Ramp, Schedule, SquareRoot, Uniform

Number = float | tuple[float, float, float, float]
"""A number, or (start, first, last, stop): `first` until the share `start` of the stage is done, on a line to
`last` at `stop`."""
Figure = Literal["bust", "whole"]
SceneKind = Literal["voxels", "hash", "mlp", "planes", "mesh", "avatar"]
LossName = Literal["sds", "x0", "sjc", "csd", "nfsd", "ism", "sdi", "sds_flow", "ucm", "vsd", "dds"]
WeightName = Literal["uniform", "noise_power", "both_powers", "noise_to_signal", "signal_to_noise"]


def at(number: Number, share: float) -> float:
    """A number of a stage when this share of it is done."""
    return Ramp(*number)(share) if isinstance(number, tuple) else number


@dataclass(frozen=True)
class SceneConfig:
    """What is optimised. A stage whose kind is that of the one before goes on with it, finer if asked."""

    kind: SceneKind = "voxels"
    box: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Half sizes of the box that holds the scene."""
    resolution: int = 64
    """Vertices of the voxel grid, cells of the tri-plane, or cells of the mesh's grid, along each axis."""
    nodes: int = 48
    """Samples along each ray."""
    importance: int = 0
    """More samples where those found something."""
    figure: Figure = "bust"
    """What of a person the box holds, for priors that are told the pose."""


@dataclass(frozen=True)
class Guidance:
    """What the prior is asked, and how its answer is used."""

    loss: LossName = "sds"
    scale: float = 7.5
    """uncond + scale * (cond - uncond); 1 is the plain prior."""
    negative: str = ""
    """What is not wanted, in words."""
    perp_neg: float = 1.0
    """Strength of leading away from other views (Perp-Neg), for priors that take the view from words."""
    weight: WeightName = "noise_power"
    limit: float | None = None
    """Largest gradient of a pixel."""


@dataclass(frozen=True)
class Own:
    """The model of the renders that the loss "vsd" trains beside the scene: low-rank layers in the prior."""

    rank: int = 4
    rate: float = 1e-4
    """Adam's."""


@dataclass(frozen=True)
class Times:
    """Noise levels that are asked about."""

    kind: Literal["uniform", "linear", "square_root"] = "uniform"
    low: Number = 0.02
    high: Number = 0.98

    def schedule(self) -> Schedule:
        """The callable of `schedules`; only uniform limits may move."""
        low, high = (Ramp(*x) if isinstance(x, tuple) else x for x in (self.low, self.high))
        if self.kind == "uniform":
            return Uniform(low, high)
        made = Linear if self.kind == "linear" else SquareRoot
        return made(high=at(self.high, 0.0), low=at(self.low, 1.0))


@dataclass(frozen=True)
class CloseUp:
    """A part of the scene that some pictures show alone."""

    share: float
    """Of the pictures."""
    target: tuple[float, float, float]
    """In the scene's box, [-1, 1]^3."""
    zoom: float
    """How much nearer."""
    words: str
    """Added to the prompt."""


@dataclass(frozen=True)
class Cameras:
    """Where pictures are taken from: orbits around the middle of the scene's box [-1, 1]^3. Angles in degrees."""

    radius: tuple[float, float] = (3.9, 4.4)
    fov: tuple[float, float] = (25.0, 25.0)
    elevation: tuple[float, float] = (-10.0, 40.0)
    azimuth: tuple[float, float] = (-180.0, 180.0)
    jitter: float = 0.03
    """Standard deviation of what is looked at."""
    frontal: float = 0.0
    """Until this share of the stage the azimuths widen from the front half to all (a curriculum against Janus)."""
    close_ups: tuple[CloseUp, ...] = ()


@dataclass(frozen=True)
class Look:
    """Light and what is behind."""

    albedo_until: float = 1.0
    """Share of the stage with material colors alone."""
    textureless: float = 0.5
    """Share of the lit pictures without colors."""
    plain: float = 0.25
    """Share of the lit stage's pictures that show material colors all the same."""
    background: Literal["random", "grey", "network"] = "random"


@dataclass(frozen=True)
class Penalties:
    """Weights of regularisers (`render.regularize`, and those of the scenes); 0 is off."""

    opacity: Number = 0.0
    entropy: Number = 0.0
    orientation: Number = 0.0
    distortion: Number = 0.0
    variation: Number = 0.0
    smoothness: Number = 0.0
    normal_consistency: Number = 0.0
    laplacian: Number = 0.0
    sign_entropy: Number = 0.0
    identity: Number = 0.0
    texture_variation: Number = 0.0
    relief_laplacian: Number = 0.0

    def wanted(self) -> frozenset[str]:
        """Names of those that count."""
        return frozenset(f.name for f in fields(self) if getattr(self, f.name) != 0.0)


@dataclass(frozen=True)
class Stage:
    """One stage."""

    scene: SceneConfig = field(default_factory=SceneConfig)
    guidance: Guidance = field(default_factory=Guidance)
    own: Own = field(default_factory=Own)
    times: Times = field(default_factory=Times)
    cameras: Cameras = field(default_factory=Cameras)
    look: Look = field(default_factory=Look)
    penalties: Penalties = field(default_factory=Penalties)
    steps: int = 1000
    batch: int = 4
    """Pictures a step."""
    size: int = 64
    """Pixels a side of what is drawn; the prior enlarges it if it needs more."""
    rate: float = 0.05
    """Adam's."""


@dataclass(frozen=True)
class Method:
    """A preset: stages in a row, where they come from, and what differs from there."""

    paper: str = ""
    deviations: tuple[str, ...] = ()
    stages: tuple[Stage, ...] = (Stage(),)
