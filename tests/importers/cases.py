"""Avatars in files, poses to put them in, and where their vertices must then be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from avatar3d.body.pose import pose_avatar, rotate
from avatar3d.engine.build import build_avatar
from avatar3d.engine.population import Population, sample
from avatar3d.export.glb import write_glb
from avatar3d.structures import Avatar

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
    """A file and the avatar, in the file's bind pose, that it holds."""

    path: Path
    avatar: Avatar

    def job(self, spelled: Callable[[str], str] = str) -> dict:
        """What an importer's program is told: JSON values; quaternions are xyzw.

        `spelled` is how the importer respells names of joints.
        """
        return {
            "file": str(self.path),
            "poses": [
                {
                    "rotations": {spelled(j): q.roll(-1).tolist() for j, q in turns.items()},
                    "expression": expression,
                }
                for turns, expression in POSES
            ],
            "samples": {part.name: sampled_vertices(len(part.mesh.vertices)) for part in self.avatar.parts},
        }


def sampled_vertices(count: int) -> list[int]:
    """Indices of vertices spread evenly over a part."""
    return np.unique(np.linspace(0, count - 1, SAMPLES).astype(int)).tolist()


@cache
def people() -> tuple[Avatar, ...]:
    """Two random persons; made once in a process, since that takes longer than importing them."""
    generator = np.random.default_rng(5)
    return tuple(build_avatar(sample(generator, Population())) for _ in range(2))


def written_people(folder: Path) -> list[Case]:
    """The people as GLB files."""
    cases = []
    for number, avatar in enumerate(people()):
        path = folder / f"person{number}.glb"
        write_glb(avatar, path, EXTRAS)
        cases.append(Case(path, avatar))
    return cases


def check_counts(case: Case, report: dict, spelled: Callable[[str], str] = str) -> None:
    """The importer saw every joint, mesh, vertex, triangle and face shape that was written, and no other.

    `spelled` is how the importer respells names of joints.
    """
    assert sorted(report["joints"]) == sorted(map(spelled, case.avatar.skeleton.names))
    assert sorted(report["meshes"]) == sorted(part.name for part in case.avatar.parts)
    for part in case.avatar.parts:
        seen = report["meshes"][part.name]
        assert seen["vertices"] == len(part.mesh.vertices), part.name
        assert seen["triangles"] == len(part.mesh.faces), part.name
        assert seen["shapes"] == moving_shapes(part), part.name


def moving_shapes(part) -> list[str]:
    """Names of the shapes that move the part by more than the writer's threshold, in order."""
    if part.morphs is None:
        return []
    moves = part.morphs.deltas.abs().amax(dim=(1, 2)) >= 1e-5
    return [name for name, moved in zip(part.morphs.names, moves.tolist(), strict=True) if moved]


def check_places(case: Case, report: dict) -> None:
    """Vertices are where our own skinning puts them, in each of the poses."""
    assert len(report["posed"]) == len(POSES)
    for (turns, expression), seen in zip(POSES, report["posed"], strict=True):
        for part, mesh in pose_avatar(case.avatar, turns, expression):
            expected = mesh.vertices[sampled_vertices(len(mesh.vertices))].numpy()
            np.testing.assert_allclose(seen[part.name], expected, atol=CLOSE, err_msg=f"{case.path}: {part.name}")
