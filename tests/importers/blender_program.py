"""Runs inside Blender's Python: imports each file, poses it, exports it again.

Reads a JSON list of jobs from standard input. Prints, on the last line, one report per job.
Blender is Z-up: (x, y, z) of glTF is (x, -z, y) there.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import bpy
from mathutils import Matrix, Quaternion, Vector

TO_BLENDER = Matrix(((1, 0, 0), (0, 0, -1), (0, 1, 0)))


def import_file(path: str) -> None:
    bpy.ops.wm.read_factory_settings(use_empty=True)
    suffix = Path(path).suffix
    if suffix in (".glb", ".vrm"):
        copy = path
        if suffix == ".vrm":
            copy = path + ".glb"
            Path(copy).write_bytes(Path(path).read_bytes())
        bpy.ops.import_scene.gltf(filepath=copy)
    elif suffix == ".fbx":
        bpy.ops.import_scene.fbx(filepath=path, anim_offset=0.0)
    elif suffix in (".usd", ".usdc", ".usdz"):
        bpy.ops.wm.usd_import(filepath=path)
    elif suffix == ".obj":
        bpy.ops.wm.obj_import(filepath=path)
    elif suffix == ".ply":
        bpy.ops.wm.ply_import(filepath=path)
    elif suffix == ".stl":
        bpy.ops.wm.stl_import(filepath=path)


def report(job: dict) -> dict:
    import_file(job["file"])
    armatures = [o for o in bpy.data.objects if o.type == "ARMATURE"]
    bones = armatures[0].data.bones if armatures else []
    meshes = [o for o in bpy.data.objects if o.type == "MESH" and _skinned(o)]
    seen = {
        "armatures": len(armatures),
        "joints": [bone.name for bone in bones],
        "parents": [bone.parent.name if bone.parent else None for bone in bones],
        "places": [_to_gltf(armatures[0].matrix_world @ bone.head_local) for bone in bones],
        "meshes": {o.data.name: _mesh(o) for o in meshes},
        "animations": _animations(armatures),
        "objects": [_object(o) for o in bpy.data.objects if o.type == "MESH" and not _skinned(o)],
        "posed": [],
        "played": [],
    }
    for moment in job.get("moments", []):
        _choose_action(moment["clip"])
        frame = moment["seconds"] * bpy.context.scene.render.fps
        bpy.context.scene.frame_set(int(frame), subframe=frame % 1)
        seen["played"].append(evaluated(meshes, job["samples"]))
    for pose in job["poses"]:
        if armatures:
            set_pose(armatures[0], meshes, pose)
        seen["posed"].append(evaluated(meshes, job["samples"]))
    return seen


def _skinned(o: bpy.types.Object) -> bool:
    """Blender adds a sphere that bones are drawn as. Objects may have other names than their meshes."""
    return any(modifier.type == "ARMATURE" for modifier in o.modifiers)


def _animations(armatures: list) -> list[dict]:
    """What moves the armature; Blender's own names of actions are the clip's and the moved object's."""
    fps = bpy.context.scene.render.fps
    tracks = [track for o in armatures if o.animation_data for track in o.animation_data.nla_tracks]
    spans = [(track.name, track.strips[0].frame_start, track.strips[0].frame_end) for track in tracks]
    if not spans:  # FBX and USD files come as actions; those of FBX files are "<thing>|<clip>"
        playing = [o.animation_data.action.name for o in armatures if o.animation_data]
        things = {name.partition("|")[0] for name in playing}
        actions = [a for a in bpy.data.actions if a.name in playing or a.name.partition("|")[0] in things]
        spans = [(a.name.rpartition("|")[2], *a.frame_range) for a in actions]
    return [{"name": name, "seconds": (end - start) / fps} for name, start, end in spans]


def _choose_action(clip: str) -> None:
    """Of an FBX file's many actions let each thing play that of the clip."""
    for thing in [*bpy.data.objects, *bpy.data.shape_keys]:
        data = thing.animation_data
        if data and data.action and "|" in data.action.name:
            data.action = bpy.data.actions[f"{data.action.name.partition('|')[0]}|{clip}"]
            data.action_slot = data.action.slots[0]


def _mesh(o: bpy.types.Object) -> dict:
    keys = o.data.shape_keys.key_blocks if o.data.shape_keys else []
    return {
        "vertices": len(o.data.vertices),
        "triangles": sum(len(p.vertices) - 2 for p in o.data.polygons),
        "shapes": [k.name for k in keys][1:],
        "weights": [k.value for k in keys][1:],
        "material": o.data.materials[0].name if o.data.materials else None,
        "groups": len(o.vertex_groups),
    }


def _object(o: bpy.types.Object) -> dict:
    """A mesh that stands still: corners of its bounds in Blender's world, textures, and whether it is colored."""
    places = [o.matrix_world @ v.co for v in o.data.vertices]
    nodes = [node for m in o.data.materials if m and m.use_nodes for node in m.node_tree.nodes]
    images = [node.image for node in nodes if node.type == "TEX_IMAGE" and node.image]
    return {
        "triangles": sum(len(p.vertices) - 2 for p in o.data.polygons),
        "low": [min(p[k] for p in places) for k in range(3)],
        "high": [max(p[k] for p in places) for k in range(3)],
        "textures": [list(image.size) for image in images if image.has_data or image.pixels],
        "colors": len(o.data.color_attributes),
    }


def _to_gltf(v: Vector) -> list[float]:
    return [v.x, v.z, -v.y]


def set_pose(armature: bpy.types.Object, meshes: list, pose: dict) -> None:
    """Turn bones about the avatar's axes: R^-1 q R about the bone's own axes, R its orientation at rest."""
    armature.animation_data_clear()
    world = armature.matrix_world.to_3x3().normalized()
    for bone in armature.pose.bones:
        bone.matrix_basis = Matrix()
        if bone.name in pose["rotations"]:
            x, y, z, w = pose["rotations"][bone.name]
            turn = TO_BLENDER @ Quaternion((w, x, y, z)).to_matrix() @ TO_BLENDER.transposed()
            rest = world @ bone.bone.matrix_local.to_3x3()
            bone.matrix_basis = (rest.inverted() @ turn @ rest).to_4x4()
    for o in meshes:
        if o.data.shape_keys:
            o.data.shape_keys.animation_data_clear()
            for key in list(o.data.shape_keys.key_blocks)[1:]:
                key.value = pose["expression"].get(key.name, 0.0)


def evaluated(meshes: list, samples: dict) -> dict:
    graph = bpy.context.evaluated_depsgraph_get()
    graph.update()
    places = {}
    for o in meshes:
        final = o.evaluated_get(graph)
        vertices = final.to_mesh().vertices
        places[o.data.name] = [_to_gltf(o.matrix_world @ vertices[i].co) for i in samples[o.data.name]]
        final.to_mesh_clear()
    return places


def main() -> None:
    reports = []
    for job in json.load(sys.stdin):
        reports.append(report(job))
        if "export" in job:
            import_file(job["file"])
            bpy.ops.export_scene.gltf(filepath=job["export"], export_animations=bool(bpy.data.actions))
    print("\n" + json.dumps(reports))


main()
