// A site of Astro, rendered on demand by its Node adapter, behind Perennial.
//
//   node suites/astro.mjs --site FOLDER --program PERENNIAL [--control direct|generic|mixed] [--only TEXT] [--log FILE]

import { DYNAMIC, everything, visitors } from "./tour.mjs";
import { suite } from "../lib/sites.mjs";

// A page for all, with an island that greets.
const island = (who) => {
  const name = { alice: "alice-of-the-hill", bob: "bob-of-the-lake", nobody: "nobody" }[who];
  const greeted = { text: `Welcome, ${name}` };
  return [["click", "to-island", "island", greeted], ["reload", "island", greeted]];
};

await suite({
  command: ["dist/server/entry.mjs"],
  env: (url, port) => ({ HOST: "127.0.0.1", PORT: String(port) }),
  says: /Server listening on/,
  framework: "astro",
  ready: "html[data-ready]",
  visitors: visitors({ missing: "error 404", more: island }),
  // Its router fetches documents.
  data: (path, headers, kind) => kind === "fetch",
  dynamic: (path) => DYNAMIC.test(path) || path.startsWith("/_server-islands/"),
  // What an island is told is encrypted anew at each render.
  same: (path) => path.replace(/^(\/_server-islands\/\w+).*/, "$1"),
  bundles: /\/_astro\/[^"]+\.(?:js|css)/g,
  paths: everything(() => [], ["/island"]),
});
