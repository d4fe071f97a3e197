"""Poll N waiting jobs as often as possible: polls per second, CPU per poll, errors.

Each cell runs in a new process. It warms up until every job has been polled once, for ten
seconds at most. Then the server counts polls, and the client's process measures its CPU.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

from benchmarks._local import LocalServer, control, finish, in_background, in_child
from benchmarks._report import Check, Report, table
from benchmarks.contenders import CONTENDERS, Task
from modelmax_async import PollPolicy

SIZES = (10, 100, 1_000, 10_000)
_WARM_UP = 10.0
_SOON = 1e-6


def _snapshot(url: str) -> tuple[int, float, float]:
    polls = control(url, "/_stats")["status"]
    return polls, time.process_time(), time.perf_counter()


def cell(name: str, url: str, jobs: int, seconds: float) -> dict[str, Any]:
    """Measure one contender with this many waiting jobs."""
    control(url, "/_reset")
    poll = PollPolicy(initial=_SOON, factor=1.0, maximum=_SOON)
    ids = [f"never-{number}" for number in range(jobs)]
    task = Task(url, ids, 0.0, poll, lambda _: None)
    running = in_background(CONTENDERS[name](task))
    begun = time.perf_counter()
    while time.perf_counter() - begun < _WARM_UP:
        time.sleep(0.5)
        if control(url, "/_stats")["status"] >= jobs:
            break
    polls, cpu, clock = _snapshot(url)
    time.sleep(seconds)
    polls_after, cpu_after, clock_after = _snapshot(url)
    assert running.is_alive(), "the contender stopped early"
    made = polls_after - polls
    return {
        "contender": name,
        "jobs": jobs,
        "polls_per_second": made / (clock_after - clock),
        "cpu_us_per_poll": (cpu_after - cpu) / made * 1e6 if made else None,
        "errors": dict(task.errors),
    }


def run(*, quick: bool = False) -> Report:
    """Run every cell, with the contenders in turns, and check the medians."""
    sizes = (10, 1_000) if quick else SIZES
    rounds, seconds = (1, 1.5) if quick else (3, 3.0)
    cells: dict[tuple[int, str], list[dict[str, Any]]] = {}
    with LocalServer(3600) as server:
        for _ in range(rounds):
            for jobs in sizes:
                for name in CONTENDERS:
                    cell_ = in_child("benchmarks.saturation", name, server.url, jobs, seconds)
                    cells.setdefault((jobs, name), []).append(cell_)
    rows = [_median(found) for found in cells.values()]
    return Report("saturation", rows, _text(rows), _checks(rows, max(sizes)))


def _median(found: list[dict[str, Any]]) -> dict[str, Any]:
    errors: dict[str, int] = {}
    for each in found:
        for kind, count in each["errors"].items():
            errors[kind] = errors.get(kind, 0) + count
    rates = [each["polls_per_second"] for each in found]
    costs = [each["cpu_us_per_poll"] for each in found if each["cpu_us_per_poll"] is not None]
    middle = {
        "polls_per_second": statistics.median(rates),
        "cpu_us_per_poll": statistics.median(costs) if costs else None,
    }
    return {**found[0], **middle, "errors": errors, "rounds": len(found)}


def _text(rows: list[dict[str, Any]]) -> str:
    base: dict[int, float] = {}
    for row in rows:
        if row["contender"].startswith("documented"):
            base[row["jobs"]] = max(base.get(row["jobs"], 0), row["polls_per_second"])

    def times(row: dict[str, Any]) -> str:
        slow = base[row["jobs"]]
        return f"{row['polls_per_second'] / slow:.1f}" if slow else "-"

    return table(
        ("waiting", "contender", "polls/s", "x documented", "CPU us/poll", "errors"),
        [
            (
                f"{row['jobs']:,}",
                row["contender"],
                f"{row['polls_per_second']:,.0f}",
                times(row),
                "-" if row["cpu_us_per_poll"] is None else f"{row['cpu_us_per_poll']:,.0f}",
                ", ".join(f"{k} {v}" for k, v in row["errors"].items()) or "-",
            )
            for row in rows
        ],
    )


def _checks(rows: list[dict[str, Any]], most: int) -> list[Check]:
    found = {(row["jobs"], row["contender"]): row for row in rows}
    speed = {key: row["polls_per_second"] for key, row in found.items()}
    cpu = {key: row["cpu_us_per_poll"] for key, row in found.items()}
    # The documented loop may not complete a single poll; then the one without timeouts counts.
    # If that one completes none either, it counts as one poll per second.
    documented = [name for name in CONTENDERS if name.startswith("documented")]
    plain = max(speed[1_000, name] for name in documented) or 1.0
    mine = [row for row in rows if row["contender"].startswith("ours")]
    timeouts = sum(row["errors"].get("PoolTimeout", 0) for row in mine)
    fast = speed[1_000, "ours, aiohttp extra"]
    return [
        Check(
            f"CPU per poll at {most:,} / at 10: {name}",
            cpu[most, name] / cpu[10, name],
            "<=",
            1.3,
        )
        for name in CONTENDERS
        if name.startswith("ours")
    ] + [
        Check("PoolTimeout errors, ours", timeouts, "<=", 0),
        Check(
            "polls/s at 1,000: ours / documented loop", speed[1_000, "ours"] / plain, ">=", 8
        ),
        Check("polls/s at 1,000: aiohttp extra / documented loop", fast / plain, ">=", 25),
        Check(
            "polls/s at 1,000: aiohttp extra / aiohttp by hand",
            fast / speed[1_000, "aiohttp by hand"],
            ">=",
            0.5,
        ),
    ]


def main() -> None:
    """Measure one cell in this process and print JSON, or run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", nargs="?")
    parser.add_argument("url", nargs="?")
    parser.add_argument("jobs", nargs="?", type=int)
    parser.add_argument("seconds", nargs="?", type=float)
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    if given.name is None:
        run(quick=given.quick).show()
    else:
        finish(cell(given.name, given.url, given.jobs, given.seconds))


if __name__ == "__main__":
    main()
