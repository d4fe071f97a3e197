"""Ctrl-C during a large gather: how long the process takes to exit, and what is stored.

The server responds after a tenth of a second, so calls are in progress at the interrupt.
Afterwards the SQLite file must hold a stored result for every billed call.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from benchmarks._local import MODEL, ROOT, LocalServer
from benchmarks._report import Check, Report, table
from modelmax_async import AsyncQueueClient, PollPolicy, SQLiteLedger

_LATENCY = 0.1


async def gather(url: str, file: str, jobs: int) -> None:
    """Gather results until interrupted."""
    async with AsyncQueueClient(
        api_key="sk-benchmark",
        base_url=url,
        model=MODEL,
        poll=PollPolicy(initial=0.5),
        ledger=SQLiteLedger(file),
    ) as client:
        # Half of the jobs are finished; the others never finish.
        ids = [f"{'0' if number % 2 else 'never'}-{number}" for number in range(jobs)]
        await client.gather_results(ids, timeout=None)


def interrupted(server: LocalServer, jobs: int, after: int) -> dict[str, Any]:
    """Interrupt a child process once the server has billed ``after`` calls."""
    server.reset(latency=_LATENCY)
    with tempfile.TemporaryDirectory() as directory:
        file = str(Path(directory, "runs.db"))
        command = [sys.executable, "-m", "benchmarks.interrupt", server.url, file, str(jobs)]
        child = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)  # noqa: S603 - our own module
        try:
            until = time.perf_counter() + 60
            while server.stats()["billed"] < after and time.perf_counter() < until:
                time.sleep(0.02)
            begun = time.perf_counter()
            child.send_signal(signal.SIGINT)
            code = child.wait(60)
            seconds = time.perf_counter() - begun
        finally:
            child.kill()
        with closing(sqlite3.connect(file)) as db:
            states = dict(db.execute("SELECT state, count(*) FROM entries GROUP BY state"))
    stats = server.stats()
    return {
        "jobs": jobs,
        "seconds_to_exit": seconds,
        "exit_code": code,
        "billed": stats["billed"],
        "billed_jobs": stats["billed_jobs"],
        "stored": states.get("stored", 0),
        "states": states,
    }


def run(*, quick: bool = False) -> Report:
    """Interrupt a gather at several points, each later than the one before."""
    jobs = 1_000 if quick else 10_000
    with LocalServer(900) as server:
        points = (50,) if quick else (50, 200, 800)
        rows = [interrupted(server, jobs, after) for after in points]
    text = table(
        ("jobs", "seconds to exit", "exit code", "billed", "stored", "other rows"),
        [
            (
                f"{row['jobs']:,}",
                f"{row['seconds_to_exit']:.2f}",
                str(row["exit_code"]),
                str(row["billed"]),
                str(row["stored"]),
                ", ".join(f"{k} {v}" for k, v in row["states"].items() if k != "stored"),
            )
            for row in rows
        ],
    )
    slowest = max(row["seconds_to_exit"] for row in rows)
    lost = sum(abs(row["billed"] - row["stored"]) for row in rows)
    doubled = sum(row["billed"] - row["billed_jobs"] for row in rows)
    checks = [
        Check("seconds from Ctrl-C to exit", slowest, "<=", 2.0 + _LATENCY),
        Check("billed calls without a stored result", lost, "<=", 0),
        Check("jobs billed twice", doubled, "<=", 0),
    ]
    return Report("interrupt", rows, text, checks)


def main() -> None:
    """Gather in this process until interrupted, or run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", nargs="?")
    parser.add_argument("file", nargs="?")
    parser.add_argument("jobs", nargs="?", type=int)
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    if given.url is None:
        run(quick=given.quick).show()
    else:
        asyncio.run(gather(given.url, given.file, given.jobs))


if __name__ == "__main__":
    main()
