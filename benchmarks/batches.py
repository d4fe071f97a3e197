"""Batches that are killed again and again, and started again as they stand.

`generate_many` over keyed requests, in one process and in two at once on one ledger file, and
the command line over a CSV file. Every process is killed with SIGKILL at random moments. In the
end each request must have its video on disk and exactly one bill, or be listed as uncertain.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sqlite3
import sys
import tempfile
from asyncio.subprocess import DEVNULL, PIPE, Process
from contextlib import closing
from pathlib import Path
from typing import Any

import attrs

from benchmarks._local import ROOT
from benchmarks._report import Check, Report, table
from modelmax_async import AsyncQueueClient, PollPolicy, SQLiteLedger, VideoRequest
from modelmax_async.emulator import Emulator, JobScript

_KEY = "sk-emulator"
#: Seconds from the start of a process to its kill: from before its first call on.
_LIVES = (0.3, 3.0)
_OPEN = "SELECT attempt FROM submissions WHERE attempt IS NOT NULL"
_UNCERTAIN = "SELECT submit_key FROM entries WHERE state IN ('uncertain', 'armed')"


async def generate(url: str, ledger: str, directory: str, count: int) -> dict[str, int]:
    """Run the whole batch, and count how the requests ended."""
    requests = (VideoRequest(f"prompt {n}", key=f"row-{n}") for n in range(count))
    ends: dict[str, int] = {}
    async with AsyncQueueClient(
        api_key=_KEY,
        base_url=url,
        model="veo-3",
        poll=PollPolicy(initial=0.1, maximum=0.5),
        ledger=SQLiteLedger(ledger),
    ) as client:
        async for outcome in client.generate_many(requests, max_jobs=32, directory=directory):
            name = "saved" if outcome.error is None else type(outcome.error).__name__
            ends[name] = ends.get(name, 0) + 1
    return ends


@attrs.frozen
class Batch:
    """A batch on its way: its files, and the command that runs it."""

    url: str
    home: Path
    count: int
    command: tuple[str, ...]

    @property
    def ledger(self) -> Path:
        """The ledger file."""
        return self.home / "runs.db"

    async def start(self) -> Process:
        """Start a process that runs the whole batch."""
        environ = {**os.environ, "MODELMAX_API_KEY": _KEY, "MODELMAX_API_BASE_URL": self.url}
        return await asyncio.create_subprocess_exec(
            sys.executable, *self.command, cwd=ROOT, env=environ, stdout=PIPE, stderr=DEVNULL
        )

    def ask(self, query: str) -> list[Any]:
        """Return the first column of a query to the ledger file."""
        if not self.ledger.exists():
            return []
        with closing(sqlite3.connect(self.ledger)) as db:
            try:
                return [row[0] for row in db.execute(query)]
            except sqlite3.OperationalError:  # killed before the tables were made
                return []


async def _killed(batch: Batch, processes: int, kills: int, chance: random.Random) -> int:
    """Kill the processes, and return how many submits were in flight at the kills."""
    in_flight: set[str] = set()
    for _ in range(kills):
        running = [await batch.start() for _ in range(processes)]
        for process in running:
            await asyncio.sleep(chance.uniform(*_LIVES) / processes)
            if process.returncode is None:
                process.kill()
            await process.communicate()
        in_flight.update(batch.ask(_OPEN))
    return len(in_flight)


async def survive(name: str, *, count: int, kills: int, processes: int, seed: int) -> Any:
    """Run one batch through its kills to its end."""
    chance = random.Random(seed)  # noqa: S311 - not a secret
    seconds = 0.4 if count < 100 else 1.0
    emulator = Emulator(api_key=_KEY, script=JobScript(run_seconds=seconds), record=False)
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory)
        async with emulator.serve() as url:
            batch = Batch(url, home, count, _command(name, url, home, count))
            in_flight = await _killed(batch, processes, kills, chance)
            last = [await batch.start() for _ in range(processes)]
            await asyncio.gather(*(process.communicate() for process in last))
        bills = emulator.billed.values()
        return {
            "batch": name,
            "processes": processes,
            "requests": count,
            "kills": kills * processes,
            "videos": len([path for path in (home / "out").iterdir() if path.suffix == ".mp4"]),
            "bills": sum(bills),
            "billed_twice": sum(bill > 1 for bill in bills),
            "uncertain": sorted(batch.ask(_UNCERTAIN)),
            "jobs": len(emulator.jobs),
            "in_flight": in_flight,
            "exit": [process.returncode for process in last],
        }


def _command(name: str, url: str, home: Path, count: int) -> tuple[str, ...]:
    out = str(home / "out")
    if name == "generate_many":
        return ("-m", "benchmarks.batches", url, str(home / "runs.db"), out, str(count))
    rows = home / "prompts.csv"
    rows.write_text("prompt\n" + "".join(f"prompt {n}\n" for n in range(count)))
    options = ("--model", "veo-3", "--ledger", str(home / "runs.db"), "--directory", out)
    return ("-m", "modelmax_async", "generate", str(rows), *options)


def run(*, quick: bool = False) -> Report:
    """Run the batches, and check what is on the disk and in the server's books."""
    size = {"count": 40, "kills": 3} if quick else {"count": 300, "kills": 20}
    plan = [("generate_many", 1), ("generate_many", 2), ("modelmax generate", 1)]
    rows = [
        asyncio.run(survive(name, processes=processes, seed=seed, **size))
        for seed, (name, processes) in enumerate(plan)
    ]
    keys = ("batch", "processes", "requests", "kills", "videos", "bills", "uncertain", "jobs")
    text = table(
        (*keys, "submits in flight"),
        [
            (
                *(str(len(r[k]) if k == "uncertain" else r[k]) for k in keys),
                str(r["in_flight"]),
            )
            for r in rows
        ],
    )
    for row in rows:
        if row["uncertain"]:
            text += f"\nuncertain in {row['batch']}: {', '.join(map(str, row['uncertain']))}"
    missing = [abs(r["requests"] - r["videos"] - len(r["uncertain"])) for r in rows]
    extra = [r["jobs"] - r["requests"] - r["in_flight"] for r in rows]
    more = [row["bills"] - row["requests"] for row in rows]
    checks = [
        Check("jobs billed twice", sum(row["billed_twice"] for row in rows), "<=", 0),
        Check("bills beyond one a request", max(more), "<=", 0),
        Check("requests with neither a video nor an uncertain job", sum(missing), "<=", 0),
        Check("jobs beyond the submits in flight at the kills", max(extra), "<=", 0),
    ]
    return Report("batches", rows, text, checks)


def main() -> None:
    """Run a batch in this process, or the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", nargs="?")
    parser.add_argument("ledger", nargs="?")
    parser.add_argument("directory", nargs="?")
    parser.add_argument("count", nargs="?", type=int)
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    if given.url is None:
        run(quick=given.quick).show()
    else:
        ends = generate(given.url, given.ledger, given.directory, given.count)
        print(json.dumps(asyncio.run(ends)))


if __name__ == "__main__":
    main()
