"""A lock on an open file that ends with its process, however that ends."""

from __future__ import annotations

import sys

if sys.platform == "win32":  # pragma: no cover - no such machine runs these tests
    import msvcrt
    import os

    #: Whether an open file may be renamed, and so carry its mark in its name.
    RENAMES_OPEN = False
    _FAR = 1 << 62  # beyond any byte of a video: such a lock keeps others from reading

    def try_lock(number: int) -> bool:
        """Lock the file of a descriptor; ``False`` when somebody else has."""
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

    #: Whether an open file may be renamed, and so carry its mark in its name.
    RENAMES_OPEN = True

    def try_lock(number: int) -> bool:
        """Lock the file of a descriptor; ``False`` when somebody else has."""
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def unlock(number: int) -> None:
        """Let go, for the copies of the descriptor too that a fork has made."""
        fcntl.flock(number, fcntl.LOCK_UN)
