"""After the storm: everybody gets an answer, everything closes, nothing is left."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any

from modelmax_async import (
    InconsistentStateError,
    InvalidResponseError,
    JobFailedError,
    NotReadyError,
    Result,
    ResultUncertainError,
)
from modelmax_async.ledger import Key
from simulation.loop import State

if TYPE_CHECKING:
    from simulation.processes import Process
    from simulation.scenario import Scenario

#: Seconds that a wait may take once faults have stopped.
CALM = 1500.0
#: Seconds that closing may take beyond the client's timeout.
CLOSING = 30.0
#: Seconds after which no call that began in the storm is still out.
SETTLED = 200.0
#: Seconds after closing within which everybody who waited has heard of it.
HEARD = 100.0
ORIGIN = "http://127.0.0.1:80"


async def ended(process: Process, tasks: list[asyncio.Task[Any]], seconds: float) -> bool:
    """Whether tasks end in ``seconds``, their process's pauses not counted."""
    while True:
        pauses = process.pauses if process.state is not State.PAUSED else -1
        _, late = await asyncio.wait(tasks, timeout=seconds) if tasks else ((), ())
        if not late or not process.alive:
            return True
        if pauses == process.pauses and process.state is not State.PAUSED:
            return False


async def close(scenario: Scenario, process: Process) -> None:
    """Close a client, and see that closing and everybody who waits come to an end."""
    if process.closing or not process.alive:
        return
    process.closing = True
    assert process.client is not None
    world, judge, limit = scenario.world, scenario.judge, process.patience + CLOSING
    world.log(process, "CLOSES")
    for _ in range(3):
        closing = process.spawn(process.client.aclose(), f"{process.name} closing")
        if not await ended(process, [closing], limit):
            judge.accuse("closing hangs", process.name, f"for {limit} s")
            process.crash()
            return
        if not process.alive:
            return
        if not closing.cancelled():  # by an interrupt, perhaps before its first step
            break
        world.log(process, "CLOSES again")
    world.log(process, "CLOSED")
    if not closing.cancelled() and (error := closing.exception()) is not None:
        judge.accuse("closing fails", process.name, repr(error))
    await _users_end(scenario, process, HEARD)


async def _users_end(scenario: Scenario, process: Process, seconds: float) -> None:
    lives = [user.life for user in process.users if user.life is not None]
    if not await ended(process, lives, seconds):
        for life in (life for life in lives if not life.done()):
            scenario.judge.accuse("a user hangs", life.get_name(), f"for {seconds} s")
            life.cancel()
    for life in lives:
        if life.done() and not life.cancelled() and (error := life.exception()) is not None:
            scenario.judge.accuse(
                "a foreign error reaches a user", life.get_name(), repr(error)
            )


class Calm:
    """What must hold once faults have stopped."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._judge = scenario.judge
        self._jobs = list(scenario.emulator.jobs)

    @property
    def _left(self) -> list[Process]:
        return [p for p in self._scenario.processes if p.alive and not p.closing]

    async def run(self) -> None:
        """Let everybody finish, wait for every job, decide what is open, close."""
        for process in self._left:
            await _users_end(self._scenario, process, CALM)
        await asyncio.sleep(SETTLED)
        self._jobs = list(self._scenario.emulator.jobs)
        seen: dict[str, Any] = {}
        for process in self._left:
            seen |= await self._wait_for_all(process)
        self._judge.close({job: self._entry(job) for job in self._jobs})
        await self._decide(seen)
        for process in self._left:
            await close(self._scenario, process)
        await asyncio.sleep(HEARD)
        self._judge.end({job: self._entry(job) for job in self._jobs})
        for process in self._scenario.processes:
            if process.alive:
                self._check_leftovers(process)
        if not self._scenario.world.features:
            self._check_quiet()

    def _entry(self, job: str) -> Any:
        return self._scenario.store.peek(Key(ORIGIN, job))

    async def _within(self, process: Process, work: Awaitable[Any], what: str) -> Any:
        async def run() -> Any:
            return await work

        task = process.spawn(run(), what)
        if not await ended(process, [task], CALM):
            self._judge.accuse("a calm wait hangs", process.name, what)
            process.crash()
            return None
        try:
            return task.result()
        except Exception as exc:  # noqa: BLE001 - the judge looks at it
            return exc

    async def _wait_for_all(self, process: Process) -> dict[str, Any]:
        assert process.client is not None
        for job in self._jobs:
            self._judge.waiting(process, job)
        work = process.client.gather_results(self._jobs, timeout=None, return_exceptions=True)
        found = await self._within(process, work, "waits for every job")
        if not isinstance(found, list):
            if found is not None:
                self._judge.accuse("a calm wait fails", process.name, repr(found))
            return {}
        for job, ended_as in zip(self._jobs, found, strict=True):
            self._check_end(process, job, ended_as)
        return dict(zip(self._jobs, found, strict=True))

    def _check_end(self, process: Process, job: str, ended_as: object) -> None:
        name = self._judge.name(job)
        self._scenario.world.log(process, f"in the calm {name}: {type(ended_as).__name__}")
        if isinstance(ended_as, Result):
            self._judge.result(process, job, ended_as.raw)
        elif isinstance(ended_as, JobFailedError):
            if job not in self._judge.failed:
                self._judge.accuse("a good job is taken for failed", name, process.name)
        elif isinstance(ended_as, InconsistentStateError) and self._lags(job):
            pass  # another process held it for so long that the lag came late
        elif not isinstance(ended_as, ResultUncertainError | InvalidResponseError):
            self._judge.accuse("a calm wait fails", name, repr(ended_as))

    def _lags(self, job: str) -> bool:
        return self._scenario.emulator.jobs[job].script.lag_polls > 0

    async def _decide(self, seen: dict[str, Any]) -> None:
        """A decision in the calm brings a result."""
        for job, before in seen.items():
            left = self._left
            if not left or not isinstance(before, ResultUncertainError | InvalidResponseError):
                continue
            client = left[0].client
            assert client is not None
            for _ in range(3):  # the result endpoint may lag behind the status
                with self._judge.deciding(left[0], job):
                    work = client.result(job, accept_second_charge=True)
                    found = await self._within(left[0], work, "decides in the calm")
                if not isinstance(found, NotReadyError):
                    break
            # Of a job that FAILED, what an earlier call cost stays open: nobody can tell.
            open_ = isinstance(found, ResultUncertainError | InvalidResponseError)
            if not (open_ and job in self._judge.failed) and not isinstance(
                found, Result | JobFailedError | None
            ):
                self._judge.accuse("a calm decision fails", self._judge.name(job), repr(found))

    def _check_leftovers(self, process: Process) -> None:
        world, judge = self._scenario.world, self._judge
        client, name = process.client, process.name
        if process.held:
            return
        shown = repr(client)
        if not re.search(r"\b0 jobs", shown) or not re.search(r"\b0 due", shown):
            judge.accuse("a job is left in the poller", name, shown)
        if not re.search(r", 0 of \d+ in flight", shown):
            judge.accuse("a schedule slot is left", name, shown)
        if lanes := client._engine.http._slots.in_flight:  # type: ignore[union-attr]  # it was started
            judge.accuse("a slot is left", name, str(lanes))
        if count := self._scenario.network.open.get(process):
            judge.accuse("an exchange is left", name, str(count))
        for owner, task in world.loop.tasks:
            if owner is process and not task.done():
                judge.accuse("a task is left", name, task.get_name())
        if timers := world.loop.timers().count(process):
            judge.accuse("a timer is left", name, str(timers))

    def _check_quiet(self) -> None:
        """Without any fault: one bill and one result for each job."""
        for job, made in self._scenario.emulator.jobs.items():
            bills, entry = self._judge.bills[job], self._entry(job)
            good = made.script.outcome == "COMPLETED"
            state = "missing" if entry is None else entry.state
            if (bills, state) != ((1, "stored") if good else (0, "failed")):
                what = f"{bills} bills, and it is {state}"
                self._judge.accuse("a quiet run is not exact", self._judge.name(job), what)
