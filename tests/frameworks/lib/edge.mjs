// A Perennial in front of an origin, and a client that sees what it says.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import http from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { start } from "./process.mjs";

export const SECRET = "the-secret-of-these-tests";

export class Edge {
  // `lines` is the part of the configuration that a suite adds; without it the program
  // is told nothing but the origin.
  static async start({ program, port, origin, lines }) {
    const edge = new Edge();
    edge.url = `http://127.0.0.1:${port}`;
    const listen = `127.0.0.1:${port}`;
    const args = lines ? ["--config", edge.#file(listen, origin, lines)] : ["--origin", origin.url, "--listen", listen, "--admin", "off"];
    edge.process = await start(program, args, {
      env: {},
      within: 10_000,
      ready: (output) => output.includes(" is ready"),
    });
    return edge;
  }

  #file(listen, origin, lines) {
    const folder = mkdtempSync(join(tmpdir(), "perennial-edge-"));
    const file = join(folder, "perennial.yaml");
    writeFileSync(
      file,
      [
        `listen: ${listen}`,
        "admin: off",
        `origins: { web: { servers: "${origin.url}", fill_timeout: 20s } }`,
        `revalidate: { secret: ${SECRET} }`,
        "log: { format: json, access: errors }",
        ...lines,
      ].join("\n"),
    );
    this.folder = folder;
    return file;
  }

  // Tells the edge to renew something, as a CMS would.
  async webhook(query) {
    const answer = await get(`${this.url}/__revalidate?secret=${SECRET}&${query}`);
    return { status: answer.status, body: JSON.parse(answer.text) };
  }

  async stop() {
    await this.process.stop();
    if (this.folder) rmSync(this.folder, { recursive: true });
  }
}

// A plain GET: nothing is followed, kept or decoded.
export function get(url, headers = {}, method = "GET") {
  return new Promise((resolve, reject) => {
    const request = http.request(url, { method, headers, agent: false }, (response) => {
      const parts = [];
      response.on("data", (part) => parts.push(part));
      response.on("error", reject);
      response.on("end", () => {
        const { statusCode: status, headers } = response;
        const said = headers["cache-status"] ?? "";
        resolve({ status, headers, said, hit: said.startsWith("perennial; hit"), text: String(Buffer.concat(parts)) });
      });
    });
    request.setTimeout(20_000, () => request.destroy(new Error(`no answer from ${url} in 20 s`)));
    request.on("error", reject);
    request.end();
  });
}
