"""One event loop for a whole world of processes, in virtual time.

Every callback belongs to the process that its context names. Those of a paused process wait
until it is resumed, in the order in which they came due; those of a crashed one are dropped.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from enum import Enum
from typing import Any, TypeVar

from modelmax_async.testing._virtual_time import VirtualSelector, VirtualTimeLoop

T = TypeVar("T")


class State(Enum):
    """What becomes of a process's callbacks."""

    RUNNING = "running"
    PAUSED = "paused"  # held, as by SIGSTOP
    CRASHED = "crashed"  # dropped for ever, as by SIGKILL


class Scheduled:
    """Whoever owns callbacks: see `simulation.processes.Process`."""

    def __init__(self) -> None:
        self.state = State.RUNNING
        self.held: list[_Gate] = []
        # What a crash drops is kept until the run is over: freeing a coroutine would run its
        # ``finally`` blocks, which a process that was killed does not do.
        self.dropped: list[Any] = []


#: Whose code runs now; `None` is the world: the server, the network, remote stores.
OWNER: ContextVar[Scheduled | None] = ContextVar("simulated process", default=None)


class _Gate:
    """A callback that asks first whether its process still runs."""

    __slots__ = ("args", "callback", "context", "handle", "owner")
    handle: asyncio.Handle

    def __init__(
        self, owner: Scheduled, callback: Callable[..., Any], args: Any, context: Context | None
    ) -> None:
        self.owner = owner
        self.context = copy_context() if context is None else context
        self.callback = callback
        self.args = args

    def __call__(self) -> None:
        if self.handle.cancelled():
            return  # while it was held
        if self.owner.state is State.RUNNING:
            self.callback(*self.args)
        elif self.owner.state is State.PAUSED:
            self.owner.held.append(self)
        else:
            self.owner.dropped.append(self)


class _Task(asyncio.Task[T]):
    """A task whose hash is its number: sets of tasks have the same order in every run."""

    def __init__(self, number: int, coro: Any, **rest: Any) -> None:
        self.number = number
        super().__init__(coro, **rest)

    def __hash__(self) -> int:
        return self.number


class _Future(asyncio.Future[Any]):
    """A future whose hash is its number, as above."""

    def __init__(self, number: int, **rest: Any) -> None:
        self.number = number
        super().__init__(**rest)

    def __hash__(self) -> int:
        return self.number


class Deadlock(BaseException):
    """Nothing is left that could ever happen."""


class _NoFiles(VirtualSelector):
    """No file is ever waited for, so the system is not asked."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Deadlock
        self.now += max(0.0, timeout)
        return []


class SimulationLoop(VirtualTimeLoop):
    """The loop on which a simulated world runs."""

    def __init__(self) -> None:
        self._made = 0
        self.born: Callable[[Any], None] = lambda _: None
        self.tasks: list[tuple[Scheduled | None, asyncio.Task[Any]]] = []
        self._virtual = _NoFiles()
        super(VirtualTimeLoop, self).__init__(self._virtual)  # less its own selector

    def call_soon(  # type: ignore[override]  # the stub's variadic types are not repeated
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        owner = OWNER.get() if context is None else context.get(OWNER)
        if owner is None:
            return super().call_soon(callback, *args, context=context)
        gate = _Gate(owner, callback, args, context)
        gate.handle = super().call_soon(gate, context=gate.context)
        return gate.handle

    def call_soon_threadsafe(  # type: ignore[override]  # as above
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        return self.call_soon(callback, *args, context=context)  # there are no threads

    def call_at(  # type: ignore[override]  # as above
        self,
        when: float,
        callback: Callable[..., Any],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        owner = OWNER.get() if context is None else context.get(OWNER)
        if owner is None:
            return super().call_at(when, callback, *args, context=context)
        gate = _Gate(owner, callback, args, context)
        gate.handle = timer = super().call_at(when, gate, context=gate.context)
        return timer

    def create_task(  # type: ignore[override]  # as above
        self, coro: Coroutine[Any, Any, T], *, name: Any = None, context: Context | None = None
    ) -> asyncio.Task[T]:
        self._made += 1
        named = str(name or f"task {self._made}")
        task: _Task[T] = _Task(self._made, coro, loop=self, name=named, context=context)
        owner = OWNER.get() if context is None else context.get(OWNER)
        self.tasks.append((owner, task))  # referenced, so that none is freed before the end
        if owner is not None:
            self.born(owner)
        return task

    def create_future(self) -> asyncio.Future[Any]:
        self._made += 1
        return _Future(self._made, loop=self)

    def release(self, owner: Scheduled) -> None:
        """Let a resumed process catch up on what came due meanwhile."""
        held, owner.held = owner.held, []
        for gate in held:
            if not gate.handle.cancelled():
                super().call_soon(gate, context=gate.context)

    def timers(self) -> list[Scheduled | None]:
        """Return the owners of the timers that are still to fire."""
        heap: list[Any] = vars(self)["_scheduled"]  # asyncio's own
        live = [timer for timer in heap if not timer.cancelled()]
        return [timer._context.get(OWNER) for timer in live]
