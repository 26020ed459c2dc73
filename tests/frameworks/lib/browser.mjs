// Headless Chromium, with tabs that write down what they asked for, how the cache
// answered, and everything that went wrong.

import { existsSync } from "node:fs";
import { chromium } from "playwright-core";

const PROGRAMS = ["/usr/bin/chromium-headless-shell", "/usr/bin/chromium", "/usr/bin/google-chrome"];

export async function launch() {
  const executablePath = process.env.CHROMIUM ?? PROGRAMS.find((program) => existsSync(program));
  if (!executablePath) throw new Error("no Chromium: install it, or name it in CHROMIUM");
  return chromium.launch({
    executablePath,
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
}

export class Tab {
  static async open(browser, url) {
    const tab = new Tab();
    tab.context = await browser.newContext({ baseURL: url });
    tab.page = await tab.context.newPage();
    tab.page.setDefaultTimeout(10_000);
    tab.responses = [];
    tab.wrong = [];
    tab.page.on("response", (response) => {
      const said = response.headers()["cache-status"] ?? "nothing";
      const path = response.url().replace(url, "");
      tab.responses.push({ path, status: response.status(), said, headers: response.request().headers() });
    });
    tab.page.on("console", (message) => {
      if (message.type() === "error") tab.wrong.push(`console: ${message.text()} ${message.location().url}`);
    });
    tab.page.on("pageerror", (error) => tab.wrong.push(`uncaught: ${error.message}`));
    tab.page.on("requestfailed", (request) => {
      // What a navigation leaves behind is given up, and that is as it should be.
      const why = request.failure()?.errorText;
      if (why !== "net::ERR_ABORTED") tab.wrong.push(`failed: ${request.url()} ${why}`);
    });
    return tab;
  }

  // What the page says of itself.
  async shows() {
    const text = (id) => this.page.locator(`#${id}`).first().textContent();
    return { page: await text("page"), rendered: await text("rendered"), build: await text("build") };
  }

  async goto(path) {
    await this.page.goto(path, { waitUntil: "networkidle" });
    return this.shows();
  }

  // Follows a link within the page, and waits for the page it leads to.
  async click(link, page) {
    await this.page.locator(`#${link}`).first().click();
    await this.on(page);
    return this.shows();
  }

  async on(page) {
    await this.page.locator("#page", { hasText: new RegExp(`^${page}$`) }).first().waitFor();
    await this.page.waitForLoadState("networkidle");
  }

  async back(page) {
    await this.page.goBack();
    await this.on(page);
    return this.shows();
  }

  async reload() {
    await this.page.reload({ waitUntil: "networkidle" });
    return this.shows();
  }

  log() {
    return this.responses.map(({ path, status, said }) => `${status} ${path}  ${said}`).join("\n");
  }

  close() {
    return this.context.close();
  }
}
