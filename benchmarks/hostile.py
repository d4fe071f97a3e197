"""What a hostile server costs: the stalls of the event loop, and the growth of memory.

Each input of a hostile server (`benchmarks.hostile_server`) is given to a client in a process
of its own, where a heartbeat of 5 ms runs in the same event loop. The worst stall is the
largest gap between two beats, less the 5 ms and, on Linux, less the time in which the loop
could have run, but other processes had the processors. The growth is that of the peak of the
resident set. Some inputs are about a neighbour in the same process, whose own harmless call
must not wait for them. An input that is above a limit is given again, and the smaller
figures count, because other work on the machine can only add to them.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import tempfile
import threading
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NoReturn

from benchmarks._local import finish, in_child, serving
from benchmarks._report import Check, Report, table
from benchmarks._resident import forget_peak, peak, resident
from benchmarks.hostile_calls import client_of, warm_up
from benchmarks.hostile_inputs import INPUTS

_MIB = 1024 * 1024
_BEAT = 0.005
#: Milliseconds, MiB, and seconds that a neighbour may wait.
_STALL, _GROWTH, _NEIGHBOUR = 50.0, 64.0, 2.0
#: How often an input above a limit is given again, in this many seconds of the whole run.
_AGAIN, _PATIENCE = 2, 100.0


def server(lifetime: float = 400.0) -> AbstractContextManager[str]:
    """Run the hostile server, and give its base URL."""
    return serving("benchmarks.hostile_server", "--lifetime", str(lifetime))


class Heartbeat:
    """Beats every 5 ms in the running event loop, and keeps the worst stall in seconds."""

    def __init__(self) -> None:
        self._worst = 0.0
        self._loop = asyncio.get_running_loop()
        counts = Path(f"/proc/self/task/{threading.get_native_id()}/schedstat")
        self._counts = os.open(counts, os.O_RDONLY) if counts.exists() else None
        self._last, self._queued = time.perf_counter(), self._in_queue()
        self._loop.call_later(_BEAT, self._beat)

    def _in_queue(self) -> float:
        """Return the seconds that the loop's thread could have run, but other processes ran."""
        if self._counts is None:
            return 0.0
        return int(os.pread(self._counts, 100, 0).split()[1]) / 1e9

    def _beat(self) -> None:
        self.worst()
        self._last, self._queued = time.perf_counter(), self._in_queue()
        self._loop.call_later(_BEAT, self._beat)

    def worst(self) -> float:
        """Return the worst stall, one that still lasts included."""
        gap = time.perf_counter() - self._last - (self._in_queue() - self._queued)
        self._worst = max(self._worst, gap - _BEAT)
        return self._worst


async def measure(name: str, url: str) -> NoReturn:
    """Give one input to a client, print what it cost as JSON, and exit.

    A thread does the same if the input takes too long, or holds up the event loop.
    """
    given = INPUTS[name]
    client = client_of(url, given)
    await warm_up(client)
    gc.collect()
    gc.freeze()  # a full pass over all imported modules is not the input's doing
    forget_peak()
    before, begun = resident(), time.perf_counter()
    heart = Heartbeat()

    def report(outcome: str, waited: float | None = None, *, ended: bool = True) -> NoReturn:
        finish(
            {
                "name": name,
                "ended": ended,
                "outcome": outcome,
                "neighbour_seconds": waited,
                "stall_ms": heart.worst() * 1000,
                "growth_mib": max(0.0, (peak() - before) / _MIB),
                "seconds": time.perf_counter() - begun,
            }
        )

    late = threading.Timer(
        given.limit, report, [f"still running after {given.limit:g} s"], {"ended": False}
    )
    late.daemon = True
    late.start()
    await asyncio.sleep(0.05)
    outcome, waited = await given.run(client)
    await asyncio.sleep(0.05)
    report(outcome, waited)


def _measured(name: str, url: str) -> dict[str, Any]:
    """Measure in a new process, whose temporary files are its own."""
    with tempfile.TemporaryDirectory(prefix="hostile-") as directory:
        os.environ["TMPDIR"] = directory
        try:
            return in_child("benchmarks.hostile", name, url, timeout=120.0)
        finally:
            del os.environ["TMPDIR"]


def _excess(row: dict[str, Any]) -> list[str]:
    """Return which of the figures are above their limits."""
    waited = row["neighbour_seconds"]
    return [
        what
        for what, above in (
            ("stall", row["stall_ms"] > _STALL),
            ("growth", row["growth_mib"] > _GROWTH),
            ("time", not row["ended"]),
            ("neighbour", waited is not None and waited > _NEIGHBOUR),
        )
        if above
    ]


def _best(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Return the second of two measurements, with the smaller figures of both."""
    return second | {key: min(first[key], second[key]) for key in ("stall_ms", "growth_mib")}


def run(*, quick: bool = False) -> Report:
    """Give every input; a quick run gives none of them again."""
    begun, rows = time.monotonic(), []
    with server() as url:
        for name in INPUTS:
            row = _measured(name, url)
            for _ in range(0 if quick else _AGAIN):
                if not _excess(row) or time.monotonic() - begun > _PATIENCE:
                    break
                row = _best(row, _measured(name, url))
            rows.append(row)
    return Report("hostile", rows, _table(rows), _checks(rows))


def _table(rows: list[dict[str, Any]]) -> str:
    head = ("input", "outcome", "worst stall", "growth", "above the limit")
    lines = [
        (
            INPUTS[row["name"]].title,
            row["outcome"],
            f"{row['stall_ms']:,.0f} ms",
            f"{row['growth_mib']:,.0f} MiB",
            ", ".join(_excess(row)).upper(),
        )
        for row in rows
    ]
    limits = f"Limits: a stall of {_STALL:g} ms and a growth of {_GROWTH:g} MiB"
    return f"{table(head, lines)}\n\n{limits}, {_NEIGHBOUR:g} s for a neighbour's call."


def _checks(rows: list[dict[str, Any]]) -> list[Check]:
    waits = [row["neighbour_seconds"] for row in rows if row["neighbour_seconds"] is not None]
    return [
        Check("worst stall, ms", max(row["stall_ms"] for row in rows), "<=", _STALL),
        Check("largest growth, MiB", max(row["growth_mib"] for row in rows), "<=", _GROWTH),
        Check("longest wait of a neighbour, s", max(waits, default=0.0), "<=", _NEIGHBOUR),
        Check(
            "inputs above a limit, of " + str(len(rows)),
            sum(bool(_excess(row)) for row in rows),
            "<=",
            0,
        ),
    ]


def main() -> None:
    """Measure in this process and print JSON, or run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", nargs="?", choices=[*INPUTS])
    parser.add_argument("url", nargs="?", help="the server's; by default one is started")
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    if given.name is None:
        run(quick=given.quick).show()
    elif given.url is None:
        with server() as url:
            row = _measured(given.name, url)
        print(_table([row]))
    else:
        logging.getLogger("modelmax_async").setLevel(logging.CRITICAL)
        asyncio.run(measure(given.name, given.url))


if __name__ == "__main__":
    main()
