"""The speed of one PostgreSQL ledger: moves a second, and how soon a waiter is woken.

A waiter in another process polls each job while it is running, and then not for 30 s: only
``LISTEN`` can wake it in time. The time runs from the start of the move that stores the
paid response, so that it includes the commit, to the return of `wait_for`.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import statistics
import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import asyncpg

from benchmarks._local import MODEL, ROOT, LocalServer, in_child
from benchmarks._postgres import CountingLedger
from modelmax_async import AsyncQueueClient, Job, PollPolicy, PostgresLedger
from modelmax_async.ledger import Arm, Claim, Key, Look, Remember, Store

CALLERS = 256
_ORIGIN = "https://api.example:443"
_BODY = json.dumps({"data": [{"url": "https://cdn.example/" + "x" * 400}]}).encode()
_SLOW = 30.0
#: Seconds until the jobs are done: later than their first poll.
_RUN = 6.0
#: Seconds between two stores, so that each is woken for by itself.
_APART = 0.02


def _ids(jobs: int) -> list[str]:
    return [f"{_RUN * 1000:.0f}-wake-{number}" for number in range(jobs)]


def _job(request_id: str) -> Job:
    url = f"/v1/queue/{MODEL}/requests/{request_id}"
    return Job(MODEL, request_id, f"{url}/status", url)


async def moves(dsn: str, seconds: float, callers: int) -> dict[str, Any]:
    """Take jobs through the ledger with many callers at once, and count the moves."""
    schema = f"moves_{uuid.uuid4().hex}"
    ledger = PostgresLedger(dsn, schema=schema)
    await ledger.entries(_ORIGIN, {"known"})  # makes the tables
    numbers = itertools.count()
    made = 0
    until = time.perf_counter() + seconds

    async def call() -> None:
        nonlocal made
        while time.perf_counter() < until:
            job = _job(f"job-{next(numbers)}")
            key = Key(_ORIGIN, job.request_id)
            for move in (
                Remember(job),
                Claim(job, "owner", "attempt", 10.0, acknowledged=True),
                Arm("attempt", 10.0),
                Store(job, "attempt", _BODY),
                Look(job),
            ):
                done = await ledger.apply(key, move)
                assert done is not None
                assert done.granted
                made += 1

    begun, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(call() for _ in range(callers)))
    taken, cpu = time.perf_counter() - begun, time.process_time() - cpu
    await ledger.aclose()
    jobs = next(numbers)
    return {
        "callers": callers,
        "jobs": jobs,
        "moves": made,
        "seconds": taken,
        "moves_per_second": made / taken,
        "cpu_us_per_move": cpu / made * 1e6,
        "bytes_per_job": await _size(dsn, schema) / jobs,
    }


async def _size(dsn: str, schema: str) -> int:
    """Return the bytes of the table of jobs, its indexes and its large values included."""
    connection = await asyncpg.connect(dsn)
    try:
        query = "SELECT pg_total_relation_size($1::text::regclass)"
        size: int = await connection.fetchval(query, f"{schema}.entries")
    finally:
        await connection.close()
    return size


def shared(dsn: str, seconds: float, processes: int) -> dict[str, Any]:
    """Let several processes make moves at once, and add up what they made.

    Each of them has a transaction of its own at a time, with fewer moves in it.
    """
    callers = CALLERS // processes
    arguments = (__name__, "moves", dsn, seconds, callers)
    with ThreadPoolExecutor(processes) as threads:
        found = list(threads.map(lambda _: in_child(*arguments), range(processes)))
    return {
        "processes": processes,
        "callers": callers,
        "moves": sum(row["moves"] for row in found),
        "moves_per_second": sum(row["moves_per_second"] for row in found),
    }


def _client(url: str, ledger: PostgresLedger) -> AsyncQueueClient:
    return AsyncQueueClient(
        api_key="sk-benchmark",
        base_url=url,
        model=MODEL,
        poll=PollPolicy(initial=_SLOW, maximum=_SLOW),
        ledger=ledger,
    )


async def wait(url: str, dsn: str, ids: list[str]) -> dict[str, float]:
    """Wait for jobs that another process fetches, and return when each returned."""
    returned: dict[str, float] = {}
    async with _client(url, PostgresLedger(dsn)) as client:

        async def wait_for(request_id: str) -> None:
            await client.wait_for(request_id, timeout=60)
            returned[request_id] = time.monotonic()

        waiting = [asyncio.create_task(wait_for(each)) for each in ids]
        await asyncio.sleep(_RUN / 2)  # until each is polled, and the ledger listens
        print("ready", flush=True)
        await asyncio.gather(*waiting)
    return returned


async def store(url: str, dsn: str, ids: list[str]) -> dict[str, float]:
    """Fetch the results, one after another, and return when each began to be stored."""
    ledger = CountingLedger(dsn)
    async with _client(url, ledger) as client:
        for request_id in ids:
            await client.result(request_id)
            await asyncio.sleep(_APART)
    return ledger.stores


def woken(server: LocalServer, dsn: str, jobs: int) -> dict[str, Any]:
    """Measure the time from the store in one process to the return in another."""
    server.reset()
    command = [sys.executable, "-m", __name__, "wait", server.url, dsn, str(jobs)]
    waiter = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)  # noqa: S603 - our own module
    try:
        assert waiter.stdout is not None
        assert waiter.stdout.readline() == "ready\n"
        stats = server.stats()
        polls = stats["status"]
        time.sleep(max(0.0, stats["start"] + _RUN - stats["now"]))
        stored = in_child(__name__, "store", server.url, dsn, jobs, timeout=60)
        returned = json.loads(waiter.communicate(timeout=60)[0])
    finally:
        waiter.kill()
        waiter.wait()
    times = sorted((returned[job] - stored[job]) * 1000 for job in stored)
    assert len(times) == jobs
    return {
        "jobs": jobs,
        "median_ms": statistics.median(times),
        "p99_ms": statistics.quantiles(times, n=100)[98],
        "polls_after": server.stats()["status"] - polls,
    }


def main() -> None:
    """Run one part in this process, and print JSON."""
    what, *given = sys.argv[1:]
    if what == "moves":
        found: Any = asyncio.run(moves(given[0], float(given[1]), int(given[2])))
    else:
        part = {"wait": wait, "store": store}[what]
        found = asyncio.run(part(given[0], given[1], _ids(int(given[2]))))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
