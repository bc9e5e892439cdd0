"""Named poses that people and clothes must stand."""

from __future__ import annotations

from avatar3d.body.pose import Pose, rotate
from avatar3d.rotations import quaternion_multiply


def test_poses() -> dict[str, Pose]:
    """Poses that stretch a figure in the ways that everyday movement does, by name."""
    return {
        "t_pose": _both("UpperArm", "z", 45),
        "arms_up": _both("Shoulder", "z", 20) | _both("UpperArm", "z", 100),
        "arms_forward": _arms_forward(),
        "sit": _legs(-85, 85, -85, 85),
        "stride": _legs(-35, 15, 25, 30) | {"leftUpperArm": rotate("x", 25), "rightUpperArm": rotate("x", -25)},
        "squat": _legs(-100, 115, -100, 115) | {"spine": rotate("x", 25)},
        "twist": {"spine": rotate("y", 20), "chest": rotate("y", 20), "upperChest": rotate("y", 10)},
        "head_turn": {"neck": rotate("y", 25), "head": rotate("y", 35)},
        "bow": {"spine": rotate("x", 30), "chest": rotate("x", 25), "neck": rotate("x", 10)},
        "hands_on_hips": _hands_on_hips(),
    }


test_poses.__test__ = False  # type: ignore[attr-defined]


def _both(joint: str, axis: str, degrees: float) -> Pose:
    """Both sides, mirrored: positive turns about y and z lift or open the left side as they do the right."""
    mirrored = degrees if axis == "x" else -degrees
    return {f"left{joint}": rotate(axis, degrees), f"right{joint}": rotate(axis, mirrored)}


def _arms_forward() -> Pose:
    pose = {}
    for side, sign in (("left", 1.0), ("right", -1.0)):
        pose[f"{side}UpperArm"] = quaternion_multiply(rotate("y", -sign * 75), rotate("z", sign * 40))
    return pose


def _legs(left_hip: float, left_knee: float, right_hip: float, right_knee: float) -> Pose:
    """Negative hip angles lift the thigh to the front; positive knee angles bend it."""
    return {
        "leftUpperLeg": rotate("x", left_hip),
        "leftLowerLeg": rotate("x", left_knee),
        "rightUpperLeg": rotate("x", right_hip),
        "rightLowerLeg": rotate("x", right_knee),
    }


def _hands_on_hips() -> Pose:
    pose = {}
    for side, sign in (("left", 1.0), ("right", -1.0)):
        pose[f"{side}UpperArm"] = quaternion_multiply(rotate("x", 25), rotate("z", sign * 5))
        pose[f"{side}LowerArm"] = quaternion_multiply(rotate("y", -sign * 60), rotate("z", -sign * 45))
    return pose
