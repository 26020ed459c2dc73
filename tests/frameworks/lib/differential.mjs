// The same script, driven with Chromium at the site itself and through Perennial,
// by several visitors with different cookies: after every step both sides must show
// the same. Then who was a hit, and whether anybody ever got what is another's.
//
// A suite describes its site once:
//
//   differential({
//     serve(url)   starts the site anew, for visitors who come to `url`; gives { port, stop }
//     visitors     { name, secret, cookies, steps } each, in the order of their visits:
//                  `secret` is the text that nobody else may ever get (or null),
//                  `steps` what they do, see `Visitor`
//     ready        a selector that a page matches once it takes clicks
//     data(path, headers, kind)  whether a request that is no document asks for a page's
//                  data; `kind` is what Chromium calls its type
//     dynamic(path, headers)  whether a document or its data are rendered for each visitor,
//                  so that nobody expects a hit
//     page(path)   of which page a request for data is
//     same(path)   a path without what is never the same twice
//     unasked(path)  what a browser asks for when it has time, so that one cannot say when
//     bar          the part of all others of the second visitor that must be hits; 0: it is
//                  not looked at
//     faults(line)  a message that only the site itself may bring about: it is a fault of its
//                  own, and gone behind Perennial
//     fails        what must fail without the preset: ["differences"], ["hits"] or both
//     modes        by default `alone`, with `--origin` and nothing else, and `preset`, with
//                  that of the suite; `build`: it knows the site's build, too
//   })
//
// What a page prints that is never the same twice stands in elements with
// `data-varies`, and is left out.

import assert from "node:assert/strict";
import { check } from "./checks.mjs";
import { freePort, until } from "./process.mjs";
import { Tab } from "./browser.mjs";

const QUIET = 200; // ms without a request, then a page counts as at rest
const SHORT = 60; // the same where it is known what to look for
const LATE = 2_000; // ms that a page may need more to show what it shall
const PATIENCE = 8_000; // ms for whatever a step waits for
const CURT = 2_000; // the same where a control is to fail
const MODES = { alone: "with --origin alone", preset: "with the preset", build: "with the build" };
const USUAL = ["alone", "preset"];

export function differential(site) {
  const bar = site.bar ?? 0.9;
  const drives = new Drives(site);
  const modes = site.modes ?? USUAL;
  for (const mode of modes) {
    // Controls have a configuration of their own: once is enough.
    const controls = (...kinds) => (mode === modes.at(-1) ? kinds : []);
    const generic = (what) => (site.fails?.includes(what) ? ["generic"] : []);
    check(
      `${MODES[mode]}: ${site.visitors.map(({ name }) => name).join(", ")} see what the site itself shows them`,
      async (world) => {
        const { direct, through } = await drives.of(world, mode);
        const differences = compare(site, direct, through);
        const leaks = differences.filter((text) => text.includes("): leaks")).length;
        assert.ok(differences.length === 0, `${differences.length} differences, ${leaks} of them leaks\n${differences.join("\n")}`);
      },
      { mode, brief: true, serve: site.serve, controls: controls("mixed", ...generic("differences")) },
    );
    if (bar === 0) continue;
    check(
      `${MODES[mode]}: of what the second visitor asks for, ${100 * bar} % are hits`,
      async (world) => {
        const { hits, asked, missed } = (await drives.of(world, mode)).cached;
        const say = `${hits} of ${asked} were hits, not\n${missed.join("\n")}`;
        console.log(`      ${hits} of ${asked} were hits`);
        assert.ok(asked > 0 && hits / asked >= bar, say);
      },
      { mode, brief: true, serve: site.serve, controls: controls("direct", ...generic("hits")) },
    );
  }
}

// The recordings of a site: of each mode one, and one of the site itself.
class Drives {
  constructor(site) {
    this.site = site;
    this.made = new Map();
  }

  of(world, mode) {
    if (!this.made.has(mode)) this.made.set(mode, this.#drive(world));
    return this.made.get(mode);
  }

  async #drive(world) {
    this.direct ??= this.#direct(world.browser);
    const direct = await this.direct;
    const through = await this.#visits(world.browser, world.url, { world, direct });
    const visits = through.map(({ responses }) => responses);
    return { direct, through: through.map(({ seen }) => seen), cached: cached(this.site, ...visits) };
  }

  async #direct(browser) {
    const port = await freePort();
    const url = `http://127.0.0.1:${port}`;
    const server = await this.site.serve(url, port);
    try {
      return (await this.#visits(browser, url)).map(({ seen }) => seen);
    } finally {
      await server.stop();
    }
  }

  // One visitor after the other, so that who comes later finds what is stored.
  async #visits(browser, url, { world, direct } = {}) {
    const all = [];
    for (const [n, visitor] of this.site.visitors.entries()) {
      const visit = await Visitor.come(this.site, visitor, browser, url, world?.control ? CURT : PATIENCE);
      world?.tabs.push(visit.tab);
      all.push({ seen: await visit.seen(direct?.[n]), responses: visit.responses });
      if (!world) await visit.tab.close();
      await until("the origin to be at rest", PATIENCE, () => !world?.origin.busy);
    }
    return all;
  }
}

// A browser of its own that takes the steps of a script:
//
//   ["goto", "/path", "what #page says"]
//   ["click", "id or selector", "what #page says then"]
//   ["fill", "id or selector", "text"], ["back", "…"], ["forward", "…"], ["reload", "…"]
//
// A last member of an object says more: `text`, which must come to be seen; `bare`,
// a page that never gets ready, because it has no script.
class Visitor {
  static async come(site, { name, secret, cookies = {}, steps }, browser, url, patience) {
    const visitor = new Visitor();
    Object.assign(visitor, { site, name, steps, url, patience });
    visitor.others = site.visitors.map((other) => other.secret).filter((other) => other && other !== secret);
    visitor.tab = await Tab.open(browser, url);
    visitor.page = visitor.tab.page;
    visitor.page.setDefaultTimeout(patience);
    const jar = Object.entries(cookies).map(([name, value]) => ({ name, value, url }));
    if (jar.length > 0) await visitor.tab.context.addCookies(jar);
    visitor.open = new Set();
    visitor.changed = Date.now();
    visitor.responses = [];
    visitor.bodies = [];
    visitor.#listen();
    return visitor;
  }

  // What there was to see after each step. `expected` is the same at the site itself: a
  // page that does not show it yet has some more time.
  async seen(expected) {
    const all = [];
    for (const [n, step] of this.steps.entries()) {
      this.said = { console: [], requests: new Set(), leaks: new Set() };
      const failed = await this.#take(step).catch((error) => firstLines(error));
      let found = await this.#look(expected ? SHORT : QUIET);
      const late = Math.min(LATE, this.patience / 4);
      if (expected?.[n] && !failed) {
        await until("the same as at the site", late, async () => {
          if (differing(expected[n], found, this.site.faults).length === 0) return true;
          found = await this.#look(SHORT);
          return false;
        }).catch(() => {});
      }
      all.push({ step: words(step), ...found, ...(failed && { failed }) });
      if (all.filter((one) => one.failed).length === 3) break; // it won't get better
    }
    return all;
  }

  async #take([what, ...rest]) {
    const more = typeof rest.at(-1) === "object" ? rest.pop() : {};
    const [first, second] = rest;
    const element = () => this.page.locator(/^[\w-]+$/.test(first) ? `#${first}:visible` : first).first();
    const options = { waitUntil: "load" };
    let on = first;
    switch (what) {
      case "goto":
        on = second;
        await this.page.goto(first, options);
        break;
      case "click":
        on = second;
        await element().click({ noWaitAfter: true });
        break;
      case "fill":
        return element().fill(second);
      case "back":
        await this.page.goBack(options);
        break;
      case "forward":
        await this.page.goForward(options);
        break;
      case "reload":
        await this.page.reload(options);
        break;
      default:
        throw new Error(`no such step: ${what}`);
    }
    if (on !== undefined) await this.page.locator("#page:visible", { hasText: new RegExp(`^\\s*${on}\\s*$`) }).first().waitFor();
    if (more.text) await this.page.getByText(more.text).first().waitFor();
    if (this.site.ready && !more.bare) await this.page.locator(this.site.ready).first().waitFor({ state: "attached" });
  }

  #look(quiet) {
    return this.#looked(quiet).catch((error) => ({ failed: firstLines(error) }));
  }

  // What is to be seen once the page is at rest.
  async #looked(quiet) {
    const atRest = () => this.open.size === 0 && Date.now() - this.changed >= quiet;
    await until("requests to end", this.patience, atRest);
    let shown;
    await until("the page to stand still", this.patience, async () => {
      const before = shown;
      shown = JSON.stringify(await this.page.evaluate(snapshot));
      return shown === before;
    });
    await Promise.all(this.bodies.splice(0));
    const { title, text } = JSON.parse(shown);
    const cookies = await this.tab.context.cookies();
    return {
      URL: [this.#plain(this.page.url())],
      title: [title],
      text,
      console: [...new Set(this.said.console)].sort(),
      requests: [...this.said.requests].sort(),
      cookies: cookies.map(({ name }) => name).sort(),
      leaks: [...this.said.leaks].sort(),
    };
  }

  #listen() {
    const { page } = this;
    page.on("request", (request) => {
      if (request.isNavigationRequest() && request.frame() === page.mainFrame()) this.leaving = request;
      // Chromium does not always tell of the end of these.
      if (this.site.unasked?.(this.#plain(request.url()))) return;
      this.open.add(request);
      this.changed = Date.now();
    });
    for (const end of ["requestfinished", "requestfailed"]) {
      page.on(end, (request) => {
        this.open.delete(request);
        this.changed = Date.now();
      });
    }
    // Of what a page asked for that is left, not every end is told.
    page.on("framenavigated", (frame) => {
      if (frame !== page.mainFrame() || !this.leaving) return;
      const document = this.leaving;
      this.open.forEach((request) => request !== document && this.open.delete(request));
      this.leaving = undefined;
    });
    page.on("response", (response) => this.#answered(response));
    page.on("console", (message) => this.said?.console.push(`${message.type()}: ${this.#plain(message.text())}`));
    page.on("pageerror", (error) => this.said?.console.push(`uncaught: ${this.#plain(error.message)}`));
    page.on("requestfailed", (request) => {
      const why = request.failure()?.errorText;
      if (why !== "net::ERR_ABORTED") this.said?.console.push(`failed: ${this.#plain(request.url())} ${why}`);
    });
  }

  #answered(response) {
    const request = response.request();
    if (!request.url().startsWith(this.url)) return;
    const path = this.#plain(request.url());
    const headers = request.headers();
    const document = request.isNavigationRequest();
    const status = response.status() === 304 ? 200 : response.status();
    const read = status < 300 || status >= 400;
    if (read) this.bodies.push(this.#search(response, path, this.said));
    const counts = document || request.method() !== "GET" || this.site.data(path, headers, request.resourceType());
    if (!counts) return;
    if (status >= 400 || !this.site.unasked?.(path)) {
      this.said?.requests.add(`${request.method()} ${this.site.same?.(path) ?? path} ${status}`);
    }
    const said = response.headers()["cache-status"] ?? "nothing";
    this.responses.push({ method: request.method(), path, status, said, headers });
  }

  // Whether an answer has what is another's, whatever then becomes of it.
  async #search(response, path, { leaks }) {
    const body = await Promise.race([response.text().catch(() => ""), new Promise((done) => setTimeout(done, this.patience, ""))]);
    for (const other of this.others) if (body.includes(other)) leaks.add(`${path} has ${other}`);
  }

  // Without the host, and without reason phrases, which no newer HTTP has.
  #plain(text) {
    return text.replaceAll(this.url, "").replace(/(a status of \d+) \(.*\)/, "$1");
  }
}

// Runs in the page: what it shows as text, and in its fields. Routers say the name of a
// new page to screen readers, each some time later: that is left out.
function snapshot() {
  const text = [];
  const hidden = "script, style, template, noscript, next-route-announcer, [aria-live=assertive], [data-varies]";
  const walk = (node) => {
    if (node.nodeType === Node.TEXT_NODE) {
      const words = node.data.replace(/\s+/g, " ").trim();
      if (words) text.push(words);
    } else if (node.nodeType === Node.ELEMENT_NODE && !node.matches(hidden) && node.style?.display !== "none") {
      if (node.matches("input, textarea, select")) text.push(`${node.name}=${node.value}`);
      node.childNodes.forEach(walk);
      if (node.shadowRoot) node.shadowRoot.childNodes.forEach(walk);
    }
  };
  walk(document.body);
  return { title: document.title, text };
}

// Of the documents and data that are the same for all, and of pages that the first
// visitor has seen in whatever form: who was a hit, until the second changes something
// himself.
function cached(site, first, second) {
  const page = ({ path }) => site.page?.(path) ?? path;
  const known = new Set(first.map(page));
  const changes = second.findIndex(({ method }) => method !== "GET");
  const counted = second
    .slice(0, changes < 0 ? undefined : changes)
    .filter((response) => known.has(page(response)) && !site.dynamic(response.path, response.headers));
  const missed = counted.filter(({ said }) => !/^perennial; hit/.test(said));
  return {
    asked: counted.length,
    hits: counted.length - missed.length,
    missed: missed.map(({ path, status, said }) => `  ${status} ${path}  ${said}`),
  };
}

// Every difference, one for each step, visitor and thing.
function compare({ visitors, faults = () => false }, direct, through) {
  const differences = [];
  visitors.forEach(({ name }, i) => {
    const steps = Math.max(direct[i].length, through[i].length);
    for (let n = 0; n < steps; n += 1) {
      const [one, other] = [direct[i][n], through[i][n]];
      const step = (one ?? other).step;
      if (!one || !other) {
        differences.push(`${name}, step ${n + 1} (${step}): only ${one ? "the origin" : "Perennial"} came so far`);
        break;
      }
      for (const { thing, origin, perennial } of differing(one, other, faults)) {
        differences.push(
          [
            `${name}, step ${n + 1} (${step}): ${thing}`,
            `    origin:    ${origin.join(" | ") || "-"}`,
            `    perennial: ${perennial.join(" | ") || "-"}`,
          ].join("\n"),
        );
      }
    }
  });
  return differences;
}

// In which things two looks differ, and what only one of them has. A failure and a leak
// are wrong on both sides.
function differing(one, other, faults = () => false) {
  const things = new Set([...Object.keys(one), ...Object.keys(other)]);
  things.delete("step");
  return [...things].flatMap((thing) => {
    const sides = [one[thing], other[thing]].map((side) => [side ?? []].flat());
    if (thing === "console") sides[0] = sides[0].filter((line) => !faults(line) || sides[1].includes(line));
    const same = JSON.stringify(sides[0]) === JSON.stringify(sides[1]);
    const wrong = (thing === "failed" || thing === "leaks") && sides.flat().length > 0;
    if (same && !wrong) return [];
    const [origin, perennial] = same ? sides : [without(sides[0], sides[1]), without(sides[1], sides[0])];
    return [{ thing, origin, perennial }];
  });
}

// What of these the others have not; all of them where only the order differs.
function without(these, others) {
  const rest = [...others];
  const left = these.filter((one) => {
    const at = rest.indexOf(one);
    if (at >= 0) rest.splice(at, 1);
    return at < 0;
  });
  return left.length > 0 || these.length !== others.length ? left : these;
}

const words = (step) => step.filter((part) => typeof part === "string").join(" ");
const firstLines = (error) => error.message.split("\n").slice(0, 2).join(" ");
