"""The cascade with the weights that ship: what it promises of a person, whole and cheap enough for every run."""

from __future__ import annotations

import json

import pytest
import torch

from avatar3d.cascade.composed import THIN_KINDS, compose_thin_parts
from avatar3d.cascade.product import sample_field, with_baked_look, write_field_files
from avatar3d.cascade.sampling import default_cascade, sample_triplane
from avatar3d.engine.build import build_avatar
from avatar3d.fields.box import bust_bounds, bust_camera
from avatar3d.fields.files import TriPlaneFileError, load_triplane
from avatar3d.render.meshes import render_albedo
from avatar3d.render.scene import compile_scene, labelled
from avatar3d.render.trace import trace_field
from avatar3d.spec import AvatarSpec
from avatar3d.structures import PART_KINDS

SPEC = AvatarSpec(
    seed=5, age=40, gender=0.0, hair_style="bob", hair_color="blonde", glasses="round", top="jumper",
    top_color="green", skin_tone=0.2,
)  # fmt: skip


@pytest.fixture(scope="module")
def avatar():
    return build_avatar(SPEC)


@pytest.fixture(scope="module")
def sampled(avatar):
    torch.set_num_threads(1)
    return sample_field(avatar, seed=5)


def mean_color(render, kind):
    return render.rgb[render.labels == 1 + PART_KINDS.index(kind)].mean(0)


@pytest.mark.xdist_group("cascade")
def test_the_same_seed_gives_the_same_planes_and_another_seed_others(sampled, avatar):
    cascade, bounds = default_cascade(), bust_bounds(avatar.skeleton)
    again = sample_triplane(cascade, SPEC, 5, bounds)
    other = sample_triplane(cascade, SPEC, 6, bounds)
    assert torch.equal(again.planes, sampled.field.triplane.planes)
    assert float((other.planes - again.planes).abs().mean()) > 1e-3


@pytest.mark.xdist_group("cascade")
def test_a_sample_is_the_person_of_its_spec(sampled, avatar):
    camera = bust_camera(sampled.field.bounds, 0.0, 96)
    with torch.no_grad():
        field = trace_field(sampled.field, camera)
    truth = render_albedo(compile_scene(labelled(avatar.parts)), camera)
    both = (field.labels > 0) & (truth.labels > 0)
    either = (field.labels > 0) | (truth.labels > 0)
    assert float(both.sum() / either.sum()) > 0.85
    # a green jumper and blonde hair, not the other way round
    top, hair = mean_color(field, "top"), mean_color(field, "hair")
    assert top[1] > top[0] and top[1] > top[2]
    assert hair[0] > hair[2]
    assert float((top - mean_color(truth, "top")).abs().mean()) < 0.25  # .12 on average over people


@pytest.mark.xdist_group("cascade")
def test_thin_parts_come_from_the_meshes_and_all_else_from_the_field(sampled, avatar):
    camera = bust_camera(sampled.field.bounds, 0.0, 128)
    with torch.no_grad():
        field = trace_field(sampled.field, camera)
    meshes = render_albedo(compile_scene(labelled(avatar.parts)), camera)
    both = compose_thin_parts(field, meshes)
    thin = torch.isin(meshes.labels, torch.tensor([1 + PART_KINDS.index(kind) for kind in THIN_KINDS]))
    assert (both.labels == 1 + PART_KINDS.index("glasses")).any()
    assert torch.equal(both.rgb[~thin], field.rgb[~thin])
    changed = both.labels != field.labels
    assert torch.equal(both.rgb[changed], meshes.rgb[changed])


@pytest.mark.xdist_group("cascade")
def test_files_of_a_field_are_whole_and_say_that_they_are_generated(sampled, avatar, tmp_path):
    frames = []
    said = write_field_files(sampled, avatar, tmp_path, 2, 64, lambda done, total: frames.append(done))
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "triplane.glb", "triplane.mp4", "triplane.png", "triplane.safetensors"
    ]  # fmt: skip
    assert frames == [1, 2]
    assert said["mesh"]["closed"]
    assert 0.5 < said["agreement"]["silhouette_iou"] <= 1
    json.dumps(said)
    assert b'"generated":true' in (tmp_path / "triplane.glb").read_bytes().replace(b" ", b"")
    back = load_triplane(tmp_path / "triplane.safetensors", decoder=sampled.field.triplane.decoder)
    assert torch.equal(back.planes, sampled.field.triplane.planes)
    with pytest.raises(TriPlaneFileError, match="decoder"):
        load_triplane(tmp_path / "triplane.safetensors", decoder="another")


@pytest.mark.xdist_group("cascade")
def test_the_baked_avatar_keeps_all_but_its_colors(sampled, avatar):
    baked = with_baked_look(sampled)
    changed = 0
    for old, new in zip(avatar.parts, baked.parts, strict=True):
        assert torch.equal(old.mesh.vertices, new.mesh.vertices)
        assert torch.equal(old.mesh.uv, new.mesh.uv)
        assert torch.equal(old.skin.weights, new.skin.weights)
        assert (old.morphs is None) == (new.morphs is None)
        own, other = old.mesh.material.base_color_texture, new.mesh.material.base_color_texture
        changed += (
            own is not None and other is not None and (own.shape != other.shape or not torch.equal(own, other))
        )
    assert changed >= 2
