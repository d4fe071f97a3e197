"""Threads for what blocks, of this package's own.

anyio's default bound of 40 is the whole application's. Where all of those wait for this client,
as the synchronous endpoints of a web framework may, a client that needs one more would wait
for itself.
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
    """Run in a thread. Cancelled, it leaves the thread to end by itself, if that has begun."""
    try:
        limiter = _limiter.get()
    except LookupError:
        limiter = anyio.CapacityLimiter(_MOST)
        _limiter.set(limiter)
    return await anyio.to_thread.run_sync(work, *arguments, limiter=limiter)


async def finish_in_thread(work: Callable[[*Ts], T], *arguments: *Ts) -> T:
    """Run in a thread to the end, however often the caller is cancelled before that.

    A loop that ends cancels the task in here too, perhaps before its thread has begun. The
    work must bear to be begun once more then, without anybody who waits for it.
    """
    task = asyncio.ensure_future(in_thread(work, *arguments))
    try:
        return await uncancelled(task)
    finally:
        if task.cancelled():
            threading.Thread(target=work, args=arguments, daemon=True).start()
