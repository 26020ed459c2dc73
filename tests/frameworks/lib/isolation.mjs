// Many visitors with different cookies, over all pages at once: whatever a page makes
// of a cookie, it must never reach somebody else.

import assert from "node:assert/strict";
import http from "node:http";
import { check } from "./checks.mjs";

const USERS = 20;
const REQUESTS = 1_000;
const AT_ONCE = 16;

// `paths` are all pages and their data, or { path, headers }; `cookies(name)` are the
// cookies of a user of that name; `serve` as in differential.mjs.
export function isolation({ serve, paths, cookies, modes = ["alone", "preset"] }) {
  for (const mode of modes) {
    const how = { alone: "with --origin alone", preset: "with the preset", build: "with the build" }[mode];
    check(
      `${how}: of ${REQUESTS} requests of ${USERS} users none gets what is another's`,
      (world) => mingle(world.url, paths, cookies),
      { mode, serve, controls: mode === modes.at(-1) ? ["direct", "mixed", "shared"] : [] },
    );
  }
}

async function mingle(url, paths, cookies) {
  const agent = new http.Agent({ keepAlive: true, maxSockets: AT_ONCE });
  // None of these is part of another.
  const names = Array.from({ length: USERS }, (_, n) => `quince${String(n).padStart(2, "0")}z`);
  const random = numbers(8);
  const found = { leaks: [], own: 0, hits: 0, asked: 0 };
  const one = async () => {
    const name = names[random(USERS)];
    const page = paths[random(paths.length)];
    const { path, headers } = typeof page === "string" ? { path: page } : page;
    const cookie = Object.entries(cookies(name)).map((pair) => pair.join("=")).join("; ");
    const answer = await ask(url + path, { accept: "text/html,*/*", ...headers, cookie }, agent);
    found.asked += 1;
    if (answer.text.includes(name)) found.own += 1;
    if (answer.hit) found.hits += 1;
    for (const other of names) {
      if (other !== name && answer.text.includes(other)) found.leaks.push(`${path} for ${name} has ${other} (${answer.said})`);
    }
  };
  let left = REQUESTS;
  await Promise.all(
    Array.from({ length: AT_ONCE }, async () => {
      while (left > 0) {
        left -= 1;
        await one();
      }
    }),
  );
  agent.destroy();
  console.log(`      ${found.asked} requests, ${found.hits} hits, ${found.own} with the user's own name`);
  assert.deepEqual(found.leaks.slice(0, 20), [], `${found.leaks.length} leaks`);
  assert.ok(found.own > 0, "some pages show the name, or this shows nothing");
  assert.ok(found.hits > REQUESTS / 10, "some are hits, or this shows nothing");
}

function ask(url, headers, agent) {
  return new Promise((resolve, reject) => {
    const request = http.get(url, { headers, agent }, (response) => {
      const parts = [];
      response.on("data", (part) => parts.push(part));
      response.on("error", reject);
      response.on("end", () => {
        const said = response.headers["cache-status"] ?? "nothing";
        // A redirect or a cookie may tell a name, too.
        const text = JSON.stringify(response.headers) + String(Buffer.concat(parts));
        resolve({ text, said, hit: said.startsWith("perennial; hit") });
      });
    });
    request.setTimeout(20_000, () => request.destroy(new Error(`no answer from ${url} in 20 s`)));
    request.on("error", reject);
  });
}

// The same numbers at each run.
function numbers(seed) {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}
