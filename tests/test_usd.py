"""USD files, read back with Pixar's library: the same mesh, skinning, face shapes, materials and motion."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from humanoid import humanoid_avatar

from avatar3d.body.pose import pose_avatar
from avatar3d.export.errors import ExportError
from avatar3d.export.licences import licence_record
from avatar3d.export.usd import SMALLEST_OFFSET, TIME_CODES, write_usd
from avatar3d.rotations import axis_angle_to_quaternion
from avatar3d.structures import Avatar, Clip

pxr = pytest.importorskip("pxr", reason="needs usd-core: pip install 'avatar3d[usd]'")
from pxr import Gf, Sdf, Usd, UsdGeom, UsdShade, UsdSkel, UsdValidation  # noqa: E402

TIMES = torch.linspace(0, 1.5, 7)
CLIP = Clip(
    "wave hand",
    TIMES,
    {
        "leftUpperArm": axis_angle_to_quaternion(torch.stack([0.3 * TIMES, TIMES * 0, 0.7 * TIMES.sin()], dim=1)),
        "head": axis_angle_to_quaternion(torch.stack([TIMES * 0, 0.5 * TIMES, TIMES * 0], dim=1)),
    },
    {"hips": torch.stack([0.1 * TIMES, TIMES * 0, -0.05 * TIMES], dim=1)},
    {"jawOpen": TIMES / 2},
)


@pytest.fixture(scope="module", params=["usdz", "usdc", "usda"])
def opened(request, tmp_path_factory):
    avatar = humanoid_avatar(6)
    path = tmp_path_factory.mktemp(request.param) / f"one.{request.param}"
    write_usd(avatar, path, licence_record(avatar, "a test"), [CLIP])
    return avatar, Usd.Stage.Open(str(path))


def test_stage(opened):
    avatar, stage = opened
    assert UsdGeom.GetStageUpAxis(stage) == "Y" and UsdGeom.GetStageMetersPerUnit(stage) == 1.0
    assert stage.GetDefaultPrim().GetTypeName() == "SkelRoot"
    record = json.loads(stage.GetRootLayer().customLayerData["record"])
    assert record["licence"] == "CC0-1.0" and record["prompt"] == "a test"
    assert stage.GetEndTimeCode() == pytest.approx(1.5 * TIME_CODES)
    meshes = [prim.GetName() for prim in stage.Traverse() if prim.IsA(UsdGeom.Mesh)]
    assert meshes == [part.name for part in avatar.parts]


def test_meshes(opened):
    avatar, stage = opened
    for part in avatar.parts:
        mesh = UsdGeom.Mesh.Get(stage, f"/Avatar/{part.name}")
        np.testing.assert_array_equal(mesh.GetPointsAttr().Get(), part.mesh.vertices.numpy())
        np.testing.assert_allclose(mesh.GetNormalsAttr().Get(), part.mesh.normals.numpy(), atol=1e-6)
        np.testing.assert_array_equal(
            np.reshape(mesh.GetFaceVertexIndicesAttr().Get(), (-1, 3)), part.mesh.faces.numpy()
        )
        st = np.array(UsdGeom.PrimvarsAPI(mesh).GetPrimvar("st").Get())
        np.testing.assert_allclose(np.column_stack([st[:, 0], 1 - st[:, 1]]), part.mesh.uv.numpy(), atol=1e-5)


def test_skeleton_and_weights(opened):
    avatar, stage = opened
    skeleton = UsdSkel.Skeleton.Get(stage, "/Avatar/Skeleton")
    assert [path.rpartition("/")[2] for path in skeleton.GetJointsAttr().Get()] == list(avatar.skeleton.names)
    topology = UsdSkel.Topology(skeleton.GetJointsAttr().Get())
    assert [topology.GetParent(j) for j in range(len(avatar.skeleton.names))] == list(avatar.skeleton.parents)
    places = [matrix.ExtractTranslation() for matrix in skeleton.GetBindTransformsAttr().Get()]
    np.testing.assert_allclose(places, avatar.skeleton.positions.numpy(), atol=1e-6)
    for part in avatar.parts:
        binding = UsdSkel.BindingAPI(stage.GetPrimAtPath(f"/Avatar/{part.name}"))
        joints = np.reshape(binding.GetJointIndicesPrimvar().Get(), (-1, 4))
        weights = np.reshape(binding.GetJointWeightsPrimvar().Get(), (-1, 4))
        np.testing.assert_array_equal(joints, part.skin.joints.numpy())
        np.testing.assert_allclose(weights, part.skin.weights.numpy(), atol=1e-6)


def test_blend_shapes(opened):
    avatar, stage = opened
    for part in avatar.parts:
        binding = UsdSkel.BindingAPI(stage.GetPrimAtPath(f"/Avatar/{part.name}"))
        names = binding.GetBlendShapesAttr().Get() or []
        if part.morphs is None:
            assert len(names) == 0
            continue
        moving = [n for n, d in zip(part.morphs.names, part.morphs.deltas, strict=True) if d.abs().max() > 0]
        assert list(names) == moving
        for name, target in zip(names, binding.GetBlendShapeTargetsRel().GetTargets(), strict=True):
            shape = UsdSkel.BlendShape.Get(stage, target)
            dense = np.zeros(part.mesh.vertices.shape)
            dense[np.array(shape.GetPointIndicesAttr().Get())] = shape.GetOffsetsAttr().Get()
            expected = part.morphs.deltas[part.morphs.names.index(name)].numpy()
            np.testing.assert_allclose(dense, expected, atol=SMALLEST_OFFSET)


def points_in_usd(stage, part: str, time: float) -> np.ndarray:
    """Blend shapes and skinning as UsdSkel does them."""
    cache = UsdSkel.Cache()
    root = UsdSkel.Root.Get(stage, "/Avatar")
    cache.Populate(root, Usd.PrimDefaultPredicate)
    skeleton = cache.GetSkelQuery(UsdSkel.Skeleton.Get(stage, "/Avatar/Skeleton"))
    prim = stage.GetPrimAtPath(f"/Avatar/{part}")
    skinning = cache.GetSkinningQuery(prim)
    points = UsdGeom.Mesh(prim).GetPointsAttr().Get()
    if skinning.HasBlendShapes():
        query = UsdSkel.BlendShapeQuery(UsdSkel.BindingAPI(prim))
        weights = skeleton.GetAnimQuery().ComputeBlendShapeWeights(time)
        weights = skinning.GetBlendShapeMapper().Remap(weights)
        sub_weights, blend_indices, sub_indices = query.ComputeSubShapeWeights(weights)
        query.ComputeDeformedPoints(
            sub_weights, blend_indices, sub_indices, query.ComputeBlendShapePointIndices(),
            query.ComputeSubShapePointOffsets(), points,
        )  # fmt: skip
    skinning.ComputeSkinnedPoints(skeleton.ComputeSkinningTransforms(time), points, time)
    return np.array(points)


@pytest.mark.parametrize("key", [0, 3, 6])
def test_motion_is_ours(opened, key):
    """UsdSkel's own skinning gives our own posed vertices."""
    avatar, stage = opened
    pose = {name: turns[key] for name, turns in CLIP.rotations.items()}
    face = {**avatar.expression, "jawOpen": float(CLIP.expressions["jawOpen"][key])}
    shift = CLIP.translations["hips"][key].numpy()
    for part, mesh in pose_avatar(avatar, pose, face):
        seen = points_in_usd(stage, part.name, float(TIMES[key]) * TIME_CODES)
        np.testing.assert_allclose(seen, mesh.vertices.numpy() + shift, atol=2e-5)


def test_the_face_it_wears(tmp_path):
    avatar = humanoid_avatar(6)
    write_usd(avatar, tmp_path / "still.usdc", licence_record(avatar))
    stage = Usd.Stage.Open(str(tmp_path / "still.usdc"))
    for part, mesh in pose_avatar(avatar, {}):
        seen = points_in_usd(stage, part.name, Usd.TimeCode.Default())
        np.testing.assert_allclose(seen, mesh.vertices.numpy(), atol=2e-5)


def test_materials(opened):
    avatar, stage = opened
    resolver_context = stage.GetPathResolverContext()
    for part in avatar.parts:
        bound, _ = UsdShade.MaterialBindingAPI(stage.GetPrimAtPath(f"/Avatar/{part.name}")).ComputeBoundMaterial()
        surface, _, _ = bound.ComputeSurfaceSource()
        assert surface.GetIdAttr().Get() == "UsdPreviewSurface"
        inputs = {i.GetBaseName(): i for i in surface.GetInputs()}
        material = part.mesh.material
        assert inputs["diffuseColor"].HasConnectedSource() == (material.base_color_texture is not None)
        assert inputs["opacity"].HasConnectedSource() == (material.alpha_mode != "OPAQUE" and part.name == "hair")
        threshold = inputs["opacityThreshold"].Get() if "opacityThreshold" in inputs else None
        assert threshold == (pytest.approx(material.alpha_cutoff) if material.alpha_mode == "MASK" else None)
    from pxr import Ar

    with Ar.ResolverContextBinder(resolver_context):
        files = [
            prim.GetAttribute("inputs:file").Get().resolvedPath
            for prim in stage.Traverse()
            if prim.GetAttribute("inputs:file")
        ]
    assert len(files) == 5 and all(files)


def test_pixars_validators_have_nothing_to_say(opened):
    """All of them: geometry, skinning, shading, packages. They are awake: without an upper axis they object."""
    _, stage = opened
    validation = UsdValidation.ValidationContext(UsdValidation.ValidationRegistry().GetOrLoadAllValidators())
    assert [error.GetErrorAsString() for error in validation.Validate(stage)] == []
    broken = Usd.Stage.CreateInMemory()
    broken.GetRootLayer().TransferContent(stage.GetRootLayer())
    broken.ClearMetadata("upAxis")
    assert len(validation.Validate(broken)) > 0


def test_equal_avatars_give_equal_bytes(tmp_path):
    for kind in ("usdz", "usdc"):
        for folder in ("a", "b"):
            (tmp_path / folder).mkdir(exist_ok=True)
            avatar: Avatar = humanoid_avatar(2)
            write_usd(avatar, tmp_path / folder / f"one.{kind}", licence_record(avatar), [CLIP])
        assert (tmp_path / "a" / f"one.{kind}").read_bytes() == (tmp_path / "b" / f"one.{kind}").read_bytes()


def test_errors(tmp_path, monkeypatch):
    avatar = humanoid_avatar(0)
    record = licence_record(avatar)
    with pytest.raises(ExportError, match=r"\.usdz"):
        write_usd(avatar, tmp_path / "one.fbx", record)
    with pytest.raises(ExportError, match="tail"):
        clip = replace(CLIP, rotations={"tail": CLIP.rotations["head"]})
        write_usd(avatar, tmp_path / "one.usdz", record, [clip])
    parts = (avatar.parts[0], replace(avatar.parts[1], name="body!"), replace(avatar.parts[2], name="body?"))
    with pytest.raises(ExportError, match="body_"):
        write_usd(replace(avatar, parts=parts), tmp_path / "one.usdz", record)
    with pytest.raises(OSError):
        write_usd(avatar, Path(tmp_path) / "absent" / "one.usdz", record)
    monkeypatch.setitem(sys.modules, "pxr", None)
    with pytest.raises(ExportError, match="usd-core"):
        write_usd(avatar, tmp_path / "one.usdz", record)
    assert list(tmp_path.iterdir()) == []


def test_types_are_what_readers_expect(opened):
    """Attributes have the schema's types; a wrong one reads as empty in other programs."""
    _, stage = opened
    prim = stage.GetPrimAtPath("/Avatar/Skeleton")
    assert prim.GetAttribute("bindTransforms").GetTypeName() == Sdf.ValueTypeNames.Matrix4dArray
    anim = stage.GetPrimAtPath("/Avatar/wave_hand")
    assert anim.GetAttribute("rotations").GetTypeName() == Sdf.ValueTypeNames.QuatfArray
    assert isinstance(anim.GetAttribute("rotations").Get(0.0)[0], Gf.Quatf)
