"""Tables of what was measured."""

import statistics

from cases import CASES

KEYS = ("cpu_us", "rps", "p50_us", "p99_us")


def ratio(runs, base):
    """The median of the rounds' ratios: both sides of one were measured within
    seconds, on the same machine in the same mood."""
    return statistics.median(run["cpu_us"] / other["cpu_us"] for run, other in zip(runs, base))


def table(by_server, perennials):
    """The figures of one case: medians, and ratios to nginx, to the floor and to
    the first Perennial, where those were measured."""
    bases = {"x_nginx": "nginx", "x_floor": "floor"}
    if len(perennials) > 1:
        bases["x_before"] = perennials[0]
    figures = {}
    for server, runs in by_server.items():
        row = {key: statistics.median(run[key] for run in runs) for key in KEYS}
        for key, base in bases.items():
            if base in by_server:
                row[key] = ratio(runs, by_server[base])
        figures[server] = row
    return figures


def times(row, key):
    return f"{row[key]:.2f}" if key in row else "–"


def show(case, figures):
    before = any("x_before" in row for row in figures.values())
    print(
        f"\n{case.name:<28}{'CPU/request':>12}{'× nginx':>9}{'× floor':>9}"
        + (f"{'× before':>10}" if before else "")
        + f"{'req/s':>10}{'p50':>11}{'p99':>11}"
    )
    for server, row in figures.items():
        print(
            f"  {server:<26}{row['cpu_us']:>9.1f} µs{times(row, 'x_nginx'):>9}{times(row, 'x_floor'):>9}"
            + (f"{times(row, 'x_before'):>10}" if before else "")
            + f"{row['rps']:>10.0f}{row['p50_us']:>8.0f} µs{row['p99_us']:>8.0f} µs",
            flush=True,
        )


def show_first_bytes(figures):
    """Times to the first byte: the lower quartile, which other programs on the
    machine disturb the least, and the median."""
    print(f"\n{'first byte of a new page':<28}{'a quarter by':>14}{'half by':>12}{'after a direct request':>26}")
    for server, row in figures.items():
        later = f"{row['later_us']:.0f} µs" if "later_us" in row else "–"
        print(f"  {server:<26}{row['quartile_us']:>11.0f} µs{row['median_us']:>9.0f} µs{later:>26}")


def bars(figures, perennials, all_bars):
    """Prints each bar that was measured, met or missed; returns those missed."""
    if not perennials:
        return []
    names, missed, lines = {case.id: case.name for case in CASES}, [], []
    for bar in all_bars:
        figure = figures.get(bar.id, {}).get(perennials[-1], {}).get(bar.key)
        if figure is None:
            continue
        met = figure <= bar.most
        name = names.get(bar.id, "first byte of a new page")
        beside = figures[bar.id].get("haproxy", {}).get(bar.key)
        haproxy = f", HAProxy {beside:.4g}" if beside is not None and bar.key != "x_before" else ""
        line = f"{name}: {figure:.4g}, at most {bar.most:g} {bar.unit}{haproxy}"
        lines.append(f"  {'met   ' if met else 'MISSED'}  {line}")
        if not met:
            missed.append(f"bar missed: {line}")
    if lines:
        print(f"\nbars, {perennials[-1]}")
        print("\n".join(lines), flush=True)
    return missed


def markdown(figures, perennials):
    """The table of the README: CPU a request, the last Perennial's ratios beside it."""
    names = ["floor", *perennials[-1:], "nginx", "varnish", "haproxy"]
    rows = [case for case in CASES if case.id in figures]
    columns = [name for name in names if all(name in figures[case.id] for case in rows)]
    if not rows or not columns:
        return
    print("\n| | " + " | ".join(columns) + " |")
    print("| --- |" + " --- |" * len(columns))
    for case in rows:
        cells = [case.name]
        for name in columns:
            row = figures[case.id][name]
            ratios = ""
            if name in perennials and "x_nginx" in row and "x_floor" in row:
                ratios = f" ({row['x_nginx']:.2f} × nginx, {row['x_floor']:.2f} × floor)"
            cells.append(f"{row['cpu_us']:.1f} µs{ratios}")
        print("| " + " | ".join(cells) + " |")
    if "ttfb" in figures:
        cells = [f"+{figures['ttfb'][name]['later_us']:.0f} µs" for name in columns]
        print("| first byte of a new page, after a direct request | " + " | ".join(cells) + " |")
