// A Next.js site of the pages router behind Perennial, in three languages, below a path,
// with a slash at the end of its pages.
//
//   node suites/next-i18n.mjs --site FOLDER --program PERENNIAL [--control direct|generic|mixed] [--only TEXT] [--log FILE]

import { join } from "node:path";
import { suite } from "../lib/sites.mjs";

const alice = { name: "alice", secret: "alice-of-the-hill", cookies: { visitor: "alice-of-the-hill" } };
const bob = { name: "bob", secret: "bob-of-the-lake", cookies: { visitor: "bob-of-the-lake", NEXT_LOCALE: "de" } };
const nobody = { name: "nobody", secret: null };

// Data first: what they make Next render must be for the URL of the page.
alice.steps = [
  ["goto", "/docs/", "home"],
  ["click", "to-a", "blog a"],
  ["reload", "blog a"],
  ["click", "to-b", "blog b"],
  ["goto", "/docs/blog/b/", "blog b"],
  ["click", "to-server", "server", { text: "alice-of-the-hill" }],
  ["click", "to-home", "home"],
  ["click", "to-de", "home"],
  ["click", "to-a", "blog a"],
  ["reload", "blog a"],
  ["goto", "/docs/blog/a", "blog a"],
];
// He chose a language once: from the root he is sent there.
bob.steps = [
  ["goto", "/docs/", "home", { text: "/de" }],
  ["click", "to-a", "blog a"],
  ["goto", "/docs/blog/a/", "blog a"],
  ["goto", "/docs/de/blog/a/", "blog a"],
  ["goto", "/docs/", "home"],
  ["goto", "/docs/blog/b/", "blog b"],
  ["click", "to-b", "blog b"],
  ["goto", "/docs/cs/", "home"],
  ["click", "to-server", "server", { text: "bob-of-the-lake" }],
];
nobody.steps = [
  ["goto", "/docs/", "home"],
  ["click", "to-server", "server", { text: "nobody" }],
  ["goto", "/docs/blog/a/", "blog a"],
];

await suite({
  command: ["node_modules/next/dist/bin/next", "start", "-H", "127.0.0.1"],
  env: (url, port) => ({ PORT: String(port), NEXT_TELEMETRY_DISABLED: "1" }),
  says: /Ready in/,
  keeps: ".next",
  framework: "nextjs",
  knows: (folder, preset) => ({ build: [...preset, `nextjs: { build: ${join(folder, ".next")} }`] }),
  visitors: [alice, bob, nobody],
  ready: "nav[data-ready]",
  fails: ["hits"],
  data: (path) => path.includes("/_next/data/"),
  // Next renders documents for the URL of the data that made it do so, without a slash.
  faults: (line) => line.includes("React error #418"),
  // Prefetches.
  unasked: (path) => path.includes("/_next/data/"),
  // The root sends everybody to a language, and others say how they end.
  dynamic: (path) => /\/server|^\/docs\/?$|^\/docs\/blog\/[ab]$/.test(path),
  modes: ["build"],
  cookies: (name) => ({ visitor: name }),
  paths: ["/docs/blog/a/", "/docs/blog/b/", "/docs/de/", "/docs/server/", "/docs/de/blog/a/", "/docs/"].flatMap((path) => [
    path,
    `/docs/_next/data/build-i18n${path.replace(/^\/docs/, "").replace(/^\/(?!de\b)/, "/en/").replace(/\/$/, "")}.json`,
  ]),
});
