"""What is patched while a world runs, so that it is a function of its seed alone."""

from __future__ import annotations

import random
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from random import Random
from types import ModuleType
from typing import Any
from unittest.mock import patch

from modelmax_async._runtime import clock
from simulation.loop import OWNER, SimulationLoop
from simulation.postgres_handle import noting
from simulation.processes import CLOCKS, Process


def _world_clocks(loop: SimulationLoop) -> tuple[Callable[[], float], Callable[[], float]]:
    def wall() -> float:
        clocks = CLOCKS.get(None)  # outside of all processes, time is what it is
        return loop.time() if clocks is None else clocks.wall(loop.time())

    def boottime() -> float:
        clocks = CLOCKS.get(None)
        return loop.time() if clocks is None else clocks.boottime(loop.time())

    return wall, boottime


def _own_connection(*_: Any, **__: Any) -> Any:
    """Return the network in place of a connection that the client makes by itself."""
    process = OWNER.get()
    assert isinstance(process, Process)
    return process.transport()


def _openers() -> list[ModuleType]:
    """Return the modules that open a client's own connections: at least one must be here."""
    modules = [m for name, m in sys.modules.items() if name.startswith("modelmax_async.")]
    found = [module for module in modules if "open_transport" in vars(module)]
    assert found, "the package opens its connections elsewhere now: patch that"
    return found


@contextmanager
def deterministic(loop: SimulationLoop, chance: Random) -> Iterator[None]:
    """Give the package clocks, ids and chance of the simulation's, and no way out."""
    wall, boottime = _world_clocks(loop)

    def uuid4() -> uuid.UUID:
        return uuid.UUID(int=chance.getrandbits(128), version=4)

    with ExitStack() as stack:
        stack.enter_context(patch.object(clock, "wall", wall))
        stack.enter_context(patch.object(clock, "boottime", boottime))
        stack.enter_context(patch.object(uuid, "uuid4", uuid4))
        stack.enter_context(patch.object(random, "random", chance.random))
        stack.enter_context(noting())
        for module in _openers():
            stack.enter_context(patch.object(module, "open_transport", _own_connection))
        yield
