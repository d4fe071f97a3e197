"""An event loop in virtual time: its clock jumps to the next timer, so that hours take none."""

from __future__ import annotations

import asyncio
import selectors
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from typing import Any, TypeVar, TypeVarTuple

from modelmax_async._reprs import always_shown
from modelmax_async._runtime.threads import waits_for_thread

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_NO_SOCKETS = (
    "virtual time does not wait for sockets and processes: use modelmax.transport() or respx, "
    "or run this test in real time"
)


class VirtualSelector(selectors.BaseSelector):
    """Advances the clock of the loop where a real selector would sleep."""

    def __init__(self, at_work: Callable[[], bool] = lambda: False) -> None:
        self._real = selectors.DefaultSelector()
        self._at_work = at_work
        self.now = 0.0

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """Register a file, as any selector."""
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        """Unregister a file, as any selector."""
        return self._real.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """Change what is waited for, as any selector."""
        return self._real.modify(fileobj, events, data)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready; otherwise wait for a thread at work, or let the time pass."""
        ready = self._real.select(0)
        if ready:
            return ready
        if timeout is None:
            return self._real.select()  # only a thread or a signal can wake the loop now
        if timeout > 0 and self._at_work():
            ready = self._real.select(timeout)
        if not ready:
            self.now += max(0.0, timeout)
        return ready

    def close(self) -> None:
        """Close the real selector."""
        self._real.close()

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        """Return the registered files."""
        return self._real.get_map()


@always_shown
class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An asyncio event loop in virtual time: `time` starts at 0 and jumps to the next timer.

    Use it as a loop factory: ``asyncio.Runner(loop_factory=VirtualTimeLoop)``. The clock does
    not jump while the code waits for a thread of this package (such as that of a
    `SQLiteLedger`), of ``anyio.to_thread``, or of ``asyncio.to_thread`` and
    ``run_in_executor``: their work takes no virtual time, unless it really takes longer than
    the time to the next timer. The loop cannot see other threads. Sockets and processes raise a
    `RuntimeError`, because the clock would jump while they are at work. ``time.time`` and
    ``time.monotonic`` stay real.
    """

    def __init__(self) -> None:
        self._executing = 0
        self._virtual = VirtualSelector(self._threads_at_work)
        super().__init__(self._virtual)

    def time(self) -> float:
        """Return the virtual seconds since the loop was made."""
        return self._virtual.now

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """Run in a thread, as any loop; the clock does not jump meanwhile."""
        future = super().run_in_executor(executor, func, *args)
        self._executing += 1
        future.add_done_callback(self._executed)
        return future

    async def shutdown_default_executor(self, *timeout: Any) -> None:
        """Wait for the threads of the default executor, in real time."""
        self._executing += 1
        try:
            await super().shutdown_default_executor(*timeout)
        finally:
            self._executing -= 1

    async def create_connection(self, *_: Any, **__: Any) -> Any:
        """Raise a `RuntimeError`."""
        raise RuntimeError(_NO_SOCKETS)

    create_datagram_endpoint = create_connection
    create_server = create_connection
    create_unix_connection = create_connection
    create_unix_server = create_connection
    sock_connect = create_connection
    subprocess_exec = create_connection
    subprocess_shell = create_connection

    def _executed(self, _: asyncio.Future[Any]) -> None:
        self._executing -= 1

    def _threads_at_work(self) -> bool:
        return bool(
            self._executing
            or waits_for_thread(self)
            or any(_works_for(thread, self) for thread in threading.enumerate())
        )


def _works_for(thread: threading.Thread, loop: asyncio.AbstractEventLoop) -> bool:
    """Whether a thread is one of anyio's, of this loop, and not idle. Tests pin the names."""
    idle = getattr(thread, "idle_workers", None)
    return idle is not None and getattr(thread, "loop", None) is loop and thread not in idle
