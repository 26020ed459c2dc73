// A Next.js site of the app router behind Perennial: cached components with parts that are
// rendered for each visitor, languages by rewriting, actions, intercepted routes, a login,
// two variants of a page, links that work once, and an older site behind it.
//
//   node suites/next-app.mjs --site FOLDER --program PERENNIAL [--control direct|generic|mixed] [--only TEXT] [--log FILE]

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "../lib/sites.mjs";
import { freePort, start } from "../lib/process.mjs";

const alice = { name: "alice", secret: "alice-of-the-hill", cookies: { visitor: "alice-of-the-hill" } };
const bob = { name: "bob", secret: "bob-of-the-lake", cookies: { visitor: "bob-of-the-lake" } };
const nobody = { name: "nobody", secret: null };

// By links.
alice.steps = [
  ["goto", "/", "home en"],
  ["click", "to-guide-a", "guide a en"],
  ["click", "to-guide-b", "guide b en"],
  ["back", "guide a en"],
  ["click", "to-hole", "hole", { text: "for alice-of-the-hill" }],
  ["reload", "hole", { text: "for alice-of-the-hill" }],
  ["click", "to-photos", "photos"],
  ["click", "to-photo", "photos", { text: "photo 1 in a dialog" }],
  ["reload", "photo 1"],
  ["click", "to-notes", "notes"],
  ["click", "to-new", "write"],
  ["fill", "text", "a note by the first"],
  ["click", "save", "notes", { text: "a note by the first" }],
  ["reload", "notes", { text: "a note by the first" }],
  ["goto", "/notes", "notes", { text: "a note by the first" }],
  ["goto", "/verify/of-alice", "verify", { text: "welcome" }],
  ["reload", "verify", { text: "token already used" }],
  ["goto", "/de", "home de"],
  ["click", "to-guide-a", "guide a de"],
  ["goto", "/", "home en"],
  ["goto", "/legacy/old?q=one", "legacy /old", { text: "looks for one for alice-of-the-hill", bare: true }],
  ["click", "to-home", "home en"],
];
// By documents, and by links in another order.
bob.steps = [
  ["goto", "/guide/a", "guide a en"],
  ["click", "to-home", "home en"],
  ["click", "to-guide-b", "guide b en"],
  ["goto", "/guide/b", "guide b en"],
  ["goto", "/de/guide/a", "guide a de"],
  ["click", "to-de", "home de"],
  ["goto", "/photos/1", "photo 1"],
  ["click", "to-photos", "photos"],
  ["click", "to-photo", "photos", { text: "photo 1 in a dialog" }],
  ["back", "photos"],
  ["goto", "/hole", "hole", { text: "for bob-of-the-lake" }],
  ["goto", "/legacy/old?q=one", "legacy /old", { text: "looks for one for bob-of-the-lake", bare: true }],
  ["goto", "/legacy/old?q=two", "legacy /old", { text: "looks for two for bob-of-the-lake", bare: true }],
  ["goto", "/verify/of-bob", "verify", { text: "welcome" }],
  ["goto", "/notes", "notes", { text: "a note by the first" }],
  ["goto", "/notes/new", "write"],
  ["fill", "text", "a note by the second"],
  ["click", "save", "notes", { text: "a note by the second" }],
];
nobody.steps = [
  ["goto", "/hole", "hole", { text: "for nobody" }],
  ["click", "to-notes", "notes", { text: "a note by the second" }],
  ["reload", "notes", { text: "a note by the second" }],
  ["goto", "/verify/of-nobody", "verify", { text: "welcome" }],
  ["goto", "/legacy/old?q=one", "legacy /old", { text: "looks for one for nobody", bare: true }],
];

// What middleware decides, by cookies. Who is a member sees it, who is none does not.
const member = {
  name: "a member",
  secret: "the secret of all members",
  cookies: { session: "1", bucket: "b" },
  steps: [
    ["goto", "/members/desk", "members desk"],
    ["click", "to-home", "home en"],
    ["click", "to-members", "members desk"],
    ["click", "to-ab", "variant b"],
    ["reload", "variant b"],
  ],
};
const stranger = {
  name: "a stranger",
  secret: null,
  steps: [
    ["goto", "/members/desk", "login"],
    ["click", "to-home", "home en"],
    ["click", "to-ab", "variant a"],
    ["reload", "variant a"],
  ],
};
const another = { ...member, name: "another member", steps: [...member.steps, ["goto", "/members/desk", "members desk"]] };

const notes = mkdtempSync(join(tmpdir(), "perennial-notes-"));
process.on("exit", () => rmSync(notes, { recursive: true }));

await suite({
  command: ["node_modules/next/dist/bin/next", "start", "-H", "127.0.0.1"],
  env: (url, port) => ({ PORT: String(port), NOTES: join(notes, `${port}.json`), NEXT_TELEMETRY_DISABLED: "1" }),
  says: /Ready in/,
  // The older site, and where Next finds it.
  async before(folder) {
    const port = await freePort();
    await start("node", ["legacy.mjs"], { cwd: folder, env: { PORT: String(port) }, ready: (output) => output.includes("is listening") });
    const manifest = join(folder, ".next/routes-manifest.json");
    const text = readFileSync(manifest, "utf8");
    writeFileSync(manifest, text.replaceAll(/http:\/\/(legacy\.invalid|127\.0\.0\.1:\d+)\//g, `http://127.0.0.1:${port}/`));
  },
  keeps: ".next",
  framework: "nextjs",
  knows: (folder, preset) => ({ build: [...preset, `nextjs: { build: ${join(folder, ".next")} }`] }),
  ready: "nav[data-ready]",
  data: (path, headers) => headers.rsc === "1",
  same: (path) => path.replace(/[?&]_rsc=[^&]*/, ""),
  // Prefetches.
  unasked: (path) => path.includes("_rsc="),
  dynamic: (path) => /^(\/de)?\/(hole|verify|legacy|members|login|ab)\b/.test(path),
  parts: [
    { visitors: [alice, bob, nobody], modes: ["alone"], fails: ["hits"] },
    // That cookies decide, only the build says.
    { visitors: [member, stranger, another], modes: ["build"], bar: 0 },
  ],
  modes: ["alone"],
  cookies: (name) => ({ visitor: name }),
  paths: ["/", "/guide/a", "/guide/b", "/de/guide/a", "/hole", "/photos", "/legacy/old?q=1", "/notes"].flatMap((path) => [
    path,
    { path, headers: { rsc: "1", "next-router-prefetch": "1" } },
    { path: `${path}${path.includes("?") ? "&" : "?"}_rsc=x`, headers: { rsc: "1" } },
  ]),
});
