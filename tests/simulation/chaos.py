"""What befalls processes: pauses, kills, deploys, and clocks that somebody sets."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import TYPE_CHECKING

from simulation.calm import close
from simulation.processes import Process

if TYPE_CHECKING:
    from simulation.scenario import Scenario


async def pause(scenario: Scenario, process: Process, chance: Random) -> None:
    """Stop a process for a while, as SIGSTOP, a suspend or a long collection does."""
    seconds = chance.choice([0.5, 3.0, 9.0, 11.0, 15.0, 40.0])
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
    if not scenario.world.calm and process.alive:
        scenario.start(process)


async def jump(scenario: Scenario, process: Process, chance: Random) -> None:
    """Set a process's wall clock, forward or backward."""
    seconds = chance.choice([-7200.0, -60.0, -11.0, -3.0, 3.0, 11.0, 60.0, 7200.0])
    scenario.world.log(process, f"CLOCK SET by {seconds} s")
    process.clocks.offset += seconds
    await asyncio.sleep(0)


BLOWS: dict[str, Callable[[Scenario, Process, Random], Awaitable[None]]] = {
    "pauses": pause,
    "crashes": crash,
    "deploys": deploy,
    "clock jumps": jump,
}


async def storm(scenario: Scenario, until: float) -> None:
    """Strike processes until faults stop."""
    world = scenario.world
    chance = world.stream("storm")
    names = [name for name in BLOWS if name in world.features]
    blows: list[asyncio.Task[None]] = []
    while names and world.loop.time() < until:
        await asyncio.sleep(chance.expovariate(1 / 12))
        alive = [p for p in scenario.processes if p.alive and not p.closing]
        if not alive or world.loop.time() > until:
            continue
        name, process = chance.choice(names), chance.choice(alive)
        world.inject(name)
        blow = BLOWS[name](scenario, process, chance)
        blows.append(asyncio.ensure_future(blow))
    await asyncio.sleep(max(0.0, until - world.loop.time()))
    for process in scenario.processes:
        process.resume()
    scenario.blows = blows
