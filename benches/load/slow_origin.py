#!/usr/bin/env python3
"""The renderer of the benchmark: takes its time for a page, sends it in two
halves, and counts. Any path below /slow/ is a page; /requests says how many
were asked for.

usage: slow_origin.py PORT SECONDS
"""

import asyncio
import resource
import sys

PAGE = bytes(range(32, 127)) * 173
PAGE = PAGE[: 16 * 1024]
HEAD = (
    "HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nCache-Control: s-maxage=3600\r\n"
    f"Content-Length: {len(PAGE)}\r\n\r\n"
).encode()

requests = 0


async def serve(reader, writer, seconds):
    global requests
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            if head.startswith(b"GET /requests "):
                body = str(requests).encode()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
                continue
            requests += 1
            await asyncio.sleep(seconds)
            writer.write(HEAD + PAGE[: len(PAGE) // 2])
            await asyncio.sleep(0.2)
            writer.write(PAGE[len(PAGE) // 2 :])
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def main(port, seconds):
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    server = await asyncio.start_server(lambda r, w: serve(r, w, seconds), "127.0.0.1", port, backlog=16384)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    try:
        asyncio.run(main(int(sys.argv[1]), float(sys.argv[2])))
    except KeyboardInterrupt:
        pass
