// The cache that nobody should run: it keeps whatever was answered to a GET, and
// gives it to everybody. As a control it stands where Perennial does.

import http from "node:http";

export class Careless {
  static async start({ port, origin }) {
    const careless = new Careless();
    careless.origin = origin;
    careless.kept = new Map();
    careless.server = http.createServer((request, response) => careless.#answer(request, response));
    await new Promise((resolve) => careless.server.listen(port, "127.0.0.1", resolve));
    return careless;
  }

  webhook() {
    return Promise.reject(new Error("there is no webhook"));
  }

  stop() {
    this.server.closeAllConnections();
    return new Promise((resolve) => this.server.close(resolve));
  }

  #answer(request, response) {
    const { method, url, headers } = request;
    const key = [url, headers.rsc, headers["next-router-prefetch"]].join(" ");
    const kept = method === "GET" && this.kept.get(key);
    if (kept) {
      response.writeHead(kept.status, [...kept.headers, "cache-status", "perennial; hit"]);
      response.end(kept.body);
      return;
    }
    const onward = http.request(this.origin.url + url, { method, headers }, (answer) => {
      const parts = [];
      answer.on("data", (part) => parts.push(part));
      answer.on("error", () => response.destroy());
      answer.on("end", () => {
        const body = Buffer.concat(parts);
        const plain = pairs(answer.rawHeaders).filter(([name]) => !/^(transfer-encoding|connection|keep-alive)$/i.test(name)).flat();
        if (method === "GET" && answer.statusCode === 200) this.kept.set(key, { status: 200, headers: plain, body });
        response.writeHead(answer.statusCode, plain);
        response.end(body);
      });
    });
    onward.on("error", () => response.destroy());
    request.pipe(onward);
  }
}

const pairs = (raw) => Array.from({ length: raw.length / 2 }, (_, n) => raw.slice(2 * n, 2 * n + 2));
