"""Every way in which Python programs stop waiting for something."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import anyio

Waiting = Callable[[], Awaitable[Any]]


async def by_task_cancel(wait: Waiting, seconds: float) -> None:
    task = asyncio.ensure_future(wait())
    await asyncio.wait([task], timeout=seconds)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def by_asyncio_timeout(wait: Waiting, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await wait()


async def by_wait_for(wait: Waiting, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(wait(), seconds)


async def by_failing_sibling(wait: Waiting, seconds: float) -> None:
    async def fail() -> None:
        await asyncio.sleep(seconds)
        raise KeyError("sibling")

    with contextlib.suppress(ExceptionGroup):
        async with asyncio.TaskGroup() as group:
            group.create_task(_awaited(wait))
            group.create_task(fail())


async def _awaited(wait: Waiting) -> None:
    await wait()


async def by_anyio_scope(wait: Waiting, seconds: float) -> None:
    with anyio.move_on_after(seconds):
        await wait()


MEANS = (by_task_cancel, by_asyncio_timeout, by_wait_for, by_failing_sibling, by_anyio_scope)
