// How much faster a cached page is behind Perennial than from `next start`, and
// whether its visitors notice that pages regenerate. Figures are ratios of one run.
//
//   node suites/bench.mjs --site FOLDER --program PERENNIAL [--seconds 5]

import { execFile } from "node:child_process";
import { join } from "node:path";
import { parseArgs, promisify } from "node:util";
import { Edge, get } from "../lib/edge.mjs";
import { freePort, start, until } from "../lib/process.mjs";

const { values: given } = parseArgs({
  options: {
    site: { type: "string" },
    program: { type: "string" },
    seconds: { type: "string", default: "5" },
    control: { type: "string" },
    only: { type: "string" },
    log: { type: "string" },
  },
});

const FASTER = 20; // times the requests a second of `next start`
const LATER = 1.5; // times the 99th percentile without regenerations …
const SLACK = 1; // … or so many ms more, on a machine whose cores are shared

const at = await freePort();
const server = await start("node", ["node_modules/next/dist/bin/next", "start", "-p", String(at), "-H", "127.0.0.1"], {
  cwd: given.site,
  env: { BUILD: "one", NEXT_TELEMETRY_DISABLED: "1" },
  ready: (output) => output.includes("Ready in"),
});
const edge = await Edge.start({
  program: given.program,
  port: await freePort(),
  origin: { url: `http://127.0.0.1:${at}` },
  lines: ["framework: nextjs", `nextjs: { build: ${join(given.site, ".next-one")} }`],
});

// Requests a second and the 99th percentile in ms.
async function load(url, connections = 32) {
  const args = ["-t1", `-c${connections}`, `-d${given.seconds}s`, "--latency", url];
  const { stdout } = await promisify(execFile)("wrk", args);
  if (/Non-2xx/.test(stdout)) throw new Error(stdout);
  const [, p99, unit] = /99%\s+([\d.]+)(us|ms|s)/.exec(stdout);
  const ms = Number(p99) * { us: 0.001, ms: 1, s: 1000 }[unit];
  return { rps: Number(/Requests\/sec:\s+([\d.]+)/.exec(stdout)[1]), p99: ms };
}

// One run, side by side. Answers whether both bars are met.
async function measure() {
  const alone = await load(`http://127.0.0.1:${at}/isr`);
  const still = await load(`${edge.url}/static`);
  const renewing = await load(`${edge.url}/isr`); // its lifetime is 2 s
  const ratio = renewing.rps / alone.rps;
  const show = (what, { rps, p99 }) =>
    console.log(`  ${what.padEnd(18)} ${Math.round(rps)} requests/s, p99 ${p99.toFixed(2)} ms`);
  show("next start alone", alone);
  show("static page", still);
  show("regenerating page", renewing);
  const bar = (what, good) => {
    console.log(`  ${good ? "ok" : "MISSED"}  ${what}`);
    return good;
  };
  const bound = Math.max(still.p99 * LATER, still.p99 + SLACK);
  const bars = [
    bar(`${ratio.toFixed(0)} times next start (at least ${FASTER})`, ratio >= FASTER),
    bar(`p99 ${(renewing.p99 / still.p99).toFixed(2)} times that of a static page`, renewing.p99 <= bound),
  ];
  return bars.every(Boolean);
}

for (const page of ["/static", "/isr"]) {
  await until(`a hit of ${page}`, 5_000, async () => (await get(edge.url + page)).hit);
}
// On a machine that others use, a run may be disturbed; three in a row are not.
let met = false;
for (let run = 0; run < 3 && !met; run += 1) met = await measure();
await edge.stop();
await server.stop();
process.exit(met ? 0 : 1);
