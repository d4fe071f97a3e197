"""The two clocks beside the event loop's: one for records, one for leases.

Delays and deadlines go by the event loop's clock. Everything else that reads a clock reads it
here, so that a test can give each of several clients a clock of its own.
"""

from __future__ import annotations

import time

_BOOTTIME = getattr(time, "CLOCK_BOOTTIME", None)


def wall() -> float:
    """Return seconds since the epoch: for records and lists. It may jump, and be wrong."""
    return time.time()


def boottime() -> float:
    """Return seconds of a clock that only moves forward, through a suspend too where it can."""
    return time.monotonic() if _BOOTTIME is None else time.clock_gettime(_BOOTTIME)
