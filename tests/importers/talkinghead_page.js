// TalkingHead, a talking avatar for browsers made for Ready Player Me's files, performs with a file as it is.
import * as THREE from "three";
import { TalkingHead } from "talkinghead";
import { nameOf, skinned } from "./three_page.js";

const wait = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

// Places of bones, standing and with a hand up, and weights of meshes' shapes when visemes are set to 1.
export async function perform({ file, bones, visemes, seconds }) {
  const node = document.createElement("div");
  node.style.cssText = `width:${innerWidth}px;height:${innerHeight}px`;
  document.body.append(node);
  const options = { ttsEndpoint: "none", lipsyncModules: ["en"], lipsyncLang: "en", cameraView: "full", modelFPS: 20 };
  const head = new TalkingHead(node, { ...options, avatarIdleHeadMove: 0, modelMovementFactor: 0 });
  await head.showAvatar({ url: "/file" + file, body: "F", lipsyncLang: "en" });
  const meshes = skinned(head.armature);
  const shapes = new Set(meshes.flatMap((mesh) => Object.keys(mesh.morphTargetDictionary ?? {})));
  const places = () => {
    head.armature.updateMatrixWorld(true);
    return Object.fromEntries(bones.map((bone) => [bone,
      head.armature.getObjectByName(bone).getWorldPosition(new THREE.Vector3()).toArray()]));
  };
  head.setPoseFromTemplate(head.poseTemplates.straight, 100);
  await wait(1000 * seconds);
  const report = { meshes: meshes.map(nameOf), shapes: [...shapes], standing: places(), visemes: {} };
  head.playGesture("handup", 60, false, 200);
  await wait(1000 * seconds);
  report.handUp = places();
  for (const viseme of visemes) {
    const influences = () => Object.fromEntries(meshes.filter((mesh) => viseme in (mesh.morphTargetDictionary ?? {}))
      .map((mesh) => [nameOf(mesh), mesh.morphTargetInfluences[mesh.morphTargetDictionary[viseme]]]));
    head.setFixedValue(viseme, 1);
    for (let tries = 0; tries < 100 && influences()["Wolf3D_Head"] < 0.95; tries++) await wait(100);
    report.visemes[viseme] = influences();
    head.setFixedValue(viseme, null);
  }
  return report;
}
