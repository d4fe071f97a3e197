"""Tasks that the client owns: all I/O runs in them, so no caller's cancellation reaches it.

``anyio.CancelScope(shield=True)`` does not stop `asyncio.Task.cancel`; a task that nobody
outside holds a reference to does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from enum import IntEnum
from typing import Any, TypeVar

import anyio

from modelmax_async._errors import ClientStateError, fresh

T = TypeVar("T")
#: Seconds that a cancelled task gets to put its things away.
GRACE = 5.0


class Life(IntEnum):
    """How far a client is in its life."""

    #: It takes work.
    OPEN = 0
    #: It takes no new work; billed calls under way get a bounded time to end.
    CLOSING = 1
    #: Everybody who waited has been told.
    CLOSED = 2


class Tasks:
    """The tasks of one client, which is bound to one event loop, and the client's life."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._running: dict[asyncio.Task[Any], None] = {}
        self._closing = asyncio.Event()
        self.life = Life.OPEN

    def bind(self) -> asyncio.AbstractEventLoop:
        """Tie the client to the running loop at first use, and check it ever after.

        Raises:
            ClientStateError: when the client is closed, or belongs to another loop.
        """
        loop = asyncio.get_running_loop()
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
        """Start a task that runs to its end whatever becomes of its callers."""
        task = asyncio.get_running_loop().create_task(coro)
        self._running[task] = None
        task.add_done_callback(self._ended)
        return task

    async def run(self, coro: Coroutine[Any, Any, T]) -> T:
        """Run in a task of the client's own. Cancelling the caller leaves it running."""
        return await self.outcome(self.spawn(coro))

    async def outcome(self, task: asyncio.Task[T]) -> T:
        """Wait for a task of the client's own; every waiter gets an exception of its own.

        Raises:
            ClientStateError: when the task was cancelled because the client closed.
        """
        await asyncio.wait([task])
        if task.cancelled():
            raise ClientStateError("the client was closed while this call was under way")
        error = task.exception()
        if error is not None:
            raise fresh(error)
        return task.result()

    async def sleep(self, seconds: float) -> None:
        """Wait, unless the client closes meanwhile.

        Raises:
            ClientStateError: when it does.
        """
        try:
            async with asyncio.timeout(seconds):
                await self._closing.wait()
        except TimeoutError:
            return
        raise ClientStateError("the client was closed while this call was waiting")

    def close(self) -> None:
        """Take no new work from here on, and end every `sleep`."""
        self.life = Life.CLOSING
        self._closing.set()

    async def finish(self, tasks: set[asyncio.Task[Any]], seconds: float) -> None:
        """Give tasks a bounded time to end, then cancel them and see them end."""
        _, late = await asyncio.wait(tasks, timeout=seconds) if tasks else (None, set())
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=GRACE)

    def forget(self, task: asyncio.Task[Any]) -> None:
        """Wait for a task no more: all its time is used up."""
        self._running.pop(task, None)

    def others(self) -> set[asyncio.Task[Any]]:
        """Return the tasks that run now, less the one that asks."""
        return self._running.keys() - {asyncio.current_task()}

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.pop(task, None)
        if not task.cancelled():
            task.exception()  # seen: an error that nobody waits for any more is no news


async def uncancelled(task: asyncio.Task[T]) -> T:
    """Wait for a task to its end; only then is a cancellation of the waiter let through."""
    cancelled: asyncio.CancelledError | None = None
    # The scope keeps anyio from cancelling at every turn of the loop, in a scope that ended.
    with anyio.CancelScope(shield=True):
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError as exc:
                cancelled = exc
    if cancelled is not None:
        raise cancelled
    return task.result()
