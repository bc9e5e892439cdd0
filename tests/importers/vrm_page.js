// What three-vrm makes of a VRM 1.0 file: meta, bones, expressions, gaze, springs, and places of vertices.
import * as THREE from "three";
import { VRMLoaderPlugin } from "three-vrm";
import { bonesOf, load, nameOf, points, skinned } from "./three_page.js";

async function loadVrm(file) {
  const gltf = await load(file, (parser) => new VRMLoaderPlugin(parser));
  const vrm = gltf.userData.vrm;
  vrm.scene.updateMatrixWorld(true);
  vrm.update(0); // the gaze is applied once
  return vrm;
}

function clear(vrm) {
  vrm.humanoid.resetNormalizedPose();
  for (const expression of vrm.expressionManager.expressions) {
    vrm.expressionManager.setValue(expression.expressionName, 0);
  }
}

// Poses go through the normalized bones, which three-vrm turns about the avatar's axes; shapes through expressions.
export async function inspect({ file, poses, samples }) {
  const vrm = await loadVrm(file);
  const meshes = skinned(vrm.scene);
  const annotated = vrm.firstPerson.meshAnnotations.flatMap(({ meshes, type }) => meshes.map((m) => [nameOf(m), type]));
  const report = {
    metaVersion: vrm.meta.metaVersion,
    meta: { ...vrm.meta, thumbnailImage: vrm.meta.thumbnailImage && [vrm.meta.thumbnailImage.width, vrm.meta.thumbnailImage.height] },
    bones: Object.fromEntries(Object.entries(vrm.humanoid.humanBones).map(([bone, { node }]) => [bone, nameOf(node)])),
    presets: Object.keys(vrm.expressionManager.presetExpressionMap),
    custom: Object.keys(vrm.expressionManager.customExpressionMap),
    firstPerson: Object.fromEntries(annotated),
    springJoints: vrm.springBoneManager ? [...vrm.springBoneManager.joints].map((joint) => nameOf(joint.bone)) : [],
    colliders: vrm.springBoneManager?.colliders.length ?? 0,
    posed: [],
  };
  for (const { rotations, expression } of poses) {
    clear(vrm);
    const pose = Object.fromEntries(Object.entries(rotations).map(([bone, rotation]) => [bone, { rotation }]));
    vrm.humanoid.setNormalizedPose(pose);
    for (const [name, weight] of Object.entries(expression)) vrm.expressionManager.setValue(name, weight);
    vrm.humanoid.update();
    vrm.expressionManager.update();
    report.posed.push(points(vrm.scene, meshes, samples));
  }
  return report;
}

// Where the eyes look (unit vectors) when the target is at each of the points, and vertices of the face.
export async function look({ file, targets }) {
  const vrm = await loadVrm(file);
  const target = new THREE.Object3D();
  vrm.lookAt.target = target;
  return targets.map((place) => {
    target.position.fromArray(place);
    target.updateMatrixWorld();
    vrm.update(1 / 30);
    vrm.scene.updateMatrixWorld(true);
    return ["leftEye", "rightEye"].map((bone) => {
      const node = vrm.humanoid.getRawBoneNode(bone);
      const ahead = new THREE.Vector3(0, 0, 1).applyQuaternion(vrm.humanoid.getNormalizedBoneNode(bone)
        .getWorldQuaternion(new THREE.Quaternion()));
      return { origin: node.getWorldPosition(new THREE.Vector3()).toArray(), ahead: ahead.toArray() };
    });
  });
}

// Places of the spring joints after each of `frames` frames of 1/30 s; the head shakes for the first half.
export async function shake({ file, frames }) {
  const vrm = await loadVrm(file);
  const joints = [...vrm.springBoneManager.joints].map((joint) => joint.bone);
  const head = vrm.humanoid.getNormalizedBoneNode("head");
  const seen = [];
  for (let frame = 0; frame < frames; frame++) {
    head.rotation.y = frame < frames / 2 ? 0.6 * Math.sin(frame / 2) : 0;
    vrm.update(1 / 30);
    vrm.scene.updateMatrixWorld(true);
    seen.push(joints.map((bone) => bone.getWorldPosition(new THREE.Vector3()).toArray()));
  }
  return { joints: joints.map(nameOf), children: joints.map((bone) => bone.children.map(nameOf)), seen };
}
