// Prints the Khronos validator's reports on the given GLB files as one JSON list.
import { readFileSync } from "node:fs";
import { validateBytes } from "gltf-validator";

const reports = [];
for (const path of process.argv.slice(2)) {
  reports.push(await validateBytes(new Uint8Array(readFileSync(path)), { uri: path, maxIssues: 100 }));
}
console.log(JSON.stringify(reports));
