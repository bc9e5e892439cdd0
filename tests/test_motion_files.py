"""BVH files: read with every fault named, recognised by name, played with the directions that they have."""

import json
import math
from dataclasses import replace

import pytest
import torch

from avatar3d.body.bind import in_t_pose
from avatar3d.engine.build import build_avatar
from avatar3d.motion.bone_names import recognise
from avatar3d.motion.bvh import MotionFileError, about, euler_angles, read_bvh, write_bvh
from avatar3d.motion.clips import make_clip
from avatar3d.motion.kinematics import clip_frames, rebased, unit
from avatar3d.motion.play import sample
from avatar3d.motion.retarget import read_bone_map, retarget
from avatar3d.motion.walk import walk
from avatar3d.rotations import axis_angle_to_matrix
from avatar3d.spec import AvatarSpec
from avatar3d.structures import Avatar, Skeleton

SMALL = """HIERARCHY
ROOT Hips
{
  OFFSET 0 90 0
  CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation
  JOINT Head
  {
    OFFSET 0 50 0
    CHANNELS 3 Zrotation Xrotation Yrotation
    End Site
    {
      OFFSET 0 20 0
    }
  }
}
MOTION
Frames: 2
Frame Time: 0.0333333
0 90 0 0 0 0 0 0 0
1 91 2 90 0 0 0 10 20
"""


@pytest.fixture(scope="module")
def avatar() -> Avatar:
    return build_avatar(AvatarSpec(age=30, gender=0.1, seed=1))


def write(tmp_path, text: str):
    path = tmp_path / "motion.bvh"
    path.write_bytes(text.encode())
    return path


def test_a_small_file(tmp_path):
    motion = read_bvh(write(tmp_path, SMALL))
    assert motion.names == ("Hips", "Head") and motion.parents == (-1, 0)
    assert motion.frame_time == pytest.approx(1 / 30, abs=1e-5)
    turns, places = motion.world()
    assert torch.allclose(places[1, 0], torch.tensor([1.0, 91.0, 2.0]).double())
    # a quarter turn about z lays the neck to the right
    assert torch.allclose(places[1, 1], torch.tensor([1.0 - 50.0, 91.0, 2.0]).double(), atol=1e-6)
    expected = (
        axis_angle_to_matrix(torch.tensor([0.0, 0.0, math.pi / 2]))
        @ axis_angle_to_matrix(torch.tensor([math.radians(10.0), 0.0, 0.0]))
        @ axis_angle_to_matrix(torch.tensor([0.0, math.radians(20.0), 0.0]))
    )
    assert torch.allclose(turns[1, 1], expected.double(), atol=1e-6)
    assert torch.equal(motion.ends[1], torch.tensor([0.0, 20.0, 0.0]).double())


def test_odd_whitespace_is_read_alike(tmp_path):
    plain = read_bvh(write(tmp_path, SMALL))
    for text in (
        SMALL.replace("\n", "\r\n"),
        SMALL.replace("\n{", " {").replace("\n  {", "{"),
        "\n\n" + SMALL.replace("  ", "\t\t").replace("\n", "  \n\n"),
        SMALL.replace("0 90 0 0 0 0 0 0 0", "0 90 0\n0 0 0 0 0 0"),
        "﻿" + SMALL.replace("Frames: 2", "Frames:2").replace("hierarchy", "HIERARCHY"),
        SMALL.replace("{\n", "{ ").replace("OFFSET 0 50 0\n", "OFFSET 0 50 0 "),
    ):
        motion = read_bvh(write(tmp_path, text))
        assert motion.names == plain.names and torch.equal(motion.rotations, plain.rotations)
        assert torch.equal(motion.offsets, plain.offsets)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (("HIERARCHY", "SKELETON"), r"line 1: .*begins with HIERARCHY"),
        (("OFFSET 0 50 0", "OFFSET 0 fifty 0"), r"line 8: 'fifty' is not a number"),
        (("OFFSET 0 50 0", "OFFSET 0 50"), r"line 8: 3 numbers should stand here, not 2"),
        (("CHANNELS 3", "CHANNELS 4"), r"line 9: 4 different channels should follow"),
        (("JOINT Head", "JOINT Hips"), r"line 6: a second joint named 'Hips'"),
        (("JOINT Head", "ROOT Head"), r"line 6: a second ROOT"),
        (
            ("    End Site\n    {\n      OFFSET 0 20 0\n    }\n  }\n}\n", "    End Site\n"),
            r"line 11: MOTION comes before",
        ),
        (("  }\n}\nMOTION", "  }\nMOTION"), r"MOTION comes before all braces are closed"),
        (
            ("MOTION\nFrames: 2\nFrame Time: 0.0333333\n0 90 0 0 0 0 0 0 0\n1 91 2 90 0 0 0 10 20\n", ""),
            r"ends where",
        ),
        (("Frames: 2", "Frames: 3"), r"2 whole frames of 9 numbers, but says 3; it is cut off"),
        (("Frames: 2", "Frames: 1"), r"more numbers than 1 frames"),
        (("Frames: 2", "Frames: two"), r"line 17: 'Frames: <number>'"),
        (("Frames: 2", "Frames: 0"), r"0 frames"),
        (("Frame Time: 0.0333333", "Frame Time: 0"), r"line 18: a frame of 0 seconds"),
        (("1 91 2 90", "1 nan 2 90"), r"line 20: 'nan' is not a number"),
        (("1 91 2 90", "1 x 2 90"), r"line 20: 'x' is not a number"),
        (("0 0 0 10 20", "0 0 0 10"), r"1 whole frames"),
        (("  OFFSET 0 90 0", "  }"), r"line 5: CHANNELS outside of a joint"),
    ],
)
def test_faults_are_named(tmp_path, change, fault):
    assert change[0] in SMALL
    with pytest.raises(MotionFileError, match=fault):
        read_bvh(write(tmp_path, SMALL.replace(*change)))


def test_other_files_are_refused(tmp_path):
    with pytest.raises(MotionFileError, match="No such file"):
        read_bvh(tmp_path / "none.bvh")
    with pytest.raises(MotionFileError, match="HIERARCHY"):
        read_bvh(write(tmp_path, ""))
    (tmp_path / "glb.bvh").write_bytes(b"glTF\x02\xff\xfe\x00")
    with pytest.raises(MotionFileError, match="not a text file"):
        read_bvh(tmp_path / "glb.bvh")


@pytest.mark.parametrize("order", ["XYZ", "XZY", "YXZ", "YZX", "ZXY", "ZYX"])
def test_euler_angles_compose_to_the_rotation(order):
    generator = torch.Generator().manual_seed(3)
    R = axis_angle_to_matrix(torch.randn(50, 3, generator=generator).double())
    angles = euler_angles(R, order)
    product = torch.eye(3).double()
    for n, letter in enumerate(order):
        product = product @ about("XYZ".index(letter), angles[:, n])
    assert (product - R).abs().max() < 1e-9


LEGS = ("UpperLeg", "LowerLeg", "Foot", "Toes")
ARMS = ("Shoulder", "UpperArm", "LowerArm", "Hand")
CONVENTIONS = {
    "CMU": (
        "Hips LowerBack Spine Spine1 Neck Neck1 Head",
        "{S}UpLeg {S}Leg {S}Foot {S}ToeBase",
        "{S}Shoulder {S}Arm {S}ForeArm {S}Hand",
    ),
    "Poser": (
        "hip abdomen chest neck head",
        "{s}Thigh {s}Shin {s}Foot {s}Toe",
        "{s}Collar {s}Shldr {s}ForeArm {s}Hand",
    ),
    "Mixamo": (
        "mixamorig:Hips mixamorig:Spine mixamorig:Spine1 mixamorig:Spine2 mixamorig:Neck mixamorig:Head",
        "mixamorig:{S}UpLeg mixamorig:{S}Leg mixamorig:{S}Foot mixamorig:{S}ToeBase",
        "mixamorig:{S}Shoulder mixamorig:{S}Arm mixamorig:{S}ForeArm mixamorig:{S}Hand",
    ),
    "MakeHuman": (
        "root spine05 spine04 spine03 spine02 spine01 neck01 neck02 neck03 head",
        "upperleg01.{U} lowerleg01.{U} foot.{U} toe1-1.{U}",
        "clavicle.{U} upperarm01.{U} lowerarm01.{U} wrist.{U}",
    ),
    "VRM": (
        "hips spine chest upperChest neck head",
        "{l}UpperLeg {l}LowerLeg {l}Foot {l}Toes",
        "{l}Shoulder {l}UpperArm {l}LowerArm {l}Hand",
    ),
    "Unreal": (
        "pelvis spine_01 spine_02 spine_03 neck_01 head",
        "thigh_{s} calf_{s} foot_{s} ball_{s}",
        "clavicle_{s} upperarm_{s} lowerarm_{s} hand_{s}",
    ),
    "Biped": (
        "Bip01 Pelvis|Bip01 Spine|Bip01 Spine1|Bip01 Spine2|Bip01 Neck|Bip01 Head",
        "Bip01 {U} Thigh|Bip01 {U} Calf|Bip01 {U} Foot|Bip01 {U} Toe0",
        "Bip01 {U} Clavicle|Bip01 {U} UpperArm|Bip01 {U} Forearm|Bip01 {U} Hand",
    ),
    "Xsens": (
        "Hips Chest Chest2 Chest3 Chest4 Neck Head",
        "{S}Hip {S}Knee {S}Ankle {S}Toe",
        "{S}Collar {S}Shoulder {S}Elbow {S}Wrist",
    ),
    "Rokoko": (
        "Hips Spine Spine2 Neck Head",
        "{S}Thigh {S}Shin {S}Foot {S}Toe",
        "{S}Shoulder {S}Arm {S}ForeArm {S}Hand",
    ),
    "SMPL": (
        "pelvis spine1 spine2 spine3 neck head",
        "{l}_hip {l}_knee {l}_ankle {l}_foot",
        "{l}_collar {l}_shoulder {l}_elbow {l}_wrist",
    ),
    "Blender": (
        "hips spine chest neck head",
        "thigh.{U} shin.{U} foot.{U} toe.{U}",
        "shoulder.{U} upper_arm.{U} forearm.{U} hand.{U}",
    ),
}
"""(trunk from the hips up, a leg, an arm); {S} Left, {s} l, {l} left, {U} L; bars part names with spaces."""


def skeleton_of(trunk: str, leg: str, arm: str) -> tuple[list[str], list[int]]:
    def split(names: str) -> list[str]:
        return names.split("|") if "|" in names else names.split()

    names = split(trunk)
    parents = list(range(-1, len(names) - 1))
    neck = next(n for n, name in enumerate(names) if "eck" in name)
    for side in ("Left", "Right"):
        for chain, above in ((leg, 0), (arm, neck - 1)):
            words = {"S": side, "s": side[0].lower(), "l": side.lower(), "U": side[0]}
            for name in split(chain.format(**words)):
                parents.append(above)
                above = len(names)
                names.append(name)
    return names, parents


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_names_of_all_conventions_are_recognised(convention):
    names, parents = skeleton_of(*CONVENTIONS[convention])
    found = recognise(names, parents)
    ours = {bone: names[n] for n, bone in found.items()}
    expected = {"hips", "spine", "neck", "head", *(f"{s}{b}" for s in ("left", "right") for b in LEGS + ARMS)}
    assert expected <= set(ours)
    legs, _ = skeleton_of("x_eck", *CONVENTIONS[convention][1:])
    for n, bone in enumerate(LEGS + ARMS):
        assert ours[f"left{bone}"] == legs[1 + n] and ours[f"right{bone}"] == legs[9 + n]
    # the spine rises from the hips whatever its numbers say
    order = [
        names.index(ours[bone])
        for bone in ("hips", "spine", "chest", "upperChest", "neck", "head")
        if bone in ours
    ]
    assert order == sorted(order)


@pytest.mark.parametrize(
    ("name", "bone"),
    [
        ("mixamorig:LeftHandThumb1", "leftThumbMetacarpal"),
        ("mixamorig:LeftHandIndex2", "leftIndexIntermediate"),
        ("Bip01 L Finger1", "leftIndexProximal"),
        ("Bip01 L Finger01", "leftThumbProximal"),
        ("finger5-1.L", "leftLittleProximal"),
        ("pinky_01_l", "leftLittleProximal"),
        ("leftRingDistal", "leftRingDistal"),
    ],
)
def test_fingers(name, bone):
    hands = {
        "mixamorig:Left": [f"mixamorig:LeftHand{f}{k}" for f in ("Thumb", "Index") for k in (1, 2, 3, 4)],
        "Bip01": [f"Bip01 L Finger{f}{k}" for f in range(5) for k in ("", "1", "2")],
        "finger": [f"finger{f}-{k}.L" for f in range(1, 6) for k in (1, 2, 3)],
        "pinky": [f"{f}_0{k}_l" for f in ("thumb", "index", "middle", "ring", "pinky") for k in (1, 2, 3)],
        "leftRing": [f"leftRing{k}" for k in ("Proximal", "Intermediate", "Distal")],
    }
    names = next(names for start, names in hands.items() if name.startswith(start))
    found = recognise(names, [-1] * len(names))
    assert found[names.index(name)] == bone


def other_body(skeleton: Skeleton) -> Skeleton:
    """The same rest directions on longer legs, shorter arms and a broader pelvis."""
    positions = skeleton.positions.clone()
    for n, (name, parent) in enumerate(zip(skeleton.names, skeleton.parents, strict=True)):
        if parent >= 0:
            factor = 1.3 if "Leg" in name or "Foot" in name else 0.8 if "Arm" in name or "Hand" in name else 1.1
            positions[n] = positions[parent] + factor * (skeleton.positions[n] - skeleton.positions[parent])
    return replace(skeleton, positions=positions)


@pytest.mark.parametrize(("clip", "order"), [("wave", "ZXY"), ("dance", "XYZ"), ("walk", "YZX")])
def test_a_motion_survives_the_way_through_another_body(tmp_path, avatar, clip, order):
    """Written for other proportions in T-pose, in inches, read and retargeted: the same directions."""
    original = make_clip(clip, avatar, seed=2)
    t_pose = in_t_pose(avatar).skeleton
    write_bvh(other_body(t_pose), rebased(original, avatar.skeleton, t_pose), tmp_path / "m.bvh", 39.37, order)
    result = retarget(read_bvh(tmp_path / "m.bvh"), avatar)
    assert set(result.still) <= {"leftEye", "rightEye"} and result.remarks == ()
    _, before = clip_frames(avatar.skeleton, original)
    _, after = clip_frames(avatar.skeleton, result.clip)
    for n, (name, parent) in enumerate(zip(avatar.skeleton.names, avatar.skeleton.parents, strict=True)):
        if parent > 0 and "Toes" not in name and "Leg" not in name and "Foot" not in name and name != "spine":
            a, b = unit(before[:, n] - before[:, parent]), unit(after[:, n] - after[:, parent])
            worst = torch.rad2deg(torch.acos((a * b).sum(-1).clamp(-1, 1)).max())
            assert worst < 1.0, name
    names = avatar.skeleton.names
    for side in ("left", "right"):  # feet that would sink are lifted, so legs may differ a little more
        for bone, end in (("UpperLeg", "LowerLeg"), ("LowerLeg", "Foot"), ("Foot", "Toes")):
            i, j = names.index(side + bone), names.index(side + end)
            a, b = unit(before[:, j] - before[:, i]), unit(after[:, j] - after[:, i])
            assert torch.rad2deg(torch.acos((a * b).sum(-1).clamp(-1, 1)).median()) < 1.5, side + bone


def z_up(text: str) -> str:
    """A file of `write_bvh` with its vertical along Z: offsets and places turned, rotations conjugated."""
    lines = []
    for line in text.splitlines():
        words = line.split()
        if words[:1] == ["OFFSET"]:
            x, y, z = map(float, words[1:])
            line = f"OFFSET {x} {-z} {y}"
        lines.append(line)
    start = next(n for n, line in enumerate(lines) if line.startswith("Frame Time")) + 1
    for n in range(start, len(lines)):
        values = list(map(float, lines[n].split()))
        x, y, z = values[:3]
        turned = [x, -z, y]
        for k in range(3, len(values), 3):  # XYZ order: the axes become X, Z, -Y
            a, b, c = values[k : k + 3]
            turned += [a, b, -c]
        lines[n] = " ".join(map(str, turned))
    return "\n".join(lines).replace("Xrotation Yrotation Zrotation", "Xrotation Zrotation Yrotation")


def test_files_with_z_up_and_any_heading_stand_up_and_face_us(tmp_path, avatar):
    original = walk(avatar, seed=2, seconds=2.0, travel=True)
    write_bvh(avatar.skeleton, original, tmp_path / "y.bvh", 1.0, "XYZ")
    (tmp_path / "z.bvh").write_text(z_up((tmp_path / "y.bvh").read_text()))
    results = [retarget(read_bvh(tmp_path / name), avatar).clip for name in ("y.bvh", "z.bvh")]
    (_, y_places), (_, z_places) = (clip_frames(avatar.skeleton, clip) for clip in results)
    assert (y_places - z_places).abs().max() < 1e-3
    head, hips = (avatar.skeleton.names.index(n) for n in ("head", "hips"))
    assert (z_places[:, head, 1] - z_places[:, hips, 1]).min() > 0.4
    expected = original.translations["root"][-1, 2]
    assert z_places[-1, hips, 2] - z_places[0, hips, 2] == pytest.approx(float(expected), rel=0.05)


def test_soles_end_up_on_the_ground(tmp_path, avatar):
    child = build_avatar(AvatarSpec(age=6, seed=3))
    write_bvh(avatar.skeleton, walk(avatar, seed=2, seconds=2.0, travel=True), tmp_path / "m.bvh")
    clip = retarget(read_bvh(tmp_path / "m.bvh"), child).clip
    _, places = clip_frames(child.skeleton, clip)
    toes = places[:, [child.skeleton.names.index(f"{s}Toes") for s in ("left", "right")], 1]
    rest = child.skeleton.positions[child.skeleton.names.index("leftToes"), 1]
    assert toes.min() > rest - 0.02 and toes.amin(1).max() < rest + 0.04
    legs = [float(a.skeleton.positions[a.skeleton.names.index("leftUpperLeg"), 1]) for a in (child, avatar)]
    hips = child.skeleton.names.index("hips")
    ratio = float(places[-1, hips, 2]) / float(
        walk(avatar, seed=2, seconds=2.0, travel=True).translations["root"][-1, 2]
    )
    assert ratio == pytest.approx(legs[0] / legs[1], rel=0.1)


def test_unknown_names_are_listed_and_can_be_mapped(tmp_path, avatar):
    write_bvh(avatar.skeleton, make_clip("wave", avatar, seconds=0.5), tmp_path / "m.bvh")
    strange = {name: f"knochen_{n}" for n, name in enumerate(avatar.skeleton.names)}
    text = (tmp_path / "m.bvh").read_text()
    lines = [
        f"{line.split()[0]} {strange[line.split()[1]]}" if line.split()[:1] in (["ROOT"], ["JOINT"]) else line
        for line in text.splitlines()
    ]
    (tmp_path / "s.bvh").write_text("\n".join(lines))
    motion = read_bvh(tmp_path / "s.bvh")
    with pytest.raises(MotionFileError, match=r"no joint was recognised as hips, leftUpperLeg.*knochen_1.*JSON"):
        retarget(motion, avatar)
    table = {there: ours for ours, there in strange.items() if ours not in ("root", "leftEye", "rightEye")}
    (tmp_path / "map.json").write_text(json.dumps(table))
    result = retarget(motion, avatar, read_bone_map(tmp_path / "map.json"))
    assert result.mapped == table and set(result.unmapped) == {strange["leftEye"], strange["rightEye"]}
    assert sample(result.clip, 0.2).pose.keys() >= {"leftUpperArm", "hips"}


def test_faulty_bone_maps_are_refused(tmp_path, avatar):
    path = tmp_path / "map.json"
    for text, fault in (
        ("{", "not JSON"),
        ("[1]", "should hold an object"),
        ('{"a": 1}', "should hold an object"),
    ):
        path.write_text(text)
        with pytest.raises(MotionFileError, match=fault):
            read_bone_map(path)
    write_bvh(avatar.skeleton, make_clip("nod", avatar, seconds=0.5), tmp_path / "m.bvh")
    motion = read_bvh(tmp_path / "m.bvh")
    with pytest.raises(MotionFileError, match="names 'tail', but the file's joints are"):
        retarget(motion, avatar, {"tail": "spine"})
    with pytest.raises(MotionFileError, match="names 'tail', but the avatar's joints are"):
        retarget(motion, avatar, {"spine": "tail"})
