"""Starts and stops what is measured, each on its own port and on one core."""

import os
import pathlib
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TICKS = os.sysconf("SC_CLK_TCK")

# Program, and the Debian package that has it.
PROGRAMS = {
    "nginx": "nginx",
    "varnishd": "varnish",
    "haproxy": "haproxy",
    "wrk": "wrk",
    "cc": "gcc",
    "taskset": "util-linux",
}


class Failure(Exception):
    """The benchmark cannot go on, or its result is wrong."""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def which(program):
    return shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def get(url, timeout=30):
    with urllib.request.urlopen(url, timeout=timeout) as answer:
        return answer.read(), answer.headers


class Server:
    """A process with a template for its configuration."""

    def __init__(self, name, program, template, arguments, core, values):
        self.name, self.core = name, core
        self.port = free_port()
        self.dir = pathlib.Path(values["DIR"]) / f"{name.replace(' ', '-')}-{self.port}"
        self.dir.mkdir()
        values = {**values, "DIR": str(self.dir), "PORT": self.port}
        fill = lambda text: re.sub(r"@([A-Z]+)@", lambda m: str(values[m[1]]), text)
        if template:
            self.config = self.dir / template
            self.config.write_text(fill((HERE / template).read_text()))
            values["CONFIG"] = self.config
        self.command = [which(str(program)) or str(program), *map(fill, arguments)]
        if core is not None:
            self.command = ["taskset", "-c", str(core), *self.command]
        self.process = None

    def start(self, probe, seconds=20):
        """Starts it and waits until `probe` answers 200."""
        self.log = self.dir / "output.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.dir
            )
        url, deadline = self.url(probe), time.monotonic() + seconds
        while True:
            try:
                get(url)
                return self
            except (OSError, urllib.error.URLError) as error:
                code = self.process.poll()
                if code is not None or time.monotonic() > deadline:
                    tail = self.log.read_text(errors="replace")[-2000:]
                    why = f"exited with {code}" if code is not None else f"does not answer: {error}"
                    self.stop()
                    raise Failure(f"{self.name} {why}\n{' '.join(self.command)}\n{tail}") from None
                time.sleep(0.05)

    def url(self, path):
        return f"http://127.0.0.1:{self.port}{path}"

    def pids(self):
        """The process and its descendants (nginx and Varnish have a master)."""
        found, queue = [], [self.process.pid]
        while queue:
            pid = queue.pop()
            found.append(pid)
            for task in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
                try:
                    queue += map(int, task.read_text().split())
                except OSError:
                    pass
        return found

    def cpu(self):
        """Seconds of CPU so far: utime + stime of every process."""
        ticks = 0
        for pid in self.pids():
            try:
                after_name = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2]
            except OSError:
                continue
            fields = after_name.split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / TICKS

    def memory(self, field="VmRSS"):
        """KiB of memory: `VmRSS`, or `VmHWM` for the most there ever was."""
        total = 0
        for pid in self.pids():
            try:
                status = pathlib.Path(f"/proc/{pid}/status").read_text()
            except OSError:
                continue
            total += int(re.search(rf"^{field}:\s+(\d+) kB", status, re.MULTILINE)[1])
        return total

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def missing_packages(needed):
    return sorted({PROGRAMS[p] for p in needed if p in PROGRAMS and not which(p)})


def perennial_binary(given):
    """The release binary, built where none is given."""
    if given:
        return pathlib.Path(given).resolve()
    print("building the release binary …", flush=True)
    subprocess.run(["cargo", "build", "--release", "--quiet"], cwd=ROOT, check=True)
    target = os.environ.get("CARGO_TARGET_DIR") or ROOT / "target"
    return (ROOT / target / "release" / "perennial").resolve()


def floor(core, values):
    """The bare loop, compiled for this run. It is told what the origin says to a hit."""
    program = pathlib.Path(values["DIR"]) / "floor"
    if not program.exists():
        source = str(HERE / "floor.c")
        built = subprocess.run(
            ["cc", "-O2", "-Wall", "-Werror", "-o", str(program), source], capture_output=True, text=True
        )
        if built.returncode:
            raise Failure(f"floor.c: {built.stderr}")
    return Server("floor", program, None, ["@PORT@", "@ORIGIN@"], core, values)


def proxies(names, core, values, perennials):
    """The servers to compare, not started yet."""

    def perennial(name):
        own = {**values, "ADMIN": free_port()}
        return Server(name, perennials[name], "perennial.yaml", ["--config", "@CONFIG@"], core, own)

    make = {
        "floor": lambda: floor(core, values),
        "nginx": lambda: Server(
            "nginx", "nginx", "nginx.conf", ["-c", "@CONFIG@", "-e", "@DIR@/start.log"], core, values
        ),
        "varnish": lambda: Server(
            "varnish",
            "varnishd",
            "varnish.vcl",
            # One pool of threads; Varnish needs one for each busy connection,
            # and one more for each that waits for a page. Its log in memory has
            # no reader here: as the others log nothing, it leaves out the most of
            # it, which saves it a tenth.
            "-F -j none -n @DIR@/work -a 127.0.0.1:@PORT@,HTTP -f @CONFIG@ -s malloc,512m"
            " -p thread_pools=1 -p thread_pool_min=100 -p thread_pool_max=12000"
            " -p thread_pool_stack=64k -p listen_depth=16384 -p timeout_idle=300"
            " -p workspace_client=32k"
            " -p vsl_mask=-ReqHeader,-RespHeader,-BereqHeader,-BerespHeader,-Timestamp"
            ",-VCL_call,-VCL_return".split(),
            core,
            values,
        ),
        "haproxy": lambda: Server(
            "haproxy", "haproxy", "haproxy.cfg", ["-db", "-q", "-f", "@CONFIG@"], core, values
        ),
    }
    return [perennial(name) if name in perennials else make[name]() for name in names]
