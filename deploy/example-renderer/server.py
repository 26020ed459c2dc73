#!/usr/bin/env python3
"""A page renderer to try Perennial with: takes a second for a page, and says
when it rendered it. Listens on port 3000, or on $PORT.

    /blog/NAME   a page that changes now and then  (`isr`)
    /docs/NAME   a page that changes with a deploy (`dsg`), as HTML or JSON
    /api/time    the time, for nobody to keep      (`pass`)
    /            a page of every visitor's own     (`ssr`)
    /healthz     for health checks

`server.py --check` asks a running one and exits with 0 when it is well.
"""

import html
import json
import os
import sys
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORT = int(os.environ.get("PORT", "3000"))
SECONDS = 1.0


class Renderer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        path = self.path.split("?")[0]
        now = time.strftime("%H:%M:%S")
        if path == "/healthz":
            self.answer("text/plain", "well\n", "no-store")
        elif path == "/api/time":
            self.answer("application/json", json.dumps({"time": now}), "no-store")
        elif path == "/":
            links = "".join(f'<li><a href="{p}">{p}</a>' for p in ("/blog/hello", "/docs/intro", "/api/time"))
            self.page("Home", f"<p>Rendered for you at {now}.<ul>{links}</ul>", "private")
        elif path.startswith(("/blog/", "/docs/")):
            time.sleep(SECONDS)  # rendering is work
            name = path.rsplit("/", 1)[1]
            if path.startswith("/docs/") and "application/json" in self.headers.get("Accept", ""):
                self.answer("application/json", json.dumps({"name": name, "rendered": now}), "s-maxage=60")
            else:
                self.page(name, f"<p>Rendered at {now}.", "s-maxage=60")
        else:
            self.page("Not found", "<p>There is no such page.", "s-maxage=10", status=404)

    do_HEAD = do_GET

    def page(self, title, body, cache, status=200):
        title = html.escape(title)
        text = f"<!doctype html><meta charset=utf-8><title>{title}</title><h1>{title}</h1>{body}\n"
        self.answer("text/html; charset=utf-8", text, cache, status)

    def answer(self, kind, text, cache, status=200):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", cache)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


if __name__ == "__main__":
    if "--check" in sys.argv:
        with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/healthz", timeout=2) as answer:
            sys.exit(answer.status != 200)
    with Server(("", PORT), Renderer) as server:
        print(f"rendering on port {PORT}", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            pass
