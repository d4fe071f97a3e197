"""The progress of a result's videos, as one number for all of them."""

from __future__ import annotations

from collections.abc import Callable

from modelmax_async._runtime.hooks import call_safely

OnProgress = Callable[[int, int | None], object]


class Progress:
    """Adds up what the videos of a result report, and calls the user's callback."""

    def __init__(self, callback: OnProgress | None, count: int) -> None:
        self._callback = callback
        self._done = [0] * count
        self._expected: list[int | None] = [None] * count
        self._last: tuple[int, int | None] | None = None

    def report(self, place: int, done: int, expected: int | None) -> None:
        """Record how many bytes one video has, and how many it will have."""
        self._done[place], self._expected[place] = done, expected
        known = [size for size in self._expected if size is not None]
        whole = sum(known) if len(known) == len(self._expected) else None
        now = (sum(self._done), whole)
        if self._callback is not None and now != self._last:
            self._last = now
            call_safely(lambda pair: self._callback(*pair), now)  # type: ignore[misc]  # it is not None
