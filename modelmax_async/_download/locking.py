"""Locking a video's ``.part`` file, or finding the video already saved."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from modelmax_async._download.directory import (
    SavedVideo,
    find_replaced,
    find_video,
    part_progress,
)
from modelmax_async._download.part_file import PartFile, lock_part
from modelmax_async._download.transfer import TransientError
from modelmax_async._runtime.threads import finish_in_thread, in_thread

#: Seconds between attempts to lock a file that another writer holds: the first, the longest.
_INTERVALS = (0.05, 0.5)


@asynccontextmanager
async def locked_part(
    target: Path,
    place: Callable[[], AbstractAsyncContextManager[object]],
    *,
    overwrite: bool,
    give_up_after: float,
) -> AsyncIterator[PartFile | SavedVideo]:
    """Wait until the ``.part`` can be locked, or another writer has saved the video.

    ``place`` lends a place for an open file, which is not held while another writer is
    waited for.

    Raises:
        TransientError: another writer has made no progress for ``give_up_after`` seconds.
        OSError: the directory cannot be used.
    """
    loop = asyncio.get_running_loop()
    last, since, interval = None, loop.time(), _INTERVALS[0]
    while True:
        async with place():
            found = await _try_lock(target, overwrite=overwrite)
            if found is not None:
                yield found
                return
        progress = await in_thread(part_progress, target)
        if progress != last:
            last, since = progress, loop.time()
        elif loop.time() - since > give_up_after:
            idle = f"for {give_up_after:g} seconds"
            raise TransientError(f"another download of this video has made no progress {idle}")
        await asyncio.sleep(interval)
        interval = min(2 * interval, _INTERVALS[1])


async def _try_lock(target: Path, *, overwrite: bool) -> PartFile | SavedVideo | None:
    attempt = _LockAttempt(target, overwrite=overwrite)
    try:
        return await in_thread(attempt.run)
    except asyncio.CancelledError:
        await finish_in_thread(attempt.abandon)
        raise


class _LockAttempt:
    """One attempt, in a thread that continues when the task that started it is cancelled."""

    def __init__(self, target: Path, *, overwrite: bool) -> None:
        self._target = target
        self._overwrite = overwrite
        self._guard = threading.Lock()
        self._abandoned = False
        self._part: PartFile | None = None

    def run(self) -> PartFile | SavedVideo | None:
        """Return the saved video or the locked file; ``None`` if another writer holds it."""
        found = self._find()
        if isinstance(found, SavedVideo):
            return found
        part = lock_part(self._target)
        if part is None:
            return None
        with self._guard:
            self._part = part
            if self._abandoned:
                part.close()
        try:  # another writer may have saved the video just before it released the lock
            found = self._find()
        except BaseException:
            part.close()
            raise
        if isinstance(found, SavedVideo):
            part.close()
            return found
        part.replaces = found
        return part

    def _find(self) -> SavedVideo | Path | None:
        """Return the saved video, or the file that this download is to replace."""
        return find_replaced(self._target) if self._overwrite else find_video(self._target)

    def abandon(self) -> None:
        """Unlock the file, whether the thread has locked it already or does so later."""
        with self._guard:
            self._abandoned = True
            if self._part is not None:
                self._part.close()
