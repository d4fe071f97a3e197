"""The room on a disk: a download must not fill it, whatever the server sends."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

#: Bytes of the disk that a download leaves free, but never more than a twentieth of it.
RESERVE = 64 * 1024 * 1024


def check_room(directory: Path, needed: int) -> None:
    """Refuse to write so many bytes if they would not fit beside the reserve.

    Raises:
        OSError: with the code of a full disk.
    """
    usage = shutil.disk_usage(directory)
    if usage.total == 0:
        return  # some network file systems do not tell their size
    reserve = min(RESERVE, usage.total // 20)
    if needed > 0 and needed > usage.free - reserve:
        room = f"{usage.free} are free, of which {reserve} are kept free"
        raise OSError(errno.ENOSPC, f"{needed} bytes are needed; {room}")
