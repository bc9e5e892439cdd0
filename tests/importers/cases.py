"""Avatars in files, poses to put them in, and where their vertices must then be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np

from avatar3d.body.bind import in_t_pose
from avatar3d.body.pose import pose_avatar, rotate
from avatar3d.body.visemes import READY_PLAYER_ME
from avatar3d.engine.build import build_avatar
from avatar3d.export.glb import write_glb
from avatar3d.export.profiles import PROFILES, Profile
from avatar3d.export.rig import Rig, make_rig
from avatar3d.export.rpm import EVERY_SHAPE, with_ready_player_me_names
from avatar3d.motion.clips import make_clip
from avatar3d.motion.play import pose_at
from avatar3d.spec import AvatarSpec
from avatar3d.structures import Avatar, Clip, Mesh, Part

EXTRAS = {"generated": True, "prompt": "an importer's test"}
SAMPLES = 60
"""Vertices of each part that are compared."""
CLOSE = 1e-4
"""Metres."""
POSES = (
    ({}, {}),
    (
        {
            "spine": rotate("y", 20.0),
            "leftUpperArm": rotate("z", 40.0),
            "leftLowerArm": rotate("y", -70.0),
            "rightHand": rotate("x", 30.0),
            "leftIndexProximal": rotate("z", -50.0),
            "rightThumbMetacarpal": rotate("y", 25.0),
            "head": rotate("x", 15.0),
        },
        {"jawOpen": 0.7, "eyeBlinkLeft": 1.0, "browInnerUp": 0.5},
    ),
    (
        {
            "hips": rotate("y", -35.0),
            "rightUpperLeg": rotate("x", -60.0),
            "rightLowerLeg": rotate("x", 80.0),
            "leftFoot": rotate("x", -20.0),
            "leftEye": rotate("y", 12.0),
            "neck": rotate("z", 10.0),
        },
        {"mouthSmileLeft": 1.0, "tongueOut": 0.8, "cheekPuff": 0.6},
    ),
)
"""Pairs of joint turns and face shapes."""


@dataclass(frozen=True)
class Case:
    """A file and the avatar that it holds, in the file's bind pose and with the file's names of parts."""

    path: Path
    avatar: Avatar
    profile: Profile
    clips: tuple[Clip, ...] = ()

    @cached_property
    def rig(self) -> Rig:
        return make_rig(self.avatar.skeleton, self.profile)

    def bone(self, joint: str) -> str:
        """The file's name of one of our joints."""
        return self.rig.names[self.rig.bone_of_joint[self.avatar.skeleton.names.index(joint)]]

    def job(self, spelled: Callable[[str], str] = str) -> dict:
        """What an importer's program is told: JSON values; quaternions are xyzw.

        `spelled` is how the importer respells names of joints.
        """
        poses = []
        for turns, expression in POSES:
            rotations = {spelled(self.bone(joint)): q.roll(-1).tolist() for joint, q in turns.items()}
            poses.append({"rotations": rotations, "expression": expression})
        return {
            "file": str(self.path),
            "poses": poses,
            "moments": [{"clip": clip.name, "seconds": t} for clip in self.clips for t in moments(clip)],
            "samples": {part.name: sampled_vertices(len(part.mesh.vertices)) for part in self.avatar.parts},
        }


def moments(clip: Clip) -> list[float]:
    """Times of key frames, where importers that bake tracks at a frame rate are exact too."""
    return clip.times[[0, len(clip.times) // 3, (2 * len(clip.times)) // 3]].tolist()


def sampled_vertices(count: int) -> list[int]:
    """Indices of vertices spread evenly over a part."""
    return np.unique(np.linspace(0, count - 1, SAMPLES).astype(int)).tolist()


@cache
def people() -> tuple[Avatar, ...]:
    """A woman with long hair on springs and a bearded old man; made once in a process."""
    return made_people()


def made_people() -> tuple[Avatar, ...]:
    """As `people`, made anew."""
    woman = AvatarSpec(
        seed=3, gender=0.0, age=28, hair_style="long_straight", hair_length=0.8, glasses="round", earrings="hoops",
        top="dress", shoes="sandals", expression="smile",
    )  # fmt: skip
    man = AvatarSpec(
        seed=4, gender=1.0, age=70, weight=0.8, hair_style="balding", beard_style="full", lenses="dark",
        glasses="aviator", top="suit", bottom="trousers", shoes="boots", hat="cap",
    )  # fmt: skip
    return build_avatar(woman), build_avatar(man)


def written(folder: Path, avatar: Avatar, profile: str, clip: str) -> Case:
    """The avatar as a GLB file in the pose that the profile wants, with one clip."""
    bones = PROFILES[profile]
    bound = in_t_pose(avatar) if bones.t_pose else avatar
    clips = (make_clip(clip, bound),)
    path = folder / f"{profile}.glb"
    write_glb(bound, path, EXTRAS, profile=profile, clips=clips)
    return Case(path, with_ready_player_me_names(bound) if profile == "rpm" else bound, bones, clips)


def check_counts(case: Case, report: dict, spelled: Callable[[str], str] = str) -> None:
    """The importer saw every joint, mesh, vertex, triangle, face shape and clip that was written, and no other.

    `spelled` is how the importer respells names of joints.
    """
    rig = case.rig
    above = {rig.names[b]: rig.names[p] if p >= 0 else None for b, p in enumerate(rig.parents)}
    expected = {spelled(name): parent and spelled(parent) for name, parent in above.items()}
    assert len(report["joints"]) == len(rig.names)
    assert dict(zip(report["joints"], report["parents"], strict=True)) == expected
    assert sorted(report["meshes"]) == sorted(part.name for part in case.avatar.parts)
    for part in case.avatar.parts:
        seen = report["meshes"][part.name]
        assert seen["vertices"] == len(part.mesh.vertices), part.name
        assert seen["triangles"] == len(part.mesh.faces), part.name
        every = case.profile.name == "rpm" and part.name in EVERY_SHAPE
        assert seen["shapes"] == (list(READY_PLAYER_ME) if every else moving_shapes(part)), part.name
        assert seen["material"] == part.mesh.material.name
    assert [clip["name"] for clip in report["animations"]] == [clip.name for clip in case.clips]
    for seen, clip in zip(report["animations"], case.clips, strict=True):
        assert abs(seen["seconds"] - float(clip.times[-1])) < 0.05


def moving_shapes(part: Part) -> list[str]:
    """Names of the shapes that move the part by more than the writer's threshold, in order."""
    if part.morphs is None:
        return []
    moves = part.morphs.deltas.abs().amax(dim=(1, 2)) >= 1e-5
    return [name for name, moved in zip(part.morphs.names, moves.tolist(), strict=True) if moved]


def check_places(case: Case, report: dict) -> None:
    """Vertices are where our own skinning puts them, in each of the poses."""
    assert len(report["posed"]) == len(POSES)
    for (turns, expression), seen in zip(POSES, report["posed"], strict=True):
        _check_meshes(pose_avatar(case.avatar, turns, expression), seen, case.path.name)


def check_clips(case: Case, report: dict) -> None:
    """Vertices are where our own player puts them, at moments of the clips."""
    times = [(clip, t) for clip in case.clips for t in moments(clip)]
    assert len(report["played"]) == len(times) > 0
    for (clip, t), seen in zip(times, report["played"], strict=True):
        _check_meshes(pose_at(case.avatar, clip, t), seen, f"{case.path.name}, {clip.name} at {t}")


def _check_meshes(posed: list[tuple[Part, Mesh]], seen: dict, message: str) -> None:
    for part, mesh in posed:
        expected = mesh.vertices[sampled_vertices(len(mesh.vertices))].numpy()
        np.testing.assert_allclose(seen[part.name], expected, atol=CLOSE, err_msg=f"{message}: {part.name}")
