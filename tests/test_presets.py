"""Presets, platform figures and the compressed variant."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from avatar3d.body.pose import pose_avatar
from avatar3d.body.visemes import ARKIT
from avatar3d.engine.build import build_avatar
from avatar3d.engine.population import Population, sample
from avatar3d.export.atlas import merged
from avatar3d.export.compress import CompressionError, compressed, gltfpack_command, read_chunks, with_webp
from avatar3d.export.glb import encode_glb
from avatar3d.export.lod import reduced
from avatar3d.export.overlays import with_overlays_painted
from avatar3d.export.parts import triangle_count
from avatar3d.export.platforms import VRCHAT_MOBILE, VRCHAT_PC, Cost, as_text, cost_of, rank, report
from avatar3d.export.presets import PRESETS, PresetError, apply, levels, preset_named, with_shapes
from avatar3d.export.textures import shrunk
from avatar3d.pictures import view_camera
from avatar3d.render.meshes import render_meshes
from avatar3d.render.scene import LabelledMesh, compile_scene

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def avatar():
    return build_avatar(sample(np.random.default_rng(0), Population()))


@pytest.fixture(scope="module")
def web(avatar):
    return apply(avatar, PRESETS["web"])


@pytest.fixture(scope="module")
def web_glb(web):
    return encode_glb(web, {"note": "kept"})


@pytest.mark.parametrize("name", ["web", "quest", "crowd"])
def test_presets_keep_their_promises(avatar, name):
    preset = preset_named(name)
    cut = apply(avatar, preset)
    cost = cost_of(cut)
    assert 0.93 * preset.triangles <= cost.triangles <= preset.triangles
    assert cost.largest_texture <= preset.texture
    assert cost.materials <= {"alpha": 3, "single": 1}[preset.atlas]
    assert cost.joints <= preset.joints
    assert cost.face_shapes == (0 if preset.shapes == "none" else 52)


def test_a_web_file_is_small_and_plain(web_glb):
    document, _ = read_chunks(web_glb)
    assert len(web_glb) < 3e6
    assert "extensionsUsed" not in document
    names = {n for m in document["meshes"] for n in m.get("extras", {}).get("targetNames", [])}
    assert names == set(ARKIT)


def test_layers_on_the_skin_are_painted(avatar):
    """Brows are gone as a part, and the skin is darker where they were and nowhere on the cheeks."""
    painted = with_overlays_painted(avatar, 512)
    assert {p.name for p in avatar.parts} - {p.name for p in painted.parts} == {"brows", "hair_cap"}
    head, new = (next(p for p in a.parts if p.name == "head_skin") for a in (avatar, painted))
    before = shrunk(head.mesh.material.base_color_texture, 512, colors=True)
    after = new.mesh.material.base_color_texture
    darker = (before - after).mean(dim=-1)
    distance = [
        torch.cdist(head.mesh.vertices, next(p for p in avatar.parts if p.name == name).mesh.vertices).amin(dim=1)
        for name in ("brows", "hair_cap")
    ]
    near = distance[0] < 0.003
    far = torch.stack(distance).amin(dim=0) > 0.02

    def at(chosen):
        x, y = (head.mesh.uv[chosen] * 512).long().clamp(0, 511).unbind(-1)
        return darker[y, x]

    assert at(near).mean() > 0.01 and at(near).max() > 0.15
    assert at(far).abs().max() < 2e-3


def test_merged_materials_look_as_before(avatar):
    """A picture of the whole figure differs by no more than strong JPEG compression would."""

    def picture(one, camera=None):
        # materials get plain names: the renderer shades those of skin and hair in ways of their own
        posed = [(p, replace(m, material=replace(m.material, name="m"))) for p, m in pose_avatar(one, {})]
        scene = compile_scene([LabelledMesh(mesh, 1) for _, mesh in posed])
        camera = camera or view_camera(scene, avatar, "full", 0.4, 300, 384)
        return render_meshes(scene, camera), camera

    level = reduced(with_overlays_painted(avatar, 512), 15_000)
    before, camera = picture(level)
    figure = before.alpha > 0.5
    for mode in ("alpha", "single"):
        after, _ = picture(merged(level, mode, 1024), camera)
        error = ((after.rgb - before.rgb) ** 2).mean(dim=-1)[figure].mean()
        assert -10 * torch.log10(error) > 36


def test_a_worn_expression_outlives_its_shapes(avatar):
    smiling = replace(avatar, expression={"mouthSmileLeft": 1.0})
    bare = with_shapes(smiling, "none")
    head, old = (next(p for p in a.parts if p.name == "head_skin") for a in (bare, smiling))
    smile = old.morphs.deltas[old.morphs.names.index("mouthSmileLeft")]
    assert head.morphs is None and bare.expression == {}
    torch.testing.assert_close(head.mesh.vertices, old.mesh.vertices + smile)
    spoken = with_shapes(avatar, "visemes")
    names = {n for p in spoken.parts if p.morphs for n in p.morphs.names}
    assert {"viseme_aa", "viseme_PP", "eyeBlinkLeft"} <= names and not names & {"jawOpen", "mouthSmileLeft"}


def test_levels_halve(avatar):
    chain = levels(avatar, 3)
    counts = [triangle_count(level.parts) for level in chain]
    assert chain[0] is avatar
    assert counts[1] == pytest.approx(counts[0] / 2, rel=0.05) and counts[2] == pytest.approx(
        counts[0] / 4, rel=0.05
    )


def test_unknown_preset():
    with pytest.raises(PresetError, match="no preset 'phone'; the presets are: hero, desktop, web, quest, crowd"):
        preset_named("phone")


def test_masks_keep_what_they_cover_when_shrunk():
    generator = torch.Generator().manual_seed(0)
    strands = torch.rand(256, 256, 4, generator=generator)
    for side in (128, 64):  # a plain mean would let hardly anything through at 64
        plain, kept = (shrunk(strands, side, colors=True, cutoff=c)[..., 3] for c in (None, 0.7))
        assert (plain >= 0.7).float().mean() < 0.2
        assert (kept >= 0.7 - 1e-6).float().mean().item() == pytest.approx(0.3, abs=0.01)


def a_cost(**changes):
    zero = dict.fromkeys(Cost.__dataclass_fields__, 0) | {"file_mb": None}
    return Cost(**(zero | changes))


@pytest.mark.parametrize(
    ("changes", "mb", "pc", "mobile"),
    [
        ({"triangles": 7_500, "joints": 75, "materials": 1, "skinned_meshes": 1}, 10, "Excellent", "Excellent"),
        ({"triangles": 7_501, "joints": 75, "materials": 1, "skinned_meshes": 1}, 10, "Excellent", "Good"),
        ({"triangles": 32_001, "joints": 76, "materials": 4, "skinned_meshes": 1}, 10, "Good", "Very Poor"),
        ({"triangles": 15_000, "joints": 90, "materials": 2, "skinned_meshes": 2}, 25, "Good", "Medium"),
        ({"triangles": 70_000, "joints": 256, "materials": 16, "skinned_meshes": 8}, 110, "Medium", "Very Poor"),
        ({"triangles": 70_001}, 0, "Very Poor", "Very Poor"),
    ],
)
def test_vrchat_ranks(changes, mb, pc, mobile):
    cost = a_cost(**changes)
    assert (rank(cost, VRCHAT_PC, mb), rank(cost, VRCHAT_MOBILE, mb)) == (pc, mobile)


def test_platform_report(web, web_glb):
    cost = cost_of(web, len(web_glb))
    assert cost.triangles == sum(len(p.mesh.faces) for p in web.parts)
    sides = [max(t.shape) for m in (p.mesh.material for p in web.parts)
             for t in (m.base_color_texture, m.normal_texture, m.orm_texture) if t is not None]  # fmt: skip
    assert cost.texture_mb == pytest.approx(sum(4 * s * s for s in sides) * 4 / 3 / 2**20, abs=0.01)
    figures = json.loads(json.dumps(report(cost)))
    assert figures["web"]["phone"]["fits"] and figures["cost"]["face_shapes"] == 52
    assert figures["vrchat_mobile"] == {"rank": "Very Poor", "next": "Poor", "over": {"skinned_meshes": [3, 2]}}
    lines = as_text({"web": cost}).splitlines()
    assert len({len(line) for line in lines}) == 1 and any(line.startswith("VRChat PC") for line in lines)


def test_pictures_become_webp(web_glb):
    small = with_webp(web_glb)
    document, binary = read_chunks(small)
    assert len(small) < len(web_glb)
    assert document["extensionsRequired"] == ["EXT_texture_webp"]
    for texture in document["textures"]:
        image = document["images"][texture["extensions"]["EXT_texture_webp"]["source"]]
        view = document["bufferViews"][image["bufferView"]]
        assert binary[view["byteOffset"] :][8:12] == b"WEBP"
    with pytest.raises(CompressionError, match="not a GLB file"):
        with_webp(b"not a file")


def needs_gltfpack():
    try:
        gltfpack_command()
    except CompressionError:
        pytest.skip("gltfpack is not installed")
    if not (ROOT / "node_modules" / "meshoptimizer").exists() or shutil.which("node") is None:
        pytest.skip("meshoptimizer is not installed")


DECODER = """
const fs = require('fs'), module_ = require(process.argv[2]);
const MeshoptDecoder = module_.MeshoptDecoder || module_;
const glb = fs.readFileSync(process.argv[3]), length = glb.readUInt32LE(12);
const doc = JSON.parse(glb.subarray(20, 20 + length)), bin = glb.subarray(28 + length);
MeshoptDecoder.ready.then(() => {
  const out = doc.meshes.map(mesh => {
    const accessor = doc.accessors[mesh.primitives[0].attributes.POSITION];
    const e = doc.bufferViews[accessor.bufferView].extensions.EXT_meshopt_compression;
    const bytes = new Uint8Array(e.count * e.byteStride);
    MeshoptDecoder.decodeGltfBuffer(bytes, e.count, e.byteStride,
      bin.subarray(e.byteOffset || 0, (e.byteOffset || 0) + e.byteLength), e.mode, e.filter);
    const view = new DataView(bytes.buffer), points = [];
    for (let i = 0; i < accessor.count; i++) for (let c = 0; c < 3; c++)
      points.push(view.getFloat32(i * e.byteStride + (accessor.byteOffset || 0) + 4 * c, true));
    return points;
  });
  console.log(JSON.stringify(out));
});
"""


def test_the_compressed_file_holds_the_same_avatar(web, web_glb, tmp_path):
    needs_gltfpack()
    small = compressed(web_glb)
    assert len(small) < 0.45 * len(web_glb)
    (plain, _), (document, _) = read_chunks(web_glb), read_chunks(small)
    used = {"EXT_meshopt_compression", "EXT_texture_webp", "KHR_mesh_quantization"}
    assert set(document["extensionsRequired"]) == used
    joints = [[d["nodes"][j]["name"] for j in d["skins"][0]["joints"]] for d in (plain, document)]
    assert sorted(joints[0]) == sorted(joints[1])
    names = [[m.get("extras", {}).get("targetNames", []) for m in d["meshes"]] for d in (plain, document)]
    assert names[0] == names[1]
    counts = [[len(m["primitives"][0].get("targets", [])) for m in d["meshes"]] for d in (plain, document)]
    assert counts[0] == counts[1] == [len(n) for n in names[0]]
    assert document["scenes"][0]["extras"] == {"note": "kept"}
    file = tmp_path / "small.glb"
    file.write_bytes(small)
    script = tmp_path / "decode.cjs"
    script.write_text(DECODER)
    decoder = ROOT / "node_modules" / "meshoptimizer" / "meshopt_decoder.cjs"
    run = subprocess.run(
        ["node", str(script), str(decoder), str(file)], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    for points, part in zip(json.loads(run.stdout), web.parts, strict=True):
        own, wanted = np.array(points).reshape(-1, 3), part.mesh.vertices.double().numpy()
        assert cKDTree(own).query(wanted)[0].max() < 1e-4
        assert cKDTree(wanted).query(own)[0].max() < 1e-4
