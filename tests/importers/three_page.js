// What three.js makes of a GLB file: counts, and places of vertices when joints turn and shapes are set.
import * as THREE from "three";
import { GLTFLoader } from "three/addons/loaders/GLTFLoader.js";

export const nameOf = (object) => object.userData.name ?? object.name; // three.js drops colons and dots

export function load(file, plugin) {
  const loader = new GLTFLoader();
  if (plugin) loader.register(plugin);
  return loader.loadAsync("/file" + file);
}

export function skinned(scene) {
  const meshes = [];
  scene.traverse((object) => object.isSkinnedMesh && meshes.push(object));
  return meshes;
}

// Turns are about the avatar's axes in the parent's frame: a joint with the rest orientation R (in the scene)
// is turned by R^-1 q R about its own axes.
export function pose(bones, meshes, { rotations, expression }) {
  const rest = new Map(bones.map((b) => [b, b.getWorldQuaternion(new THREE.Quaternion())]));
  for (const bone of bones) {
    const turn = rotations[nameOf(bone)];
    if (!turn) continue;
    const orientation = rest.get(bone);
    const local = orientation.clone().invert().multiply(new THREE.Quaternion(...turn)).multiply(orientation);
    bone.quaternion.multiply(local);
  }
  for (const mesh of meshes) {
    mesh.morphTargetInfluences?.fill(0);
    for (const [name, weight] of Object.entries(expression)) {
      const index = mesh.morphTargetDictionary?.[name];
      if (index !== undefined) mesh.morphTargetInfluences[index] = weight;
    }
  }
}

export function points(scene, meshes, samples) {
  scene.updateMatrixWorld(true);
  const places = {};
  for (const mesh of meshes) {
    mesh.skeleton.update();
    places[nameOf(mesh)] = (samples[nameOf(mesh)] ?? []).map((index) =>
      mesh.localToWorld(mesh.getVertexPosition(index, new THREE.Vector3())).toArray());
  }
  return places;
}

export function bonesOf(meshes) {
  return [...new Set(meshes.flatMap((mesh) => mesh.skeleton.bones))];
}

// Places of vertices at moments of clips.
function play(scene, animations, meshes, moments, samples) {
  const mixer = new THREE.AnimationMixer(scene);
  return moments.map(({ clip, seconds }) => {
    mixer.stopAllAction();
    const action = mixer.clipAction(animations.find(({ name }) => name === clip));
    action.setLoop(THREE.LoopOnce);
    action.clampWhenFinished = true;
    action.play();
    mixer.setTime(seconds);
    return points(scene, meshes, samples);
  });
}

export async function inspect({ file, poses, moments, samples }) {
  const { scene, animations } = await load(file);
  scene.updateMatrixWorld(true);
  const meshes = skinned(scene);
  const bones = bonesOf(meshes);
  const atRest = bones.map((bone) => bone.quaternion.clone());
  const worn = meshes.map((mesh) => [...(mesh.morphTargetInfluences ?? [])]);
  const report = {
    joints: bones.map(nameOf),
    parents: bones.map((bone) => (bones.includes(bone.parent) ? nameOf(bone.parent) : null)),
    places: bones.map((bone) => bone.getWorldPosition(new THREE.Vector3()).toArray()),
    meshes: Object.fromEntries(meshes.map((mesh) => [nameOf(mesh), {
      vertices: mesh.geometry.attributes.position.count,
      triangles: mesh.geometry.index.count / 3,
      shapes: Object.keys(mesh.morphTargetDictionary ?? {}),
      weights: [...(mesh.morphTargetInfluences ?? [])],
      material: mesh.material.name,
    }])),
    animations: animations.map((clip) => ({ name: clip.name, seconds: clip.duration, tracks: clip.tracks.length })),
    posed: [],
  };
  for (const each of poses) {
    bones.forEach((bone, index) => bone.quaternion.copy(atRest[index]));
    scene.updateMatrixWorld(true);
    pose(bones, meshes, each);
    report.posed.push(points(scene, meshes, samples));
  }
  bones.forEach((bone, index) => bone.quaternion.copy(atRest[index]));
  meshes.forEach((mesh, index) => mesh.morphTargetInfluences?.splice(0, Infinity, ...worn[index]));
  report.played = play(scene, animations, meshes, moments, samples);
  return report;
}
