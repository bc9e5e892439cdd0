"""The nouns that stages exchange.

Conventions, everywhere in this package:

* metres, radians, right-handed; +Y up, the avatar faces +Z, its left is +X, soles at Y = 0;
* colours are floats in [0, 1], sRGB-encoded (shading converts to linear light);
* texture coordinates are glTF's: (0, 0) is the upper left corner of the image, v grows downwards;
* every skeleton joint is axis-aligned at rest, so a rest pose is a set of translations.

All tensors of one noun share a device and a floating dtype. Shapes are checked when the tests run.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from jaxtyping import Float, Int
from torch import Tensor

from avatar3d.spec import AvatarSpec

PART_KINDS = (
    "body", "eyes", "teeth", "tongue", "lashes", "brows", "hair", "beard", "glasses", "hat",
    "top", "bottom", "shoes", "jewellery",
)  # fmt: skip
"""What a part is. The 1-based index of its kind is a part's label in a `Render`; 0 is background."""


@dataclass(frozen=True)
class Material:
    """A glTF metallic-roughness material.

    Textures are (H, W, C) float in [0, 1]. `base_color` multiplies `base_color_texture`; both are sRGB,
    alpha is linear. `normal_texture` is tangent space, +Y up, 0.5 is zero. `orm_texture` packs occlusion,
    roughness, metallic and is multiplied by the two factors.
    """

    name: str
    base_color: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    base_color_texture: Float[Tensor, "H W C"] | None = None
    normal_texture: Float[Tensor, "Hn Wn 3"] | None = None
    orm_texture: Float[Tensor, "Ho Wo 3"] | None = None
    roughness: float = 0.8
    metallic: float = 0.0
    alpha_mode: str = "OPAQUE"
    """OPAQUE, MASK (alpha tested at `alpha_cutoff`) or BLEND."""
    alpha_cutoff: float = 0.5
    double_sided: bool = False


@dataclass(frozen=True)
class Mesh:
    """A triangle mesh whose vertices are split at texture seams, as a GPU wants it.

    `faces` wind counter-clockwise seen from outside. `normals` are unit vectors, smooth across seams.
    """

    vertices: Float[Tensor, "V 3"]
    faces: Int[Tensor, "F 3"]
    normals: Float[Tensor, "V 3"]
    uv: Float[Tensor, "V 2"]
    material: Material


@dataclass(frozen=True)
class Skeleton:
    """Joints named as VRM 1.0 humanoid bones; a parent comes before its children; the root's parent is -1."""

    names: tuple[str, ...]
    parents: tuple[int, ...]
    positions: Float[Tensor, "J 3"]
    """Rest positions in the avatar's frame, metres."""


@dataclass(frozen=True)
class Skin:
    """Linear blend skinning: at most four joints per vertex, weights non-negative and summing to one."""

    joints: Int[Tensor, "V 4"]
    weights: Float[Tensor, "V 4"]


@dataclass(frozen=True)
class MorphTargets:
    """Additive vertex offsets in metres, one per ARKit name that moves this part."""

    names: tuple[str, ...]
    deltas: Float[Tensor, "M V 3"]


@dataclass(frozen=True)
class Part:
    """A piece of an avatar with a mesh and one material of its own."""

    name: str
    """Unique in its avatar, for example `glasses_lenses`."""
    kind: str
    """One of `PART_KINDS`."""
    mesh: Mesh
    skin: Skin
    morphs: MorphTargets | None = None


@dataclass(frozen=True)
class SpringChain:
    """Joints, root first, that swing by themselves: long hair, ponytails (VRMC_springBone 1.0).

    The last joint only marks the end of the chain. Force values are those of the VRM specification.
    """

    name: str
    joints: tuple[str, ...]
    radius: float = 0.02
    """Of each joint against the colliders, metres."""
    stiffness: float = 1.0
    """Pull back to the rest pose."""
    gravity: float = 0.0
    """Pull downwards."""
    drag: float = 0.4
    """Share of the speed that is lost, in [0, 1]."""


@dataclass(frozen=True)
class Collider:
    """A sphere, or a capsule when it has a tail, that spring joints stay outside of; moves with its joint."""

    joint: str
    offset: tuple[float, float, float]
    """Of the center from the joint at rest, metres, in the avatar's axes."""
    radius: float
    tail: tuple[float, float, float] | None = None
    """Other end of a capsule, as `offset`."""


@dataclass(frozen=True)
class Avatar:
    """A complete rigged character at rest, with the spec that made it."""

    spec: AvatarSpec | None
    """None for avatars that were read from a file of another program."""
    skeleton: Skeleton
    parts: tuple[Part, ...]
    expression: dict[str, float] = field(default_factory=dict)
    """ARKit weights of the face the avatar wears by default (a smile, say)."""
    springs: tuple[SpringChain, ...] = ()
    colliders: tuple[Collider, ...] = ()


@dataclass(frozen=True)
class Clip:
    """A motion of T key frames, to be interpolated linearly (rotations spherically) between them.

    Rotations are as in `body.pose.Pose`: about the joint itself, in the avatar's axes, before the parent turns.
    """

    name: str
    times: Float[Tensor, " T"]
    """Seconds, ascending from 0."""
    rotations: dict[str, Float[Tensor, "T 4"]]
    """Joint -> unit quaternions wxyz."""
    translations: dict[str, Float[Tensor, "T 3"]] = field(default_factory=dict)
    """Joint (hips, usually) -> offsets from its rest place, metres, in the parent's axes at rest."""
    expressions: dict[str, Float[Tensor, " T"]] = field(default_factory=dict)
    """Face shape -> weights."""
    loops: bool = False
    """The last key frame equals the first."""


@dataclass(frozen=True)
class TriPlane:
    """A field of R x R features of C channels on each of three planes through a box (Chan et al. 2022, EG3D).

    Planes are XY, XZ and YZ, in this order; the first axis of a name runs along the columns, the second along
    the rows, from the low to the high bound. A cell's feature sits at its center, in the warped coordinates of
    `fields.triplane`.
    """

    planes: Float[Tensor, "3 C R R"]
    bounds: Float[Tensor, "2 3"]
    """Low and high corner of the box, metres."""
    decoder: str
    """Name of the weights that turn features into surfaces and colors."""


@dataclass(frozen=True)
class FieldSample:
    """What a field is at N points."""

    distance: Float[Tensor, " N"]
    """To the surface, metres; negative inside."""
    rgb: Float[Tensor, "N 3"]
    """Material color, sRGB."""
    logits: Float[Tensor, "N K"]
    """Of the part kinds: the label in a `Render` is 1 + the index of the largest."""


@dataclass(frozen=True)
class Camera:
    """A pinhole camera with OpenCV axes: x right, y down, z forward; pixel centres at +0.5."""

    T_world_camera: Float[Tensor, "4 4"]
    focal: float
    """Focal length in pixels, the same along both axes; the principal point is the image centre."""
    width: int
    height: int


@dataclass(frozen=True)
class Render:
    """What a camera sees. Pixels without a surface have alpha 0, depth inf, normal 0 and label 0."""

    rgb: Float[Tensor, "H W 3"]
    """sRGB, not premultiplied: composed over the requested background."""
    alpha: Float[Tensor, "H W"]
    depth: Float[Tensor, "H W"]
    """Distance along the camera's z axis, metres."""
    normal: Float[Tensor, "H W 3"]
    """World frame, unit length."""
    labels: Int[Tensor, "H W"]
    """1 + index into `PART_KINDS`."""
    uv: Float[Tensor, "H W 2"]
