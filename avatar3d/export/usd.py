"""USD: skeleton, skin weights, face shapes, materials and clips, through Pixar's own library (`usd-core`).

Layout (UsdSkel, openusd.org/release/api/usd_skel_page_front.html): a SkelRoot with a Skeleton, SkelAnimations (the
face that the avatar wears, and one for each clip), a Mesh with BlendShapes for each part, and UsdPreviewSurface
materials. Lengths are metres, Y is up. A `.usdz` file holds its textures; `.usdc` and `.usda` have them in the
folder `<name>_textures` beside.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from avatar3d.export.errors import ExportError
from avatar3d.export.texture_files import TextureFiles, free_name
from avatar3d.render.color import srgb_to_linear
from avatar3d.runs import write_bytes
from avatar3d.structures import Avatar, Clip, Material, MorphTargets, Part, Skeleton

SUFFIXES = (".usdz", ".usdc", ".usda")
TIME_CODES = 24.0
"""Per second: USD's default, which readers assume that ignore the rate."""
SMALLEST_OFFSET = 1e-5
"""Metres. A vertex that a face shape moves less than this along each axis stays where it is."""
ROOT = "/Avatar"


def write_usd(avatar: Avatar, path: Path, record: dict, clips: Sequence[Clip] = ()) -> list[Path]:
    """Write `avatar` as `.usdz`, `.usdc` or `.usda`; returns the paths of what was written.

    The first of `clips` plays; the others are there to be chosen. Raises `ExportError` without `usd-core`, for
    another suffix and for names of parts or joints that are equal in USD; OSError when the place is not writable.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise ExportError(f"{path.name}: USD files end in {', '.join(SUFFIXES)}")
    try:
        from pxr import Sdf, Usd, UsdUtils
    except ImportError as error:
        raise ExportError("USD needs the package usd-core: pip install 'avatar3d[usd]'") from error
    textures = TextureFiles()
    folder = f"{path.stem}_textures"
    with tempfile.TemporaryDirectory() as work:
        kind = ".usdc" if path.suffix.lower() == ".usdz" else path.suffix.lower()
        draft = Path(work) / f"{path.stem}{kind}"
        stage = Usd.Stage.CreateNew(str(draft))
        _fill(stage, avatar, record, clips, textures, folder)
        stage.GetRootLayer().Save()
        del stage
        if path.suffix.lower() != ".usdz":
            files = {path.with_name(folder) / name: data for name, data in textures.files.items()}
            if files:
                path.with_name(folder).mkdir(exist_ok=True)
            for file, data in {**files, path: draft.read_bytes()}.items():
                write_bytes(file, data)
            return [path, *files]
        (Path(work) / folder).mkdir()
        for name, data in textures.files.items():
            (Path(work) / folder / name).write_bytes(data)
            os.utime(Path(work) / folder / name, (0, 0))  # the archive keeps times: equal avatars, equal bytes
        os.utime(draft, (0, 0))
        package = Path(work) / "package.usdz"
        if not UsdUtils.CreateNewUsdzPackage(Sdf.AssetPath(str(draft)), str(package)):
            raise ExportError("usd-core could not pack the usdz file; is the disk full?")
        write_bytes(path, package.read_bytes())
    return [path]


def _fill(stage, avatar: Avatar, record: dict, clips: Sequence[Clip], textures: TextureFiles, folder: str) -> None:
    from pxr import UsdGeom, UsdSkel

    UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.y)
    UsdGeom.SetStageMetersPerUnit(stage, 1.0)
    stage.SetTimeCodesPerSecond(TIME_CODES)
    stage.SetFramesPerSecond(TIME_CODES)
    stage.GetRootLayer().customLayerData = {"record": json.dumps(record), "licence": str(record.get("licence"))}
    root = UsdSkel.Root.Define(stage, ROOT)
    stage.SetDefaultPrim(root.GetPrim())
    skeleton = UsdSkel.Skeleton.Define(stage, f"{ROOT}/Skeleton")
    joints = _joint_paths(avatar.skeleton)
    skeleton.CreateJointsAttr(joints)
    skeleton.CreateBindTransformsAttr(_translations(avatar.skeleton.positions))
    skeleton.CreateRestTransformsAttr(_translations(_local_positions(avatar.skeleton)))
    shapes = sorted({name for part in avatar.parts if part.morphs for name in part.morphs.names})
    animations = [_worn_face(stage, avatar, joints, shapes)]
    taken = {"Skeleton", "Materials", "Face"}
    for clip in clips:
        taken.add(name := free_name(_identifier(clip.name), taken))
        animations.append(_animation(stage, f"{ROOT}/{name}", avatar, joints, shapes, clip))
    playing = animations[1] if clips else animations[0]
    UsdSkel.BindingAPI.Apply(skeleton.GetPrim()).CreateAnimationSourceRel().SetTargets([playing])
    if clips:
        stage.SetStartTimeCode(0)
        stage.SetEndTimeCode(float(clips[0].times[-1]) * TIME_CODES)
    materials: dict[_Looks, str] = {}
    bounds = []
    for part in avatar.parts:
        name = _identifier(part.name)
        if name in taken:
            raise ExportError(f"two things would be named {name} in the USD file; rename the part {part.name!r}")
        taken.add(name)
        mesh = _mesh(stage, f"{ROOT}/{name}", part, skeleton.GetPath())
        bounds += [mesh.GetExtentAttr().Get()[0], mesh.GetExtentAttr().Get()[1]]
        looks = _Looks.of(part.mesh.material, textures)
        if looks not in materials:
            used = {path.rpartition("/")[2] for path in materials.values()}
            materials[looks] = f"{ROOT}/Materials/{free_name(_identifier(looks.name), used)}"
            _material(stage, materials[looks], looks, folder)
        _bind_material(stage, mesh, materials[looks])
    if bounds:
        corners = np.array(bounds, dtype=np.float32)
        root.CreateExtentAttr([tuple(corners.min(0).tolist()), tuple(corners.max(0).tolist())])


def _identifier(name: str) -> str:
    from pxr import Tf

    return Tf.MakeValidIdentifier(name)


def _joint_paths(skeleton: Skeleton) -> list[str]:
    """USD's joint tokens: the names from the root on, joined by slashes."""
    paths: list[str] = []
    for name, parent in zip(skeleton.names, skeleton.parents, strict=True):
        own = _identifier(name)
        paths.append(own if parent < 0 else f"{paths[parent]}/{own}")
    if len(set(paths)) < len(paths):
        twice = sorted({path for path in paths if paths.count(path) > 1})
        raise ExportError(f"joints of equal names in the USD file: {', '.join(twice)}; rename them")
    return paths


def _local_positions(skeleton: Skeleton) -> Tensor:
    parents = torch.tensor(skeleton.parents)
    origins = skeleton.positions[parents.clamp_min(0)]
    return torch.where((parents < 0)[:, None].to(origins.device), skeleton.positions, skeleton.positions - origins)


def _translations(positions: Tensor) -> list:
    from pxr import Gf

    return [Gf.Matrix4d(1.0).SetTranslate(Gf.Vec3d(*row)) for row in positions.detach().cpu().double().tolist()]


def _worn_face(stage, avatar: Avatar, joints: list[str], shapes: list[str]):
    """The rest pose with the avatar's own expression, as an animation without time."""
    times = torch.zeros(1)
    face = {name: torch.tensor([weight]) for name, weight in avatar.expression.items()}
    clip = Clip("Face", times, {}, {}, face)
    return _animation(stage, f"{ROOT}/Face", avatar, joints, shapes, clip, timeless=True)


def _animation(
    stage, path: str, avatar: Avatar, joints: list[str], shapes: list[str], clip: Clip, timeless: bool = False
):
    """A SkelAnimation of all joints and shapes; returns its path."""
    from pxr import Gf, Usd, UsdSkel, Vt

    skeleton = avatar.skeleton
    unknown = sorted((set(clip.rotations) | set(clip.translations)) - set(skeleton.names))
    if unknown:
        raise ExportError(f"the clip {clip.name!r} turns {', '.join(unknown)}, which this avatar does not have")
    animation = UsdSkel.Animation.Define(stage, path)
    animation.CreateJointsAttr(joints)
    animation.CreateBlendShapesAttr([_identifier(name) for name in shapes])
    animation.CreateScalesAttr(Vt.Vec3hArray([Gf.Vec3h(1, 1, 1)] * len(joints)))
    count = len(clip.times)
    rest = _local_positions(skeleton).detach().cpu().double()
    still = torch.tensor([1.0, 0.0, 0.0, 0.0]).expand(count, 4)
    turns = torch.stack([clip.rotations.get(name, still).cpu() for name in skeleton.names], dim=1)
    unmoved = torch.zeros(count, 3)
    shifts = rest + torch.stack([clip.translations.get(name, unmoved).cpu() for name in skeleton.names], dim=1)
    weights = _shape_weights(clip, avatar.expression, shapes)
    attributes = (
        animation.CreateTranslationsAttr(),
        animation.CreateRotationsAttr(),
        animation.CreateBlendShapeWeightsAttr(),
    )
    for key in range(count):
        time = Usd.TimeCode.Default() if timeless else Usd.TimeCode(float(clip.times[key]) * TIME_CODES)
        values = (
            Vt.Vec3fArray.FromNumpy(np.ascontiguousarray(shifts[key].float().numpy())),
            Vt.QuatfArray([Gf.Quatf(*q) for q in turns[key].double().tolist()]),
            Vt.FloatArray.FromNumpy(np.ascontiguousarray(weights[key])),
        )
        for attribute, value in zip(attributes, values, strict=True):
            attribute.Set(value, time)
    return animation.GetPath()


def _shape_weights(clip: Clip, worn: Mapping[str, float], shapes: list[str]) -> np.ndarray:
    """(T, S) weights; shapes that the clip says nothing of stay as worn."""
    columns = []
    for name in shapes:
        moved = clip.expressions.get(name)
        still = torch.full((len(clip.times),), worn.get(name, 0.0))
        columns.append((still if moved is None else moved.cpu()).float())
    return torch.stack(columns, dim=1).numpy() if columns else np.zeros((len(clip.times), 0), np.float32)


def _mesh(stage, path: str, part: Part, skeleton):
    from pxr import Gf, Sdf, UsdGeom, UsdSkel, Vt

    mesh = UsdGeom.Mesh.Define(stage, path)
    points = Vt.Vec3fArray.FromNumpy(_float32(part.mesh.vertices))
    mesh.CreatePointsAttr(points)
    mesh.CreateExtentAttr(UsdGeom.PointBased.ComputeExtent(points))
    mesh.CreateFaceVertexCountsAttr(Vt.IntArray(len(part.mesh.faces), 3))
    corners = part.mesh.faces.detach().cpu().numpy().astype(np.int32).reshape(-1)
    mesh.CreateFaceVertexIndicesAttr(Vt.IntArray.FromNumpy(np.ascontiguousarray(corners)))
    mesh.CreateNormalsAttr(Vt.Vec3fArray.FromNumpy(_float32(part.mesh.normals)))
    mesh.SetNormalsInterpolation(UsdGeom.Tokens.vertex)
    mesh.CreateSubdivisionSchemeAttr(UsdGeom.Tokens.none)
    mesh.CreateDoubleSidedAttr(part.mesh.material.double_sided)
    st = _float32(part.mesh.uv)
    st[:, 1] = 1 - st[:, 1]  # USD's v grows upwards
    UsdGeom.PrimvarsAPI(mesh).CreatePrimvar("st", Sdf.ValueTypeNames.TexCoord2fArray, UsdGeom.Tokens.vertex).Set(
        Vt.Vec2fArray.FromNumpy(np.ascontiguousarray(st))
    )
    binding = UsdSkel.BindingAPI.Apply(mesh.GetPrim())
    binding.CreateSkeletonRel().SetTargets([skeleton])
    binding.CreateGeomBindTransformAttr(Gf.Matrix4d(1.0))
    joints = part.skin.joints.detach().cpu().numpy().astype(np.int32).reshape(-1)
    weights = part.skin.weights.detach().cpu().double().clamp_min(0)
    shares = _float32(weights / weights.sum(dim=1, keepdim=True)).reshape(-1)
    binding.CreateJointIndicesPrimvar(False, 4).Set(Vt.IntArray.FromNumpy(np.ascontiguousarray(joints)))
    binding.CreateJointWeightsPrimvar(False, 4).Set(Vt.FloatArray.FromNumpy(shares))
    if part.morphs is not None:
        _blend_shapes(stage, path, part.morphs, binding)
    return mesh


def _blend_shapes(stage, path: str, morphs: MorphTargets, binding) -> None:
    """One BlendShape below the mesh for each shape that moves it, with the moved points only."""
    from pxr import UsdSkel, Vt

    names, targets = [], []
    for name, delta in zip(morphs.names, _float32(morphs.deltas), strict=True):
        moved = np.flatnonzero(np.abs(delta).max(axis=1) >= SMALLEST_OFFSET)
        if len(moved) == 0:
            continue
        shape = UsdSkel.BlendShape.Define(stage, f"{path}/{_identifier(name)}")
        shape.CreateOffsetsAttr(Vt.Vec3fArray.FromNumpy(np.ascontiguousarray(delta[moved])))
        shape.CreatePointIndicesAttr(Vt.IntArray.FromNumpy(moved.astype(np.int32)))
        names.append(_identifier(name))
        targets.append(shape.GetPath())
    if names:
        binding.CreateBlendShapesAttr(names)
        binding.CreateBlendShapeTargetsRel().SetTargets(targets)


def _float32(tensor: Tensor) -> np.ndarray:
    """A copy."""
    return tensor.detach().cpu().contiguous().numpy().astype(np.float32)


@dataclass(frozen=True)
class _Looks:
    """A material whose textures are names of files, so that equal ones are found."""

    name: str
    base_color: tuple[float, float, float, float]
    roughness: float
    metallic: float
    alpha_mode: str
    alpha_cutoff: float
    color: str | None
    has_alpha: bool
    normal: str | None
    orm: str | None

    @staticmethod
    def of(material: Material, textures: TextureFiles) -> _Looks:
        def file(texture: Tensor | None, kind: str, drop_alpha: bool) -> str | None:
            return None if texture is None else textures.add(texture, f"{material.name}_{kind}", drop_alpha)

        color, opaque = material.base_color_texture, material.alpha_mode == "OPAQUE"
        return _Looks(
            name=material.name,
            base_color=material.base_color,
            roughness=material.roughness,
            metallic=material.metallic,
            alpha_mode=material.alpha_mode,
            alpha_cutoff=material.alpha_cutoff,
            color=file(color, "color", opaque),
            has_alpha=not opaque and color is not None and color.shape[2] == 4,
            normal=file(material.normal_texture, "normal", True),
            orm=file(material.orm_texture, "orm", True),
        )


def _material(stage, path: str, looks: _Looks, folder: str) -> None:
    """A UsdPreviewSurface with glTF's metallic-roughness meaning."""
    from pxr import Gf, Sdf, UsdShade

    kinds = Sdf.ValueTypeNames
    node = UsdShade.Material.Define(stage, path)
    surface = UsdShade.Shader.Define(stage, f"{path}/Surface")
    surface.CreateIdAttr("UsdPreviewSurface")
    node.CreateSurfaceOutput().ConnectToSource(surface.ConnectableAPI(), "surface")
    reader = UsdShade.Shader.Define(stage, f"{path}/Coordinates")
    reader.CreateIdAttr("UsdPrimvarReader_float2")
    reader.CreateInput("varname", kinds.String).Set("st")

    def look_up(name: str, file: str, space: str, scale: Sequence[float], bias: Sequence[float] = (0, 0, 0, 0)):
        shader = UsdShade.Shader.Define(stage, f"{path}/{name}")
        shader.CreateIdAttr("UsdUVTexture")
        shader.CreateInput("file", kinds.Asset).Set(f"./{folder}/{file}")
        shader.CreateInput("sourceColorSpace", kinds.Token).Set(space)
        shader.CreateInput("scale", kinds.Float4).Set(Gf.Vec4f(*scale))
        shader.CreateInput("bias", kinds.Float4).Set(Gf.Vec4f(*bias))
        for wrap in ("wrapS", "wrapT"):
            shader.CreateInput(wrap, kinds.Token).Set("repeat")
        st = reader.CreateOutput("result", kinds.Float2)
        shader.CreateInput("st", kinds.Float2).ConnectToSource(st)
        return shader

    def connect(name: str, kind, shader, channels: str) -> None:
        wide = {"rgb": kinds.Float3}.get(channels, kinds.Float)
        surface.CreateInput(name, kind).ConnectToSource(shader.CreateOutput(channels, wide))

    color = srgb_to_linear(torch.tensor(looks.base_color[:3])).tolist()
    alpha = looks.base_color[3]
    surface.CreateInput("opacity", kinds.Float).Set(1.0 if looks.alpha_mode == "OPAQUE" else alpha)
    if looks.color is None:
        surface.CreateInput("diffuseColor", kinds.Color3f).Set(Gf.Vec3f(*color))
    else:
        base = look_up("Color", looks.color, "sRGB", (*color, alpha))
        connect("diffuseColor", kinds.Color3f, base, "rgb")
        if looks.has_alpha:
            connect("opacity", kinds.Float, base, "a")
    if looks.alpha_mode == "MASK":
        surface.CreateInput("opacityThreshold", kinds.Float).Set(looks.alpha_cutoff)
    surface.CreateInput("roughness", kinds.Float).Set(looks.roughness)
    surface.CreateInput("metallic", kinds.Float).Set(looks.metallic)
    if looks.orm is not None:
        orm = look_up("Properties", looks.orm, "raw", (1.0, looks.roughness, looks.metallic, 1.0))
        for name, channel in (("occlusion", "r"), ("roughness", "g"), ("metallic", "b")):
            connect(name, kinds.Float, orm, channel)
    if looks.normal is not None:
        bumps = look_up("Normal", looks.normal, "raw", (2, 2, 2, 1), (-1, -1, -1, 0))
        connect("normal", kinds.Normal3f, bumps, "rgb")


def _bind_material(stage, mesh, path: str) -> None:
    from pxr import UsdShade

    UsdShade.MaterialBindingAPI.Apply(mesh.GetPrim()).Bind(UsdShade.Material.Get(stage, path))
