"""What all parts of one simulated world share: its time, its chance, its log."""

from __future__ import annotations

import contextvars
from collections import Counter
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

from simulation.loop import OWNER, Scheduled, SimulationLoop


class World:
    """Time, chance and log. Each part draws from a stream of its own, named after it."""

    def __init__(self, loop: SimulationLoop, seed: int) -> None:
        self.loop = loop
        self.seed = seed
        self.lines: list[str] = []
        self.injected: Counter[str] = Counter()
        self.features: frozenset[str] = frozenset()
        self.calm = False
        self._at_calm: dict[int, Callable[[], None]] = {}
        self._tickets = 0
        self._names: dict[str, str] = {}
        self._context = contextvars.copy_context()
        self._context.run(OWNER.set, None)

    def stream(self, name: str) -> Random:
        """Return chance that draws elsewhere do not move."""
        return Random(f"{self.seed}/{name}")

    def log(self, who: Scheduled | str | None, what: str) -> None:
        """Write one line: virtual time, process, what."""
        name = getattr(who, "name", who) or "world"
        self.lines.append(f"{self.loop.time():11.4f} {name:<8} {what}")

    def name_of(self, request_id: str) -> str:
        """Return the short name of a job, the same in every run of the seed."""
        return self._names.setdefault(request_id, f"job{len(self._names)}")

    def inject(self, fault: str) -> None:
        """Count a fault for the table."""
        self.injected[fault] += 1

    def later(self, seconds: float, callback: Callable[..., Any], *args: Any) -> None:
        """Have something happen to the world, whatever becomes of the process that asked."""
        self.loop.call_later(seconds, callback, *args, context=self._context)

    def spawn(self, coro: Coroutine[Any, Any, None]) -> None:
        """Have the world do something, whatever becomes of the process that asked."""
        task = self.loop.create_task(coro, context=self._context.copy())
        task.add_done_callback(lambda done: done.cancelled() or done.result())

    async def until_calm(self, seconds: float) -> None:
        """Wait for ``seconds``, or until faults have stopped."""
        over = self.loop.create_future()
        self.when_calm(seconds, lambda: over.set_result(None))
        await over

    def when_calm(self, seconds: float, callback: Callable[[], None]) -> None:
        """Call back after ``seconds``, or as soon as faults have stopped."""
        self._tickets += 1
        ticket = self._tickets
        self._at_calm[ticket] = callback
        self.later(0.0 if self.calm else seconds, self._fire, ticket)

    def calm_down(self) -> None:
        """Stop all faults; what hangs goes on, in the order in which it began to."""
        self.calm = True
        self.log(None, "faults stop")
        for ticket in list(self._at_calm):
            self._fire(ticket)

    def _fire(self, ticket: int) -> None:
        callback = self._at_calm.pop(ticket, None)
        if callback is not None:
            callback()
