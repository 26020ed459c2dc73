// A SvelteKit site behind Perennial.
//
//   node suites/sveltekit.mjs --site FOLDER --program PERENNIAL [--control direct|generic|mixed] [--only TEXT] [--log FILE]

import { DYNAMIC, everything, visitors } from "./tour.mjs";
import { suite } from "../lib/sites.mjs";

// The data of a page: /lived is /lived/__data.json, and / is /__data.json.
const data = (path) => path.replace(/\/?(\?|$)/, "/__data.json$1");

await suite({
  command: ["build/index.js"],
  env: (url, port) => ({ ORIGIN: url, HOST: "127.0.0.1", PORT: String(port) }),
  says: /Listening on/,
  framework: "sveltekit",
  ready: "html[data-ready]",
  visitors: visitors({ missing: "error 404" }),
  data: (path) => path.includes("/__data.json"),
  dynamic: (path) => DYNAMIC.test(path),
  page: (path) => path.replace(/\/__data\.json/, "").replace(/[?&]x-sveltekit-.*/, "").replace(/^\/slash$/, "/slash/") || "/",
  bundles: /[./]+\/_app\/immutable\/[^"]+\.js/g,
  pair: ["/lived", "/lived/__data.json"],
  fails: ["differences", "hits"],
  paths: everything((path) => [data(path), `${data(path)}${path.includes("?") ? "&" : "?"}x-sveltekit-invalidated=01`]),
});
