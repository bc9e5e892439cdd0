"""A program for Blender's own Python, which does not know this package: a GLB file in, an FBX file out.

`blender --background --factory-startup --python blender_fbx.py -- in.glb out.fbx record.json`, or the same three
arguments for a Python that has the `bpy` module. Blender is GPL: it is only ever run as a program apart.
"""

from __future__ import annotations

import math
import sys

import numpy as np

for _name in ("bool", "object", "int", "float"):  # Blender 3.4's glTF reader uses names that NumPy 1.24 removed
    if _name not in np.__dict__:
        setattr(np, _name, {"bool": bool, "object": object, "int": int, "float": float}[_name])

import bpy  # noqa: E402

FRAMES_PER_SECOND = 30
GAP = 10
"""Frames between two clips."""


def convert(source: str, target: str, record: str) -> None:
    """Read the GLB file `source`, write the FBX file `target`; `record` is text that goes onto the armature."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.context.scene.render.fps = FRAMES_PER_SECOND
    bpy.ops.import_scene.gltf(filepath=source, bone_heuristic="BLENDER")
    for helper in [o for o in bpy.data.objects if o.type == "MESH" and not _is_skinned(o)]:
        bpy.data.objects.remove(helper)  # the sphere that the reader draws bones with
    for armature in (o for o in bpy.data.objects if o.type == "ARMATURE"):
        armature["avatar3d"] = record
    lay_out_clips()
    bpy.ops.export_scene.fbx(
        filepath=target,
        object_types={"ARMATURE", "MESH"},
        add_leaf_bones=False,
        apply_scale_options="FBX_SCALE_ALL",
        use_custom_props=True,
        path_mode="COPY",
        embed_textures=True,
        mesh_smooth_type="OFF",
        bake_anim=bool(bpy.data.actions),
        bake_anim_use_all_actions=False,
        bake_anim_use_nla_strips=True,
        bake_anim_step=1.0,
        bake_anim_simplify_factor=0.0,
    )


def lay_out_clips() -> None:
    """Put the clips on the time line one after another.

    The FBX writer bakes one strip of an armature after the other, but plays all strips of face shapes meanwhile:
    so each clip gets a time of its own, and outside of it shapes rest. The GLB reader has made one track, with one
    strip, for each clip and each thing that it moves.
    """
    animated = [
        thing.animation_data for thing in [*bpy.data.objects, *bpy.data.shape_keys] if thing.animation_data
    ]
    lengths: dict[str, float] = {}
    for data in animated:
        for track in data.nla_tracks:
            length = track.strips[0].frame_end - track.strips[0].frame_start
            lengths[track.name] = max(lengths.get(track.name, 0.0), length)
    starts, start = {}, 1
    for clip, length in lengths.items():
        starts[clip], start = start, start + math.ceil(length) + GAP
    for data in animated:
        data.action = None
        for track in list(data.nla_tracks):
            clip, old = track.name, track.strips[0]
            strip = data.nla_tracks.new().strips.new(clip, starts[clip], old.action)
            if hasattr(old, "action_slot"):  # Blender 4.4 and newer
                strip.action_slot = old.action_slot
            strip.extrapolation = "NOTHING"
            data.nla_tracks.remove(track)
            strip.name = clip  # free only now


def _is_skinned(mesh) -> bool:
    return any(modifier.type == "ARMATURE" for modifier in mesh.modifiers)


if __name__ == "__main__":
    arguments = sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else sys.argv[1:]
    with open(arguments[2], encoding="utf-8") as stream:
        convert(arguments[0], arguments[1], stream.read())
