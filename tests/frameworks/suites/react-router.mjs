// A site of React Router in framework mode, with its own server, behind Perennial.
//
//   node suites/react-router.mjs --site FOLDER --program PERENNIAL [--control direct|generic|mixed] [--only TEXT] [--log FILE]

import { DYNAMIC, everything, visitors } from "./tour.mjs";
import { suite } from "../lib/sites.mjs";

// The data of a page: /lived is /lived.data, and / is /_root.data.
const data = (path) => path.replace(/^\/(?=\?|$)/, "/_root").replace(/\/?(\?|$)/, ".data$1");

await suite({
  command: ["node_modules/@react-router/serve/bin.js", "build/server/index.js"],
  env: (url, port) => ({ HOST: "127.0.0.1", PORT: String(port) }),
  says: /\[react-router-serve\] http/,
  framework: "react-router",
  ready: "html[data-ready]",
  visitors: visitors({ missing: "error 404" }),
  data: (path) => /\.data(\?|$)/.test(path),
  dynamic: (path) => DYNAMIC.test(path),
  page: (path) => path.replace(/[?&]_routes=[^&]*/, "").replace(/(\/_root|\/_)?\.data/, "").replace(/^\/slash$/, "/slash/") || "/",
  bundles: /\/assets\/[^"]+\.js/g,
  pair: ["/lived", "/lived.data"],
  fails: ["differences", "hits"],
  paths: everything((path) => [data(path)]),
});
