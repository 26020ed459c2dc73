// An older site, behind Next: as Express sends its pages, with an entity tag and not a
// word of a lifetime.

import { createHash } from "node:crypto";
import http from "node:http";

const server = http.createServer((request, response) => {
  const url = new URL(request.url, "http://legacy");
  const name = /(?:^|; )visitor=([^;]*)/.exec(request.headers.cookie ?? "")?.[1] ?? "nobody";
  const body = `<!doctype html><title>legacy</title><h1 id="page">legacy ${url.pathname}</h1>
    <p>looks for ${url.searchParams.get("q") ?? "nothing"} for ${name}</p>
    <a id="to-home" href="/">home</a>`;
  const etag = `W/"${createHash("sha1").update(body).digest("base64")}"`;
  response.setHeader("ETag", etag);
  if (request.headers["if-none-match"] === etag) return response.writeHead(304).end();
  response.writeHead(200, { "Content-Type": "text/html; charset=utf-8" }).end(body);
});
server.listen(Number(process.env.PORT), "127.0.0.1", () => console.log("legacy is listening"));
