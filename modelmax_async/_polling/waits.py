"""The waits of callers, as hooks and the log are told of them."""

from __future__ import annotations

import itertools
import logging
from types import TracebackType

from modelmax_async._errors import ModelMaxError
from modelmax_async._models import Job
from modelmax_async._runtime import clock
from modelmax_async._runtime.hooks import Hooks
from modelmax_async.events import WaitEnded, WaitStarted

#: Of all clients of the process, so that they can share a hook.
_numbers = itertools.count(1)


class Wait:
    """One caller's wait for one job; as a context manager, it lasts as long as the block.

    It must begin in the caller's coroutine: a hook may look at its context variables. Without a
    hook or a log that wants to know of it, it is none.
    """

    __slots__ = ("_hooks", "_job", "_number", "_seconds")

    def __init__(self, hooks: Hooks, job: Job) -> None:
        self._hooks = hooks
        self._job = job
        self._number: int | None = None

    def begin(self) -> None:
        """Note the beginning."""
        if self._hooks.wants(logging.INFO):
            self._number = next(_numbers)
            self._seconds = clock.stopwatch()
            self._hooks.emit(WaitStarted(self._job, self._number))

    def end(self, error: BaseException | None = None, *, left: bool = False) -> None:
        """Note the end: with the result, with an error, or because the caller ``left``."""
        if self._number is None:
            return
        number, self._number = self._number, None
        name = "CancelledError" if left else None if error is None else type(error).__name__
        cause = str(error) if isinstance(error, ModelMaxError) else ""
        self._hooks.emit(WaitEnded(self._job, number, self._seconds(), name, cause))

    def __enter__(self) -> None:
        self.begin()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.end(error)
