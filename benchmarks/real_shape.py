"""Jobs with realistic durations, on a faster clock: polls and bills per job, and the lag.

Durations are log-normal: median 75 s, sigma 0.35, at least 11 s. All intervals are scaled
down together, so the server receives ``scale`` times the load of real use. Requests
themselves are not faster, so the lags, scaled back up, are upper bounds. A contender is
stopped after twice the longest duration; results it does not have by then are missing.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import time
from typing import Any

from benchmarks._local import LocalServer, control, finish, in_background, in_child
from benchmarks._report import Check, Report, table
from benchmarks.contenders import CONTENDERS, Task
from modelmax_async import PollPolicy

MEDIAN, SIGMA, LEAST = 75.0, 0.35, 11.0
#: Seconds between two polls in the documented example.
DOCUMENTED = 5.0


def durations(jobs: int) -> list[float]:
    """Return the duration of each job in seconds, the same in every run."""
    draw = random.Random(4)  # noqa: S311 - durations, not secrets
    return [max(LEAST, draw.lognormvariate(math.log(MEDIAN), SIGMA)) for _ in range(jobs)]


def shape(name: str, url: str, jobs: int, scale: float) -> dict[str, Any]:
    """Wait for all jobs with one contender, and return the measurements."""
    seconds = durations(jobs)
    ids = [f"{each / scale * 1000:.0f}-{number}" for number, each in enumerate(seconds)]
    poll = PollPolicy(initial=1.0 / scale, maximum=10.0 / scale)
    arrived: dict[str, float] = {}
    task = Task(
        url,
        ids,
        DOCUMENTED / scale,
        poll,
        lambda request_id: arrived.setdefault(request_id, time.monotonic()),
    )
    start = control(url, "/_reset")["start"]
    cpu = time.process_time()
    in_background(CONTENDERS[name](task)).join(2 * max(seconds) / scale)
    cpu = time.process_time() - cpu
    stats = control(url, "/_stats")
    lags = [
        (at - start - int(request_id.partition("-")[0]) / 1000) * scale
        for request_id, at in arrived.copy().items()
    ]
    return {
        "contender": name,
        "jobs": jobs,
        "scale": scale,
        "missing": jobs - len(arrived),
        "polls_per_job": stats["status"] / jobs,
        "billed_per_job": stats["billed"] / jobs,
        "billed_twice": stats["billed"] - stats["billed_jobs"],
        "mean_lag_s": statistics.fmean(lags) if lags else None,
        "p99_lag_s": statistics.quantiles(lags, n=100)[98] if len(lags) > 1 else None,
        "cpu_s": cpu,
        "errors": dict(task.errors),
    }


def run(*, quick: bool = False) -> Report:
    """Run each contender in turn on the same jobs."""
    jobs, scale = (200, 25.0) if quick else (2_000, 5.0)
    with LocalServer(3600) as server:
        rows = [
            in_child("benchmarks.real_shape", name, server.url, jobs, scale)
            for name in CONTENDERS
        ]
    return Report("real shape", rows, _text(rows), _checks(rows))


def _text(rows: list[dict[str, Any]]) -> str:
    def seconds(value: float | None) -> str:
        return "-" if value is None else f"{value:.1f}"

    head = (
        "contender",
        "missing",
        "polls/job",
        "billed/job",
        "mean lag, s",
        "p99 lag, s",
        "CPU s",
        "errors",
    )
    return table(
        head,
        [
            (
                row["contender"],
                f"{row['missing']:,} of {row['jobs']:,}",
                f"{row['polls_per_job']:.1f}",
                f"{row['billed_per_job']:.3f}",
                seconds(row["mean_lag_s"]),
                seconds(row["p99_lag_s"]),
                f"{row['cpu_s']:.1f}",
                ", ".join(f"{k} {v}" for k, v in row["errors"].items()) or "-",
            )
            for row in rows
        ],
    )


def _checks(rows: list[dict[str, Any]]) -> list[Check]:
    mine = [row for row in rows if row["contender"].startswith("ours")]
    return [
        Check("missing results, ours", sum(r["missing"] for r in mine), "<=", 0),
        Check("billed calls per job, ours", max(r["billed_per_job"] for r in mine), "<=", 1),
        Check("errors, ours", sum(sum(r["errors"].values()) for r in mine), "<=", 0),
    ]


def main() -> None:
    """Run one contender and print JSON, or run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", nargs="?")
    parser.add_argument("url", nargs="?")
    parser.add_argument("jobs", nargs="?", type=int)
    parser.add_argument("scale", nargs="?", type=float)
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    if given.name is None:
        run(quick=given.quick).show()
    else:
        finish(shape(given.name, given.url, given.jobs, given.scale))


if __name__ == "__main__":
    main()
