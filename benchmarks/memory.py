"""The cost of a waiting job: memory and tasks, with 100,000 jobs in one client.

One child process measures its resident set, another uses `tracemalloc`. Each measures twice:
once while it waits for all jobs, and again after each job has been polled once, when the
client also holds its last status. The caller's list of ids is not counted.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import tracemalloc
from typing import Any

import httpx_aiohttp

from benchmarks._local import MODEL, LocalServer, control, in_child
from benchmarks._report import Check, Report, table
from benchmarks._resident import resident
from modelmax_async import AsyncQueueClient, PollPolicy, PostgresLedger

_WARM = 200


def _measure() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0] if tracemalloc.is_tracing() else resident()


async def _settled(url: str, polls: int, seconds: float) -> None:
    """Wait until the server has counted this many polls."""
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while control(url, "/_stats")["status"] < polls:
        assert loop.time() < until, "the jobs were not polled in time"
        await asyncio.sleep(0.5)
    await asyncio.sleep(0.5)


async def measure(url: str, jobs: int, dsn: str | None = None) -> dict[str, Any]:
    """Measure the memory of a client before and while it waits for this many jobs.

    It has a `PostgresLedger` if there is a DSN, else a `MemoryLedger`.
    """
    # The second poll is due after an hour. The aiohttp transport only saves time here.
    poll = PollPolicy(initial=3600.0, maximum=3600.0)
    async with (
        httpx_aiohttp.AiohttpTransport() as transport,
        AsyncQueueClient(
            api_key="sk-benchmark",
            base_url=url,
            model=MODEL,
            poll=poll,
            http_client=transport,
            ledger=None if dsn is None else PostgresLedger(dsn),
        ) as client,
    ):
        warm = [asyncio.create_task(client.wait_for(f"never-w{n}")) for n in range(_WARM)]
        await _settled(url, _WARM, 60)
        ids = [f"never-{number}" for number in range(jobs)]
        tasks, before = len(asyncio.all_tasks()), _measure()
        batch = asyncio.create_task(client.gather_results(ids, timeout=None))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        waiting = _measure()
        for request_id in ids:
            client.notify(request_id)
        await _settled(url, _WARM + jobs, 240)
        polled, tasks_after = _measure(), len(asyncio.all_tasks())
        for task in (batch, *warm):
            task.cancel()
        await asyncio.wait([batch, *warm])
    return {
        "jobs": jobs,
        "measure": "tracemalloc" if tracemalloc.is_tracing() else "resident set",
        "bytes_per_job_waiting": (waiting - before) / jobs,
        "bytes_per_job_polled": (polled - before) / jobs,
        "tasks": tasks_after - tasks,
    }


def run(*, quick: bool = False) -> Report:
    """Measure in both ways, one child process after the other."""
    jobs = 10_000 if quick else 100_000
    rows = []
    with LocalServer(1200) as server:
        for how in ("--resident", "--traced"):
            server.reset()
            rows.append(in_child("benchmarks.memory", how, server.url, jobs, timeout=400))
    text = table(
        ("measure", "jobs", "bytes/job waiting", "bytes/job polled once", "tasks"),
        [
            (
                row["measure"],
                f"{row['jobs']:,}",
                f"{row['bytes_per_job_waiting']:,.0f}",
                f"{row['bytes_per_job_polled']:,.0f}",
                str(row["tasks"]),
            )
            for row in rows
        ],
    )
    checks = [
        Check(f"bytes per job, {row['measure']}", row["bytes_per_job_polled"], "<=", 4096)
        for row in rows
    ]
    tasks = max(row["tasks"] for row in rows)
    # One task for the gather itself, none for a job.
    checks.append(Check(f"tasks for {jobs:,} waiting jobs", tasks, "<=", 1))
    return Report("memory", rows, text, checks)


def main() -> None:
    """Measure in this process and print JSON, or run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", nargs="?")
    parser.add_argument("jobs", nargs="?", type=int)
    parser.add_argument("--dsn")
    parser.add_argument("--traced", action="store_true")
    parser.add_argument("--resident", action="store_true")
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    if given.url is None:
        run(quick=given.quick).show()
        return
    if given.traced:
        tracemalloc.start()
    print(json.dumps(asyncio.run(measure(given.url, given.jobs, given.dsn))))


if __name__ == "__main__":
    main()
