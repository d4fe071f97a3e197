"""Tries at one thing that may fail or hang, each in a task of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Hashable
from functools import partial
from typing import Any, Generic, TypeVar

from modelmax_async._runtime.tasks import Tasks

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")

#: Tries for one key that may hang beside each other.
_MOST = 4


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
