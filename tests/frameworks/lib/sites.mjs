// The suite of a small site: a server of Node that is started anew for each check.

import { parseArgs } from "node:util";
import { run } from "./checks.mjs";
import { differential } from "./differential.mjs";
import { isolation } from "./isolation.mjs";
import { freePort, start } from "./process.mjs";

// `command` are the arguments of node, `env(url, port)` its environment, `says` what it
// prints once it listens; `framework` is its preset. The rest as in differential.mjs
// and isolation.mjs.
export async function suite({ command, env, says, framework, cookies, ...site }) {
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
  const lines = { preset: [`framework: ${framework}`], generic: ["framework: generic"] };
  const wrong = await run({ ...given, port: await freePort(), lines });
  process.exit(wrong === 0 ? 0 : 1);
}
