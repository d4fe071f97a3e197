"""Having a large file on the disk soon, and not all of it in memory."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

#: Bytes between two requests.
_STRIDE = 8 * 1024 * 1024
#: Bytes at the end of the file that are not given up once written: most videos are shorter.
#: What the disk already has when it is first asked for leaves memory all the same.
_KEPT = 32 * 1024 * 1024

if sys.platform == "linux":

    def write_behind(number: int, before: int, size: int) -> None:
        """Ask the system to write out what is new, and to forget what was written out.

        Left alone, a large file fills the memory that other programs' files were in (and
        a container is charged for it), each page of it has to be found first, and the
        fsync at the end waits for all of them.

        Linux has one request for both: told that bytes are not needed, it drops those
        that the disk has, and begins to write the others.

        Args:
            number: descriptor of a file that grows.
            before: bytes of it when this was last called.
            size: bytes of it now.
        """
        begin = before - before % _STRIDE
        end = size - size % _STRIDE
        if end == begin:
            return
        with suppress(OSError):  # no file, or none of a disk: nothing is lost
            os.posix_fadvise(number, begin, end - begin, os.POSIX_FADV_DONTNEED)
            if end > _KEPT:
                os.posix_fadvise(number, 0, end - _KEPT, os.POSIX_FADV_DONTNEED)

else:  # pragma: no cover - no such machine runs these tests

    def write_behind(number: int, before: int, size: int) -> None:
        """Do nothing: the system has no such request."""
