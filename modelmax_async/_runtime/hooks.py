"""Calling what users gave: hooks and callbacks, whose errors reach nobody else."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

from modelmax_async.events import ALARMS, Event, Hook, logging_hook

_log = logging.getLogger("modelmax_async")

T = TypeVar("T")


def call_safely(callback: Callable[[T], object], value: T) -> None:
    """Call a user's callback; what it raises is logged and goes no further.

    It must not come between a paid answer and its ledger, nor end another job's waiting.
    """
    try:
        callback(value)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # noqa: BLE001 - whatever it is, it is theirs
        with contextlib.suppress(Exception):  # a broken log handler is no reason either
            _log.exception("a callback failed on %s", type(value).__name__)


class Hooks:
    """Calls every hook with every record; an error in one reaches nobody else."""

    def __init__(self, hooks: Sequence[Hook] = ()) -> None:
        self._hooks = tuple(hooks)

    def emit(self, event: Event) -> None:
        """Hand the record to every hook. Alarms are logged even when there is none."""
        if isinstance(event, ALARMS) and logging_hook not in self._hooks:
            call_safely(logging_hook, event)
        for hook in self._hooks:
            call_safely(hook, event)
