"""A lock on an open file, which ends with its process, even when that is killed."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

#: Whether an open file can be renamed, and so carry resume info in its name.
RENAMES_OPEN = sys.platform != "win32"

if sys.platform == "win32":  # pragma: no cover - no tests run on Windows
    import msvcrt

    _FAR = 1 << 62  # beyond any byte of a video: a locked byte cannot be read by others

    def try_lock(number: int) -> bool:
        """Lock the file of a descriptor; ``False`` when another process holds the lock."""
        os.lseek(number, _FAR, os.SEEK_SET)
        try:
            msvcrt.locking(number, msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        return True

    def unlock(number: int) -> None:
        """Do nothing: the lock ends when the file is closed."""

else:
    import fcntl

    def try_lock(number: int) -> bool:
        """Lock the file of a descriptor; ``False`` when another descriptor holds the lock."""
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def unlock(number: int) -> None:
        """Release the lock, also for copies of the descriptor in forked processes."""
        fcntl.flock(number, fcntl.LOCK_UN)


def unlock_and_close(number: int) -> None:
    """Close a descriptor; no copy in a forked process keeps the lock."""
    with suppress(OSError):
        unlock(number)
    with suppress(OSError):  # a complete file was synced before, and the descriptor is invalid
        os.close(number)
