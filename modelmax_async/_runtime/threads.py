"""Threads for blocking work, with a limit of this package's own.

anyio's default limit of 40 threads is shared by the whole application. If all of these wait for
this client, as the synchronous endpoints of a web framework may, a client that needs one more
would wait for itself.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar, TypeVarTuple
from weakref import WeakKeyDictionary

import anyio.to_thread
from anyio.lowlevel import RunVar

from modelmax_async._runtime.tasks import uncancelled

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_MOST = 40
_limiter: RunVar[anyio.CapacityLimiter] = RunVar("modelmax_async._runtime.threads")
_waits: WeakKeyDictionary[asyncio.AbstractEventLoop, int] = WeakKeyDictionary()


async def in_thread(work: Callable[[*Ts], T], *arguments: *Ts) -> T:
    """Run work in a thread. If the caller is cancelled, a thread that has begun runs on."""
    try:
        limiter = _limiter.get()
    except LookupError:
        limiter = anyio.CapacityLimiter(_MOST)
        _limiter.set(limiter)
    return await anyio.to_thread.run_sync(work, *arguments, limiter=limiter)


async def finish_in_thread(work: Callable[[*Ts], T], *arguments: *Ts) -> T:
    """Run work in a thread to its end, however often the caller is cancelled.

    An event loop that ends cancels the task in here too, even before its thread has begun.
    The work is then started once more, and no caller waits for it.
    """
    task = asyncio.ensure_future(in_thread(work, *arguments))
    try:
        return await uncancelled(task)
    finally:
        if task.cancelled():
            threading.Thread(target=work, args=arguments, daemon=True).start()


async def result_of(promise: Future[T]) -> T:
    """Return what a thread of a module's own makes of its promise."""
    loop = asyncio.get_running_loop()
    _waits[loop] = _waits.get(loop, 0) + 1
    try:
        return await asyncio.wrap_future(promise)
    finally:
        _waits[loop] -= 1


def waits_for_thread(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether a call of `result_of` in this loop waits for a thread."""
    return _waits.get(loop, 0) > 0
