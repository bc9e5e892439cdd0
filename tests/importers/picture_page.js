// Pictures of a GLB or VRM file as three.js draws it, with an environment of soft light.
import * as THREE from "three";
import { RoomEnvironment } from "three/addons/environments/RoomEnvironment.js";
import { VRMLoaderPlugin } from "three-vrm";
import { load, skinned } from "./three_page.js";

let renderer;

export async function show({ file, clip, seconds, shapes = {}, expression = {}, target, distance, azimuth = 0 }) {
  const gltf = await load(file, (parser) => new VRMLoaderPlugin(parser));
  renderer ??= new THREE.WebGLRenderer({ antialias: true, preserveDrawingBuffer: true });
  renderer.setSize(innerWidth, innerHeight);
  renderer.toneMapping = THREE.ACESFilmicToneMapping;
  document.body.replaceChildren(renderer.domElement);
  const scene = new THREE.Scene();
  scene.background = new THREE.Color(0x9aa4ad);
  scene.environment = new THREE.PMREMGenerator(renderer).fromScene(new RoomEnvironment(), 0.04).texture;
  scene.environmentIntensity = 0.6;
  const sun = new THREE.DirectionalLight(0xffffff, 1.6);
  sun.position.set(1.5, 3, 2.5);
  scene.add(sun, gltf.scene);
  if (clip) {
    const mixer = new THREE.AnimationMixer(gltf.scene);
    mixer.clipAction(gltf.animations.find(({ name }) => name === clip)).play();
    mixer.setTime(seconds);
  }
  for (const mesh of skinned(gltf.scene)) {
    mesh.frustumCulled = false;
    for (const [name, weight] of Object.entries(shapes)) {
      const index = mesh.morphTargetDictionary?.[name];
      if (index !== undefined) mesh.morphTargetInfluences[index] = weight;
    }
  }
  const vrm = gltf.userData.vrm;
  for (const [name, weight] of Object.entries(expression)) vrm.expressionManager.setValue(name, weight);
  for (let frame = 0; frame < 30; frame++) vrm?.update(1 / 30);
  const camera = new THREE.PerspectiveCamera(24, innerWidth / innerHeight, 0.05, 20);
  const at = new THREE.Vector3(...target);
  camera.position.set(Math.sin(azimuth), 0.08, Math.cos(azimuth)).multiplyScalar(distance).add(at);
  camera.lookAt(at);
  renderer.render(scene, camera);
  return renderer.info.render.triangles;
}
