"""The renderer and the skinning on a GPU against the CPU; skipped where there is none."""

from __future__ import annotations

import math
from dataclasses import fields, is_dataclass, replace

import pytest
import torch

from avatar3d.body.pose import pose_avatar, relaxed_pose
from avatar3d.engine.build import build_avatar
from avatar3d.pictures import view_camera
from avatar3d.render.meshes import render_meshes
from avatar3d.render.scene import LabelledMesh, compile_scene
from avatar3d.spec import AvatarSpec
from avatar3d.structures import PART_KINDS

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def on(value, device: str):
    """The same noun with all its tensors on a device."""
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if is_dataclass(value) and not isinstance(value, AvatarSpec):
        return replace(value, **{f.name: on(getattr(value, f.name), device) for f in fields(value)})
    if isinstance(value, tuple):
        return tuple(on(item, device) for item in value)
    return value


@pytest.fixture(scope="module")
def avatar():
    return build_avatar(AvatarSpec(seed=3, hair_style="bob", glasses="round", top="suit", expression="smile"))


def scene_on(avatar, device: str):
    posed = pose_avatar(on(avatar, device), relaxed_pose())
    return compile_scene([LabelledMesh(mesh, 1 + PART_KINDS.index(part.kind)) for part, mesh in posed])


def test_posing_is_the_same(avatar):
    for (_, here), (_, there) in zip(
        pose_avatar(avatar, relaxed_pose()), pose_avatar(on(avatar, "cuda"), relaxed_pose()), strict=True
    ):
        assert there.vertices.is_cuda
        assert (here.vertices - there.vertices.cpu()).abs().max() < 1e-5


def test_pictures_are_the_same(avatar):
    """Two paths, numba and torch: equal but for edge pixels."""
    here, there = scene_on(avatar, "cpu"), scene_on(avatar, "cuda")
    camera = view_camera(here, avatar, "bust", math.radians(25.0), 256, 256)
    expected, got = render_meshes(here, camera), render_meshes(there, camera)
    assert got.rgb.is_cuda
    error = (expected.rgb - got.rgb.cpu()).abs()
    psnr = -10 * math.log10(float((error**2).mean()))
    assert psnr > 38, psnr
    assert (expected.labels == got.labels.cpu()).float().mean() > 0.995


def test_gradients_reach_a_texture(avatar):
    scene = scene_on(avatar, "cuda")
    texels = scene.base_atlas.texels.clone().requires_grad_()
    scene = replace(scene, base_atlas=replace(scene.base_atlas, texels=texels))
    camera = view_camera(scene_on(avatar, "cpu"), avatar, "head", 0.0, 128, 128)
    render_meshes(scene, camera).rgb.sum().backward()
    assert texels.grad is not None and torch.isfinite(texels.grad).all() and texels.grad.abs().sum() > 0
