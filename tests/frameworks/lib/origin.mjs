// What stands between Perennial and the site: it counts what the site is asked
// for, and can go away, or turn to another build, in the middle of a test.

import http from "node:http";

export class Origin {
  // `target` is the port of the site, `at` its own.
  static async start(target, at = 0) {
    const origin = new Origin();
    origin.target = target;
    origin.requests = [];
    origin.busy = 0; // requests that are not answered yet
    origin.server = http.createServer((request, response) => origin.#pass(request, response));
    origin.server.keepAliveTimeout = 60_000;
    await new Promise((resolve) => origin.server.listen(at, "127.0.0.1", resolve));
    origin.port = origin.server.address().port;
    origin.url = `http://127.0.0.1:${origin.port}`;
    return origin;
  }

  // How often a path was asked for, whatever its query, and as what (`rsc` or not).
  count(path, { rsc = false } = {}) {
    const same = (r) => r.url.split("?")[0] === path && Boolean(r.headers.rsc) === rsc;
    return this.requests.filter(same).length;
  }

  // From now on nobody is there.
  stop() {
    this.away = true;
    this.server.closeAllConnections();
    return new Promise((resolve) => this.server.close(resolve));
  }

  #pass(request, response) {
    if (this.away) return request.destroy();
    const { method, url, headers } = request;
    this.requests.push({ method, url, headers });
    const options = { host: "127.0.0.1", port: this.target, method, path: url, headers };
    const onward = http.request(options, (answer) => {
      response.writeHead(answer.statusCode, answer.rawHeaders);
      answer.pipe(response);
      answer.on("error", () => response.destroy());
    });
    this.busy += 1;
    onward.on("error", () => response.destroy());
    response.on("close", () => {
      this.busy -= 1;
      onward.destroy();
    });
    request.pipe(onward);
  }
}
