// Runs functions of a page module in headless Chromium. Reads {root, module, calls: [{function, argument,
// screenshot?}], width, height} from standard input and prints one {result | error, warnings} per call.
// Nothing listens: requests to http://localhost are answered from the disk, `root` first, then `/file/<path>`.
import { existsSync, readFileSync } from "node:fs";
import { extname, join } from "node:path";
import { chromium } from "playwright-core";

const job = JSON.parse(readFileSync(0, "utf8"));
const types = { ".js": "text/javascript", ".mjs": "text/javascript", ".json": "application/json" };
const page_source = `<!doctype html><style>body{margin:0}</style><body><script type="importmap">
{"imports": {"three": "/node_modules/three/build/three.module.js",
 "three/addons/": "/node_modules/three/examples/jsm/",
 "three-vrm": "/node_modules/@pixiv/three-vrm/lib/three-vrm.module.js",
 "talkinghead": "/node_modules/@met4citizen/talkinghead/modules/talkinghead.mjs"}}</script>`;

function answer(route) {
  const path = decodeURIComponent(new URL(route.request().url()).pathname);
  if (path === "/") return route.fulfill({ contentType: "text/html", body: page_source });
  const file = path.startsWith("/file/") ? path.slice(5) : join(job.root, path);
  if (!existsSync(file)) return route.fulfill({ status: 404, body: "" });
  const contentType = types[extname(file)] ?? "application/octet-stream";
  return route.fulfill({ contentType, body: readFileSync(file) });
}

const browser = await chromium.launch({
  executablePath: job.chromium,
  args: ["--no-sandbox", "--disable-gpu", "--enable-unsafe-swiftshader", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--autoplay-policy=no-user-gesture-required"],
});
const page = await browser.newPage({ viewport: { width: job.width ?? 512, height: job.height ?? 512 } });
page.setDefaultTimeout(300_000);
let warnings = [];
page.on("console", (m) => ["warning", "error"].includes(m.type()) && warnings.push(m.text()));
page.on("pageerror", (error) => warnings.push(String(error)));
await page.route("**/*", answer);
await page.goto("http://localhost/");
const answers = [];
for (const call of job.calls) {
  warnings = [];
  const given = [job.module, call.function, call.argument];
  const reply = await page.evaluate(async ([module, name, argument]) => {
    try {
      return { result: await (await import(module))[name](argument) };
    } catch (error) {
      return { error: String(error?.stack ?? error) };
    }
  }, given);
  if (call.screenshot) await page.screenshot({ path: call.screenshot });
  answers.push({ ...reply, warnings: warnings.filter((text) => !/GPU stall|WebGL-|swiftshader/i.test(text)) });
}
await browser.close();
console.log(JSON.stringify(answers));
