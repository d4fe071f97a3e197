"""When each job is visited next: one heap of due times, a bounded number of visits at once.

A job that waits costs an entry of the heap, not a task. The server's wishes hold for all jobs:
a pause stops every visit, and while the server answers 429 the number of visits at once is
halved each time and grows back by one for each window of good responses.
"""

from __future__ import annotations

import asyncio
import enum
import heapq
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

import attrs

from modelmax_async._reprs import always_shown
from modelmax_async._runtime.tasks import Life, Tasks

#: Seconds over which visits that fell due during a pause are spread, at least and at most.
_SPREAD = (1.0, 10.0)
#: Entries of the heap that no longer count, below which it is not worth sweeping.
_FEW = 64


class Turn(enum.Enum):
    """Where an item stands with its schedule."""

    OFF = enum.auto()
    DUE = enum.auto()
    VISITED = enum.auto()
    VISITED_THEN_DUE = enum.auto()
    """A visit is under way, and the next one is due as soon as it ends."""


@attrs.define(eq=False, weakref_slot=False)
class Slot:
    """An item's place in its schedule; if a visit is due, when, and the ticket of its entry.

    ``asked`` is when the last visit asked for the next one.
    """

    turn: Turn = Turn.OFF
    ticket: int = 0
    due: float = 0.0
    asked: float = 0.0

    @property
    def visited(self) -> bool:
        """Whether a visit is under way."""
        return self.turn in {Turn.VISITED, Turn.VISITED_THEN_DUE}


class Scheduled(Protocol):
    """An item that can be visited. Only the schedule writes to its slot."""

    slot: Slot


S = TypeVar("S", bound=Scheduled)


@always_shown
class Schedule(Generic[S]):
    """Calls ``visit(item)`` when the item is due; it returns the seconds to the next visit.

    A visit that is cancelled, even before its first step, ends in ``lost(item)``.
    """

    def __init__(
        self,
        visit: Callable[[S], Coroutine[Any, Any, float | None]],
        lost: Callable[[S], None],
        tasks: Tasks,
        max_in_flight: int,
        random: Callable[[], float],
    ) -> None:
        self._visit = visit
        self._lost = lost
        self._tasks = tasks
        self._max_in_flight = max_in_flight
        self._window = float(max_in_flight)
        self._random = random
        self._heap: list[tuple[float, int, S]] = []
        self._tickets = 0
        self._timer: asyncio.Handle | None = None
        self._fires_at = 0.0
        self._in_flight = 0
        self._stale = 0
        self._paused_until = 0.0
        self._paused_for = 0.0
        self._spread = 0.0

    def __repr__(self) -> str:
        due = len(self._heap) - self._stale
        return f"<Schedule: {due} due, {self._in_flight} of {int(self._window)} in flight>"

    def put(self, item: S, delay: float) -> None:
        """Visit the item in ``delay`` seconds; an earlier arrangement no longer counts."""
        self._stale += item.slot.turn is Turn.DUE
        self._tickets += 1
        item.slot.turn, item.slot.ticket = Turn.DUE, self._tickets
        due = item.slot.due = asyncio.get_running_loop().time() + max(0.0, delay)
        heapq.heappush(self._heap, (due, self._tickets, item))
        self._sweep()  # a job may be put again and again before it is visited
        self._set_timer()

    def put_before(self, item: S, delay: float) -> None:
        """Visit the item in ``delay`` seconds, unless that is past or it is due before."""
        if 0 < delay < item.slot.due - asyncio.get_running_loop().time():
            self.put(item, delay)

    def put_now(self, item: S) -> None:
        """Visit the item now, or once more as soon as the visit under way ends."""
        if item.slot.visited:
            item.slot.turn = Turn.VISITED_THEN_DUE
        else:
            self.put(item, 0.0)

    def drop(self, item: S) -> None:
        """Do not visit the item any more."""
        if item.slot.turn is Turn.DUE:
            item.slot.turn = Turn.OFF
            self._stale += 1
        self._sweep()

    def _sweep(self) -> None:
        """Remove the entries that no longer count, once they are most of the heap."""
        if self._stale > _FEW and self._stale * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if _counts(entry)]
            heapq.heapify(self._heap)
            self._stale = 0

    def pause(self, seconds: float) -> None:
        """Start no visit for ``seconds``; visits that fall due meanwhile start spread out."""
        now = asyncio.get_running_loop().time()
        until = now + seconds
        if until > self._paused_until:
            self._paused_for += until - max(now, self._paused_until)
            self._paused_until = until
            self._spread = min(max(seconds, _SPREAD[0]), _SPREAD[1])
            self._set_timer()

    def awake(self) -> float:
        """Return the loop's time less all pauses, which do not count as time of failing."""
        now = asyncio.get_running_loop().time()
        return now - self._paused_for + max(0.0, self._paused_until - now)

    def slow_down(self) -> None:
        """Halve the number of visits at once."""
        self._window = max(1.0, self._window / 2)

    def speed_up(self) -> None:
        """Grow by one for each window of good responses, up to ``max_in_flight``."""
        self._window = min(float(self._max_in_flight), self._window + 1 / self._window)

    def stop(self) -> None:
        """Start no visit any more: the client is closing."""
        if self._timer is not None:
            self._timer.cancel()

    def _set_timer(self) -> None:
        stopped = self._tasks.life is not Life.OPEN
        if stopped or not self._heap or self._in_flight >= int(self._window):
            return
        due = max(self._heap[0][0], self._paused_until)
        if self._timer is not None:
            if self._fires_at <= due:
                return  # it fires in time, and sets the next one
            self._timer.cancel()
        self._fires_at = due  # uvloop's handle of a timer that is due has no when()
        self._timer = asyncio.get_running_loop().call_at(due, self._start_due)

    def _start_due(self) -> None:
        """Start the visits that are due, as far as the window allows."""
        self._timer = None
        now = asyncio.get_running_loop().time()
        if now < self._paused_until:
            self._set_timer()
            return
        if self._spread:
            self._restart(now)
        while self._heap and self._in_flight < int(self._window) and self._heap[0][0] <= now:
            entry = heapq.heappop(self._heap)
            if not _counts(entry):
                self._stale -= 1
                continue
            item = entry[2]
            self._in_flight += 1
            item.slot.turn = Turn.VISITED
            task = self._tasks.spawn(self._visit(item))
            task.add_done_callback(partial(self._returned, item))
        self._set_timer()

    def _restart(self, now: float) -> None:
        """Spread the visits that fell due in the pause: they must not start all at once."""
        spread, self._spread = self._spread, 0.0
        for number, entry in enumerate(self._heap):
            due, ticket, item = entry
            if due < now:
                due = now + self._random() * spread
                self._heap[number] = (due, ticket, item)
                if _counts(entry):
                    item.slot.due = due
        heapq.heapify(self._heap)

    def _returned(self, item: S, task: asyncio.Task[float | None]) -> None:
        self._in_flight -= 1
        again = item.slot.turn is Turn.VISITED_THEN_DUE
        item.slot.turn = Turn.OFF
        if task.cancelled() or task.exception() is not None:
            self._lost(item)
        elif (delay := task.result()) is not None and self._tasks.life is Life.OPEN:
            item.slot.asked = asyncio.get_running_loop().time() + delay
            self.put(item, 0.0 if again else delay)
        self._set_timer()


def _counts(entry: tuple[float, int, Scheduled]) -> bool:
    _, ticket, item = entry
    return item.slot.turn is Turn.DUE and item.slot.ticket == ticket
