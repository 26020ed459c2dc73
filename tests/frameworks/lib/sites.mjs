// The suite of a small site: a server of Node that is started anew for each check.

import assert from "node:assert/strict";
import { cpSync, mkdtempSync, readdirSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { check, run } from "./checks.mjs";
import { differential } from "./differential.mjs";
import { isolation } from "./isolation.mjs";
import { freePort, start, until } from "./process.mjs";

// `command` are the arguments of node, `env(url, port)` its environment, `says` what it
// prints once it listens; `framework` is its preset, `knows` more of its configuration by
// mode, and `before(folder)` makes it ready; what it keeps in the folder `keeps` is copied
// for each of its servers. `parts` are scripts of which each is driven for itself, with what
// it has of its own. `bundles` is what the names of its immutable files look like in its
// pages; `pair` a page and where its data are, if it has some, and `{ kept: true }` where
// the site itself keeps what it rendered. The rest as in differential.mjs and isolation.mjs.
export async function suite({ command, env, says, framework, knows, before, keeps, parts = [{}], cookies, bundles, pair, ...site }) {
  const { values: given } = parseArgs({
    options: {
      site: { type: "string" },
      program: { type: "string" },
      control: { type: "string" },
      only: { type: "string" },
      log: { type: "string" },
      modes: { type: "string" },
    },
  });
  let named = given.modes?.split(",");
  // A suite that has none of these has no other.
  if (site.modes && !site.modes.some((mode) => named?.includes(mode))) named = undefined;
  const modes = (own) => (named && own ? own.filter((mode) => named.includes(mode)) : (named ?? own));
  const made = await before?.(given.site);
  const serve = async (url, at) => {
    const port = at ?? (await freePort());
    const folder = keeps ? copied(given.site, keeps) : given.site;
    const server = await start("node", command, {
      cwd: folder,
      env: { NODE_ENV: "production", ...env(url, port, made) },
      ready: (output) => says.test(output),
    });
    const stop = async () => {
      await server.stop();
      if (keeps) rmSync(folder, { recursive: true });
    };
    return { port, stop };
  };
  for (const part of parts) {
    const whole = { ...site, ...part };
    differential({ ...whole, modes: modes(whole.modes), serve });
  }
  isolation({ ...site, modes: modes(site.modes), serve, cookies: cookies ?? ((name) => ({ who: name })) });
  if (bundles && !named?.every((mode) => mode === "alone")) {
    check("bundles are immutable, kept, and fetched before they are asked for", (world) => world.keepsAssets("/lived", bundles, 1), { serve });
    if (pair) {
      check("data bring their page, and both are renewed together", (world) => paired(world, ...pair), { serve });
    }
  }
  const preset = [`framework: ${framework}`];
  const lines = {
    preset,
    generic: ["framework: generic"],
    // As RFC 9111 has it: a lifetime is enough, whoever it was rendered for.
    shared: ["framework: generic", 'routes: [{ path: "/**", ssr: {}, cookies: shared }]'],
    ...knows?.(given.site, preset),
  };
  const wrong = await run({ ...given, port: await freePort(), lines });
  process.exit(wrong === 0 ? 0 : 1);
}

const rendered = (text) => /\b\d+-\d+\b/.exec(text.slice(text.search(/rendered/)))?.[0];

async function paired(world, page, data, { kept } = {}) {
  const both = () => Promise.all([world.get(page), world.get(data)]);
  const count = () => [page, data].map((path) => world.origin.count(path.split("?")[0]));
  await world.get(data);
  await until("the document of data", world.within, () => count()[0] === 1);
  const hits = () => until("both to be hits", world.within, async () => {
    const answers = await both();
    return answers.every((answer) => answer.hit) && answers;
  });
  const before = (await hits()).map(({ text }) => rendered(text));
  const asked = count();
  assert.equal((await world.edge.webhook(`path=${page}`)).status, 200);
  const after = (await hits()).map(({ text }) => rendered(text));
  assert.ok(count().every((n, i) => n > asked[i]), "both are asked for again");
  if (kept) return; // the site has a cache of its own
  for (const n of [0, 1]) assert.notEqual(after[n], before[n]);
}

// The site in a folder of its own, but for what nobody writes to.
function copied(site, keeps) {
  const folder = mkdtempSync(join(tmpdir(), "perennial-site-"));
  for (const name of readdirSync(site)) {
    if (name === keeps) cpSync(join(site, name), join(folder, name), { recursive: true });
    else symlinkSync(join(site, name), join(folder, name));
  }
  return folder;
}
