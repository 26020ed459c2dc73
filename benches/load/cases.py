"""What is measured, and the bars."""

from dataclasses import dataclass

SERVERS = ["floor", "perennial", "nginx", "varnish", "haproxy"]


@dataclass(frozen=True)
class Case:
    """A run of wrk."""

    id: str
    name: str
    path: str
    hit: bool = False
    # Every request asks for a new page.
    cold: bool = False


CASES = [
    Case("hit2", "hit of 2 KiB", "/pages/2/hit", hit=True),
    Case("hit16", "hit of 16 KiB", "/pages/16/hit", hit=True),
    Case("hit100", "hit of 100 KiB", "/pages/100/hit", hit=True),
    Case("pass", "pass-through of 16 KiB", "/pass/16/page"),
    Case("cold", "cold keys, 16 KiB", "/files/16/", cold=True),
    Case("text", "cold keys, 16 KiB of text", "/pages/16/", cold=True),
]

# Everything that --only may name.
IDS = [case.id for case in CASES] + ["ttfb", "idle", "crowd", "flood"]


@dataclass(frozen=True)
class Bar:
    """The most that Perennial may take."""

    id: str
    # A key of the figures of that measurement.
    key: str
    most: float
    unit: str


BARS = [
    Bar("cold", "x_nginx", 0.9, "× nginx"),
    Bar("text", "x_nginx", 1.2, "× nginx"),
    Bar("pass", "x_nginx", 1.1, "× nginx"),
    Bar("ttfb", "later_us", 150, "µs after a direct request"),
    # Where an earlier program is measured beside it. Two copies of one program
    # differ by some per cent here.
    Bar("hit2", "x_before", 1.03, "× before"),
    Bar("hit16", "x_before", 1.03, "× before"),
    Bar("hit100", "x_before", 1.03, "× before"),
]

# Seconds until the slow origin begins to answer.
RENDER = 3.0
