// The suite of a small site: a server of Node that is started anew for each check.

import assert from "node:assert/strict";
import { parseArgs } from "node:util";
import { check, run } from "./checks.mjs";
import { differential } from "./differential.mjs";
import { isolation } from "./isolation.mjs";
import { freePort, start, until } from "./process.mjs";

// `command` are the arguments of node, `env(url, port)` its environment, `says` what it
// prints once it listens; `framework` is its preset; `bundles` what the names of its
// immutable files look like in its pages; `pair` a page and where its data are, if it
// has some. The rest as in differential.mjs and isolation.mjs.
export async function suite({ command, env, says, framework, cookies, bundles, pair, ...site }) {
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
  if (given.modes) site.modes = given.modes.split(",");
  const serve = async (url, at) => {
    const port = at ?? (await freePort());
    const server = await start("node", command, {
      cwd: given.site,
      env: { NODE_ENV: "production", ...env(url, port) },
      ready: (output) => says.test(output),
    });
    return { port, stop: () => server.stop() };
  };
  differential({ ...site, serve });
  isolation({ ...site, serve, cookies: cookies ?? ((name) => ({ who: name })) });
  if (!given.modes?.split(",").every((mode) => mode === "alone")) {
    check("bundles are immutable, kept, and fetched before they are asked for", (world) => world.keepsAssets("/lived", bundles, 1), { serve });
    if (pair) {
      check("a page and its data bring each other, and are renewed together", (world) => paired(world, ...pair), { serve });
    }
  }
  const lines = {
    preset: [`framework: ${framework}`],
    generic: ["framework: generic"],
    // As RFC 9111 has it: a lifetime is enough, whoever it was rendered for.
    shared: ["framework: generic", 'routes: [{ path: "/**", ssr: {}, cookies: shared }]'],
  };
  const wrong = await run({ ...given, port: await freePort(), lines });
  process.exit(wrong === 0 ? 0 : 1);
}

const rendered = (text) => /\b\d+-\d+\b/.exec(text.slice(text.search(/rendered/)))?.[0];

async function paired(world, page, data) {
  const both = () => Promise.all([world.get(page), world.get(data)]);
  const count = () => [page, data].map((path) => world.origin.count(path.split("?")[0]));
  await world.get(page);
  await until("the data of a document", world.within, () => count()[1] === 1);
  const hits = () => until("both to be hits", world.within, async () => {
    const answers = await both();
    return answers.every((answer) => answer.hit) && answers;
  });
  const before = (await hits()).map(({ text }) => rendered(text));
  assert.deepEqual(count(), [1, 1]);
  assert.equal((await world.edge.webhook(`path=${page}`)).status, 200);
  const after = (await hits()).map(({ text }) => rendered(text));
  assert.deepEqual(count(), [2, 2], "each renewed once");
  for (const n of [0, 1]) assert.notEqual(after[n], before[n]);
}
