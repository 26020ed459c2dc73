"""The measurements: wrk for rates, sockets of our own for crowds."""

import re
import selectors
import socket
import statistics
import subprocess
import time

from servers import HERE, Failure

UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}


def seconds(text):
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s|m)", text).groups()
    return float(number) * UNITS[unit]


def wrk(server, path, duration, core, connections=32, script=None):
    """One run of wrk against a server: CPU a request, rate, latencies."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{duration}s", "--timeout", "10s", "--latency"]
    if core is not None:
        command = ["taskset", "-c", str(core), *command]
    if script:
        command += ["-s", str(HERE / script), server.url("/"), "--", path]
    else:
        command += [server.url(path)]
    before = server.cpu()
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=duration + 60)
    cpu = server.cpu() - before
    out = done.stdout
    if done.returncode:
        raise Failure(f"wrk: {done.stderr or out}")
    requests = int(re.search(r"(\d+) requests in", out)[1])
    errors = [line.strip() for line in out.splitlines() if "Non-2xx" in line or "Socket errors" in line]
    if not requests:
        errors.append("no answer at all")
    latency = lambda name: seconds(re.search(rf"^\s+{name}%\s+(\S+)", out, re.MULTILINE)[1])
    return {
        "requests": requests,
        "cpu_us": cpu / max(requests, 1) * 1e6,
        "rps": float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1]),
        "p50_us": latency(50) * 1e6,
        "p99_us": latency(99) * 1e6,
        "errors": errors,
    }


def complete(answer):
    """Whether status 200 and the whole body are there."""
    head, found, body = answer.partition(b"\r\n\r\n")
    if not found or not head.startswith(b"HTTP/1.1 200"):
        return False
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    if length:
        return len(body) >= int(length[1])
    return body.endswith(b"0\r\n\r\n")


class Client:
    def __init__(self, address, request):
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.request, self.got = request, b""
        try:
            self.socket.connect(address)
        except BlockingIOError:
            pass


def crowd(server, path, count, patience):
    """`count` clients who ask for one page at the same time, each on a
    connection of their own. Gives up when nothing came for `patience` seconds.
    Returns how many got all of it, seconds from the first request to the last
    answer, and the clients, still connected."""
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n\r\n".encode()
    address = ("127.0.0.1", server.port)
    clients, selector = [], selectors.DefaultSelector()
    # Connected in lots, or the listen queue drops some.
    while len(clients) < count:
        lot = [Client(address, request) for _ in range(min(500, count - len(clients)))]
        for client in lot:
            selector.register(client.socket, selectors.EVENT_WRITE, client)
        waiting = len(lot)
        deadline = time.monotonic() + 20
        while waiting:
            if time.monotonic() > deadline:
                raise Failure(f"{server.name}: {waiting} connections were not accepted")
            for key, _ in selector.select(1):
                error = key.fileobj.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if error:
                    raise Failure(f"{server.name}: connecting failed with errno {error}")
                selector.unregister(key.fileobj)
                waiting -= 1
        clients += lot
    begun = time.monotonic()
    for client in clients:
        client.socket.send(client.request)
        selector.register(client.socket, selectors.EVENT_READ, client)
    served, open_ones, last = 0, len(clients), begun
    while open_ones and time.monotonic() < last + patience:
        for key, _ in selector.select(1):
            client, last = key.data, time.monotonic()
            try:
                piece = client.socket.recv(65536)
            except OSError:
                piece = b""
            client.got += piece
            if complete(client.got):
                served += 1
            elif piece:
                continue
            selector.unregister(client.socket)
            open_ones -= 1
    took = last - begun
    selector.close()
    return served, took, clients


def leave(clients):
    for client in clients:
        client.socket.close()


def first_bytes(origin, servers, count):
    """Microseconds from a request for a new page to the first byte of the answer,
    one request at a time, each server in turn and the origin itself."""
    connections = {}
    for server in [origin, *servers]:
        client = socket.create_connection(("127.0.0.1", server.port))
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connections[server.name] = client, server.port, []
    for n in range(-20, count):
        for name, (client, port, took) in connections.items():
            path = f"/files/16/first-{n}-{time.monotonic_ns()}"
            request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
            begun = time.perf_counter_ns()
            client.sendall(request)
            piece = client.recv(65536)
            after = time.perf_counter_ns() - begun
            rest(name, client, piece)
            # The first ones warm connections up.
            if n >= 0:
                took.append(after / 1e3)
    direct = connections[origin.name][2]
    quartile = lambda took: statistics.quantiles(took, n=4)[0]
    figures = {"direct": {"quartile_us": quartile(direct), "median_us": statistics.median(direct)}}
    for server in servers:
        took = connections[server.name][2]
        figures[server.name] = {
            "quartile_us": quartile(took),
            "median_us": statistics.median(took),
            # Of what was not disturbed: whatever else the machine does only adds.
            "later_us": quartile(took) - quartile(direct),
        }
    for client, _, _ in connections.values():
        client.close()
    return figures


def rest(name, client, got):
    """Reads an answer to its end."""
    while b"\r\n\r\n" not in got or not complete(got):
        piece = client.recv(65536)
        if not piece:
            raise Failure(f"{name}: the connection closed within an answer")
        got += piece
