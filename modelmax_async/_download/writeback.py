"""Writing a large file to the disk early, and dropping it from the page cache."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

#: Bytes between two requests.
_STRIDE = 8 * 1024 * 1024
#: Bytes at the end of a file that stay in the page cache: most videos are shorter. Those that
#: are on the disk at the first request are dropped all the same.
_KEPT = 32 * 1024 * 1024


def write_behind(number: int, before: int, size: int) -> None:
    """Ask the system to write out new bytes, and to drop those that are written.

    Otherwise a large file displaces the files of other programs from memory (and is charged to
    the container), each of its pages has to be found first, and the fsync at the end waits for
    all of them. ``before`` is the size of the growing file in bytes at the last call.

    Linux has one request for both: told that bytes are not needed, it drops those that are on
    the disk, and begins to write the others. Other systems have none.
    """
    begin = before - before % _STRIDE
    end = size - size % _STRIDE
    if sys.platform != "linux" or end == begin:
        return
    with suppress(OSError):  # a pipe, or a file system without a disk: nothing is lost
        os.posix_fadvise(number, begin, end - begin, os.POSIX_FADV_DONTNEED)
        if end > _KEPT:
            os.posix_fadvise(number, 0, end - _KEPT, os.POSIX_FADV_DONTNEED)
