// What Perennial promises of a Next.js site, shown with a real one.
//
//   node suites/next.mjs --site FOLDER --program PERENNIAL [--control direct|generic] [--only TEXT] [--log FILE]
//
// FOLDER is the site after both of its builds, `one` and `two`.

import assert from "node:assert/strict";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { parseArgs } from "node:util";
import { check, run } from "../lib/checks.mjs";
import { SECRET } from "../lib/edge.mjs";
import { freePort, start, until } from "../lib/process.mjs";

const { values: given } = parseArgs({
  options: {
    site: { type: "string" },
    program: { type: "string" },
    control: { type: "string" },
    only: { type: "string" },
    log: { type: "string" },
  },
});

const port = await freePort(); // of each edge in its turn, so that the site knows it
const site = await Site(given.site);

// What a page says of its render, in whatever form.
const rendered = (text) => /"rendered":"([^"]+)"|id="rendered">([^<]+)<|"id":"rendered","children":"([^"]+)"/.exec(text)?.slice(1).find(Boolean);
const build = (text) => /id="build">([^<]+)</.exec(text)?.[1];
const data = (path, of = "build-one") => `/_next/data/${of}${path}.json`;
const RSC = { rsc: "1" };
const payload = "?_rsc=";
// Next 14 renders a payload of the app router apart from its document, one right
// after the other; newer ones, and the pages router, make both in one render.
const { version } = JSON.parse(readFileSync(join(given.site, "node_modules/next/package.json")));
const apart = Number(version.split(".")[0]) < 15 ? 1 : 0;
const counted = (id) => Number(id.split("-").at(-1));
const ofOneRender = (a, b, router) =>
  a === b || (router === "app" && Math.abs(counted(a) - counted(b)) <= apart);
let unused = 0;
const fresh = () => `${Date.now()}-${(unused += 1)}`; // a page that nobody has asked for yet

// --- ISR and DSG ---------------------------------------------------------------

for (const [path, other, headers, router] of [
  ["/isr", data("/isr"), {}, "pages"],
  ["/a", `/a${payload}`, RSC, "app"],
]) {
  check(`${path}: stale, it and its data are regenerated once for 50 visitors`, async (world) => {
    const document = () => world.get(path);
    const both = () => Promise.all([document(), world.get(other, headers)]);
    const count = () => [world.origin.count(path), world.origin.count(other.split("?")[0], { rsc: router === "app" })];
    await document();
    await until("both to be hits", world.within, async () => (await both()).every((answer) => answer.hit));
    await delay(2_100); // their lifetime is 2 s
    const asked = count();
    const answers = await Promise.all(Array.from({ length: 50 }, document));
    assert.ok(answers.every((answer) => answer.hit), "nobody waits");
    const [first] = answers.map((answer) => rendered(answer.text));
    await until("both to be new, of one render", world.within, async () => {
      const [page, data] = (await both()).map((answer) => rendered(answer.text));
      return page !== first && ofOneRender(page, data, router);
    });
    assert.deepEqual(count(), asked.map((n) => n + 1), "one regeneration");
  });
}

check("a deferred page is rendered once for its document and its data", async (world) => {
  const page = `/docs/${fresh()}`;
  const [one, other] = [page, data(page)];
  for (const [first, second] of [[one, other], [`${one}x`, data(`${page}x`)].reverse()]) {
    const asked = await world.get(first);
    assert.equal(asked.status, 200);
    assert.match(asked.said, /stored/);
    const hit = await until(`${second} to be stored`, world.within, async () => {
      if (world.origin.count(second) === 0) return undefined;
      const answer = await world.get(second);
      return answer.hit && answer;
    });
    assert.ok((await world.get(first)).hit, "the second visit is a hit");
    assert.equal(rendered(hit.text), rendered(asked.text), "of one render");
    assert.equal(world.origin.count(first), 1);
    assert.equal(world.origin.count(second), 1);
  }
  assert.equal(site.renders(page), 1);
});

check("a page of the app router and its payload are of one render", async (world) => {
  const page = `/c/${fresh()}`;
  const document = await world.get(page);
  const hit = await until("the payload to be stored", world.within, async () => {
    if (world.origin.count(page, { rsc: true }) === 0) return undefined;
    const answer = await world.get(page + payload, RSC);
    return answer.hit && answer;
  });
  assert.equal(hit.headers["content-type"], "text/x-component");
  assert.ok(ofOneRender(rendered(hit.text), rendered(document.text), "app"));
  const again = await world.get(page);
  assert.ok(again.hit);
  assert.match(again.headers["content-type"], /^text\/html/);
  assert.equal(site.renders(page), 1 + apart);
});

check("payloads and documents at one URL never take each other's place", async (world) => {
  for (const query of ["", "?_rsc=", "?_rsc=abc", "?_rsc"]) {
    const page = `/c/${fresh()}`;
    const asked = await Promise.all([world.get(page + query, RSC), world.get(page)]);
    const kept = await until("both to be stored", world.within, async () => {
      const answers = await Promise.all([world.get(page + query, RSC), world.get(page)]);
      return answers.every((answer) => answer.hit) && answers;
    });
    for (const [first, second] of [asked, kept]) {
      assert.equal(first.status, 200, "whatever _rsc says");
      assert.equal(first.headers["content-type"], "text/x-component");
      assert.match(second.headers["content-type"], /^text\/html/);
    }
  }
});

check("prefetches of every kind have payloads of their own, and are hits", async (world) => {
  const page = `/c/${fresh()}`;
  await world.get(page);
  const kinds = [
    { ...RSC, "next-router-prefetch": "1" },
    { ...RSC, "next-router-prefetch": "1", "next-router-segment-prefetch": "/_tree" },
    { ...RSC, "next-router-state-tree": "%5B%22%22%5D" },
  ];
  for (const kind of kinds) {
    const first = await world.get(page, kind);
    assert.equal(first.status, 200);
    assert.equal(first.headers["content-type"], "text/x-component");
    await until("a hit", world.within, async () => (await world.get(`${page}?_rsc=xyz`, kind)).hit);
  }
});

check("nobody gets the loading shell, and it is not stored", async (world) => {
  const page = `/blog/${fresh()}`;
  const answers = await Promise.all(Array.from({ length: 10 }, () => world.get(page)));
  for (const { text } of answers) assert.ok(!text.includes('id="shell"') && rendered(text), "the page at once");
  await until("a hit", world.within, async () => (await world.get(page)).hit);
  assert.equal(site.renders(page), 1);
  const moved = await world.get("/blog/moved");
  assert.deepEqual([moved.status, moved.headers.location], [307, "/blog/one"]);
  assert.equal((await world.get("/blog/missing")).status, 404);
});

check("what Next exports without a word of its lifetime is static, too", async (world) => {
  assert.equal((await world.get("/")).status, 200);
  assert.ok((await world.get("/")).hit);
});

// --- what passes ------------------------------------------------------------------

check("server-rendered pages get their visitor's cookies and query, and are never stored", async (world) => {
  for (const path of ["/ssr", "/dynamic"]) {
    const answers = [];
    for (const visitor of ["ann", "bob", "ann"]) {
      const answer = await world.get(`${path}?q=${visitor}`, { cookie: `visitor=${visitor}` });
      assert.match(answer.text, new RegExp(`id="visitor">${visitor}<`));
      assert.match(answer.said, /^perennial; fwd=/);
      assert.match(answer.headers["x-nextjs-cache"], /MISS|BYPASS/);
      answers.push(rendered(answer.text));
    }
    assert.equal(new Set(answers).size, 3);
  }
  assert.match((await world.get(data("/ssr?q=x").replace(".json", "") .replace("?q=x", ".json?q=x"))).text, /"q":"x"/);
  // Once that is known, a page is asked for once, and whole.
  const before = world.origin.count("/ssr");
  await world.get("/ssr", { cookie: "visitor=ann" });
  assert.equal(world.origin.count("/ssr") - before, 1);
});

check("a page to which middleware gives a cookie is for nobody without Next's word", async (world) => {
  for (const path of ["/cookie/isr", data("/cookie/isr")]) {
    for (const times of [1, 2, 3]) {
      const answer = await world.get(path);
      assert.equal(answer.status, 200);
      assert.match(String(answer.headers["set-cookie"]), /seen=/);
      assert.match(answer.said, /^perennial; fwd=/);
      assert.equal(world.origin.count(path), times);
      assert.notEqual(answer.headers["x-nextjs-cache"], "HIT", "whatever Next has");
    }
    const confirmed = async () => (await world.get(path)).said.includes("fwd=stale; fwd-status=304");
    await until("Next to say that the page is what is kept", world.within, confirmed);
  }
});

check("data of a build that is not the origin's is not found, and that is not kept", async (world) => {
  const path = data("/static", "build-none");
  for (const times of [1, 2]) {
    const answer = await world.get(path);
    assert.equal(answer.status, 404);
    assert.match(answer.said, /^perennial; fwd=/);
    assert.equal(world.origin.count(path), times);
  }
  assert.equal((await world.get("/static")).status, 200);
  assert.ok((await world.get("/static")).hit, "the page itself is unharmed");
  await until("its own data", world.within, () => world.origin.count(data("/static")) === 1);
});

check("what speaks to the inside of Next does not come from outside", async (world) => {
  const headers = {
    "x-middleware-subrequest": "middleware:middleware",
    "x-prerender-revalidate": "guess",
    "x-matched-path": "/static",
    "x-now-route-matches": "1=x",
    "next-resume": "1",
    "x-nextjs-data": "1",
  };
  for (const path of ["/api/hello", "/ssr", "/isr"]) await world.get(path, headers);
  for (const { url, headers: seen } of world.origin.requests) {
    for (const name of Object.keys(headers)) {
      assert.notEqual(seen[name], headers[name], `${name} reached ${url}`);
    }
  }
});

check("draft mode passes, its end leaves the cached page unharmed", async (world) => {
  const page = "/blog/one";
  await world.get(page);
  const kept = await until("a hit", world.within, async () => {
    const answer = await world.get(page);
    return answer.hit && rendered(answer.text);
  });
  const enabled = await world.get("/api/draft?enable=1");
  const cookie = enabled.headers["set-cookie"].map((line) => line.split(";")[0]).join("; ");
  const draft = await world.get(page, { cookie });
  assert.match(draft.text, /id="draft"/);
  assert.match(draft.said, /fwd=bypass; detail=draft/);
  assert.notEqual(rendered(draft.text), rendered((await world.get(page, { cookie })).text));
  const guess = await world.get(page, { cookie: "__prerender_bypass=guess" });
  assert.ok(guess.hit && rendered(guess.text) === kept, "a false cookie opens nothing");
  const after = await world.get(page);
  assert.ok(after.hit && rendered(after.text) === kept && !after.text.includes('id="draft"'));
});

check("a server action reaches the site", async (world) => {
  await until("the form to be a hit", world.within, async () => (await world.get("/form")).hit);
  assert.match((await world.get("/form", { "next-action": "x" })).said, /fwd=bypass/);
  const before = site.renders("action");
  const tab = await world.tab();
  await tab.goto("/form");
  await tab.page.locator("#save").click();
  await until("the action", world.within, () => site.renders("action") > before);
  assert.deepEqual(tab.wrong, []);
});

check("images are kept by query and by the formats that are taken", async (world) => {
  const image = "/_next/image?url=%2Ffield.png&w=64&q=75";
  const types = new Set();
  for (const accepts of [["image/webp,*/*", "image/webp;q=0.9, */*;q=0.1"], ["image/png", "*/*"]]) {
    const first = await world.get(image, { accept: accepts[0] });
    assert.equal(first.status, 200);
    const second = await world.get(image, { accept: accepts[1] });
    assert.ok(second.hit, `${accepts[1]} is as good as ${accepts[0]}`);
    types.add(second.headers["content-type"]);
    assert.equal(second.headers["content-type"], first.headers["content-type"]);
  }
  assert.equal(types.size, 2);
  assert.ok(!(await world.get(image.replace("w=64", "w=128"), { accept: "image/webp,*/*" })).hit);
});

check("bundles are immutable, kept, and fetched before they are asked for", async (world) => {
  await world.keepsAssets("/isr", /\/_next\/static\/[^"]+\.js/g);
});

// --- renewing -----------------------------------------------------------------------

// Renewed within a second of the call's end, document and data alike.
async function renewed(world, page, other, headers, call) {
  const first = await until("a page and its data", world.within, async () => {
    const answers = [await world.get(page), await world.get(other, headers)];
    return answers.every((answer) => answer.hit) && rendered(answers[0].text);
  });
  await call();
  const now = await until("the new page", 1_000, async () => {
    const answers = [await world.get(page), await world.get(other, headers)];
    const [document, data] = answers.map((answer) => rendered(answer.text));
    const one = ofOneRender(document, data, headers.rsc ? "app" : "pages");
    return document !== first && one && answers.every((answer) => answer.hit) && document;
  });
  assert.notEqual(now, first);
}

const calls = [
  ["res.revalidate() in the site", "/blog/one", data("/blog/one"), {}, (world) => world.get("/api/revalidate?path=/blog/one")],
  ["revalidatePath() in the site", "/c/1", `/c/1${payload}`, RSC, (world) => world.get("/hooks/revalidate?path=/c/1")],
  ["revalidateTag() in the site", "/b", `/b${payload}`, RSC, (world) => world.get("/hooks/revalidate?tag=posts")],
  ["the webhook with path=", "/static", data("/static"), {}, (world) => world.edge.webhook("path=/static")],
  ["the webhook with path=, of a page of the app router,", "/c/1", `/c/1${payload}`, RSC, (world) => world.edge.webhook("path=/c/1")],
  ["the webhook with a tag of the site", "/b", `/b${payload}`, RSC, (world) => world.edge.webhook("tag=posts&mode=expire")],
];
for (const [name, page, other, headers, call] of calls) {
  check(`${name} renews a page and its data within a second`, async (world) => {
    await renewed(world, page, other, headers, async () => {
      const answer = await call(world);
      assert.equal(answer.status, 200, answer.text ?? JSON.stringify(answer.body));
    });
  });
}

// --- in a browser ----------------------------------------------------------------------

const ROUTERS = [
  [
    "the pages router",
    [["/isr", "isr"], ["to-static", "static"], ["to-blog", "blog one"], ["to-home", "home"]],
    /\/_next\/data\//,
    (origin) => origin.count(data("/static")),
  ],
  [
    "the app router",
    [["/a", "a"], ["to-b", "b"], ["to-c", "c 1"], ["to-a", "a"]],
    /_rsc/,
    (origin) => origin.count("/b", { rsc: true }),
  ],
];

for (const [name, [[first, on], ...rest], request, asked] of ROUTERS) {
  check(`${name}: pages, links, back and reload work in a browser, out of the cache`, async (world) => {
    // Somebody asked for a document: its data are there before they are clicked.
    await Promise.all([world.get("/static"), world.get("/b")]);
    await until("the data of a document", world.within, () => asked(world.origin) === 1);
    for (const visit of ["cold", "warm"]) {
      const tab = await world.tab();
      const seen = new Map();
      assert.equal((await tab.goto(first)).page, on);
      for (const [link, page] of rest) {
        const shown = await tab.click(link, page);
        assert.equal(shown.page, page);
        seen.set(page, shown.rendered);
      }
      const [before] = rest.slice(-2);
      assert.equal((await tab.back(before[1])).rendered, seen.get(before[1]), "as it was");
      assert.equal((await tab.reload()).page, before[1]);
      assert.deepEqual(tab.wrong, []);
      const requests = tab.responses.filter(({ path }) => request.test(path));
      assert.ok(requests.length > 0, "it navigates by data");
      if (visit === "cold") continue;
      for (const { path, status, said } of requests) {
        assert.equal(status, 200, path);
        assert.match(said, /^perennial; hit/, path);
      }
    }
  });

  check(`${name}: with the origin gone, every page that was visited is there`, async (world) => {
    const visitor = await world.tab();
    const visit = async (tab) => {
      await tab.goto(first);
      for (const [link, page] of rest) await tab.click(link, page);
      await tab.back(rest.at(-2)[1]);
      await tab.reload();
    };
    await visit(visitor);
    await visitor.goto("/");
    await world.get("/ssr");
    await world.get("/dynamic");
    await world.origin.stop();
    const late = await world.tab();
    await visit(late);
    assert.equal((await late.goto("/")).page, "home");
    assert.deepEqual(late.wrong, []);
    for (const path of ["/ssr", "/dynamic"]) assert.equal((await world.get(path)).status, 502, path);
  });

  check(`${name}: a tab that was open before a deploy goes on, and the new pages come`, async (world) => {
    const tab = await world.tab();
    await tab.goto(first);
    // What lies open names these, some of which it has not loaded yet.
    const { text } = await world.get(first);
    const bundles = new Set(text.match(/\/_next\/static\/[^"\\]+\.(?:js|css)/g));
    const manifest = (await world.get("/_next/static/build-one/_buildManifest.js")).text;
    for (const [name] of manifest.matchAll(/static\/chunks\/pages\/[^"]+\.js/g)) {
      bundles.add(`/_next/${name.replaceAll("[", "%5B").replaceAll("]", "%5D")}`);
    }
    await until("every bundle", world.within, async () => {
      const answers = await Promise.all([...bundles].map((path) => world.get(path)));
      return answers.every((answer) => answer.hit);
    });
    await site.deployed("two", world.origin, async () => {
      for (const path of [first, "/static", "/b"]) {
        await until(`the new ${path}`, world.within, async () => build((await world.get(path)).text) === "two");
      }
      for (const path of bundles) assert.equal((await world.get(path)).status, 200, path);
      for (const [link, page] of rest) assert.equal((await tab.click(link, page)).page, page);
      assert.deepEqual(tab.wrong, []);
      assert.ok(tab.responses.every(({ status }) => status < 400));
      const next = await world.tab();
      assert.equal((await next.goto(first)).build, "two");
      for (const [link, page] of rest) assert.equal((await next.click(link, page)).build, "two", page);
      assert.deepEqual(next.wrong, []);
    });
  // Bundles that were loaded once are kept by what Next says of them.
  }, { notWith: "generic" });
}

check("an old page is served until the new build has rendered it, and by the webhook at once", async (world) => {
  const old = await until("a hit", world.within, async () => {
    const answer = await world.get("/static");
    return answer.hit && answer;
  });
  assert.equal(build(old.text), "one");
  await site.deployed("two", world.origin, async () => {
    assert.equal((await world.edge.webhook("deployment=build-two")).status, 200);
    const first = await world.get("/static");
    assert.equal(build(first.text), "one");
    assert.match(first.said, /^perennial; hit/);
    await until("the new page", world.within, async () => build((await world.get("/static")).text) === "two");
  });
});

// --- the site ---------------------------------------------------------------------------

async function Site(folder) {
  const file = join(folder, "renders.log");
  const serve = async (build) => {
    const port = await freePort();
    const server = await start("node", ["node_modules/next/dist/bin/next", "start", "-p", String(port), "-H", "127.0.0.1"], {
      cwd: folder,
      env: {
        BUILD: build,
        RENDERS: file,
        PERENNIAL_URL: `http://127.0.0.1:${given.edge}`,
        PERENNIAL_SECRET: SECRET,
        NEXT_TELEMETRY_DISABLED: "1",
      },
      ready: (output) => output.includes("Ready in"),
    });
    return { port, server };
  };
  given.edge = port;
  writeFileSync(file, "");
  // What a run before left would be stale.
  rmSync(join(folder, ".next-one/cache/images"), { recursive: true, force: true });
  const { port: at, server } = await serve("one");
  return {
    port: at,
    // How often a page was rendered, since it was first heard of.
    renders: (page) => readFileSync(file, "utf8").split("\n").filter((line) => line.startsWith(`${page} `)).length,
    async deployed(build, origin, then) {
      const next = await serve(build);
      origin.target = next.port;
      try {
        await then();
      } finally {
        origin.target = at;
        await next.server.stop();
      }
    },
    async stop() {
      await server.stop();
      rmSync(file);
    },
  };
}

const deployment = "deployment: { settle: 1s, probe: 250ms }";
const lines = {
  preset: ["framework: nextjs", `nextjs: { build: ${join(given.site, ".next-one")} }`, deployment],
  generic: ["framework: generic"],
};
const wrong = await run({ ...given, port, site, lines });
await site.stop();
process.exit(wrong === 0 ? 0 : 1);
