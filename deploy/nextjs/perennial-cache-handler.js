"use strict";

// A cache handler for Next.js (14 and newer) that keeps Next's own cache and
// tells Perennial what Next tells nobody: the tags of its pages, and that
// `revalidateTag`, `revalidatePath` or `res.revalidate` was called.
//
// In next.config.js:  cacheHandler: require.resolve("./perennial-cache-handler.js")
// In the environment: PERENNIAL_URL     where Perennial listens; several, one per
//                                       edge, are separated by commas
//                     PERENNIAL_SECRET  the `revalidate.secret` of its configuration
//
// Without PERENNIAL_URL nothing is told, and Next works as it does alone.

// Next also bundles this file for middleware, where nothing is cached and Node is not.
const node = process.env.NEXT_RUNTIME !== "edge";
const http = node ? require("node:http") : undefined;
const https = node ? require("node:https") : undefined;
const { default: NextCache } = require("next/dist/server/lib/incremental-cache/file-system-cache");

const NEXT_TAGS = "x-next-cache-tags"; // Next keeps this one to itself
const TAGS = "cache-tag"; // and lets this one out
const ON_DEMAND = "x-prerender-revalidate";

const WAIT = 5_000; // ms that a caller waits for one edge
const RETRIES = [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000]; // ms; then every 30 s
const MAX_WAITING = 1_000; // calls that wait for an edge that is away

module.exports = class PerennialCacheHandler extends NextCache {
  constructor(context) {
    super(context);
    this.requestHeaders = context._requestHeaders ?? {};
  }

  async get(...args) {
    const entry = await super.get(...args);
    showTags(entry?.value?.headers);
    return entry;
  }

  async set(key, value, ...rest) {
    // Before anything is awaited: Next sends these very fields with the response.
    showTags(value?.headers);
    await super.set(key, value, ...rest);
    // Perennial's own requests are on demand, too, and need not be told.
    const isPage = value && value.kind !== "FETCH" && value.kind !== "IMAGE";
    const asked = this.requestHeaders[ON_DEMAND] && !fromPerennial(this.requestHeaders.via);
    // Not awaited: the edge asks for the very page that Next is about to finish.
    if (asked && (isPage || value === null)) void tell({ path: pathOf(key), if_cached: "1" });
  }

  async revalidateTag(tags, durations) {
    await super.revalidateTag(tags, durations);
    const named = [tags].flat();
    if (named.length === 0) return;
    // With a profile Next itself serves the old page while it renders the new one.
    const soft = durations !== undefined && durations.expire !== 0;
    await tell({ tag: named, path: named.map(pathOfTag).filter(Boolean), mode: soft ? "stale" : "expire" });
  }
};

function showTags(headers) {
  const tags = headers?.[NEXT_TAGS];
  if (typeof tags === "string" && tags !== "") headers[TAGS] = tags;
}

function fromPerennial(via) {
  return [via].flat().some((line) => /\bperennial\b/i.test(line ?? ""));
}

// The page of a cache key: newer versions put the route before it.
function pathOf(key) {
  const marker = key.startsWith("/route-cache/") ? key.indexOf("/$/") : -1;
  const name = marker < 0 ? key : key.slice(marker + 2);
  if (name === "/index") return "/";
  return literal(name.startsWith("/index/") ? name.slice("/index".length) : name);
}

// Perennial refuses an asterisk, which could be meant as a wildcard.
function literal(path) {
  return path.replaceAll("*", "%2A");
}

// `revalidatePath("/blog")` comes as the tag `_N_T_/blog`. Pages of the pages
// router carry no tags, so that their path is named as well; a pattern
// (`_N_T_/blog/[slug]/page`) is no path.
function pathOfTag(tag) {
  const path = /^_N_T_(\/.*)$/.exec(tag)?.[1];
  return path && !/\[|\/(page|layout)$/.test(path) ? literal(path) : undefined;
}

// Tells every edge, and waits until each has answered or its time is up: whoever
// revalidated a tag or a path sees the renewed page. What an edge did not get is sent again, for as
// long as this process lives.
async function tell(message) {
  await Promise.all(edges().map((edge) => edge.tell(message)));
}

let known; // edges by URL, made once
function edges() {
  if (!known) {
    const urls = (process.env.PERENNIAL_URL ?? "").split(",").map((url) => url.trim()).filter(Boolean);
    known = urls.map((url) => new Edge(url, process.env.PERENNIAL_SECRET ?? ""));
  }
  return known;
}

class Edge {
  constructor(url, secret) {
    this.url = new URL("/__revalidate", url);
    this.secret = secret;
    this.waiting = [];
    this.retrying = false;
  }

  async tell(message) {
    if (await this.send(message)) return;
    if (this.waiting.length === MAX_WAITING) {
      this.waiting = [{ all: "1", mode: "stale" }];
      warn(`${this.url.origin} has been away for ${MAX_WAITING} calls; all of it is renewed when it is back`);
    }
    this.waiting.push(message);
    if (!this.retrying) void this.retry();
  }

  // Whether it need not be sent again.
  async send(message) {
    let status, text;
    try {
      ({ status, text } = await post(this.url, this.secret, JSON.stringify(message)));
    } catch (error) {
      warn(`${this.url.origin} did not get ${JSON.stringify(message)} and is told again: ${error.message}`);
      return false;
    }
    if (status < 400) return true;
    warn(`${this.url.origin} answered ${status} to ${JSON.stringify(message)}: ${text.trim()}`);
    if (status === 401) warn("PERENNIAL_SECRET must be the edge's revalidate.secret");
    if (status === 404) warn("the edge's configuration needs a revalidate.secret");
    // A page that could not be rendered is marked stale all the same; a call that
    // is wrong is not better the next time.
    return true;
  }

  async retry() {
    this.retrying = true;
    for (let attempt = 0; this.waiting.length > 0; attempt += 1) {
      await new Promise((resume) => {
        setTimeout(resume, RETRIES[Math.min(attempt, RETRIES.length - 1)]).unref();
      });
      while (this.waiting.length > 0 && (await this.send(this.waiting[0]))) {
        this.waiting.shift();
        attempt = 0;
      }
    }
    this.retrying = false;
  }
}

// Not with `fetch`: Next's own takes it for a part of the page that is rendered.
function post(url, secret, body) {
  return new Promise((resolve, reject) => {
    const { request } = url.protocol === "https:" ? https : http;
    const headers = {
      authorization: `Bearer ${secret}`,
      "content-type": "application/json",
      "content-length": Buffer.byteLength(body),
    };
    const sent = request(url, { method: "POST", headers, signal: AbortSignal.timeout(WAIT) }, (response) => {
      let text = "";
      response.setEncoding("utf8");
      response.on("data", (part) => (text += part));
      response.on("end", () => resolve({ status: response.statusCode, text }));
      response.on("error", reject);
    });
    sent.on("error", reject);
    sent.end(body);
  });
}

function warn(text) {
  console.warn(`perennial: ${text}`);
}
