"""Threads for blocking work, with a limit of this package's own.

anyio's default limit of 40 threads is shared by the whole application. If all of these wait for
this client, as the synchronous endpoints of a web framework may, a client that needs one more
would wait for itself.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

import anyio.to_thread
from anyio.lowlevel import RunVar

from modelmax_async._runtime.tasks import uncancelled

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_MOST = 40
_limiter: RunVar[anyio.CapacityLimiter] = RunVar("modelmax_async._runtime.threads")


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
