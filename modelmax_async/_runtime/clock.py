"""The clocks: the event loop's as a stopwatch, one for records, one for leases.

Delays and deadlines use the event loop's clock. All other code reads a clock here, so that a
test can give each of several clients a clock of its own.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

_BOOTTIME = getattr(time, "CLOCK_BOOTTIME", None)


def wall() -> float:
    """Return seconds since the epoch: for records and lists. It may jump, and be wrong."""
    return time.time()


def boottime() -> float:
    """Return seconds of a clock that never goes back, and counts through a suspend."""
    return time.monotonic() if _BOOTTIME is None else time.clock_gettime(_BOOTTIME)


def stopwatch() -> Callable[[], float]:
    """Return what tells the seconds since now by the event loop's clock, also after its end."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    return lambda: loop.time() - began
