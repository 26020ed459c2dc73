// A site of Nuxt with its Node server behind Perennial.
//
//   node suites/nuxt.mjs --site FOLDER --program PERENNIAL [--control direct|generic|mixed] [--only TEXT] [--log FILE]

import { DYNAMIC, everything, visitors } from "./tour.mjs";
import { suite } from "../lib/sites.mjs";

const island = () => [["click", "to-island", "island", { text: "One of a thousand islands." }]];
const apis = ["lived", "query?topic=a", "mislabelled", "hello", "notes"].map((name) => `/api/${name}`);

const page = (path) => path.replace(/\/?_payload\.json(\?.*)?$/, "") || "/";

await suite({
  command: [".output/server/index.mjs"],
  env: (url, port) => ({ NITRO_HOST: "127.0.0.1", NITRO_PORT: String(port) }),
  says: /Listening on/,
  framework: "nuxt",
  ready: "html[data-ready]",
  visitors: visitors({ missing: "error 404", more: island }),
  data: (path) => /^\/api\/|\/_payload\.json|^\/__nuxt_island\//.test(path),
  dynamic: (path) => DYNAMIC.test(page(path).replace(/^\/api/, "")),
  page,
  // A link that comes into sight brings the payload of where it leads.
  unasked: (path) => path.includes("/_payload.json"),
  bundles: /\/_nuxt\/[^"]+\.js/g,
  pair: ["/lived", "/lived/_payload.json", { kept: true }],
  paths: everything((path) => (/^\/(lived)?$/.test(path) ? [`${path.replace(/\/$/, "")}/_payload.json`] : []), ["/island", ...apis]),
});
