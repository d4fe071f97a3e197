"""Calling the hooks and callbacks of users, whose errors affect nothing else."""

from __future__ import annotations

import contextlib
import inspect
import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

from modelmax_async.events import Event, Hook, logging_hook

_log = logging.getLogger("modelmax_async")

T = TypeVar("T")


def call_safely(callback: Callable[[T], object], value: T) -> None:
    """Call a user's callback; an exception that it raises is logged and goes no further.

    It must not keep a paid result from the ledger, nor end the waiting for another job. So is a
    coroutine that it returns, which nothing would await.
    """
    try:
        returned = callback(value)
        if inspect.iscoroutine(returned):
            returned.close()
            raise TypeError("the callback returned a coroutine, which was not awaited")
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # noqa: BLE001 - a user's callback may raise anything
        with contextlib.suppress(Exception):  # not even for a broken log handler
            _log.exception("a callback failed on %s", type(value).__name__)


class Hooks:
    """Logs every record and calls every hook with it; an error in one affects no other."""

    def __init__(self, hooks: Sequence[Hook] = ()) -> None:
        self._hooks = tuple(hook for hook in hooks if hook is not logging_hook)

    def wants(self, level: int = logging.DEBUG) -> bool:
        """Whether a record that is logged at this level is worth making: a call is cheaper."""
        return bool(self._hooks) or _log.isEnabledFor(level)

    def emit(self, event: Event) -> None:
        """Log the record, and call every hook with it."""
        call_safely(logging_hook, event)
        for hook in self._hooks:
            call_safely(hook, event)
