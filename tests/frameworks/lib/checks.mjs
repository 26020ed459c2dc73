// Checks, each in a world of its own: a fresh Perennial in front of the site. As a
// control the same checks are made without Perennial, without its preset, or with a
// cache that takes no care, and then each of them must fail: a check that cannot
// fail shows nothing.

import assert from "node:assert/strict";
import { appendFileSync } from "node:fs";
import { Careless } from "./careless.mjs";
import { Edge, get } from "./edge.mjs";
import { Tab, launch } from "./browser.mjs";
import { Origin } from "./origin.mjs";
import { until } from "./process.mjs";

const all = [];

// `notWith`: a control that says nothing of the check, because what it shows may hold
// there, too; or `controls`: all that say something. `mode` is the configuration, as
// `run` has them. A `brief` check says in its failure all that is to be known of it.
// `serve(url)` starts a site for this check alone, before Perennial; it gives
// { port, stop }, and visitors come to `url`.
export function check(name, body, { notWith, controls, mode = "preset", brief = false, serve } = {}) {
  all.push({ name, body, mode, brief, serve, controls: controls ?? ["direct", "generic"].filter((one) => one !== notWith) });
}

// Runs every check. `lines` are configurations: `lines.preset`, and one for each control
// that is Perennial without something, as `lines.generic` is without the preset; without
// a word of `alone`, that is the program with `--origin` and nothing else. `site.port` is where the site listens, unless each check starts
// its own. Answers how many went wrong.
// `log` is the file to which every request of a browser is written.
export async function run({ program, control, only, log, port, site, lines }) {
  const browser = await launch();
  let wrong = 0;
  let made = 0;
  for (const { name, body, mode, brief, serve, controls } of all) {
    if (only && !name.includes(only)) continue;
    if (control && !controls.includes(control)) continue;
    made += 1;
    const begun = Date.now();
    const world = await World.make({ program, control, mode, port, site, serve, lines, browser });
    let failed;
    try {
      await body(world);
    } catch (error) {
      failed = error;
    }
    const took = `${((Date.now() - begun) / 1000).toFixed(1)} s`;
    const good = control ? failed !== undefined : failed === undefined;
    if (!good) wrong += 1;
    const verdict = good ? "ok" : "FAILED";
    console.log(`  ${verdict}  ${name} (${took})${control && good ? `: ${firstLine(failed)}` : ""}`);
    if (!good && failed) console.log(indent(brief ? failed.message : `${failed.stack}\n${world.requests()}`));
    if (!good && control) console.log("      it passes without what it is to show");
    if (log) appendFileSync(log, `== ${control ?? "checks"}: ${name}\n${world.requests()}`);
    await world.end();
  }
  await browser.close();
  if (made === 0 && !control) throw new Error("no check was made");
  console.log(`  ${made - wrong} of ${made} checks ${control ? `fail with ${control}, as they must` : "passed"}`);
  return wrong;
}

class World {
  static async make({ program, control, mode, port, site, serve, lines, browser }) {
    const world = new World();
    world.control = control;
    world.site = site;
    world.browser = browser;
    world.tabs = [];
    world.within = control ? 1_500 : 10_000;
    world.url = `http://127.0.0.1:${port}`;
    world.own = await serve?.(world.url);
    world.origin = await Origin.start((world.own ?? site).port, control === "direct" ? port : 0);
    const chosen = (control && lines[control]) ?? lines[mode];
    switch (control) {
      case "direct":
        world.edge = { webhook: () => Promise.reject(new Error("there is no webhook")), stop: () => {} };
        break;
      case "mixed":
        world.edge = await Careless.start({ port, origin: world.origin });
        break;
      default:
        world.edge = await Edge.start({ program, port, origin: world.origin, lines: chosen });
    }
    return world;
  }

  get(path, headers, method) {
    return get(this.url + path, headers, method);
  }

  // What is answered once it is a hit.
  hit(path, headers) {
    return until(`a hit of ${path}`, this.within, async () => {
      const answer = await this.get(path, headers);
      return answer.hit && answer;
    });
  }

  // The assets that a page names are there before they are asked for, and for good.
  async keepsAssets(page, pattern, least = 4) {
    const { text } = await this.get(page);
    const named = [...new Set(text.match(pattern)?.map((name) => new URL(name, this.url + page).pathname))];
    assert.ok(named.length >= least, "it names some");
    await until("all of them", this.within, () => named.every((path) => this.origin.count(path) === 1));
    for (const path of named) {
      assert.match((await this.hit(path)).headers["cache-control"], /immutable/);
    }
  }

  async tab() {
    const tab = await Tab.open(this.browser, this.url);
    if (this.control) tab.page.setDefaultTimeout(5_000);
    this.tabs.push(tab);
    return tab;
  }

  // What its tabs asked for, and how the cache answered.
  requests() {
    return this.tabs.map((tab) => `${tab.log()}\n`).join("\n");
  }

  async end() {
    for (const tab of this.tabs) await tab.close();
    await this.edge.stop();
    if (!this.origin.away) await this.origin.stop();
    await this.own?.stop();
  }
}

const firstLine = (error) => String(error?.message ?? error).split("\n")[0].slice(0, 120);
const indent = (text) => text.replace(/^/gm, "      ");
