"""What befalls processes: pauses, kills, deploys, cancellations, and clocks that are set."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import TYPE_CHECKING

from simulation.calm import close
from simulation.processes import Process

if TYPE_CHECKING:
    from simulation.scenario import Scenario

#: How often one run strikes at most.
MOST = 14


async def pause(scenario: Scenario, process: Process, chance: Random) -> None:
    """Stop a process for a while, as SIGSTOP, a suspend or a long collection does."""
    seconds = chance.choice([0.5, 3.0, 9.0, 11.0, 12.0, 15.0, 20.0, 40.0])
    scenario.world.log(process, f"PAUSED for {seconds} s")
    process.pause()
    await asyncio.sleep(seconds)
    if process.alive:
        scenario.world.log(process, "RESUMED")
    process.resume()


async def crash(scenario: Scenario, process: Process, chance: Random) -> None:
    """Kill a process between two instructions, and start it again later."""
    scenario.world.log(process, "CRASHED")
    process.crash()
    await asyncio.sleep(chance.choice([0.1, 5.0, 20.0]))
    if not scenario.world.calm:
        scenario.start(process)


async def deploy(scenario: Scenario, process: Process, chance: Random) -> None:
    """Close a client in the middle of its work, and start the next one."""
    await close(scenario, process)
    await asyncio.sleep(chance.choice([0.0, 2.0]))
    if not scenario.world.calm:
        scenario.start(process)


async def jump(scenario: Scenario, process: Process, chance: Random) -> None:
    """Set a process's wall clock, forward or backward."""
    seconds = chance.choice([-7200.0, -60.0, -11.0, -3.0, 3.0, 11.0, 60.0, 7200.0])
    scenario.world.log(process, f"CLOCK SET by {seconds} s")
    process.clocks.offset += seconds


async def cancel(scenario: Scenario, process: Process, chance: Random) -> None:
    """Cancel what one user of a process is doing."""
    doing = [user for user in process.users if not user.ended]
    if doing:
        user = chance.choice(doing)
        scenario.world.log(process, f"{user.name} CANCELLED")
        user.cancel()


def _cancel_all(scenario: Scenario, process: Process) -> None:
    for owner, task in scenario.world.loop.tasks:
        if owner is process and not task.done():
            task.cancel()


async def interrupt(scenario: Scenario, process: Process, chance: Random) -> None:
    """Cancel every task of a process, the client's own too, as a notebook's interrupt does."""
    scenario.world.log(process, "INTERRUPTED")
    _cancel_all(scenario, process)
    if chance.random() < 0.5:
        await deploy(scenario, process, chance)
    elif not process.closing:
        scenario.join(process)


BLOWS: dict[str, Callable[[Scenario, Process, Random], Awaitable[None]]] = {
    "pauses": pause,
    "crashes": crash,
    "deploys": deploy,
    "clock jumps": jump,
    "cancellations": cancel,
    "interrupts": interrupt,
}


class Storm:
    """Strikes processes until faults stop: at any time, and best when it hurts."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._chance = scenario.world.stream("storm")
        self._names = [name for name in BLOWS if name in scenario.world.features]
        self._blows: list[asyncio.Task[None]] = []
        self._over = not self._names
        scenario.judge.moment = self.moment
        scenario.world.loop.born = self.born

    def moment(self, process: Process) -> None:
        """Perhaps strike about now: a process claims, arms, sends, has an answer, stores it."""
        if self._over or len(self._blows) >= MOST or self._chance.random() > 0.2:
            return
        delay = self._chance.choice([0.0, 0.0, 0.003, 0.01, self._chance.uniform(0, 3)])
        self._scenario.world.later(delay, self._strike, process)

    def born(self, process: Process) -> None:
        """Perhaps interrupt a process when a task of its has not taken its first step yet."""
        if "interrupts" not in self._names or len(self._blows) >= MOST or self._over:
            return
        if process.alive and not process.closing and self._chance.random() < 0.01:
            _cancel_all(self._scenario, process)
            self._scenario.world.later(0.0, self._strike, process, "interrupts")

    async def blow(self, until: float) -> None:
        """Strike now and then, until the time is over; then see every blow to its end."""
        loop = self._scenario.world.loop
        while self._names and loop.time() < until:
            await asyncio.sleep(self._chance.expovariate(1 / 15))
            alive = [p for p in self._scenario.processes if p.alive]
            if alive and loop.time() < until and len(self._blows) < MOST:
                self._strike(self._chance.choice(alive))
        await asyncio.sleep(max(0.0, until - loop.time()))
        self._over = True
        self._scenario.world.calm_down()
        for process in self._scenario.processes:
            process.resume()
        if self._blows:
            await asyncio.wait(self._blows)

    def _strike(self, process: Process, name: str = "") -> None:
        name = name or self._chance.choice(self._names)
        busy_closing = process.closing and name != "pauses"
        if self._over or not process.alive or busy_closing:
            return
        self._scenario.world.inject(name)
        blow = BLOWS[name](self._scenario, process, self._chance)
        self._blows.append(asyncio.ensure_future(blow))
