"""When each job is visited next: one heap of due times, a bounded number of visits at once.

A job that waits costs an entry of the heap, not a task. The server's wishes hold for all:
a pause stops every visit, and while it answers 429 the number of visits at once is halved
each time and grows back by one for each window of good answers.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from modelmax_async._runtime.tasks import Tasks

#: Seconds over which visits that fell due during a pause are spread, at least and at most.
_SPREAD = (1.0, 10.0)


class Visited(Protocol):
    """What can be scheduled. ``ticket`` is the heap entry that counts; 0: none does."""

    ticket: int
    busy: bool


V = TypeVar("V", bound=Visited)


class Schedule(Generic[V]):
    """Calls ``visit(item)`` when the item is due; the answer is the seconds to the next.

    A visit that is cancelled, perhaps before its first step, ends in ``lost(item)``.
    """

    def __init__(
        self,
        visit: Callable[[V], Coroutine[Any, Any, float | None]],
        lost: Callable[[V], None],
        tasks: Tasks,
        width: int,
        random: Callable[[], float],
    ) -> None:
        self._visit = visit
        self._lost = lost
        self._tasks = tasks
        self._width = width
        self._window = float(width)
        self._random = random
        self._heap: list[tuple[float, int, V]] = []
        self._tickets = 0
        self._timer: asyncio.TimerHandle | None = None
        self._out = 0
        self._stale = 0
        self._paused_until = 0.0
        self._paused_for = 0.0
        self._spread = 0.0
        self._stopped = False

    def __repr__(self) -> str:
        size = len(self._heap) - self._stale
        return f"<Schedule: {size} due, {self._out} of {int(self._window)} visits out>"

    def put(self, item: V, delay: float) -> None:
        """Visit the item in ``delay`` seconds; an earlier arrangement no longer counts."""
        self._stale += item.ticket != 0
        self._tickets += 1
        item.ticket = self._tickets
        due = asyncio.get_running_loop().time() + max(0.0, delay)
        heapq.heappush(self._heap, (due, item.ticket, item))
        self._sweep()  # a job may be put again and again before its turn comes
        self._set_timer()

    def drop(self, item: V) -> None:
        """Do not visit the item any more; its entry goes when most entries are such."""
        if item.ticket:
            item.ticket = 0
            self._stale += 1
        self._sweep()

    def _sweep(self) -> None:
        if self._stale > 64 and self._stale * 2 > len(self._heap):  # noqa: PLR2004 - rarely enough to be free
            self._heap = [entry for entry in self._heap if entry[2].ticket == entry[1]]
            heapq.heapify(self._heap)
            self._stale = 0

    def pause(self, seconds: float) -> None:
        """Start no visit for ``seconds``; those that fall due meanwhile start spread out."""
        now = asyncio.get_running_loop().time()
        until = now + seconds
        if until > self._paused_until:
            self._paused_for += until - max(now, self._paused_until)
            self._paused_until = until
            self._spread = min(max(seconds, _SPREAD[0]), _SPREAD[1])
            self._set_timer()

    def awake(self) -> float:
        """Return the loop's time less all pauses: to pause as asked is not to fail."""
        now = asyncio.get_running_loop().time()
        return now - self._paused_for + max(0.0, self._paused_until - now)

    def slow_down(self) -> None:
        """Halve the number of visits at once."""
        self._window = max(1.0, self._window / 2)

    def speed_up(self) -> None:
        """Grow by one for each window of good answers, up to the full width."""
        self._window = min(float(self._width), self._window + 1 / self._window)

    def stop(self) -> None:
        """Start no visit any more."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()

    def _set_timer(self) -> None:
        if self._stopped or not self._heap or self._out >= int(self._window):
            return
        due = max(self._heap[0][0], self._paused_until)
        if self._timer is not None:
            if self._timer.when() <= due:
                return  # it comes in time, and sets the next one
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(due, self._pump)

    def _pump(self) -> None:
        """Start what is due, as far as the window allows."""
        self._timer = None
        now = asyncio.get_running_loop().time()
        if now < self._paused_until:
            self._set_timer()
            return
        if self._spread:
            self._restart(now)
        while self._heap and self._out < int(self._window) and self._heap[0][0] <= now:
            _, ticket, item = heapq.heappop(self._heap)
            if item.ticket != ticket:
                self._stale -= 1
                continue
            item.ticket = 0
            self._out += 1
            item.busy = True
            task = self._tasks.spawn(self._visit(item))
            task.add_done_callback(partial(self._returned, item))
        self._set_timer()

    def _restart(self, now: float) -> None:
        """Spread what fell due in the pause, so that the server is not met by all at once."""
        spread, self._spread = self._spread, 0.0
        self._heap = [
            (now + self._random() * spread if due < now else due, ticket, item)
            for due, ticket, item in self._heap
        ]
        heapq.heapify(self._heap)

    def _returned(self, item: V, task: asyncio.Task[float | None]) -> None:
        self._out -= 1
        item.busy = False
        if task.cancelled() or task.exception() is not None:
            self._lost(item)
        elif (delay := task.result()) is not None and not self._stopped:
            self.put(item, delay)
        self._set_timer()
