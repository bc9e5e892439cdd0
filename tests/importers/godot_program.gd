# What Godot 3 made of the GLB files of a project: counts, and places of vertices when joints turn and shapes are
# set. Reads res://jobs.json and writes res://reports.json. Skinning is done here from the imported arrays, bone
# poses and skin binds, since the server build of Godot draws nothing.
extends SceneTree

func _init():
	var file = File.new()
	file.open("res://jobs.json", File.READ)
	var jobs = parse_json(file.get_as_text())
	file.close()
	var reports = []
	for job in jobs:
		reports.append(report(job))
	file.open("res://reports.json", File.WRITE)
	file.store_string(to_json(reports))
	file.close()
	quit()

func report(job):
	var scene = load("res://" + job["file"]).instance()
	root.add_child(scene)
	var skeletons = of_class(scene, "Skeleton", [])
	var meshes = of_class(scene, "MeshInstance", [])
	var skeleton = skeletons[0]
	var seen = {"skeletons": skeletons.size(), "joints": [], "parents": [], "places": [], "meshes": {},
		"animations": animations(scene), "posed": [], "played": []}
	for bone in range(skeleton.get_bone_count()):
		seen["joints"].append(skeleton.get_bone_name(bone))
		var parent = skeleton.get_bone_parent(bone)
		seen["parents"].append(skeleton.get_bone_name(parent) if parent >= 0 else null)
		var place = (skeleton.global_transform * skeleton.get_bone_global_pose(bone)).origin
		seen["places"].append([place.x, place.y, place.z])
	for mesh in meshes:
		seen["meshes"][mesh.name] = counts(mesh.mesh)
	for moment in job["moments"]:
		var player = of_class(scene, "AnimationPlayer", [])[0]
		player.play(moment["clip"])
		player.seek(moment["seconds"], true)
		var places = {}
		for mesh in meshes:
			places[mesh.name] = skinned(mesh, skeleton, job["samples"][mesh.name], worn(mesh))
		seen["played"].append(places)
		player.stop()
	for pose in job["poses"]:
		turn(skeleton, pose["rotations"])
		var places = {}
		for mesh in meshes:
			places[mesh.name] = skinned(mesh, skeleton, job["samples"][mesh.name], pose["expression"])
		seen["posed"].append(places)
	scene.free()
	return seen

func of_class(node, kind, found):
	if node.get_class() == kind:
		found.append(node)
	for child in node.get_children():
		of_class(child, kind, found)
	return found

func counts(mesh):
	var arrays = mesh.surface_get_arrays(0)
	var shapes = []
	for index in range(mesh.get_blend_shape_count()):
		shapes.append(mesh.get_blend_shape_name(index))
	var material = mesh.surface_get_material(0)
	return {"surfaces": mesh.get_surface_count(), "vertices": arrays[Mesh.ARRAY_VERTEX].size(),
		"triangles": arrays[Mesh.ARRAY_INDEX].size() / 3, "shapes": shapes,
		"material": material.resource_name if material else null}

func worn(instance):
	var weights = {}
	for index in range(instance.mesh.get_blend_shape_count()):
		var name = instance.mesh.get_blend_shape_name(index)
		weights[name] = instance.get("blend_shapes/" + name)
	return weights

func animations(scene):
	var found = []
	for player in of_class(scene, "AnimationPlayer", []):
		for name in player.get_animation_list():
			var animation = player.get_animation(name)
			found.append({"name": name, "seconds": animation.length, "tracks": animation.get_track_count()})
	return found

# Turns are about the avatar's axes: R^-1 q R about the bone's own axes, where R is its orientation at rest.
func turn(skeleton, rotations):
	for bone in range(skeleton.get_bone_count()):
		skeleton.set_bone_pose(bone, Transform())
	var rest = []
	for bone in range(skeleton.get_bone_count()):
		rest.append((skeleton.global_transform * skeleton.get_bone_global_pose(bone)).basis.orthonormalized())
	for bone in range(skeleton.get_bone_count()):
		var q = rotations.get(skeleton.get_bone_name(bone))
		if q != null:
			var own = rest[bone].inverse() * Basis(Quat(q[0], q[1], q[2], q[3])) * rest[bone]
			skeleton.set_bone_pose(bone, Transform(own))

func skinned(instance, skeleton, samples, expression):
	var mesh = instance.mesh
	var arrays = mesh.surface_get_arrays(0)
	var shapes = mesh.surface_get_blend_shape_arrays(0)
	var matrices = []
	for bind in range(instance.skin.get_bind_count()):
		var bone = instance.skin.get_bind_bone(bind)
		if bone < 0:
			bone = skeleton.find_bone(instance.skin.get_bind_name(bind))
		matrices.append(skeleton.global_transform * skeleton.get_bone_global_pose(bone)
			* instance.skin.get_bind_pose(bind))
	var places = []
	for index in samples:
		index = int(index)
		var base = arrays[Mesh.ARRAY_VERTEX][index]
		var morphed = base
		for shape in range(shapes.size()):
			var weight = expression.get(mesh.get_blend_shape_name(shape), 0.0)
			if weight != 0.0:
				var target = shapes[shape][Mesh.ARRAY_VERTEX][index]
				morphed += weight * (target - base if mesh.blend_shape_mode == 0 else target)
		var place = Vector3()
		for slot in range(4):
			var weight = arrays[Mesh.ARRAY_WEIGHTS][index * 4 + slot]
			if weight > 0.0:
				place += weight * matrices[int(arrays[Mesh.ARRAY_BONES][index * 4 + slot])].xform(morphed)
		places.append([place.x, place.y, place.z])
	return places
