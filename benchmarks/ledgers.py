"""Gather finished jobs with a `SQLiteLedger` and with a `MemoryLedger`, in turns.

The server checks that each job is billed once and that calls in flight stay within
`max_in_flight`. The ledger file is in the system's temporary directory, so its disk is the one
that is synced.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks._local import MODEL, LocalServer, control, in_child
from benchmarks._report import Check, Report, table
from modelmax_async import (
    AsyncQueueClient,
    MemoryLedger,
    PollPolicy,
    PostgresLedger,
    SQLiteLedger,
)
from modelmax_async.ledger import Ledger

_MAX_IN_FLIGHT = 32


async def gather(
    which: str, url: str, jobs: int, dsn: str = "", schema: str = ""
) -> dict[str, Any]:
    """Gather the results of this many finished jobs, and return the measurements."""
    control(url, "/_reset")
    ids = [f"0-{number}" for number in range(jobs)]
    with tempfile.TemporaryDirectory() as directory:
        ledger: Ledger = MemoryLedger()
        if which == "SQLiteLedger":
            ledger = SQLiteLedger(Path(directory, "runs.db"))
        elif which == "PostgresLedger":
            ledger = PostgresLedger(dsn, schema=schema)
        async with AsyncQueueClient(
            api_key="sk-benchmark",
            base_url=url,
            model=MODEL,
            poll=PollPolicy(initial=1e-3, maximum=1e-3),  # effectively no first delay
            ledger=ledger,
            max_in_flight=_MAX_IN_FLIGHT,
        ) as client:
            begun, cpu = time.perf_counter(), time.process_time()
            results = await client.gather_results(ids, timeout=None)
            seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
    assert [result.request_id for result in results] == ids
    stats = control(url, "/_stats")
    return {"ledger": which, "jobs": jobs, "seconds": seconds, "cpu_s": cpu, **stats}


def run(*, quick: bool = False) -> Report:
    """Gather in turns, each in a new process, and compare."""
    jobs = 1_000 if quick else 10_000
    turns = ("MemoryLedger", "SQLiteLedger") * (1 if quick else 3)
    with LocalServer(1800) as server:
        rows = [in_child("benchmarks.ledgers", each, server.url, jobs) for each in turns]
    text = table(
        ("ledger", "jobs", "seconds", "CPU s", "billed", "billed jobs", "most in flight"),
        [
            (
                row["ledger"],
                f"{row['jobs']:,}",
                f"{row['seconds']:.2f}",
                f"{row['cpu_s']:.2f}",
                f"{row['billed']:,}",
                f"{row['billed_jobs']:,}",
                str(row["most_in_flight"]),
            )
            for row in rows
        ],
    )
    middle = {
        name: statistics.median(row["seconds"] for row in rows if row["ledger"] == name)
        for name in ("MemoryLedger", "SQLiteLedger")
    }
    wrong = sum(abs(row["billed"] - jobs) + abs(row["billed_jobs"] - jobs) for row in rows)
    most = max(row["most_in_flight"] for row in rows)
    checks = [
        Check("SQLite / memory", middle["SQLiteLedger"] / middle["MemoryLedger"], "<=", 3),
        Check(f"missing or extra bills, of {jobs:,}", wrong, "<=", 0),
        Check("calls in flight at once", most, "<=", _MAX_IN_FLIGHT),
    ]
    return Report("ledgers", rows, text, checks)


def main() -> None:
    """Gather in this process and print JSON, or run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ledger", nargs="?")
    parser.add_argument("url", nargs="?")
    parser.add_argument("jobs", nargs="?", type=int)
    parser.add_argument("dsn", nargs="?", default="")
    parser.add_argument("schema", nargs="?", default="")
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    if given.ledger is None:
        run(quick=given.quick).show()
    else:
        where = (given.url, given.jobs, given.dsn, given.schema)
        print(json.dumps(asyncio.run(gather(given.ledger, *where))))


if __name__ == "__main__":
    main()
