"""Progress: what all videos of a result have together, told to the user."""

from __future__ import annotations

from collections.abc import Callable

from modelmax_async._runtime.hooks import call_safely

OnProgress = Callable[[int, int | None], object]


class Progress:
    """Sums up what the videos of a result report, and tells the user."""

    def __init__(self, callback: OnProgress | None, count: int) -> None:
        self._callback = callback
        self._done = [0] * count
        self._expected: list[int | None] = [None] * count
        self._told: tuple[int, int | None] | None = None

    def report(self, place: int, done: int, expected: int | None) -> None:
        """Take what one video has now, in bytes."""
        self._done[place], self._expected[place] = done, expected
        known = [size for size in self._expected if size is not None]
        whole = sum(known) if len(known) == len(self._expected) else None
        now = (sum(self._done), whole)
        if self._callback is not None and now != self._told:
            self._told = now
            call_safely(lambda pair: self._callback(*pair), now)  # type: ignore[misc]  # it is not None
