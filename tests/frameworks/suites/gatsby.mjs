// What Perennial promises of a Gatsby site, shown with a real one.
//
//   node suites/gatsby.mjs --site FOLDER --program PERENNIAL [--control direct|generic|mixed|shared] [--modes alone,preset] [--only TEXT] [--log FILE]
//
// FOLDER holds the site twice after its build: in `one`, and in `two` with another
// build. What visitors see is compared in the modes that are named, by default in both.

import assert from "node:assert/strict";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { parseArgs } from "node:util";
import { check, run } from "../lib/checks.mjs";
import { differential } from "../lib/differential.mjs";
import { isolation } from "../lib/isolation.mjs";
import { Origin } from "../lib/origin.mjs";
import { freePort, start, until } from "../lib/process.mjs";
import { data, tour } from "./gatsby-tour.mjs";

const { values: given } = parseArgs({
  options: {
    site: { type: "string" },
    program: { type: "string" },
    control: { type: "string" },
    only: { type: "string" },
    log: { type: "string" },
    modes: { type: "string", default: "alone,preset" },
  },
});

const port = await freePort();
const site = await Site(given.site);

const rendered = (text) => /"rendered":"([^"]+)"|id="rendered"[^>]*>([^<]+)</.exec(text)?.slice(1).find(Boolean);
const build = (text) => /id="build">([^<]+)</.exec(text)?.[1];

// --- deferred pages ------------------------------------------------------------

check("a deferred page is rendered once for its document and its data", async (world) => {
  for (const [first, second] of [["/deferred/1/", data("/deferred/1/")], [data("/deferred/2/"), "/deferred/2/"]]) {
    const asked = await world.get(first);
    assert.equal(asked.status, 200);
    assert.match(asked.said, /stored/);
    // The other one comes unasked.
    await until(`${second} to be rendered`, world.within, () => world.origin.count(second) === 1);
    await until(`a hit of ${second}`, world.within, async () => (await world.get(second)).hit);
    const again = await world.get(first);
    assert.ok(again.hit, "the second visit is a hit");
    assert.equal(again.text, asked.text);
    assert.deepEqual([world.origin.count(first), world.origin.count(second)], [1, 1]);
  }
});

check("50 visitors at once cost a deferred page one render", async (world) => {
  const answers = await Promise.all(Array.from({ length: 50 }, () => world.get("/deferred/3/")));
  assert.equal(new Set(answers.map(({ text }) => text)).size, 1);
  assert.equal(world.origin.count("/deferred/3/"), 1);
  assert.ok((await world.get("/deferred/3/")).hit, "and the next one none");
});

check("the webhook renews a deferred page and its data together", async (world) => {
  const page = "/deferred/4/";
  const both = () => Promise.all([world.get(page), world.get(data(page))]);
  const before = await until("both to be hits", world.within, async () => {
    const answers = await both();
    return answers.every((answer) => answer.hit) && answers;
  });
  const asked = [world.origin.count(page), world.origin.count(data(page))];
  assert.equal((await world.edge.webhook(`path=${page}`)).status, 200);
  const after = await both();
  assert.ok(after.every((answer) => answer.hit));
  assert.notEqual(rendered(after[0].text), rendered(before[0].text));
  assert.deepEqual([world.origin.count(page), world.origin.count(data(page))], asked.map((n) => n + 1));
});

// --- pages rendered on the server -------------------------------------------------

// A deferred page beside it says nothing of a lifetime either, and is static.
async function deferredIsStatic(world) {
  await world.get("/deferred/5/");
  assert.ok((await world.get("/deferred/5/")).hit);
}

check("a lifetime that a page names is honoured, for its document and its data", async (world) => {
  await deferredIsStatic(world);
  for (const path of ["/lived/", data("/lived/")]) {
    const first = await world.get(path);
    assert.equal(first.headers["x-lived"], "yes");
    assert.equal(rendered((await world.get(path)).text), rendered(first.text));
    assert.ok((await world.get(path)).hit);
    await delay(2_100); // s-maxage=2
    const stale = await Promise.all(Array.from({ length: 50 }, () => world.get(path)));
    assert.ok(stale.every((answer) => answer.hit));
    await until("the new render", world.within, async () => rendered((await world.get(path)).text) !== rendered(first.text));
    assert.equal(world.origin.count(path), 2, "one regeneration for 50 visitors");
  }
});

check("a page that names no lifetime is rendered for each visitor, with the query", async (world) => {
  await deferredIsStatic(world);
  for (const path of ["/server/", data("/server/")]) {
    const seen = new Set();
    for (const q of ["a", "b", "a"]) {
      const answer = await world.get(`${path}?q=${q}`);
      assert.ok(answer.text.includes(path === "/server/" ? `id="q">${q}<` : `"q":"${q}"`));
      assert.match(answer.said, /^perennial; fwd=/);
      seen.add(rendered(answer.text));
    }
    assert.equal(seen.size, 3);
  }
});

check("status, cookies and errors of the site come through unchanged, and are not kept", async (world) => {
  await deferredIsStatic(world);
  for (const path of ["/teapot/", data("/teapot/")]) {
    for (const _ of [1, 2]) {
      const answer = await world.get(path);
      assert.equal(answer.status, 418);
      assert.match(String(answer.headers["set-cookie"]), /tea=1/);
      assert.match(answer.said, /^perennial; fwd=/);
    }
  }
  for (const path of ["/broken/", data("/broken/")]) {
    const answer = await world.get(path);
    assert.deepEqual([answer.status, answer.text], [500, "Internal server error."]);
    assert.match(answer.said, /^perennial; fwd=/);
  }
});

check("pages that are not there, and redirects to the slash, come through and are kept for a while", async (world) => {
  for (const [path, status] of [["/nope/", 404], ["/about", 301], [data("/nope/"), 404]]) {
    const first = await world.get(path);
    assert.equal(first.status, status);
    if (status === 301) {
      assert.equal(first.headers.location, "/about/");
      assert.ok((await world.get(path)).hit);
    }
  }
  assert.match((await world.get("/nope/")).text, /not found/);
  assert.ok((await world.get("/nope/")).hit);
});

check("bundles are immutable, kept, and fetched before they are asked for", async (world) => {
  await world.keepsAssets("/", /\/[\w-]+-[0-9a-f]{20}\.js/g);
  const app = await world.get("/page-data/app-data.json");
  assert.match(app.headers["cache-control"], /max-age=0/);
  assert.match(app.said, /^perennial; fwd=/);
});

// --- in a browser -----------------------------------------------------------------

const LINKS = [["to-about", "about"], ["to-deferred-1", "deferred 1"], ["to-deferred-2", "deferred 2"], ["to-home", "home"]];

async function visit(tab) {
  assert.equal((await tab.goto("/")).page, "home");
  for (const [link, page] of LINKS) assert.equal((await tab.click(link, page)).page, page);
  assert.equal((await tab.back("deferred 2")).page, "deferred 2");
  const shown = await tab.reload();
  assert.equal(shown.page, "deferred 2");
  assert.deepEqual(tab.wrong, []);
  return shown;
}

check("pages, links, back and reload work in a browser, out of the cache", async (world) => {
  const first = await visit(await world.tab());
  const warm = await world.tab();
  const second = await visit(warm);
  assert.equal(second.rendered, first.rendered, "the same render");
  const pages = warm.responses.filter(({ path }) => /page-data\.json$/.test(path) && !/lived|server|hello|mislabelled/.test(path));
  assert.ok(pages.length >= 4);
  for (const { path, said } of pages) assert.match(said, /^perennial; hit/, path);
});

check("with the origin gone, every page that was visited is there", async (world) => {
  await visit(await world.tab());
  await world.get("/server/");
  await world.origin.stop();
  const late = await world.tab();
  await late.goto("/");
  for (const [link, page] of LINKS) assert.equal((await late.click(link, page)).page, page);
  for (const path of ["/server/", data("/server/")]) assert.equal((await world.get(path)).status, 502);
});

check("a tab that was open before a deploy goes on, and the new pages come", async (world) => {
  const tab = await world.tab();
  await tab.goto("/");
  const { text } = await world.get("/");
  const bundles = [...new Set(text.match(/\/[\w-]+-[0-9a-f]{20}\.js/g))];
  await until("every bundle", world.within, async () => {
    const answers = await Promise.all(bundles.map((path) => world.get(path)));
    return answers.every((answer) => answer.hit);
  });
  await site.deployed("two", world.origin, async () => {
    for (const path of ["/", "/about/"]) {
      await until(`the new ${path}`, world.within, async () => build((await world.get(path)).text) === "two");
    }
    for (const path of bundles) assert.equal((await world.get(path)).status, 200, path);
    for (const [link, page] of LINKS) assert.equal((await tab.click(link, page)).page, page);
    assert.deepEqual(tab.wrong, []);
    assert.ok(tab.responses.every(({ status }) => status < 400));
    const next = await world.tab();
    assert.equal((await next.goto("/")).build, "two");
    for (const [link, page] of LINKS) assert.equal((await next.click(link, page)).build, "two", page);
    assert.deepEqual(next.wrong, []);
  });
});

check("what is not found, client routes and slugs with a dot hydrate", async (world) => {
  for (const _ of ["cold", "warm"]) {
    const tab = await world.tab();
    assert.equal((await tab.goto("/")).page, "home");
    assert.equal((await tab.click("to-dotted", "deferred node.js")).page, "deferred node.js");
    assert.equal((await tab.click("to-app", "app inbox")).page, "app inbox");
    assert.equal((await tab.goto("/posts/node.js/")).page, "deferred node.js");
    assert.equal((await tab.click("to-home", "home")).page, "home");
    assert.deepEqual(tab.wrong, []);
    assert.equal((await tab.goto("/nope/")).page, "not found");
    assert.equal((await tab.click("to-about", "about")).page, "about");
    // The page and its data are not there, and nothing else is wrong.
    const missing = (what) => what.includes("404") && what.includes("/nope");
    assert.deepEqual(tab.wrong.filter((what) => !missing(what)), []);
  }
  const { said } = await world.get(data("/posts/node.js/"));
  assert.match(said, /^perennial; hit/);
});

check("while a deploy settles, each page has the slices and static queries of its build", async (world) => {
  const old = await world.tab();
  assert.equal((await old.goto("/")).page, "home");
  await site.deployed("two", world.origin, async () => {
    // Nobody has asked for this one yet.
    const next = await world.tab();
    assert.equal((await next.goto("/deferred/7/")).build, "two");
    for (const tab of [old, next]) {
      const { build } = await tab.reload();
      assert.equal(await tab.page.locator("#footer").textContent(), `footer of ${build}`);
      assert.match(await tab.page.locator("#title").textContent(), new RegExp(`build ${build}$`));
      assert.deepEqual(tab.wrong, []);
    }
    await until("the new home", world.within, async () => build((await world.get("/")).text) === "two");
    const late = await world.tab();
    assert.equal((await late.goto("/")).build, "two");
    assert.equal(await late.page.locator("#footer").textContent(), "footer of two");
    assert.deepEqual(late.wrong, []);
    const shared = late.responses.filter(({ path }) => /slice-data|sq\/d/.test(path));
    assert.ok(shared.length > 0, "it asks for some");
  });
}, { controls: ["mixed"] }); // without what is kept, everything is of one build

// --- the site itself and Perennial, side by side -------------------------------------

// Nothing changes what this site renders: the one that runs is as good as a new one.
const serve = (_, at) => Origin.start(site.port, at);
const modes = given.modes.split(",");
differential({ ...tour, modes, serve });
isolation({ ...tour, modes, serve });

// --- the site ---------------------------------------------------------------------

async function Site(folder) {
  const serve = async (build) => {
    const port = await freePort();
    const args = ["node_modules/gatsby/cli.js", "serve", "-p", String(port), "-H", "127.0.0.1"];
    const server = await start("node", args, {
      cwd: join(folder, build),
      env: { GATSBY_TELEMETRY_DISABLED: "1", CI: "1" },
      within: 90_000,
      ready: (output) => output.includes("You can now view"),
    });
    return { port, server };
  };
  const one = await serve("one");
  return {
    port: one.port,
    async deployed(build, origin, then) {
      const next = await serve(build);
      origin.target = next.port;
      try {
        await then();
      } finally {
        origin.target = one.port;
        await next.server.stop();
      }
    },
    stop: () => one.server.stop(),
  };
}

const lines = {
  preset: [
    "framework: gatsby",
    `gatsby: { build: ${join(given.site, "one")} }`,
    "deployment: { settle: 1s, probe: 250ms }",
  ],
  generic: ["framework: generic"],
  // As RFC 9111 has it: a lifetime is enough, whoever it was rendered for.
  shared: ["framework: generic", 'routes: [{ path: "/**", ssr: {}, cookies: shared }]'],
};
const wrong = await run({ ...given, port, site, lines });
await site.stop();
process.exit(wrong === 0 ? 0 : 1);
