"""Time that runs faster than real time, for real clients on real sockets.

On a `FastLoop`, every sleep, timer and timeout of a client keeps its own default value and
ends ``speed`` times sooner. Requests do not get faster with it: one millisecond of a request
counts as ``speed`` milliseconds.
"""

from __future__ import annotations

import asyncio
import functools
import selectors
import time
from collections.abc import Coroutine
from typing import Any

from modelmax_async._runtime import clock


class _FastSelector(selectors.DefaultSelector):
    """Waits for a ``speed``-th of the timeout."""

    def __init__(self, speed: float) -> None:
        super().__init__()
        self._speed = speed

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait for events; the timeout is in the seconds of the loop."""
        return super().select(None if timeout is None else timeout / self._speed)


class FastLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock runs ``speed`` times faster than real time."""

    def __init__(self, speed: float) -> None:
        super().__init__(_FastSelector(speed))
        self._speed = speed

    def time(self) -> float:
        """Return the loop's time in seconds, which is also what its timers use."""
        return time.monotonic() * self._speed


class FastClock:
    """The clock that a client reads besides the loop's, at the speed of the loop."""

    def __init__(self) -> None:
        self._speed = 1.0
        self._real = time.monotonic()
        self._shown = time.time()

    def __call__(self) -> float:
        """Return seconds since the epoch, too many once the clock has run fast."""
        return self._shown + (time.monotonic() - self._real) * self._speed

    def run_at(self, speed: float) -> None:
        """Go on from the time shown now, at another speed."""
        self._shown, self._real = self(), time.monotonic()
        self._speed = speed

    def install(self) -> None:
        """Make our client read this clock, in this process.

        A client takes the age of a job since its submit from ``clock.wall``, because it must
        hold across processes. On an event loop that runs fast, ages by real time would be
        ``speed`` times too small. Everything else that the contenders time by other clocks is
        real: leases, which must not end while a request is slow, and idle connections, which
        therefore stay open for longer than they would.
        """
        clock.wall = self


def run(speed: float, work: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine on a `FastLoop`."""
    with asyncio.Runner(loop_factory=functools.partial(FastLoop, speed)) as runner:
        runner.run(work)
