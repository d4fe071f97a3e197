"""Getting hold of a video's ``.part``, or finding the video there already."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from modelmax_async._download.directory import Found, existing, growth
from modelmax_async._download.part_file import PartFile, claim
from modelmax_async._download.transfer import BrokenError
from modelmax_async._runtime.threads import finish_in_thread, in_thread

#: Seconds between two looks at a video that another writer is busy with: first, and most.
_LOOK = (0.05, 0.5)


@asynccontextmanager
async def obtained(
    target: Path, places: asyncio.Semaphore, *, overwrite: bool, patience: float
) -> AsyncIterator[PartFile | Found]:
    """Lend the ``.part``, or tell which video is there, perhaps by then.

    Args:
        target: the video's file, if it is an MP4.
        places: bounds the open files. Who waits for another writer has none.
        overwrite: whether a complete one is fetched again.
        patience: seconds that another writer may go without a byte.

    Raises:
        BrokenError: another writer has it, and gets nowhere.
        OSError: the directory does not allow it.
    """
    loop = asyncio.get_running_loop()
    last, since, pause = None, loop.time(), _LOOK[0]
    while True:
        async with places:
            found = await _try(target, overwrite=overwrite)
            if found is not None:
                yield found
                return
        now = await in_thread(growth, target)
        if now != last:
            last, since = now, loop.time()
        elif loop.time() - since > patience:
            raise BrokenError(f"another download of it has not moved for {patience:g} seconds")
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LOOK[1])


async def _try(target: Path, *, overwrite: bool) -> PartFile | Found | None:
    attempt = _Attempt(target, overwrite=overwrite)
    try:
        return await in_thread(attempt.run)
    except asyncio.CancelledError:
        await finish_in_thread(attempt.abandon)
        raise


class _Attempt:
    """One attempt, in a thread that goes on when the task that started it is cancelled."""

    def __init__(self, target: Path, *, overwrite: bool) -> None:
        self._target = target
        self._overwrite = overwrite
        self._guard = threading.Lock()
        self._abandoned = False
        self._part: PartFile | None = None

    def run(self) -> PartFile | Found | None:
        """Return what is there, or what may be written; ``None``: somebody writes it."""
        found = existing(self._target)
        if found is not None and not self._overwrite:
            return found
        part = claim(self._target)
        if part is None:
            return None
        with self._guard:
            self._part = part
            if self._abandoned:
                part.leave()
        return self._look_again(part)

    def abandon(self) -> None:
        """Let go of whatever the thread gets, or has got."""
        with self._guard:
            self._abandoned = True
            if self._part is not None:
                self._part.leave()

    def _look_again(self, part: PartFile) -> PartFile | Found:
        """Another writer may have put the video there just before it let go."""
        try:
            found = existing(self._target)
        except BaseException:
            part.leave()
            raise
        if found is None:
            return part
        if self._overwrite:
            part.replaces = found.path
            return part
        part.leave()
        return found
