"""Bone profiles: names, hierarchies, and the law that motion does not depend on the profile."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from read_glb import read_glb
from test_glb import khronos_reports

from avatar3d.body.bind import in_t_pose
from avatar3d.body.pose import joint_transforms
from avatar3d.body.visemes import READY_PLAYER_ME
from avatar3d.engine.build import build_avatar
from avatar3d.engine.population import Population, sample
from avatar3d.export.animation import ClipError
from avatar3d.export.glb import encode_glb, write_glb
from avatar3d.export.profiles import PROFILES, REQUIRED, ProfileError, find_profile, recognize
from avatar3d.export.rig import bone_tracks, make_rig
from avatar3d.export.textures import with_smaller_textures
from avatar3d.rotations import quaternion_to_matrix
from avatar3d.structures import Avatar, Clip


@pytest.fixture(scope="module")
def person() -> Avatar:
    return with_smaller_textures(build_avatar(sample(np.random.default_rng(5), Population())), 128)


@pytest.fixture(scope="module")
def standing(person: Avatar) -> Avatar:
    return in_t_pose(person)


def wild_clip(avatar: Avatar) -> Clip:
    """Every joint turns, root and hips travel, two face shapes move."""
    generator = torch.Generator().manual_seed(0)
    times = torch.tensor([0.0, 0.5, 1.25])

    def random(width: int) -> torch.Tensor:
        return torch.randn(3, width, generator=generator)

    rotations = {name: torch.nn.functional.normalize(random(4), dim=1) for name in avatar.skeleton.names}
    travel = {name: 0.3 * random(3) for name in ("root", "hips")}
    return Clip("wild", times, rotations, travel, {"jawOpen": random(1)[:, 0].abs(), "eyeBlinkLeft": times})


def translation(offset: torch.Tensor) -> torch.Tensor:
    matrix = torch.eye(4).double()
    matrix[:3, 3] = offset
    return matrix


def joint_worlds(avatar: Avatar, clip: Clip, frame: int) -> torch.Tensor:
    """(J, 4, 4) motions of the joints from rest, the slow way."""
    skeleton = avatar.skeleton
    worlds: list[torch.Tensor] = []
    for name, parent, place in zip(skeleton.names, skeleton.parents, skeleton.positions.double(), strict=True):
        turn = torch.eye(4).double()
        turn[:3, :3] = quaternion_to_matrix(clip.rotations[name][frame].double())
        travel = clip.translations.get(name, torch.zeros(3, 3))[frame].double()
        local = translation(place + travel) @ turn @ translation(-place)
        worlds.append(local if parent < 0 else worlds[parent] @ local)
    return torch.stack(worlds)


@pytest.mark.parametrize("profile", PROFILES)
def test_posed_bones_move_like_their_joints(standing, profile):
    """World transform of each animated bone times its inverse bind matrix = the joint's motion."""
    rig = make_rig(standing.skeleton, find_profile(profile))
    clip = wild_clip(standing)
    tracks = {track.bone: track for track in bone_tracks(rig, standing.skeleton, clip)}
    rest_rotations, rest_translations = rig.rest()
    inverse = rig.inverse_bind_matrices()
    for frame in range(3):
        expected = joint_worlds(standing, clip, frame)
        worlds: list[torch.Tensor] = []
        for bone, parent in enumerate(rig.parents):
            track = tracks.get(bone)
            q, t = rest_rotations[bone], rest_translations[bone]
            if track is not None and track.rotations is not None:
                q = track.rotations[frame]
            if track is not None and track.translations is not None:
                t = track.translations[frame]
            local = translation(t)
            local[:3, :3] = quaternion_to_matrix(q)
            worlds.append(local if parent < 0 else worlds[parent] @ local)
            motion = worlds[bone] @ inverse[bone]
            np.testing.assert_allclose(motion, expected[rig.sources[bone]], atol=1e-6, err_msg=rig.names[bone])


@pytest.mark.parametrize("profile", PROFILES)
def test_rest_is_the_avatars_rest(standing, profile):
    """Bones stand at their joints, every joint's weights go to a bone that moves with it, none is lost."""
    rig = make_rig(standing.skeleton, find_profile(profile))
    rotations, translations = rig.rest()
    worlds: list[torch.Tensor] = []
    for bone, parent in enumerate(rig.parents):
        assert parent < bone
        local = translation(translations[bone])
        local[:3, :3] = quaternion_to_matrix(rotations[bone])
        worlds.append(local if parent < 0 else worlds[parent] @ local)
    np.testing.assert_allclose(
        torch.stack(worlds) @ rig.inverse_bind_matrices(), np.tile(np.eye(4), (len(worlds), 1, 1)), atol=1e-9
    )
    for joint, name in enumerate(standing.skeleton.names):
        bone = rig.bone_of_joint[joint]
        assert name == "root" or rig.sources[bone] == joint
        if rig.sources[bone] == joint:
            np.testing.assert_allclose(worlds[bone][:3, 3], standing.skeleton.positions[joint], atol=1e-7)
            assert rig.names[bone] == find_profile(profile).bones[name]


def chain(profile: str, avatar: Avatar, bone: str) -> list[str]:
    rig = make_rig(avatar.skeleton, find_profile(profile))
    index, names = rig.names.index(bone), []
    while index >= 0:
        names.append(rig.names[index])
        index = rig.parents[index]
    return names[::-1]


def test_hierarchies_of_other_programs(standing):
    """Written down from the programs' own files (see `export.profiles`)."""
    spine = ["root", "spine05", "spine04", "spine03", "spine02", "spine01"]
    assert chain("makehuman", standing, "finger5-3.L") == [
        *spine, "clavicle.L", "shoulder01.L", "upperarm01.L", "upperarm02.L", "lowerarm01.L", "lowerarm02.L",
        "wrist.L", "metacarpal4.L", "finger5-1.L", "finger5-2.L", "finger5-3.L",
    ]  # fmt: skip
    assert chain("makehuman", standing, "eye.R") == [
        *spine, "neck01", "neck02", "neck03", "head", "special06.R", "special05.R", "eye.R"
    ]  # fmt: skip
    assert chain("makehuman", standing, "toe1-1.R") == [
        "root", "pelvis.R", "upperleg01.R", "upperleg02.R", "lowerleg01.R", "lowerleg02.R", "foot.R", "toe1-1.R"
    ]  # fmt: skip
    assert chain("unreal", standing, "thumb_03_r") == [
        "root", "pelvis", "spine_01", "spine_02", "spine_03", "clavicle_r", "upperarm_r", "lowerarm_r", "hand_r",
        "thumb_01_r", "thumb_02_r", "thumb_03_r",
    ]  # fmt: skip
    assert chain("mixamo", standing, "mixamorig:LeftToe_End") == [
        f"mixamorig:{n}" for n in ("Hips", "LeftUpLeg", "LeftLeg", "LeftFoot", "LeftToeBase", "LeftToe_End")
    ]
    assert chain("rpm", standing, "RightHandThumb4")[-4:] == [f"RightHandThumb{n}" for n in (1, 2, 3, 4)]
    assert len(make_rig(standing.skeleton, find_profile("rpm")).names) == 67
    assert chain("unity", standing, "LeftThumbDistal")[-3:] == [
        "LeftThumbProximal", "LeftThumbIntermediate", "LeftThumbDistal"
    ]  # fmt: skip
    assert chain("godot", standing, "LeftThumbDistal")[-3:] == [
        "LeftThumbMetacarpal", "LeftThumbProximal", "LeftThumbDistal"
    ]  # fmt: skip
    assert chain("godot", standing, "Head")[:2] == ["Root", "Hips"]


@pytest.mark.parametrize("profile", ["mixamo", "rpm"])
def test_mixamo_axes_of_a_t_pose(standing, profile):
    """+Y along the bone; the columns that Mixamo's T-pose has."""
    prefix = "mixamorig:" if profile == "mixamo" else ""
    rig = make_rig(standing.skeleton, find_profile(profile))
    axes = dict(zip((n.removeprefix(prefix) for n in rig.names), rig.rotations.numpy(), strict=True))
    x, y, z = np.eye(3)
    for bone, columns in {
        "Hips": (x, y, z), "LeftArm": (-z, x, -y), "RightForeArm": (z, -x, -y), "LeftHandIndex2": (-z, x, -y),
        "LeftUpLeg": (-x, -y, z), "RightLeg": (-x, -y, z),
    }.items():  # fmt: skip
        angle = np.arccos(np.clip((np.trace(np.stack(columns, 1).T @ axes[bone]) - 1) / 2, -1, 1))
        assert np.degrees(angle) < (12 if bone == "Hips" else 0.1), (bone, axes[bone])
    for side in ("Left", "Right"):
        foot = axes[f"{side}Foot"]
        np.testing.assert_allclose(foot[:, 0], -x, atol=1e-3)
        assert foot[2, 1] > 0 > foot[1, 1]
    for bone, parent in enumerate(rig.parents):
        name = rig.names[bone].removeprefix(prefix)
        if name.endswith(("4", "_End", "ForeArm", "Leg", "Hand", "2", "3")) and parent >= 0:
            offset = rig.rotations[parent].T @ (rig.positions[bone] - rig.positions[parent])
            if rig.names[parent].removeprefix(prefix) != "Hips":
                assert float(offset[1]) > 0.999 * float(offset.norm()), name


@pytest.mark.parametrize("profile", PROFILES)
def test_profiles_recognize_their_own_files(standing, profile):
    rig = make_rig(standing.skeleton, find_profile(profile))
    found = recognize(["Armature", *rig.names])
    assert found is not None and found[0].name == profile
    for name, joint in found[1].items():
        assert standing.skeleton.names[rig.sources[rig.names.index(name)]] == joint
    assert recognize(name for name in rig.names if name != find_profile(profile).bones["leftFoot"]) is None


def test_three_js_names_are_recognized():
    bones = [find_profile("mixamo").bones[joint].replace(":", "") for joint in REQUIRED]
    found = recognize(bones)
    assert found is not None and found[0].name == "mixamo" and found[1]["mixamorigHips"] == "hips"


def test_unknown_profile_names_the_nearest():
    with pytest.raises(ProfileError, match="'unreal'"):
        find_profile("Unreal5")
    with pytest.raises(ProfileError, match="the profiles are vrm, unity"):
        find_profile("???")


def test_files_of_all_profiles_are_valid(person, standing, tmp_path):
    """No error and no warning; the one remark is Ready Player Me's layout, which apps need."""
    paths = []
    for bound, avatar in (("a", person), ("t", standing)):
        for profile in PROFILES:
            paths.append(tmp_path / f"{profile}-{bound}.glb")
            write_glb(avatar, paths[-1], {}, profile, [wild_clip(avatar)])
    for path, report in zip(paths, khronos_reports(paths), strict=True):
        codes = {message["code"] for message in report["issues"]["messages"]}
        assert not codes, path.name
        assert report["info"]["animationCount"] == 1


def test_ready_player_me_names(standing, tmp_path):
    write_glb(standing, tmp_path / "a.glb", {}, "rpm")
    document = read_glb(tmp_path / "a.glb").document
    (scene,) = document["scenes"]
    assert scene["name"] == "Armature"
    children = [document["nodes"][n]["name"] for n in scene["nodes"]]
    assert children[0] == "Hips"
    assert {"Wolf3D_Head", "Wolf3D_Body", "Wolf3D_Teeth", "EyeLeft", "EyeRight"} <= set(children)
    names = {mesh["name"]: mesh for mesh in document["meshes"]}
    for name in ("Wolf3D_Head", "Wolf3D_Teeth"):
        assert names[name]["extras"]["targetNames"] == list(READY_PLAYER_ME)
    count = sum(document["accessors"][m["primitives"][0]["indices"]]["count"] for m in document["meshes"]) // 3
    assert count == sum(len(part.mesh.faces) for part in standing.parts)


def test_animation_is_the_clip(standing, tmp_path):
    """Keys in the file are the clip's rotations (xyzw), offsets and weights; what rests has no channel."""
    clip = wild_clip(standing)
    only = {name: clip.rotations[name] for name in ("hips", "leftHand")}
    clip = Clip("part", clip.times, only, {"hips": clip.translations["hips"]}, clip.expressions)
    write_glb(standing, tmp_path / "a.glb", {}, clips=[clip])
    glb = read_glb(tmp_path / "a.glb")
    (animation,) = glb.document["animations"]
    tracks = {}
    for channel in animation["channels"]:
        sampler = animation["samplers"][channel["sampler"]]
        node = glb.document["nodes"][channel["target"]["node"]]
        tracks[node["name"], channel["target"]["path"]] = glb.accessor(sampler["output"])
        np.testing.assert_array_equal(glb.accessor(sampler["input"])[:, 0], clip.times)
    assert {key for key in tracks if key[1] != "weights"} == {
        ("hips", "rotation"), ("hips", "translation"), ("leftHand", "rotation")
    }  # fmt: skip
    quaternion = tracks["leftHand", "rotation"][:, [3, 0, 1, 2]]
    expected = clip.rotations["leftHand"].numpy()
    np.testing.assert_allclose(np.abs((quaternion * expected).sum(1)), 1, atol=1e-6)
    hips = standing.skeleton.positions[standing.skeleton.names.index("hips")]
    np.testing.assert_allclose(tracks["hips", "translation"], hips + clip.translations["hips"], atol=1e-6)
    names = glb.mesh("head_skin")["extras"]["targetNames"]
    weights = tracks["head_skin", "weights"].reshape(3, len(names))
    np.testing.assert_allclose(weights[:, names.index("jawOpen")], clip.expressions["jawOpen"], atol=1e-7)
    resting = [standing.expression.get(n, 0.0) for n in names]
    moved = [names.index("jawOpen"), names.index("eyeBlinkLeft")]
    np.testing.assert_allclose(np.delete(weights[2], moved), np.delete(resting, moved), atol=1e-6)


def test_clips_that_do_not_fit(standing):
    times = torch.tensor([0.0, 1.0])
    with pytest.raises(ClipError, match="moves no joint"):
        encode_glb(standing, {}, clips=[Clip("none", times, {"tail": torch.eye(4)[:2]})])
    with pytest.raises(ClipError, match="ascend"):
        encode_glb(standing, {}, clips=[Clip("back", times.flip(0), {"hips": torch.eye(4)[:2]})])
    with pytest.raises(ClipError, match="not finite"):
        encode_glb(standing, {}, clips=[Clip("nan", times, {"hips": torch.full((2, 4), torch.nan)})])


def test_joint_worlds_agree_with_posing(standing):
    """The slow reference above is the package's own forward kinematics."""
    clip = wild_clip(standing)
    clip = Clip("still", clip.times, clip.rotations)
    pose = {name: q[1] for name, q in clip.rotations.items()}
    np.testing.assert_allclose(
        joint_worlds(standing, clip, 1), joint_transforms(standing.skeleton, pose), atol=2e-5
    )
