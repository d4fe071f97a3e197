"""Tasks that the client owns: all I/O runs in them, so that no caller can cancel it.

``anyio.CancelScope(shield=True)`` does not stop `asyncio.Task.cancel`. A task that only the
client has a reference to cannot be cancelled from outside.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine, Hashable
from enum import IntEnum
from functools import partial
from typing import Any, Generic, TypeVar

import anyio

from modelmax_async._errors import ClientStateError, fresh

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)
#: Seconds that a cancelled task gets to clean up.
GRACE = 5.0
#: Tries for one key that may hang beside each other.
_MOST = 4


class Life(IntEnum):
    """The life cycle of a client."""

    OPEN = 0
    """It accepts calls."""
    CLOSING = 1
    """It accepts no new calls; billed calls under way get a bounded time to end."""
    CLOSED = 2
    """Every caller that waited has received an error or a result."""


class Tasks:
    """The tasks of one client, its event loop, and its life cycle."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._running: dict[asyncio.Task[Any], None] = {}
        self._closing = asyncio.Event()
        self.life = Life.OPEN

    def bind(self) -> asyncio.AbstractEventLoop:
        """Bind the client to the running loop at first use, and check the loop after that.

        Raises:
            ClientStateError: if the client is closed, belongs to another loop, or no asyncio
                loop is running.
        """
        loop = _running_loop()
        if self.life is not Life.OPEN:
            raise ClientStateError("this client is closed: make a new one")
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise ClientStateError(
                "this client belongs to another event loop: make one client for each loop "
                "(asyncio.run starts a new loop each time) and share the ledger instead"
            )
        return loop

    def spawn(self, coro: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start a task that runs to its end, even if its callers are cancelled."""
        task = asyncio.get_running_loop().create_task(coro)
        self._running[task] = None
        task.add_done_callback(self._ended)
        return task

    async def run(self, coro: Coroutine[Any, Any, T]) -> T:
        """Run in a task that the client owns. Cancelling the caller leaves it running."""
        return await self.outcome(self.spawn(coro))

    async def outcome(self, task: asyncio.Task[T]) -> T:
        """Wait for a task that the client owns; every waiter gets a copy of its exception.

        Raises:
            ClientStateError: if the task was cancelled because the client closed.
        """
        await asyncio.wait([task])
        if task.cancelled():
            raise ClientStateError("the client was closed while this call was under way")
        error = task.exception()
        if error is not None:
            raise fresh(error)
        return task.result()

    async def sleep(self, seconds: float) -> None:
        """Wait for some seconds.

        Raises:
            ClientStateError: if the client closes meanwhile.
        """
        try:
            async with asyncio.timeout(seconds):
                await self._closing.wait()
        except TimeoutError:
            return
        raise ClientStateError("the client was closed while this call was waiting")

    def close(self) -> None:
        """Accept no new calls from here on, and end every `sleep`."""
        self.life = Life.CLOSING
        self._closing.set()

    async def finish(self, tasks: set[asyncio.Task[Any]], seconds: float) -> None:
        """Give tasks a bounded time to end, then cancel them, and wait for that too."""
        _, late = await asyncio.wait(tasks, timeout=seconds) if tasks else (None, set())
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=GRACE)

    def forget(self, task: asyncio.Task[Any]) -> None:
        """Wait for a task no more: its time is up."""
        self._running.pop(task, None)

    def others(self) -> set[asyncio.Task[Any]]:
        """Return the tasks that are running, without the current one."""
        return self._running.keys() - {asyncio.current_task()}

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.pop(task, None)
        if not task.cancelled():
            task.exception()  # marked as seen: its callers may be gone


def _running_loop() -> asyncio.AbstractEventLoop:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise ClientStateError(
            "AsyncQueueClient needs a running asyncio event loop, and this code runs under "
            'trio: use asyncio.run(main()), or anyio.run(main, backend="asyncio")'
            if _in_trio()
            else "AsyncQueueClient needs a running asyncio event loop: call it in an async "
            "function that asyncio.run() runs"
        ) from None


def _in_trio() -> bool:
    """Look without an import: a program that runs trio has imported it."""
    trio = sys.modules.get("trio")
    try:
        return trio is not None and bool(trio.lowlevel.current_task())
    except RuntimeError:
        return False


class Tries(Generic[K, T]):
    """Tries for each of many keys. A further one runs beside those that hang.

    If there are too many for a key, the oldest is cancelled.
    """

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks
        self._running: dict[K, list[asyncio.Task[T]]] = {}

    def running(self, key: K) -> bool:
        """Whether a try for the key is under way."""
        return key in self._running

    def start(self, key: K, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start one more try."""
        tries = self._running.setdefault(key, [])
        if len(tries) >= _MOST:
            tries[0].cancel()
        task = self._tasks.spawn(work)
        tries.append(task)
        task.add_done_callback(partial(self._ended, key))
        return task

    def _ended(self, key: K, task: asyncio.Task[T]) -> None:
        tries = self._running[key]
        tries.remove(task)
        if not tries:
            del self._running[key]


async def uncancelled(task: asyncio.Task[T]) -> T:
    """Wait until a task has ended; only then let a cancellation of the waiter through."""
    cancelled: asyncio.CancelledError | None = None
    # In a cancelled scope, anyio would cancel again at every turn of the loop without a shield.
    with anyio.CancelScope(shield=True):
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError as exc:
                cancelled = exc
    if cancelled is not None:
        raise cancelled
    return task.result()
