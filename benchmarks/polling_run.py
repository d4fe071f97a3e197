"""One measurement of the polling benchmark, in a process of its own.

The jobs come as a stream, submitted at random moments so that some fifty are open at a time,
or as a batch of ids that exist on the server from one moment on. The server counts the polls of
each job. The lag is the time from the end of a job, which its id says, to the moment when the
contender has the result. Both processes read it from the same clock of the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import importlib
import json
import random
import statistics
import time
from contextlib import AbstractAsyncContextManager
from typing import Any

from benchmarks._local import finish
from benchmarks.distributions import DISTRIBUTIONS
from benchmarks.fast_loop import FastClock, run
from benchmarks.polling_clients import (
    POLL_COST,
    MakeWaiter,
    Waiter,
    adaptive,
    backoff,
    documented_loop,
)
from benchmarks.polling_jobs import Arrivals, Record, Run
from modelmax_async import MemoryLedger

#: Jobs of a stream that are open at a time, on average.
OPEN = 50
#: The search for a poll cost ends this close to the wanted polls, or after so many pilots.
_NEAR, _PILOTS = 0.02, 6
#: Speed of the runs that are not measured, against that of the measured run.
_HURRY = 2.0
_PEERS = {"fal-client": "fal", "runwayml": "runway", "openai": "open_ai"}


class Bench:
    """Runs contenders against the server at ``url``, with one ledger for all of them."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._ledger = MemoryLedger()
        self._clock = FastClock()
        self._clock.install()
        self._batches = 0
        #: How late the loop's timers were, in its seconds; of the last run.
        self.late: list[float] = []

    def measure(self, given: Run, *, learning: bool = False) -> list[Record]:
        """Run the contender, and return its jobs in the order of their submits."""
        distribution = DISTRIBUTIONS[given.distribution]
        if learning:  # what comes later is not known yet
            distribution = distribution.before
        durations = distribution.draw(given.jobs, given.seed)
        found: list[Record] = []

        async def work() -> None:
            async with self._waiter(given, self._ledger) as waiter:
                arrivals = Arrivals(self._url)
                watch = asyncio.create_task(self._watch(given.speed))
                if given.scenario == "stream":
                    await _stream(waiter, given, durations, arrivals)
                else:
                    await self._batch(waiter, given, durations, arrivals)
                watch.cancel()
                found.extend(arrivals.records(self._url, durations, given.speed))

        self._clock.run_at(given.speed)
        run(given.speed, work())
        return found

    async def _watch(self, speed: float) -> None:
        """Look twice in each real second how late a timer is."""
        self.late.clear()
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + speed / 2
            await asyncio.sleep(speed / 2)
            self.late.append(loop.time() - due)

    def prepare(self, given: Run) -> None:
        """Let the contender import and compile what it needs at its first job."""

        async def work() -> None:
            async with self._waiter(given, MemoryLedger()) as waiter:
                await waiter.gather(["0-first"], str)

        run(1.0, work())

    def learn(self, given: Run) -> None:
        """Let the ledger learn from other jobs of the same distribution."""
        speed = given.speed * _HURRY
        if given.scenario == "batch":  # much smaller than the one that is measured
            speed = DISTRIBUTIONS[given.distribution].speed * _HURRY
        seed = given.seed + 1_000
        others = dataclasses.replace(given, jobs=given.learnt, speed=speed, seed=seed)
        self.measure(others, learning=True)

    def search(self, given: Run, match: float) -> Run:
        """Return the run with a poll cost for which it makes about ``match`` polls per job.

        In the continuous limit the polls are inverse to the square root of the poll cost.
        """
        dial = given.dial or POLL_COST
        speed, seed = given.speed * _HURRY, given.seed + 2_000
        for pilot in range(_PILOTS):
            trial = dataclasses.replace(given, dial=dial, speed=speed, seed=seed + pilot)
            polls = statistics.fmean(record.polls for record in self.measure(trial))
            if abs(polls / match - 1) < _NEAR:
                break
            dial *= (polls / match) ** 2
        return dataclasses.replace(given, dial=dial)

    def _waiter(self, given: Run, ledger: MemoryLedger) -> AbstractAsyncContextManager[Waiter]:
        match given.contender:
            case "documented loop":
                return documented_loop(self._url, given.dial)
            case "plain backoff":
                return backoff(self._url, ledger, given.dial)
            case "ours":
                return adaptive(self._url, ledger, given.dial, given.maximum)
            case name:  # imported here, because the other SDKs take seconds to import
                peers = importlib.import_module("benchmarks.polling_peers")
                make: MakeWaiter = getattr(peers, _PEERS[name])
                return make(self._url)

    async def _batch(
        self, waiter: Waiter, given: Run, durations: list[float], arrivals: Arrivals
    ) -> None:
        self._batches += 1  # no id is used twice: the ledger would have its result
        for number, seconds in enumerate(durations):
            end = f"{seconds / given.speed * 1000:.0f}"
            arrivals.ids[number] = f"{end}-{self._batches}-{number}"
        await waiter.gather(list(arrivals.ids.values()), arrivals.note)


async def _stream(
    waiter: Waiter, given: Run, durations: list[float], arrivals: Arrivals
) -> None:
    draw = random.Random(given.seed)  # noqa: S311 - moments, not secrets
    rate = OPEN / DISTRIBUTIONS[given.distribution].mean

    async def one(number: int, seconds: float) -> None:
        request_id = await waiter.submit(f"{seconds / given.speed * 1000:.0f}")
        arrivals.ids[number] = request_id
        await waiter.wait(request_id)
        arrivals.note(request_id)

    async with asyncio.TaskGroup() as group:
        for number, seconds in enumerate(durations):
            await asyncio.sleep(draw.expovariate(rate))
            group.create_task(one(number, seconds))


def main() -> None:
    """Measure one run, and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("run", type=json.loads, help="the fields of a Run")
    arguments = parser.parse_args()
    given = Run(**arguments.run)
    bench = Bench(arguments.url)
    bench.prepare(given)
    if given.learnt:
        bench.learn(given)
    if given.match is not None:
        given = bench.search(given, given.match)
    real, cpu = time.monotonic(), time.process_time()
    records = bench.measure(given)
    found: dict[str, Any] = {
        "run": dataclasses.asdict(given),
        "real_seconds": time.monotonic() - real,
        "cpu_seconds": time.process_time() - cpu,
        "late": statistics.fmean(bench.late or [0.0]),
        "records": [dataclasses.astuple(record) for record in records],
    }
    finish(found)


if __name__ == "__main__":
    main()
