// The cache handler with an imitation of Next's own handler, and of an edge.
//
//   node --test deploy/nextjs/*.test.mjs

import assert from "node:assert/strict";
import http from "node:http";
import Module, { createRequire } from "node:module";
import { after, beforeEach, test } from "node:test";

// Stands in for `next/dist/server/lib/incremental-cache/file-system-cache`.
class NextCache {
  static kept = new Map();
  static revalidated = [];
  constructor(context) {
    this.context = context;
  }
  async get(key) {
    return NextCache.kept.get(key) ?? null;
  }
  async set(key, value) {
    NextCache.kept.set(key, { value });
  }
  async revalidateTag(tags) {
    NextCache.revalidated.push(...[tags].flat());
  }
}

const resolve = Module._load;
Module._load = (name, ...rest) =>
  name.startsWith("next/dist/server/lib/incremental-cache") ? { default: NextCache } : resolve(name, ...rest);

let calls = [];
let answer = () => 200;
const edge = http.createServer((request, response) => {
  let body = "";
  request.on("data", (part) => (body += part));
  request.on("end", () => {
    const status = answer();
    if (status === 0) return request.socket.destroy();
    calls.push({ url: request.url, secret: request.headers.authorization, ...JSON.parse(body) });
    response.writeHead(status).end("{}");
  });
});
await new Promise((resume) => edge.listen(0, "127.0.0.1", resume));
after(() => edge.close());
process.env.PERENNIAL_URL = `http://127.0.0.1:${edge.address().port}, `;
process.env.PERENNIAL_SECRET = "s3cret";
const Handler = createRequire(import.meta.url)("./perennial-cache-handler.js");

const called = async (count) => {
  const deadline = Date.now() + 10_000;
  while (calls.length < count) {
    assert.ok(Date.now() < deadline, `${count} calls: there are ${calls.length}`);
    await new Promise((resume) => setTimeout(resume, 5));
  }
  return calls;
};

beforeEach(() => {
  calls = [];
  answer = () => 200;
});

test("the tags of a page are shown, when it is stored and when it is found", async () => {
  const page = { kind: "APP_PAGE", headers: { "x-next-cache-tags": "posts,_N_T_/b" } };
  const handler = new Handler({});
  const setting = handler.set("/b", page);
  assert.equal(page.headers["cache-tag"], "posts,_N_T_/b", "at once: the response goes out with it");
  await setting;
  NextCache.kept.set("/c", { value: { headers: { "x-next-cache-tags": "c" } } });
  assert.equal((await handler.get("/c")).value.headers["cache-tag"], "c");
  assert.equal(await handler.get("/nothing"), null);
  assert.deepEqual(calls, []);
});

test("a tag is told, hard without a profile and soft with one", async () => {
  const handler = new Handler({});
  await handler.revalidateTag("posts");
  await handler.revalidateTag(["a", "b"], { expire: 31536000 });
  await handler.revalidateTag(["c"], { expire: 0 });
  await handler.revalidateTag([]);
  const modes = calls.map(({ tag, mode }) => [tag, mode]);
  assert.deepEqual(modes, [[["posts"], "expire"], [["a", "b"], "stale"], [["c"], "expire"]]);
  assert.deepEqual([calls[0].url, calls[0].secret], ["/__revalidate", "Bearer s3cret"]);
  assert.deepEqual(NextCache.revalidated, ["posts", "a", "b", "c"]);
});

test("a path is told as the tag it is and as the path it names", async () => {
  const handler = new Handler({});
  await handler.revalidateTag(["_N_T_/blog/one"]);
  await handler.revalidateTag(["_N_T_/blog/[slug]/page"]);
  await handler.revalidateTag(["_N_T_/docs/layout"]);
  assert.deepEqual(
    calls.map(({ path }) => path),
    [["/blog/one"], [], []],
  );
});

test("a page that the site revalidates is told, one that Perennial asked for is not", async () => {
  const own = { "x-prerender-revalidate": "id" };
  const keys = [
    ["/blog/one", "/blog/one"],
    ["/index", "/"],
    ["/index/index", "/index"],
    ["/route-cache/PAGES/0a1b/$/blog/two", "/blog/two"],
    ["/route-cache/PAGES/0a1b/$/index", "/"],
  ];
  for (const [key] of keys) {
    await new Handler({ _requestHeaders: own }).set(key, { kind: "PAGES" });
  }
  await called(keys.length);
  assert.deepEqual(calls.map(({ path }) => path).sort(), keys.map(([, path]) => path).sort());
  assert.ok(calls.every(({ if_cached }) => if_cached === "1"));
  for (const headers of [{ ...own, via: "1.1 perennial" }, { ...own, via: "1.0 x, 1.1 perennial" }, {}]) {
    await new Handler({ _requestHeaders: headers }).set("/a", { kind: "PAGES" });
  }
  await new Handler({ _requestHeaders: own }).set("data", { kind: "FETCH" });
  await new Handler({}).revalidateTag("last");
  assert.equal(calls.at(-1).tag[0], "last");
  assert.equal(calls.length, keys.length + 1);
});

test("an edge that is away is told when it is back", async (t) => {
  t.mock.method(console, "warn", () => {});
  let left = 2;
  answer = () => (left-- > 0 ? 0 : 200);
  await new Handler({}).revalidateTag("late");
  assert.equal(calls.length, 0);
  await called(1);
  assert.deepEqual(calls[0].tag, ["late"]);
});

test("what an edge refuses is said, and not sent again", async (t) => {
  const warned = t.mock.method(console, "warn", () => {});
  answer = () => 401;
  await new Handler({}).revalidateTag("x");
  const said = warned.mock.calls.map(({ arguments: [text] }) => text).join("\n");
  assert.match(said, /answered 401/);
  assert.match(said, /PERENNIAL_SECRET must be/);
  assert.equal(calls.length, 1);
});
