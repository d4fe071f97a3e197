"""Many worker processes over one PostgreSQL ledger, killed again and again.

Each job is delivered three times in random order, as a task queue may. Workers are killed with
SIGKILL at random moments and replaced; the database is killed once and started again. In the
end each job must have one bill and a stored result, or be listed as uncertain, because its
worker was killed after the first byte of the billed call was sent.

The same benchmark compares the ledgers in one process, and measures how many moves a second one
PostgreSQL makes, and how soon a result that one process stores reaches a waiter in another.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any

from benchmarks import fleet_speed
from benchmarks._local import MODEL, LocalServer, in_child
from benchmarks._postgres import Server, postgres
from benchmarks._report import Check, Report, table
from benchmarks.fleet_dealer import Dealer
from modelmax_async import AsyncQueueClient, PostgresLedger

_LATENCY = 0.02
_DELIVERIES = 3
#: Seconds after which a fleet that is not done has failed.
_LIMIT = 600.0
_LEDGERS = ("MemoryLedger", "SQLiteLedger", "PostgresLedger")
#: The processes that make moves at once, for the second of the two figures.
_PROCESSES = 4
#: The most names of uncertain jobs in the text; the JSON has all of them.
_NAMES = 10


async def survive(
    server: LocalServer, database: Server, *, workers: int, jobs: int, kills: int
) -> dict[str, Any]:
    """Run all deliveries through the kills, and compare the ledger with the server's books."""
    chance = random.Random(workers)  # noqa: S311 - not a secret
    ids = [f"{chance.randrange(jobs)}-{workers}-{number}" for number in range(jobs)]
    deliveries = ids * _DELIVERIES
    chance.shuffle(deliveries)
    server.reset(latency=_LATENCY)
    command = ("benchmarks.fleet_worker", server.url, database.dsn)
    dealer = Dealer(command, workers, deliveries)

    async def kill_worker() -> None:
        await asyncio.sleep(chance.uniform(0, 0.1))
        await dealer.kill_one(chance)

    async def kill_database() -> None:
        await asyncio.to_thread(database.kill)
        await asyncio.to_thread(database.start)

    moments = sorted(chance.sample(range(jobs // 10, len(deliveries) * 9 // 10), kills + 1))
    strikes: dict[int, Callable[[], Awaitable[None]]] = dict.fromkeys(moments, kill_worker)
    strikes[moments[len(moments) // 2]] = kill_database
    begun = time.perf_counter()
    async with asyncio.timeout(_LIMIT):
        await dealer.run(strikes)
    seconds = time.perf_counter() - begun
    return {
        "workers": workers,
        "jobs": jobs,
        "kills": kills,
        "dealt_again": dealer.again,
        "seconds": seconds,
        "moves": dealer.moves,
        "moves_per_second": dealer.moves / seconds,
        "ends": dict(dealer.ends),
        "two_ends": sum(len(ends) > 1 for ends in dealer.by_job.values()),
        **await _audit(server, database.dsn, ids),
    }


async def _audit(server: LocalServer, dsn: str, ids: list[str]) -> dict[str, Any]:
    """Read every result from the ledger, and count what does not match the bills."""
    wanted, bills = set(ids), server.bills()
    async with AsyncQueueClient(
        api_key="sk-benchmark", base_url=server.url, model=MODEL, ledger=PostgresLedger(dsn)
    ) as client:
        stored = {job.request_id for job in await client.stored()} & wanted
        uncertain = {entry.job.request_id for entry in await client.unresolved()} & wanted
        results = await client.gather_results(sorted(stored), timeout=60)
    read = {result.request_id for result in results}
    twice = sorted(job for job, count in bills.items() if count > 1)
    assert not twice, f"billed twice: {twice}"
    assert wanted == read | uncertain, f"neither: {sorted(wanted - read - uncertain)}"
    assert server.bills() == bills, "reading stored results was billed"
    return {
        "bills": sum(bills.values()),
        "billed_twice": twice,
        "results": len(read),
        "uncertain": sorted(uncertain),
        "neither": sorted(wanted - read - uncertain),
        "both": sorted(read & uncertain),
        "not_billed": sorted(job for job in read if bills.get(job, 0) != 1),
        "unknown_bills": sorted(set(bills) - read - uncertain),
    }


def _compared(server: LocalServer, dsn: str, *, quick: bool) -> list[dict[str, Any]]:
    """Gather finished jobs with each ledger in turns, each time in a new process."""
    jobs, rounds = (1_000, 1) if quick else (10_000, 3)
    return [
        in_child("benchmarks.ledgers", name, server.url, jobs, dsn, f"gather_{turn}")
        for turn in range(rounds)
        for name in _LEDGERS
    ]


def run(*, quick: bool = False) -> Report:
    """Run every fleet, then the comparisons, and check the server's books."""
    size = {"jobs": 300, "kills": 4} if quick else {"jobs": 5_000, "kills": 12}
    rows = []
    for workers in (1, 2, 4) if quick else (1, 2, 4, 8):
        with LocalServer(900) as server, postgres() as database:
            rows.append(asyncio.run(survive(server, database, workers=workers, **size)))
    with LocalServer(3600) as server, postgres() as database:
        gathered = _compared(server, database.dsn, quick=quick)
        rates = [
            in_child("benchmarks.fleet_speed", "moves", database.dsn, 3, fleet_speed.CALLERS)
            for _ in range(1 if quick else 5)
        ]
        several = fleet_speed.shared(database.dsn, 3, _PROCESSES)
        woken = fleet_speed.woken(server, database.dsn, 50 if quick else 200)
    rate = sorted(rates, key=lambda row: row["moves_per_second"])[len(rates) // 2]
    text = "\n\n".join((_fleets(rows), _times(gathered), _speeds(rate, several, woken)))
    checks = _money(rows) + _speed_checks(gathered, rate, woken)
    return Report("fleet", [*rows, *gathered, *rates, several, woken], text, checks)


def _fleets(rows: list[dict[str, Any]]) -> str:
    text = table(
        ("workers", "jobs", "kills", "bills", "results", "uncertain", "seconds", "moves/s"),
        [
            (
                str(row["workers"]),
                f"{row['jobs']:,}",
                f"{row['kills']} + database",
                f"{row['bills']:,}",
                f"{row['results']:,}",
                str(len(row["uncertain"])),
                f"{row['seconds']:.1f}",
                f"{row['moves_per_second']:,.0f}",
            )
            for row in rows
        ],
    )
    for row in rows:
        names = row["uncertain"]
        if names:
            more = f" and {len(names) - _NAMES} more" if len(names) > _NAMES else ""
            text += f"\nuncertain with {row['workers']}: {', '.join(names[:_NAMES])}{more}"
    return text


def _middle(gathered: list[dict[str, Any]], name: str, what: str = "seconds") -> float:
    figures: list[float] = [row[what] for row in gathered if row["ledger"] == name]
    return statistics.median(figures)


def _times(gathered: list[dict[str, Any]]) -> str:
    return table(
        ("ledger", "jobs", "seconds", "CPU ms/job"),
        [
            (
                name,
                f"{gathered[0]['jobs']:,}",
                f"{_middle(gathered, name):.2f}",
                f"{_middle(gathered, name, 'cpu_s') / gathered[0]['jobs'] * 1000:.2f}",
            )
            for name in _LEDGERS
        ],
    )


def _speeds(rate: dict[str, Any], several: dict[str, Any], woken: dict[str, Any]) -> str:
    return table(
        ("what", "measured"),
        [
            ("moves/s, 256 callers in one process", f"{rate['moves_per_second']:,.0f}"),
            (
                f"the same, in {several['processes']} processes together",
                f"{several['moves_per_second']:,.0f}",
            ),
            ("CPU of one process, us/move", f"{rate['cpu_us_per_move']:.0f}"),
            ("bytes in the database, per finished job", f"{rate['bytes_per_job']:,.0f}"),
            ("store to return in another process, ms: median", f"{woken['median_ms']:.1f}"),
            ("the same: 99th percentile", f"{woken['p99_ms']:.1f}"),
        ],
    )


def _money(rows: list[dict[str, Any]]) -> list[Check]:
    def total(*names: str) -> int:
        return sum(len(row[name]) for row in rows for name in names)

    return [
        Check("jobs billed twice", total("billed_twice"), "<=", 0),
        Check("jobs with neither a result nor an uncertain call", total("neither"), "<=", 0),
        Check("jobs with both", total("both"), "<=", 0),
        Check("results without exactly one bill", total("not_billed"), "<=", 0),
        Check("bills of jobs that the ledger does not know", total("unknown_bills"), "<=", 0),
        Check("jobs whose deliveries disagree", sum(r["two_ends"] for r in rows), "<=", 0),
    ]


def _speed_checks(
    gathered: list[dict[str, Any]], rate: dict[str, Any], woken: dict[str, Any]
) -> list[Check]:
    slow = _middle(gathered, "PostgresLedger") / _middle(gathered, "SQLiteLedger")
    wrong = sum(
        abs(r["billed"] - r["jobs"]) + abs(r["billed_jobs"] - r["jobs"]) for r in gathered
    )
    return [
        Check("PostgreSQL / SQLite, seconds", slow, "<=", 1.5),
        Check("missing or extra bills of the comparison", wrong, "<=", 0),
        Check("moves/s from 256 callers", rate["moves_per_second"], ">=", 8_000),
        Check("store to return in another process, median ms", woken["median_ms"], "<=", 50),
        Check("status calls by which it could have known", woken["polls_after"], "<=", 0),
    ]


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    run(quick=parser.parse_args().quick).show()


if __name__ == "__main__":
    main()
